"""When a trial is told to stop: by pencil."""

import math

import pytest

from tuning.stopping import best_so_far, rungs, should_stop


def test_the_rungs_are_powers_of_three_below_the_end():
    assert rungs(20) == [1, 3, 9]
    assert rungs(9) == [1, 3]
    assert rungs(1) == []


def test_the_best_so_far():
    assert best_so_far([1, 3, 2], "max") == [1, 3, 3]
    assert best_so_far([3, 1, 2], "min") == [3, 1, 1]


@pytest.mark.parametrize(("mine", "stops"), [(0.9, False), (0.75, False), (0.5, True)])
def test_of_six_on_a_rung_the_best_two_go_on(mine, stops):
    curves = {0: [mine], **{t: [0.1 * t + 0.2] for t in range(1, 6)}}  # 0.3 ... 0.7
    assert should_stop("halving", curves, 0, "max", 9) is stops
    assert should_stop("halving", {t: [-v for v in c] for t, c in curves.items()}, 0, "min", 9) is stops


def test_halving_decides_on_rungs_only_and_never_at_the_end():
    curves = {0: [0.1, 0.1], 1: [0.9, 0.9], 2: [0.9, 0.9], 3: [0.9, 0.9]}
    assert should_stop("halving", curves, 0, "max", 9) is False
    assert should_stop("halving", {**curves, 0: [0.1]}, 0, "max", 9) is True
    assert should_stop("halving", {**curves, 0: [0.1]}, 0, "max", 1) is False


def test_the_first_on_a_rung_goes_on():
    assert should_stop("halving", {0: [0.1]}, 0, "max", 9) is False


def test_the_median_rule_compares_with_the_means_of_the_others():
    others = {t: [0.0, 0.2 * t] for t in range(1, 6)}  # means 0.1 ... 0.5, median 0.3
    assert should_stop("median", {0: [0.0, 0.31], **others}, 0, "max", 9) is False
    assert should_stop("median", {0: [0.0, 0.29], **others}, 0, "max", 9) is True
    del others[5]
    assert should_stop("median", {0: [0.0, 0.0], **others}, 0, "max", 9) is False  # too few to judge


def test_a_score_that_is_no_number_is_left_to_training():
    assert should_stop("halving", {0: [-math.inf], 1: [1.0], 2: [1.0], 3: [1.0]}, 0, "max", 9) is False
