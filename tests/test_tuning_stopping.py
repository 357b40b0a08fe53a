"""When a trial is told to stop: by pencil."""

import math

import pytest

from tuning.stopping import below_median, best_so_far, rungs, who_goes_on


def test_the_rungs_are_a_ninth_and_a_third():
    assert [rungs(epochs) for epochs in (1, 2, 3, 9, 12, 20, 27)] == [[], [1], [1], [1, 3], [1, 4], [2, 7], [3, 9]]


def test_the_best_so_far():
    assert best_so_far([1, 3, 2], "max") == [1, 3, 3]
    assert best_so_far([3, 1, 2], "min") == [3, 1, 1]


SIX = {trial: [0.1 * trial] for trial in range(6)}


@pytest.mark.parametrize(("direction", "order"), [("max", [5, 4]), ("min", [0, 1])])
def test_of_six_on_a_rung_the_best_two_go_on_best_first(direction, order):
    paused, chosen = dict.fromkeys(SIX, 1), []
    while (trial := who_goes_on(SIX, paused, direction, 9, exhausted=True)) is not None:
        chosen.append(trial)
        del paused[trial]
    assert chosen == order


def test_a_third_is_rounded_down_while_others_may_come():
    five = {trial: SIX[trial] for trial in range(5)}
    assert who_goes_on(five, {4: 1}, "max", 9, exhausted=False) == 4
    assert who_goes_on(five, {3: 1}, "max", 9, exhausted=False) is None
    assert who_goes_on(five, {3: 1}, "max", 9, exhausted=True) == 3
    assert who_goes_on({0: [0.5]}, {0: 1}, "max", 9, exhausted=False) is None
    assert who_goes_on({0: [0.5]}, {0: 1}, "max", 9, exhausted=True) == 0


def test_the_highest_rung_comes_first_and_counts_the_best_up_to_it():
    curves = {**SIX, 6: [0.9, 0.9, 0.9, 0.0], 7: [0.8, 0.1, 0.1], 8: [0.7, 0.1, 0.1]}
    assert who_goes_on(curves, {5: 1, 6: 3}, "max", 9, exhausted=False) == 6
    assert who_goes_on(curves, {5: 1, 7: 3}, "max", 9, exhausted=False) is None  # 6, 7 and 8 are the third of nine
    assert who_goes_on({**curves, 8: [0.45]}, {5: 1}, "max", 9, exhausted=False) == 5


def test_the_earlier_of_equals_goes_on():
    assert who_goes_on({0: [0.5], 1: [0.5]}, {0: 1, 1: 1}, "max", 9, exhausted=True) == 0


def test_the_median_rule_compares_with_the_means_of_the_others():
    others = {t: [0.0, 0.2 * t] for t in range(1, 6)}  # means 0.1 ... 0.5, median 0.3
    assert below_median({0: [0.0, 0.31], **others}, 0, "max") is False
    assert below_median({0: [0.0, 0.29], **others}, 0, "max") is True
    del others[5]
    assert below_median({0: [0.0, 0.0], **others}, 0, "max") is False  # too few to judge


def test_a_score_that_is_no_number_is_left_to_training():
    assert below_median({0: [-math.inf], **{t: [1.0] for t in range(1, 6)}}, 0, "max") is False
