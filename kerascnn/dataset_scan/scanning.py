"""The pass itself: block by block, resumable."""

import hashlib
import time
import warnings
from pathlib import Path

import numpy as np
from keras import ops

from kerascnn import __version__
from kerascnn.dataset_scan.blocks import BlockPass
from kerascnn.dataset_scan.geometry import Geometry
from kerascnn.dataset_scan.leaders import Leaders
from kerascnn.dataset_scan.record import Found, Record
from kerascnn.dataset_scan.result import ScanResult
from kerascnn.dataset_scan.sources import open_source
from kerascnn.dataset_scan.statistics import Statistics
from kerascnn.errors import DataError, UsageError, counted
from kerascnn.explain.plans.plan import make_plan
from kerascnn.explain.subjects import check_images, opaque_step
from kerascnn.explain.targets import check_channels_last, convolutions, every_call, find_layer
from kerascnn.explain.walk import check_finite


def scan(
    model,
    data,
    layers=None,
    k=9,
    *,
    labels=None,
    split="train",
    class_names=None,
    preprocessing=None,
    per_image=1,
    batch_size=128,
    samples=4,
    out=None,
    every=30.0,
    say=None,
):
    """One pass over a data set: the k largest activations and the statistics of every channel of chosen layers.

    Args:
        model: any built Functional or Sequential keras.Model with one image input; it is not changed.
        data: images float (N, H, W, C) as the model takes them; an ImageData or a Split; a tf.data.Dataset or a
            keras.utils.PyDataset of (images, labels) or of images, in the same order each time.
        layers: a layer's name or a list; None: every convolution. "conv5" on a network without one is its deepest.
            The result has them in the network's order.
        k: activations kept for each channel.
        labels: int (N,), the classes of an array's images.
        split: which split of an ImageData.
        class_names: what the labels are called; an ImageData brings its own.
        preprocessing: function applied to each block of images before the model, as a run's `Preprocessing`.
        per_image: how many places of one image may be among the k.
        batch_size: images computed at once. Results do not depend on it beyond the backend's own rounding.
        samples: places of each image, of those its map has, that count in quantiles and histograms; None: all.
        out: NPZ file for the result. While the pass runs its state lies in `out`.part, so that the same call after a
            kill goes on from there and ends with the same numbers.
        every: seconds between two states.
        say: called with (images done, images in all or 0) after each block.
    Returns:
        ScanResult.
    Raises:
        UsageError: unknown layer, a layer without channels, k larger than the data, no images, images that the model
            does not take, NaN among the weights.
    """
    numbers = {"k": k, "per_image": per_image, "batch_size": batch_size, "samples": 1 if samples is None else samples}
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < 1:
            raise UsageError(f"{name}={number!r} is not allowed: it must be a whole number, at least 1.")
    k, per_image, batch_size = int(k), int(per_image), int(batch_size)
    samples = None if samples is None else int(samples)
    source, names = open_source(data, labels, split)
    if source.again:
        _check_k(k, len(source))
    if labels is not None and class_names is None:
        names = map(str, range(int(np.max(labels)) + 1))
    names = tuple(map(str, names or () if class_names is None else class_names))
    pixels = getattr(preprocessing, "crop", lambda images: images)
    plan = make_plan(model, opaque_step)
    if len(plan.inputs) != 1:
        raise UsageError(f"Model {model.name!r} has {len(plan.inputs)} inputs; a scan takes a network with one.")
    chosen = _sorted(plan, layers)
    passing = BlockPass(plan, tuple(chosen.values()), batch_size, samples)
    manifest = {
        "kerascnn": __version__,
        "model": model.name,
        "weights": _checksum(passing.constants),
        "layers": list(chosen),
        "k": k,
        "per_image": per_image,
        "samples": samples,
        "batch_size": batch_size,
        "class_names": list(names),
        "images": len(source),
        "data": source.fingerprint(preprocessing),
    }
    part = Path(f"{out}.part") if out is not None else None
    record, saved = _begun(part, manifest), time.monotonic()
    for images, block_labels in source.blocks(batch_size, record.done if record else 0):
        _check_labels(block_labels, names)
        x = _input(model, plan, images if preprocessing is None else preprocessing(images))
        _check_size(pixels(images[:1]), x)
        if passing.shapes is None:
            passing.begin(x)
            if record:
                passing.centres = [found.statistics.centre.astype("float32") for found in record.layers.values()]
            else:
                record = _new(model, manifest, passing, len(names), x.shape[1:])
        _step(record, plan, passing, x, block_labels, None if source.again else pixels(images))
        if say:
            say(record.done, len(source))
        if part and time.monotonic() - saved >= every:
            record.write(part)
            saved = time.monotonic()
    if record is None:
        raise UsageError("The data holds no images.")
    _check_k(k, record.done)
    record.manifest["images"] = record.done
    result = ScanResult(record, (lambda index: pixels(source.take(index))) if source.again else None)
    if out is not None:
        result.save(out)
        part.unlink(missing_ok=True)
    return result


def chosen_layers(model, layers=None):
    """Paths of the layers that `scan` would look at, in the network's order."""
    plan = make_plan(model, opaque_step)
    return list(_sorted(plan, layers))


def _sorted(plan, layers):
    """{path: value number} of the layers asked for, in the network's order."""
    return dict(sorted((_chosen(plan, name) for name in _names(plan, layers)), key=lambda pair: pair[1]))


def _check_k(k, count):
    if not count:
        raise UsageError("The data holds no images.")
    if k > count:
        raise UsageError(f"k={k} is larger than the data: it has {counted(count, 'image')}. Type k={count} or less.")


def _names(plan, layers):
    """The names that a user asks for, with a stand-in for "conv5"."""
    deep = every_call(plan, convolutions(plan))
    if layers is None:
        if not deep:
            raise UsageError(
                f"Model {plan.model!r} has no convolution, so layers= has to name others of its layers: "
                f"{', '.join(plan.layers)}."
            )
        return deep
    names = [layers] if isinstance(layers, str) else list(layers)
    if not names:
        raise UsageError("layers=[] names no layer. Leave it out for every convolution.")
    for number, name in enumerate(names):
        known = {path.rpartition("/")[2].lower() for path in plan.layers}
        if str(name).lower() == "conv5" and "conv5" not in known and deep:
            told = f"Model {plan.model!r} has no layer {name!r}: its deepest convolution is {deep[-1]!r}."
            warnings.warn(told, stacklevel=4)
            names[number] = deep[-1]
    return names


def _chosen(plan, name):
    """(path, value number) of a layer that has channels."""
    check_channels_last(plan)
    path, value = find_layer(plan, name)
    if len(plan.shapes[value]) not in (2, 4):
        raise UsageError(
            f"Layer {path!r} of model {plan.model!r} has no channels: its output is {plan.shapes[value]}. "
            f"Maps (N, rows, cols, channels) and units (N, units) are scanned, such as {convolutions(plan)[-1:]}."
        )
    return (path if "#" not in str(name) else f"{path}#{str(name).partition('#')[2]}"), value


def _input(model, plan, images):
    return check_images(model, plan, images)[0].astype("float32", copy=False)


def _check_labels(labels, names):
    if names and labels.min() < 0:
        raise UsageError(f"A label is {labels.min()}, as of images without labels: give labels= for all, from 0 up.")
    if names and labels.max() >= len(names):
        raise UsageError(f"A label is {labels.max()}, but there are {len(names)} class names.")


def _check_size(images, x):
    """Patches are cut from the images as they were before the preprocessing, at the places that the model sees."""
    if images.shape[1:3] != x.shape[1:3]:
        raise UsageError(
            f"preprocessing= makes images of {x.shape[1]}x{x.shape[2]} pixels from {images.shape[1]}x"
            f"{images.shape[2]}, so that patches cannot be cut from these. Resize them before the scan."
        )


def _checksum(constants):
    digest = hashlib.sha256()
    for constant in constants:
        digest.update(np.ascontiguousarray(ops.convert_to_numpy(constant)).tobytes())
    return digest.hexdigest()


def _begun(part, manifest):
    """The Record of a pass that was killed, if it was this one; None otherwise."""
    if part is None or not part.exists():
        return None
    try:
        record = Record.read(part)
    except DataError:
        return None
    return record if record.manifest == manifest else None


def _new(model, manifest, passing, num_classes, image_shape):
    """An empty Record."""
    layers = {}
    for path, shape, centre in zip(manifest["layers"], passing.shapes, passing.centres, strict=True):
        layers[path] = Found(
            Geometry.of(model, path, image_shape, shape),
            Leaders(shape[-1], manifest["k"], manifest["per_image"]),
            Statistics(int(np.prod(shape[:-1])), centre, num_classes),
            {},
        )
    return Record(manifest, 0, layers)


def _step(record, plan, passing, x, labels, images):
    """Enters a block of images x into a Record; `images`: its pixels, where they have to be kept."""
    blocks = passing(x, record.done)
    check_finite(plan, [block.maximum for block in blocks] + [block.total for block in blocks])
    for found, block in zip(record.layers.values(), blocks, strict=True):
        _enter(found, block, record.done, labels, images)
    record.done += len(x)


def _enter(found, block, first, labels, images):
    """Enters one layer's part of a block; `images` where patches have to be kept because the data passes by once."""
    found.statistics.add(labels, block.maximum, block.total, block.squares, block.zeros, block.sample)
    rows, channels = found.leaders.candidates(block.maximum)
    if not len(rows):
        return
    found.leaders.add(rows, channels, block.maps(rows, channels), first, labels)
    if images is not None:
        new = found.leaders.image >= first
        for image, place in zip(found.leaders.image[new].tolist(), found.leaders.place[new].tolist(), strict=True):
            found.patches[image, place] = found.geometry.cut(images[image - first], place)
        found.forget()
