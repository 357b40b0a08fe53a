"""Merges the shards of a scan."""

import os

from kerascnn.dataset_scan.record import Record
from kerascnn.dataset_scan.result import ScanResult, load
from kerascnn.errors import DataError, UsageError
from kerascnn.shards import check_one_job, in_order

OF_SHARDS = ("shard", "computed_with", "patches")  # entries of a shard's manifest that a whole scan lacks
DIFFERENT = {  # what messages call the entries of a manifest
    "kerascnn": "the version of kerascnn",
    "model": "the network",
    "computed_with": "the versions of Keras and its backend",
    "patches": "whether patches were kept",
    "weights": "the network's weights",
    "class_names": "the names of the classes",
    "images": "the number of images",
    "data": "the images or their labels",
    "k": "top",
    "layers": "the layers",
    "outputs": "the layers",
    "order": "the layers",
}


def merge(shards, *, out=None, patches=True):
    """The ScanResult of all shards of a scan: the same numbers, bit for bit, as from one scan over everything.

    Args:
        shards: files that `scan(..., shard=(i, n), out=path)` wrote, or ScanResults of shards, in any order; or the
            only one.
        out: NPZ file for the result; its bytes are those of the file that one scan writes.
        patches: False leaves the pixels of the patches out of `out`.
    Raises:
        UsageError: a shard is missing or given twice, is not a shard, or belongs to another scan, of other images or
            another network (the message says what differs); or `out` exists.
        DataError: a file is torn, or not of a scan.
    """
    if out is not None and os.path.exists(out):
        raise UsageError(f"{out} already exists. Name another file, or delete it.")
    shards = [shards] if isinstance(shards, (str, os.PathLike, ScanResult)) else list(shards)
    if not shards:
        raise UsageError("No shard was named.")
    manifests = []
    for number, shard in enumerate(shards, 1):
        given = isinstance(shard, ScanResult)
        name = f"Shard number {number} of the list" if given else os.fspath(shard)
        manifests.append((name, shard.manifest if given else Record.read_manifest(shard)))
    check_one_job(manifests, "scan", DIFFERENT)
    ordered = [shards[place] for place in in_order([(name, m["shard"]) for name, m in manifests])]
    result = _merged(ordered, manifests[0][1])
    if out is not None:
        result.save(out, patches=patches)
    return result


def _merged(shards, manifest):
    """The ScanResult of shards in order; files are in memory one at a time."""
    manifest, layers = {entry: value for entry, value in manifest.items() if entry not in OF_SHARDS}, {}
    for shard in shards:
        record = (shard if isinstance(shard, ScanResult) else load(shard))._record
        if not layers:
            layers = {name: layer.copy() for name, layer in record.layers.items()}
            continue
        for name, layer in record.layers.items():
            if (layer.statistics.centre != layers[name].statistics.centre).any():
                raise DataError(
                    f"The shards were computed on machines that round the activations of {name} differently, so that "
                    "their sums cannot be combined. Compute all of them on processors of one kind, with the same "
                    "versions of Keras and its backend."
                )
            layers[name].extend(layer)
    whole = Record(manifest, manifest["images"], layers)
    whole.finish()
    return ScanResult(whole)
