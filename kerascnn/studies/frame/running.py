"""Run a study: rows and seeds as run folders; what has finished is skipped, what was stopped resumes; then the page."""

import concurrent.futures
import logging
import multiprocessing
import os
import shutil
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from kerascnn import __version__, backends, runs
from kerascnn.datasets.loading import read
from kerascnn.errors import DataError, Stopped, TrainingFailed, UsageError, counted, disk_full
from kerascnn.files import read_json
from kerascnn.processes import num_cpus
from kerascnn.recipes import Recipe
from kerascnn.studies import STUDIES
from kerascnn.studies.frame import page, taken
from kerascnn.studies.frame.results import Place, Results
from kerascnn.studies.frame.study import Computed, NotRun, Training

STATE, LOCK = "study.json", ".lock"


def run_study(
    name,
    *,
    quick=False,
    length=1.0,
    seeds=None,
    data=None,
    other_data=None,
    out=None,
    rows=(),
    run=None,
    workers=1,
    say=print,
):
    """Run what a study lacks, and write its page.

    Args:
        name: of a study.
        quick: True runs every row for a few steps on embedded data: the page then gives no verdicts but of counts.
        length: over which share of its epochs or steps each row is trained, above 0 and at most 1; below 1, values that
            depend on a training are shown and not compared, and claims are told and not judged, but for counts.
        seeds: trainings of each row, seeds 0, 1 ...; None: what the study asks for.
        data: a data set's name or a path in place of the study's.
        other_data: likewise in place of the study's other data set, where it has one.
        out: the study's folder, new or of the same study; None: saved_models/study-<name>, with
            -quick or the length behind it where they are asked for.
        rows: names of rows, to run these alone; none: all.
        run: {name of a row: run}, finished runs of these rows' recipes that stand for their first training.
        workers: how many trainings run at once, each in a process of its own.
        say: called with lines of progress.
    Returns:
        Results; the page is at `folder / "study.html"`.
    Raises:
        UsageError: the study or a row is unknown, a number is not allowed, the folder holds something else, or a run of
            `run` has not finished or has another recipe.
        Stopped, KeyboardInterrupt: it was stopped; the same call resumes it.
    """
    study = STUDIES.get(name)()
    for what, number in (("seeds", seeds), ("workers", workers)):
        if number is not None and number < 1:
            raise UsageError(f"{what}={number} is not allowed: it must be at least 1.")
    _check_length(length, study, quick)
    chosen = study.only(rows)
    taken.check_rows(study, run)
    data, other = _anchored(data), _anchored(other_data)
    if other and not study.other:
        raise UsageError(f"{name} has no second data set: leave other_data={other_data} out.")
    folder = page.usual_folder(name, quick, length) if out is None else Path(out)
    seeds = seeds or (1 if quick else study.seeds)
    known = _opened(folder, study, {"quick": quick, "length": length, "data": data, "other_data": other})
    with runs.locked(folder / LOCK):
        results = Results(
            study,
            folder,
            max(seeds, known["seeds"]),
            quick=quick,
            length=length,
            data=data,
            other=other,
            failures=known["failures"],
        )
        taken.take(results, {row: results.recipe(row, 0) for row in run or {}}, run, say)
        _note(results)
        try:
            _perform(results, chosen, seeds, workers, say)
        except Stopped as stop:
            stopped = str(stop).partition(" Resume")[0]
            stop.args = (f"{stopped} Resume with: {page.again(results, rows, workers)}",)
            raise
        finally:
            _note(results)
            page.write(results)
    return results


def _check_length(length, study, quick):
    """Raise a UsageError for a length that is not allowed, or that says nothing."""
    if not 0 < length <= 1:
        raise UsageError(f"length={length} is not allowed: it must be above 0 and at most 1, such as 0.1.")
    if length < 1 and quick:
        raise UsageError(
            f"length={length} and quick=True cannot both be given: a quick run takes a few steps anyway. Give one."
        )
    if length < 1 and not any(isinstance(row, Training) for row in study.rows):
        raise UsageError(f"{study.name} trains nothing: leave length={length} out.")


def _anchored(data):
    """The data's name, or its absolute path, so that the study can be resumed from any folder."""
    if data is None:
        return None
    from kerascnn.datasets import DATASETS
    from kerascnn.datasets.loading import resolve

    resolve(data)
    return data if data in DATASETS else str(Path(data).expanduser().resolve())


def _opened(folder, study, options):
    """{"seeds", "failures"} of study.json; raises a UsageError where the folder holds something else.

    Args:
        options: {what: value} of all that must be as it was.
    """
    path = folder / STATE
    if not path.exists():
        if folder.exists() and (not folder.is_dir() or any(path.name != LOCK for path in folder.iterdir())):
            raise UsageError(
                f"{folder} is not empty and holds no study; nothing in it was changed. Give another: out=FOLDER"
            )
        runs.check_writable(folder)
        return {"seeds": 0, "failures": {}}
    known = read_json(path)
    known = {"length": 1.0, **(known if isinstance(known, dict) else {})}  # older versions had none
    for what, value in {"study": study.name, "version": study.version, **options}.items():
        if (has := known.get(what)) != value:
            raise UsageError(
                f"{folder} holds a study with {what}={has!r}, and this one has {what}={value!r}; nothing in it was "
                "changed. Give another folder: out=FOLDER"
            )
    return {"seeds": int(known.get("seeds", 0)), "failures": dict(known.get("failures", {}))}


def _note(results):
    """Write study.json: which study the folder belongs to, and what failed."""
    study = results.study
    state = {"study": study.name, "version": study.version, "quick": results.quick, "length": results.length}
    state |= {"data": results.data, "other_data": results.other}
    runs.write_json(results.folder / STATE, {**state, "seeds": results.seeds, "failures": results.failures})


def _perform(results, rows, seeds, workers, say):
    """Run the rows: those that need no training, the trainings, then those that read trained networks."""
    logging.getLogger("tensorflow").setLevel("ERROR")  # it warns that another network is another function
    trainings = [row for row in rows if isinstance(row, Training)]
    computed = [row for row in rows if isinstance(row, Computed)]
    for row in (row for row in computed if not row.needs):
        _compute(results, row, say)
    jobs = [(row.name, seed) for seed in range(seeds) for row in trainings if not results.finished(row.name, seed)]
    if workers == 1 or len(jobs) < 2:
        _one_by_one(results, jobs, say)
    else:
        _at_once(results, jobs, workers, say)
    for row in (row for row in computed if row.needs):
        _compute(results, row, say)


def _compute(results, row, say):
    """Compute a row that has no result yet, or one of fewer trainings or numbers than are there or asked for now, and
    keep what came out or why nothing did."""
    trained = [
        f"{name}/seed-{seed}" for name in row.needs for seed in range(results.seeds) if results.finished(name, seed)
    ]
    asked = sorted({value.measure for value in results.study.values if value.row == row.name})
    known = read_json(results.folder_of(row.name) / "result.json") if results.finished(row.name) else None
    if known and known.get("read", trained) == trained and set(asked) <= set(known.get("asked", known["numbers"])):
        return
    say(f"{row.name}")
    folder, began = results.folder_of(row.name), time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    results.failures.pop(row.name, None)
    try:
        numbers = row.compute(Place(results, row.name, say))
        seconds = round(time.monotonic() - began, 2)
        machine = {"processor": backends.processor(), "versions": {"kerascnn": __version__, **backends.versions()}}
        told = {"numbers": numbers, "seconds": seconds, "read": trained, "asked": asked, **machine}
        runs.write_json(folder / "result.json", told)
    except NotRun as error:
        results.failures[row.name] = f"needs a row that has no result: {error}"
        say(f"{row.name}: {results.failures[row.name]}")
    except (KeyboardInterrupt, Stopped):
        raise
    except Exception as error:  # the other rows do not depend on it, and the page shows the reason
        results.failures[row.name] = reason_of(error)
        say(f"{row.name} failed: {results.failures[row.name]}")


def reason_of(error):
    """A failure in one line."""
    told = disk_full(error) or (str(error) or type(error).__name__).splitlines()[0]
    return told if isinstance(error, (DataError, UsageError, TrainingFailed)) else f"{type(error).__name__}: {told}"


def _one_by_one(results, jobs, say):
    missing = {}  # {data: why it cannot be read}: told once, not for every row
    for number, (row, seed) in enumerate(jobs, start=1):
        say(f"{row}, seed {seed} ({number} of {len(jobs)} trainings)")
        wanted = results.recipe(row, seed).data
        reason = missing.get(wanted) or train_row(results, row, seed, say, missing)
        _keep(results, row, seed, reason, say)


def _keep(results, row, seed, reason, say):
    key = f"{row}/seed-{seed}"
    results.failures.pop(key, None)
    if reason:
        results.failures[key] = reason
        say(f"{row}, seed {seed} failed: {reason}")


def train_row(results, row, seed, say, missing=None):
    """Train a row with a seed, or resume it; returns why it failed, or ""."""
    from kerascnn.training.prepare import anchored
    from kerascnn.training.train import train

    recipe, folder = anchored(results.recipe(row, seed)), results.folder_of(row, seed)
    watch = results.study.row(row).watch
    try:
        if not _begun(folder):
            train(recipe, out=folder, watch=watch, say=say)
            return ""
        differing = Recipe.from_dict(runs.Run(folder).read("recipe")).differences(recipe)
        if differing:
            return f"{folder} holds a training with another {', '.join(differing)}: move it away, or give another out"
        train(resume=folder, say=say)
        return ""
    except (KeyboardInterrupt, Stopped):
        raise
    except Exception as error:  # the other rows do not depend on it, and the page shows the reason
        if isinstance(error, DataError) and missing is not None and not _readable(recipe):
            missing[recipe.data] = reason_of(error)
        return reason_of(error)


def _readable(recipe):
    """True if it is not the data for which a training failed."""
    try:
        read(recipe.data, classes=recipe.classes)
    except (DataError, UsageError):
        return False
    return True


def _begun(folder):
    """True where a run folder holds a training that can be resumed; one that was killed before that is deleted."""
    if (folder / "run.json").exists() and any((folder / "checkpoint").glob("state-*.npz")):
        return True
    if folder.exists():
        shutil.rmtree(folder)
    return False


def _at_once(results, jobs, workers, say):
    """Train several rows at a time, each in a process of its own with its share of the processors."""
    threads = str(max(1, num_cpus() // workers))
    spawn = multiprocessing.get_context("spawn")
    options = {"quick": results.quick, "length": results.length, "data": results.data, "other": results.other}
    asked = (results.study.name, str(results.folder), results.seeds, options)
    executor = concurrent.futures.ProcessPoolExecutor(workers, spawn, _limited, (threads,), max_tasks_per_child=1)
    say(f"{counted(len(jobs), 'training')}, {workers} at a time")
    stopped = False
    with executor:
        waiting = {executor.submit(_job, asked, row, seed): (row, seed) for row, seed in jobs}
        try:
            for future in concurrent.futures.as_completed(waiting):
                row, seed = waiting[future]
                word, reason = future.result()
                if word == "stopped":
                    stopped = True
                    executor.shutdown(wait=False, cancel_futures=True)
                    break
                _keep(results, row, seed, reason, say)
        except KeyboardInterrupt:
            executor.shutdown(wait=True, cancel_futures=True)
            raise
        except BrokenProcessPool:
            raise TrainingFailed(
                "A process that trained ended without a word, perhaps for want of memory. What the others had is kept: "
                f"go on, with fewer workers than workers={workers}."
            ) from None
    if stopped:
        raise KeyboardInterrupt


def _limited(threads):
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, threads)


def _job(asked, row, seed):
    """A training in a process of its own: ("done" or "stopped", why it failed or "")."""
    name, folder, seeds, options = asked
    results = Results(STUDIES.get(name)(), folder, seeds, **options)
    try:
        return "done", train_row(results, row, seed, lambda line: print(f"{row}, seed {seed}: {line}", flush=True))
    except (KeyboardInterrupt, Stopped):
        return "stopped", ""
