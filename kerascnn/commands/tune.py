"""`kerascnn tune` and related commands. `tuning` is imported when one of them is called."""

import contextlib
import math
import os
import sys
import threading
from typing import Annotated

from cyclopts import Parameter

from kerascnn.commands.terminal import (
    Flag,
    Json,
    computing,
    let_interrupts_through,
    naming,
    print_facts,
    print_json,
    print_table,
)
from kerascnn.commands.train import make_fields, typed_fields
from kerascnn.errors import UsageError

Fixed = make_fields("Fixed", leave_out=("data", "epochs", "steps", "seed", "monitor"))
Token = Annotated[str, Parameter(help="secret that workers show to the chief", env_var="KERASCNN_TOKEN")]
Folder = Annotated[str, Parameter(help='a search: its folder, its name under saved_models, or "last"')]


def tune(
    data: str | None = None,
    /,
    *,
    search: str | None = None,
    tuner: str | None = None,
    trials: int | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    workers: int | None = None,
    time: str | None = None,
    objective: str | None = None,
    stop_early: str | None = None,
    max_failures: int | None = None,
    winner: str | None = None,
    out: str | None = None,
    resume: Flag = False,
    engine: str = "local",
    address: str = "auto",
    storage: str | None = None,
    listen: str | None = None,
    token: Token = "",
    lease: float = 20.0,
    fields: Annotated[Fixed, Parameter(name="*")] = Fixed(),  # noqa: B008 (frozen by never being written)
):
    """Search for the best settings; every trial is a run, and --resume continues a killed search.

    Recipe fields that you type, such as --image-size 16, replace the values that the search space fixes. Fields that
    the space does not mention have their default values. Fields that the space searches cannot be typed.

    Parameters
    ----------
    data
        name of a data set, or a folder or file [default: the search's own]
    search
        a space: its name (kerascnn searches), or a .py or .toml file [default: cifar_net]
    tuner
        random, bayesian, hyperband, grid, or tpe (needs the extra optuna) [default: random]
    trials
        largest number of trials [default: 30; with hyperband and grid, all of theirs]
    epochs
        epochs of a full trial [default: 20]
    seed
        seed of the suggestions and of every training [default: 0]
    workers
        worker processes on this machine, which share its cores; 0: only those that join with tune-worker [default: 1;
        with ray, as many as the cluster has machines]
    time
        time for the whole search, such as 2h, 30m or 90 (seconds); time while it is interrupted does not count
    objective
        val_accuracy, val_loss, accuracy or loss; a trial's score is its best over the epochs [default: val_accuracy]
    stop_early
        halving, median or none [default: halving; none for hyperband, median for a HyperModel]
    max_failures
        failed trials in a row after which the search stops [default: 3]
    winner
        keep the best trial's weights, retrain it on training and validation images together, or none [default: keep]
    out
        folder of the search, new or empty; with --resume, the folder of the search to continue
    resume
        continue the search in --out; options that are not typed stay as they were
    engine
        local, or ray: workers run over a Ray cluster (needs the extra ray)
    address
        the Ray cluster: auto (this machine belongs to it), HOST:PORT, or local (start one here)
    storage
        with --engine ray, the search's folder, which all machines share; the same command resumes the search
    listen
        HOST:PORT that workers join; port 0 means any free port [default: 127.0.0.1:0; with ray, this machine's address]
    lease
        seconds of silence after which a worker counts as dead and another worker gets its trial
    """
    seconds = None if time is None else _seconds(time)
    with computing() as (say, _), naming(seconds="--time", lease_seconds="--lease"):
        let_interrupts_through()
        from tuning.searching import search as run_search

        run_search(
            data,
            search=search,
            tuner=tuner,
            trials=trials,
            epochs=epochs,
            seed=seed,
            workers=workers,
            seconds=seconds,
            objective=objective,
            stop_early=stop_early,
            max_failures=max_failures,
            winner=winner,
            out=out,
            resume=resume,
            engine=engine,
            address=address,
            storage=storage,
            listen=listen,
            token=token,
            lease_seconds=lease,
            say=say,
            **typed_fields(fields),
        )


def tune_worker(
    *,
    join: str,
    token: Token = "",
    name: str | None = None,
    cores: str | None = None,
    patience: float = 300.0,
    number: Annotated[int | None, Parameter(show=False)] = None,
):
    """Run trials for the search whose chief listens at HOST:PORT, until it has no more trials.

    Parameters
    ----------
    join
        HOST:PORT that `kerascnn tune --listen` printed
    name
        name of this worker in the search [default: host and process number]
    cores
        processor cores that trials may use, such as 0,1 [default: all]
    patience
        seconds without a chief before the worker gives up
    """
    from tuning.workers.worker import work

    if number is not None:  # started by the chief itself, whose pipe closes when it ends
        threading.Thread(target=_leave_with_parent, daemon=True).start()
    try:
        numbers = None if cores is None else [int(core) for core in cores.split(",")]
    except ValueError:
        raise UsageError(f"--cores {cores!r} is not a list of numbers, such as 0,1.") from None
    work(
        join,
        token=token,
        name=name,
        number=number,
        cores=numbers,
        patience=patience,
        say=lambda line: print(line, flush=True),
    )


def tune_status(search: Folder = "last", /, *, json: Json = False):
    """Print the progress of a search: trials by status, the best so far, and what is running now."""
    from tuning import tables

    folder = tables.find(search)
    table, asked = tables.results(folder), tables.described(folder)
    counts = table["status"].value_counts().to_dict()
    best = tables.best(table, asked["direction"])
    if json:
        score = None if best is None else {"trial": int(best["trial"]), "score": float(best["score"])}
        print_json({"folder": str(folder), "state": asked["state"], "trials": counts, "best": score})
        return
    print(f"{folder}  {asked['state']}" + (f": {asked['reason']}" if asked["reason"] else ""))
    print("  ".join(f"{count} {status}" for status, count in counts.items()) or "no trial yet")
    if best is not None:
        print(f"best: trial {best['trial']}, {asked['objective']} {best['score']:.4f}")
    names = list(asked["hyperparameters"])
    rows = [
        (str(row["trial"]), f"{row['epochs']}", *(_shown(row[name]) for name in names))
        for _, row in table[table["status"] == "running"].iterrows()
    ]
    if rows:
        print()
        print_table(("running", "epochs", *names), rows, "rr")


def tune_report(search: Folder = "last", /):
    """Write a search's page, report.html, and its table, results.csv; also while it runs.

    With the extra optuna, and if the search is not running, also write its trials for optuna-dashboard: optuna.log.
    """
    from tuning import optuna_storage, tables
    from tuning.page.report import write

    folder = tables.find(search)
    for path in (*write(folder), optuna_storage.write(folder)):
        if path is not None:
            print(path)


def list_searches(*, json: Json = False):
    """List the search spaces that have names; a .py or .toml file works as well."""
    from tuning import SEARCHES

    print_facts(json, SEARCHES, ("search", "what it is"), lambda name, f: (name, f["doc"]))


def _seconds(text):
    import pandas

    seconds = 0
    for read in (float, lambda typed: pandas.Timedelta(typed).total_seconds()):
        with contextlib.suppress(ValueError):
            seconds = read(text)
            break
    if not 0 < seconds < math.inf:
        raise UsageError(f"--time {text!r} is not a time. Type for example: --time 2h, or --time 30m")
    return seconds


def _shown(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _leave_with_parent():
    sys.stdin.buffer.read()
    os._exit(3)
