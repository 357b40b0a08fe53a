"""Tables about predictions, by pencil and against scikit-learn called by hand."""

import numpy as np
import pandas
import pytest

from kerascnn.training.measures import by_image, calibration, confused_pairs, ranking

NAMES = ("cat", "dog", "sea")
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.25, 0.25, 0.5], [0.0, 0.9, 0.1]])
LABELS = np.array([0, 0, 2, 2])


def test_a_row_an_image():
    logs = np.log(np.maximum(PROBABILITIES, 1e-300))
    table = by_image(logs, LABELS, NAMES, ["a.png", "b.png", "c.png", "d.png"], split="validation", top=2)
    assert list(table["file"]) == ["a.png", "b.png", "c.png", "d.png"]
    assert set(table["split"]) == {"validation"}
    assert list(table["label"]) == ["cat", "cat", "sea", "sea"]
    assert list(table["predicted"]) == ["cat", "dog", "sea", "dog"]
    assert list(table["correct"]) == [True, False, True, False]
    np.testing.assert_allclose(table["loss"], -np.log([0.7, 0.4, 0.5, 0.1]))
    np.testing.assert_allclose(table["margin"], [0.5, -0.1, 0.25, -0.8])
    assert list(table["label_2"]) == ["dog", "cat", "cat", "sea"]  # of equals, the first class
    np.testing.assert_allclose(table["probability_2"], [0.2, 0.4, 0.25, 0.1])
    assert "label_3" not in table
    assert list(by_image(logs, LABELS, NAMES)["file"]) == [0, 1, 2, 3]


def test_a_confident_mistake_costs_what_its_score_says():
    assert by_image([[-900.0, 0.0]], [0], NAMES[:2])["loss"][0] == 900


def test_calibration_by_pencil():
    """In halves: 0.5, 0.5 and 0.4 lie in the lower one, 0.7 and 0.9 in the upper one."""
    probabilities = [[0.5, 0.5, 0.0], [0.25, 0.25, 0.5], [0.3, 0.3, 0.4], [0.7, 0.2, 0.1], [0.0, 0.9, 0.1]]
    table, error = calibration(probabilities, [0, 2, 0, 0, 0], bins=2)
    assert list(table["images"]) == [3, 2]
    np.testing.assert_allclose(table["confidence"], [1.4 / 3, 0.8])
    np.testing.assert_allclose(table["accuracy"], [2 / 3, 0.5])
    assert error == pytest.approx((3 * (2 / 3 - 1.4 / 3) + 2 * 0.3) / 5)


def test_a_classifier_that_is_as_sure_as_it_is_right_has_no_calibration_error():
    probabilities = np.tile([0.75, 0.25], (8, 1))
    assert calibration(probabilities, [0, 0, 0, 1] * 2)[1] == pytest.approx(0)
    table, _ = calibration(probabilities, [0, 0, 0, 1] * 2)
    assert (table["low"][0], table["high"][0]) == pytest.approx((11 / 15, 12 / 15))


def test_ranking_by_counting_pairs():
    """The area under the ROC curve is the share of pairs, one of the class and one not, in the right order."""
    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet(np.ones(4), 60), rng.integers(0, 3, 60)
    table = ranking(probabilities, labels, (*NAMES, "nobody")).set_index("class")
    for number, name in enumerate(NAMES):
        score = probabilities[:, number]
        pairs = score[labels == number][:, None] - score[labels != number][None]
        assert table["roc_auc"][name] == pytest.approx((pairs > 0).mean())
        ordered = (labels == number)[np.argsort(-score)]
        precision = np.cumsum(ordered) / np.arange(1, 61)
        assert table["average_precision"][name] == pytest.approx(precision[ordered].mean())
    assert table.loc["nobody"].isna().all()


def test_confused_pairs():
    confusion = pandas.DataFrame([[8, 2, 0], [0, 5, 5], [1, 2, 7]], index=NAMES, columns=NAMES)
    table = confused_pairs(confusion, most=3)
    assert table.to_numpy().tolist() == [["dog", "sea", 5, 0.5], ["cat", "dog", 2, 0.2], ["sea", "dog", 2, 0.2]]
    assert len(confused_pairs(confusion)) == 4
