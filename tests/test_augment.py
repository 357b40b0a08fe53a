import numpy as np

from kerascnn.training.augment import augment, colour, colour_components, crop, cutout, flip, mixup, pca


def numbered(count, height, width):
    return np.arange(1, count * height * width + 1, dtype="uint16").reshape(count, height, width, 1)


def test_flip_mirrors_those_named_and_nothing_else():
    images = numbered(3, 2, 3)
    flipped = flip(images, np.array([True, False, True]))
    np.testing.assert_array_equal(flipped, [images[0, :, ::-1], images[1], images[2, :, ::-1]])


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


def test_translation_mirrors_the_border():
    image = np.tile(np.arange(1, 33, dtype="uint8")[:, None, None], (300, 1, 32, 1))
    moved = augment(image, np.random.default_rng(0), ("translate",), (32, 32))[:, :, 0, 0]
    assert {tuple(column[:3]) for column in moved} == {(3, 2, 1), (2, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5)}


def test_names_say_what_happens():
    images = numbered(50, 8, 8)
    draw = lambda: np.random.default_rng(3)  # noqa: E731
    np.testing.assert_array_equal(augment(images, draw(), (), (8, 8)), images)
    mirrored = np.arange(50) % 3 == 0
    mirrors = augment(images, draw(), ("flip",), (8, 8), mirrored=mirrored)
    np.testing.assert_array_equal(mirrors, flip(images, mirrored))
    np.testing.assert_array_equal(augment(images, draw(), ("crop",), (8, 8)), crop(images, draw(), (8, 8), 1))
    np.testing.assert_array_equal(augment(images, draw(), (), (6, 6)), crop(images, draw(), (6, 6), 0))


def test_cutout_hides_a_square_of_a_quarter_of_the_side():
    images = np.full((300, 8, 12, 3), 7, "uint8")
    hidden = (cutout(images, np.random.default_rng(0)) == 128).all(-1)
    assert hidden.sum((1, 2)).max() == 9  # side 12 // 4 = 3
    places = set()
    for one in hidden:
        rows, columns = np.where(one.any(1))[0], np.where(one.any(0))[0]
        assert one.sum() == len(rows) * len(columns)  # a rectangle, cut at the border
        places.add((rows[0], columns[0]))
    assert len(places) > 40
    assert hidden.any(0).all()  # every pixel may be hidden


def test_colour_changes_keep_shape_and_grey_stays_grey():
    rng = np.random.default_rng(0)
    images = rng.integers(60, 180, (200, 4, 4, 3), dtype="uint8")
    changed = colour(images, np.random.default_rng(1))
    assert changed.dtype == "uint8"
    ratio = changed.mean((1, 2, 3)) / images.mean((1, 2, 3))  # brightness alone moves the mean
    assert 0.79 < ratio.min() < 0.85
    assert 1.15 < ratio.max() < 1.21
    grey = np.repeat(images[..., :1], 3, -1)
    changed = colour(grey, np.random.default_rng(1))
    np.testing.assert_array_equal(changed[..., 0], changed[..., 2])


def test_colour_components_by_hand():
    """Half of the pixels 30 levels from the others along (1, 2, 2) / 3: a variance of 15 squared, and no other."""
    images = np.full((6, 2, 2, 3), 100, "uint8")
    images[::2] += np.array([10, 20, 20], "uint8")
    variances, directions = colour_components(images)
    np.testing.assert_allclose(variances, [0, 0, (15 / 255) ** 2], atol=1e-12)
    np.testing.assert_allclose(directions[:, 2], np.array([1, 2, 2]) / 3, atol=1e-9)
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(colour_components(images[:4], most=2)[0], 0, atol=1e-12)  # each second image


def test_colour_components_are_numpy_s():
    images = np.random.default_rng(0).integers(0, 256, (150, 3, 5, 3), dtype="uint8")
    variances, directions = colour_components(images)
    covariance = np.cov(images.reshape(-1, 3).T / 255, ddof=0)
    np.testing.assert_allclose(directions * variances @ directions.T, covariance, atol=1e-10)


def test_pca_noise_has_the_deviation_and_the_directions_of_the_components():
    """0.1 times the variance along the one direction there is, the same for all pixels of an image."""
    images = np.full((4000, 2, 2, 3), 128, "uint8")
    components = np.array([0, 0, 0.9]), np.linalg.qr(np.array([[0, 0, 1.0], [0, 1, 2], [1, 0, 2]])[:, ::-1])[0][:, ::-1]
    moved = pca(images, np.random.default_rng(1), components).astype(float) - images
    np.testing.assert_array_equal(moved, np.broadcast_to(moved[:, :1, :1], moved.shape))
    shift = moved[:, 0, 0]
    np.testing.assert_allclose(shift.std(0), 255 * 0.1 * 0.9 * np.array([1, 2, 2]) / 3, rtol=0.05)
    assert np.corrcoef(shift[:, 1], shift[:, 2])[0, 1] > 0.99
    np.testing.assert_array_equal(pca(images[..., :1], np.random.default_rng(1), components), images[..., :1])


def test_mixup_blends_images_and_labels_alike():
    labels = np.eye(4, dtype="float32")
    images = labels.reshape(4, 2, 2, 1)
    mixed, targets = mixup(images, labels, np.random.default_rng(0), alpha=1)
    np.testing.assert_allclose(mixed.reshape(4, 4), targets, rtol=1e-6)
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)
    assert (targets.max(1) < 1).any()
