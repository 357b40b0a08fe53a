"""Every kind of image file that both readers take: the SavedModel's graph and `read_image` give the same pixels, or the
graph refuses with a reason."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from kerascnn.datasets.decoding import read_image
from kerascnn.datasets.image_headers import ORIENTATION

tf = pytest.importorskip("tensorflow")
tf_images = pytest.importorskip("kerascnn.using.tf_images")
decode = tf.function(tf_images.decode, reduce_retracing=True)  # in a graph, as in SavedModels


def picture(mode="RGB", size=(14, 19), colours=None):
    """A picture with edges and soft parts, of another height than width."""
    rough = Image.fromarray(np.random.default_rng(0).integers(0, 256, (7, 5, 4), np.uint8))
    image = rough.resize((size[1], size[0]), Image.Resampling.BICUBIC).convert("RGBA" if "A" in mode else "RGB")
    return image.quantize(colours) if colours else image.convert(mode)


def saved(image, suffix, **how):
    buffer = io.BytesIO()
    image.save(buffer, suffix, **how)
    return buffer.getvalue()


def exif_of(kind, value, order="<", before=()):
    """A block of EXIF whose orientation has a type of TIFF's: 3 is an unsigned short."""
    entries = [*before, struct.pack(order + "HHI", ORIENTATION, kind, 1) + value.ljust(4, b"\0")]
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "IH", 8, len(entries)) + b"".join(entries) + bytes(4)


def png(array, kind, bits, interlaced=False, **chunks):
    """A PNG file of samples (H, W) or (H, W, n), of any bits; chunks={"tRNS": bytes, ...} come before the pixels."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    samples = array.reshape(*array.shape[:2], -1)
    passes = [samples]
    if interlaced:  # Adam7
        steps = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
        passes = [samples[y::dy, x::dx] for y, x, dy, dx in steps]
    rows = b""
    for part in passes:
        flat = part.reshape(len(part), -1) if part.size else ()
        for row in flat:
            if bits == 16:
                rows += b"\0" + row.astype(">u2").tobytes()
            else:
                digits = np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - bits :]
                rows += b"\0" + np.packbits(digits.ravel()).tobytes()
    header = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], bits, kind, 0, 0, int(interlaced))
    extra = b"".join(chunk(name.encode(), content) for name, content in chunks.items())
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def bmp(rows, bits, palette=b"", packing=0, size=(14, 19), colours=0, header=40, masks=b""):
    """A BMP file with rows (bytes, from the bottom up, padded to four bytes)."""
    start = 14 + header + len(masks) + len(palette)
    if header == 12:
        head = struct.pack("<IHHHH", 12, size[1], size[0], 1, bits)
    else:
        sizes = (size[1], size[0], 1, bits, packing, len(rows), 0, 0, colours, 0)
        head = struct.pack("<IiiHHIIiiII", header, *sizes).ljust(header, b"\0")
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + head + masks + palette + rows


RNG = np.random.default_rng(1)
NOISE = RNG.integers(0, 65536, (14, 19, 4))
PALETTE = RNG.integers(0, 256, 1024, np.uint8).tobytes()
GREYS = bytes(np.repeat(np.arange(256, dtype=np.uint8), 4))


def padded(samples, bits):
    """Rows of BMP samples (H, W) of 1, 4, 8 or 16 bits, or (H, W, bytes)."""
    if samples.ndim == 3:
        flat = samples.reshape(len(samples), -1).astype(np.uint8)
    elif bits == 16:
        flat = samples.astype("<u2").view(np.uint8)
    else:
        digits = np.unpackbits(samples.astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :]
        flat = np.packbits(digits.reshape(len(samples), -1), axis=1)
    return np.pad(flat, ((0, 0), (0, -flat.shape[1] % 4))).tobytes()


def kinds():
    """{name: contents} of the files."""
    for mode in ("RGB", "L", "CMYK"):
        for name, how in {"plain": {}, "progressive": {"progressive": True}, "4:4:4": {"subsampling": 0}}.items():
            yield f"jpeg {mode} {name}", saved(picture(mode), "JPEG", **how)
    cmyk = saved(picture("CMYK"), "JPEG")
    adobe = cmyk.index(b"\xff\xee")
    yield "jpeg CMYK without a word of Adobe's", cmyk[:adobe] + cmyk[adobe + 16 :]
    yield "jpeg with padding", cmyk[:2] + b"\xff" * 5 + cmyk[2:]
    yield "jpeg rgb", saved(picture(), "JPEG", keep_rgb=True)
    for value in (0, *range(1, 10), 256, 65535):
        for order in "<>":
            exif = exif_of(3, struct.pack(order + "H", value), order)
            yield f"jpeg orientation {value} {order}", saved(picture(), "JPEG", exif=b"Exif\0\0" + exif)
            yield f"png orientation {value} {order}", saved(picture("RGBA"), "PNG", exif=exif)
    odd = {1: b"\6", 2: b"6\0", 4: struct.pack("<I", 6), 5: bytes(4), 6: b"\6", 7: b"\6", 8: b"\6\0", 9: b"\6\0\0\0",
           11: struct.pack("<f", 6)}  # fmt: skip
    for kind, value in odd.items():
        yield f"jpeg orientation of type {kind}", saved(picture(), "JPEG", exif=b"Exif\0\0" + exif_of(kind, value))
        yield f"png orientation of type {kind}", saved(picture(), "PNG", exif=exif_of(kind, value))
    far = saved(picture(), "JPEG", exif=b"Exif\0\0" + exif_of(3, b"\6\0"), icc_profile=bytes(200_000))
    yield "jpeg whose exif stands behind a large profile", _exif_last(far)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        yield f"png {mode}", saved(picture(mode), "PNG")
    for bits in (1, 2, 4, 8, 16):
        samples = NOISE[..., 0] % 2**bits
        key = struct.pack(">H", int(samples[3, 4]))
        for interlaced in (False, True):
            yield f"png grey {bits} {interlaced}", png(samples, 0, bits, interlaced)
            yield f"png grey {bits} {interlaced} tRNS", png(samples, 0, bits, interlaced, tRNS=key)
            if bits < 16:
                how = {"PLTE": PALETTE[: 3 * 2**bits]}
                yield f"png palette {bits} {interlaced}", png(samples, 3, bits, interlaced, **how)
                yield f"png palette {bits} {interlaced} tRNS", png(samples, 3, bits, interlaced, **how, tRNS=b"\0\x80")
            if bits >= 8:
                colours = NOISE[..., :3] % 2**bits
                colours[::2] = colours[0, 0] // 256 * 256 + 1  # the upper eight bits of the clear colour, and others
                key = struct.pack(">HHH", *map(int, colours[1, 1]))
                yield f"png colour {bits} {interlaced}", png(colours, 2, bits, interlaced)
                yield f"png colour {bits} {interlaced} tRNS", png(colours, 2, bits, interlaced, tRNS=key)
                yield f"png grey alpha {bits} {interlaced}", png(NOISE[..., :2] % 2**bits, 4, bits, interlaced)
                yield f"png colour alpha {bits} {interlaced}", png(NOISE % 2**bits, 6, bits, interlaced)
    yield "png 12 of 16 bits", png(NOISE[..., 0] % 4096, 0, 16, sBIT=b"\x0c")
    yield "png of 8 bits with sBIT", png(NOISE[..., 0] % 256, 0, 8, sBIT=b"\5")
    yield "png with text", _with_text()
    frames = [picture(colours=16), picture(colours=16).rotate(180)]
    yield "gif", saved(frames[0], "GIF")
    yield "gif grey", saved(picture("L"), "GIF")
    yield "gif animated", saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)
    yield "gif interlaced", saved(frames[0], "GIF", interlace=1)
    yield "gif transparent", saved(frames[0], "GIF", transparency=3)
    yield "gif comment", saved(frames[0], "GIF", comment=b"c" * 700)
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield f"bmp {mode}", saved(picture(mode), "BMP")
    for bits in (1, 4, 8):
        samples = NOISE[..., 0] % 2**bits
        for name, palette in (("palette", PALETTE), ("greys", GREYS), ("white first", GREYS[::-1])):
            yield f"bmp {bits} {name}", bmp(padded(samples, bits), bits, palette[: 4 * 2**bits])
        thirds = np.frombuffer(PALETTE, np.uint8).reshape(-1, 4)[: 2**bits, :3].tobytes()
        yield f"bmp {bits} os/2", bmp(padded(samples, bits), bits, thirds, header=12)
    two = bytes([0, 0, 0, 0, 255, 255, 255, 0])
    yield "bmp 8 of two colours", bmp(padded(NOISE[..., 0] % 2, 8), 8, two, colours=2)
    yield "bmp 4 of two colours", bmp(padded(NOISE[..., 0] % 2, 4), 4, two, colours=2)
    yield "bmp 4 of dark greys", bmp(padded(NOISE[..., 0] % 16, 4), 4, GREYS[:64], colours=16)
    yield "bmp 8 of sixteen colours", bmp(padded(NOISE[..., 0] % 16, 8), 8, PALETTE[:64], colours=16)
    yield "bmp 16", bmp(padded(NOISE[..., 0], 16), 16)
    yield "bmp 24", bmp(padded(NOISE[..., :3] % 256, 24), 24)
    yield "bmp 24 from the top", bmp(padded(NOISE[..., :3] % 256, 24), 24, size=(-14, 19))
    yield "bmp 32", bmp(padded(NOISE % 256, 32), 32)
    alpha = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    for name, pixels in (("alpha", NOISE % 256), ("alpha of 0", NOISE % 256 * [1, 1, 1, 0])):
        yield (
            f"bmp {name}",
            bmp(padded(pixels, 32), 32, packing=3, header=108, masks=b"").replace(bytes(68), alpha + bytes(52), 1),
        )
    runs = b"".join(bytes([19, row]) + b"\0\0" for row in range(14)) + b"\0\1"
    yield "bmp packed", bmp(runs, 8, PALETTE, packing=1)
    jpeg = saved(picture(), "JPEG", progressive=True)
    last = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    yield "jpeg of 60 scans", jpeg[:-2] + last * 50 + jpeg[-2:]
    yield "jpeg of 3,000 scans", jpeg[:-2] + last * 2990 + jpeg[-2:]
    yield "png of 4 gigapixels", png(NOISE[..., 0] % 2, 0, 1).replace(struct.pack(">II", 19, 14), b"\0\0\xff\xff" * 2)
    yield "bmp cut off", bmp(b"", 24)
    yield "webp", saved(picture(), "WEBP", lossless=True)
    yield "tiff", saved(picture(), "TIFF")
    yield "nothing", b""
    yield "no image", b"no image"


def _exif_last(jpeg):
    """The same JPEG file with its EXIF segment moved behind its profile."""
    at = jpeg.index(b"\xff\xe1")
    end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    tables = jpeg.index(b"\xff\xdb")
    return jpeg[:at] + jpeg[end:tables] + jpeg[at:end] + jpeg[tables:]


def _with_text():
    text = PngImagePlugin.PngInfo()
    text.add_text("a", "b" * (3 << 20), zip=True)
    return saved(picture(), "PNG", pnginfo=text)


KINDS = dict(kinds())
REFUSED = {
    "jpeg CMYK without a word of Adobe's": "by an Adobe segment",
    "bmp cut off": "This BMP file is cut off",
    "jpeg of 3,000 scans": "too many scans",
    "png of 4 gigapixels": "more than 178 megapixels",
    "png 12 of 16 bits": "fewer than its 16 bits",
    **{f"png grey {bits} True tRNS": "interlaced grey PNG" for bits in (1, 2, 4, 8, 16)},
    "gif transparent": "transparent pixels",
    "bmp 16": "is packed, or has other than",
    "bmp packed": "is packed, or has other than",
    "bmp alpha": "is packed, or has other than",
    "bmp alpha of 0": "is packed, or has other than",
    **dict.fromkeys(("webp", "tiff", "nothing", "no image"), "not a JPEG, PNG, BMP or GIF file"),
}


@pytest.mark.parametrize("name", [name for name in KINDS if name not in REFUSED])
def test_both_readers_give_the_same_pixels(name):
    graph = decode(tf.constant(KINDS[name]), 3).numpy()
    np.testing.assert_array_equal(graph, read_image(io.BytesIO(KINDS[name]), None, 3))


@pytest.mark.parametrize("name", REFUSED)
def test_the_graph_says_what_it_does_not_read(name):
    with pytest.raises(tf.errors.InvalidArgumentError, match=REFUSED[name]):
        decode(tf.constant(KINDS[name]), 3)
