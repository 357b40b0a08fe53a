"""Many image files: `ImageFiles`, a uint8 array whose rows are decoded on demand, and visits to all of them.

How one file becomes pixels is said in `kerascnn.datasets.decoding`.
"""

import os

import numpy as np

from kerascnn.datasets.decoding import BrokenImage, binary, opened, probe, read_image
from kerascnn.datasets.resize import LazyImages, for_each
from kerascnn.errors import DataError


def is_complete(file):
    """True if a JPEG or PNG file, a path or an open one, has its end mark; False says nothing (it may be of another
    format)."""
    with binary(file) as stream:
        stream.seek(0)
        start = stream.read(4)
        stream.seek(-min(64, stream.seek(0, os.SEEK_END)), os.SEEK_END)
        end = stream.read()
    return (start[:2] == b"\xff\xd8" and b"\xff\xd9" in end) or (start == b"\x89PNG" and b"IEND" in end)


class Mixed(Exception):  # noqa: N818 (a signal, not an error)
    """Not every file has the size, or not every file is grey, as was guessed from the first."""


class ImageFiles(LazyImages):
    """Image files that look like one uint8 array (N, H, W, C); a file is decoded each time that its row is asked for.

    Args:
        root: folder that the names are relative to.
        names: file names with forward slashes.
        size: (height, width) that every image is brought to; None until it has been chosen.
        channels: 1 or 3; None until chosen.
        index: int (n,), which of the names these are; None for all.
    """

    read_size = (64, 64)  # large enough for threads

    def __init__(self, root, names, size=None, channels=None, index=None):
        self.root, self.names, self.size, self.channels = str(root), names, size, channels
        self.index = np.arange(len(names)) if index is None else np.asarray(index)
        self.remarks = {}  # {row: `Picture.remarks`} of what `decode_all` has decoded

    @property
    def files(self):
        """The names of these files, as a tuple."""
        return tuple(self.names[i] for i in self.index)

    def name(self, row):
        """The name of the file of one row."""
        return self.names[self.index[row]]

    def path(self, row):
        """Where the file of one row lies on disk."""
        return os.path.join(self.root, self.name(row))

    def file(self, row):
        """The file of one row: a path, or an open binary file."""
        return self._file(self.index[row])

    def header(self, row):
        """The file of one row, of which little will be read: a path, or an open binary file."""
        return self.file(row)

    def content(self, row):
        """The bytes of the file of one row."""
        with open(self.path(row), "rb") as file:
            return file.read()

    def num_bytes(self):
        """Bytes of all files."""
        return sum(os.path.getsize(self.path(row)) for row in range(len(self)))

    def take(self, index):
        """The images at `index`, in that order, none of them decoded."""
        return type(self)(self.root, self.names, self.size, self.channels, self.index[index])

    def at(self, size, channels):
        """The same files, to be brought to another size and number of channels."""
        return type(self)(self.root, self.names, tuple(size), channels, self.index)

    def _file(self, number):
        return os.path.join(self.root, self.names[number])

    def _read(self, number):
        try:
            return read_image(self._file(number), self.size, self.channels)
        except BrokenImage as error:
            raise DataError(
                f"{error} Its header could be read when the data were loaded; find every broken file with: "
                "kerascnn data check DATA"
            ) from error


def visit_files(images, work, pixels, strict):
    """Call work(row) for every file; returns {row: reason} of those that fail; strict raises for the first."""
    broken = {}

    def one(row):
        try:
            work(row)
        except BrokenImage as error:
            broken[row] = error.reason

    for_each(one, len(images), pixels)
    if strict and broken:
        row = min(broken)
        raise DataError(
            f"Broken image {images.path(row)}: {broken[row]}. Without strict=True, broken files are skipped and listed."
        )
    return broken


def decode_all(images, *, same_size=False, all_grey=False, strict=False):
    """Decode every file into one array, leaving broken files out.

    Args:
        images: ImageFiles with a size and channels.
        same_size: raise `Mixed` at the first file that has another size of its own.
        all_grey: raise `Mixed` at the first file that is not grey.
        strict: raise DataError, naming the file, if one is broken.
    Returns:
        (uint8 (n, H, W, C), int (n,) rows that could be read, {row: reason} of the others).
    """
    out = np.empty(images.shape, np.uint8)
    size, channels = images.size, images.channels

    def work(row):
        with opened(images.file(row), None if all_grey else channels) as picture:
            if (same_size and picture.size != size) or (all_grey and picture.mode != "L"):
                raise Mixed
            out[row] = picture.pixels(size)
            if picture.remarks:
                images.remarks[row] = picture.remarks

    broken = visit_files(images, work, size[0] * size[1], strict)
    rows = np.array([row for row in range(len(images)) if row not in broken], int) if broken else np.arange(len(images))
    for place, row in enumerate(rows if broken else ()):  # close the gaps in place: a copy would double the memory
        if place != row:
            out[place] = out[row]
    return out[: len(rows)], rows, broken


def survey(images, *, strict=False, complete=False):
    """Read the header of every file, without decoding it.

    Args:
        images: ImageFiles.
        strict: raise DataError, naming the file, if one is broken.
        complete: look for broken files beyond their headers too: a JPEG or PNG file must have its end mark, and any
            file without one is decoded to see whether it can be.
    Returns:
        (int (N, 2) heights and widths, bool (N,) is grey, {row: reason} of the broken).
    """
    sizes, grey = np.zeros((len(images), 2), int), np.zeros(len(images), bool)

    def work(row):
        file = images.header(row)
        sizes[row], grey[row] = probe(file)
        if complete and not is_complete(file):
            read_image(images.file(row))

    broken = visit_files(images, work, 0, strict)
    return sizes, grey, broken
