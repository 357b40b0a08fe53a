"""COMP 576 homework 2, section 1.2 (P. Tang, 2017): eight trainings of LeNet on grey CIFAR-10, seven conclusions."""

import numpy as np
import pandas
from scipy.stats import spearmanr

from kerascnn.recipes import RECIPES
from kerascnn.studies import register
from kerascnn.studies.frame.results import (
    Y_LABELS,
    above_zero,
    best,
    last,
    of_parts,
    of_rows,
    those_run,
    when_best,
    when_first,
)
from kerascnn.studies.frame.study import Claim, Lines, NotRun, Picture, Study, Training, Value, accuracy, shown

TRIALS = tuple(f"trial-{number}" for number in range(1, 9))
LAYER = "conv1"
REACHED = 0.55  # test accuracy by which convergence is timed
NEAR = 0.1  # of a training's steps: nearer than this counts as the same time
LOOKS = "watch/activations/activations.csv"
RMSPROP = ("trial-7", "trial-8")


def _values():
    figure = {"where": "1.2, a figure without numbers"}
    return tuple(
        value
        for trial in TRIALS
        for value in (
            accuracy(trial, "best test accuracy", best("test_accuracy"), **figure),
            accuracy(trial, "test accuracy at the end", last("test_accuracy"), **figure),
            Value(trial, "step of the best test accuracy", when_best("test_accuracy"), unit="step", **figure),
        )
    )


def looks(results, trial):
    """What was seen of conv1 in each finished seed of a trial: DataFrames with steps, max, mean, std, zeros."""
    tables = [pandas.read_csv(path) for path in results.files(trial, LOOKS)]
    return [table[table["layer"] == LAYER].reset_index(drop=True) for table in tables]


def _statistic(name):
    """The series of a figure: a statistic of conv1 over the steps, one line a trial."""

    def mean(tables):
        length = min(map(len, tables))
        values = np.mean([table[name].to_numpy()[:length] for table in tables], axis=0)
        return tables[0]["steps"].to_numpy()[:length], values

    return lambda results: those_run(TRIALS, lambda trial: mean(looks(results, trial)))


# --- the seven conclusions ---


def _difference(results, trial, base):
    """(ends of the 95% interval of a trial's best test accuracy less another's, words that say so)."""
    _, low, high, told = results.difference(trial, base, best("test_accuracy"))
    return low, high, f"best test accuracy {told}"


def _keep_rate(results):
    """Trials 1 and 2 differ in the keep rate alone."""
    first = when_first("test_accuracy", REACHED)
    steps = [results.wait(trial, first) for trial in ("trial-1", "trial-2")]
    low, high, right = _difference(results, "trial-2", "trial-1")
    told = f"{REACHED:.0%} of the test images are right after {shown(steps[0], 'step')} steps with keep rate 0.8"
    told += f" (trial 1), {shown(steps[1], 'step')} with 0.6 (trial 2); {right}."
    return steps[1] < steps[0] and above_zero(low, high), told


def _points(results):
    """(share of zeros at the end, best test accuracy, trial) of every trial and seed that has finished."""

    def of_trial(trial):
        watched = [each for each in results.trained(trial) if (each.run / LOOKS).exists()]
        right = [best("test_accuracy").get(each) for each in watched]
        return zip([table["zeros"].iloc[-1] for table in looks(results, trial)], right, strict=True)

    points = [(*point, trial) for trial, points in those_run(TRIALS, of_trial).items() for point in points]
    if len(points) < 4:
        raise NotRun("fewer than four trainings have finished")
    return points


def _sparse(results):
    zeros, right, _ = zip(*_points(results), strict=True)
    test = spearmanr(zeros, right)
    told = f"Rank correlation of {LAYER}'s share of zeros at the end with the best test accuracy over {len(zeros)} "
    told += f"trainings: {test.statistic:+.2f} (p = {test.pvalue:.2g})."
    holds = None if test.pvalue > 0.05 else bool(test.statistic > 0)
    return holds, told


def _not_too_sparse(results):
    points = _points(results)
    sparsest, best_of = max(points), max(points, key=lambda point: point[1])
    told = f"The sparsest is {sparsest[2]} ({sparsest[0]:.0%} zeros), the best {best_of[2]} ({best_of[0]:.0%} zeros)"
    if sparsest[2] == best_of[2]:
        return False, f"{told}."
    low, high, right = _difference(results, best_of[2], sparsest[2])
    return above_zero(low, high), f"{told}; {right}."


def _gradient_descent(results):
    low, high, right = _difference(results, "trial-6", "trial-5")
    zeros = {t: float(np.mean([each["zeros"].iloc[-1] for each in looks(results, t)])) for t in ("trial-3", "trial-6")}
    told = f"With rate 0.05 (trial 6) and 0.01 (trial 5): {right}; {LAYER} has {zeros['trial-6']:.0%} zeros in"
    told += f" trial 6 and {zeros['trial-3']:.0%} in trial 3 (Adam, otherwise alike)."
    return zeros["trial-6"] > zeros["trial-3"] and above_zero(low, high), told


def _peak(results):
    """In how many trials the best test accuracy comes when mean and deviation are least while the maximum rises."""
    told, count = [], 0
    tables = those_run(TRIALS, lambda trial: looks(results, trial)[0])
    for trial, table in tables.items():
        watched = next(each for each in results.trained(trial) if (each.run / LOOKS).exists())
        peak = when_best("test_accuracy").get(watched)
        trained = table[table["steps"] > 0]
        low = [float(trained["steps"][trained[name].idxmin()]) for name in ("mean", "std")]
        total = float(trained["steps"].iloc[-1])
        before = trained["max"][trained["steps"] <= peak]
        rises = bool(len(before) > 1 and before.iloc[-1] > before.iloc[0])
        together = max(abs(step - peak) for step in low) <= NEAR * total and rises
        count += together
        told.append(f"{trial} {peak:,.0f} ({low[0]:,.0f}, {low[1]:,.0f})")
    words = "Steps of the best test accuracy (of the least mean, of the least deviation): " + "; ".join(told)
    return count > len(tables) / 2, f"{words}. Together, and the maximum rising, in {count} of {len(tables)}."


def _only_rmsprop(results):
    """Whether mean and deviation are lower in the last quarter than in the third, trial by trial."""

    def falls(trial):
        table = looks(results, trial)[0]
        quarter = max(len(table) // 4, 1)
        last, third = table[-quarter:], table[-2 * quarter : -quarter]
        return all(last[name].mean() < third[name].mean() for name in ("mean", "std"))

    fell = those_run(TRIALS, falls)
    holds = all(fall == (trial in RMSPROP) for trial, fall in fell.items())
    if holds and len(fell) < len(TRIALS):
        raise NotRun("the trials that have finished do not decide it")
    told = ", ".join(trial for trial, fall in fell.items() if fall) or "none"
    return (
        holds,
        f"Mean and deviation of {LAYER} are lower in the last quarter of the steps than in the third in: {told}.",
    )


def _batches(results):
    low, high, right = _difference(results, "trial-4", "trial-3")
    first = when_first("test_accuracy", REACHED)
    steps = [results.wait(trial, first) for trial in ("trial-3", "trial-4")]
    told = f"With batches of 500 (trial 4) and 100 (trial 3): {right}; {REACHED:.0%} after {shown(steps[1], 'step')}"
    told += f" and {shown(steps[0], 'step')} steps. Their keep rates differ, too."
    return steps[1] < steps[0] or above_zero(low, high), told


CLAIMS = (
    Claim("1. A smaller keep rate converges faster, with higher test accuracy", "conclusion", _keep_rate),
    Claim("2. Sparse activation provides better performance", "conclusion", _sparse),
    Claim("3. Not too sparse", "conclusion", _not_too_sparse),
    Claim("4. Gradient descent needs a high learning rate, and goes sparse quickly", "conclusion", _gradient_descent),
    Claim("5. Performance is highest when mean and deviation are least while the maximum rises", "conclusion", _peak),
    Claim("6. Only RMSprop lowers mean and deviation in the end", "conclusion", _only_rmsprop),
    Claim("7. Larger batches converge faster or to a higher accuracy", "conclusion", _batches),
)


def _figures():
    steps = {"x_label": "steps"}
    overlays = [
        Lines(f"all-{column}", f"{words} of all trials", of_rows(TRIALS, column), Y_LABELS[quantity], **steps)
        for column, words, quantity in (
            ("test_accuracy", "Test accuracy", "accuracy"),
            ("test_loss", "Test loss", "loss"),
            ("accuracy", "Training accuracy", "accuracy"),
            ("loss", "Training loss", "loss"),
        )
    ]
    overlays += [
        Lines(f"activation-{name}", f"{LAYER}: {title}", _statistic(name), title, **steps)
        for name, title in (
            ("max", "largest activation"),
            ("mean", "mean activation"),
            ("std", "standard deviation of the activations"),
            ("zeros", "share of zeros"),
        )
    ]
    figures = []
    for number, trial in enumerate(TRIALS):
        where = f"figure {4 * number + 1}"
        for quantity, label in Y_LABELS.items():
            title = f"Trial {number + 1}: {quantity}"
            series = of_parts(trial, quantity, ("training", "test"))
            figures.append(Lines(f"{trial}-{quantity}", title, series, label, where=where, **steps))
        figures += [
            Picture(
                f"{trial}-activations",
                f"Trial {number + 1}: activation statistics over the steps",
                trial,
                file="watch/activations/activations.png",
                where=f"figure {4 * number + 2}",
            ),
            Picture(
                f"{trial}-histogram",
                f"Trial {number + 1}: histogram of {LAYER} over the steps",
                trial,
                file=f"watch/activations/ridge-{LAYER}.png",
                where=f"figure {4 * number + 3}",
            ),
            Picture(
                f"{trial}-filters",
                f"Trial {number + 1}: filters through training",
                trial,
                file="watch/filter-evolution/strip.png",
                where=f"figure {4 * number + 4}",
                wide=True,
            ),
        ]
    return (*overlays, *figures)


@register("comp576-trials", source="COMP 576 report 2017, section 1.2")
def comp576_trials():
    """Eight trainings of LeNet on grey CIFAR-10: curves, activations, filters, and the author's seven conclusions."""
    rows = [
        Training(
            name=trial,
            recipe=RECIPES.get(f"comp576-{number}")().replace(test_curve=True),
            watch=("activations-all", "filters"),
            note=RECIPES.facts(f"comp576-{number}")["doc"].partition(": ")[2].rpartition(":")[0],
        )
        for number, trial in enumerate(TRIALS, start=1)
    ]
    return Study(
        name="comp576-trials",
        title="COMP 576: eight trainings of LeNet on grey CIFAR-10",
        source="P. Tang, COMP 576 HW 2, October 2017, section 1.2",
        about="A LeNet of two 5x5 convolutions is trained eight times on grey images of CIFAR-10, with three "
        "optimizers and different rates, batches and keep rates, while its activations and filters are watched. "
        "The report prints curves and seven conclusions, but no numbers: the conclusions are tried here.",
        rows=tuple(rows),
        values=_values(),
        claims=CLAIMS,
        figures=_figures(),
        slips=(
            "Trial 2's summary says that the learning rate goes from 0.8 to 0.6; it is the keep rate.",
            "Trial 3's table has keep rate 0.6, as trial 2's, and the summary of trial 4 says that it was kept at 0.4.",
            "If trial 3 had keep rate 0.4, trials 3 and 4 differ in the batch size alone.",
            "Trial 4's summary says that the steps go from 10,000 to 8,000; trial 3's table already has 8,000.",
            "The captions of figures 2 and 3, 6 and 7 and so on are the same words for statistics and histograms.",
        ),
        chosen=(
            "Images of 28x28 in grey with pixels from 0 to 1; 50 evaluations a training; plain SGD and RMSprop.",
            f"Convergence is timed by the step with {REACHED:.0%} of the test images right; conclusion 5 holds where "
            f"the steps are within {NEAR:.0%} of the training, in most trials.",
        ),
        differences=(
            "Conclusion 7 compares trials 3 and 4, which differ in the keep rate, too; no two trials differ in the "
            "batch size alone. Trials 5 and 6 of conclusion 4 differ in it, too.",
            "As printed, trial 3 has trial 2's settings and fewer steps: with the same seed it is the beginning of the "
            "same training, so that the two are not independent.",
            "Here, sparse means a large share of zeros in conv1; the report speaks of a low mean and deviation and a "
            "high maximum.",
        ),
    )
