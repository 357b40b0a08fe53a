"""Is a published value reproduced? Pure arithmetic on numbers: an interval of ours, and a verdict."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from kerascnn.experiments.outcome import mean_interval

REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
INCOMPARABLE, NOT_RUN = "cannot be compared", "not run"
WORDS = (REPRODUCED, NOT_REPRODUCED, INCOMPARABLE, NOT_RUN)


@dataclass(frozen=True)
class Compared:
    """Ours beside the published value.

    Attributes:
        ours: mean over n runs or measurements; None without any.
        low, high: its 95% interval; None where it is not known.
        n: how many.
        difference: ours minus the published value; None without one.
        verdict: one of `WORDS`.
        why: a few words: by how much, or why not.
    """

    ours: float | None
    low: float | None
    high: float | None
    n: int
    difference: float | None
    verdict: str
    why: str


def interval(sample, images=None):
    """(mean, low, high): a sample's mean with its 95% interval.

    Args:
        sample: one number a seed or measurement, at least one.
        images: of how many images a single number is a fraction; None: it is not one.
    Returns:
        Over several numbers Student's interval of the mean; of one fraction Wilson's binomial interval; of another
        single number low and high are None.
    """
    mean = float(np.mean(sample))
    if len(sample) > 1:
        return tuple(map(float, mean_interval(sample)))
    if images:
        ends = binomtest(round(mean * images), images).proportion_ci(0.95, method="wilson")
        return mean, float(ends.low), float(ends.high)
    return mean, None, None


def compared(published, sample, *, half=0.0, better="", images=None, cannot=""):
    """Ours beside a published value.

    A value is reproduced where what the source prints, give or take half of its last place, lies in our interval, or
    where ours is better. Counts (`better="exact"`) must be equal. One number without an interval says nothing against
    a published one.

    Args:
        published: the printed value, or None.
        sample: our numbers; empty: not run.
        half: half of the last printed place.
        better: "higher", "lower", "exact" or "".
        images: as of `interval`.
        cannot: why the two cannot be compared, or "".
    """
    if not len(sample):
        return Compared(None, None, None, 0, None, NOT_RUN, "")
    finite = [number for number in sample if math.isfinite(number)]
    if not finite:
        return Compared(
            math.nan, None, None, len(sample), None, *_verdict(published, math.nan, None, None, half, better, cannot, 0)
        )
    ours, low, high = interval(finite, images)
    difference = None if published is None else ours - published
    verdict, why = _verdict(published, ours, low, high, half, better, cannot, len(finite))
    if len(finite) < len(sample):
        why = f"{why}; {len(finite)} of {len(sample)} reached it"
    return Compared(ours, low, high, len(finite), difference, verdict, why)


def _verdict(published, ours, low, high, half, better, cannot, n):
    if published is None:
        return INCOMPARABLE, cannot or "the source prints no value"
    if cannot:
        return INCOMPARABLE, cannot
    if not math.isfinite(ours):
        return NOT_REPRODUCED, "ours is not a number"
    if better == "exact":
        if ours == published:
            return REPRODUCED, "equal"
        rounds = abs(ours - published) <= half
        return (REPRODUCED, "rounds to it") if rounds else (NOT_REPRODUCED, "the counts differ")
    bottom, top = (ours, ours) if low is None else (low, high)
    slack = 1e-9 * max(1.0, abs(published))
    if bottom <= published + half + slack and published - half - slack <= top:
        return REPRODUCED, "in our interval" if low is not None else "as printed"
    if (better == "higher" and ours > published) or (better == "lower" and ours < published):
        return REPRODUCED, "ours is better"
    if low is None:
        return INCOMPARABLE, f"{n} run has no interval; more seeds give one"
    return NOT_REPRODUCED, "outside our interval"
