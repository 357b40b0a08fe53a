"""Recipe -> run: fit with Keras' own callbacks, keep the best weights by validation, read the test split once."""

import contextlib
import datetime
import gc
import hashlib
import os
import platform
import resource
import signal
import sys
import threading
import time
from pathlib import Path

import keras
import numpy as np
import pandas
from PIL import Image

from kerascnn import __version__, backends, datasets, plots, runs
from kerascnn.datasets.preprocessing import Preprocessing
from kerascnn.errors import DataError, UsageError
from kerascnn.models import MODELS
from kerascnn.recipes import RECIPES, Recipe
from kerascnn.training import resume as resuming
from kerascnn.training.batches import Batches, InOrder
from kerascnn.training.build import compile_model, network
from kerascnn.training.evaluate import evaluate_split
from kerascnn.training.progress import EpochLines
from kerascnn.training.resume import BEST, Checkpoint, Stopped


class TrainingFailed(RuntimeError):  # noqa: N818 (what happened, in the words of run.json)
    """Training could not go on; the run folder says why and keeps the best weights so far."""


def train(recipe=None, *, out=None, resume=None, strict=False, callbacks=(), say=print, on_run=None, **fields):
    """Train as a recipe asks; returns the finished Run with its best weights, metrics, plots and test result.

    Args:
        recipe: a Recipe; None: LeNet-5 on the handwritten digits.
        out: the run folder, new or empty; None: saved_models/<date>-<model>-<data>.
        resume: a run (folder, name or "last") to continue instead; only `epochs` may differ from its recipe.
        strict: True stops at the first image that cannot be read, instead of leaving it out.
        callbacks: further `keras.callbacks.Callback`s for fit.
        say: called with each line of progress.
        on_run: called with the Run as soon as its folder exists.
        **fields: recipe fields to replace: `train(epochs=3)`.
    Raises:
        UsageError, DataError: the recipe or the data cannot be used; nothing was written.
        Stopped: SIGINT or SIGTERM came; the state was saved, `resume` goes on exactly.
        TrainingFailed: the loss became NaN or infinite.
    """
    run = None
    if resume is not None:
        run = runs.find(resume)
        recipe = _continued(run, recipe, fields)
    else:
        recipe = _anchored((recipe or RECIPES.get("digits")()).replace(**fields))
    began = time.monotonic()
    data = load_data(recipe, strict=strict)
    prepared = Preprocessing.fit(data.train.images, image_size=_size(_image_size(recipe)), normalize=recipe.normalize)
    precision = _precision(recipe)
    _check(recipe, data)
    keras.utils.set_random_seed(recipe.seed)
    shape, num_classes = (*prepared.image_size, prepared.channels), len(data.class_names)
    model = network(recipe, shape, num_classes, precision)
    batches = Batches(data.train, prepared, recipe.batch_size, augmentations=recipe.augment, seed=recipe.seed)
    compile_model(model, recipe, batches.steps)

    described = _described(data, prepared)
    if run is None:
        run = runs.create(out, model=recipe.model, data=data.name)
        run.write("recipe", recipe.to_dict())
        run.write("data", described)
        run.write("labels", list(data.class_names))
        _write_samples(run, data)
        seconds_before = 0.0
    else:
        _same_data(run, described)
        run.write("recipe", recipe.to_dict())
        seconds_before = run.read("run").get("seconds", 0.0)
    run.update(
        status="running",
        reason=None,
        host=platform.node(),
        pid=os.getpid(),
        started=datetime.datetime.now().isoformat(timespec="seconds"),
        versions={"kerascnn": __version__, **backends.versions()},
        device=backends.devices(),
        processor=backends.processor(),
        precision=precision,
        seed=recipe.seed,
        parameters=model.count_params(),
    )
    if on_run:
        on_run(run)
    say(
        f"{recipe.model} on {data.name}: "
        + ", ".join(f"{len(s):,} {name}" for name, s in data.splits.items())
        + f" images of {shape[0]}x{shape[1]}x{shape[2]} in {num_classes} classes"
    )
    for note in data.notes:
        say(note)
    if data.skipped:
        say(f"{len(data.skipped)} files left out, the first: {data.skipped[0][0]} ({data.skipped[0][1]})")
    say(f"{model.count_params():,} parameters, {precision} on {', '.join(backends.devices())} ({backends.backend()})")
    try:
        _fit(run, recipe, model, batches, data, callbacks, say)
        final = _finish(run, recipe, model, shape, num_classes)
        result = _results(run, recipe, final, data, prepared)
    except Stopped as stop:
        _finish(run, recipe, model, shape, num_classes)
        run.update(status="interrupted", reason=str(stop), **_spent(began, seconds_before))
        raise
    except BaseException as error:
        with contextlib.suppress(OSError):
            run.update(status="failed", reason=f"{type(error).__name__}: {error}", **_spent(began, seconds_before))
        raise
    run.update(status="finished", result=result, **_spent(began, seconds_before))
    return run


def load_data(recipe, *, strict=False, **options):
    """The ImageData that a recipe asks for, its images at the size that crops are taken from."""
    return datasets.load(
        recipe.data,
        image_size=_size(recipe.resize_to or _image_size(recipe)),
        channels=recipe.channels,
        validation=recipe.validation,
        test=recipe.test,
        seed=recipe.seed,
        strict=strict,
        **options,
    )


def _image_size(recipe):
    return recipe.image_size or MODELS.facts(recipe.model)["input_shape"][:2]


def _size(size):
    return (size, size) if isinstance(size, int) else tuple(size)


def _anchored(recipe):
    """The recipe with an absolute path to its data, so that the run goes on from any folder."""
    path = Path(recipe.data).expanduser()
    return recipe if recipe.data in datasets.DATASETS or not path.exists() else recipe.replace(data=str(path.resolve()))


def _precision(recipe):
    """The number format of the arithmetic; small networks gain nothing from bfloat16."""
    if recipe.precision != "auto":
        return recipe.precision
    large = MODELS.facts(recipe.model).get("parameters", 0) >= 1_000_000
    return backends.fastest_precision() if large else "float32"


def _continued(run, recipe, fields):
    """The recipe of a run that goes on; more epochs are allowed, anything else that differs is an error."""
    old = Recipe.from_dict(run.read("recipe"))
    new = _anchored((recipe or old).replace(**fields))
    differing = [name for name in old.differences(new) if name != "epochs"]
    if differing:
        listed = "; ".join(f"{n} was {getattr(old, n)!r}, now {getattr(new, n)!r}" for n in differing)
        raise UsageError(
            f"The run {run.folder} was made with another recipe ({listed}), so it cannot go on exactly. "
            f"Leave these out, or start a new run without --resume."
        )
    if new.epochs != old.epochs and old.schedule != "constant":
        raise UsageError(
            f"The run {run.folder} has a {old.schedule} schedule over {old.epochs} epochs, so --epochs {new.epochs} "
            "would change its past. Leave --epochs out."
        )
    return new


def _check(recipe, data):
    """Errors that need both recipe and data."""
    if recipe.batch_size > len(data.train):
        raise UsageError(
            f"batch_size={recipe.batch_size} is more than the {len(data.train)} training images. "
            f"Type --batch-size {len(data.train)} or less."
        )
    if data.validation is None and (recipe.monitor.startswith("val_")):
        raise UsageError(
            f"monitor={recipe.monitor!r} needs validation images, but validation={recipe.validation:g} holds none out. "
            "Type --validation 0.1, or --monitor loss."
        )
    if data.test is None:
        raise DataError(f"{data.source} has no test images and --test {recipe.test:g} makes none. Type --test 0.15")


def _described(data, prepared):
    """data.json: where the images come from and what was done to them."""
    return {
        "name": data.name,
        "source": data.source,
        "class_names": list(data.class_names),
        "splits": {
            name: {
                "images": len(split),
                "per_class": np.bincount(split.labels, minlength=len(data.class_names)).tolist(),
            }
            for name, split in data.splits.items()
        },
        "preprocessing": prepared.to_dict(),
        "fingerprint": _fingerprint(data),
        "skipped": [list(pair) for pair in data.skipped],
        "notes": list(data.notes),
    }


def _write_samples(run, data):
    """Ten test images as PNG files, to try `predict` on and to check exports with; class and number in their names."""
    split = data.test
    by_class = np.argsort(split.labels, kind="stable")
    for row in by_class[np.linspace(0, len(split) - 1, min(10, len(split))).astype(int)]:
        pixels = split.images[int(row)]
        picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[-1] == 1 else pixels)
        with runs.replacing(
            run / "samples" / f"{runs.plain(data.class_names[split.labels[row]])}-{row}.png"
        ) as temporary:
            picture.save(temporary)


def _fingerprint(data):
    """A checksum that tells two data sets apart: all labels and file names, and some of the images' pixels."""
    digest = hashlib.sha256()
    for split in data.splits.values():
        digest.update(split.labels.tobytes())
        digest.update("\n".join(split.files).encode())
        digest.update(np.ascontiguousarray(split.images[np.arange(0, len(split), -(-len(split) // 64))]).tobytes())
    return digest.hexdigest()


def _same_data(run, described):
    if run.read("data").get("fingerprint") != described["fingerprint"]:
        raise DataError(
            f"The data at {described['source']} is not what the run {run.folder} was trained on, so it cannot go on "
            "exactly. Bring the old data back, or start a new run without --resume."
        )


def _fit(run, recipe, model, batches, data, callbacks, say):
    """Fit until the recipe's epochs are done, from the newest checkpoint where there is one."""
    folder = run / "checkpoint"
    folder.mkdir(exist_ok=True)
    best = keras.callbacks.ModelCheckpoint(
        str(folder / f"new.{BEST}"), monitor=recipe.monitor, save_best_only=True, save_weights_only=True
    )
    counting = [best]
    if recipe.rate_patience:
        counting.append(
            keras.callbacks.ReduceLROnPlateau(recipe.monitor, factor=recipe.rate_factor, patience=recipe.rate_patience)
        )
    if recipe.stop_patience:
        counting.append(keras.callbacks.EarlyStopping(recipe.monitor, patience=recipe.stop_patience))
    for name in ("rate_patience", "stop_patience"):
        if getattr(recipe, name) >= recipe.epochs:
            say(f"Note: {name}={getattr(recipe, name)} is not below epochs={recipe.epochs}, so it never acts.")
    lines = EpochLines(batches, recipe.epochs, say)
    checkpoint = Checkpoint(folder, batches, counting)
    table = keras.callbacks.CSVLogger(str(run / "metrics.csv"), append=True)
    nan = keras.callbacks.TerminateOnNaN(raise_error=True)
    validation = (
        InOrder(data.validation, batches.preprocessing, max(recipe.batch_size, 256)) if data.validation else None
    )

    state = resuming.newest(folder, say)
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
    _keep_rows(run / "metrics.csv", epoch)
    try:
        with _signals(checkpoint, say):
            while epoch < recipe.epochs:
                batches.start = step
                last = epoch + 1 if step else recipe.epochs
                model.fit(
                    batches,
                    validation_data=validation,
                    initial_epoch=epoch,
                    epochs=last,
                    shuffle=False,
                    verbose=0,
                    callbacks=[*counting, nan, table, lines, *callbacks, checkpoint],
                )
                if model.stop_training:
                    say(f"Stopped: {recipe.monitor} has not risen for {recipe.stop_patience} epochs.")
                    break
                epoch, step = last, 0
                checkpoint.state = resuming.newest(folder, say) if epoch < recipe.epochs else None
    except RuntimeError as error:
        if "NaN or Inf loss" not in str(error):
            raise
        kept = "the best weights so far are kept" if (folder / BEST).exists() else "no epoch was finished"
        if (folder / BEST).exists():
            _finish(run, recipe, model, model.input_shape[1:], model.output_shape[-1])
        raise TrainingFailed(
            f"The loss became NaN or infinite in epoch {batches.epoch + 1}; training stopped and {kept}. "
            f"Try a smaller learning rate: --learning-rate {recipe.learning_rate / 10:g}"
        ) from None
    finally:
        lines.close()
        if table.csv_file:
            table.csv_file.close()


def _keep_rows(path, epochs):
    """Leave only the first epochs' rows in metrics.csv: a killed run may have written one more, or half of one."""
    if path.exists():
        rows = path.read_bytes().splitlines(keepends=True)[: epochs + 1] if epochs else []
        with runs.replacing(path) as temporary:
            temporary.write_bytes(b"".join(rows))


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


def _finish(run, recipe, model, shape, num_classes):
    """Write best.keras, the best weights in a float32 network, and return that network; None where none is best yet."""
    weights = run / "checkpoint" / BEST
    if not weights.exists():
        return None
    final = network(recipe, shape, num_classes)
    final.load_weights(weights)
    with runs.replacing(run / "best.keras") as temporary:
        final.save(temporary)
    return final


def _results(run, recipe, final, data, prepared):
    """Evaluate the best weights once on the test split, draw the plots, and return the result for run.json."""
    measured = evaluate_split(final, data.test, prepared, data.class_names)
    metrics = pandas.read_csv(run / "metrics.csv")
    title = f"{recipe.model} on {data.name}"
    for quantity in ("loss", "accuracy"):
        columns = [c for c in ("epoch", quantity, f"val_{quantity}") if c in metrics]
        plots.save(
            plots.learning_curve(metrics, quantity, f"{title}: {quantity}"),
            metrics[columns],
            run / "plots" / f"{quantity}.png",
        )
    plots.save(
        plots.confusion(measured.confusion, f"{title}: {measured.images:,} test images"),
        measured.confusion,
        run / "plots" / "confusion.png",
    )
    chosen = metrics[recipe.monitor]
    best = int(chosen.idxmin() if "loss" in recipe.monitor else chosen.idxmax())
    return {
        **measured.to_dict(),
        "best_epoch": int(metrics["epoch"][best]) + 1,
        recipe.monitor: float(chosen[best]),
        "epochs": len(metrics),
    }


def _spent(began, before):
    """Seconds and peak resident memory of this process, for run.json."""
    gc.collect()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"seconds": round(before + time.monotonic() - began, 2), "peak_memory_bytes": peak}
