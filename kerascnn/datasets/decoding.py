"""One image file as pixels: what kerascnn takes an image to be.

JPEG, PNG, WebP, TIFF, BMP, PPM, PGM, PBM, GIF (first frame), AVIF, and HEIC where pillow-heif is installed, are decoded
by Pillow into uint8 grey or RGB. The EXIF orientation is applied; transparency is laid over white; palettes, CMYK and
other colour spaces become RGB; 1-bit becomes 0 and 255. Of 16 bits the upper eight are kept; where a file says that it
uses fewer (TIFF's MaxSampleValue, PNG's sBIT), its own largest value becomes 255. Signed and floating point numbers,
and more than 16 bits, are refused: nobody knows what would be white.
"""

import contextlib
import functools
import io
import math
import os
import stat
import threading

from kerascnn.datasets import image_headers as headers
from kerascnn.datasets.picture import GREY_MODES, LARGE, Picture, Unreadable, largest_value, not_read, settle, upright
from kerascnn.errors import DataError, UsageError
from kerascnn.files import KINDS

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")
SUFFIXES += (".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".heic", ".heif")
MARKS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    **{b"P%d" % n: "PPM" for n in range(1, 7)},
}
MAX_MEGAPIXELS = "KERASCNN_MAX_MEGAPIXELS"  # environment variable: --max-megapixels of every command
DEFAULT_MAX_MEGAPIXELS = 178  # where Pillow, too, takes a file for a decompression bomb; 0.7 GB in memory
READ_MODES = {*GREY_MODES, "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "F"}  # of Pillow
MOST_TIFF_BANDS = 6  # of which Pillow reads the colours; it logs an error about more

one_large_image = threading.Lock()  # held while an image above LARGE is in memory


class BrokenImage(DataError):  # noqa: N818 (what the file is)
    """A file that is not an image that can be read. `reason` says why in a few words."""

    def __init__(self, file, reason):
        name = os.fspath(file) if isinstance(file, (str, os.PathLike)) else getattr(file, "name", "the image")
        super().__init__(f"Cannot read {name}: {reason}.")
        self.reason = reason


def read_image(file, size=None, channels=None):
    """One image file as uint8 (H, W, C).

    Args:
        file: a path or an open binary file.
        size: (height, width) that it is brought to by the project's rule; None: its own size.
        channels: 1 or 3; None leaves grey images grey and makes all others RGB.
    Raises:
        BrokenImage: a DataError that says in plain words why the file cannot be read.
    """
    with opened(file, channels) as picture:
        return picture.pixels(size)


@contextlib.contextmanager
def opened(file, channels=None):
    """Within this block the file is a decoded `Picture`; of large images one at a time. Raises BrokenImage."""
    with contextlib.ExitStack() as stack:
        try:
            picture = _decoded(file, channels, stack)
        except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error and more
            if isinstance(error, (MemoryError, UsageError)):
                raise
            raise BrokenImage(file, reason_of(error, file)) from error
        yield picture


def probe(file):
    """((height, width), is grey) of one image file, a path or an open one, from its header, the size as it will be when
    upright."""
    try:
        with binary(file) as stream, _without_pillow_limit():
            image, orientation, _ = _recognised(stream, header_only=True)
            width, height = image.size
            return ((width, height) if orientation >= 5 else (height, width)), image.mode in GREY_MODES
    except Exception as error:
        raise BrokenImage(file, reason_of(error, file)) from error


def max_megapixels():
    """The largest image that is read, in millions of pixels, as the environment says or by default."""
    text = os.environ.get(MAX_MEGAPIXELS) or DEFAULT_MAX_MEGAPIXELS
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise UsageError(f"{MAX_MEGAPIXELS}={text} is not allowed: it must be a number above 0, such as 200.")
    return number


def _decoded(file, channels, stack):
    from PIL import Image

    stream = stack.enter_context(binary(file))
    stack.enter_context(_without_pillow_limit())
    image, orientation, bits = _recognised(stream)
    pixels = image.width * image.height
    if image.mode not in READ_MODES:
        raise Unreadable(f"its colours are {image.mode}, which is not read")
    image.info.pop("xmp", None)  # an orientation there is not applied in any format
    if image.format == "JPEG":
        _check_scans(image.fp.getvalue(), pixels)
    if pixels > LARGE:
        stack.enter_context(one_large_image)
    deep = image.format in ("PNG", "TIFF") and (";16" in str(image.tile) or image.mode.startswith("I"))
    try:
        image.load()
    except Exception:
        if image.format != "TIFF":
            raise
        image = Image.open(io.BytesIO(headers.tiff_without_metadata(_reader(stream))), formats=("TIFF",))
        image.load()
    picture = Picture(image, "L" if image.mode in GREY_MODES else "RGB")
    settle(picture, bits, _reader(stream), lambda: _recognised(stream)[0])
    if deep and not picture.top:
        picture.remarks["largest"] = largest_value(picture.image)
    if orientation > 1:
        picture.image = upright(picture.image, orientation)
    picture.mode = {1: "L", 3: "RGB"}.get(channels, picture.mode)
    return picture


def _recognised(stream, header_only=False):
    """(PIL image, not loaded, orientation still to be applied, significant bits or None) of a binary file."""
    from PIL import Image

    read, bits, orientation = _reader(stream), None, 1
    name = format_of(read(0, 32))
    if name is None:
        raise Unreadable("empty file" if not read(0, 1) else "not an image")
    if name == "HEIF" and not _reads_heif():
        raise Unreadable("HEIC files need pillow-heif; type: pip install kerascnn[heif]")
    source = stream
    if name in ("JPEG", "PNG") and not header_only:  # whose segments are read faster from memory
        read = _reader(io.BytesIO(read(0, None)))
    if name == "JPEG":
        header, start, orientation = headers.jpeg_header(read)
        source = io.BytesIO(header + read(start, 16 if header_only else None))
    elif name == "PNG":
        content, orientation, bits = headers.png_without_metadata(read, header_only)
        source = io.BytesIO(content)
    elif name == "TIFF" and (numbers := headers.tiff_numbers(read)) and numbers[2] > MOST_TIFF_BANDS:
        raise Unreadable(not_read(*numbers))
    stream.seek(0)
    try:
        image = Image.open(source, formats=(name,))
    except Exception:
        if name != "TIFF":
            raise
        image = Image.open(io.BytesIO(headers.tiff_without_metadata(read)), formats=(name,))
    if name == "BMP" and image.mode in ("1", "L"):
        image = _with_all_bits(image, read)
    if name in ("WEBP", "AVIF"):
        orientation = headers.exif_orientation(image.info.get("exif", b"").removeprefix(b"Exif\0\0"))
    limit = max_megapixels()
    if image.width * image.height > limit * 1e6:
        needed = image.width * image.height / 1e6
        raise Unreadable(
            f"its {image.width:,} x {image.height:,} pixels are more than {limit:g} megapixels, perhaps a "
            f"decompression bomb; if they are meant, set {MAX_MEGAPIXELS}={math.ceil(needed)}"
        )
    return image, orientation, bits


def _with_all_bits(bmp, read):
    """The same BMP file, opened again with a full palette where Pillow takes few greys for pixels of other bits."""
    from PIL import Image

    start, header = int.from_bytes(read(10, 4), "little"), int.from_bytes(read(14, 4), "little")
    bits = int.from_bytes(read(28, 2), "little")
    if header == 12 or start == 14 + header or bits == {"1": 1, "L": 8}[bmp.mode]:
        return bmp
    content = read(0, None)
    return Image.open(io.BytesIO(content[:46] + (256).to_bytes(4, "little") + content[50:]), formats=("BMP",))


def format_of(start):
    """Pillow's name of the format of a file that starts with these bytes, or None."""
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WEBP"
    if start[4:8] == b"ftyp":
        return "AVIF" if start[8:12] in (b"avif", b"avis") else "HEIF"
    return next((name for mark, name in MARKS.items() if start.startswith(mark)), None)


def _check_scans(jpeg, pixels):
    scans = jpeg.count(b"\xff\xda")  # or fewer: these bytes may stand elsewhere, too
    scans = scans if scans <= headers.FEW_SCANS else headers.num_scans(jpeg)
    if headers.too_many_scans(scans, pixels):
        more = "more than " if scans > headers.MOST_SCANS else ""
        raise Unreadable(
            f"its pixels are spread over {more}{min(scans, headers.MOST_SCANS)} scans, which would take minutes; "
            "encoders write about ten"
        )


def reason_of(error, file):
    """Why a file could not be read, in a few plain words, whatever Pillow said."""
    if isinstance(error, BrokenImage):
        return error.reason
    if isinstance(error, (Unreadable, UsageError)):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "may not be read (permission denied)"
    if isinstance(error, OSError) and error.errno:
        return (error.strerror or os.strerror(error.errno)).lower()
    with contextlib.suppress(OSError), binary(file) as stream:
        read = _reader(stream)
        name = format_of(read(0, 32))
        text = str(error)
        if any(word in text for word in ("truncated", "Truncated", "not processed")):
            return "image file is truncated"
        numbers = headers.tiff_numbers(read) if name == "TIFF" else None
        if numbers and not (numbers[0] in (1, 2, 4, 8, 16) and numbers[1] == 1 and numbers[2] <= 4):
            return not_read(*numbers)
        return f"damaged, or a kind of {name} file that is not read"
    return "not an image"


def _reader(stream):
    def read(start, length):
        stream.seek(start)
        return stream.read(length)

    return read


@contextlib.contextmanager
def binary(file):
    """The open binary file of a path; an open file as it is. Pipes and devices, which may never end, are refused."""
    if not isinstance(file, (str, os.PathLike)):
        yield file
        return
    kind = KINDS.get(stat.S_IFMT(os.stat(file).st_mode))
    if kind:
        raise Unreadable(f"{kind}, not a regular file")
    with open(file, "rb") as stream:
        yield stream


_guard = threading.Lock()
_readers = 0
_pillows_limit = None


@contextlib.contextmanager
def _without_pillow_limit():
    """Within this block Pillow's own limit is off: ours has been checked, and it alone decides."""
    global _readers, _pillows_limit
    from PIL import Image

    with _guard:
        if not _readers:
            _pillows_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _readers += 1
    try:
        yield
    finally:
        with _guard:
            _readers -= 1
            if not _readers:
                Image.MAX_IMAGE_PIXELS = _pillows_limit


@functools.cache
def _reads_heif():
    """True if pillow-heif is installed, which is then known to Pillow."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True
