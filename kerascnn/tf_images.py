"""Image files -> pixels as operations of a TensorFlow graph: what kerascnn.datasets does with Pillow.

JPEG and PNG files give the same pixels: JPEG files upright by their EXIF tag, PNG files with transparency over white.
Only the EXIF tag of a PNG file, a rarity, is not read here.
The size follows the rule of kerascnn.datasets.resize; where a sum is nearly a half, a level may
differ by 1 of 255. BMP and GIF files are read as TensorFlow reads them.
"""

import tensorflow as tf

from kerascnn.datasets.image_headers import ORIENTATION

# For each orientation 1 to 8: mirror left to right?, then quarter turns anticlockwise.
UPRIGHT = ((False, 0), (True, 0), (False, 2), (True, 2), (True, 1), (False, 3), (True, 3), (False, 1))
EXIF_BYTES = 1 << 16  # of a file's beginning that are searched: the tag stands in one of its first segments


def decode(file, channels):
    """One image file (a string tensor of its contents: JPEG, PNG, BMP or GIF) as uint8 (H, W, channels)."""
    image = tf.case(
        [
            (_begins(file, b"\xff\xd8\xff"), lambda: _jpeg(file)),
            (_begins(file, b"\x89PNG"), lambda: _png(file)),
        ],
        default=lambda: tf.io.decode_image(file, channels=3, expand_animations=False),
    )
    image.set_shape((None, None, 3))
    if channels == 3:
        return image
    grey = tf.reduce_sum(tf.cast(image, tf.int32) * [19595, 38470, 7471], -1, keepdims=True)
    return tf.cast((grey + 32768) // 65536, tf.uint8)


def resize(images, size):
    """Images (N, H, W, C) of any number type brought to `size` = (height, width), as float32 of whole numbers."""
    target_height, target_width = size
    shape = tf.shape(images)
    height, width = shape[1], shape[2]
    wide = width * target_height > height * target_width
    new_height = tf.where(wide, height, tf.maximum(1, width * target_height // target_width))
    new_width = tf.where(wide, tf.maximum(1, height * target_width // target_height), width)
    top, left = (height - new_height) // 2, (width - new_width) // 2
    images = images[:, top : top + new_height, left : left + new_width]
    for pass_size in ((new_height, target_width), size):
        images = tf.floor(tf.image.resize(images, pass_size, "bilinear", antialias=True) + 0.5)
    return images


def _begins(file, mark):
    return tf.strings.substr(file, 0, len(mark)) == mark


def _jpeg(file):
    """Upright RGB: the accurate inverse transform is the one that Pillow asks for."""
    image = tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE")
    turns = [lambda how=how: _turned(image, *how) for how in UPRIGHT]
    return tf.switch_case(_orientation(file) - 1, turns)


def _turned(image, mirror, quarters):
    return tf.image.rot90(tf.image.flip_left_right(image) if mirror else image, quarters)


def _png(file):
    """RGB over white."""
    image = tf.cast(tf.io.decode_png(file, channels=4), tf.int32)
    colour, alpha = image[..., :3], image[..., 3:]
    bits = tf.cast(tf.io.decode_raw(tf.strings.substr(file, 24, 1), tf.uint8)[0], tf.int32)  # of a sample, by IHDR
    opaque = tf.bitwise.left_shift(1, bits) - 1  # what libpng fills alpha with, also where colours have 8 bits by then
    alpha = tf.where((bits < 8) & tf.reduce_all(alpha == opaque), 255, alpha)
    return tf.cast((colour * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


def _orientation(file):
    """The EXIF orientation of a JPEG file, 1 to 8; 1 where it has none."""
    head = tf.cast(tf.io.decode_raw(tf.strings.substr(file, 0, EXIF_BYTES), tf.uint8), tf.int32)
    last = tf.size(head) - 1

    def number(at, length, little=False):
        """The unsigned number of `length` bytes at each place of `at`."""
        powers = [256**i for i in range(length)]
        places = at[..., None] + tf.range(length)
        digits = tf.gather(head, tf.clip_by_value(places, 0, last))
        return tf.reduce_sum(digits * tf.where(little, powers, powers[::-1]), -1)

    def another(at):  # a segment that is neither Exif nor the image itself
        marker = number(at, 2)
        return (at < last) & (marker >= 0xFFC0) & (marker != 0xFFDA) & ~exif(at)

    def exif(at):
        return (number(at, 2) == 0xFFE1) & (number(at + 4, 4) == 0x45786966)

    (at,) = tf.while_loop(another, lambda at: (at + 2 + number(at + 2, 2),), (tf.constant(2),))
    tiff = at + 10
    little = number(tiff, 2) == 0x4949
    table = tiff + number(tiff + 4, 4, little)
    entries = table + 2 + 12 * tf.range(number(table, 2, little))
    values = number(entries + 8, 2, little)[number(entries, 2, little) == ORIENTATION]
    found = exif(at) & (tf.size(values) > 0)
    value = tf.cond(found, lambda: values[0], lambda: 1)
    return tf.where((value >= 1) & (value <= 8), value, 1)
