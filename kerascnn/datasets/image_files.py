"""Image files as pixels: how one file is decoded, and `ImageFiles`, a uint8 array whose rows are decoded on demand.

JPEG, PNG, WebP, TIFF, BMP and GIF (first frame) are read by Pillow, whose guard against decompression bombs stays on.
Decoding gives uint8 grey or RGB: the EXIF orientation is applied; transparency is laid over white; palettes, CMYK and
other colour spaces become RGB; 16-bit grey keeps its upper eight bits; 1-bit becomes 0 and 255.
"""

import os
import warnings

import numpy as np

from kerascnn.datasets.resize import fit, for_each, stack
from kerascnn.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")
GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L")
ORIENTATION = 0x0112  # EXIF tag; 5 to 8 exchange height and width
BITS_PER_SAMPLE = 0x0102  # TIFF tag


def open_image(file, channels=None):
    """A decoded PIL image of mode "L" or "RGB", upright. `file`: a path or an open binary file.

    `channels` 1 or 3 asks for one of the modes; None leaves grey images grey and makes all others RGB.
    Raises whatever Pillow raises for a file that it cannot decode; `reason_of` puts that into words.
    """
    from PIL import Image, ImageOps

    with Image.open(file) as image:
        image.load()
        bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (16,))[0]
        if image.format != "JPEG" or "exif" in image.info:
            image = ImageOps.exif_transpose(image)
        wanted = {1: "L", 3: "RGB"}.get(channels) or ("L" if image.mode in GREY_MODES else "RGB")
        if image.mode == wanted and "transparency" not in image.info:
            return image
        if image.mode.startswith("I"):  # 16 bits of grey, which Pillow may hand over in 32
            grey = np.asarray(image)
            if bits > 16 or grey.min() < 0 or grey.max() > 65535:
                raise ValueError("its pixels are 32-bit integers, at most 16 bits are read")
            image = Image.fromarray((grey >> 8).astype(np.uint8))
        elif image.mode == "F":
            raise ValueError("its pixels are floating point numbers, only integers are read")
        elif image.mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        return image if image.mode == wanted else image.convert(wanted)


def pixels(image):
    """A PIL image of mode "L" or "RGB" as uint8 (H, W, 1 or 3)."""
    array = np.asarray(image)
    return array if array.ndim == 3 else array[:, :, None]


def read_image(file, size=None, channels=None):
    """One image file as uint8 (H, W, C), at `size` = (height, width) by the project's rule; None: its own size."""
    image = open_image(file, channels)
    return pixels(image if size is None else fit(image, size))


def probe(path):
    """((height, width), is grey) of one image file from its header, the size as it will be when upright."""
    from PIL import Image

    with Image.open(path) as image:
        width, height = image.size
        turned = image.format != "JPEG" or "exif" in image.info
        if image.format == "TIFF":  # whose size Pillow gives as it will be
            turned = False
        turned = turned and image.getexif().get(ORIENTATION, 1) >= 5
        return ((width, height) if turned else (height, width)), image.mode in GREY_MODES


def is_complete(path):
    """True if a JPEG or PNG file has its end mark; False says nothing (the file may be of another format)."""
    with open(path, "rb") as file:
        start = file.read(4)
        file.seek(-min(64, os.fstat(file.fileno()).st_size), os.SEEK_END)
        end = file.read()
    return (start[:2] == b"\xff\xd8" and b"\xff\xd9" in end) or (start == b"\x89PNG" and b"IEND" in end)


def reason_of(error, path):
    """Why a file could not be decoded, in a few words."""
    from PIL import UnidentifiedImageError

    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "may not be read (permission denied)"
    if isinstance(error, UnidentifiedImageError):
        return "empty file" if os.path.getsize(path) == 0 else "not an image"
    return str(error) or type(error).__name__


class Mixed(Exception):  # noqa: N818 (a signal, not an error)
    """Not every file has the size, or not every file is grey, as was guessed from the first."""


class ImageFiles:
    """Image files that look like one uint8 array (N, H, W, C); a file is decoded each time that its row is asked for.

    `images[3]`, `images[10:20]`, `images[[5, 2, 9]]` and boolean masks give arrays; `take` gives an ImageFiles;
    `decode` gives everything as one array. Decoding runs in threads.

    Args:
        root: folder that the names are relative to.
        names: file names with forward slashes.
        size: (height, width) that every image is brought to; None until it has been chosen.
        channels: 1 or 3; None until chosen.
        index: int (n,), which of the names these are; None for all.
    """

    dtype = np.dtype("uint8")
    ndim = 4

    def __init__(self, root, names, size=None, channels=None, index=None):
        self.root, self.names, self.size, self.channels = str(root), names, size, channels
        self.index = np.arange(len(names)) if index is None else np.asarray(index)

    def __len__(self):
        return len(self.index)

    @property
    def shape(self):
        return (len(self), *(self.size or (None, None)), self.channels)

    @property
    def nbytes(self):
        """Bytes that the decoded images would take in memory."""
        return int(np.prod(self.shape, dtype=np.int64))

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

    def take(self, index):
        """The images at `index`, in that order, none of them decoded."""
        return ImageFiles(self.root, self.names, self.size, self.channels, self.index[index])

    def at(self, size, channels):
        """The same files, to be brought to another size and number of channels."""
        return ImageFiles(self.root, self.names, tuple(size), channels, self.index)

    def decode(self):
        """All of them as one array."""
        return self[:]

    def __getitem__(self, index):
        rows = self.index[index]
        if rows.ndim == 0:
            return self._read(rows)
        return stack(lambda i: self._read(rows[i]), len(rows), self.shape[1:], (64, 64))

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[:], dtype)

    def _read(self, row):
        path = os.path.join(self.root, self.names[row])
        try:
            return read_image(path, self.size, self.channels)
        except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error and more
            raise DataError(
                f"Cannot read {path}: {reason_of(error, path)}. Its header could be read when the data were "
                "loaded; find every broken file with: kerascnn data check DATA"
            ) from error


def _visit(images, work, pixels, strict):
    """Call work(row, path) for every file; returns {row: reason} of those that fail; strict raises for the first."""
    from PIL import Image

    broken = {}

    def one(row):
        path = images.path(row)
        try:
            work(row, path)
        except (Mixed, MemoryError):
            raise
        except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error and more
            broken[row] = reason_of(error, path)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as "Corrupt EXIF data": the pixels are what counts
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for_each(one, len(images), pixels)
    if strict:
        check_whole(images, broken)
    return broken


def check_whole(images, broken):
    """Raise a DataError that names the first of the broken files, {row: reason}, if there are any."""
    if broken:
        row = min(broken)
        raise DataError(
            f"Broken image {images.path(row)}: {broken[row]}. Without --strict broken files are skipped and listed."
        )


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

    def work(row, path):
        image = open_image(path, None if all_grey else channels)
        if (same_size and image.size != (size[1], size[0])) or (all_grey and image.mode != "L"):
            raise Mixed
        out[row] = pixels(fit(image, size))

    broken = _visit(images, work, size[0] * size[1], strict)
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

    def work(row, path):
        sizes[row], grey[row] = probe(path)
        if complete and not is_complete(path):
            open_image(path)

    broken = _visit(images, work, 0, strict)
    return sizes, grey, broken
