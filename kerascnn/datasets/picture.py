"""A decoded image file, and what has to be settled after Pillow has decoded it: bits, transparency, orientation."""

import sys
from dataclasses import dataclass, field

import numpy as np

from kerascnn.datasets import image_headers as headers
from kerascnn.datasets.resize import crop_box, fit
from kerascnn.errors import counted

GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")
ALPHA_MODES = ("LA", "La", "RGBA", "RGBa", "PA")
LARGE = 16_000_000  # pixels; above it images are converted in strips: memory stays bounded


class Unreadable(ValueError):  # noqa: N818 (why it is broken)
    """Why a file is refused, in the words of a `BrokenImage.reason`."""


@dataclass
class Picture:
    """A decoded image file.

    Attributes:
        image: a PIL image, upright, in the file's own mode.
        mode: "L" or "RGB", what it is to become.
        invert: True if 0 is white in 16-bit pixels.
        top: the value of 16-bit pixels that becomes 255; None: 65535.
        clear: the value of 16-bit grey pixels that are transparent, or None.
        remarks: what a user should know: {"largest": of 65535} of an image that uses 16 bits without saying how many,
            {"bands": number} of one whose further bands are left out.
    """

    image: object
    mode: str
    invert: bool = False
    top: int | None = None
    clear: int | None = None
    remarks: dict = field(default_factory=dict)

    @property
    def size(self):
        """(height, width) of the upright image."""
        return self.image.size[::-1]

    def pixels(self, size=None):
        """uint8 (H, W, 1 or 3), at `size` = (height, width) by the project's rule; None: at its own size."""
        if self.image.width * self.image.height <= LARGE:
            return as_array(self._converted(self.image, size))
        top, left, height, width = (0, 0, *self.size) if size is None else crop_box(*self.size, *size)
        out = np.empty((height, size[1] if size else width, 1 if self.mode == "L" else 3), np.uint8)
        done = 0
        for strip in self._strips(top, left, height, width):
            # Pillow resizes across before it resizes down, so the first pass may be made in strips
            out[done : done + strip.height] = as_array(_resized(strip, out.shape[1], strip.height))
            done += strip.height
        return out if size is None else as_array(_resized(_pil(out), size[1], size[0]))

    def rows(self):
        """The image at its own size, a part of its rows after another: uint8 (n, W, 1 or 3)."""
        return map(as_array, self._strips(0, 0, *self.size))

    def _strips(self, top, left, height, width):
        step = max(1, LARGE // 8 // width)
        for row in range(top, top + height, step):
            yield self._converted(self.image.crop((left, row, left + width, min(row + step, top + height))))

    def _converted(self, image, size=None):
        """Mode "L" or "RGB" of the image or of a part of it; brought to a size."""
        from PIL import Image

        if image.mode.startswith("I"):  # 16 bits of grey, which Pillow may hand over in 32
            image = Image.fromarray(self._upper_bits(np.asarray(image)))
        elif image.mode in ALPHA_MODES or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        if image.mode != self.mode:
            image = image.convert(self.mode)
        return image if size is None else fit(image, size)

    def _upper_bits(self, grey):
        clear = None if self.clear is None else grey == self.clear
        grey = grey >> 8 if self.top is None else np.minimum(grey, self.top).astype(np.uint32) * 255 // self.top
        grey = (255 - grey if self.invert else grey).astype(np.uint8)
        return grey if clear is None else np.where(clear, np.uint8(255), grey)


def remarked(remarks):
    """Sentences for users that sum up the `Picture.remarks` of the images of a data set."""
    largest = max((remark["largest"] for remark in remarks if "largest" in remark), default=65535)
    if largest < 2**14:
        bits = max(8, largest.bit_length())
        factor = 2 ** (16 - bits)
        yield (
            f"The 16-bit images have no value above {largest:,} of 65,535, so they seem to use {bits} bits and are "
            f"read {factor} times too dark. Scale copies of them, for example with ImageMagick: "
            f"mogrify -evaluate multiply {factor} FILES (docs/data.md has it in Python)."
        )
    bands = [remark["bands"] for remark in remarks if "bands" in remark]
    if bands:
        yield (
            f"{counted(len(bands), 'TIFF image')} with {max(bands)} bands: only the colours are read, further bands "
            "(near infrared, say) are left out, as the files do not call them transparency."
        )


def settle(picture, bits, read, open_again):
    """Mend in a Picture what its format keeps from Pillow, or refuse it.

    Args:
        bits: significant bits that a PNG file names, or None.
        read: (start, length) -> bytes of the file.
        open_again: gives the file as another PIL image, not loaded yet.
    """
    how = {"TIFF": _settle_tiff, "BMP": _settle_bmp, "PNG": _settle_png}.get(picture.image.format)
    if how:
        how(picture, bits, read, open_again)


def _settle_tiff(picture, bits, read, open_again):
    """Refuse or mend what Pillow takes wrongly; a fourth band is transparency only where the file says so."""
    tags = picture.image.tag_v2
    depth = tags.get(headers.BITS, (1,))[0]
    signed = 2 in np.ravel(tags.get(headers.SAMPLE_FORMAT, 1))
    if signed or picture.image.mode == "F" or (picture.image.mode == "I" and depth > 16):
        raise Unreadable(not_read(*headers.tiff_numbers(read)))
    largest = int(np.ravel(tags.get(headers.LARGEST, 0))[0])
    largest = largest if 0 < largest < 65535 else None
    if picture.image.mode.startswith("I"):
        picture.invert = tags.get(headers.PHOTOMETRIC, 1) == 0
        picture.top = 2**depth - 1 if depth < 16 else largest
    elif depth == 16 and largest and picture.image.mode == "RGB":
        picture.top = largest
        picture.image = _scaled(_sixteen_bits(open_again), largest)
    extra = tags.get(headers.EXTRA, ())
    bands = tags.get(headers.SAMPLES, 1)
    if picture.image.mode in ("RGBA", "LA") and not extra:
        picture.image = picture.image.convert("RGB" if picture.image.mode == "RGBA" else "L")
    if bands in (2, 4, 5, 6) and picture.image.mode in ("L", "RGB"):
        picture.remarks["bands"] = bands


def _settle_bmp(picture, bits, read, open_again):
    """A BMP file whose alpha is 0 everywhere was written by a program that knows no alpha."""
    if picture.image.mode == "RGBA" and picture.image.getchannel("A").getextrema()[1] == 0:
        picture.image = picture.image.convert("RGB")


def _settle_png(picture, bits, read, open_again):
    """The transparent value of 16-bit pixels, and fewer bits than 16 that were not scaled up as PNG demands."""
    image = picture.image
    clear, depth = image.info.get("transparency"), read(24, 1)[0]
    unscaled = bits and 8 < bits < 16 and depth == 16 and largest_value(image) < 2**bits
    if image.mode == "L" and depth < 8 and clear is not None:  # Pillow scales the pixels up, but not this
        image.info["transparency"] = clear * 255 // (2**depth - 1)
    elif image.mode == "I;16":
        picture.clear = clear
        if unscaled and (np.asarray(image) & (2 ** (16 - bits) - 1)).any():
            picture.top = 2**bits - 1
    elif image.mode == "RGB" and depth == 16 and (unscaled or clear):
        deep = _sixteen_bits(open_again)
        if unscaled and (deep & (2 ** (16 - bits) - 1)).any():
            picture.top = 2**bits - 1
            image = _scaled(deep, picture.top)
        if clear:
            image.putalpha(_pil((deep != clear).any(axis=-1, keepdims=True).astype(np.uint8) * 255))
        image.info.pop("transparency", None)
        picture.image = image


def _sixteen_bits(open_again):
    """All bits of an RGB image of which Pillow keeps the upper eight, uint16 (H, W, 3): it is read in the other byte
    order, too."""
    upper, lower = open_again(), open_again()
    other = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}

    def swapped(args):
        return args[:-1] + other[args[-1]] if isinstance(args, str) else (swapped(args[0]), *args[1:])

    lower.tile = [tile._replace(args=swapped(tile.args)) for tile in lower.tile]
    return np.asarray(upper).astype(np.uint16) << 8 | np.asarray(lower)


def _scaled(deep, top):
    return _pil((np.minimum(deep, top).astype(np.uint32) * 255 // top).astype(np.uint8))


def not_read(bits, kind, bands):
    """Why a TIFF file of such numbers, as `image_headers.tiff_numbers` gives them, is refused."""
    kinds = {1: "unsigned integers", 2: "signed integers", 3: "floating point numbers", 5: "complex numbers"}
    return (
        f"its pixels are {bits}-bit {kinds.get(kind, 'numbers')}, {counted(bands, 'band')}; of TIFF files, 1, 3 or 4 "
        "bands of 8-bit or 16-bit unsigned integers are read. docs/data.md says how to make an .npz file of others"
    )


def largest_value(image):
    """A number that no 16-bit pixel exceeds, of 65535; Pillow has kept the upper eight bits of colours."""
    if image.mode.startswith("I"):
        return int(image.getextrema()[1])
    bands = image.getextrema()[:3] if image.mode != "L" else [image.getextrema()]
    return 256 * max(high for _, high in bands) + 255


def upright(image, orientation):
    from PIL import Image

    how = Image.Transpose
    turns = (how.FLIP_LEFT_RIGHT, how.ROTATE_180, how.FLIP_TOP_BOTTOM, how.TRANSPOSE, how.ROTATE_270, how.TRANSVERSE)
    return image.transpose((*turns, how.ROTATE_90)[orientation - 2])


def as_array(image):
    """A PIL image of mode "L" or "RGB" as uint8 (H, W, 1 or 3)."""
    array = np.asarray(image)
    return array if array.ndim == 3 else array[:, :, None]


def _pil(array):
    from PIL import Image

    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def _resized(image, width, height):
    from PIL import Image

    return image.resize((width, height), Image.Resampling.BILINEAR)
