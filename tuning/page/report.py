"""The page of a search: data frames -> one HTML text with its figures inside. Never imports Keras."""

import base64
import dataclasses
import datetime
import io
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from kerascnn import runs
from kerascnn.errors import command
from tuning import tables
from tuning.page import figures
from tuning.ranking import FEWEST_TRIALS, GROUPS, importance_and_fit, ranked, scored

COLUMNS = ("trial", *tables.FIXED_COLUMNS)
NUMBERS = ("score", "best_epoch", "epochs", "seconds", "started", "ended")
STOP_EARLY = {"none": "none", "median": "median rule", "halving": "successive halving"}
MISSING = "-"
CSS_PIXELS_AN_INCH = 96
TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("tuning.page"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
)


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page: a figure with its alternative text and caption, or only a sentence."""

    title: str
    caption: str
    figure: Figure | None = None
    alt: str = ""
    wide: bool = False

    @property
    def width(self):
        """Width of the figure in CSS pixels."""
        return round(self.figure.get_figwidth() * CSS_PIXELS_AN_INCH)

    @property
    def source(self):
        """The figure as a data URI of a PNG with two pixels to a CSS pixel; equal figures give equal bytes."""
        file = io.BytesIO()
        self.figure.savefig(file, format="rgba", dpi=2 * CSS_PIXELS_AN_INCH)
        size = (2 * self.figure.get_size_inches() * CSS_PIXELS_AN_INCH).astype(int)
        pixels = Image.frombytes("RGBA", tuple(size), file.getvalue()).convert("RGB")
        file = io.BytesIO()
        # A palette of 256 colours: a quarter of the bytes, and no difference to the eye.
        pixels.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(file, "png", optimize=True)
        return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def page(results, curves, search):
    """The page of a search as one HTML text that loads nothing from anywhere and has no scripts.

    Args:
        results: DataFrame, one row a trial: trial (int), one column for each hyperparameter (None or NaN: not active),
            status ("completed", "pruned", "stopped", "paused", "failed", "running", "waiting"), score (the best value
            of the objective over the epochs, or NaN), best_epoch, epochs, seconds, started and ended (seconds since
            the search began, NaN while not ended), run (path), reason (why it failed or was pruned, or "").
        curves: DataFrame: trial, epoch (from 1), value (the objective after that epoch).
        search: dict: name, data, tuner, objective, direction ("max" or "min"), trials (how many were asked), epochs,
            seed, stop_early ("none", "median", "halving"), state ("running", "interrupted", "finished", "stopped"),
            reason, hyperparameters {name: {"kind": "float"|"int"|"choice"|"boolean", "low", "high", "log", "values"}},
            winner (None or {"trial", "score", "test_accuracy", "run", "recipe"}).
    """
    results, curves = _typed(results, search["hyperparameters"]), curves.reindex(columns=["trial", "epoch", "value"])
    curves = curves.assign(value=pd.to_numeric(curves["value"], errors="coerce"))
    return TEMPLATES.get_template("report.html").render(
        search=search,
        facts=_facts(results, search),
        best=_best(results, search),
        table=_table(results, search),
        inactive=bool(results[list(search["hyperparameters"])].isna().any(axis=None)),
        sections=[
            _learning_curves(results, curves, search),
            _over_time(results, search),
            _parallel_coordinates(results, search),
            _each_hyperparameter(results, search),
            _importance(results, search),
        ],
    )


def _typed(results, hyperparameters):
    """The results with every column there, as numbers where they should be."""
    results = results.reindex(columns=list(dict.fromkeys([*COLUMNS, *hyperparameters]))).reset_index(drop=True)
    for name in NUMBERS:
        results[name] = pd.to_numeric(results[name], errors="coerce").astype(float)
    return results


def _facts(results, search):
    """What was asked and what happened, as (name, text) pairs."""
    counts = results["status"].value_counts()
    happened = ", ".join(f"{counts[status]} {status}" for status in GROUPS if status in counts) or "none begun"
    wall = results["ended"].max()
    asked = f"{search['trials']} asked: " if search["trials"] else ""  # how many hyperband and grid make is theirs
    return [
        ("State", search["state"] + (f": {search['reason']}" if search["reason"] else "")),
        ("Trials", asked + happened),
        ("Data", search["data"]),
        ("Tuner", f"{search['tuner']}, seed {search['seed']}"),
        ("Objective", f"{search['objective']}, {'higher' if search['direction'] == 'max' else 'lower'} is better"),
        ("Epochs", f"at most {search['epochs']} a trial, {results['epochs'].sum():.0f} trained in all"),
        ("Stops bad trials", STOP_EARLY[search["stop_early"]]),
        ("Time", f"{_duration(wall)} until the last trial ended" if np.isfinite(wall) else "no trial has ended"),
    ]


def _best(results, search):
    """The winner, or the best trial so far, or None: trial, score, values, and how to train it where that is known."""
    leaders = ranked(scored(results), search["direction"])
    winner = search["winner"] or {}
    if winner:
        leaders = results[results["trial"] == winner["trial"]]
    if leaders.empty:
        return None
    row = leaders.iloc[0]
    test_accuracy = winner.get("test_accuracy")
    return {
        "title": "Winner" if winner else "Best so far" if search["state"] in ("running", "interrupted") else "Best",
        "trial": row["trial"],
        "score": _score(winner.get("score", row["score"])),
        "test_accuracy": None if test_accuracy is None else _score(test_accuracy),
        "run": winner.get("run", row["run"]),
        "values": [(name, _value(row[name], entry)) for name, entry in search["hyperparameters"].items()],
        "command": command("train", "--config", winner["recipe"]) if winner else None,
    }


def _table(results, search):
    """All trials as an HTML table, best first; "" without trials."""
    if results.empty:
        return ""
    order = ranked(results, search["direction"])
    columns = {
        "trial": order["trial"],
        "status": order["status"],
        search["objective"]: order["score"].map(_score),
        **{name: order[name].map(lambda v, e=e: _value(v, e)) for name, e in search["hyperparameters"].items()},
        "best epoch": order["best_epoch"].map(_whole),
        "epochs": order["epochs"].map(_whole),
        "time (h:mm:ss)": order["seconds"].map(_duration),
        "run": order["run"].fillna(MISSING),
        "reason": order["reason"].fillna(""),
    }
    table = pd.concat(columns.values(), axis=1, keys=columns.keys())
    return table.to_html(index=False, border=0, justify="left")


def _score(value):
    return MISSING if pd.isna(value) else f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.4g}"


def _whole(value):
    return MISSING if pd.isna(value) else str(int(value))


def _value(value, hyperparameter):
    """A hyperparameter's value as text: whole numbers without a point, a dash where it was not active."""
    if pd.isna(value):
        return MISSING
    if hyperparameter["kind"] == "int":
        return _whole(value)
    return f"{value:.4g}" if hyperparameter["kind"] == "float" else str(value)


def _duration(seconds):
    return MISSING if pd.isna(seconds) else str(datetime.timedelta(seconds=round(seconds)))


def _of_trials(number):
    return "1 trial" if number == 1 else f"{number} trials"


def _leader(results, search):
    """The best trial in words."""
    row = ranked(scored(results), search["direction"]).iloc[0]
    return (
        f"trial {row['trial']} with {search['objective']} {_score(row['score'])} at epoch {_whole(row['best_epoch'])}"
    )


def _learning_curves(results, curves, search):
    title = "Learning curves"
    number = curves.loc[np.isfinite(curves["value"]), "trial"].nunique()
    if number == 0:
        return Section(title, "No trial has finished an epoch yet.")
    best = f"; the best is {_leader(results, search)}" if len(scored(results)) else ""
    top = figures.ceiling(curves["value"], search["direction"])
    above = f" Curves that leave the top went beyond {top:.4g}." if np.isfinite(top) else ""
    what = f"{search['objective']} after each epoch, {_of_trials(number)}{best}.{above}"
    figure = figures.learning_curves(curves, results, search["objective"], search["direction"])
    return Section(title, what, figure, f"Line plot: {what}")


def _over_time(results, search):
    title, results = "Trials over time", results[results["ended"].notna()]
    number = len(scored(results))
    if number == 0:
        return _without_scores(title)
    what = (
        f"The {search['objective']} of {_of_trials(number)} when each ended, and the best so far; the best is "
        f"{_leader(results, search)}."
    )
    figure = figures.over_time(results, search["objective"], search["direction"])
    return Section(title, what, figure, f"Scatter plot: {what}")


def _parallel_coordinates(results, search):
    title, number = "All hyperparameters together", len(scored(results))
    if number == 0:
        return _without_scores(title)
    what = (
        f"{_of_trials(number)}, one line each through its values; dark lines are good trials, the thick one is "
        f"{_leader(results, search)}."
    )
    far = " Scores far worse than the others share the last colour and the end of the last axis."
    notes = far if figures.is_cut(scored(results)["score"], search["direction"]) else ""
    hyperparameters = search["hyperparameters"]
    figure = figures.parallel_coordinates(results, hyperparameters, search["objective"], search["direction"])
    alt = f"Parallel coordinates of {', '.join(hyperparameters)}: {what}"
    return Section(title, what + notes, figure, alt, wide=True)


def _each_hyperparameter(results, search):
    title, number = "Each hyperparameter against the score", len(scored(results))
    if number == 0:
        return _without_scores(title)
    hyperparameters = search["hyperparameters"]
    what = f"{search['objective']} of {_of_trials(number)} against {', '.join(hyperparameters)}."
    notes = " Categories and few whole numbers are spread sideways, so that equal trials show."
    if scored(results)[list(hyperparameters)].isna().any(axis=None):
        notes += " A trial is left out where it does not use the hyperparameter."
    figure = figures.each_hyperparameter(results, hyperparameters, search["objective"], search["direction"])
    return Section(title, what + notes, figure, f"Scatter plots: {what}", wide=True)


def _importance(results, search):
    title, number = "Importance", len(scored(results))
    if number < FEWEST_TRIALS:
        return Section(
            title, f"Importance needs at least {FEWEST_TRIALS} trials that ended with a score; there are {number}."
        )
    shares, r2 = importance_and_fit(results, search["hyperparameters"], search["direction"])
    if shares.isna().any():
        return Section(title, f"The scores of {_of_trials(number)} differ too little to say what makes a difference.")
    doubt = " Here that is so: take it as a hint at most." if number < 20 or r2 < 0.3 else ""
    caption = (
        f"Permutation importance of a random forest fitted to {_of_trials(number)}, which predicts the score of trials "
        f"it has not seen with R² = {r2:.2f} (out of bag; 1 is perfect, 0 no better than the mean). Importance is "
        f"worth little where trials are few or R² is low.{doubt} Pruned trials count with the score they had."
    )
    alt = "Bars: " + ", ".join(f"{name} {share:.0%}" for name, share in shares.items()) + "."
    return Section(title, caption, figures.importance_bars(shares), alt)


def _without_scores(title):
    return Section(title, "No trial has ended with a score yet.")


def write(folder):
    """Write report.html and results.csv into a search's folder, also while it runs; returns their paths."""
    folder, results = Path(folder), tables.results(folder)
    runs.write_table(folder / "results.csv", results)
    shown = results.assign(run=[str(Path(run).relative_to(folder.resolve())) for run in results["run"]])
    runs.write_text(folder / "report.html", page(shown, tables.curves(folder), tables.described(folder)))
    return folder / "report.html", folder / "results.csv"
