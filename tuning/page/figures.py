"""The figures of a search: data frames -> matplotlib figures. Never imports Keras.

Everywhere `results` has one row a trial, `objective` is the name of what was measured, `direction` "max" or "min", and
`hyperparameters` is {name: {"kind", "low", "high", "log", "values"}}. Dark colours are good trials in both directions.
"""

import dataclasses
import textwrap

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from kerascnn.plots import BLUE, GREEN, ORANGE, PURPLE, RED
from tuning.ranking import best_so_far, codes, fence, ranked, scored

# The lines of the best three trials, best first, and of all others.
LEADERS = tuple(
    {"color": color, "linestyle": line, "linewidth": 2.2, "zorder": 3}
    for color, line in ((BLUE, "-"), (GREEN, "--"), (PURPLE, "-."))
)
OTHERS = {"color": "#9a9a9a", "linewidth": 0.8, "alpha": 0.6, "zorder": 1}
# status: colour, marker, size in points^2; both colour and marker tell them apart
MARKS = {
    "completed": (BLUE, "o", 26),
    "pruned": (ORANGE, "v", 30),
    "stopped": (GREEN, "s", 24),
    "paused": (PURPLE, "D", 22),
}
# Viridis without its lightest yellow, which white paper swallows.
DARK_TO_LIGHT = LinearSegmentedColormap.from_list("score", matplotlib.colormaps["viridis"](np.linspace(0, 0.92, 256)))
INACTIVE = -0.13
# Units of a time axis: name, length and until when it serves, in seconds.
TIMES = (("seconds", 1, 300), ("minutes", 60, 3 * 3600), ("hours", 3600, np.inf))
# Up to so many whole numbers are drawn as steps.
FEW = 20


@dataclasses.dataclass(frozen=True)
class Scale:
    """Where a hyperparameter's values lie on an axis of length 1, linear, logarithmic, or in even steps.

    Attributes:
        low, high: ends of the axis, in the hyperparameter's unit; categories count from 0, and every category and every
            one of few whole numbers has half a step to either side.
        step: length of a step on the axis; 0 without steps.
        categories: labels in order; empty for numbers.
    """

    hyperparameter: dict
    low: float
    high: float
    log: bool = False
    step: float = 0
    categories: tuple = ()

    @classmethod
    def of(cls, hyperparameter, column):
        """The axis for a hyperparameter, as wide as its range and the values in `column`."""
        if hyperparameter["kind"] in ("choice", "boolean"):
            values = hyperparameter["values"]
            labels = tuple(shortened(value) for value in values)
            return cls(hyperparameter, -0.5, len(values) - 0.5, step=1 / len(values), categories=labels)
        numbers = codes(column, hyperparameter)
        ends = [end for end in (hyperparameter.get("low"), hyperparameter.get("high")) if end is not None]
        ends = np.array([*ends, *numbers[np.isfinite(numbers)]], dtype=float)
        low, high = (ends.min(), ends.max()) if len(ends) else (0.0, 1.0)
        log = bool(hyperparameter.get("log")) and low > 0
        if hyperparameter["kind"] == "int" and not log and high - low < FEW:
            return cls(hyperparameter, low - 0.5, high + 0.5, step=1 / (high - low + 1))
        return cls(hyperparameter, low, high, log=log)

    def place(self, numbers):
        """Places between 0 and 1 of numbers (N,) in the hyperparameter's unit; one point of an empty range: 0.5."""
        low, high, numbers = self.low, self.high, np.asarray(numbers, dtype=float)
        if self.log:
            low, high, numbers = np.log(low), np.log(high), np.log(numbers)
        return (numbers - low) / (high - low) if high > low else np.where(np.isnan(numbers), np.nan, 0.5)

    def places(self, column):
        """Places (N,) of a column of values; NaN where the hyperparameter was not active.

        Values in steps are spread by up to a fifth of their step, so that equal trials show; always the same way, and
        a trial keeps its side on every axis.
        """
        sides = np.random.default_rng(0).uniform(-0.2, 0.2, len(column))
        return self.place(codes(column, self.hyperparameter)) + self.step * sides

    def ticks(self):
        """Places and labels of the ticks."""
        if self.categories:
            return self.place(np.arange(len(self.categories))), self.categories
        numbers = self._tick_numbers()
        return self.place(numbers), tuple(f"{number:.4g}" for number in numbers)

    def _tick_numbers(self):
        low, high = (self.low + 0.5, self.high - 0.5) if self.step else (self.low, self.high)
        if low == high:
            return np.array([low])
        if self.log:
            locator = LogLocator(subs=(1.0,) if high / low >= 100 else (1.0, 2.0, 5.0), numticks=12)
        else:
            locator = MaxNLocator(nbins=5, integer=self.hyperparameter["kind"] == "int", steps=(1, 2, 5, 10))
        numbers, slack = locator.tick_values(low, high), 1e-9 * (high - low)
        inside = numbers[(numbers >= low - slack) & (numbers <= high + slack)]
        return inside if len(inside) > 1 else np.array([low, high])


def shortened(value, length=18):
    """A value or name as a label: cut where it is long, and no dollar sign starts a formula."""
    text = " ".join(str(value).split())
    return (text if len(text) <= length else text[: length - 1] + "…").replace("$", r"\$")


def measured(objective):
    """The label of an axis that shows the objective."""
    return shortened(objective, 40) + (" (fraction)" if "accuracy" in objective else "")


def _score_axis(axes, values, objective, direction):
    """Name the y axis; a loss that spans more than a factor 50 gets a log scale, so that diverged trials fit."""
    if direction == "min" and values.min() > 0 and values.max() > 50 * values.min():
        axes.set_yscale("log")
    else:
        axes.ticklabel_format(axis="y", useOffset=False)
    axes.set_ylabel(measured(objective))
    axes.grid(alpha=0.25)


def _legend_outside(figure, handles, columns):
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, frameon=False, fontsize="small")


def _point(color, marker, label):
    return Line2D([], [], color=color, marker=marker, linestyle="none", label=label)


def learning_curves(curves, results, objective, direction):
    """The objective over the epochs, one line a trial; the best three stand out, pruned and failed ones end in a mark.

    Args:
        curves: DataFrame with columns trial, epoch (from 1), value; at least one row.
    """
    figure = Figure(figsize=(6.6, 4.4), layout="constrained")
    axes = figure.subplots()
    top = ceiling(curves["value"], direction)
    curves = curves[np.isfinite(curves["value"])].sort_values("epoch")
    order = ranked(results[results["status"] != "failed"], direction)["trial"]
    styles = dict(zip(order[order.isin(curves["trial"])], LEADERS, strict=False))
    few = curves["epoch"].max() <= 10
    for trial, curve in curves.groupby("trial"):
        marker = "." if few or len(curve) == 1 else None
        axes.plot(curve["epoch"], curve["value"].clip(upper=2 * top), marker=marker, **styles.get(trial, OTHERS))
    legend = [Line2D([], [], label=f"trial {trial}", **style) for trial, style in styles.items()]
    if curves["trial"].nunique() > len(styles):
        legend.append(Line2D([], [], label="other trials", **OTHERS))
    ends = curves.groupby("trial").tail(1).merge(results[["trial", "status"]], on="trial")
    legend += _mark_ends(axes, ends.assign(value=ends["value"].clip(upper=top)))
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _score_axis(axes, curves["value"].clip(upper=top), objective, direction)
    if np.isfinite(top):
        axes.set_ylim(top=top)
    _legend_outside(figure, legend, 3)
    return figure


def _mark_ends(axes, ends):
    """Mark the last epochs (columns epoch, value, status) of pruned and failed trials; returns legend entries."""
    entries = []
    for status, color, marker in (("pruned", ORANGE, "v"), ("failed", RED, "X")):
        some = ends[ends["status"] == status]
        if len(some):
            look = {"color": color, "marker": marker, "s": 28, "edgecolor": "white", "linewidth": 0.5, "zorder": 4}
            axes.scatter(some["epoch"], some["value"], **look)
            entries.append(_point(color, marker, f"{status} here"))
    return entries


def ceiling(values, direction):
    """The loss above which curves of diverged trials leave the figure; infinite where nothing is so large."""
    values = values[np.isfinite(values)]
    bound = fence(values, direction)
    return 3 * bound if direction == "min" and bound > 0 and values.max() > 50 * bound else np.inf


def over_time(results, objective, direction):
    """The score of each trial against the time at which it ended, the best so far as a line, failures at the bottom.

    Args:
        results: at least one trial ended with a score.
    """
    figure = Figure(figsize=(6.6, 4.4), layout="constrained")
    axes = figure.subplots()
    table, line = scored(results), best_so_far(results, direction)
    last = results["ended"].max()
    unit, seconds = next((u, s) for u, s, limit in TIMES if last < limit)
    axes.step([*line["ended"] / seconds, last / seconds], [*line["best"], line["best"].iloc[-1]], "k-", where="post")
    legend = [
        Line2D([], [], color="black", label="best so far"),
        *_scatter(axes, table, table["ended"].to_numpy() / seconds),
    ]
    failed = results.loc[results["status"] == "failed", "ended"].dropna()
    if len(failed):
        bottom = axes.get_xaxis_transform()
        axes.scatter(failed / seconds, np.full(len(failed), 0.02), color=RED, marker="X", s=28, transform=bottom)
        legend.append(_point(RED, "X", "failed (no score)"))
    axes.set_xlabel(f"time since the search began ({unit})")
    axes.set_xlim(left=0)
    _score_axis(axes, line["score"], objective, direction)
    _legend_outside(figure, legend, 3)
    return figure


def _scatter(axes, table, places):
    """Draw scores over places (N,), each status with its own colour and marker; returns legend entries."""
    entries = []
    for status, (color, marker, size) in MARKS.items():
        some = (table["status"] == status).to_numpy()
        if some.any():
            look = {"color": color, "marker": marker, "s": size, "alpha": 0.75, "linewidth": 0, "zorder": 3}
            axes.scatter(places[some], table.loc[some, "score"], **look)
            entries.append(_point(color, marker, status))
    return entries


def each_hyperparameter(results, hyperparameters, objective, direction):
    """Each hyperparameter against the score: small multiples with one score axis, the best trial ringed.

    Args:
        results: at least one trial ended with a score.
        hyperparameters: at least one.
    """
    columns = min(3, len(hyperparameters))
    rows = -(-len(hyperparameters) // columns)
    figure = Figure(figsize=(1.2 + 3.6 * columns, 0.6 + 2.9 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    table = scored(results)
    best = table["trial"] == ranked(table, direction)["trial"].iloc[0]
    legend = []
    for axes, (name, entry) in zip(grid.flat, hyperparameters.items(), strict=False):
        scale = Scale.of(entry, table[name])
        places = scale.places(table[name])
        legend = _scatter(axes, table, places)
        axes.scatter(
            places[best], table.loc[best, "score"], s=130, facecolor="none", edgecolor=RED, linewidth=1.6, zorder=4
        )
        axes.set_xlim(-0.05, 1.05)
        axes.set_xlabel(shortened(name, 36) + (" (log scale)" if scale.log else ""))
        _sideways_ticks(axes, *scale.ticks())
        _score_axis(axes, table["score"], objective, direction)
    for axes in grid[:, 1:].flat:
        axes.set_ylabel("")
    for axes in list(grid.flat)[len(hyperparameters) :]:
        axes.set_visible(False)
    ring = Line2D([], [], marker="o", markersize=10, markerfacecolor="none", markeredgecolor=RED, linestyle="none")
    ring.set_label("best trial")
    _legend_outside(figure, [*legend, ring], 4)
    return figure


def _sideways_ticks(axes, places, labels):
    crowded = sum(len(label) + 2 for label in labels) > 38
    axes.set_xticks(places, labels, fontsize="small", rotation=90 if crowded else 0)


def parallel_coordinates(results, hyperparameters, objective, direction):
    """One line a trial through the values that it took, the score as the last axis and as the colour.

    Args:
        results: at least one trial ended with a score.
        hyperparameters: at least one.
    """
    table = ranked(scored(results), direction).iloc[::-1]
    score = {"kind": "float", "low": None, "high": None, "log": False}
    scales = [Scale.of(entry, results[name]) for name, entry in hyperparameters.items()]
    scales.append(Scale.of(score, table["score"].clip(*_within(table["score"], direction))))
    figure = Figure(figsize=(max(6.6, 1.8 + 1.55 * len(scales)), 5), layout="constrained")
    axes = figure.subplots()
    places = [scale.places(table[name]) for scale, name in zip(scales, [*hyperparameters, "score"], strict=True)]
    places[-1] = places[-1].clip(0, 1)
    lines = np.where(np.isnan(places), INACTIVE, places).T
    thin = 1.3 if len(table) <= 60 else 0.7
    colors = _score_colors(table["score"], direction)
    for number, (line, color) in enumerate(zip(lines, colors.to_rgba(table["score"]), strict=True)):
        best = number == len(lines) - 1
        axes.plot(line, color=color, linewidth=3 if best else thin, alpha=1 if best else 0.8, solid_joinstyle="round")
    for across, (scale, values) in enumerate(zip(scales, places, strict=True)):
        _upright_axis(axes, across, scale, np.isnan(values).any())
    names = [_wrapped(name) for name in (*hyperparameters, measured(objective))]
    names = [f"{name}\n(log scale)" if scale.log else name for scale, name in zip(scales, names, strict=True)]
    axes.set_xticks(range(len(scales)), names)
    axes.tick_params(axis="x", length=0)
    axes.set_yticks([])
    axes.set_xlim(-0.15, len(scales) - 0.45)
    axes.set_ylim(INACTIVE - 0.05 if np.isnan(places).any() else -0.05, 1.05)
    axes.spines[:].set_visible(False)
    beyond = {"max": "min", "min": "max"}[direction] if is_cut(table["score"], direction) else "neither"
    figure.colorbar(colors, ax=axes, label=measured(objective), extend=beyond, pad=0.01, shrink=0.9)
    return figure


def _wrapped(name, length=15):
    """A name in lines that fit between two axes, broken at spaces and after underscores."""
    lines = textwrap.wrap(str(name).replace("_", "_ "), length)
    return "\n".join(shortened(line.replace("_ ", "_")) for line in lines[:4])


def _within(scores, direction):
    """The range of the scores up to the fence, as (low, high)."""
    bound = fence(scores, direction)
    return (bound, scores.max()) if direction == "max" else (scores.min(), bound)


def is_cut(scores, direction):
    """Whether some scores lie beyond the fence, where colours no longer tell them apart."""
    low, high = _within(scores, direction)
    return bool(scores.min() < low or scores.max() > high)


def _score_colors(scores, direction):
    """Colours of scores, dark for good, equal beyond the fence."""
    low, high = _within(scores, direction)
    if low == high:
        room = 0.05 * abs(low) or 0.5
        low, high = low - room, high + room
    return ScalarMappable(Normalize(low, high), DARK_TO_LIGHT.reversed() if direction == "max" else DARK_TO_LIGHT)


def _upright_axis(axes, across, scale, has_inactive):
    axes.plot([across, across], [0, 1], color="black", linewidth=1, zorder=4)
    places, labels = scale.ticks()
    marks = [*zip(places, labels, strict=True), *([(INACTIVE, "inactive")] if has_inactive else [])]
    for place, label in marks:
        axes.plot([across, across + 0.03], [place, place], color="black", linewidth=1, zorder=4)
        box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.8}
        axes.text(across + 0.05, place, label, fontsize="small", va="center", bbox=box, zorder=5)


def importance_bars(shares):
    """Each hyperparameter's share of the importance, largest on top.

    Args:
        shares: pandas.Series that sums to 1, index the names, largest first.
    """
    figure = Figure(figsize=(6.6, 1.1 + 0.42 * len(shares)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(range(len(shares)), shares, color=BLUE, height=0.65)
    axes.bar_label(bars, [f"{share:.0%}" for share in shares], padding=4)
    axes.set_yticks(range(len(shares)), [shortened(name, 36) for name in shares.index])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1 * shares.max())
    axes.set_xlabel("share of the importance (fraction)")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
