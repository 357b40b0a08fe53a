import numpy as np

from kerascnn.training.augment import augment, crop, flip


def numbered(count, height, width):
    return np.arange(1, count * height * width + 1, dtype="uint16").reshape(count, height, width, 1)


def test_flip_mirrors_about_half_and_nothing_else():
    images = numbered(400, 2, 3)
    flipped = flip(images, np.random.default_rng(0))
    mirrored = (flipped == images[:, :, ::-1]).all((1, 2, 3))
    same = (flipped == images).all((1, 2, 3))
    assert (mirrored ^ same).all()
    assert 160 < mirrored.sum() < 240  # 400 fair coins: four standard deviations are 40


def test_crops_are_windows_at_every_place():
    images = numbered(500, 4, 5)
    cut = crop(images, np.random.default_rng(0), (3, 3), 0)
    assert cut.shape == (500, 3, 3, 1)
    places = set()
    for image, window in zip(images[..., 0], cut[..., 0], strict=True):
        row, column = np.argwhere(image == window[0, 0])[0]
        np.testing.assert_array_equal(window, image[row : row + 3, column : column + 3])
        places.add((row, column))
    assert places == {(r, c) for r in range(2) for c in range(3)}


def test_padding_brings_zeros_in():
    cut = crop(numbered(300, 2, 2), np.random.default_rng(0), (2, 2), 1)
    assert {int((window == 0).sum()) for window in cut} == {0, 2, 3}  # unshifted, along a side, along a diagonal


def test_names_say_what_happens():
    images = numbered(50, 8, 8)
    draw = lambda: np.random.default_rng(3)  # noqa: E731
    np.testing.assert_array_equal(augment(images, draw(), (), (8, 8)), images)
    np.testing.assert_array_equal(augment(images, draw(), ("flip",), (8, 8)), flip(images, draw()))
    np.testing.assert_array_equal(augment(images, draw(), ("crop",), (8, 8)), crop(images, draw(), (8, 8), 1))
    np.testing.assert_array_equal(augment(images, draw(), (), (6, 6)), crop(images, draw(), (6, 6), 0))
