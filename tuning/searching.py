"""A search from its first trial to its winner: the chief with its service, and workers on this machine."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tomli_w
import uvicorn

from kerascnn import __version__, runs
from kerascnn.errors import DataError, UsageError, unknown
from kerascnn.recipes import FIELDS, Recipe
from tuning import spaces, tables
from tuning.chief import TUNERS, Chief, direction_of
from tuning.report import write
from tuning.service import LOOPBACK, service, until
from tuning.stopping import RULES
from tuning.store import FINAL, Store

OBJECTIVES = ("val_accuracy", "val_loss", "accuracy", "loss")
DEFAULT_TRIALS = 30
WINNERS = ("keep", "retrain", "none")
FAREWELL = 3  # seconds that workers have to hear that the work is done, also from a chief that is started again
EXTENDABLE = ("trials", "seconds")  # what may change when a search goes on


def search(
    data=None,
    *,
    search="cifar_net",
    tuner="random",
    trials=None,
    epochs=20,
    seed=0,
    workers=1,
    seconds=None,
    objective="val_accuracy",
    stop_early=None,
    max_failures=3,
    winner="keep",
    out=None,
    resume=False,
    listen="127.0.0.1:0",
    token="",
    lease_seconds=20.0,
    say=print,
    **fixed,
):
    """Search for the best recipe; returns the results as `tuning.results` does.

    Args:
        data: name or path of the data; None: the space's own.
        search: name of a space (kerascnn searches), a .py or .toml file (tuning.spaces), or a function hp -> Recipe.
        tuner: "random", "bayesian", "hyperband" or "grid": KerasTuner's oracles.
        trials: number of trials at most; None: 30, or all that hyperband and grid make.
        epochs: epochs of a whole trial.
        seed: seed of the suggestions and of every training.
        workers: worker processes on this machine, which share its cores; 0: only those that join.
        seconds: time of the whole search; None: no limit.
        objective: what is searched for: val_accuracy, val_loss, accuracy or loss.
        stop_early: "halving", "median" or "none" (tuning.stopping); None: halving, but for hyperband, which halves.
        max_failures: failed trials in a row after which the search stops.
        winner: "keep" the best trial's weights, "retrain" it on training and validation images together, or "none".
        out: the search's folder; None: saved_models/<date>-search-<name>.
        resume: True goes on with the search in `out`; then only `trials` and `seconds` may differ from what it asked.
        listen: HOST:PORT that workers join; port 0: any that is free.
        token: what workers must show; needed beyond the loopback address.
        lease_seconds: silence after which a worker is taken for dead and its trial is given to another.
        say: called with each line of progress.
        **fixed: recipe fields that replace what the space gives.
    Raises:
        UsageError: something that cannot be; nothing was written.
        DataError: no trial was completed.
    """
    host, port = _address(listen, token)
    for name in fixed:
        if name not in FIELDS:
            raise unknown("recipe field", name, FIELDS)
    _check(tuner, objective, stop_early, winner, trials, epochs, workers, seconds, max_failures, lease_seconds)
    called = search.__name__ if callable(search) else str(search)
    settings = {
        "search": str(Path(called).resolve()) if Path(called).suffix in (".py", ".toml") else called,
        "name": Path(called).stem,
        "tuner": tuner,
        "objective": objective,
        "direction": direction_of(objective),
        "trials": trials if trials is not None or tuner in ("hyperband", "grid") else DEFAULT_TRIALS,
        "epochs": epochs,
        "seed": seed,
        "stop_early": stop_early or ("none" if tuner == "hyperband" else "halving"),
        "max_failures": max_failures,
        "seconds": seconds,
        "fixed": json.loads(json.dumps(fixed)),
    }
    space = spaces.load(search)
    found = spaces.hyperparameters(space)
    settings["hyperparameters"] = json.loads(json.dumps(spaces.described(found)))
    for name in fixed:
        if name in settings["hyperparameters"]:
            raise UsageError(f"{name} is searched, so it cannot be fixed to {fixed[name]!r}. Leave it out.")
    first = space(found).replace(**fixed)
    settings["fixed"]["data"] = _absolute(data if data is not None else first.data)
    settings["data"] = settings["fixed"]["data"]
    space(found).replace(epochs=epochs, seed=seed, monitor=objective, **settings["fixed"])
    with _listening(host, port) as (sock, address):
        folder = _folder(out, resume, settings, say)
        chief = Chief(Store(folder), space, settings, lease_seconds=lease_seconds)
        try:
            if chief.over and chief._why_not(time.time()) == "":
                chief.reopen()
            application = service(chief, folder, host=host, token=token)
            say(f"{settings['name']} on {settings['data']}: {tuner}, {objective}, {_length(settings)}; in {folder}")
            runs.write_json(folder / "chief.json", {"address": address, "pid": os.getpid(), "version": __version__})
            if not workers or host not in LOOPBACK:
                say(f"Workers join with: kerascnn tune-worker --join {address}" + (" --token ..." if token else ""))
            _run(_serve(chief, application, sock, address, token, workers, say))
            interrupted = not chief.over
        finally:
            chief.close()
            with contextlib.suppress(FileNotFoundError):
                (folder / "chief.json").unlink()
    if interrupted:
        raise KeyboardInterrupt
    return _closing(folder, winner, say)


def _check(tuner, objective, stop_early, winner, trials, epochs, workers, seconds, max_failures, lease_seconds):
    """Errors that need no data and no space."""
    for kind, name, known in (
        ("tuner", tuner, TUNERS),
        ("objective", objective, OBJECTIVES),
        ("stop_early", stop_early or "none", RULES),
        ("winner", winner, WINNERS),
    ):
        if name not in known:
            raise unknown(kind, name, known)
    for name, value, low in (
        ("trials", trials, 1),
        ("epochs", epochs, 1),
        ("workers", workers, 0),
        ("max_failures", max_failures, 1),
        ("seconds", seconds, 1),
        ("lease_seconds", lease_seconds, 1),
    ):
        if value is not None and not value >= low:
            raise UsageError(f"{name}={value} is out of range: it must be at least {low}.")


def _length(settings):
    trials = "all trials" if settings["trials"] is None else f"{settings['trials']} trials"
    limit = "" if settings["seconds"] is None else f" within {settings['seconds']:g} s"
    return f"{trials} of {settings['epochs']} epochs{limit}, stopping early by: {settings['stop_early']}"


def _address(listen, token):
    """HOST:PORT as (host, port); beyond the loopback address a token is required."""
    host, colon, port = str(listen).rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"listen={listen!r} is not HOST:PORT, such as 127.0.0.1:7000.")
    host = host.strip("[]")
    if host not in LOOPBACK and not token:
        raise UsageError(f"Listening on {host} lets others in, so a token is needed. Type --token SECRET")
    return host, int(port)


def _absolute(data):
    from kerascnn.datasets import DATASETS
    from kerascnn.datasets.loading import resolve

    resolve(data)
    return data if data in DATASETS else str(Path(data).expanduser().resolve())


def _folder(out, resume, settings, say):
    """The search's folder with search.json in it; a search that goes on must be the same one."""
    if out is None:
        if resume:
            raise UsageError("resume needs to know which search goes on. Type --out FOLDER with --resume.")
        return _new_folder(runs.create(None, model="search", data=settings["name"]).folder, settings)
    folder = Path(out)
    if not (folder / "search.json").exists():
        if resume:
            raise UsageError(f"{folder} holds no search to go on with. Leave --resume out to begin one.")
        runs.check_new(folder)
        folder.mkdir(parents=True, exist_ok=True)
        return _new_folder(folder, settings)
    if not resume:
        raise UsageError(
            f"{folder} already holds a search; nothing was changed. Go on with --resume, or type another --out."
        )
    old = json.loads((folder / "search.json").read_text(encoding="utf-8"))
    differing = [name for name in settings if old.get(name) != settings[name] and name not in EXTENDABLE]
    if differing:
        listed = "; ".join(_difference(name, old.get(name), settings[name]) for name in differing)
        raise UsageError(f"The search in {folder} is another one ({listed}). Type what it had, or another --out.")
    runs.write_json(folder / "search.json", settings)
    say(f"Going on with {folder}")
    return folder


def _difference(name, old, new):
    if isinstance(old, dict) and isinstance(new, dict):
        names = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        return "; ".join(f"{name} {key} was {old.get(key)!r}, now {new.get(key)!r}" for key in names)
    return f"{name} was {old!r}, now {new!r}"


def _new_folder(folder, settings):
    runs.write_json(folder / "search.json", settings)
    return folder


@contextlib.contextmanager
def _listening(host, port):
    """A socket that listens, and its HOST:PORT."""
    try:
        sock = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise UsageError(
            f"Nothing can listen on {host}:{port}: {error.strerror}. Type another --listen HOST:PORT"
        ) from None
    with sock:
        yield sock, f"[{host}]:{sock.getsockname()[1]}" if ":" in host else f"{host}:{sock.getsockname()[1]}"


def _run(serving):
    """Run a coroutine to its end, also in a notebook, whose own loop is running."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(serving)
    else:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, serving).result()


async def _serve(chief, application, sock, address, token, workers, say):
    """Answer workers until the search is over, with `workers` of our own that are started again when they die."""
    server = uvicorn.Server(uvicorn.Config(application, log_level="error", lifespan="off", timeout_graceful_shutdown=5))
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    own = [None] * workers
    told = set()
    try:
        while not chief.over and not serving.done():
            for number, process in enumerate(own):
                if process is None or process.poll() is not None:
                    own[number] = _start_worker(address, token, number, workers)
            _tell_news(chief, told, say)
            await asyncio.sleep(0.2)
        _tell_news(chief, told, say)
        ended = time.monotonic()
        if chief.over:
            await until(lambda: _all_gone(own) and time.monotonic() - ended > FAREWELL, server)
    finally:
        server.should_exit = True
        for process in own:
            if process is not None and process.poll() is None:
                process.terminate()
        await serving
        for process in own:
            if process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(60)


def _all_gone(processes):
    return all(process is None or process.poll() is not None for process in processes)


def _start_worker(address, token, number, workers):
    """A worker of our own, on its share of the cores; it ends when our end of its pipe closes."""
    command = [sys.executable, "-m", "kerascnn", "tune-worker", "--join", address, "--with-parent"]
    if hasattr(os, "sched_getaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        share = cores[number % len(cores) :: workers] or [cores[number % len(cores)]]
        command += ["--cores", ",".join(map(str, share))]
    environment = {**os.environ, "KERASCNN_TOKEN": token}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment)


def _tell_news(chief, told, say):
    """Say of each trial that has ended since the last call what came of it."""
    for row in chief.store.trials(*FINAL):
        if row["trial"] not in told:
            told.add(row["trial"])
            values = json.loads(row["hyperparameters"])
            shown = "  ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in values.items())
            score = "" if row["score"] is None else f"  {chief.settings['objective']} {row['score']:.4f}"
            reason = f"  ({row['reason']})" if row["reason"] else ""
            say(f"trial {row['trial']:>3}  {row['status']}{score}{reason}  {shown}")


def _closing(folder, winner, say):
    """Write results.csv, the winner and the page; returns the results."""
    search = tables.asked(folder)
    table = tables.results(folder)
    row = tables.best(table, search["direction"])
    if row is None:
        write(folder)
        reasons = "; ".join(sorted({reason for reason in table["reason"] if reason}))
        raise DataError(f"No trial was completed, so there is no winner. {reasons or 'No trial was made.'}")
    recipe = Recipe.from_dict(runs.Run(row["run"]).read("recipe"))
    with runs.replacing(folder / "winner.toml") as temporary:
        temporary.write_text(as_toml(recipe), encoding="utf-8")
    say(f"Best: trial {row['trial']}, {search['objective']} {row['score']:.4f} after epoch {row['best_epoch']:.0f}")
    if winner != "none":
        _crown(folder, runs.Run(row["run"]), recipe, int(row["best_epoch"]), winner, say)
    write(folder)
    say(f"Recipe    kerascnn train --config {folder / 'winner.toml'}")
    say(f"Page      {folder / 'report.html'}")
    return table


def _crown(folder, run, recipe, best_epoch, how, say):
    """Make winner/: the best trial's run, or a new training on validation images too; its test split is read once."""
    from kerascnn import inference
    from kerascnn.saved_model import export
    from kerascnn.training.train import train

    home = folder / "winner"
    if (home / "run.json").exists() and runs.Run(home).read("run").get("of_trial") == run.folder.name:
        return
    shutil.rmtree(home, ignore_errors=True)
    if how == "retrain":
        recipe = recipe.replace(validation=0.0, monitor="loss", epochs=best_epoch, stop_patience=0)
        crowned = train(recipe, out=home, say=say)
    else:
        with runs.replacing(home) as temporary:
            shutil.copytree(run.folder, temporary, ignore=shutil.ignore_patterns("checkpoint"))
        crowned = runs.Run(home)
        measured = inference.evaluate(crowned)
        crowned.update(result={**measured.to_dict(), **crowned.read("run")["result"]})
    crowned.update(of_trial=run.folder.name)
    export(crowned)
    result = crowned.read("run")["result"]
    low, high = result["accuracy_interval"]
    interval = f"95% interval {100 * low:.2f} to {100 * high:.2f}"
    say(f"Winner    {home}: test accuracy {100 * result['accuracy']:.2f}% ({interval}), with its SavedModel")


def as_toml(recipe):
    """The fields of a recipe as TOML that `kerascnn train --config` takes; TOML has no word for None."""
    return tomli_w.dumps({name: value for name, value in recipe.to_dict().items() if value is not None})
