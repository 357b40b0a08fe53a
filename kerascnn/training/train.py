"""Recipe -> run: fit with Keras' own callbacks, keep the best weights by validation or the last, test them once."""

import contextlib
import datetime
import errno
import json
import math
import os
import platform
import time
from pathlib import Path

from kerascnn import __version__, backends, runs
from kerascnn.callbacks import LOOKS
from kerascnn.datasets.balance import CURE, balance
from kerascnn.errors import HostLost, Stopped, UsageError, command, counted, disk_full
from kerascnn.hosts import ALONE, join
from kerascnn.recipes import RECIPES, Recipe
from kerascnn.training import digests, record
from kerascnn.training import resume as resuming
from kerascnn.training.build import compile_model, ready, without_weights
from kerascnn.training.failures import check_size, foreseen, memory, memory_ran_out, not_a_number
from kerascnn.training.finish import delete_checkpoints, fetch_best, results, spent, write_best
from kerascnn.training.fit import fit
from kerascnn.training.minutes import fitted
from kerascnn.training.prepare import (
    anchored,
    check,
    check_same_data,
    check_space,
    check_whole,
    continued,
    described,
    device_count,
    precision_of,
    write_samples,
)
from kerascnn.training.reading import load_data
from kerascnn.training.transfer import transfer

_ALONE = {  # why they cannot be combined with hosts
    "devices": "all devices of all hosts share each batch. Leave devices out.",
    "minutes": "hosts time a step differently. Give epochs or steps instead.",
    "watch": "looks compute on one host, and the network is on all. Leave watch out, and look at the finished run.",
}


def train(
    recipe=None,
    *,
    out=None,
    resume=None,
    strict=False,
    callbacks=(),
    watch=None,
    devices=None,
    hosts=None,
    minutes=None,
    smaller=None,
    checkpoint_minutes=10.0,
    keep_checkpoints=False,
    test=True,
    say=print,
    on_run=None,
    **fields,
):
    """Train as a recipe asks; returns the finished Run with its best weights, metrics, plots and test result.

    With several hosts, all but the first get None.

    Args:
        recipe: a Recipe; None: LeNet-5 on the handwritten digits.
        out: the run folder, new or empty; None: saved_models/<date>-<model>-<data>.
        resume: a run (folder, name or "last") to continue instead; only `epochs` and `steps` may differ.
        strict: True stops at the first image that cannot be read, instead of leaving it out.
        callbacks: further `keras.callbacks.Callback`s for fit.
        watch: names of looks during training (`kerascnn.callbacks.LOOKS`), written to the run's watch/; they do not
            change what is learned. None: none, or when resuming, those that the run had.
        devices: how many devices of this machine share each batch, or "all"; JAX only. None: one, or when resuming,
            those that the run had. `batch_size` counts the images of all together.
        hosts: "auto" shares each batch among all devices of the hosts that the cluster names; make the same call on
            each. JAX only (`kerascnn.hosts`). Only the first host writes and says anything. If `out` holds a run that
            was begun this way, it resumes from its last checkpoint, so a job can simply be restarted.
        minutes: how long the whole run may take: some steps are timed, and as many epochs (or `steps`) trained as fit.
            None: the recipe's own length.
        smaller: side of the images, pixels, to which `minutes` goes down if it holds fewer than 8 epochs at the
            recipe's `image_size`; None: it keeps the recipe's.
        checkpoint_minutes: minutes between checkpoints within an epoch; there is one at every epoch's end anyway.
        keep_checkpoints: True keeps the last two checkpoints and the best weights' own file when the run has finished;
            otherwise only the last one is kept, from which more epochs can be trained, and none under a schedule or
            after patience.
        test: False leaves the test split unread, whatever the recipe's `test_curve` says: the result then has no test
            accuracy, and none on the training images. Searches choose by validation.
        say: called with each line of progress.
        on_run: called with the Run as soon as its folder exists.
        **fields: recipe fields to replace: `train(epochs=3)`.
    Raises:
        UsageError, DataError: the recipe or the data cannot be used; nothing was written.
        Stopped: SIGINT or SIGTERM came; the state was saved, `resume` continues exactly.
        TrainingFailed: the loss became NaN or infinite, or memory ran out.
        HostLost: another host is gone.
    """
    began = time.monotonic()
    _check_asked(checkpoint_minutes, watch, minutes, smaller, resume, fields, hosts, devices)
    group = join(hosts)
    say = say if group.first else lambda line: None
    if hosts and _ended(group, recipe, out, resume, fields, say):
        return runs.as_run(out) if group.first else None
    run, recipe, precision, state = _agreed(group, recipe, out, resume, fields, say)
    with group.agreeing() as values:
        count = device_count(devices, recipe.batch_size, run, group)
        check_size(recipe, precision, count, group.count)
        say(f"Reading {recipe.data}")
        data = load_data(recipe, strict=strict)
        check(recipe, data, count)
        values |= digests.summary(data) if group.count > 1 else {}
    if minutes is not None:
        recipe, data = fitted(recipe, data, precision, count, minutes, began, say, smaller=smaller, strict=strict)
    prepared, model, batches, notes = _built(group, recipe, data, precision, count, run, state)
    built = model, batches, data, state, count
    if not group.first:
        return _follow(group, recipe, precision, built, callbacks, checkpoint_minutes, began, say, test=test)
    watch = (run.read("run").get("watch", ()) if run else ()) if watch is None else watch
    looks = _looks(watch, recipe, model, data, prepared, batches.epochs)
    check_space(run.folder if run else out or runs.ROOT, model.count_params())
    known = run is not None
    run = run or _new(group, out, recipe, data)
    with runs.locked(run / "checkpoint" / "lock"):
        began -= _open(run, known, recipe, data, prepared)
        _begin(run, recipe, model, precision, count, group, watch)
        for look in looks:
            look.parent = run / "watch"
        with _recorded_failures(run, recipe, began):
            if on_run:
                on_run(run)
            free = memory(count // group.count)
            notes = [*notes, foreseen(recipe, model, precision, free, count)]
            _announce(recipe, data, model, precision, count, group, notes, say, test=test)
            with _told_failures(run, recipe, model, precision, free, batches):
                # Looks come last: they see that another callback stops the training
                _fit(group, run, recipe, built, [*callbacks, *looks], checkpoint_minutes, began, say, test=test)
            final = write_best(run, recipe)
            result = results(run, recipe, final, data, prepared, test=test)
        _finish(run, recipe, model, state, result, final, began, keep_checkpoints)
        return run


def _check_asked(checkpoint_minutes, watch, minutes, smaller, resume, fields, hosts, devices):
    """Raise a UsageError for arguments of `train` that are not allowed."""
    for name, value in (("devices", devices), ("minutes", minutes), ("watch", watch)) if hosts else ():
        if value:
            raise UsageError(f"hosts={hosts!r} and {name}={value!r} cannot both be given: {_ALONE[name]}")
    if not checkpoint_minutes >= 0:
        raise UsageError(f"checkpoint_minutes={checkpoint_minutes} is not allowed: it must be 0 or more.")
    for name in watch or ():
        LOOKS.facts(name)  # raises for an unknown one
    if minutes is None:
        if smaller is not None:
            raise UsageError(f"smaller={smaller} has nothing to act on without minutes. Give minutes, or leave it out.")
        return
    if not 0 < minutes < math.inf:
        raise UsageError(f"minutes={minutes} is not allowed: it must be above 0.")
    if resume is not None:
        raise UsageError(
            f"minutes={minutes:g} is for new runs: the length of {resume} is chosen. Leave minutes={minutes:g} out."
        )
    for name in ("epochs", "steps"):
        if name in fields:
            raise UsageError(f"minutes={minutes:g} and {name}={fields[name]} cannot both be given. Give one.")


def _looks(watch, recipe, model, data, prepared, epochs):
    """The callbacks of the looks that are asked for, checked before anything is written."""
    looks = [look for name in dict.fromkeys(watch) for look in LOOKS.get(name)(data, prepared)]
    for look in looks:
        look.period, look.length = recipe.eval_every, epochs
        look.set_model(model)
        look.check()
    return looks


def _finish(run, recipe, model, state, result, final, began, keep_checkpoints):
    """Write the result into run.json, and delete the checkpoints that nothing needs any more."""
    stopped = bool(model.stop_training or (state and state["stop_training"]))
    after = result["epochs"] if stopped else None
    run.update(status="finished", result=result, stopped=after, parameters=final.count_params(), **spent(began))
    if not keep_checkpoints:
        delete_checkpoints(run, recipe, stopped=stopped)


def _agreed(group, recipe, out, resume, fields, say):
    """(run to resume, recipe, precision, state of its newest checkpoint), the same on all hosts except for the run,
    which only the first one knows; run and state are None for a new run."""
    state = run = None
    with group.agreeing() as values:
        if group.first:
            run = _known(group, out, resume)
        if group.count > 1:
            values |= {"resume": resume and str(resume), "versions": {"kerascnn": __version__, **backends.versions()}}
            values |= fields if resume is not None else _asked(recipe, fields)[0].to_dict()
        if run:
            recipe, precision, state = _continued(run, recipe, fields, say)
        elif resume is None:
            recipe, precision, state = _asked(recipe, fields)
    if group.count > 1:
        told = json.dumps([recipe.to_dict(), precision]).encode() if group.first else b""
        fields, precision = json.loads(group.share(told))
        recipe, state = Recipe.from_dict(fields), resuming.shared(group, state)
    return run, recipe, precision, state


def _ended(group, recipe, out, resume, fields, say):
    """Whether `out` holds the finished run of this training; all hosts then leave one another.

    A job that ends after its training, or that a cluster starts once more, thus ends well.
    """
    ended = False
    with group.agreeing():  # so that all hear of an error
        if group.first and resume is None and out is not None and (Path(out) / "run.json").exists():
            known = runs.as_run(out)
            same = not Recipe.from_dict(known.read("recipe")).differences(_asked(recipe, fields)[0])
            ended = same and known.status == "finished"
    ended = bool(group.share(b"ended" if ended else b""))
    if ended:
        group.leave()
        say(f"{out} has finished already")
    return ended


def _known(group, out, resume):
    """The run to resume, or None: the one that is named, or, with `hosts`, the one that was begun in `out`."""
    if resume is None and group is not ALONE and out is not None:
        if (Path(out) / "run.json").exists():
            resume = out
        elif not (Path(out) / "checkpoint").exists():
            runs.check_new(out)
    return None if resume is None else runs.as_run(resume)


def _new(group, out, recipe, data):
    """A new run folder; with `hosts` also the one of a job that was killed as it began."""
    if group is not ALONE and out is not None and (Path(out) / "checkpoint").exists():
        return runs.Run(out)
    return runs.create(out, model=recipe.model, data=data.name)


def _built(group, recipe, data, precision, count, run, state):
    """(Preprocessing, the compiled network, its training Batches, notes of `transfer`)."""
    with group.watching(), backends.data_parallel(count):
        first = without_weights(recipe) if state else recipe
        prepared, model, batches = ready(first, data, precision, count, (group.rank, group.count))
        if run:
            check_whole(run, state, batches)
        notes = transfer(recipe, model, data, prepared, fill=not state)
        compile_model(model, recipe, batches.total, batches.period, nll=resuming.has_nll(recipe, state))
    return prepared, model, batches, notes


def _fit(group, run, recipe, built, *rest, test):
    """Fit on all devices of the hosts, which separate at the end; `built` is (model, batches, data, state, devices)."""
    *built, state, count = built
    if run and state:
        fetch_best(run)
    with group.watching(), backends.data_parallel(count):
        try:
            fit(group, run, recipe, *built, state, *rest, test=test)
        except (Stopped, RuntimeError) as error:
            if isinstance(error, Stopped) or _diverged(error):  # on all hosts at once
                group.leave()
            raise
    group.leave()


def _follow(group, recipe, precision, built, *rest, test):
    """Fit on a host that is not the first: it writes nothing, and says why it ended as the first one does."""
    model, batches, *_ = built
    with _told_failures(None, recipe, model, precision, memory(batches.multiple // group.count), batches):
        _fit(group, None, recipe, built, *rest, test=test)


def _diverged(error):
    return isinstance(error, RuntimeError) and "NaN or Inf loss" in str(error)


def _asked(recipe, fields):
    """(recipe, precision, None) of a new run."""
    recipe = anchored((recipe or RECIPES.get("digits")()).replace(**fields))
    return recipe, precision_of(recipe), None


def _continued(run, recipe, fields, say):
    """(recipe, precision, state of the newest checkpoint) of a resumed run."""
    state = resuming.newest(run / "checkpoint", say)
    recipe = continued(run, recipe, fields, state)
    resuming.check_table(run / "checkpoint", run / "metrics.csv", state)
    return recipe, run.read("run").get("precision") or precision_of(recipe), state


def _begin(run, recipe, model, precision, count, group, watch):
    """Write into run.json that a training runs, where and with what, and delete the test of earlier weights."""
    record.clear(run)
    run.update(
        status="running",
        number=runs.next_number(run.folder),
        reason=None,
        result=None,
        stopped=None,
        host=platform.node(),
        pid=os.getpid(),
        started=datetime.datetime.now().isoformat(timespec="seconds"),
        versions={"kerascnn": __version__, **backends.versions()},
        device=backends.devices(),
        processor=backends.processor(),
        precision=precision,
        data_parallel=count,
        hosts=group.count,
        seed=recipe.seed,
        watch=list(watch),
        parameters=model.count_params(),
    )


@contextlib.contextmanager
def _recorded_failures(run, recipe, began):
    """Whatever ends this block early is written into run.json, with the seconds spent since `began`."""
    try:
        yield
    except Stopped as stop:
        write_best(run, recipe)
        run.update(status="interrupted", reason=str(stop), **spent(began))
        raise
    except HostLost as lost:  # soon JAX will end this process, too
        run.update(status="interrupted", reason=str(lost))
        raise
    except BaseException as error:
        full = disk_full(error)
        reason = full or f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError):
            run.update(status="failed", reason=reason, **spent(began))
        if full:
            go_on = f"Make room, then resume: {command('train', '--resume', run.folder)}"
            raise OSError(errno.ENOSPC, f"{full}. What the last checkpoint holds is kept. {go_on}") from error
        raise


def _open(run, known, recipe, data, prepared):
    """Write recipe, data and labels into the run folder, or check them where it is `known`; returns the seconds already
    spent in it."""
    description = described(data, prepared)
    if known:
        digests.check_same_images(run, data)
        check_same_data(run, description)
        run.write("recipe", recipe.to_dict())
        return run.read("run").get("seconds", 0.0)
    run.write("recipe", recipe.to_dict())
    run.write("data", description)
    run.write("labels", list(data.class_names))
    digests.write(run, data)
    write_samples(run, data)
    return 0.0


def _announce(recipe, data, model, precision, count, group, notes, say, *, test):
    """Say what is about to be trained, and what was done to the data."""
    counts = ", ".join(f"{len(split):,} {name}" for name, split in data.splits.items())
    shape = "x".join(map(str, model.input_shape[1:]))
    classes = counted(len(data.class_names), "class", "classes")
    say(f"{recipe.model} on {data.name}: {counts} images of {shape} in {classes}")
    for note in (*data.notes, *data.doubts):
        say(note)
    if recipe.class_weights == "none" and balance(data.train.labels, len(data.class_names)).uneven:
        say(CURE)
    if data.skipped:
        say(f"{counted(len(data.skipped), 'file')} left out, the first: {data.skipped[0][0]} ({data.skipped[0][1]})")
    rate = f"{recipe.learning_rate:g}" + (f" {recipe.schedule}" if recipe.schedule != "constant" else "")
    length = counted(recipe.steps, "step") if recipe.steps else counted(recipe.epochs, "epoch")
    length += f", evaluated every {counted(recipe.eval_every, 'step')}" if recipe.eval_every else ""
    say(f"{recipe.optimizer} at {rate}, batches of {recipe.batch_size}, {length}")
    if recipe.label_smoothing:
        say("loss and val_loss are of smoothed labels, nll and val_nll of the true classes, as the test loss")
    if recipe.test_curve and test:
        say(
            "The test images are evaluated as often as the validation images, for the curves; nothing is chosen by them"
        )
    say(f"{model.count_params():,} parameters, {precision} on {', '.join(backends.devices())} ({backends.backend()})")
    if count > 1:
        left = [f"{len(data.splits[n]) % count} {n}" for n in ("train", "validation") if data.splits.get(n)]
        those = f"{counted(count, 'device')} of {group.count} hosts" if group.count > 1 else f"{count} devices"
        say(f"{those} share each batch; left out of each pass: {' and '.join(left)} images")
    for note in filter(None, notes):
        say(note)


@contextlib.contextmanager
def _told_failures(run, recipe, model, precision, free, batches):
    """Within this block a loss that is not a number and memory that runs out become a TrainingFailed; the best weights
    so far are kept, in `run`, which only the first host has."""
    try:
        yield
    except Exception as error:
        diverged = _diverged(error)
        if not diverged and not backends.out_of_memory(error):
            raise
        kept = "the first host says what is kept"
        if run:
            kept = "the best weights so far are kept" if write_best(run, recipe) else "no epoch was finished"
        if diverged:
            raise not_a_number(recipe, batches.epoch, kept) from None
        raise memory_ran_out(recipe, model, precision, free, batches.epoch, kept, batches.multiple) from error
