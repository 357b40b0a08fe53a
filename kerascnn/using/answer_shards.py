"""What one job of an array predicts or evaluates, as a file, and all of these files as one result.

Each job computes whole batches of the images, so that merging gives what one job would have computed, bit for bit.
Imports no Keras, so that exported files are served without it.
"""

import hashlib
import json
from importlib import metadata
from pathlib import Path

import numpy as np

from kerascnn import __version__, runs
from kerascnn.files import read_arrays
from kerascnn.shards import check_one_job, in_order, shard_range
from kerascnn.using import exported
from kerascnn.using.formats import packages
from kerascnn.using.named_images import check_top, digest, image_paths, predictions_of

DIFFERENT = {  # what messages call the entries of a manifest
    "kerascnn": "the version of kerascnn",
    "computed_with": "the versions of Keras and its backend, or of what runs an exported file",
    "network": "the network",
    "preprocessing": "the preprocessing",
    "labels": "the names of the classes",
    "views": "the views of each image",
    "images": "the number of images",
    "data": "the images or their labels",
}


def predict_shard(run, images, shard, out, *, top=5):
    """Predict the classes of one part of image files, and write them to an NPZ file.

    Args:
        run, images, top: as for `kerascnn.predict`; files only.
        shard: (i, n).
        out: the file.
    Returns:
        (name, reason) of the files that cannot be read; the file lists them, too.
    """
    check_top(top)
    answer, prepared, labels, size, told = _opened(run)
    paths = image_paths(images, shards=True)
    first, stop = shard_range(shard, len(paths), size)
    rows, broken = predictions_of(answer, prepared, labels, paths[first:stop], top=top, size=size)
    manifest = _manifest("predictions", shard, labels, len(paths), digest(paths), told)
    manifest |= {"preprocessing": prepared.to_dict(), "top": top}
    image, _, index, probability, _ = zip(*rows, strict=True) if rows else [()] * 5
    columns = {"image": np.array(image, str), "index": np.array(index, int), "probability": np.array(probability)}
    _write(out, {**columns, "broken": np.array(broken, str).reshape(-1, 2)}, manifest)
    return broken


def _opened(run):
    """(function to probabilities, Preprocessing, class names, images at once, what a manifest says of the network)."""
    if exported.is_exported(run):
        path = Path(run).expanduser()
        answer, prepared, labels = exported.opened(path)
        versions = {module: _version(module) for module in packages(exported.format_of(path), run=True)}
        told = {"computed_with": versions, "network": hashlib.sha256(path.read_bytes()).hexdigest()}
        return answer, prepared, labels, exported.AT_ONCE, told
    from kerascnn.training.evaluate import images_at_once
    from kerascnn.using.classifier import subject
    from kerascnn.using.prediction import answering

    classifier = subject(run)
    size = images_at_once(classifier.preprocessing.resize_to)
    return answering(classifier), classifier.preprocessing, classifier.labels, size, _network(classifier.model)


def _version(module):
    names = metadata.packages_distributions().get(module)
    return metadata.version(names[0]) if names else ""


def _network(model):
    """What a manifest says of a keras.Model."""
    from kerascnn import backends
    from kerascnn.dataset_scan.scanning import checksum

    return {"computed_with": backends.computed_with(), "network": checksum(model.weights)}


def evaluate_shard(run, data, shard, out, *, strict=False):
    """Compute a network's answers to one part of the images that it is tested on, and write them to an NPZ file.

    Only the images of the part are decoded, and up to 64 more, which tell data sets apart.

    Args:
        run, data, strict: as for `kerascnn.evaluate`.
        shard: (i, n).
        out: the file.
    Returns:
        how many images the part has.
    """
    from kerascnn.dataset_scan.sources import Arrays
    from kerascnn.training.evaluate import answers, images_at_once
    from kerascnn.using.classifier import subject
    from kerascnn.using.evaluation import to_evaluate

    classifier = subject(run)
    split, views, _ = to_evaluate(classifier, data, strict=strict, some=True)
    first, stop = shard_range(shard, len(split), images_at_once(split.images.shape[1:3]))
    told = hashlib.sha256("\0".join(split.files).encode("utf-8", "surrogateescape"))
    told.update(Arrays(split.images, split.labels).fingerprint(classifier.preprocessing).encode())
    network = _network(classifier.model) | {"views": views}
    manifest = _manifest("evaluation", shard, classifier.labels, len(split), told.hexdigest(), network)
    part = split.take(np.arange(first, stop))
    logs = answers(classifier.model, part, classifier.preprocessing, **views)
    _write(out, {"log_probabilities": logs, "label": part.labels, "files": np.array(part.files, str)}, manifest)
    return len(part)


def _manifest(kind, shard, labels, images, data, more):
    """What all shards of one job have in common, and which one this is."""
    facts = {"kind": kind, "kerascnn": __version__, "labels": list(labels), "images": images, "data": data}
    return {**facts, **more, "shard": list(shard)}


def _write(out, arrays, manifest):
    with runs.replacing(out) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, manifest=np.frombuffer(json.dumps(manifest).encode(), "uint8"), **arrays)


def merged_predictions(shards):
    """(rows, broken) of `named_images.predictions_of`, of all shards.

    Args:
        shards: names of the files, in any order.
    Raises:
        UsageError: a shard is missing or given twice, or belongs to another job; the message says what differs.
    """
    manifest, parts = _read(shards)
    labels, rows, broken = manifest["labels"], [], []
    top = min(manifest["top"], len(labels))
    for arrays in parts:
        columns = (arrays[name].tolist() for name in ("image", "index", "probability"))
        numbered = enumerate(zip(*columns, strict=True))
        rows += [(image, number % top + 1, i, p, labels[i]) for number, (image, i, p) in numbered]
        broken += map(tuple, arrays["broken"].tolist())
    return rows, broken


def merged_evaluation(shards):
    """The Evaluation of all shards, with the numbers of one evaluation of all images; arguments and errors as of
    `merged_predictions`."""
    from kerascnn.training.evaluate import score

    manifest, parts = _read(shards)
    columns = [(arrays["log_probabilities"], arrays["label"], arrays["files"]) for arrays in parts]
    logs, labels, files = (np.concatenate(column) for column in zip(*columns, strict=True))
    return score(logs, labels, tuple(manifest["labels"]), tuple(files.tolist()))


def _read(shards):
    """(the manifest, the arrays of each shard in order, read one after another) of the shards of one job."""
    manifests = [(shard, manifest_of(shard)) for shard in shards]
    check_one_job(manifests, "job", DIFFERENT)
    places = in_order([(name, manifest["shard"]) for name, manifest in manifests])
    return manifests[0][1], (read_arrays(shards[place]) for place in places)


def manifest_of(path):
    """The manifest of a shard; {} of another NPZ file."""
    arrays = read_arrays(path, ["manifest"])
    return json.loads(arrays["manifest"].tobytes()) if arrays else {}
