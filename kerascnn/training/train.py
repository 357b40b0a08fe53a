"""Recipe -> run: fit with Keras' own callbacks, keep the best weights by validation or the last, test them once."""

import contextlib
import datetime
import errno
import math
import os
import platform
import signal
import threading
import time

import keras

from kerascnn import __version__, backends, runs
from kerascnn.callbacks import LOOKS
from kerascnn.datasets.balance import CURE, balance
from kerascnn.errors import Stopped, UsageError, command, counted, disk_full
from kerascnn.recipes import RECIPES
from kerascnn.training import digests
from kerascnn.training import resume as resuming
from kerascnn.training.build import compile_model, ready, without_weights
from kerascnn.training.curves import in_batches, keep_rows, measuring
from kerascnn.training.failures import check_size, foreseen, memory, memory_ran_out, not_a_number
from kerascnn.training.finish import delete_checkpoints, fetch_best, results, spent, write_best
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
from kerascnn.training.progress import EpochLines
from kerascnn.training.reading import load_data
from kerascnn.training.resume import BEST, Checkpoint
from kerascnn.training.transfer import transfer


def train(
    recipe=None,
    *,
    out=None,
    resume=None,
    strict=False,
    callbacks=(),
    watch=None,
    devices=None,
    minutes=None,
    checkpoint_minutes=10.0,
    keep_checkpoints=False,
    test=True,
    say=print,
    on_run=None,
    **fields,
):
    """Train as a recipe asks; returns the finished Run with its best weights, metrics, plots and test result.

    Args:
        recipe: a Recipe; None: LeNet-5 on the handwritten digits.
        out: the run folder, new or empty; None: saved_models/<date>-<model>-<data>.
        resume: a run (folder, name or "last") to continue instead; only `epochs` and `steps` may differ.
        strict: True stops at the first image that cannot be read, instead of leaving it out.
        callbacks: further `keras.callbacks.Callback`s for fit.
        watch: names of looks during training (`kerascnn.callbacks.LOOKS`), written to the run's watch/; they do not
            change what is learned. None: none, or on resuming those that the run had.
        devices: how many devices of this machine share each batch, or "all"; JAX only. None: one, or on resuming those
            that the run had. `batch_size` counts the images of all together.
        minutes: how long the whole run may take: some steps are timed, and as many epochs (or `steps`) trained as fit.
            None: the recipe's own length.
        checkpoint_minutes: minutes between checkpoints within an epoch; there is one at every epoch's end anyway.
        keep_checkpoints: True keeps the last two checkpoints and the best weights' own file when the run has finished;
            else only the last one stays, from which more epochs go on, and none under a schedule or after patience.
        test: False leaves the test split unread, whatever the recipe's `test_curve` says: the result then has no test
            accuracy. Searches choose by validation.
        say: called with each line of progress.
        on_run: called with the Run as soon as its folder exists.
        **fields: recipe fields to replace: `train(epochs=3)`.
    Raises:
        UsageError, DataError: the recipe or the data cannot be used; nothing was written.
        Stopped: SIGINT or SIGTERM came; the state was saved, `resume` goes on exactly.
        TrainingFailed: the loss became NaN or infinite, or memory ran out.
    """
    began = time.monotonic()
    _check_asked(checkpoint_minutes, watch, minutes, resume, fields)
    run = None if resume is None else runs.as_run(resume)
    recipe, precision, state = _continued(run, recipe, fields, say) if run else _asked(recipe, fields)
    count = device_count(devices, recipe.batch_size, run)
    check_size(recipe, precision)
    say(f"Reading {recipe.data}")
    data = load_data(recipe, strict=strict)
    check(recipe, data)
    if minutes is not None:
        recipe = fitted(recipe, data, precision, count, minutes, began, say)
    with backends.data_parallel(count):
        prepared, model, batches = ready(without_weights(recipe) if state else recipe, data, precision, count)
        if run:
            check_whole(run, state, batches)
        notes = transfer(recipe, model, data, prepared, fill=not state)
        compile_model(model, recipe, batches.total, batches.period, nll=resuming.has_nll(recipe, state))
    if watch is None:
        watch = run.read("run").get("watch", ()) if run else ()
    looks = _looks(watch, recipe, model, data, prepared)
    check_space(run.folder if run else out or runs.ROOT, model.count_params())
    known = run is not None
    run = run or runs.create(out, model=recipe.model, data=data.name)
    with runs.locked(run / "checkpoint" / "lock"):
        began -= _open(run, known, recipe, data, prepared)
        _begin(run, recipe, model, precision, count, watch)
        for look in looks:
            look.parent = run / "watch"
        with _recorded_failures(run, recipe, began):
            if on_run:
                on_run(run)
            _announce(recipe, data, model, precision, count, say, test=test)
            free = memory()
            for note in filter(None, [*notes, foreseen(recipe, model, precision, free)]):
                say(note)
            with _told_failures(run, recipe, model, precision, free, batches), backends.data_parallel(count):
                if state:
                    fetch_best(run)
                looks += callbacks
                _fit(run, recipe, model, batches, data, state, looks, checkpoint_minutes, began, say, test=test)
            final = write_best(run, recipe)
            result = results(run, recipe, final, data, prepared, test=test)
        _finish(run, recipe, model, state, result, final, began, keep_checkpoints)
        return run


def _check_asked(checkpoint_minutes, watch, minutes, resume, fields):
    """Raise a UsageError for arguments of `train` that cannot be."""
    if not checkpoint_minutes >= 0:
        raise UsageError(f"checkpoint_minutes={checkpoint_minutes} is not allowed: it must be 0 or more.")
    for name in watch or ():
        LOOKS.facts(name)  # raises for an unknown one
    if minutes is None:
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


def _looks(watch, recipe, model, data, prepared):
    """The callbacks of the looks that are asked for, checked before anything is written."""
    looks = [look for name in dict.fromkeys(watch) for look in LOOKS.get(name)(data, prepared)]
    for look in looks:
        look.period = recipe.eval_every
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


def _asked(recipe, fields):
    """(recipe, precision, None) of a new run."""
    recipe = anchored((recipe or RECIPES.get("digits")()).replace(**fields))
    return recipe, precision_of(recipe), None


def _continued(run, recipe, fields, say):
    """(recipe, precision, state of the newest checkpoint) of a run that goes on."""
    state = resuming.newest(run / "checkpoint", say)
    recipe = continued(run, recipe, fields, state)
    resuming.check_table(run / "checkpoint", run / "metrics.csv", state)
    return recipe, run.read("run").get("precision") or precision_of(recipe), state


def _begin(run, recipe, model, precision, count, watch):
    """Write into run.json that a training runs, where and with what."""
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
    except BaseException as error:
        full = disk_full(error)
        reason = full or f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError):
            run.update(status="failed", reason=reason, **spent(began))
        if full:
            go_on = f"Make room, then go on: {command('train', '--resume', run.folder)}"
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


def _announce(recipe, data, model, precision, count, say, *, test):
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
        say(f"{count} devices share each batch; left out of each pass: {' and '.join(left)} images")


@contextlib.contextmanager
def _told_failures(run, recipe, model, precision, free, batches):
    """Within this block a loss that is not a number and memory that runs out become a TrainingFailed; the best weights
    so far are kept."""
    try:
        yield
    except Exception as error:
        diverged = isinstance(error, RuntimeError) and "NaN or Inf loss" in str(error)
        if not diverged and not backends.out_of_memory(error):
            raise
        kept = "the best weights so far are kept" if write_best(run, recipe) else "no epoch was finished"
        if diverged:
            raise not_a_number(recipe, batches.epoch, kept) from None
        raise memory_ran_out(recipe, model, precision, free, batches.epoch, kept) from error


def _fit(run, recipe, model, batches, data, state, callbacks, checkpoint_minutes, began, say, *, test):
    """Fit until the recipe's epochs are done, from the state of a checkpoint where there is one."""
    folder = run / "checkpoint"
    folder.mkdir(exist_ok=True)
    counting = _counting(recipe, folder)
    for name in ("rate_patience", "stop_patience"):
        if getattr(recipe, name) >= batches.epochs:
            say(f"Note: {name}={getattr(recipe, name)} is not below epochs={batches.epochs}, so it never acts.")
    measured = measuring(run / "metrics.csv", recipe, data, batches, test=test)
    lines = EpochLines(batches, say, by_step=recipe.eval_every > 0)
    checkpoint = Checkpoint(folder, batches, counting, checkpoint_minutes, began)
    nan = keras.callbacks.TerminateOnNaN(raise_error=True)
    validation = in_batches(data, "validation", recipe, batches)

    epoch = step = 0
    if state:
        epoch, step = state["epoch"], state["step"]
        model.optimizer.build(model.trainable_variables)
        model.test_on_batch(*batches[0])  # makes the metrics' variables
        resuming.restore(model, state)
        checkpoint.state = state
        say(f"Going on with epoch {epoch + 1}" + (f", step {step + 1}" if step else ""))
        if state["stop_training"]:
            say("The run had already stopped by its patience.")
            return
    keep_rows(run / "metrics.csv", epoch)
    try:
        with _signals(checkpoint, say):
            while epoch < batches.epochs:
                batches.epoch, batches.start = epoch, step
                last = epoch + 1 if step else batches.whole_epochs if epoch < batches.whole_epochs else batches.epochs
                model.fit(
                    backends.stream(batches),
                    validation_data=validation,
                    initial_epoch=epoch,
                    epochs=last,
                    shuffle=False,
                    verbose=0,
                    callbacks=[_Monitored(recipe.monitor), *counting, nan, *measured, lines, *callbacks, checkpoint],
                )
                if model.stop_training:
                    worn = recipe.stop_patience and counting[-1].wait >= recipe.stop_patience
                    patience = f"{recipe.monitor} has not improved for {counted(recipe.stop_patience, 'epoch')}"
                    say(f"Stopped: {patience if worn else 'a callback asked for it'}.")
                    break
                epoch, step = last, 0
                if epoch < batches.epochs:
                    checkpoint.state = resuming.newest(folder, say)
                    resuming.restore(model, checkpoint.state)  # the end of a fit changes moving averages
    finally:
        lines.close()


def _counting(recipe, folder):
    """The callbacks that count epochs and choose weights; a checkpoint keeps their state."""
    best = keras.callbacks.ModelCheckpoint(
        str(folder / f"new.{BEST}"),
        monitor=recipe.monitor,
        save_best_only=recipe.keep == "best",
        save_weights_only=True,
    )
    counting = [_SwapAverages(swap_on_epoch=True), best] if recipe.ema else [best]
    if recipe.rate_patience:
        counting.append(
            keras.callbacks.ReduceLROnPlateau(
                recipe.monitor, factor=recipe.rate_factor, patience=recipe.rate_patience, min_delta=recipe.min_delta
            )
        )
    if recipe.stop_patience:
        counting.append(
            keras.callbacks.EarlyStopping(recipe.monitor, min_delta=recipe.min_delta, patience=recipe.stop_patience)
        )
    return counting


class _Monitored(keras.callbacks.Callback):
    """Ends a training whose monitored quantity is NaN, as `TerminateOnNaN` does, before such weights are kept: nothing
    is better than NaN, to Keras."""

    def __init__(self, monitor):
        super().__init__()
        self.monitor = monitor

    def on_epoch_end(self, epoch, logs=None):
        if math.isnan(logs[self.monitor]):
            raise RuntimeError(f"NaN or Inf loss: {self.monitor}")


class _SwapAverages(keras.callbacks.SwapEMAWeights):
    """Keras' callback, without what it does at the end of a fit: there the weights that go on being trained would be
    overwritten, and a training that goes on in another fit would not be the same."""

    def _finalize_ema_values(self):
        pass


@contextlib.contextmanager
def _signals(checkpoint, say):
    """Within this block the first SIGINT or SIGTERM saves after the current step; a second one stops at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def handle(number, frame):
        say("Saving; once more stops at once.")
        checkpoint.stop(number)
        for n in numbers:
            signal.signal(n, before[n])

    for number in numbers:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, before[number])
