"""The resize rule, against a pencil and against a triangle filter written as loops."""

import numpy as np
import pytest
from PIL import Image

from kerascnn.datasets.preprocessing import Preprocessing
from kerascnn.datasets.resize import ResizedImages, as_channels, as_size, crop_box, for_each, resize, resize_batch
from kerascnn.errors import UsageError


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "target", "box"),
    [
        (100, 200, (50, 50), (0, 50, 100, 100)),
        (200, 100, (50, 50), (50, 0, 100, 100)),
        (5, 3, (2, 2), (1, 0, 3, 3)),
        (7, 10, (3, 4), (0, 1, 7, 9)),  # 7 * 4 / 3 = 9.33; (10 - 9 + 1) // 2 = 1
        (4, 3, (1, 1), (1, 0, 3, 3)),  # (4 - 3 + 1) // 2 = 1
        (10, 21, (1, 2), (0, 1, 10, 20)),  # one column too many
        (1, 1000, (1000, 1), (0, 500, 1, 1)),
        (8, 8, (8, 8), (0, 0, 8, 8)),
    ],
)
def test_crop_box_by_pencil(height, width, target, box):
    assert crop_box(height, width, *target) == box


@pytest.mark.parametrize("height", range(240, 250))
def test_a_crop_from_the_cropped_image_is_central(height):
    # 240 rows are cut first, then the network's 227: together what one cut of 227 rows would be, to half a pixel
    image = np.broadcast_to(np.arange(height, dtype=np.uint8)[:, None, None], (height, 240, 1))
    cut = Preprocessing((240, 240), (227, 227), 1, (0.0,), (1.0,)).crop(resize(image, (240, 240))[None])[0, :, 0, 0]
    assert cut[0] == (height - 227) // 2
    assert len(cut) == 227


def test_halving_by_pencil():
    # The triangle filter of half-width 2 weighs the nearest three of four columns 3/7, 3/7, 1/7.
    image = np.tile(np.array([0, 0, 70, 140], np.uint8), (4, 1))[..., None]
    np.testing.assert_array_equal(resize(image, (2, 2))[..., 0], [[10, 90], [10, 90]])


def test_doubling_by_pencil():
    image = np.tile(np.array([0, 100], np.uint8), (2, 1))[..., None]
    np.testing.assert_array_equal(resize(image, (4, 4))[0, :, 0], [0, 25, 75, 100])


def triangle_resize(image, size):
    """The rule once more, as loops in float64: crop, then a triangle filter along each axis."""
    top, left, height, width = crop_box(*image.shape[:2], *size)
    out = image[top : top + height, left : left + width].astype(float)
    for axis, target in enumerate(size):
        length = out.shape[axis]
        scale = length / target
        reach = max(scale, 1.0)
        weights = np.zeros((target, length))
        for i in range(target):
            for j in range(length):
                weights[i, j] = max(0.0, 1 - abs((j + 0.5) - (i + 0.5) * scale) / reach)
        weights /= weights.sum(axis=1, keepdims=True)
        out = np.moveaxis(np.tensordot(weights, out, (1, axis)), 0, axis)
    return out


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("source", "target"), [((9, 13), (6, 6)), ((8, 8), (32, 32)), ((40, 21), (7, 5)), ((5, 5), (5, 4))]
)
def test_resize_is_a_crop_and_a_triangle_filter(source, target, channels):
    image = noise(*source, channels)
    # Pillow rounds to 8 bits after each of its two passes: half a level twice
    np.testing.assert_allclose(resize(image, target), triangle_resize(image, target), atol=1.01)


@pytest.mark.slow
@pytest.mark.parametrize(("source", "target"), [((37, 53), (16, 16)), ((8, 8), (32, 32)), ((300, 200), (64, 48))])
def test_tensorflow_repeats_the_rule(source, target):
    tf = pytest.importorskip("tensorflow")
    image = noise(*source, 3)
    top, left, height, width = crop_box(*source, *target)
    crop = image[top : top + height, left : left + width]
    theirs = tf.image.resize(crop, target, "bilinear", antialias=True).numpy()
    np.testing.assert_allclose(resize(image, target), theirs, atol=1.01)


def test_grey_is_pillows_grey():
    image = noise(16, 16, 3)
    np.testing.assert_array_equal(as_channels(image, 1)[..., 0], np.asarray(Image.fromarray(image).convert("L")))
    np.testing.assert_array_equal(as_channels(np.array([[[255, 255, 255]]], np.uint8), 1), [[[255]]])


def test_grey_to_colour_repeats():
    np.testing.assert_array_equal(as_channels(np.array([[[7]]], np.uint8), 3), [[[7, 7, 7]]])


def test_a_batch_is_its_images():
    images = noise(5, 70, 90, 3)
    batch = resize_batch(images, (64, 64), 1)
    assert batch.shape == (5, 64, 64, 1)
    for one, image in zip(batch, images, strict=True):
        np.testing.assert_array_equal(one, resize(image, (64, 64), 1))


def test_what_fits_is_not_touched():
    images = noise(3, 8, 8, 3)
    assert resize_batch(images, (8, 8)) is images
    assert resize(images[0], (8, 8)).base is images


def test_resized_images_are_the_resized_batch():
    images = noise(6, 10, 12, 3)
    lazy, eager = ResizedImages(images, (8, 8), 3), resize_batch(images, (8, 8), 3)
    assert (len(lazy), lazy.shape, lazy.dtype) == (6, (6, 8, 8, 3), np.uint8)
    np.testing.assert_array_equal(lazy.decode(), eager)
    np.testing.assert_array_equal(lazy[-1], eager[-1])
    np.testing.assert_array_equal(lazy[[4, 1]], eager[[4, 1]])
    np.testing.assert_array_equal(lazy.take([5, 0, 3]).take([2, 1])[:], eager[[3, 0]])
    np.testing.assert_array_equal(np.asarray(lazy), eager)


@pytest.mark.parametrize("pixels", [1, 64 * 64])
def test_for_each_visits_each_once_and_hands_on_the_error(pixels):
    seen = []
    for_each(seen.append, 100, pixels)
    assert sorted(seen) == list(range(100))
    with pytest.raises(ZeroDivisionError):
        for_each(lambda i: 1 // (i - 50), 100, pixels)


def test_sizes():
    assert as_size(None) is None
    assert as_size(32) == (32, 32)
    assert as_size([48, np.int64(64)]) == (48, 64)
    for bad in (0, -1, "32", 3.5, (1, 2, 3), True):
        with pytest.raises(UsageError, match="image size"):
            as_size(bad)
