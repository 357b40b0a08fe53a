"""MiniPlaces (Zhou and Khosla, MIT 6.819, 2015): 128x128 photographs of 100 kinds of places, a part of Places2.

Read as its development kit has it: `train.txt` and `val.txt` (an image's path and its label a line), `categories.txt`
(a class and its label a line), and the JPEG files below `images/`, or beside the label files. The labels of its test
images were never published, so val is the test split, and validation images are held out of train. Its networks are
trained on random crops of 96x96 pixels and tested on the centre crop: the fact `crop`.

There is no download: no checksum of its archive is known from a source that could be trusted.
"""

from pathlib import Path

import numpy as np

from kerascnn.datasets import register
from kerascnn.datasets.downloads import cache_folder
from kerascnn.datasets.image_data import ImageData, Split
from kerascnn.datasets.image_files import ImageFiles
from kerascnn.errors import DataError
from kerascnn.files import read_text

LABEL_FILES = ("train.txt", "val.txt", "categories.txt")
ARCHIVE = "http://miniplaces.csail.mit.edu/data/data.tar.gz"
KIT = "https://github.com/CSAILVision/miniplaces"


def recognises(path):
    """ "miniplaces" for a folder with the kit's three label files, or with a folder data/ that has them."""
    return "miniplaces" if path.is_dir() and _label_folder(path) else None


@register(description="photographs of 100 places, by hand", image_shape=(128, 128, 3), num_classes=100)
def miniplaces(path=None):
    """MiniPlaces: 110,000 labelled photographs of a hundred kinds of places, 128x128 pixels."""
    root = Path(path) if path is not None else cache_folder("miniplaces")
    labels_at = _label_folder(root) if root.is_dir() else None
    if labels_at is None:
        raise DataError(
            f"The data set 'miniplaces' is not on this machine: unpack {ARCHIVE} into {root} and put "
            f"{', '.join(LABEL_FILES)} from {KIT} (folder data) beside its images folder, or give the path of the "
            "folder that holds them instead of 'miniplaces'."
        )
    class_names = _categories(labels_at / "categories.txt")
    listed = {split: _listed(labels_at / file) for split, file in (("train", "train.txt"), ("test", "val.txt"))}
    home = _image_folder(root, labels_at, listed["train"][0])
    prefix = home.relative_to(root).as_posix() if home != root else ""
    splits = {}
    for split, (names, labels) in listed.items():
        files = tuple(f"{prefix}/{name}" for name in names) if prefix else tuple(names)
        splits[split] = Split(ImageFiles(root, files), np.array(labels, np.int64), files)
    notes = ("The labels of MiniPlaces' own test images are not published, so its val images are the test split.",)
    return ImageData(name="miniplaces", source=str(root), class_names=class_names, notes=notes, **splits)


def _label_folder(root):
    """The folder at or just below `root` with the kit's label files, or None."""
    return next((f for f in (root, root / "data") if all((f / n).is_file() for n in LABEL_FILES)), None)


def _image_folder(root, labels_at, names):
    """The folder, at or below `root`, that the listed names are relative to."""
    homes = [root / "images", labels_at / "images", root, labels_at]
    for home in homes:
        if any((home / name).is_file() for name in names[:3]) or (home / names[0].split("/")[0]).is_dir():
            return home
    raise DataError(
        f"{root} has MiniPlaces' label files but not its images: {homes[0] / names[0]} should be the first of them. "
        f"Unpack {ARCHIVE} there."
    )


def _lines(file):
    """(words before the last, label) of each line that is not empty."""
    for number, line in enumerate(read_text(file).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or not words[1].isdecimal():
            raise DataError(f"{file}, line {number}: {line[:80]!r} should be a name, a space and a label such as 7.")
        yield words[0], int(words[1])


def _categories(file):
    """Class names in order of their labels: "/a/abbey 0" is class 0, abbey; deeper names keep their slashes."""
    by_label = {label: name.strip("/").split("/", 1)[-1] for name, label in _lines(file)}
    if sorted(by_label) != list(range(len(by_label))) or len(by_label) < 2:
        raise DataError(f"{file} must give the labels 0, 1, 2 and so on once each; it gives {sorted(by_label)[:8]}.")
    return tuple(by_label[label] for label in range(len(by_label)))


def _listed(file):
    """([image file, ...], [label, ...]) of train.txt or val.txt."""
    pairs = list(_lines(file))
    if not pairs:
        raise DataError(f"{file} lists no images.")
    return [name.lstrip("/") for name, _ in pairs], [label for _, label in pairs]
