"""Ensembles by pencil: equals are as good as one, and networks with different mistakes are better."""

import numpy as np
import pytest

from kerascnn.errors import UsageError
from kerascnn.experiments.ensemble import ensemble

LABELS = np.array([0, 0, 1, 1])


def certain(answers, strength=0.8):
    """Probabilities of two classes from the class that each answer prefers."""
    second = np.where(np.array(answers) == 1, strength, 1 - strength)
    return np.stack([1 - second, second], 1)


def test_an_ensemble_of_equals_is_one_network():
    one = certain([0, 1, 1, 1])
    result = ensemble({"a": one, "b": one, "c": one}, LABELS)
    assert result.table["error"].tolist() == [0.25] * 5
    # Wilson: (1/4 + z^2/8 -+ z sqrt(3/64 + z^2/64)) / (1 + z^2/4) with z = 1.96
    np.testing.assert_allclose(result.table.loc[0, ["low", "high"]].astype(float), [0.0456, 0.6994], atol=1e-4)
    np.testing.assert_allclose(result.table["loss"], -(3 * np.log(0.8) + np.log(0.2)) / 4)
    np.testing.assert_allclose(result.arrays["correlation"], np.ones((3, 3)))
    assert "not measurably different from the best of them, a: 25.00% against 25.00%" in result.findings[0]


def test_different_mistakes_cancel():
    """Each of three networks is wrong once, elsewhere, so that two of three are right everywhere."""
    members = {"a": certain([1, 0, 1, 1]), "b": certain([0, 1, 1, 1]), "c": certain([0, 0, 0, 1])}
    result = ensemble(members, LABELS)
    table = result.table.set_index("members")
    assert table["error"][["a", "b", "c"]].tolist() == [0.25] * 3
    assert table["error"]["a + b + c"] == 0
    np.testing.assert_allclose(table["loss"]["a + b + c"], -(3 * np.log(0.6) + np.log(0.8)) / 4)
    np.testing.assert_allclose(result.arrays["correlation"][0], [1, -1 / 3, -1 / 3])


@pytest.mark.parametrize("wrong", [[[2.0, 1.0]] * 4, [[1.5, -0.5]] * 4])
def test_scores_are_no_probabilities(wrong):
    with pytest.raises(
        UsageError, match="The answers of 'b' are not probabilities: values must be 0 or more, and each"
    ):
        ensemble({"a": certain([0, 1, 1, 1]), "b": np.array(wrong)}, LABELS)


def test_its_figure_and_files(tmp_path):
    result = ensemble({"a": certain([1, 0, 1, 1]), "b": certain([0, 0, 1, 1])}, LABELS)
    assert result.save(tmp_path).exists()
    assert (tmp_path / "ensemble.csv").read_text().splitlines()[3].startswith("a + b,2,")
    assert len(result.figure().axes) == 2


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a": certain([0, 0, 1, 1])}, "two or more networks; 1 given"),
        ({"a": certain([0, 0, 1, 1]), "b": certain([0, 1])}, r"'b' have the shape \(2, 2\); \(4, 2\) is needed"),
        ({"a": np.ones((4, 1)), "b": np.ones((4, 1))}, "labels from 0 to 1 are not allowed: there are 1 classes"),
    ],
)
def test_bad_input(members, message):
    with pytest.raises(UsageError, match=message):
        ensemble(members, LABELS)
