"""What comes before the first step: the data that a recipe asks for, and what the run folder says of it."""

import errno
import hashlib
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from kerascnn import backends, datasets, models, runs
from kerascnn.datasets.preprocessing import Preprocessing
from kerascnn.errors import DataError, UsageError, command, counted
from kerascnn.hosts import ALONE
from kerascnn.recipes import Recipe
from kerascnn.training.reading import check_counts


def anchored(recipe):
    """The recipe with absolute paths to its data and first weights, so that the run can be resumed from any folder."""
    path = Path(recipe.data).expanduser()
    if recipe.data not in datasets.DATASETS and path.exists():
        recipe = recipe.replace(data=str(path.resolve()))
    if models.is_file(recipe.model):
        recipe = recipe.replace(model=str(Path(recipe.model).expanduser().resolve()))
    weights = recipe.model_options.get("weights")
    if isinstance(weights, str) and Path(weights).expanduser().is_file():
        weights = str(Path(weights).expanduser().resolve())
        recipe = recipe.replace(model_options={**recipe.model_options, "weights": weights})
    return recipe.replace(start_from=runs.absolute(recipe.start_from)) if recipe.start_from else recipe


def precision_of(recipe):
    """The number format of the arithmetic; small networks gain nothing from bfloat16."""
    if recipe.precision != "auto":
        return recipe.precision
    large = models.facts(recipe.model).get("parameters", 0) >= 1_000_000
    return backends.fastest_precision() if large else "float32"


def device_count(devices, batch_size, run=None, group=ALONE):
    """The number of devices that share a batch: what was asked for, or what the resumed run had, or 1.

    Args:
        devices: a number, "all" or None.
        batch_size: images a step, of all devices together.
        run: the Run to resume, if any.
        group: the Hosts, all of whose devices share a batch where there are several.
    Raises:
        UsageError: more devices than there are, not JAX, a batch that they do not divide, or another number than the
            run had.
    """
    before = run.read("run") if run else {}
    had = before.get("data_parallel", 1) if run else None
    if before.get("hosts", group.count) != group.count:
        raise UsageError(
            f"The run {run.folder} was made on {counted(before['hosts'], 'host')}, so it cannot resume exactly on "
            f"{group.count}. Resume it on as many hosts, or start a new run."
        )
    there = backends.data_parallel_devices()
    devices = "all" if group.count > 1 else devices
    count = there if devices == "all" else devices if devices is not None else had or 1
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise UsageError(f"devices={count!r} is not allowed: it must be a whole number above 0, or all.")
    if backends.backend() != "jax" and (count > 1 or devices == "all"):
        raise UsageError(
            f"devices={devices or count!r} needs JAX: with {backends.backend()} one device computes. "
            "Install kerascnn[jax] and set KERAS_BACKEND=jax, or use one device."
        )
    if count > there:
        raise UsageError(f"devices={count} is more than the {there} that JAX sees here. Give devices='all'")
    if had and count != had:
        raise UsageError(
            f"The run {run.folder} was made with {counted(had, 'device')}, so it cannot resume exactly with {count}. "
            f"Give devices={had}, or start a new run."
        )
    if batch_size % count:
        near = max(count, batch_size - batch_size % count)
        raise UsageError(
            f"batch_size={batch_size} cannot be shared out evenly among {count} devices. Give batch_size={near}, or "
            f"another multiple of {count}."
        )
    return count


def continued(run, recipe, fields, state):
    """The recipe of a resumed run; more epochs, or steps where the run counts those, are allowed, anything else
    that differs is an error.

    Args:
        state: the run's newest checkpoint, or None.
    """
    trained_by = run.read("run").get("versions", {})
    if trained_by and backends.backend() not in trained_by:
        other = next((name for name in ("tensorflow", "jax", "torch") if name in trained_by), "another backend")
        raise UsageError(
            f"The run {run.folder} was trained with {other}, so it cannot resume exactly with {backends.backend()}. "
            f"Set KERAS_BACKEND={other}, or start a new run."
        )
    values = run.read("recipe")
    if "min_delta" not in values and values.get("rate_patience"):
        values["min_delta"] = 1e-4  # what Keras' ReduceLROnPlateau took before there was this field
    old = Recipe.from_dict(values)
    new = (recipe or old).replace(**fields)
    if new.start_from == old.start_from:  # which a resumed run does not read again
        new = anchored(new.replace(start_from="")).replace(start_from=old.start_from)
    else:
        new = anchored(new)
    length = "steps" if old.steps else "epochs"
    had, asked = getattr(old, length), getattr(new, length)
    longer = asked > had
    differing = [name for name in old.differences(new) if name != length]
    if differing:
        listed = "; ".join(f"{n} was {getattr(old, n)!r}, now {getattr(new, n)!r}" for n in differing)
        raise UsageError(
            f"The run {run.folder} was made with another recipe ({listed}), so it cannot resume exactly. "
            "Leave these out, or start a new run."
        )
    if asked < had:
        raise UsageError(f"The run {run.folder} was made for {had} {length}; {length}={asked} is less. Leave it out.")
    stopped = state["epoch"] if state and state["stop_training"] else run.read("run").get("stopped")
    if run.status == "finished" and (stopped or not longer):
        done = f"has finished its {had} {length}"
        if stopped:
            done = f"was stopped after epoch {stopped}, by its patience or a callback"
        more = f"To continue, give {length}={had + 1} or more. " if old.schedule == "constant" and not stopped else ""
        raise UsageError(
            f"The run {run.folder} {done}. {more}To write its SavedModel again, type: {command('export', run.folder)}"
        )
    if longer and old.schedule != "constant":
        raise UsageError(
            f"The run {run.folder} has a {old.schedule} schedule over its whole length, so {length}={asked} would "
            "change its past. Leave it out."
        )
    return new


def check_whole(run, state, batches):
    """Raise a UsageError if a run cannot be made longer exactly, because it was evaluated after a part of a period."""
    had = run.read("recipe")["steps"]
    if had and state and not state["step"] and batches.total > had and state["epoch"] * batches.period > had:
        raise UsageError(
            f"The run {run.folder} ended after {counted(had, 'step')}, within a period of {batches.period}, so it "
            "cannot resume exactly. Start a new run with all its steps."
        )


def check(recipe, data, devices=1):
    """Errors that need both recipe and data, or what is known of the model; `devices` share each batch."""
    check_counts(recipe, data.source, {name: len(split) for name, split in data.splits.items()})
    for name, more in (("validation", f"validation={devices} or more"), ("test", "test_curve=False")):
        count = len(data.splits.get(name, ()))
        if 0 < count < devices and (name == "validation" or recipe.test_curve):
            few = counted(count, f"{name} image is", f"{name} images are")
            raise UsageError(f"{few} too few for {devices} devices. Give {more}, or fewer devices.")
    classes = len(data.class_names)
    if recipe.top5 and classes < 6:
        raise UsageError(f"top5=True needs six classes or more; {data.source} has {classes}. Leave it out.")


def check_space(folder, parameters):
    """Raise an OSError if the disk that will hold a run is too full for it: native writers crash on a full disk.

    A run holds about ten times the weights: two checkpoints with the optimizer's two moments, best weights, exports.
    """
    place = Path(folder).resolve()
    while not place.exists():
        place = place.parent
    need, free = 10 * 4 * parameters + 2**20, shutil.disk_usage(place).free
    if free < need:
        raise OSError(
            errno.ENOSPC,
            f"No space left on device: the run needs about {need / 1e6:,.0f} MB and {free / 1e6:,.0f} MB are free",
            str(folder),
        )


def described(data, prepared):
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
        "fingerprint": fingerprint(data),
        "skipped": [list(pair) for pair in data.skipped],
        "notes": [*data.notes, *data.doubts],
    }


def fingerprint(data):
    """A checksum that tells two data sets apart: all labels and file names, and some of the images' pixels.

    `kerascnn.training.digests` compares all pixels.
    """
    digest = hashlib.sha256()
    for split in data.splits.values():
        digest.update(split.labels.tobytes())
        digest.update("\n".join(split.files).encode("utf-8", "surrogateescape"))
        digest.update(np.ascontiguousarray(split.images[np.arange(0, len(split), -(-len(split) // 64))]).tobytes())
    return digest.hexdigest()


def check_same_data(run, described):
    """Raise a DataError if the data described (a dict as in data.json) are not those that a run was trained on."""
    had = run.read("data")
    scalings = [Preprocessing.from_dict(each["preprocessing"]) for each in (had, described)]
    if had.get("fingerprint") != described["fingerprint"] or scalings[0] != scalings[1]:
        raise DataError(
            f"The data at {described['source']} is not what the run {run.folder} was trained on, so it cannot resume "
            "exactly. Bring the old data back, or start a new run."
        )


def write_samples(run, data):
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
