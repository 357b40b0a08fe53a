"""Runs that were trained elsewhere, used in a study for a row's first training."""

import shutil

from kerascnn import runs
from kerascnn.errors import DataError, UsageError, command
from kerascnn.recipes import Recipe
from kerascnn.studies.frame.study import Training

LEFT = ("checkpoint", "export", "evaluation", "plots", "report.html", "experiments", "scan", "explain", "activations")


def take(results, recipes, runs_of, say):
    """Copy finished runs to where the first training of their rows would be; what a row already has is kept.

    Args:
        results: Results.
        recipes: {name of a row: Recipe by which it would be trained}.
        runs_of: {name of a row: run, its folder or name}; None: none.
        say: called with a line for each run.
    Raises:
        UsageError: there is no such row or run, the run has not finished, or its recipe differs in more than the seed.
    """
    for row, named in (runs_of or {}).items():
        if results.finished(row, 0):
            say(f"{row} has its first training already, so {named} is not used")
            continue
        run = runs.find(named)
        _check(run, row, recipes[row])
        with runs.replacing(results.folder_of(row, 0)) as temporary:
            shutil.copytree(run.folder, temporary, ignore=shutil.ignore_patterns(*LEFT))
        results.failures.pop(f"{row}/seed-0", None)
        say(f"{row}: {run.folder} serves as its first training")


def check_rows(study, names):
    """Raise a UsageError unless each name is that of a trained row."""
    known = [row.name for row in study.rows if isinstance(row, Training)]
    for name in names or ():
        if name not in known:
            trained = ", ".join(known) or "none"
            raise UsageError(f"run={name} is not a trained row of {study.name!r}. Its trained rows: {trained}.")


def _check(run, row, recipe):
    try:
        status = run.read("run").get("status")
    except DataError:
        status = None
    if status != "finished":
        again = command("train", "--resume", run.folder)
        raise UsageError(f"{run.folder} has not finished, so it cannot be used for {row}. Finish it: {again}")
    others = [name for name in Recipe.from_dict(run.read("recipe")).differences(recipe) if name != "seed"]
    if others:
        raise UsageError(
            f"{run.folder} was trained with another {', '.join(others)} than {row} is, so it cannot be used for it."
        )
