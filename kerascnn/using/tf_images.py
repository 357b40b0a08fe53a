"""Image files -> pixels as operations of a TensorFlow graph: the same as kerascnn.datasets.decoding does with Pillow.

JPEG, PNG, BMP and GIF files give the same pixels: upright by the EXIF tag, transparency on white, palettes as colour.
Files that TensorFlow cannot decode in the same way are refused with a reason: other formats, compressed BMP files, GIF
files with transparency or with a first frame of another size, some rare PNG files. Resizing follows the rule of
kerascnn.datasets.resize; where a sum is close to a half, a level may differ by 1 of 255.
"""

import tensorflow as tf

from kerascnn.datasets.decoding import max_megapixels
from kerascnn.datasets.image_headers import FEW_SCANS, MOST_SCAN_PIXELS, MOST_SCANS
from kerascnn.using import tf_headers as headers

# For each orientation 1 to 8: mirror left to right?, then quarter turns anticlockwise.
UPRIGHT = ((False, 0), (True, 0), (False, 2), (True, 2), (True, 1), (False, 3), (True, 3), (False, 1))


@tf.autograph.experimental.do_not_convert  # there is nothing to convert, and trying takes seconds
def decode(file, channels):
    """One image file (a string tensor of its contents: JPEG, PNG, BMP or GIF) as uint8 (H, W, channels).

    Raises InvalidArgumentError, with a reason, for a file that is broken or cannot be decoded as Pillow does it.
    """
    formats = {b"\xff\xd8\xff": _jpeg, b"\x89PNG": _png, b"BM": _bmp, b"GIF8": _gif}
    image = tf.case(
        [(headers.begins(file, mark), lambda read=read: read(file)) for mark, read in formats.items()],
        default=lambda: _unknown(file),
    )
    image.set_shape((None, None, 3))
    return in_channels(image, channels)


def resize(images, size):
    """Images (N, H, W, C) of any number type, resized to `size` = (height, width), as whole numbers in float32."""
    target_height, target_width = size
    shape = tf.shape(images)
    height, width = shape[1], shape[2]
    wide = width * target_height > height * target_width
    new_height = tf.where(wide, height, tf.maximum(1, width * target_height // target_width))
    new_width = tf.where(wide, tf.maximum(1, height * target_width // target_height), width)
    top, left = (height - new_height + 1) // 2, (width - new_width + 1) // 2
    images = images[:, top : top + new_height, left : left + new_width]
    for pass_size in ((new_height, target_width), size):
        images = tf.floor(tf.image.resize(images, pass_size, "bilinear", antialias=True) + 0.5)
    return images


def in_channels(images, channels):
    """Images uint8 (..., C) with 1 or 3 channels, by the rule of `kerascnn.datasets.resize`."""
    if images.shape[-1] == channels:
        return images
    if channels == 3:
        return tf.repeat(images, 3, axis=-1)
    grey = tf.reduce_sum(tf.cast(images, tf.int32) * [19595, 38470, 7471], -1, keepdims=True)
    return tf.cast((grey + 32768) // 65536, tf.uint8)


def _demand(file, condition, reason):
    """The file, for operations that may only run where the condition holds."""
    check = tf.debugging.Assert(condition, [reason + " `kerascnn predict` reads more kinds of files."])
    with tf.control_dependencies([check]):
        return tf.identity(file)


def _of_size(file, height, width):
    """The file, if it has no more pixels than are read."""
    limit = max_megapixels()
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    return _demand(file, pixels <= int(limit * 1e6), f"This image has more than {limit:g} megapixels.")


def _unknown(file):
    _demand(file, False, "This is not a JPEG, PNG, BMP or GIF file.")
    return tf.zeros((1, 1, 3), tf.uint8)


def _jpeg(file):
    """Upright RGB: the accurate inverse transform is the one that Pillow asks for."""
    height, width, bands = tf.unstack(tf.io.extract_jpeg_shape(file, output_type=tf.int64))
    file = _of_size(file, height, width)
    scans = headers.num_scans(file)
    few = (scans <= FEW_SCANS) | ((scans <= MOST_SCANS) & (scans * height * width <= MOST_SCAN_PIXELS))
    file = _demand(file, few, "This JPEG file has too many scans: decoding it would take minutes.")
    known = (bands != 4) | headers.jpeg_segment(file, b"\xff\xee", b"Adobe")[1]
    file = _demand(file, known, "This CMYK JPEG file does not say, by an Adobe segment, whether it is inverted.")
    image = tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE")
    return _upright(image, headers.jpeg_orientation(file))


def _upright(image, orientation):
    turns = [lambda how=how: _turned(image, *how) for how in UPRIGHT]
    return tf.switch_case(tf.cast(orientation, tf.int32) - 1, turns)


def _turned(image, mirror, quarters):
    return tf.image.rot90(tf.image.flip_left_right(image) if mirror else image, quarters)


def _png(file):
    """RGB over white."""
    file = _of_size(file, headers.number_at(file, 20, 4), headers.number_at(file, 16, 4))
    bits = tf.cast(headers.number_at(file, 24, 1), tf.int32)  # of a sample
    orientation, significant, clear = headers.png_metadata(file)
    full = (bits < 16) | (significant == 0) | (significant == 16)
    file = _demand(file, full, "This PNG file says that it uses fewer than its 16 bits (sBIT).")
    grey_passes = clear & (headers.number_at(file, 25, 1) == 0) & (headers.number_at(file, 28, 1) == 1)
    file = _demand(
        file, ~grey_passes, "This interlaced grey PNG file has a transparent level, which TensorFlow misplaces."
    )
    image = tf.cast(tf.io.decode_png(file, channels=4), tf.int32)
    colour, alpha = image[..., :3], image[..., 3:]
    opaque = tf.bitwise.left_shift(1, bits) - 1  # what libpng fills alpha with, also where colours have 8 bits by then
    alpha = tf.where((bits < 8) & tf.reduce_all(alpha == opaque), 255, alpha)
    image = tf.cast((colour * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)
    return _upright(image, orientation)


def _gif(file):
    """RGB of the first frame."""
    file = _of_size(file, headers.number_at(file, 8, 2, True), headers.number_at(file, 6, 2, True))
    plain = headers.gif_is_plain(file)
    file = _demand(file, plain, "This GIF file has transparent pixels, or a first frame that does not cover the image.")
    return tf.io.decode_image(file, channels=3, expand_animations=False)


def _bmp(file):
    """RGB of a file that is not packed: 1, 4 or 8 bits with a palette, 24 or 32 bits."""

    def field(at, length):
        return headers.number_at(file, at, length, True)

    start, header = field(10, 4), field(14, 4)
    old = header == 12  # OS/2
    width, height = tf.where(old, field(18, 2), field(18, 4)), tf.where(old, field(20, 2), field(22, 4))
    bits, packing = tf.where(old, field(24, 2), field(28, 2)), tf.where(old, tf.zeros((), tf.int64), field(30, 4))
    from_top = height >= 2**31
    height = tf.where(from_top, 2**32 - height, height)
    known = tf.reduce_any(bits == tf.constant([1, 4, 8, 24, 32], tf.int64)) & (packing == 0)
    file = _demand(file, known, "This BMP file is packed, or has other than 1, 4, 8, 24 or 32 bits a pixel.")
    file = _of_size(file, height, width)
    entry = tf.where(old, tf.constant(3, tf.int64), tf.constant(4, tf.int64))
    colours = tf.where(old | (field(46, 4) == 0), tf.bitwise.left_shift(tf.ones((), tf.int64), bits), field(46, 4))
    start += tf.where((start == 14 + header) & (bits <= 8), entry * colours, 0)  # which counts no palette
    row = (width * bits + 31) // 32 * 4
    whole = start + row * height <= tf.cast(tf.strings.length(file), tf.int64)
    file = _demand(file, whole, "This BMP file is cut off.")
    content = tf.strings.substr(file, tf.cast(start, tf.int32), tf.cast(row * height, tf.int32))
    rows = tf.reshape(tf.io.decode_raw(content, tf.uint8), (height, row))
    table = tf.reshape(headers.byte_values(file, 14 + header, 256 * entry), (256, entry))[:, 2::-1]

    def indexed(depth):
        shifts = tf.constant(list(range(8 - depth, -1, -depth)), tf.uint8)
        index = tf.bitwise.bitwise_and(tf.bitwise.right_shift(rows[..., None], shifts), 2**depth - 1)
        index = tf.reshape(index, (height, row * (8 // depth)))[:, :width]
        return tf.gather(tf.cast(table, tf.uint8), tf.cast(index, tf.int32))

    def direct(size):
        return tf.reshape(rows[:, : width * size], (height, width, size))[..., 2::-1]

    choices = [(bits == depth, lambda depth=depth: indexed(depth)) for depth in (1, 4, 8)]
    image = tf.case([*choices, (bits == 24, lambda: direct(3))], default=lambda: direct(4))
    return tf.where(from_top, image, image[::-1])
