"""When a trial is not worth its remaining epochs: the median rule and asynchronous successive halving."""

import math
import statistics

RULES = ("halving", "median", "none")
FACTOR = 3  # of halving: one in three goes on from each rung
STARTUP = 5  # finished curves that the median rule waits for


def best_so_far(values, direction):
    """The best of the values up to each epoch, a list as long as they are."""
    better = max if direction == "max" else min
    found = []
    for value in values:
        found.append(better(found[-1], value) if found else value)
    return found


def should_stop(rule, curves, trial, direction, epochs):
    """True if a trial should stop after its newest epoch.

    Args:
        rule: "halving": after epochs 1, 3, 9 ... (`rungs`), only the best third of all trials that came so far goes on
            (Li et al. 2020, arXiv:1810.05934, in the form that stops instead of pausing). "median": it stops where its
            best is worse than the median of the others' mean up to that epoch (Golovin et al. 2017, Vizier,
            section 3.2.2). "none": never.
        curves: {trial: [objective after epoch 1, 2, ...]} of all trials.
        trial: the one that has just reported.
        direction: "max" or "min".
        epochs: epochs of a whole trial.
    """
    own = curves[trial]
    epoch = len(own)
    if rule == "none" or epoch >= epochs:
        return False
    sign = 1 if direction == "max" else -1
    mine = sign * best_so_far(own, direction)[-1]
    if not math.isfinite(mine):
        return False  # training itself ends where the loss is not finite
    if rule == "halving":
        if epoch not in rungs(epochs):
            return False
        reached = [sign * best_so_far(c[:epoch], direction)[-1] for c in curves.values() if len(c) >= epoch]
        return sum(value > mine for value in reached) >= max(1, math.ceil(len(reached) / FACTOR))
    others = [sign * statistics.fmean(c[:epoch]) for t, c in curves.items() if t != trial and len(c) >= epoch]
    return len(others) >= STARTUP and mine < statistics.median(others)


def rungs(epochs):
    """The epochs after which successive halving decides: 1, 3, 9 ... below `epochs`."""
    return [FACTOR**k for k in range(int(math.log(epochs, FACTOR)) + 1) if FACTOR**k < epochs]
