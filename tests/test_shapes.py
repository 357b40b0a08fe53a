"""Shapes: the mask is exact, and the class is in the outline and nowhere else."""

import numpy as np
import pytest

from kerascnn.datasets import load
from kerascnn.datasets.shapes import LARGEST, OUTLINES, SMALLEST, draw, shapes
from kerascnn.errors import UsageError

NUM = len(OUTLINES)


def test_two_classes_differ_only_where_a_mask_is():
    for i in range(5):
        drawn = [draw(label, np.random.default_rng([3, i]), 64, 64) for label in range(NUM)]
        for image, mask in drawn[1:]:
            first, first_mask = drawn[0]
            np.testing.assert_array_equal(image[~(mask | first_mask)], first[~(mask | first_mask)])
            np.testing.assert_array_equal(image[mask & first_mask], first[mask & first_mask])
            assert (image[mask ^ first_mask] != first[mask ^ first_mask]).any(axis=1).mean() > 0.98


def test_all_outlines_cover_the_same_area():
    for i in range(5):
        areas = [draw(label, np.random.default_rng(i), 128, 128)[1].sum() for label in range(NUM)]
        np.testing.assert_allclose(areas, np.mean(areas), rtol=0.03)
        assert SMALLEST**2 * 128**2 * 0.97 < np.mean(areas) < LARGEST**2 * 128**2 * 1.03


def test_outlines_by_pencil():
    inside = {name: [bool(outline(np.array(x), np.array(y))) for x, y in POINTS] for name, outline in OUTLINES.items()}
    assert inside == {
        "circle": [True, True, True, True],
        "crescent": [False, False, True, True],
        "cross": [True, True, True, False],
        "hexagon": [True, True, True, True],
        "ring": [False, True, True, True],
        "square": [True, True, True, False],
        "star": [True, True, False, False],
        "triangle": [True, True, False, False],
    }


POINTS = [(0, 0), (0.7, 0.0), (-0.82, 0.0), (-0.55, 0.6)]


def test_outlines_stay_in_the_unit_circle():
    around = np.linspace(0, 2 * np.pi, 50)
    for name, outline in OUTLINES.items():
        assert not outline(1.01 * np.cos(around), 1.01 * np.sin(around)).any(), name


def test_the_seed_and_the_index_decide_everything():
    few, many = shapes(count=16, seed=4).train, shapes(count=40, seed=4).train
    np.testing.assert_array_equal(few.images, many.images[:16])
    np.testing.assert_array_equal(few.masks, many.masks[:16])
    np.testing.assert_array_equal(few.labels, many.labels[:16])
    assert (shapes(count=16, seed=5).train.images != few.images).any()


def test_classes_are_equal_but_for_a_remainder():
    assert np.bincount(shapes(count=48, image_size=16).train.labels).tolist() == [6] * NUM
    assert sorted(np.bincount(shapes(count=44, image_size=16).train.labels)) == [5] * 4 + [6] * 4


def test_any_size():
    data = load("shapes", image_size=(20, 48), count=24, test=0, validation=0)
    assert data.image_shape == (20, 48, 3)
    assert data.train.masks.shape == (24, 20, 48)


def test_bad_options():
    with pytest.raises(UsageError, match="at least 16x16 pixels"):
        load("shapes", image_size=8)
    with pytest.raises(UsageError, match="count must be a whole number of at least 16 images, not 3"):
        load("shapes", count=3)
