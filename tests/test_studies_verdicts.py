"""The arithmetic of verdicts, by hand."""

import math

import pytest

from kerascnn.studies.frame.verdicts import (
    INCOMPARABLE,
    NOT_REPRODUCED,
    NOT_RUN,
    REPRODUCED,
    compared,
    interval,
)


def test_the_interval_of_several_runs_is_students():
    """Mean 2, deviation 1, n = 3: 2 +- 4.3027 / sqrt(3)."""
    assert interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, -0.484138, 4.484138), abs=1e-6)


def test_the_interval_of_one_accuracy_is_wilsons():
    """80 of 100: (80 + z^2 / 2 +- z sqrt(16 + z^2 / 4)) / (100 + z^2) with z = 1.959964."""
    assert interval([0.8], images=100) == pytest.approx((0.8, 0.711170, 0.866633), abs=1e-6)


def test_one_number_that_is_no_accuracy_has_no_interval():
    assert interval([0.5]) == (0.5, None, None)


@pytest.mark.parametrize(
    ("published", "sample", "options", "verdict", "why"),
    [
        (0.71, [0.70, 0.71, 0.72], {}, REPRODUCED, "in our interval"),
        (0.80, [0.700, 0.701, 0.702], {"better": "higher"}, NOT_REPRODUCED, "outside our interval"),
        (0.60, [0.700, 0.701, 0.702], {"better": "higher"}, REPRODUCED, "ours is better"),
        (0.60, [0.700, 0.701, 0.702], {"better": "lower"}, NOT_REPRODUCED, "outside our interval"),
        (0.80, [0.700, 0.701, 0.702], {"better": "lower"}, REPRODUCED, "ours is better"),
        (0.60, [0.700, 0.701, 0.702], {}, NOT_REPRODUCED, "outside our interval"),
        (0.706, [0.700, 0.701, 0.702], {"half": 0.005}, REPRODUCED, "in our interval"),  # 0.701 is printed as 0.71
        (0.88, [0.8], {"images": 100, "better": "higher"}, NOT_REPRODUCED, "outside our interval"),
        (0.86, [0.8], {"images": 100, "better": "higher"}, REPRODUCED, "in our interval"),
        (0.5, [0.6], {}, INCOMPARABLE, "1 run has no interval; more seeds give one"),
        (0.5, [0.4], {"better": "lower"}, REPRODUCED, "ours is better"),
        (0.5, [0.5004], {"half": 0.0005}, REPRODUCED, "as printed"),
        (None, [0.4], {}, INCOMPARABLE, "the source prints no value"),
        (0.5, [0.5], {"cannot": "other images"}, INCOMPARABLE, "other images"),
        (0.5, [], {}, NOT_RUN, ""),
        (0.5, [float("nan")], {}, NOT_REPRODUCED, "ours is not a number"),
        (27, [27], {"better": "exact"}, REPRODUCED, "equal"),
        (27, [28], {"better": "exact"}, NOT_REPRODUCED, "the counts differ"),
        (133e6, [132_863_336], {"better": "exact", "half": 0.5e6}, REPRODUCED, "rounds to it"),
        (132e6, [132_863_336], {"better": "exact", "half": 0.5e6}, NOT_REPRODUCED, "the counts differ"),
    ],
)
def test_verdicts(published, sample, options, verdict, why):
    result = compared(published, sample, **options)
    assert (result.verdict, result.why) == (verdict, why)
    assert result.n == len(sample)


def test_the_difference_is_ours_minus_the_published_value():
    result = compared(0.88, [0.82, 0.84], better="higher")
    assert result.difference == pytest.approx(-0.05)
    assert result.ours == pytest.approx(0.83)


def test_a_run_that_never_got_there_does_not_spoil_the_others():
    """Of 3, 5 and never, 4 is the mean of two."""
    judged = compared(5, [3, 5, math.nan])
    assert (judged.ours, judged.n, judged.difference, judged.verdict) == (4, 2, -1, REPRODUCED)
    assert judged.why == "in our interval; 2 of 3 reached it"
    never = compared(5, [math.nan, math.nan])
    assert (never.low, never.high, never.difference, never.n) == (None, None, None, 2)
    assert (never.verdict, never.why) == (NOT_REPRODUCED, "ours is not a number")
