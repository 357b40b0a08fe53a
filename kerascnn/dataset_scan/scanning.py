"""The pass itself: forward through the network block by block, reduced where the activations are, resumable."""

import dataclasses
import hashlib
import json
import math
import time
import zipfile
from pathlib import Path

import keras
import numpy as np
from keras import ops

from kerascnn import __version__, backends
from kerascnn.dataset_scan.geometry import Geometry
from kerascnn.dataset_scan.leaders import NONE, Leaders
from kerascnn.dataset_scan.result import ScanResult
from kerascnn.dataset_scan.sources import open_source
from kerascnn.dataset_scan.statistics import Statistics
from kerascnn.errors import UsageError
from kerascnn.explain.plans.plan import make_plan, read_constants
from kerascnn.explain.subjects import check_images, opaque_step
from kerascnn.explain.targets import convolutions, find_layer
from kerascnn.explain.walk import Task, check_finite, needed_steps, walk
from kerascnn.runs import replacing


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
    if k < 1 or per_image < 1 or batch_size < 1 or (samples is not None and samples < 1):
        raise UsageError(
            f"k={k}, per_image={per_image}, batch_size={batch_size}, samples={samples}: each must be at least 1."
        )
    source, names = open_source(data, labels, split)
    if source.again and k > len(source) * per_image:
        raise UsageError(
            f"k={k} is larger than the data: {len(source)} images give at most {len(source) * per_image}. "
            f"Type k={len(source) * per_image} or less."
        )
    names = tuple(class_names or names or ())
    plan = make_plan(model, opaque_step)
    if len(plan.inputs) != 1:
        raise UsageError(f"Model {model.name!r} has {len(plan.inputs)} inputs; scans take networks with one image input.")
    chosen = [_checked(plan, name) for name in _names(plan, layers)]
    reader = _Reader(model, plan, preprocessing, batch_size)
    passing = _Pass(plan, chosen, reader, samples)
    manifest = {
        "kerascnn": __version__,
        "model": model.name,
        "weights": _checksum(passing.constants),
        "layers": [path for path, _ in chosen],
        "k": k,
        "per_image": per_image,
        "samples": samples,
        "batch_size": batch_size,
        "input_shape": [None if n is None else int(n) for n in plan.shapes[plan.inputs[0]][1:]],
        "class_names": list(names),
        "count": len(source),
    }
    part = None if out is None else Path(out).with_name(Path(out).name + ".part")
    state = _State.read(part, manifest) if part else None
    saved = time.monotonic()
    done = 0 if state is None else state.done
    for images, block_labels in source.blocks(batch_size, done):
        _check_labels(block_labels, names)
        x = reader(images)
        if state is None:
            shapes, centres = passing.begin(x)
            rows = len(names) or int(block_labels.max(initial=0)) + 1
            geometry = Geometry.of(model, [path for path, _ in chosen], x.shape[1:])
            state = _State.new(manifest, shapes, centres, rows, geometry)
        for path, found in zip(manifest["layers"], passing(x, state, len(images)), strict=True):
            state.add(path, found, block_labels, None if source.again else images)
        state.done += len(images)
        if say:
            say(state.done, len(source))
        if part and time.monotonic() - saved > every:
            state.write(part)
            saved = time.monotonic()
    if state is None:
        raise UsageError("The data holds no images.")
    if k > state.done * per_image:
        raise UsageError(f"k={k} is larger than the data: {state.done} images give at most {state.done * per_image}.")
    result = ScanResult(
        {**manifest, "count": state.done}, state.leaders, state.statistics, state.geometry, state.crops, source
    )
    if out is not None:
        result.save(out)
        part.unlink(missing_ok=True)
    return result
