"""Names of filters by the energy of their Fourier transform."""

import numpy as np

from kerascnn.studies.cs7011 import PATTERNS, SUMS, TABLE, named


def test_filters_are_named_by_what_they_look_like():
    """A filter that changes from left to right is a vertical stroke; turned, a horizontal one; a flat one is a blob."""
    step = np.array([[-1.0, 0, 1]] * 3)
    line = 3 * np.eye(3) - 1  # from the upper left to the lower right
    point = np.full((3, 3), -0.125)
    point[1, 1] = 1
    tiles = np.stack([step, step.T, line, np.ones((3, 3)), point])[..., None].repeat(3, -1)
    table = named(tiles.astype("float32"))
    assert table["pattern"].tolist() == ["vertical", "horizontal", "diagonal", "blob of colour", "no direction"]
    assert table["mean_share"].round(6).tolist() == [0, 0, 0, 1, 0]
    assert set(table["pattern"]) == set(PATTERNS)


def test_the_printed_sums_are_those_of_the_printed_table():
    sums = {what: count for what, _, count, *_ in SUMS}
    assert sum(TABLE.values()) == sums["all parameters"]
    assert sum(TABLE[f"conv{number}"] for number in (1, 2, 3, 4)) == sums["parameters in convolutional layers"]
    assert sums["trainable parameters"] + sums["parameters that are not trained"] == sums["all parameters"]
    assert sums["neurons in convolutional layers"] == 64 * 32**2 + 128 * 16**2 + 2 * 256 * 8**2
