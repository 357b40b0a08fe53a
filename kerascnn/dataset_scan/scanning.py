"""The pass itself: block by block, resumable."""

import hashlib
import time
from pathlib import Path

import keras
import numpy as np
from keras import ops

from kerascnn import __version__, backends
from kerascnn.dataset_scan.blocks import BlockPass
from kerascnn.dataset_scan.geometry import Geometry
from kerascnn.dataset_scan.leaders import Leaders
from kerascnn.dataset_scan.record import LayerRecord, Record
from kerascnn.dataset_scan.result import ScanResult, load
from kerascnn.dataset_scan.scanned_layers import scanned_layers
from kerascnn.dataset_scan.sources import open_source
from kerascnn.dataset_scan.statistics import Statistics
from kerascnn.errors import DataError, UsageError, counted, whole
from kerascnn.explain.subjects import check_images, opaque_step
from kerascnn.explain.walk import check_finite
from kerascnn.network.graph import has_graph, why_no_graph
from kerascnn.network.plan import make_plan
from kerascnn.shards import check_shard, shard_range


def scan(
    model,
    data,
    layers=None,
    top=9,
    *,
    labels=None,
    split="train",
    class_names=None,
    preprocessing=None,
    per_image=1,
    batch_size=128,
    samples=4,
    out=None,
    patches=True,
    every=30.0,
    shard=None,
    say=None,
):
    """One pass over a data set: the largest activations and the statistics of every channel of chosen layers.

    Args:
        model: any built Functional or Sequential keras.Model with one image input; its weights stay as they are. Of a
            subclassed model, whose layers Keras does not know, the answers are scanned: one layer of the model's name.
        data: images float (N, H, W, C) as the model takes them; an ImageData or a Split; a tf.data.Dataset or a
            keras.utils.PyDataset of (images, labels) or of images, in the same order each time.
        layers: a layer's name or a list: what these layers put out. None: every convolution, as the next layer sees it:
            after its normalisation and activation, which the result's names say, such as "conv1 (after relu)"; such a
            name can be given too. "conv5" on a network without one is its deepest. The result has them in the network's
            order.
        top: activations kept for each channel; fewer in a layer whose maps, such as units, have too few places.
        labels: int (N,), the classes of an array's images.
        split: which split of an ImageData.
        class_names: what the labels are called; an ImageData brings its own.
        preprocessing: function applied to each block of images before the model, as a run's `Preprocessing`.
        per_image: how many places of one image may be among these.
        batch_size: images computed at once. Results do not depend on it beyond the backend's own rounding.
        samples: places of each image, of those its map has, that count in quantiles and histograms; None: all.
        out: NPZ file for the result; other layers in it, of the same network, data and settings, stay. While the pass
            runs its state lies in `out`.part, so that the same call after a kill continues from there and ends with the
            same numbers.
        patches: False leaves the pixels of the patches out of `out`, and out of a shard; they are most of the file.
        every: seconds between two states.
        shard: (i, n), such as (3, 16): scan only the i-th of n parts of the images, numbered from 1; `kerascnn.merge`
            combines all n into one scan. Each reads its own images, once, and at most 64 that tell data sets apart.
            With `batch_size` images in each block, there can be as many shards as blocks.
        say: called with (images done, images in all or 0) after each block.
    Returns:
        ScanResult.
    Raises:
        UsageError: unknown layer, a layer without channels, top larger than what any layer has, no images, images that
            the model does not take, NaN among the weights.
    """
    top, per_image = whole("top", top), whole("per_image", per_image)
    batch_size = whole("batch_size", batch_size)
    samples = None if samples is None else whole("samples", samples)
    given = data, labels, split, class_names, preprocessing
    model, layers, plan, source, names = _opened(model, layers, *given, top, per_image)
    pixels = getattr(preprocessing, "crop", lambda images: images)
    prepared = (lambda images: images) if preprocessing is None else preprocessing
    chosen = scanned_layers(model, layers)
    passing = BlockPass(plan, tuple(each.value for each in chosen), batch_size, samples)
    check_finite(plan, passing.weights())  # a ReLU may hide NaN
    settings = {"k": top, "per_image": per_image, "samples": samples, "batch_size": batch_size}
    manifest = _described(model, chosen) | settings | _of_data(names, source, preprocessing)
    start, stop = _share(shard, source, batch_size, patches, manifest)
    # A shard keeps its patches as its images pass by
    cut = patches if shard is not None else not source.again
    part = Path(f"{out}.part") if out is not None else None
    record, saved = _begun(part, manifest), time.monotonic()
    for images, block_labels in source.blocks(batch_size, record.done if record else start, stop):
        _check_labels(block_labels, names)
        x = _input(model, plan, prepared(images))
        _check_size(pixels(images[:1]), x)
        if passing.shapes is None:
            passing.begin(_input(model, plan, prepared(source.take([0]))) if start else x[:1])
            record = record or _new(model, manifest, passing, len(names), x.shape[1:], start)
            passing.centres = [layer.statistics.centre.astype("float32") for layer in record.layers.values()]
            if source.again:
                _check_places(record, top, len(source), per_image)
        _step(record, plan, passing, x, block_labels, pixels(images) if cut else None)
        if say:
            say(record.done - start, len(source) if stop is None else stop - start)
        if part and time.monotonic() - saved >= every:
            record.write(part)
            saved = time.monotonic()
    if record is None:
        raise UsageError("The data holds no images.")
    if shard is None:
        _check_places(record, top, record.done, per_image)
        record.finish()
    result = ScanResult(record, (lambda index: pixels(source.take(index))) if source.again and shard is None else None)
    if out is not None:
        _joined(result, out).save(out, patches=patches)
        part.unlink(missing_ok=True)
    return result


def _share(shard, source, batch_size, patches, manifest):
    """(first, stop) of the images that are scanned, (0, None) for all; a shard is entered into the manifest, with what
    all shards must agree in (`merging.OF_SHARDS`)."""
    if shard is None:
        return 0, None
    if not source.again:
        raise UsageError(
            f"shard={shard!r} needs data of which any image can be read: an array, an ImageData or a Split, not a "
            "stream of batches."
        )
    manifest |= {"shard": list(check_shard(shard)), "computed_with": backends.computed_with(), "patches": patches}
    return shard_range(shard, len(source), batch_size)


def _opened(model, layers, data, labels, split, class_names, preprocessing, top, per_image):
    """(model, layers, plan, source of images, names of classes) of what `scan` is given."""
    if not has_graph(model) and not isinstance(model, keras.Sequential):
        source, _ = open_source(data, labels, split, 4)
        model, layers = _answering(model, source, preprocessing), layers or model.name
    plan = make_plan(model, opaque_step)
    if len(plan.inputs) != 1:
        raise UsageError(f"Model {model.name!r} has {len(plan.inputs)} inputs; a scan takes a network with one.")
    source, names = open_source(data, labels, split, len(plan.shapes[plan.inputs[0]]))
    if source.again:
        _check_top(top, len(source), per_image)
    if labels is not None and class_names is None:
        names = map(str, range(int(np.max(labels)) + 1))
    names = tuple(map(str, names or () if class_names is None else class_names))
    return model, layers, plan, source, names


def _answering(model, source, preprocessing):
    """A functional model whose one layer is a subclassed model: its answers to images as the first one."""
    if not model.built:
        raise UsageError(why_no_graph(model))
    for images, _ in source.blocks(1):
        image = images if preprocessing is None else preprocessing(images)
        inputs = keras.Input(np.shape(image)[1:])
        answers = model(inputs)
        if not isinstance(answers, keras.KerasTensor) or len(answers.shape) not in (2, 4):
            raise UsageError(why_no_graph(model, np.shape(image)[1:]))
        return keras.Model(inputs, answers, name=model.name)
    raise UsageError("The data holds no images.")


def _described(model, chosen):
    """What a manifest says of the network and its layers."""
    return {
        "kerascnn": __version__,
        "model": model.name,
        "weights": checksum(model.weights),
        "layers": [each.name for each in chosen],
        "outputs": {each.name: each.output for each in chosen},
        "order": {each.name: each.value for each in chosen},
    }


def _joined(result, out):
    """A ScanResult with the layers of an earlier one in the file `out`, where that is of the same scan."""
    try:
        return result.merged(load(out))
    except (DataError, UsageError):  # no file, or another scan's
        return result


def _check_top(top, count, per_image):
    if not count:
        raise UsageError("The data holds no images.")
    if top > count * per_image:
        each = f", up to per_image={per_image} places of each" if per_image > 1 else ""
        raise UsageError(
            f"top={top} is larger than the data: it has {counted(count, 'image')}{each}. "
            f"Type top={count * per_image} or less."
        )


def _check_places(record, top, count, per_image):
    """Raise a UsageError where no layer's maps have as many places as leaders are asked for."""
    each = min(per_image, max(layer.geometry.rows * layer.geometry.cols for layer in record.layers.values()))
    if top > count * each:
        have = f"{counted(count, 'image')} with at most {counted(each, 'place')} each"
        names = ", ".join(record.layers)
        raise UsageError(
            f"top={top} is larger than the data: {have}, in the maps of {names}. Type top={count * each} or less."
        )


def _input(model, plan, images):
    return check_images(model, plan, images)[0].astype("float32", copy=False)


def _check_labels(labels, names):
    if names and labels.min() < 0:
        raise UsageError(f"A label is {labels.min()}, as of images without labels: give labels= for all, from 0 up.")
    if names and labels.max() >= len(names):
        raise UsageError(f"A label is {labels.max()}, but there are {len(names)} class names.")


def _of_data(names, source, preprocessing):
    """What a manifest says of the data."""
    return {"class_names": list(names), "images": len(source), "data": source.fingerprint(preprocessing)}


def _check_size(images, x):
    """Patches are cut from the images as they were before the preprocessing, at the places that the model sees."""
    if images.shape[1:3] != x.shape[1:3]:
        raise UsageError(
            f"preprocessing= makes images of {x.shape[1]}x{x.shape[2]} pixels from {images.shape[1]}x"
            f"{images.shape[2]}, so that patches cannot be cut from these. Resize them before the scan."
        )


def checksum(weights):
    """A checksum of weights, in their order."""
    digest = hashlib.sha256()
    for weight in weights:
        digest.update(np.ascontiguousarray(ops.convert_to_numpy(weight)).tobytes())
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


def _new(model, manifest, passing, num_classes, image_shape, start):
    """An empty Record, of a pass from image number `start` on."""
    layers = {}
    for name, shape, centre in zip(manifest["layers"], passing.shapes, passing.centres, strict=True):
        layers[name] = LayerRecord(
            Geometry.of(model, manifest["outputs"][name], image_shape, shape),
            Leaders(shape[-1], manifest["k"], manifest["per_image"]),
            Statistics(int(np.prod(shape[:-1])), centre, num_classes),
            {},
        )
    return Record(manifest, start, layers)


def _step(record, plan, passing, x, labels, images):
    """Enters a block of images x into a Record; `images`: its pixels, where they have to be kept."""
    blocks = passing(x, record.done)
    check_finite(plan, [block.maximum for block in blocks] + [block.total for block in blocks])
    for layer, block in zip(record.layers.values(), blocks, strict=True):
        _enter(layer, block, record.done // passing.size, record.done, labels, images)
    record.done += len(x)


def _enter(layer, block, number, first, labels, images):
    """Enters one layer's part of a block; `images` where patches have to be kept because the data passes by once."""
    layer.statistics.add(number, labels, block.maximum, block.total, block.squares, block.zeros, block.sample)
    rows, channels = layer.leaders.candidates(block.maximum)
    if not len(rows):
        return
    layer.leaders.add(rows, channels, block.maps(rows, channels), first, labels)
    if images is not None:
        new = layer.leaders.image >= first
        for image, place in zip(layer.leaders.image[new].tolist(), layer.leaders.place[new].tolist(), strict=True):
            layer.patches[image, place] = layer.geometry.cut(images[image - first], place)
        layer.forget()
