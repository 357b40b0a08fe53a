"""The images of `explain` and `activations`: read a few at a time; and the files that are written about each."""

import itertools
import os
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from kerascnn import runs
from kerascnn.errors import DataError
from kerascnn.files import read_arrays

AT_A_TIME = 8  # images in memory
LONGEST = 900  # pixels of the longer side of a photograph that is drawn


@dataclass
class Photograph:
    """One image of a user's.

    Attributes:
        path: its file.
        name: what the files about it begin with.
        pixels: uint8 (H, W, C) at the run's size, before the network's crop.
        drawn: uint8 (H, W, C), the photograph itself, made smaller where it is larger than LONGEST.
        frame: (top, left, height, width) of what the network sees of it, pixels of `drawn`.
    """

    path: Path
    name: str
    pixels: object
    drawn: object
    frame: tuple

    def seen(self):
        """The part of the photograph that the network sees."""
        top, left, height, width = (round(side) for side in self.frame)
        return self.drawn[top : top + max(1, height), left : left + max(1, width)]

    def true_class(self, labels):
        """The class after which its folder is called, or None."""
        folder = unicodedata.normalize("NFC", self.path.absolute().parent.name)
        return next((label for label in labels if unicodedata.normalize("NFC", label) == folder), None)


def photographs(images, prepared):
    """Lists of Photographs of image files, folders and patterns, a few at a time.

    Args:
        images: what was typed.
        prepared: the run's Preprocessing.
    Raises:
        DataError: at the end, if files could not be read.
    """
    from kerascnn import using

    paths, broken = using.image_paths(images), []
    named = list(zip(paths, _names(paths), strict=True))
    for first in range(0, len(named), AT_A_TIME):
        few = []
        for path, name in named[first : first + AT_A_TIME]:
            try:
                few.append(_photograph(path, name, prepared))
            except DataError as error:
                broken.append(error)
        if few:
            yield few
    if len(broken) == 1:
        raise broken[0]
    if broken:
        listed = " ".join(map(str, broken[:5]))
        raise DataError(f"{len(broken)} of the files could not be read. {listed}")


def stacked(few):
    """Photographs as one array of pixels, uint8 (N, H, W, C)."""
    import numpy as np

    return np.stack([photograph.pixels for photograph in few])


def _photograph(path, name, prepared):
    from kerascnn.datasets.decoding import opened
    from kerascnn.datasets.resize import crop_box

    with opened(path, prepared.channels) as picture:
        height, width = picture.size
        factor = min(1.0, LONGEST / max(height, width))
        size = max(1, round(height * factor)), max(1, round(width * factor))
        pixels, drawn = picture.pixels(prepared.resize_to), picture.pixels(size)
    top, left, rows, columns = crop_box(*size, *prepared.resize_to)
    sides = []
    for start, length, side, seen in zip(
        (top, left), (rows, columns), prepared.resize_to, prepared.image_size, strict=True
    ):
        sides.append((start + length * ((side - seen) // 2) / side, length * seen / side))
    (top, height), (left, width) = sides
    return Photograph(path, name, pixels, drawn, (top, left, height, width))


def _names(paths):
    """What the files of each image begin with: its stem, and where several have one stem, its path below the folder
    that all share, such as cat-0001.png."""
    paths = [path.absolute() for path in paths]
    often = Counter(path.stem for path in paths)
    if len(often) == len(paths):
        return list(often)
    shared = Path(os.path.commonpath([path.parent for path in paths]))
    return [path.stem if often[path.stem] == 1 else "-".join(path.relative_to(shared).parts) for path in paths]


def free(stem, image, ending=""):
    """The stem, or stem-2, stem-3 ...: the first whose numbers, if there are any, are of this image; so the files of
    another image of the same name stay."""
    import numpy as np

    for number in itertools.count(1):
        candidate = stem.with_name(f"{stem.name}-{number}") if number > 1 else stem
        numbers = candidate.with_name(f"{candidate.name}{ending}.npz")
        if not numbers.exists() or np.array_equal(read_arrays(numbers).get("image"), image):
            return candidate


def save(figures, stem, numbers):
    """Write figures as PNG (stem.png, stem-2.png ...) and their arrays as NPZ."""
    import numpy as np

    from kerascnn import plots

    for number, figure in enumerate(figures, 1):
        ending = "" if number == 1 else f"-{number}"
        plots.write(figure, stem.with_name(f"{stem.name}{ending}.png"))
        figure.clear()  # which lets go of its arrays at once
    with runs.replacing(stem.with_name(stem.name + ".npz")) as temporary:
        np.savez_compressed(temporary, **numbers)
