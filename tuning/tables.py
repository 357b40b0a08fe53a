"""A search's folder, read back: its trials as a DataFrame, their curves, what was asked. Reading never changes it.

search.json        what was asked
search.lock        held by the process that runs the search
search.sqlite      the journal (tuning.store)
trials/0007/       an ordinary run folder for each trial, and trials/0007.log
winner.toml        the best trial's recipe, for kerascnn train --config
winner/            the best trial's run with its test result and SavedModel
results.csv, report.html
"""

import contextlib
import fcntl
import json
from pathlib import Path

import pandas

from kerascnn.errors import UsageError, unknown
from kerascnn.files import read_json
from kerascnn.runs import ROOT, Run
from tuning.ranking import ranked, scored
from tuning.store import NAME, Store

LOCK = "search.lock"
FIXED_COLUMNS = ("status", "score", "best_epoch", "epochs", "seconds", "started", "ended", "run", "reason")


def run_folder(folder, trial):
    """Where a trial's run lies."""
    return Path(folder).resolve() / "trials" / f"{trial:04d}"


def find(name):
    """The folder of the search that a user means: a folder, the name of one under saved_models, or "last".

    Raises:
        UsageError: there is none; the nearest names are told.
    """
    paths = sorted(ROOT.glob("*/search.json"), key=lambda path: path.stat().st_mtime_ns)
    if str(name) == "last":
        if not paths:
            raise UsageError(f"There is no last search: {ROOT}/ holds none. Make one: kerascnn tune")
        return paths[-1].parent
    for folder in (Path(name), ROOT / name):
        if (folder / "search.json").is_file():
            return folder
    raise unknown("search folder", name, [path.parent.name for path in paths])


def asked(folder):
    """search.json of a search's folder.

    Raises:
        UsageError: the folder holds no search.
    """
    path = Path(folder) / "search.json"
    if not path.is_file() or not (Path(folder) / NAME).is_file():
        raise UsageError(f"{folder} holds no search: it has no {path.name} or no {NAME}. Make one: kerascnn tune")
    return read_json(path)


def results(folder):
    """The trials of a search as a DataFrame, one row each, also while it runs.

    Returns:
        DataFrame with columns trial, one for each hyperparameter (None where it was not active), status (waiting,
        running, paused, completed, pruned, stopped, failed), score (the objective's best value over the epochs),
        best_epoch (from 1), epochs (finished; without those of the trial that it goes on with), seconds (of its
        processes but killed ones), started and ended (seconds since the search began), run (its run folder), reason.
    """
    names = asked(folder)["hyperparameters"]
    with contextlib.closing(Store(folder, readonly=True)) as store:
        began = store.fact("began", 0.0)
        epochs = (
            pandas.DataFrame(store.reports(), columns=["trial", "epoch", "value", "metrics"]).groupby("trial").size()
        )
        rows = []
        for row in store.trials():
            values = json.loads(row["hyperparameters"])
            rows.append(
                {
                    "trial": row["trial"],
                    **{name: values.get(name) for name in names},
                    **{name: row[name] for name in ("status", "score", "best_epoch", "seconds", "reason")},
                    "epochs": int(epochs.get(row["trial"], 0) - epochs.get(row["parent"], 0)),
                    "started": row["started"] - began,
                    "ended": None if row["ended"] is None else row["ended"] - began,
                    "run": str(run_folder(folder, row["trial"])),
                }
            )
    table = pandas.DataFrame(rows, columns=["trial", *names, *FIXED_COLUMNS])
    for name in ("score", "best_epoch", "ended"):
        table[name] = pandas.to_numeric(table[name])
    return table


def curves(folder):
    """The objective of every trial after every epoch: DataFrame trial, epoch (from 1), value."""
    asked(folder)
    with contextlib.closing(Store(folder, readonly=True)) as store:
        table = pandas.DataFrame(store.reports(), columns=["trial", "epoch", "value", "metrics"])
    return table[["trial", "epoch", "value"]]


def best(table, direction):
    """The row of the trial with the best score, the earliest of equals, or None; `table` is that of `results`."""
    leaders = ranked(scored(table), direction)
    return None if leaders.empty else leaders.iloc[0]


def _runs(folder):
    """True if a process holds the search's lock."""
    with contextlib.suppress(FileNotFoundError), open(Path(folder) / LOCK) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def described(folder):
    """What a search asked and where it stands, as a dict: search.json, with state, reason and winner."""
    search = asked(folder)
    with contextlib.closing(Store(folder, readonly=True)) as store:
        ended, reason = store.fact("ended"), store.fact("reason", "")
    failed = "failed" in reason or "time of" in reason
    going = "running" if _runs(folder) else "interrupted"
    state = going if ended is None else "stopped" if failed else "finished"
    winner, home = None, Path(folder) / "winner"
    if (home / "run.json").is_file():
        crowned, leader = Run(home).read("run"), best(results(folder), search["direction"])
        if leader is not None and leader["trial"] == crowned["of_trial"]:  # else another trial has overtaken it
            winner = {
                "trial": crowned["of_trial"],
                "score": float(leader["score"]),
                "test_accuracy": crowned["result"]["accuracy"],
                "run": str(home),
                "recipe": str(Path(folder) / "winner.toml"),
            }
    return {**search, "state": state, "reason": reason, "winner": winner}
