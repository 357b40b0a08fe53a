"""A search from its first trial to its winner: the chief with its service, and workers on this machine."""

import contextlib
import json
import threading
import time
from pathlib import Path

from kerascnn import http_server, runs
from kerascnn.errors import UsageError, command, counted, unknown
from kerascnn.files import read_json
from kerascnn.processes import listening_socket
from kerascnn.recipes import FIELDS, Recipe
from tuning import optuna_storage, spaces, tables
from tuning.chief import Chief
from tuning.oracles import TUNERS
from tuning.stopping import RULES, direction_of
from tuning.store import FINAL, NAME, Store
from tuning.trials import results
from tuning.winner import WINNERS, close
from tuning.workers import engines
from tuning.workers.service import LOOPBACK, service
from tuning.workers.worker import check_token

OBJECTIVES = ("val_accuracy", "val_loss", "accuracy", "loss")
DEFAULTS = {"tuner": "random", "epochs": 20, "seed": 0, "objective": "val_accuracy", "max_failures": 3}
DEFAULTS |= {"workers": 1, "winner": "keep"}
DEFAULT_TRIALS = 30  # of random, bayesian and tpe; hyperband and grid end by themselves
FAREWELL = 3  # seconds that workers have to hear that the work is done, also from a chief that is started again
HYPERMODEL_FIELDS = ("data", "image_size", "resize_to", "channels", "validation", "test", "normalize")
LONGEST_FAREWELL = 10  # likewise for those that asked before and may have died since
EXTENDABLE = ("trials", "seconds", "max_failures", "workers", "winner")  # what may change when a search is resumed


def search(
    data=None,
    *,
    search=None,
    tuner=None,
    trials=None,
    epochs=None,
    seed=None,
    workers=None,
    seconds=None,
    objective=None,
    stop_early=None,
    max_failures=None,
    winner=None,
    out=None,
    resume=False,
    engine="local",
    address="auto",
    storage=None,
    listen=None,
    token="",
    lease_seconds=20.0,
    say=print,
    **fixed,
):
    """Search for the best recipe; returns the results as `tuning.results` does.

    Args:
        data: name or path of the data; None: the space's own.
        search: name of a space (kerascnn searches), a .py or .toml file (tuning.spaces), or a function hp -> Recipe;
            None: "cifar_net".
        tuner: "random" (None), "bayesian", "hyperband" or "grid": KerasTuner's oracles; "tpe": Optuna's TPE.
        trials: number of trials at most; None: 30, or all that hyperband and grid make.
        epochs: epochs of a whole trial; None: 20.
        seed: seed of the suggestions and of every training; None: 0.
        workers: worker processes on this machine, which share its cores; None: 1; 0: only those that join. With Ray:
            workers on the cluster; None: as many as it has machines.
        seconds: time of the whole search; None: no limit.
        objective: what is searched for: val_accuracy (None), val_loss, accuracy or loss.
        stop_early: "halving", "median" or "none" (tuning.stopping); None: halving, but none for hyperband, which halves
            itself, and median for a HyperModel, whose training cannot be resumed.
        max_failures: failed trials in a row after which the search stops; None: 3.
        winner: "keep" the best trial's weights (None), "retrain" it on training and held-out validation images
            together (a validation split of the data's own stays one), or "none".
        out: the search's folder; None: saved_models/<date>-search-<name>.
        resume: True resumes the search in `out`. What is None then is as it was; only trials, seconds,
            max_failures, workers and winner may differ.
        engine: "local", or "ray" (needs the extra ray): workers run over a Ray cluster (tuning.workers.on_ray).
        address: of the Ray cluster: "auto" (this machine is in it), HOST:PORT, or "local" (this process starts one).
        storage: with Ray, the search's folder in place of `out`, which all machines see under the same path;
            the same call resumes the search that it holds.
        listen: HOST:PORT that workers join; port 0: any that is free. None: 127.0.0.1:0; with Ray, this machine's
            address in the cluster.
        token: what workers must show; needed beyond the loopback address.
        lease_seconds: silence after which a worker is taken for dead and its trial is given to another.
        say: called with each line of progress.
        **fixed: recipe fields that replace what the space gives.
    Raises:
        UsageError: a setting that is not allowed; nothing was written.
        DataError: no trial was completed.
    """
    out, resume = engines.stored(engine, storage, out, resume)
    host, port = _address(listen or "127.0.0.1:0", token)
    _check_fixed(fixed)
    old = _old(out, resume)
    asked = {"tuner": tuner, "trials": trials, "epochs": epochs, "seed": seed, "seconds": seconds, "winner": winner}
    asked |= {"objective": objective, "stop_early": stop_early, "max_failures": max_failures, "workers": workers}
    if search is None:
        search = old.get("search", "cifar_net")
    settings = {name: old.get(name) if value is None else value for name, value in asked.items()}
    space = spaces.load(search)
    settings = _checked(settings, hasattr(space, "hypermodel"), lease_seconds)
    _check_trials(out, old, settings)
    described = _described(search, space, data, settings, old.get("fixed", {}) | fixed)
    settings = json.loads(json.dumps({**described, **settings}))
    with contextlib.ExitStack() as held:
        cluster, workers = engines.connected(engine, address, workers, held)
        if cluster is not None:
            settings["workers"], token = workers, token or cluster.token
            host = cluster.host if listen is None else host
        sock, reached = held.enter_context(_listening(host, port))
        folder = _folder(out, old, settings, say)
        held.enter_context(_alone(folder, settings))
        chief = Chief(Store(folder), space, settings, lease_seconds=lease_seconds)
        held.enter_context(contextlib.closing(chief))
        if chief.over and chief.may_go_on(time.time()):
            chief.reopen()
        say(f"{settings['name']} on {settings['data']}: {_words(settings)}; in {folder}")
        team = engines.team(settings["workers"], cluster, reached, token, folder, say)
        follow = optuna_storage.follower(folder, settings, say)
        try:
            _serve(chief, service(chief, folder, host=host, token=token), sock, team, say, follow)
        except KeyboardInterrupt:
            say(f"Interrupted; what was done is kept. Resume with: {command('tune', '--resume', '--out', folder)}")
            raise
        close(folder, settings["winner"], say)
        return results(folder)


def _check_fixed(fixed):
    """Fixed fields must be fields of a recipe that the search does not set itself."""
    for name in fixed:
        if name not in FIELDS:
            raise unknown("recipe field", name, FIELDS)
        if name in spaces.OPTIONS:
            raise UsageError(f"{name} cannot be fixed: it is the search's own {spaces.OPTIONS[name]}.")


def _old(out, resume):
    """search.json of the search to resume, or {} where a new one begins."""
    if resume and out is None:
        raise UsageError("resume=True needs to know which search to resume. Give out=FOLDER, too.")
    there = out is not None and (Path(out) / "search.json").exists()
    if resume and not there:
        raise UsageError(f"{out} holds no search to resume. Leave resume=True out to begin one.")
    if there and not resume:
        raise UsageError(
            f"{out} already holds a search; nothing was changed. Give resume=True to resume it, or another out=FOLDER."
        )
    if not there:
        return {}
    old = read_json(Path(out) / "search.json")
    first = Recipe.from_dict(old.get("first", {}))  # fields that came later have their usual values
    return {**old, "first": first.to_dict()}


def _check_trials(out, old, settings):
    """A resumed search may not have fewer trials than it has made."""
    if not old or not (Path(out) / NAME).exists() or settings["trials"] is None:
        return
    with contextlib.closing(Store(out, readonly=True)) as store:
        count = store.count()
    if settings["trials"] < count:
        raise UsageError(f"trials={settings['trials']} is below the {count} already made. Give trials={count} or more.")


def _described(search, space, data, settings, fixed):
    """What search.json says of a space, after checking that it makes recipes."""
    called = search.__name__ if callable(search) else str(search)
    if hasattr(space, "hypermodel"):
        for name in fixed:
            if name not in HYPERMODEL_FIELDS:
                raise UsageError(
                    f"{name}={fixed[name]!r} has nothing to act on: the HyperModel makes the network and trains it. "
                    f"Allowed: {', '.join(HYPERMODEL_FIELDS)}."
                )
    hps = spaces.hyperparameters(space)
    hyperparameters = spaces.described(hps)
    for name in hyperparameters:
        if name in ("trial", *tables.FIXED_COLUMNS):
            raise UsageError(f"The space asks for {name!r}, which is a column of the results. Call it something else.")
    searched = spaces.searched_fields(space, hps)
    for name, asked in searched.items():
        if name in fixed:
            by = "" if asked == name else f" by {asked}"
            raise UsageError(f"{name} is searched{by}, so it cannot be fixed to {fixed[name]!r}. Leave it out.")
        if name in (*spaces.OPTIONS, "data"):
            raise UsageError(f"{name} cannot be searched: the search sets it for all trials. Take it out of the space.")
    first = (Recipe() if hasattr(space, "hypermodel") else space(hps)).replace(**fixed)
    fixed = {**fixed, "data": _absolute(data if data is not None else first.data)}
    if first.start_from and "start_from" not in searched:
        fixed["start_from"] = runs.absolute(first.start_from)
    first = first.replace(**fixed, epochs=settings["epochs"], seed=settings["seed"], monitor=settings["objective"])
    return {
        "search": str(Path(called).resolve()) if Path(called).suffix in (".py", ".toml") else called,
        "name": Path(called).stem,
        "data": fixed["data"],
        "fixed": fixed,
        "hyperparameters": hyperparameters,
        "first": first.to_dict(),  # so that a space whose fixed parts were changed is another space
    }


def _checked(settings, hypermodel, lease_seconds):
    """The settings with their defaults, after checking what needs no data and no space."""
    settings = {name: DEFAULTS.get(name) if value is None else value for name, value in settings.items()}
    if settings["trials"] is None and settings["tuner"] in ("random", "bayesian", "tpe"):
        settings["trials"] = DEFAULT_TRIALS
    usual, why = "halving", ""
    if settings["tuner"] == "hyperband":
        usual, why = "none", "hyperband halves itself"
    elif hypermodel:
        usual, why = "median", "a HyperModel's training cannot be resumed"
    settings["stop_early"] = settings["stop_early"] or usual
    if settings["stop_early"] == "halving" and why:
        raise UsageError(f"stop_early='halving' is not allowed: {why}. Use stop_early='median' or 'none'.")
    for kind, known in (("tuner", TUNERS), ("objective", OBJECTIVES), ("stop_early", RULES), ("winner", WINNERS)):
        if settings[kind] not in known:
            raise unknown(kind, settings[kind], known)
    if hypermodel and settings["winner"] == "retrain":
        raise UsageError("winner='retrain' is not allowed: a HyperModel makes no recipe to train. Use winner='keep'")
    if settings["tuner"] == "tpe":
        optuna_storage.check_installed()
    lows = {"trials": 1, "epochs": 1, "seed": 0, "max_failures": 1, "seconds": 1, "workers": 0, "lease_seconds": 1}
    for name, value in {**settings, "lease_seconds": lease_seconds}.items():
        if name in lows and value is not None and not value >= lows[name]:
            raise UsageError(f"{name}={value} is out of range: it must be at least {lows[name]}.")
    return {**settings, "direction": direction_of(settings["objective"])}


def _words(settings):
    """What a search does, in words."""
    trials = "all trials" if settings["trials"] is None else counted(settings["trials"], "trial")
    limit = "" if settings["seconds"] is None else f" within {settings['seconds']:g} s"
    length = f"{trials} of {counted(settings['epochs'], 'epoch')}{limit}"
    return f"{settings['tuner']}, {settings['objective']}, {length}, stop early: {settings['stop_early']}"


def _address(listen, token):
    """HOST:PORT as (host, port); beyond the loopback address a token is required."""
    host, _, port = str(listen).rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"listen={listen!r} is not HOST:PORT, such as 127.0.0.1:7000.")
    host = host.strip("[]")
    check_token(token)
    if host not in LOOPBACK and not token:
        raise UsageError(
            f"Listening on {host} allows connections from other machines, so a token is needed. Give token=SECRET"
        )
    return host, int(port)


def _absolute(data):
    from kerascnn.datasets import DATASETS
    from kerascnn.datasets.loading import resolve

    resolve(data)
    return data if data in DATASETS else str(Path(data).expanduser().resolve())


def _folder(out, old, settings, say):
    """The search's folder; a resumed search must be the same one."""
    folder = Path(out) if out is not None else runs.create(None, model="search", data=settings["name"]).folder
    differing = [name for name in settings if old and old.get(name) != settings[name] and name not in EXTENDABLE]
    if differing:
        listed = "; ".join(_difference(name, old.get(name), settings[name]) for name in differing)
        raise UsageError(f"The search in {folder} is another one ({listed}). Give its settings, or another out=FOLDER.")
    if old:
        say(f"Resuming {folder}")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        if any(not _begun(path.name) for path in folder.iterdir()):
            runs.check_new(folder)
    return folder


def _begun(name):
    """True for a file that a search leaves which was killed before it wrote search.json."""
    return name == tables.LOCK or name.startswith(".search.")


@contextlib.contextmanager
def _alone(folder, settings):
    """Within this block search.json holds the settings, and no other process on this file system runs the search."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(runs.locked(folder / tables.LOCK))
        except runs.Busy:
            raise UsageError(
                f"The search in {folder} is running already. Look at it: {command('tune-status', folder)}"
            ) from None
        runs.write_json(folder / "search.json", settings)
        yield


def _difference(name, old, new):
    if isinstance(old, dict) and isinstance(new, dict):
        names = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        return "; ".join(f"{name} {key} was {old.get(key)!r}, now {new.get(key)!r}" for key in names)
    return f"{name} was {old!r}, now {new!r}"


@contextlib.contextmanager
def _listening(host, port):
    """A socket that listens, and its HOST:PORT."""
    try:
        sock = listening_socket(host, port)
    except OSError as error:
        raise UsageError(
            f"Nothing can listen on {host}:{port}: {error.strerror}. Give another listen=HOST:PORT"
        ) from None
    with sock:
        yield sock, f"[{host}]:{sock.getsockname()[1]}" if ":" in host else f"{host}:{sock.getsockname()[1]}"


def _serve(chief, application, sock, local, say, follow):
    """Answer workers on a thread until the search is over, while our own are tended; then until they have gone."""
    server = http_server.server(application, log_level="error", lifespan="off")
    serving = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    serving.start()
    told = {row["trial"] for row in chief.store.trials(*FINAL)}
    try:
        while not chief.over and serving.is_alive():
            local.tend()
            chief.settle(time.time())
            _tell_news(chief.store, told, say)
            follow()
            time.sleep(0.2)
        _tell_news(chief.store, told, say)
        if not chief.over:
            raise RuntimeError("The service ended too early. Resume the search with resume=True.")
        ended = time.monotonic()
        while serving.is_alive():
            since = time.monotonic() - ended
            if local.gone() and since > (LONGEST_FAREWELL if application.state.working else FAREWELL):
                break
            time.sleep(0.2)
    finally:
        try:
            local.stop()  # while the service still takes back their trials
            follow(last=True)
        finally:
            server.should_exit = True
            serving.join()


def _tell_news(store, told, say):
    """Say of each trial that has ended since the last call what came of it."""
    for row in store.trials(*FINAL):
        if row["trial"] not in told:
            told.add(row["trial"])
            values = json.loads(row["hyperparameters"])
            shown = "  ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in values.items())
            score = "" if row["score"] is None else f"  score {row['score']:.4f}"
            reason = f"  ({row['reason']})" if row["reason"] else ""
            say(f"trial {row['trial']:>3}  {row['status']}{score}{reason}  {shown}")
