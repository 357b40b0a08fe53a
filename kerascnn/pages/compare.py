"""Runs side by side in one HTML file, made only from their folders: results, paired tests, curves, and differences."""

import contextlib
import itertools
import json

from scipy.stats import binomtest

from kerascnn import runs as run_folders
from kerascnn.errors import DataError, UsageError, counted
from kerascnn.pages import charts
from kerascnn.pages.report import TEMPLATES, best_of, metrics_of, report
from kerascnn.training import record

QUANTITIES = ("val_accuracy", "val_loss", "test_accuracy", "test_loss", "accuracy", "loss")
TITLES = {"val_": "validation ", "test_": "test ", "": "training "}


def write(runs, out, axis=None):
    """Write the comparison of runs to an HTML file; returns its path. Arguments and errors as of `compare`."""
    run_folders.write_text(out, compare(runs, axis))
    return out


def compare(runs, axis=None):
    """The comparison of two or more runs as one HTML text that loads no other files.

    Args:
        runs: folders, names or "last".
        axis: "images" draws the curves over the training images that each network had seen, which is fair to runs with
            batches of different sizes; None: over epochs or steps where all runs count the same.
    Raises:
        UsageError: there are fewer than two runs, or one of them is given twice.
    """
    folders = [run_folders.as_run(run) for run in runs]
    if len({run.folder.resolve() for run in folders}) < max(2, len(folders)):
        raise UsageError(f"Two or more different runs are needed; {counted(len(folders), 'run')} given.")
    for run in folders:
        report(run)  # raises for a damaged one, naming it
    names = _names(folders)
    paired, notes = _paired(folders, names)
    curves, note = _curves(folders, names, axis)
    return TEMPLATES.get_template("compare.html").render(
        runs=[_row(name, run) for name, run in zip(names, folders, strict=True)],
        paired=paired,
        notes=notes,
        curves=curves,
        curves_note=note,
        differences=_differences(folders),
    )


def _names(folders):
    """The folders' names, with as many parent folders as are needed to tell them apart."""
    paths = [run.folder.resolve().parts for run in folders]
    names = [parts[-1] for parts in paths]
    for length in range(2, max(map(len, paths)) + 1):
        names = [
            "/".join(parts[-length:]) if names.count(name) > 1 else name
            for name, parts in zip(names, paths, strict=True)
        ]
    return names


def _row(name, run):
    """The cells of a run's row; empty where its folder does not have the value."""
    state = run.read("run")
    result = state.get("result") or {}
    row = {"name": name, "status": run.status, **dict.fromkeys(("accuracy", "interval", "loss", "best"), "")}
    if "accuracy" in result:
        low, high = result["accuracy_interval"]
        row["accuracy"] = f"{100 * result['accuracy']:.2f}%"
        row["interval"] = f"{100 * low:.2f} to {100 * high:.2f}"
        row["loss"] = f"{result['loss']:.4f}" if "loss" in result else ""
    row["best"] = best_of(result) or ""
    row["parameters"] = f"{state['parameters']:,}" if "parameters" in state else ""
    row["minutes"] = f"{state['seconds'] / 60:.1f}" if "seconds" in state else ""
    return row


def mcnemar(first, second):
    """McNemar's exact test of two classifiers on the same images.

    Args:
        first, second: bool (N,), which images each classifier gets right.
    Returns:
        (number that only the first gets right, number that only the second gets right, two-sided p).
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    differing = only_first + only_second
    return only_first, only_second, float(binomtest(only_first, differing).pvalue) if differing else 1.0


def _paired(folders, names):
    """(rows of the table of pairs, sentences on runs that cannot be paired)."""
    tables = {name: record.read(run).get("predictions") for name, run in zip(names, folders, strict=True)}
    rows, notes = [], []
    for first, second in itertools.combinations(names, 2):
        one, other = tables[first], tables[second]
        if one is None or other is None:
            continue
        if not (one["file"].equals(other["file"]) and one["label"].equals(other["label"])):
            notes.append(f"{first} and {second} were tested on different images, so they cannot be compared in pairs.")
            continue
        only_first, only_second, p = mcnemar(one["correct"].to_numpy(bool), other["correct"].to_numpy(bool))
        numbers = {"images": f"{len(one):,}", "only_first": only_first, "only_second": only_second, "p": f"{p:.3g}"}
        rows.append({"first": first, "second": second, **numbers})
    without = [name for name, table in tables.items() if table is None]
    if without:
        notes.append(f"No predictions are kept in {', '.join(without)}.")
    return rows, notes


def _curves(folders, names, axis):
    """([(title, chart)] for each quantity of all runs over epochs, steps or images; a sentence on the axis or "")."""
    tables = [(name, *metrics_of(run, axis)) for name, run in zip(names, folders, strict=True)]
    units = {unit for _, unit, _ in tables if unit}
    if len(units) > 1:
        with contextlib.suppress(DataError):
            charted, _ = _curves(folders, names, "images")
            return (
                charted,
                "Some runs count epochs and others steps: the curves are drawn over the images they have seen.",
            )
        return [], "Some runs count epochs and others steps, so their curves cannot share an axis."
    unit = next(iter(units), "")
    charted = []
    for quantity in QUANTITIES:
        series = {name: (table["x"], table[quantity]) for name, _, table in tables if quantity in table}
        if series:
            prefix, _, what = quantity.rpartition("_")
            title = TITLES[f"{prefix}_" if prefix else ""] + what
            y_label = "loss (nats)" if what == "loss" else what
            charted.append((title.capitalize(), charts.lines(series, unit, y_label, counts=True)))
    return charted, ""


def _differences(folders):
    """(setting, [its value in each run]) of the settings that differ."""
    recipes = [run.read("recipe") for run in folders]
    fields = dict.fromkeys(field for recipe in recipes for field in recipe)
    texts = {field: [json.dumps(recipe.get(field), ensure_ascii=False) for recipe in recipes] for field in fields}
    return [(field, values) for field, values in texts.items() if len(set(values)) > 1]
