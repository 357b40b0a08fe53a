"""`--engine ray` of the commands with --shard: each shard is a Ray task, and what they write is merged."""

import contextlib
import functools
import hashlib
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from kerascnn import __version__, runs
from kerascnn.clusters import RayCluster, cannot_begin, digest, share
from kerascnn.commands.merge import check_merged, merge_shards
from kerascnn.commands.sharding import shard_file
from kerascnn.commands.terminal import WORDS
from kerascnn.datasets.decoding import MAX_MEGAPIXELS
from kerascnn.errors import DataError, UsageError
from kerascnn.files import read_json
from kerascnn.launching import ends_with_us
from kerascnn.pages.microscope.site import MANIFEST
from kerascnn.processes import python_module

JOB = "job.json"  # in the folder of the shards: what computes them
LOCK = "lock"  # held while a job is computed
ATTACHED = re.compile("-o[^-]")  # -oOUT
RETRIES = 3  # of a shard whose process or machine dies
WHOLE = ("channels", "json", "csv", "evaluate", "predictions", "wrong")  # options that shards do not take
PASSED_ON = ("KERAS_BACKEND", MAX_MEGAPIXELS)  # variables that shards get from here

Engine = Annotated[
    Literal["ray"] | None,
    Parameter(help="ray: compute shards on the machines of a Ray cluster, and merge them into --out"),
]
Address = Annotated[
    str | None, Parameter(help="of the Ray cluster: auto, HOST:PORT or local [default: auto, the one of this machine]")
]
Shards = Annotated[int | None, Parameter(help="with --engine, how many [default: one for each machine]")]
MORE = {"engine": Engine, "address": Address, "shards": Shards}


def over_ray(command):
    """A command that has --shard and --out, with --engine, --address and --shards as well."""

    @functools.wraps(command)
    def wrapped(*args, engine=None, address=None, shards=None, **options):
        if engine is None:
            for option, value in {"--address": address, "--shards": shards}.items():
                if value is not None:
                    raise UsageError(f"{option} {value} goes with --engine ray. Add it, or leave out {option}.")
            return command(*args, **options)
        if command.__name__ == "microscope" and options.get("out") and (options["out"] / MANIFEST).exists():
            return command(*args, **options)  # its passes are merged: the pages are left
        out, words = _asked(command.__name__, shards, options)
        _compute(words, out, address or "auto", shards)
        if command.__name__ == "microscope":  # the merged passes are the beginning of a site
            command(*args, **options)
        return None

    parameters = list(inspect.signature(command).parameters.values())
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=MORE[name]) for name in MORE
    ]
    wrapped.__signature__ = inspect.Signature([*parameters, *added])
    return wrapped


def _asked(name, shards, options):
    """(--out, the words of a shard's command without --shard and --out); a UsageError for what is not allowed."""
    out = options.get("out")
    for option in (each for each in WHOLE if options.get(each)):
        raise UsageError(f"--{option} does not go with --engine ray, which writes --out. Leave out one of the two.")
    if options.get("shard") is not None:
        raise UsageError(
            f"--shard {options['shard']} computes one shard here, and --engine ray all of them: type one of the two."
        )
    if out is None:
        raise UsageError(
            "--engine ray needs --out, the path of the merged result, in a folder that all machines share."
        )
    if shards is not None and shards < 1:
        raise UsageError(f"--shards {shards} is not allowed: it must be 1 or more.")
    check_merged(name, out)
    words = without(WORDS.get(), ("--engine", "--address", "--shards", "--out", "-o"))
    return out, [word for word in words if word.partition("=")[0] != "--feature-images"]  # made with the pages


def without(words, options):
    """Words of a command without some options and their values."""
    words, kept = iter(words), []
    for word in words:
        if word in options:
            next(words, None)
        elif word.partition("=")[0] not in options and not ATTACHED.match(word):
            kept.append(word)
    return kept


def _compute(words, out, address, count):
    """Compute the shards on the cluster and merge them; those that an earlier try has left are not computed again."""
    with closing(RayCluster(address)) as cluster:
        words = _lasting(words)
        told = {"words": words, "kerascnn": __version__, "folder": os.getcwd(), "files": _states(words)}
        told |= {"shards": count} if count else {}
        job = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:6]
        folder = out.absolute().with_name(f"{out.name}.shards-{job}")
        begun = read_json(folder / JOB) if (folder / JOB).exists() else {}  # perhaps when there were more machines
        count = begun.get("shards") or count or len(cluster.cpus)
        with runs.locked(folder / LOCK):
            runs.write_text(folder / JOB, json.dumps(told | {"shards": count}, indent=1))
            paths = [folder / shard_file(words[0], (number, count)) for number in range(1, count + 1)]
            try:
                _compute_missing(cluster, words, paths, folder)
            finally:
                left = {path.name for path in folder.iterdir()}
                if left <= {JOB, LOCK}:  # nothing that a second try could go on with
                    shutil.rmtree(folder, ignore_errors=True)
            _merge(paths, out, folder)


def _merge(paths, out, folder):
    """Merge the shards and delete their folder."""
    try:
        merge_shards([str(path) for path in paths], out)
    except UsageError as error:
        raise UsageError(f"{error} To compute the shards anew, delete {folder} and type the command again.") from None
    except DataError:
        if out.is_file():  # it is whole: what is wrong, such as a broken image, is not with the shards
            shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)


def _lasting(words):
    """The words of a command with the folder of a run in place of its name, which may mean another run tomorrow."""
    name, run, *rest = [*words, ""][: max(2, len(words))]
    if run and not run.startswith("-") and not Path(run).exists():
        with contextlib.suppress(UsageError, DataError):
            run = str(runs.find(run).folder.absolute())
    return [name, run, *rest] if len(words) > 1 else words


def _states(words):
    """{path: [size, time]} of the files among the words, and of the networks of runs: whether one has changed."""
    paths = [path for word in words[1:] for path in (Path(word), Path(word) / "best.keras") if path.is_file()]
    return {str(path): [path.stat().st_size, path.stat().st_mtime_ns] for path in paths}


def _compute_missing(cluster, words, paths, folder):
    """Compute the shards whose files are missing; the first that cannot be computed ends all."""
    import ray

    machines, count = len(cluster.cpus), len(paths)
    resources = {"num_cpus": share(cluster.cpus, min(machines, count)), "num_gpus": cluster.gpus_each}
    task = ray.remote(**resources, max_retries=RETRIES, retry_exceptions=True)(_shard)
    asked, passed = folder / JOB, {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    given = os.getcwd(), passed, str(asked), digest(asked), __version__
    running = {}
    for number, path in enumerate(paths, 1):
        if path.exists():
            _say(f"Shard {number}/{count} is there already.")
            continue
        target = folder if words[0] == "scan" else path
        running[task.remote([*words, "--shard", f"{number}/{count}", "--out", str(target)], *given)] = number
    try:
        while running:
            (done,), _ = ray.wait(list(running), num_returns=1)
            number = running.pop(done)
            wrong = _outcome(ray, done)
            if wrong:
                raise DataError(f"Shard {number}/{count} (--shards {count}) could not be computed: {wrong}")
            _say(f"Shard {number}/{count} is computed.")
    finally:
        for left in running:
            ray.cancel(left, force=True)


def _outcome(ray, task):
    """Why a task has failed, or ""."""
    try:
        return ray.get(task)
    except ray.exceptions.RayError as error:
        return str(getattr(error, "cause", None) or error).strip().splitlines()[0]


def _shard(words, folder, variables, asked, sha, version):
    """The Ray task: one shard in a process of its own; returns what is wrong with it, or "".

    Raises:
        RuntimeError: the process was killed; another attempt may succeed.
    """
    wrong = cannot_begin("job", asked, sha, version)
    if wrong or not Path(folder).is_dir():
        return wrong or f"the folder {folder}, in which you typed the command, is not on every machine."
    environment = os.environ | variables
    for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"):  # Ray sets them to what the task has asked for
        if name in environment and not environment[name]:
            del environment[name]
    command = [*python_module("kerascnn"), *words]
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        preexec_fn=ends_with_us(),
    )
    told = [line.removeprefix("kerascnn: ") for line in done.stderr.splitlines() if line.startswith("kerascnn: ")]
    if done.returncode and not told:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        raise RuntimeError(f"{shlex.join(words)} ended with code {done.returncode}: {last}")
    return told[-1] if done.returncode else ""


def _say(line):
    print(line, file=sys.stderr)
