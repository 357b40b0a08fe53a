"""When a trial is not worth its remaining epochs: successive halving and the median rule."""

import math
import statistics

RULES = ("halving", "median", "none")
FACTOR = 3  # of halving: one in three goes on from each rung
STARTUP = 5  # finished curves that the median rule waits for


def direction_of(objective):
    """Whether the objective should be as small ("min") or as large ("max") as possible."""
    return "min" if "loss" in objective else "max"


def best_so_far(values, direction):
    """The best of the values up to each epoch, a list as long as they are."""
    better = max if direction == "max" else min
    best = []
    for value in values:
        best.append(better(best[-1], value) if best else value)
    return best


def rungs(epochs):
    """The epochs after which halving lets trials wait: a ninth and a third of all, at least 1, below `epochs`."""
    return sorted({max(1, round(epochs / FACTOR**k)) for k in (1, 2)} - {epochs})


def who_goes_on(curves, paused, direction, epochs, *, exhausted):
    """The waiting trial whose training successive halving continues, or None where others must come first.

    On each rung the best third of all trials that reached it go on as soon as they are known to be in it, the highest
    rung first (ASHA: Li et al. 2020, arXiv:1810.05934, algorithm 2).

    Args:
        curves: {trial: [objective after epoch 1, 2, ...]} of all trials.
        paused: {trial: the rung on which it waits}.
        direction: "max" or "min".
        epochs: epochs of a whole trial.
        exhausted: True if no further trials come; a third is then rounded up.
    """
    sign = 1 if direction == "max" else -1
    for rung in reversed(rungs(epochs)):
        reached = {t: sign * best_so_far(c[:rung], direction)[-1] for t, c in curves.items() if len(c) >= rung}
        number = math.ceil(len(reached) / FACTOR) if exhausted else len(reached) // FACTOR
        for trial in sorted(reached, key=lambda t: (-reached[t], t))[:number]:
            if paused.get(trial) == rung:
                return trial
    return None


def below_median(curves, trial, direction):
    """True if the median rule stops a trial after its newest epoch: where its best is worse than the median of the
    others' means up to that epoch (Golovin et al. 2017, Vizier, section 3.2.2), once there are five of them.

    Args:
        curves: as of `who_goes_on`.
        trial: the one that has just reported.
    """
    curve, sign = curves[trial], 1 if direction == "max" else -1
    mine = sign * best_so_far(curve, direction)[-1]
    others = [
        sign * statistics.fmean(c[: len(curve)]) for t, c in curves.items() if t != trial and len(c) >= len(curve)
    ]
    if not math.isfinite(mine):
        return False  # training itself ends where the loss is not finite
    return len(others) >= STARTUP and mine < statistics.median(others)
