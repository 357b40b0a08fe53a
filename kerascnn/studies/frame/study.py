"""What a study is, as frozen values: rows, published values, claims, figures. Nothing is computed here."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from kerascnn.errors import UsageError
from kerascnn.recipes import Recipe

BETTER = ("higher", "lower", "exact", "")
UNITS = {  # unit: how a value is printed
    "accuracy": "{:.2%}",
    "nats": "{:.4f}",
    "epoch": "{:.4g}",
    "step": "{:,.0f}",
    "parameters": "{:,.0f}",
    "neurons": "{:,.0f}",
    "pixels": "{:,.4g}",
    "weights": "{:,.0f}",
    "MB": "{:,.1f}",
    "images/s": "{:,.4g}",
    "steps/s": "{:,.3g}",
    "times": "{:,.3g}",
    "filters": "{:,.0f}",
    "": "{:,.4g}",
}


OURS = "not in the source"  # where a value is that is of a row of our own


class NotRun(Exception):  # noqa: N818 (what did not happen)
    """A value, claim or figure needs a row that has no result; the message says why there is none."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """A row that is trained, once for each seed.

    Attributes:
        name: of the row and its folder.
        recipe: Recipe; its seed is replaced. Its `data` is the data set of the study, which --data replaces.
        other: True where its data are the study's other ones, which --other-data replaces.
        watch: looks during training (`kerascnn.callbacks`).
        quick: further changes of the recipe in a quick run, such as smaller images.
        note: what differs from the other rows, for the page.
    """

    name: str
    recipe: Recipe
    other: bool = False
    watch: tuple = ()
    quick: dict = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Computed:
    """A row that is computed once.

    Attributes:
        name: of the row and its folder.
        compute: function of a `Place` that returns {name: number or list of measurements of it}; files that it writes
            into `place.folder` can be pictures and tables of the page.
        needs: names of the training rows whose runs it reads.
        note: as of `Training`.
    """

    name: str
    compute: Callable
    needs: tuple = ()
    note: str = ""


@dataclass(frozen=True)
class Measure:
    """What is read from a finished run.

    Attributes:
        get: function of a `Trained` that returns a number.
        images: for an accuracy, a function of a `Trained` that returns of how many images it is a fraction, which gives
            the binomial interval of one run; None for other numbers.
    """

    get: Callable
    images: Callable | None = None


@dataclass(frozen=True)
class Value:
    """A number of the source beside ours.

    Attributes:
        row: name of a row.
        what: what is measured, in words.
        measure: a `Measure` of a training row; the name of a number of a computed one.
        published: what the source prints, in `unit`; None where it prints nothing.
        half: half of the last place that it prints, in `unit`; "about 88%" covers 0.875 to 0.885.
        unit: a key of `UNITS`; accuracies are fractions.
        split, protocol: which images, and how and when it was measured.
        where: the place in the source.
        printed: the source's own words, where they are not the number alone, such as "about 88%".
        better: "higher" or "lower"; "exact" for counts; "" where neither is better.
        cannot: why ours cannot be compared with it; or a function of `Results` that says why, or "" where it can.
    """

    row: str
    what: str
    measure: Measure | str
    published: float | None = None
    half: float = 0.0
    unit: str = ""
    split: str = ""
    protocol: str = ""
    where: str = ""
    printed: str = ""
    better: str = ""
    cannot: str | Callable = ""


def accuracy(row, what, measure, published=None, **more):
    """A Value that is an accuracy, on test images unless `split` says otherwise."""
    return Value(row, what, measure, published, **{"unit": "accuracy", "split": "test", "better": "higher", **more})


def loss(row, what, measure, published=None, **more):
    """A Value that is a loss in nats."""
    return Value(row, what, measure, published, **{"unit": "nats", "better": "lower", **more})


def exact(row, what, measure, published, **more):
    """A Value that is a count."""
    return Value(row, what, measure, published, better="exact", **more)


@dataclass(frozen=True)
class Claim:
    """A sentence of the source that our results can support or not.

    Attributes:
        text: the sentence, in few words.
        where: the place in the source.
        test: function of `Results` that returns (True, False or None where it cannot be told, a sentence with numbers).
        counts: True where it is about counts, which a quick run has, too.
    """

    text: str
    where: str
    test: Callable
    counts: bool = False


@dataclass(frozen=True)
class Lines:
    """A figure of curves.

    Attributes:
        name: of its files.
        title, y_label, x_label: its words, with units.
        series: function of `Results` that returns {name: (x, y) or (x, mean, low, high)}.
        where: which figure of the source it is.
    """

    name: str
    title: str
    series: Callable
    y_label: str
    x_label: str = "epochs"
    where: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure that a row has drawn: `file`, a PNG in a computed row's folder or in the first run of a trained one,
    with its numbers (CSV) beside it. Without one it is called as the figure is.

    `wide` gives it the whole width of the page.
    """

    name: str
    title: str
    row: str
    file: str = ""
    where: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Listing:
    """A table that a computed row has written: `file`, a CSV in the row's folder."""

    title: str
    row: str
    file: str
    where: str = ""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A published report as rows, values, claims and figures.

    Attributes:
        name: its registered name.
        title: what the page is called.
        source: author, title, year.
        about: a few sentences on what is recreated.
        rows, values, claims, figures, listings: in the order of the page.
        questions: Claims that the source does not make, such as whether a setting that it leaves open is the right one.
        slips: mistakes of the source, with the right number.
        chosen: what the source does not print, so that we had to choose it.
        differences: what is known to differ from the source.
        tried: what was tried where a value is not reproduced, with what came out.
        seeds: how many seeds each training has unless --seeds says otherwise.
        other: name of a second data set that some rows use, such as scenes; "" where all use one.
        version: goes up where results of an earlier one would mean something else.
    """

    name: str
    title: str
    source: str
    about: str
    rows: tuple
    values: tuple
    claims: tuple = ()
    questions: tuple = ()
    figures: tuple = ()
    listings: tuple = ()
    slips: tuple = ()
    chosen: tuple = ()
    differences: tuple = ()
    tried: tuple = ()
    seeds: int = 1
    other: str = ""
    version: int = 1

    def __post_init__(self):
        names = [row.name for row in self.rows]
        if len(set(names)) < len(names):
            raise ValueError(f"The study {self.name!r} has two rows of one name: {names}.")
        for value in self.values:
            if value.row not in names or value.unit not in UNITS or value.better not in BETTER:
                raise ValueError(f"The study {self.name!r} has a value of no row, unit or direction: {value}.")
            if isinstance(self.row(value.row), Training) != isinstance(value.measure, Measure):
                raise ValueError(f"The study {self.name!r} measures the row {value.row!r} as the other kind: {value}.")

    def row(self, name):
        """The row of that name."""
        return next(row for row in self.rows if row.name == name)

    def only(self, names):
        """The rows of these names, with those that they need; all where there are none.

        Raises:
            UsageError: there is no such row.
        """
        known = [row.name for row in self.rows]
        for name in names:
            if name not in known:
                raise UsageError(f"rows={name} is not a row of {self.name!r}. Its rows: {', '.join(known)}.")
        needed = {need for name in names for need in getattr(self.row(name), "needs", ())}
        return [row for row in self.rows if not names or row.name in needed.union(names)]


def shown(value, unit):
    """A number as the page prints it: shown(0.7149, "accuracy") is "71.49%"; "" for None, "never" for a step that never
    came (NaN, infinite)."""
    if value is None:
        return ""
    return "never" if unit in ("epoch", "step") and not math.isfinite(value) else UNITS[unit].format(value)


def as_printed(value):
    """The published number of a Value with as many places as the source prints: "46%" for 0.46 give or take 0.005."""
    if value.printed or value.published is None:
        return value.printed or "not printed"
    if not value.half or value.unit not in ("accuracy", "nats"):
        return shown(value.published, value.unit)
    places = round(-math.log10(2 * value.half))
    percent = value.unit == "accuracy"
    return f"{value.published:.{max(0, places - 2)}%}" if percent else f"{value.published:.{places}f}"


def abridged(recipe, length):
    """A recipe over a share of its steps or epochs, at least one; where steps are counted, with as many evaluations.

    What counts epochs, warming up and the patience of the learning rate, is shortened with them.
    """
    if length == 1:
        return recipe
    changes = {"warmup_epochs": recipe.warmup_epochs * length}
    if recipe.eval_every:
        changes["eval_every"] = max(1, round(recipe.eval_every * length))
    else:
        changes["epochs"] = max(1, round(recipe.epochs * length))
        changes["rate_patience"] = math.ceil(recipe.rate_patience * length)
    if recipe.steps:
        changes["steps"] = max(1, round(recipe.steps * length))
    return recipe.replace(**changes)


def shortened(recipe):
    """The recipe of a quick run: four steps on scikit-learn's digits, evaluated twice."""
    changes = {"data": "digits", "steps": 4, "eval_every": 2, "batch_size": 16, "precision": "float32", "classes": None}
    changes["channels"] = recipe.channels or 3
    changes["validation"] = recipe.validation if recipe.validation < 1 else 0.1  # a count may be more than there are
    if recipe.start_from or "weights" in recipe.model_options:
        options = {key: value for key, value in recipe.model_options.items() if key not in ("weights", "skip")}
        changes |= {"start_from": "", "model_options": options}
    return recipe.replace(**changes)
