"""What a study's folder holds: the results of its rows, read from run folders and from computed rows."""

import contextlib
import functools
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas

from kerascnn.errors import DataError, counted
from kerascnn.experiments.outcome import mean_interval
from kerascnn.files import read_json
from kerascnn.runs import Run, plain
from kerascnn.studies.frame.study import Measure, NotRun, Training, abridged, shortened
from kerascnn.studies.frame.verdicts import INCOMPARABLE, NOT_REPRODUCED, NOT_RUN, REPRODUCED, Compared, compared

QUICK = "a quick run"


class Trained:
    """A finished run of a row."""

    def __init__(self, run):
        self.run = run

    @functools.cached_property
    def state(self):
        return self.run.read("run")

    @property
    def result(self):
        """The result in run.json."""
        return self.state["result"]

    @functools.cached_property
    def metrics(self):
        """metrics.csv, a row for each evaluation."""
        return pandas.read_csv(self.run / "metrics.csv")

    def images(self, split):
        """How many images a split had."""
        return self.run.read("data")["splits"][split]["images"]


class Place:
    """Where a computed row works.

    Attributes:
        folder: Path, the row's own folder.
        quick: True where it should take few seconds.
        length: share of the trainings' length; of what it trains itself, it should train no more.
        recipe: function of a training row and a seed that returns the Recipe of its training.
        other: name or path of the study's other data; digits in a quick run.
        say: called with lines of progress.
    """

    def __init__(self, results, name, say):
        self.results, self.folder, self.quick, self.say = results, results.folder_of(name), results.quick, say
        self.recipe, self.length = results.recipe, results.length
        self.other = results.other or ("digits" if results.quick else results.study.other)

    def run(self, row):
        """The first finished Run of a training row."""
        return self.runs(row)[0]

    def runs(self, row):
        """The finished Runs of a training row, a seed each."""
        return [each.run for each in self.results.trained(row)]


@dataclass(frozen=True)
class Judged:
    """A claim with what came out."""

    verdict: str
    finding: str


def above_zero(low, high):
    """Whether a difference with this interval is above 0; None where the interval holds 0."""
    return None if low <= 0 <= high else low > 0


def all_hold(each):
    """Whether all of True, False and None are True: False where one is False, else None where one is None."""
    each = list(each)
    return False if False in each else None if None in each else True


class Results:
    """The results of a study in a folder.

    Args:
        study: Study.
        folder: Path.
        seeds: how many seeds count.
        quick: True for the few steps of a quick run, which get no verdicts but for counts.
        length: share of their epochs or steps over which its rows are trained; below 1 they are not compared.
        data, other: names or paths of data in place of the study's, and of its other ones; None: as the study has them.
        failures: {"row" or "row/seed-0": reason}.
    """

    def __init__(self, study, folder, seeds, *, quick=False, length=1.0, data=None, other=None, failures=None):
        self.study, self.folder, self.seeds, self.quick, self.other = study, Path(folder), seeds, quick, other
        self.length, self.data = length, data
        self.failures = failures or {}

    def folder_of(self, row, seed=None):
        """The folder of a row, or of one of its runs."""
        folder = self.folder / "rows" / plain(row)
        return folder if seed is None else folder / f"seed-{seed}"

    def recipe(self, row, seed):
        """The Recipe of a row's training."""
        asked = self.study.row(row)
        recipe = abridged(asked.recipe, self.length)
        recipe = shortened(recipe).replace(**asked.quick) if self.quick else recipe
        wanted = (self.other or (not self.quick and self.study.other)) if asked.other else self.data
        return recipe.replace(seed=seed, data=wanted or recipe.data)

    def finished(self, row, seed=None):
        """True where a computed row, or a seed of a trained one, has its result."""
        if seed is None:
            return (self.folder_of(row) / "result.json").exists()
        run = Run(self.folder_of(row, seed))
        try:
            return run.read("run").get("status") == "finished"
        except DataError:
            return False

    def reason(self, row):
        """Why a row has no result."""
        reasons = [text for key, text in self.failures.items() if key.partition("/")[0] == row]
        return reasons[0] if reasons else "not run"

    def trained(self, row):
        """The Trained of the seeds that have finished, at least one; raises NotRun."""
        seeds = [seed for seed in range(self.seeds) if self.finished(row, seed)]
        if not seeds:
            raise NotRun(self.reason(row))
        return [Trained(Run(self.folder_of(row, seed))) for seed in seeds]

    def sample(self, row, measure):
        """Our numbers of a row: one a seed, or one a measurement; raises NotRun."""
        if isinstance(measure, Measure):
            return [float(measure.get(each)) for each in self.trained(row)]
        if not self.finished(row):
            raise NotRun(self.reason(row))
        numbers = read_json(self.folder_of(row) / "result.json")["numbers"]
        if measure not in numbers:
            raise NotRun(numbers.get("why", f"the row gives no {measure!r}"))
        sample = list(np.atleast_1d(np.asarray(numbers[measure], float)))
        if not sample:
            raise NotRun(f"the row gives no {measure!r}")
        return sample

    def mean(self, row, measure):
        """The mean of what is a number in `sample`; NaN where none is."""
        sample = np.asarray(self.sample(row, measure))
        return float(sample[np.isfinite(sample)].mean()) if np.isfinite(sample).any() else float("nan")

    def difference(self, row, base, measure):
        """(a row's accuracy less another's, the ends of its 95% interval, words that say so), seed by seed; raises
        NotRun. The interval is Student's over the seeds; of one seed it is that of two shares of the images.

        Args:
            measure: Measure of an accuracy.
        """
        runs = [{each.run.folder.name: each for each in self.trained(name)} for name in (row, base)]
        shared = [seed for seed in runs[0] if seed in runs[1]]
        if not shared:
            raise NotRun(f"{row} and {base} have no seed in common")
        pairs = np.array([[float(measure.get(of_row[seed])) for of_row in runs] for seed in shared])
        ours, other = pairs.mean(0)
        if len(shared) > 1:
            mean, low, high = mean_interval(pairs[:, 0] - pairs[:, 1])
        else:
            images = [measure.images(of_row[shared[0]]) for of_row in runs]
            reach = 1.96 * math.sqrt(ours * (1 - ours) / images[0] + other * (1 - other) / images[1])
            mean, low, high = ours - other, ours - other - reach, ours - other + reach
        interval = f"95% interval {100 * low:+.2f} to {100 * high:+.2f}, {counted(len(shared), 'seed')}"
        return mean, low, high, f"{ours:.2%} ({row}) and {other:.2%} ({base}), {100 * mean:+.2f} points ({interval})"

    def wait(self, row, measure):
        """The mean of `sample`, of steps or epochs after which something was reached; infinite if it ever was not."""
        sample = np.asarray(self.sample(row, measure))
        return float(np.where(np.isnan(sample), np.inf, sample).mean())

    def curve(self, row, column):
        """(x, mean, low, high) of a column of metrics.csv over the seeds that have finished: x counts epochs, or steps
        where that is what is counted; low and high are the least and the largest. Raises NotRun."""
        tables = [each.metrics for each in self.trained(row)]
        if any(column not in table for table in tables):
            raise NotRun(f"the runs of {row} have no {column}")
        length = min(map(len, tables))
        x = tables[0]["step"] if "step" in tables[0] else tables[0]["epoch"] + 1
        values = np.stack([table[column].to_numpy(float)[:length] for table in tables])
        return x.to_numpy()[:length], values.mean(0), values.min(0), values.max(0)

    def files(self, row, name):
        """The paths of a file in the run folders of the seeds that have finished, or in a computed row's folder, at
        least one; raises NotRun."""
        if isinstance(self.study.row(row), Training):
            paths = [each.run / name for each in self.trained(row)]
        elif self.finished(row):
            paths = [self.folder_of(row) / name]
        else:
            raise NotRun(self.reason(row))
        existing = [path for path in paths if path.exists()]
        if not existing:
            raise NotRun(f"{row} has no {name}")
        return existing

    def file(self, row, name):
        """The first of `files`."""
        return self.files(row, name)[0]

    def compare(self, value):
        """The Compared of a Value."""
        try:
            sample = self.sample(value.row, value.measure)
        except NotRun as error:
            return Compared(None, None, None, 0, None, NOT_RUN, str(error))
        images = None
        if isinstance(value.measure, Measure) and value.measure.images:
            images = value.measure.images(self.trained(value.row)[0])
        cannot = value.cannot(self) if callable(value.cannot) else value.cannot
        cannot = cannot or self.on_other_images(value.row) or self.cut_short(value.row)
        outcome = compared(value.published, sample, half=value.half, better=value.better, images=images, cannot=cannot)
        if self.quick and (value.better != "exact" or isinstance(self.study.row(value.row), Training)):
            return Compared(outcome.ours, None, None, outcome.n, None, NOT_RUN, QUICK)
        return outcome

    def on_other_images(self, row):
        """Why a trained row's numbers are not those of the source's data, or "": the name of its data says so."""
        asked = self.study.row(row)
        if self.quick or not isinstance(asked, Training) or asked.other:
            return ""
        data, expected = self.trained(row)[0].run.read("data"), asked.recipe.data
        name, plain = (re.sub("[^a-z0-9]", "", text.lower()) for text in (data.get("name", ""), expected))
        images = sum(split["images"] for split in data["splits"].values())
        if re.match(rf"{plain}(?!\d)", name) or (IMAGES.get(expected) == images and len(data["class_names"]) == 10):
            return ""
        return f"on {data['name']}, not on {expected}, as which a folder's name must begin"

    def cut_short(self, row):
        """Why the numbers of a row that is trained, or reads trained networks, are not those of whole trainings, or
        ""."""
        asked = self.study.row(row)
        for each in [asked] if isinstance(asked, Training) else map(self.study.row, asked.needs):
            recipes = (abridged(each.recipe, self.length), each.recipe)
            lengths = [recipe.steps or recipe.epochs * (recipe.eval_every or 1) for recipe in recipes]
            if lengths[0] < lengths[1]:
                unit = "steps" if each.recipe.steps or each.recipe.eval_every else "epochs"
                return f"after {lengths[0]:,} of {lengths[1]:,} {unit}"
        return ""

    def judge(self, claim):
        """The Judged of a Claim; after a part of the training it is told what came out, and not judged."""
        if self.quick and not claim.counts:
            return Judged(NOT_RUN, QUICK)
        try:
            holds, finding = claim.test(self)
        except NotRun as error:
            return Judged(NOT_RUN, str(error))
        if self.length < 1 and not claim.counts:
            return Judged(INCOMPARABLE, f"After about {self.length:.4g} of the training: {finding}")
        return Judged({True: REPRODUCED, False: NOT_REPRODUCED, None: INCOMPARABLE}[holds], finding)


IMAGES = {"cifar10": 60_000, "mnist": 70_000}  # of ten classes, whatever the folder is called

# What is read from a run.


def on_test(name="accuracy"):
    """A number of the test result of the weights that are kept, such as "accuracy" or "loss"."""
    return Measure(lambda run: run.result[name], _images("test") if name in SHARES else None)


def on_train(name="accuracy"):
    """A number of the kept weights on training images as they are, up to 10,000 of them."""
    images = (lambda run: run.result["train"]["images"]) if name in SHARES else None
    return Measure(lambda run: run.result["train"][name], images)


def last(column):
    """The last number in a column of metrics.csv, such as "val_accuracy"."""
    return Measure(lambda run: run.metrics[column].iloc[-1], SPLITS.get(column))


def best(column):
    """The best number in a column of metrics.csv: of a loss the least, of an accuracy the largest."""
    return Measure(lambda run: run.metrics[column][_best(run, column)], SPLITS.get(column))


def when_best(column):
    """The epoch, from 1, or the step, at which a column of metrics.csv is best."""
    return Measure(lambda run: _at(run, _best(run, column)))


def when_first(column, threshold):
    """The epoch, from 1, or step at which a column is first at least a threshold; NaN where it never is."""

    def place(run):
        reached = np.flatnonzero(run.metrics[column] >= threshold)
        return _at(run, int(reached[0])) if len(reached) else np.nan

    return Measure(place)


def _best(run, column):
    """The row of metrics.csv in which a column is best."""
    chosen = run.metrics[column]
    return int(chosen.idxmin() if "loss" in column else chosen.idxmax())


def _at(run, row):
    return run.metrics["step"][row] if "step" in run.metrics else row + 1


def _images(split):
    return lambda run: run.images(split)


# Series of figures.


def those_run(rows, function):
    """{row: function(row)} of the rows for which it raises no NotRun; raises NotRun where there are none."""
    values = {}
    for row in rows:
        with contextlib.suppress(NotRun):
            values[row] = function(row)
    if not values:
        raise NotRun("none of these rows has a result")
    return values


def of_rows(rows, column):
    """The series of a column of metrics.csv, a line for each row that has a result."""
    return lambda results: those_run(rows, lambda row: results.curve(row, column))


def of_parts(row, quantity, parts=("training", "validation", "test")):
    """The series of a row's "loss" or "accuracy", a line for each part of the data."""
    return lambda results: {part: results.curve(row, f"{PARTS[part]}{quantity}") for part in parts}


PARTS = {"training": "", "validation": "val_", "test": "test_"}  # part of the data: prefix in metrics.csv
Y_LABELS = {"loss": "loss (nats)", "accuracy": "accuracy (fraction)"}
SHARES = ("accuracy", "top5")  # results that are fractions of the images
SPLITS = {"val_accuracy": _images("validation"), "test_accuracy": _images("test")}
