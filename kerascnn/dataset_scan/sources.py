"""Where a scan's images come from: arrays, ImageData, a tf.data.Dataset or a keras.utils.PyDataset, as one stream.

Every source gives (images, labels) in the data's own order, in blocks of a given size, however the data is batched.
Sources with random access are distinguished from streams.
"""

import hashlib

import keras
import numpy as np

from kerascnn.datasets.image_data import ImageData, Split
from kerascnn.errors import UsageError, unknown

ACCEPTED = (
    "an array (N, H, W, C), an ImageData or a Split, a tf.data.Dataset or a keras.utils.PyDataset of (images, labels)"
)


ENDLESS = -1  # what tf.data calls the number of batches of a dataset that repeats for ever


class Arrays:
    """Images that any index can ask for: an array, or ImageFiles.

    Args:
        images: (N, H, W, C).
        labels: int (N,), or None.
    """

    again = True  # any image can be read again

    def __init__(self, images, labels=None):
        self.images = images
        self.labels = np.full(len(images), -1) if labels is None else np.asarray(labels)
        if self.labels.shape != (len(images),):
            raise UsageError(
                f"labels has shape {self.labels.shape}; one label for each of {len(images)} images is allowed."
            )
        if self.labels.dtype.kind not in "iu":
            raise UsageError(
                f"labels has dtype {self.labels.dtype}; whole numbers are allowed. Type labels.astype(int)"
            )

    def __len__(self):
        return len(self.images)

    def blocks(self, size, start=0, stop=None):
        """(images, labels) in blocks of `size`, from image number `start` on, up to `stop`."""
        stop = len(self.images) if stop is None else stop
        for first in range(start, stop, size):
            part = slice(first, min(first + size, stop))
            yield self.images[part], self.labels[part]

    def take(self, index):
        """The images at `index`."""
        return self.images[np.asarray(index)]

    def fingerprint(self, preprocessing):
        """A checksum of all labels and of up to 64 images, as the network gets them."""
        some = np.unique(np.linspace(0, len(self) - 1, min(64, len(self))).astype(int))
        return _checksum(self.labels, self.take(some), preprocessing)


class Stream:
    """Batches that pass by, or single images: any iterable of (images, labels) or images.

    Args:
        batches: function that returns a new iterator.
        rank: axes of a batch of images; what has one less is a single image.
    """

    again = False

    def __init__(self, batches, rank=4):
        self.batches, self.rank = batches, rank

    def __len__(self):
        return 0  # not known

    def fingerprint(self, preprocessing):
        """A checksum of the first batch's labels and images, as the network gets them."""
        for batch in self.batches():
            images, labels = _parted(batch, self.rank)
            if len(images):
                return _checksum(labels, images, preprocessing)
        raise UsageError("The data holds no images.")

    def blocks(self, size, start=0, stop=None):
        """(images, labels) in blocks of `size`, however they arrive; images before number `start` are read past.

        The stream goes to its end: `stop` is None.
        """
        images, labels, held, seen = [], [], 0, 0
        for batch in self.batches():
            x, y = _parted(batch, self.rank)
            seen += len(x)
            if seen <= start:
                continue
            if seen - len(x) < start:
                x, y = x[start - seen :], y[start - seen :]
            images.append(x)
            labels.append(y)
            held += len(x)
            while held >= size:
                x, y = np.concatenate(images), np.concatenate(labels)
                yield x[:size], y[:size]
                images, labels, held = [x[size:]], [y[size:]], held - size
        if held:
            yield np.concatenate(images), np.concatenate(labels)


def open_source(data, labels=None, split="train", rank=4):
    """(source, class names or None) of what a user calls data.

    Args:
        rank: axes of a batch of images, as the network takes them.
    Raises:
        UsageError: none of the kinds that are read, an unknown split, or no images.
    """
    names = None
    if isinstance(data, ImageData):
        if split not in data.splits:
            raise unknown(f"split of {data.name}", split, data.splits)
        names, data = data.class_names, data.splits[split]
    if labels is not None and not _is_array(data):
        raise UsageError("labels= goes with an array of images; this data brings its own.")
    if isinstance(data, Split):
        source = Arrays(data.images, data.labels)
    elif _is_array(data):
        source = Arrays(data if hasattr(data, "decode") else np.asarray(data), labels)
    elif isinstance(data, keras.utils.PyDataset):
        if data.num_batches is None:
            raise UsageError("This PyDataset never ends (its num_batches is None); a scan needs one that does.")
        source = Stream(lambda: (data[number] for number in range(data.num_batches)), rank)
    elif hasattr(data, "as_numpy_iterator"):
        if int(data.cardinality()) == ENDLESS:
            raise UsageError("This tf.data.Dataset never ends; a scan needs one that does: leave out .repeat().")
        source = Stream(data.as_numpy_iterator, rank)
    else:
        raise UsageError(f"Data of type {type(data).__name__} cannot be scanned. Allowed: {ACCEPTED}.")
    if source.again and not len(source):
        raise UsageError(f"The data holds no images. Allowed: {ACCEPTED}.")
    return source, names


def _checksum(labels, images, preprocessing):
    """A checksum of the data, so that a killed scan does not continue with other data."""
    digest = hashlib.sha256(np.ascontiguousarray(labels).tobytes())
    digest.update(np.ascontiguousarray(images if preprocessing is None else preprocessing(images)).tobytes())
    return digest.hexdigest()


def _is_array(data):
    return hasattr(data, "shape") and hasattr(data, "dtype") and hasattr(data, "__getitem__")


def _parted(batch, rank):
    """(images, labels) of what a dataset yields: a pair, a triple with weights, or images alone; labels -1 if none.

    A single image, as of a dataset that is not batched, is a batch of one.
    """
    x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    if isinstance(x, (dict, list, tuple)):
        if len(x) != 1:
            raise UsageError(f"The data yields {len(x)} inputs a batch; scans take networks with one image input.")
        x = next(iter(x.values() if isinstance(x, dict) else x))
    x = keras.ops.convert_to_numpy(x)
    y = None if y is None else keras.ops.convert_to_numpy(y)
    if x.ndim == rank - 1:
        x, y = x[None], None if y is None else y[None]
    if y is None:
        return x, np.full(len(x), -1)
    if y.shape[:1] != x.shape[:1] or y.ndim > 2:
        raise UsageError(f"The data yields images {x.shape} with labels {y.shape}: give one label for each image.")
    if y.ndim == 2:
        y = y.argmax(1) if y.shape[1] > 1 else y[:, 0]
    return x, y.astype("int64")
