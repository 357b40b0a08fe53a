"""Coloured geometric shapes on cluttered backgrounds, made here, each with the exact mask of its object.

For scoring explanations: it is known which pixels made an image what it is. The class enters an image through the
outline of its object and nothing else: background, colours, texture, place, size, angle and noise are drawn first,
without looking at the class, and all outlines of one size cover the same area. So only the shape can be learned.
"""

import functools

import numpy as np

from kerascnn.datasets import register
from kerascnn.datasets.image_data import ImageData, Split
from kerascnn.datasets.resize import as_size
from kerascnn.errors import UsageError

SMALLEST, LARGEST = 0.22, 0.42  # side of the square with the object's area, as a fraction of the image's shorter side
NUM_STROKES = 10


def _polygon(n):
    """A regular n-gon whose corners lie on the unit circle, one of them to the right."""
    normals = (2 * np.arange(n) + 1) * np.pi / n
    return lambda x, y: np.all([x * np.cos(a) + y * np.sin(a) <= np.cos(np.pi / n) for a in normals], axis=0)


def _star(x, y, points=5, inner=0.45):
    """A star whose tips lie on the unit circle and whose notches are at radius `inner`."""
    step = np.pi / points
    radius, angle = np.hypot(x, y), np.abs((np.arctan2(y, x) + step) % (2 * step) - step)
    u, v = radius * np.cos(angle), radius * np.sin(angle)  # folded into one half of one tip
    notch = inner * np.cos(step), inner * np.sin(step)
    return (1 - u) * notch[1] - v * (1 - notch[0]) >= 0


def _cross(x, y, arm=0.34):
    x, y, length = np.abs(x), np.abs(y), np.sqrt(1 - arm**2)
    return ((x <= arm) & (y <= length)) | ((y <= arm) & (x <= length))


# Each says which points of the unit disc are inside; the class names, in order of their labels.
OUTLINES = {
    "circle": lambda x, y: x**2 + y**2 <= 1,
    "crescent": lambda x, y: (x**2 + y**2 <= 1) & ((x - 0.5) ** 2 + y**2 > 0.75**2),
    "cross": _cross,
    "hexagon": _polygon(6),
    "ring": lambda x, y: (x**2 + y**2 <= 1) & (x**2 + y**2 >= 0.6**2),
    "square": _polygon(4),
    "star": _star,
    "triangle": _polygon(3),
}


@register(description="coloured shapes with masks, made by seed", image_shape=(64, 64, 3), num_classes=8)
def shapes(path=None, *, image_size=64, count=4000, seed=0):
    """Coloured shapes on cluttered backgrounds, with the mask of each object.

    Args:
        image_size: int or (height, width), at least 16 pixels each.
        count: number of images; the first ones are the same whatever the count. Classes are equal, but for a remainder.
        seed: a whole number from 0 up; it decides everything.
    Returns:
        ImageData with one split, `train`, that has masks.
    """
    height, width = as_size(image_size)
    if min(height, width) < 16:
        raise UsageError(
            f"Shapes need at least 16x16 pixels to be told apart, not {height}x{width}. Give image_size=16 or more."
        )
    if isinstance(count, bool) or not isinstance(count, int) or count < 2 * len(OUTLINES):
        raise UsageError(f"count must be a whole number of at least {2 * len(OUTLINES)} images, not {count!r}.")
    images = np.empty((count, height, width, 3), np.uint8)
    masks = np.empty((count, height, width), bool)
    labels = np.empty(count, np.int64)
    for i in range(count):
        block, place = divmod(i, len(OUTLINES))
        labels[i] = np.random.default_rng([seed, block, 1]).permutation(len(OUTLINES))[place]
        images[i], masks[i] = draw(labels[i], np.random.default_rng([seed, i]), height, width)
    return ImageData(
        name="shapes",
        source=f"kerascnn.datasets.shapes, {count:,} images of {height}x{width} pixels, seed {seed}",
        class_names=tuple(OUTLINES),
        train=Split(images, labels, masks=masks),
    )


def draw(label, rng, height, width):
    """One image with an object of class `label`: uint8 (H, W, 3) and its mask, bool (H, W).

    The random numbers are drawn in the same order whatever the label: with generators of one seed, two classes differ
    only where one of the masks is.
    """
    colours = rng.uniform(20, 235, (3, 3))  # two of the background and one of its patches
    background = _background(colours, rng, height, width)
    side = rng.uniform(SMALLEST, LARGEST) * min(height, width)
    reach = side * _largest_radius()
    top, left = rng.uniform(reach, height - reach), rng.uniform(reach, width - reach)
    angle = rng.uniform(0, 2 * np.pi)
    candidates = rng.uniform(20, 235, (8, 3))  # the first that is far from the colours around it, else the farthest
    distance = np.linalg.norm(candidates[:, None] - colours, axis=2).min(axis=1)
    colour = candidates[np.argmax(distance > 100) if (distance > 100).any() else np.argmax(distance)]
    texture = _smooth(rng.uniform(-25, 25, (4, 4, 3)), height, width)
    noise = rng.normal(0, 6, (height, width, 3))

    y, x = np.arange(height)[:, None] + 0.5 - top, np.arange(width)[None] + 0.5 - left
    scale = side * _radius(tuple(OUTLINES)[label])
    u, v = (x * np.cos(angle) + y * np.sin(angle)) / scale, (y * np.cos(angle) - x * np.sin(angle)) / scale
    mask = list(OUTLINES.values())[label](u, v)
    image = np.where(mask[..., None], colour + texture, background)
    return np.clip(image + noise, 0, 255).astype(np.uint8), mask


def _background(colours, rng, height, width):
    """float (H, W, 3): two colours running into each other, irregular patches of a third, and straight strokes."""
    from PIL import Image, ImageDraw

    mix = _smooth(rng.uniform(0, 1, (3, 3, 1)), height, width)
    background = mix * colours[0] + (1 - mix) * colours[1] + _smooth(rng.uniform(-30, 30, (6, 6, 3)), height, width)
    patches = _smooth(rng.uniform(0, 1, (7, 7, 1)), height, width) > 0.62
    canvas = Image.fromarray(np.clip(np.where(patches, colours[2], background), 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(canvas)
    ends = rng.uniform(0, 1, (NUM_STROKES, 4)) * [width, height, width, height]
    strokes = rng.integers(0, 256, (NUM_STROKES, 3))
    thickness = rng.integers(1, max(2, min(height, width) // 24) + 1, NUM_STROKES)
    for line, stroke, thick in zip(ends, strokes, thickness, strict=True):
        pen.line(tuple(line), fill=tuple(int(s) for s in stroke), width=int(thick))
    return np.asarray(canvas, float)


def _smooth(grid, height, width):
    """A small grid (rows, cols, C) stretched bilinearly to (height, width, C)."""
    rows, cols, channels = grid.shape
    down = (_stretch(rows, height) @ grid.reshape(rows, -1)).reshape(height, cols, channels)
    return _stretch(cols, width) @ down


@functools.cache
def _stretch(n, length):
    """Weights (length, n) of linear interpolation between n knots spread over `length` pixels."""
    place = np.linspace(0, n - 1, length)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(n)))


@functools.cache
def _radius(name):
    """The radius of the circle around an outline, where the outline covers the area 1."""
    line = (np.arange(1000) + 0.5) / 500 - 1
    inside = OUTLINES[name](line[None], line[:, None])
    return 1 / np.sqrt(4 * inside.mean())


@functools.cache
def _largest_radius():
    return max(_radius(name) for name in OUTLINES)
