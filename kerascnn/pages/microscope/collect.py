"""The content of a site, from two passes over the images: the scan, and the activity of every unit.

The scan has the strongest places and the statistics. The second pass keeps, for at most SAMPLE images, the largest
activation of every unit in the image and its place, and for all images the most probable classes. Correlations, maps of
units and patches from lower quantiles come from that sample. Both passes resume after a kill.
"""

import dataclasses
import functools
import hashlib
import json

import numpy as np
from keras import ops

from kerascnn import backends, dataset_scan
from kerascnn.dataset_scan.scanning import scan
from kerascnn.errors import DataError, UsageError, counted
from kerascnn.explain.answers import class_probabilities, probabilities
from kerascnn.explain.subjects import check_images, opaque_step
from kerascnn.explain.targets import score_value
from kerascnn.explain.walk import Task, needed_steps, walk
from kerascnn.files import read_arrays
from kerascnn.network.plan import make_plan, read_constants
from kerascnn.progress import Bell, counting
from kerascnn.runs import replacing

SAMPLE = 1000  # images whose activity is kept; beyond, an even sample of the data
PROFILE = 100  # strongest images that a class profile is counted over
ANSWERS = 5  # most probable classes kept of each image
EVERY = 30.0  # seconds between two states


@dataclasses.dataclass(eq=False)
class Collected:
    """The results of both passes.

    Attributes:
        result: ScanResult.
        sample: int (n,), numbers of the images whose activity was kept.
        height: {address: float32 (n, units)}, the largest activation of a unit in each of these images.
        place: {address: int32 (n, units)}, where, as an index in row-major order.
        answers: (classes int (N, 5), probabilities float32 (N, 5)), best first; None for a network without classes.
    """

    result: object
    sample: np.ndarray
    height: dict
    place: dict
    answers: tuple | None


def collect(subject, layers, site, *, batch_size=32, say=None):
    """The Collected of some SiteLayers.

    Args:
        site: the Site under whose state/ the passes keep what they found.
        say: called with sentences.
    """
    say = say or (lambda line: None)
    result = scanned(subject, layers, site.state, batch_size, say)
    return _active(subject, layers, site, batch_size, result, say)


def scanned(subject, layers, state, batch_size, say, shard=None):
    """The ScanResult of the layers, in scan.npz in the folder `state`; those that are there already are not scanned
    again.

    Args:
        shard: (i, n), for one part of the images; None: all.
    """
    path = state / "scan.npz"
    names = [each.name for each in layers]
    try:
        earlier = dataset_scan.load(path)
    except (UsageError, DataError):
        earlier = None
    missing = [name for name in names if earlier is None or name not in earlier.layers]
    while missing:
        scan(
            subject.model,
            subject.images,
            missing,
            min(PROFILE, len(subject)),
            labels=subject.labels,
            class_names=subject.class_names,
            preprocessing=subject.preprocessing,
            batch_size=batch_size,
            out=path,
            patches=False,
            shard=shard,
            say=counting(say, "scan: "),
        )
        earlier = dataset_scan.load(path)
        missing = names if set(names) - set(earlier.layers) else []  # it was another scan's, and has been replaced
    return earlier


def sample_of(subject):
    """int (n,), numbers of the images whose activity is kept."""
    return np.unique(np.linspace(0, len(subject) - 1, min(SAMPLE, len(subject))).round().astype(int))


def _active(subject, layers, site, batch_size, result, say):
    sample = sample_of(subject)
    state = _read(site.state / "activity.npz")
    have = set(json.loads(state["layers"].tobytes())) if state else set()
    missing = [each for each in layers if each.address not in have]
    if missing:
        arrays = passed(subject, missing, sample, site.state, batch_size, say)
        state = {**state, **arrays, "layers": text_array(sorted(have | {each.address for each in missing}))}
        write_arrays(site.state / "activity.npz", state)
        (site.state / "activity-part.npz").unlink(missing_ok=True)
    height = {each.address: state[f"height/{each.address}"] for each in layers}
    place = {each.address: state[f"place/{each.address}"] for each in layers}
    answers = (state["classes"], state["probabilities"]) if "classes" in state else None
    return Collected(result, sample, height, place, answers)


def passed(subject, layers, sample, state, batch_size, say, part=None):
    """Arrays of the second pass: height/ADDRESS and place/ADDRESS of the sample, classes and probabilities of all.

    Args:
        state: the folder in which the pass keeps how far it is.
        part: (first, stop), numbers of the images that are looked at; None: all.
    """
    start, stop = part or (0, len(subject))
    plan = make_plan(subject.model, opaque_step)
    single = len(plan.outputs) == 1 and len(subject.model.output_shape) == 2
    answering = score_value(plan) if single else None
    values = tuple(each.scanned.value for each in layers)
    wanted = values if answering is None else (*values, answering)
    task = Task(needed_steps(plan.steps, wanted), plan.inputs, wanted)
    step = backends.compiled(functools.partial(_heights, task, len(values)))
    constants = read_constants(plan, "float32")
    path, bell, saving = state / "activity-part.npz", Bell(), Bell(EVERY)
    key = hashlib.sha256(json.dumps([each.name for each in layers]).encode()).hexdigest()
    arrays = _read(path)
    if not arrays or arrays["key"].tobytes().decode() != key:
        arrays = {"key": text_array(key, raw=True), "done": np.array(start)}
    kept = set(sample.tolist())
    for first in range(int(arrays["done"]), stop, batch_size):
        numbers = np.arange(first, min(first + batch_size, stop))
        x = check_images(subject.model, plan, subject.prepared(numbers))[0].astype("float32", copy=False)
        filled = np.concatenate([x, np.repeat(x[-1:], batch_size - len(x), 0)])
        heights, places, end = step(ops.convert_to_tensor(filled), constants)
        rows = [i for i, number in enumerate(numbers.tolist()) if number in kept]
        for each, tall, where in zip(layers, heights, places, strict=True):
            _append(arrays, f"height/{each.address}", ops.convert_to_numpy(tall)[rows])
            _append(arrays, f"place/{each.address}", ops.convert_to_numpy(where)[rows].astype("int32"))
        if answering is not None:
            order, probable = _best(subject.model, plan, ops.convert_to_numpy(end)[: len(x)])
            _append(arrays, "classes", order)
            _append(arrays, "probabilities", probable)
        arrays["done"] = np.array(first + len(numbers))
        if bell.rings():
            say(f"activity: {int(arrays['done']) - start:,} of {counted(stop - start, 'image')}")
        if saving.rings():
            write_arrays(path, _joined(arrays))
    return {name: array for name, array in _joined(arrays).items() if name not in ("key", "done")}


def _heights(task, count, images, constants):
    """(heights, places) of the first `count` values, (N, channels) each, and the network's answers, or None."""
    values = walk(task, [images], constants, [])[0]
    tall, where = [], []
    for value in values[:count]:
        flat = ops.reshape(value, (value.shape[0], -1, value.shape[-1]))
        tall.append(ops.max(flat, 1))
        where.append(ops.argmax(flat, 1))
    return tall, where, values[count] if len(values) > count else tall[0]


def _best(model, plan, scores):
    """(classes, probabilities) of the most probable classes, best first; a single score is that of class 1."""
    chances = class_probabilities(model, scores) if scores.shape[1] == 1 else probabilities(plan, scores)
    order = np.argsort(-chances, axis=1, kind="stable")[:, :ANSWERS]
    return order.astype("int32"), np.take_along_axis(chances, order, 1)


def _append(arrays, name, rows):
    before = arrays.setdefault(name, [])
    arrays[name] = [*([before] if isinstance(before, np.ndarray) else before), rows]


def _joined(arrays):
    """Arrays of what blocks have added; it stays as it is."""
    return {name: np.concatenate(value) if isinstance(value, list) else value for name, value in arrays.items()}


def text_array(value, raw=False):
    """uint8 (n,): a value as JSON, or with `raw` a text as it is."""
    return np.frombuffer((value if raw else json.dumps(value)).encode(), "uint8")


def _read(path):
    """The arrays of a state; {} if there is none, or it is damaged."""
    try:
        return dict(read_arrays(path))
    except (FileNotFoundError, DataError, ValueError, KeyError):
        return {}


def write_arrays(path, arrays):
    """Write an NPZ file, atomically."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)
