"""What comes after a search's last trial: its table, its winner, its page."""

import shutil

import tomli_w

from kerascnn import runs
from kerascnn.errors import DataError, command, counted
from kerascnn.recipes import Recipe
from tuning import tables
from tuning.page.report import write

WINNERS = ("keep", "retrain", "none")


def close(folder, winner, say):
    """Write results.csv, the winner and the page of a search.

    Args:
        winner: one of `WINNERS`.
    Raises:
        DataError: no trial was completed.
    """
    search = tables.asked(folder)
    table = tables.results(folder)
    row = tables.best(table, search["direction"])
    if row is None:
        write(folder)
        reasons = "; ".join(sorted({reason for reason in table["reason"] if reason}))
        waiting = int((table["status"] == "waiting").sum())
        if waiting and not reasons:
            reasons = (
                f"{counted(waiting, 'trial')} had not finished an epoch when the time was up: resume with more time."
            )
        raise DataError(f"No trial was completed, so there is no winner. {reasons or 'No trial was made.'}")
    say(f"Best: trial {row['trial']}, {search['objective']} {row['score']:.4f} after epoch {row['best_epoch']:.0f}")
    run = runs.Run(row["run"])
    if "hypermodel" in run.read("run"):
        write(folder)
        say(f"Network   {run / 'best.keras'}")
        say(f"Page      {folder / 'report.html'}")
        return
    recipe = Recipe.from_dict(run.read("recipe"))
    runs.write_text(folder / "winner.toml", as_toml(recipe))
    write(folder)  # whatever the winner comes to
    if winner != "none":
        _crown(folder, run, recipe, int(row["best_epoch"]), winner, say)
    write(folder)
    say(f"Recipe    kerascnn train --config {folder / 'winner.toml'}")
    say(f"Page      {folder / 'report.html'}")


def _crown(folder, run, recipe, best_epoch, how, say):
    """Make winner/: the best trial's run, or a new training on validation images too; its test split is read once."""
    from kerascnn import using
    from kerascnn.training.finish import write_best
    from kerascnn.training.train import train

    home, facts = folder / "winner", {"of_trial": int(run.folder.name), "how": how}
    if not (home / "run.json").exists() or any(runs.Run(home).read("run").get(k) != v for k, v in facts.items()):
        with runs.replacing(home) as temporary:
            if how == "retrain":
                warmup = recipe.warmup_epochs * best_epoch / recipe.epochs
                changes = {"validation": 0.0, "monitor": "loss", "epochs": best_epoch, "stop_patience": 0}
                changes |= {"warmup_epochs": warmup}
                crowned = train(recipe.replace(**changes), out=temporary, say=say)
            else:
                if not (run / "best.keras").exists() and write_best(run, recipe) is None:  # its process was killed
                    raise DataError(f"{run.folder} has no weights yet. Give resume=True and winner='retrain'.")
                shutil.copytree(run.folder, temporary, ignore=shutil.ignore_patterns("checkpoint"))
                crowned = runs.Run(temporary)
                measured = using.evaluate(crowned)
                had = crowned.read("run")["result"] or {}  # none where its trial waits to be taken up again
                crowned.update(status="finished", reason=None, result={**measured.to_dict(), **had})
            crowned.update(**facts)
    result = runs.Run(home).read("run")["result"]
    low, high = result["accuracy_interval"]
    interval = f"95% interval {100 * low:.2f} to {100 * high:.2f}"
    say(f"Winner    {home}: test accuracy {100 * result['accuracy']:.2f}% ({interval})")
    say(f"SavedModel {_exported(home)}")


def _exported(home):
    """Where the winner's SavedModel lies, made where it is not there; or why it cannot be made."""
    from kerascnn.using.exporting import export

    try:
        if not (home / "export" / "saved_model").is_dir():
            export(runs.Run(home), fresh=False)
    except Exception as error:  # the search is finished; whatever goes wrong here must not hide its result
        return (
            f"not written: {(str(error) or type(error).__name__).splitlines()[0]}  (again: {command('export', home)})"
        )
    return home / "export" / "saved_model"


def as_toml(recipe):
    """The fields of a recipe as TOML that `kerascnn train --config` takes; TOML has no word for None."""
    return tomli_w.dumps(_without_none(recipe.to_dict()))


def _without_none(values):
    return {k: _without_none(v) if isinstance(v, dict) else v for k, v in values.items() if v is not None}
