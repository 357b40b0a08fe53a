"""The one rule by which the whole project brings an image to a size: crop centrally to the target's shape, then resize.

The crop is in whole pixels and uses integer arithmetic only, so that a SavedModel can repeat it exactly:

    too wide (width * target_height > height * target_width): new_width = max(1, height * target_width // target_height)
    otherwise: new_height = max(1, width * target_height // target_width)
    top = (height - new_height + 1) // 2,  left = (width - new_width + 1) // 2

Where a margin is odd, the larger half is cut off above or on the left. `Preprocessing.crop`, which may cut the image
that a network sees from the result, rounds the other way, so that both together are never off the centre by more than
half a pixel.

The resize is bilinear with antialiasing (a triangle filter, widened by the scale when shrinking; pixel centres at
halves), Pillow's `Image.resize(..., BILINEAR)`, which rounds to 8 bits between its two passes, first across, then down.

Colours are changed before the size: grey to RGB repeats the channel; RGB to grey is Pillow's (and ITU-R 601-2's)
(19595 R + 38470 G + 7471 B + 32768) >> 16.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from kerascnn.errors import UsageError
from kerascnn.processes import num_cpus

# Below this many pixels an image is decoded or resized faster than threads can be told to do it.
PIXELS_WORTH_A_THREAD = 64 * 64


def as_size(image_size):
    """(height, width) from an int or a pair of ints; None stays None. Raises UsageError for anything else."""
    if image_size is None:
        return None
    pair = tuple(image_size) if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    if len(pair) != 2 or not all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in pair):
        raise UsageError(
            f"The image size must be a whole number of pixels or (height, width), not {image_size!r}: "
            "for example 32 or (48, 64)."
        )
    if min(pair) < 1:
        raise UsageError(f"The image size must be at least 1 pixel, not {image_size!r}.")
    return int(pair[0]), int(pair[1])


def crop_box(height, width, target_height, target_width):
    """(top, left, height, width) of the central crop that has the target's aspect ratio; see the module's rule."""
    if width * target_height > height * target_width:
        new_height, new_width = height, max(1, height * target_width // target_height)
    else:
        new_height, new_width = max(1, width * target_height // target_width), width
    return (height - new_height + 1) // 2, (width - new_width + 1) // 2, new_height, new_width


def fit(image, size):
    """A PIL image brought to `size` = (height, width) by the rule; the same object where it fits already."""
    from PIL import Image

    target_height, target_width = size
    width, height = image.size
    if (height, width) == (target_height, target_width):
        return image
    top, left, height, width = crop_box(height, width, target_height, target_width)
    box = (left, top, left + width, top + height)
    if (height, width) == (target_height, target_width):
        return image.crop(box)
    return image.crop(box).resize((target_width, target_height), Image.Resampling.BILINEAR)


def as_channels(images, channels):
    """uint8 (..., H, W, C) with `channels` channels (1 or 3) by the rule; the same array where it has them already."""
    if channels is None or images.shape[-1] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=-1)
    grey = images.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
    return ((grey + 32768) >> 16).astype(np.uint8)[..., None]


def resize(image, size, channels=None):
    """One image uint8 (H, W, C) brought to `size` = (height, width) and to `channels` by the rule; uint8."""
    from PIL import Image

    image = as_channels(image, channels)
    if image.shape[:2] == tuple(size):
        return image
    fitted = np.asarray(fit(Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image), size))
    return fitted.reshape(*size, image.shape[-1])


def resize_batch(images, size, channels=None):
    """Images uint8 (N, H, W, C) brought to `size` and `channels`; the same array where nothing has to change."""
    channels = channels or images.shape[-1]
    if images.shape[1:] == (*size, channels):
        return images
    if images.shape[1:3] == tuple(size):
        out = np.empty((*images.shape[:-1], channels), np.uint8)
        for start in range(0, len(images), 256):  # small pieces: the sums of a grey conversion are 32 bits wide
            out[start : start + 256] = as_channels(images[start : start + 256], channels)
        return out
    return stack(lambda i: resize(images[i], size, channels), len(images), (*size, channels), images.shape[1:3])


def stack(read, count, shape, read_size=(0, 0)):
    """uint8 (count, *shape), row i being read(i); by threads where images are large enough to gain from them.

    Args:
        read: int -> uint8 array of `shape`.
        count: number of rows.
        shape: (height, width, channels).
        read_size: (height, width) of what `read` starts from, where known.
    """
    out = np.empty((count, *shape), np.uint8)

    def fill(i):
        out[i] = read(i)

    for_each(fill, count, max(shape[0] * shape[1], read_size[0] * read_size[1]))
    return out


def for_each(work, count, pixels):
    """Call work(0) ... work(count - 1); in threads if an image has many `pixels`. The first error stops it."""
    workers = min(num_cpus(), count)
    if workers < 2 or pixels < PIXELS_WORTH_A_THREAD:
        for i in range(count):
            work(i)
        return

    def piece(start):
        for i in range(start, min(start + step, count)):
            work(i)

    step = max(1, min(32, count // workers))
    pool = ThreadPoolExecutor(workers)
    try:
        for _ in pool.map(piece, range(0, count, step)):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


class LazyImages:
    """Images that look like one uint8 array (N, H, W, C); each is made whenever its row is asked for.

    `images[3]`, `images[10:20]`, `images[[5, 2, 9]]` and boolean masks give arrays, made in threads. A class of them
    has `size` (height, width), `channels`, `index` (int (N,): the numbers of its images), `take(index)`, which makes
    nothing, and `_read(number)`; `read_size` is the size that images are read at.
    """

    dtype = np.dtype("uint8")
    ndim = 4

    def __len__(self):
        return len(self.index)

    @property
    def shape(self):
        return (len(self), *(self.size or (None, None)), self.channels)

    def decode(self):
        """All of them as one array."""
        return self[:]

    def __getitem__(self, index):
        rows = self.index[index]
        if rows.ndim == 0:
            return self._read(rows)
        return stack(lambda i: self._read(rows[i]), len(rows), self.shape[1:], self.read_size)

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[:], dtype)


class ResizedImages(LazyImages):
    """Images of one array, each brought to another size when it is asked for.

    For arrays that fit in memory as they are, but not at the size that a network wants (CIFAR-10 at 224x224 pixels
    would be 9 GB).

    Args:
        images: uint8 (N, H, W, C).
        size: (height, width) to give.
        channels: 1 or 3.
        index: int (n,), the rows of `images` that these are; None for all.
    """

    def __init__(self, images, size, channels, index=None):
        self.images, self.size, self.channels, self.read_size = images, tuple(size), channels, images.shape[1:3]
        self.index = np.arange(len(images)) if index is None else np.asarray(index)

    def take(self, index):
        """The images at `index`, none of them resized yet."""
        return ResizedImages(self.images, self.size, self.channels, self.index[index])

    def _read(self, row):
        return resize(self.images[row], self.size, self.channels)


def sides_of(scales):
    """The sides in text like "256,384", int, or None for None.

    Raises:
        UsageError: they are not different whole numbers.
    """
    if scales is None:
        return None
    parts = [part.strip() for part in scales.split(",")]
    sides = {int(part) for part in parts if part.isdecimal()}
    if len(sides) < len(parts) or 0 in sides:
        raise UsageError(f"scales={scales} is not allowed: give different whole numbers, such as 256,384,512.")
    return [int(part) for part in parts]
