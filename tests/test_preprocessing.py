import json
import tracemalloc

import numpy as np
import pytest

from kerascnn.datasets.preprocessing import Preprocessing
from kerascnn.errors import DataError


def test_two_pixels_by_pencil():
    images = np.array([[[[0]], [[255]]]], "uint8")  # one image, 2x1: mean 1/2, standard deviation 1/2
    prepared = Preprocessing.fit(images, image_size=(2, 1), normalize="standard")
    assert prepared.mean == (0.5,)
    assert prepared.std == (0.5,)
    np.testing.assert_allclose(prepared(images)[0, :, 0, 0], [-1, 1], atol=1e-6)


@pytest.mark.parametrize(("normalize", "mean", "std"), [("none", 0, 1), ("mean", 0.2, 1), ("standard", 0.2, 1e-3)])
def test_what_is_subtracted_and_divided(normalize, mean, std):
    images = np.full((3, 4, 4, 3), 51, "uint8")  # 51 / 255 = 0.2; a spread of 0 is taken as 1e-3
    prepared = Preprocessing.fit(images, image_size=(4, 4), normalize=normalize)
    np.testing.assert_allclose(prepared.mean, [mean] * 3, atol=1e-12)
    np.testing.assert_allclose(prepared.std, [std] * 3, atol=1e-12)


def test_mean_and_spread_agree_with_numpy_in_float64():
    images = np.random.default_rng(0).integers(0, 256, (700, 6, 5, 3), "uint8")
    prepared = Preprocessing.fit(images, image_size=(6, 5), normalize="standard")
    np.testing.assert_allclose(prepared.mean, (images / 255).mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(prepared.std, (images / 255).std((0, 1, 2)), rtol=1e-9)
    scaled = prepared(images)
    assert scaled.dtype == "float32"
    np.testing.assert_allclose(scaled, (images / 255 - prepared.mean) / prepared.std, atol=1e-5)


def test_a_large_set_is_sampled_evenly():
    images = np.repeat(np.arange(100, dtype="uint8"), 4).reshape(100, 2, 2, 1)
    sampled = Preprocessing.fit(images, image_size=(2, 2), normalize="mean", most=10)
    np.testing.assert_allclose(sampled.mean, [np.arange(0, 100, 10).mean() / 255])


class _Decoded:
    """150 MiB of images that are made when they are asked for, as `ImageFiles` decodes them."""

    shape = (800, 256, 256, 3)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        return np.broadcast_to(rows.astype("uint8")[:, None, None, None], (len(rows), *self.shape[1:])).copy()


def test_few_images_are_held_at_a_time():
    tracemalloc.start()
    try:
        prepared = Preprocessing.fit(_Decoded(), image_size=(256, 256), normalize="standard")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    levels = np.arange(800) % 256
    np.testing.assert_allclose(prepared.mean, [levels.mean() / 255] * 3)
    np.testing.assert_allclose(prepared.std, [levels.std() / 255] * 3)
    assert peak < 60 * 2**20


def test_the_centre_is_cut():
    images = np.arange(5 * 6, dtype="uint8").reshape(1, 5, 6, 1)
    prepared = Preprocessing((5, 6), (3, 2), 1, (0.0,), (1.0,))
    np.testing.assert_array_equal(prepared.crop(images)[0, :, :, 0], [[8, 9], [14, 15], [20, 21]])


def test_it_survives_json():
    prepared = Preprocessing((5, 6), (3, 2), 3, (0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    assert Preprocessing.from_dict(json.loads(json.dumps(prepared.to_dict()))) == prepared


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": "x"}, "mean is 'x'"),
        ({"mean": [0.5]}, r"mean is \[0\.5\]"),
        ({"std": [0.0, 1.0, 1.0]}, r"std is \[0\.0, 1\.0, 1\.0\]"),
        ({"std": [float("nan"), 1.0, 1.0]}, r"std is \[nan"),
        ({"image_size": [0, 8]}, r"image_size is \[0, 8\]"),
        ({"resize_to": [10**6, 10**6]}, r"resize_to is \[1000000, 1000000\]"),
        ({"channels": True}, "channels is True"),
        ({"more": 1}, "it has the fields resize_to, .*, more"),
    ],
)
def test_a_damaged_preprocessing_is_named(change, message):
    whole = Preprocessing((8, 8), (8, 8), 3, (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)).to_dict()
    assert Preprocessing.from_dict(json.loads(json.dumps(whole))).to_dict() == whole
    with pytest.raises(DataError, match=f"The preprocessing in data.json is damaged: {message}"):
        Preprocessing.from_dict(whole | change)
