"""Run folders: what was asked, what happened, what came out. Everything later reads the folder.

    recipe.json          what was asked; written first, so that a killed run still says what it was
    data.json            the data: source, splits, preprocessing, class names, files left out
    labels.json          class names, in the order of the outputs
    run.json             status, result, versions, device, seconds, memory
    metrics.csv          one row an epoch
    best.keras           the network with its best weights by validation
    export/saved_model/  the same with preprocessing and labels inside, for plain TensorFlow
    export/              other formats, a model card beside each (kerascnn.using.formats)
    plots/               figures, each with its numbers beside it
    evaluation/          predictions of the test images, tables and pictures (kerascnn.training.record)
    report.html          the page of the run
    watch/               what looks during training saw (--watch)
    scan/, explain/, activations/   what these commands wrote
    checkpoint/          the state that --resume continues from
    samples/             ten test images, to try `predict` on
    native.log           what the backend's own libraries printed

Every file is written under a temporary name, synced, then renamed, but for metrics.csv and native.log, which grow line
by line. This module never imports Keras.
"""

import contextlib
import datetime
import json
import os
import platform
import re
import secrets
import shutil
import time
from pathlib import Path

from kerascnn import notebook
from kerascnn.errors import DataError, UsageError, nearest
from kerascnn.files import read_json

ROOT = Path("saved_models")
LONGEST_PATH = 4095 - 255  # bytes: what Linux allows, less room for the files of a run
WEIGHTS = (".keras", ".h5", ".pth", ".pt", ".safetensors")  # of files that training can start from
ANY_NUMBER = (int, float)
LARGEST_INTEGER = 2**63  # of a field; larger ones become no float
# What the fields of a run's files may be, where they are there: a class, several, or [the class of a list's items].
KINDS = {
    "run": {
        "status": (str, type(None)),
        "reason": (str, type(None)),
        "result": (dict, type(None)),
        "host": (str, type(None)),
        "pid": (int, type(None)),
        "number": int,
        "seconds": ANY_NUMBER,
        "versions": dict,
        "precision": (str, type(None)),
        "data_parallel": int,
        "hosts": int,
        "watch": [str],
        "stopped": (int, type(None)),
    },
    "recipe": {"model": str, "data": str},
    "data": {"name": str, "source": str, "class_names": [str], "preprocessing": dict, "fingerprint": str},
}


@contextlib.contextmanager
def replacing(path):
    """A temporary path beside `path`; what is written there replaces `path` at the end, or vanishes on an error.

    A file is synced to disk before it is renamed. A folder replaces a folder.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Processes of other machines, or of other containers, may have the same number
    temporary = path.with_name(f".{path.stem[:40]}.{os.getpid()}-{secrets.token_hex(3)}.tmp{path.suffix}")
    try:
        yield temporary
        if temporary.is_dir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        else:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


def check_writable(folder):
    """Raise a DataError if no file can be made in a folder, which is made where it is not there: what native libraries
    say of that is no sentence."""
    probe = folder / f".{os.getpid()}-{secrets.token_hex(3)}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except FileExistsError:
        raise DataError(f"Nothing can be written into {folder}: it is a file. Move it away.") from None
    except OSError as error:
        raise DataError(f"Nothing can be written into {folder}: {error.strerror}.") from None


class Busy(UsageError):  # noqa: N818 (what happened)
    """Another process is at work in a folder."""


@contextlib.contextmanager
def locked(path, seconds=0.0):
    """Within this block no other process holds the lock file at `path`; it may stay behind, which means nothing.

    Args:
        seconds: how long to wait for a process that holds it.
    Raises:
        Busy: it is still held then.
    """
    import fcntl  # not on Windows, where everything but training works

    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise Busy(f"Another process holds {path}. Wait until it has ended.") from None
                time.sleep(0.2)
        yield


def write_text(path, text):
    """Write a text in UTF-8, atomically; bytes of file names that are not UTF-8 become \\xe9, an escape of JSON."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path, value):
    """Write a value as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_table(path, table, **options):
    """Write a DataFrame as CSV, atomically; `options` are those of `DataFrame.to_csv`."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, errors="backslashreplace", **options)


class Run:
    """One run folder. `run / "best.keras"` is the path of a file in it."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def __truediv__(self, name):
        return self.folder / name

    def __repr__(self):
        return f"Run({str(self.folder)!r})"

    def _repr_html_(self):
        told = self.summary()
        result = told.get("result") or {}
        accuracy = f"{100 * result['accuracy']:.2f}%" if "accuracy" in result else None
        rows = [("folder", self.folder), ("status", told["status"]), ("why", told.get("reason"))]
        rows += [("model", told["model"]), ("data", told["data"]), ("test accuracy", accuracy)]
        rows += [("epochs", result.get("epochs")), ("seconds", told.get("seconds"))]
        plots = [self / "plots" / f"{name}.png" for name in ("loss", "accuracy")]
        shown = [notebook.shown(path) for path in plots if path.exists()]
        return notebook.card(f"Run {told['run']}", rows, shown)

    def read(self, name):
        """The value in one of the folder's JSON files ("run", "recipe", "data" or "labels")."""
        path = self / f"{name}.json"
        try:
            value = read_json(path)
        except FileNotFoundError:
            raise DataError(f"{self.folder} is not a whole run folder: it has no {path.name}.") from None
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.") from None
        if not _is_a(value, [str] if name == "labels" else dict):
            raise DataError(f"{path} is damaged: it holds no {'list of names' if name == 'labels' else 'table'}.")
        for field, kind in KINDS.get(name, {}).items():
            if field in value and not _is_a(value[field], kind):
                raise DataError(f"{path} is damaged: {field} is {str(value[field])[:40]!r}.")
        return value

    def write(self, name, value):
        """Replace one of the folder's JSON files."""
        write_json(self / f"{name}.json", value)

    def update(self, **fields):
        """Change some fields of run.json."""
        known = self.read("run") if (self / "run.json").exists() else {}
        self.write("run", {**known, **fields})

    @property
    def status(self):
        """running, finished, failed, interrupted, or killed: its process on this machine is gone without a word."""
        state = self.read("run")
        if state.get("status") == "running" and state.get("host") == platform.node() and not _alive(state.get("pid")):
            return "killed"
        return state.get("status")

    def summary(self):
        """What a list of runs says of it: a dict with run, model, data, and what run.json holds; of a folder that
        cannot be read run, status ("damaged") and reason."""
        try:
            recipe = {"model": "", "data": ""} | self.read("recipe")
            state = {**self.read("run"), "status": self.status}
            accuracy = (state.get("result") or {}).get("accuracy", 0.0)
            if not _is_a(accuracy, ANY_NUMBER):
                raise DataError(f"{self / 'run.json'} is damaged: accuracy is {str(accuracy)[:40]!r}.")
        except DataError as error:
            return {"run": self.folder.name, "model": "", "data": "", "status": "damaged", "reason": str(error)}
        return {"run": self.folder.name, "model": recipe["model"], "data": recipe["data"], **state}


def create(folder=None, *, model, data):
    """A new, empty run folder.

    Args:
        folder: where; None: saved_models/<date>-<model>-<data>, numbered where that exists.
        model, data: names for the default place.
    Raises:
        UsageError: the folder exists and is not empty.
    """
    if folder is None:
        stem = f"{datetime.date.today()}-{plain(model)}-{plain(data)}"
        names = (stem, *(f"{stem}-{number}" for number in range(2, 10_000)))
        for name in names:
            with contextlib.suppress(FileExistsError):
                (ROOT / name).mkdir(parents=True)
                return Run(ROOT / name)
    check_new(folder)
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Run(folder)


def check_new(folder):
    """Raise a UsageError if a run folder cannot be made at `folder`: something is there, or its path is too long."""
    folder = Path(folder)
    length = len(os.fsencode(os.path.abspath(folder)))
    if length > LONGEST_PATH or any(len(os.fsencode(part)) > 255 for part in folder.parts):
        raise UsageError(
            f"out={str(folder)[:60]}... is too long: its path has {length:,} bytes, and {LONGEST_PATH:,} are "
            "allowed, 255 in each name. Give a shorter one."
        )
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; a run needs a folder. Give another: out=FOLDER")
    if folder.exists() and any(folder.iterdir()):
        going_on = f"continue it with resume={str(folder)!r}, or " if (folder / "recipe.json").exists() else ""
        raise UsageError(
            f"{folder} already exists and is not empty; nothing in it was changed. To go on, {going_on}"
            "give another folder: out=FOLDER"
        )


def absolute(source):
    """The absolute path of what weights start from: a run (folder, name or "last"), or a file of weights."""
    path = Path(source).expanduser()
    return str((path if path.is_file() or path.suffix in WEIGHTS else find(source).folder).resolve())


def as_run(run):
    """A Run from a Run, a folder, a name or "last"."""
    return run if isinstance(run, Run) else find(run)


def find(name):
    """The run that a user means: a folder, the name of one under saved_models, or "last" for the newest."""
    runs = all_under()
    if str(name) == "last":
        if not runs:
            raise UsageError(f"There is no last run: {ROOT}/ holds none. Make one: kerascnn train")
        return runs[-1]
    if is_run(name):
        return Run(next(folder for folder in (Path(name), ROOT / name) if (folder / "recipe.json").exists()))
    guesses = nearest(name, [run.folder.name for run in runs])
    more = f" Did you mean {' or '.join(map(repr, guesses))}?" if guesses else ""
    if Path(name).is_dir():
        raise UsageError(f"{name} is a folder but not a run: it has no recipe.json.{more} List runs: kerascnn runs")
    raise UsageError(f"There is no run {str(name)!r}.{more} List runs: kerascnn runs")


def is_run(name):
    """True for the folder of a run, or the name of one under saved_models."""
    return any((folder / "recipe.json").exists() for folder in (Path(name), ROOT / name))


def all_under(root=None):
    """All runs under a folder, the one trained last at the end: by the numbers that training gives them, since clocks
    may be wrong; those of older versions come first, by the time of their recipe.json."""
    folders = []
    with contextlib.suppress(OSError), os.scandir(root or ROOT) as entries:
        folders = [Path(entry.path) for entry in entries]
    return [Run(folder) for folder in sorted(filter(_holds_recipe, folders), key=_age)]


def next_number(folder):
    """The number of a run that begins or goes on now in `folder`: one more than those of the runs beside it."""
    return 1 + max((_number(path.parent) for path in Path(folder).absolute().parent.glob("*/run.json")), default=0)


def _holds_recipe(folder):
    """True for a run folder, also one that may not be looked into."""
    try:
        os.lstat(folder / "recipe.json")
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _number(folder):
    try:
        return Run(folder).read("run").get("number", 0)
    except DataError:
        return 0


def _is_a(value, kind):
    if isinstance(kind, list):
        return isinstance(value, list) and all(isinstance(item, kind[0]) for item in value)
    if isinstance(value, int) and abs(value) >= LARGEST_INTEGER:
        return False
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _alive(pid):
    """True if a process of that number exists here."""
    if pid is None or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _age(folder):
    try:
        changed = os.lstat(folder / "recipe.json").st_mtime_ns
    except OSError:
        changed = 0
    return _number(folder), changed, folder.name


def plain(text):
    """A name that is safe in a file name, of at most 80 characters."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", Path(str(text)).name)[:80].strip("-.") or "data"
