"""What a microscope looks at: a network, images that can be read again, and their names."""

import dataclasses
from pathlib import Path

import keras
import numpy as np

from kerascnn import using
from kerascnn.dataset_scan.sources import Arrays, open_source
from kerascnn.datasets.image_data import ImageData, Split
from kerascnn.errors import UsageError, whole
from kerascnn.using.classifier import subject as classifier_of


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A network with its images.

    Attributes:
        model: keras.Model.
        images, labels: what `kerascnn.dataset_scan` takes: images that any index reads, and int (N,), -1 without label.
        files: N names, or () if images have none.
        class_names: names of the labels; () if there are none.
        answer_names: names of the network's outputs; () if they are not known.
        preprocessing: as for `scan`, or None.
        data_name: name of the data.
        split: which part of it.
        watch: folder of what callbacks kept during training, or None.
    """

    model: keras.Model
    images: object
    labels: np.ndarray
    files: tuple
    class_names: tuple
    answer_names: tuple
    preprocessing: object
    data_name: str
    split: str
    watch: object = None

    def __len__(self):
        return len(self.labels)

    def file(self, number):
        """The name of an image."""
        return self.files[number] if self.files else f"image {number}"

    def label(self, number):
        """The class of an image, "" if it is not known."""
        label = int(self.labels[number])
        return self.class_names[label] if self.class_names and label >= 0 else ""

    def pixels(self, index):
        """(len(index), H, W, C): images as the patches are cut from, in the data's own numbers."""
        crop = getattr(self.preprocessing, "crop", lambda images: images)
        return crop(self.images[np.asarray(index)])

    def prepared(self, index):
        """float32 (len(index), H, W, C): images as the network takes them."""
        images = self.images[np.asarray(index)]
        return np.asarray(images if self.preprocessing is None else self.preprocessing(images), "float32")


def opened(model, data, *, labels=None, split=None, class_names=None, preprocessing=None, images=None, watch=None):
    """The Subject for a user's arguments; see `kerascnn.microscope`.

    Raises:
        UsageError: the data can be read only once, or the images are not allowed.
    """
    answers = ()
    if not isinstance(model, keras.Model):
        classifier = classifier_of(model)
        model, answers = classifier.model, tuple(classifier.labels)
        preprocessing = classifier.preprocessing if preprocessing is None else preprocessing
        watch = classifier.run / "watch" if watch is None and classifier.run is not None else watch
        if data is None or isinstance(data, (str, Path)):
            data = using.data_of(classifier, data)
    name = getattr(data, "name", "") if isinstance(data, ImageData) else ""
    if isinstance(data, ImageData):
        split = split or next(each for each in ("test", "train", "validation") if each in data.splits)
    source, names = open_source(data, labels, split or "train")
    if not isinstance(source, Arrays):
        raise UsageError(
            "A microscope reads images more than once. Give an array of images with labels=, a Split or an ImageData."
        )
    chosen = data.splits[split] if isinstance(data, ImageData) else data
    files = tuple(chosen.files) if isinstance(chosen, Split) else ()
    pixels, numbers = source.images, np.asarray(source.labels)
    if images is not None and whole("images", images) < len(pixels):
        index = np.unique(np.linspace(0, len(pixels) - 1, images).round().astype(int))
        pixels = pixels.take(index) if hasattr(pixels, "decode") else pixels[index]
        numbers, files = numbers[index], tuple(files[i] for i in index) if files else ()
    if class_names is None:
        numbered = labels is not None and not names
        class_names = map(str, range(int(numbers.max()) + 1)) if numbered else names or ()
    class_names = tuple(map(str, class_names))
    answers = answers or class_names
    return Subject(model, pixels, numbers, files, class_names, answers, preprocessing, name, split or "", watch)
