"""Both passes over the images in shards: what one job of an array finds, as a file, and the state of a site from all.

A build into that site draws its pages without another pass.
"""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np

from kerascnn import backends, dataset_scan
from kerascnn.errors import UsageError
from kerascnn.files import read_arrays
from kerascnn.pages.microscope.build import described, told_apart
from kerascnn.pages.microscope.collect import passed, sample_of, scanned, text_array, write_arrays
from kerascnn.pages.microscope.layers import all_layers, matching
from kerascnn.pages.microscope.site import DATA, MANIFEST, STATE, Site
from kerascnn.pages.microscope.subject import opened
from kerascnn.runs import replacing
from kerascnn.shards import check_one_job, in_order, shard_range

DIFFERENT = {  # what messages call the entries of a manifest
    "kerascnn": "the version of kerascnn",
    "computed_with": "the versions of Keras and its backend",
    "model": "the network",
    "weights": "the network's weights",
    "layers": "the layers",
    "data": "the data",
    "images": "the number of images",
    "told_apart": "the images or their labels",
}


def write_shard(model, data, shard, out, *, layers="all", batch_size=32, say=None, **given):
    """Take both passes over one part of the images, and write what they find to an NPZ file.

    A call that is killed leaves a folder `out`.part, from which the same call continues.

    Args:
        model, data, layers, batch_size, say: as for `kerascnn.microscope`.
        shard: (i, n).
        out: the file.
        given: labels, split, class_names, preprocessing, images: likewise.
    """
    say, out = say or (lambda line: None), Path(out)
    subject = opened(model, data, **given)
    everything, addresses = all_layers(subject.model), {each.address for each in matching(subject.model, layers)}
    chosen = [each for each in everything if each.address in addresses]
    part = shard_range(shard, len(subject), batch_size)
    manifest = {
        "kind": "microscope",
        **described(subject, chosen),
        "told_apart": told_apart(subject),
        "batch_size": batch_size,
        "computed_with": backends.computed_with(),
        "shard": list(shard),
    }
    state = Path(f"{out}.part")
    asked, text = state / "manifest.json", json.dumps(manifest)
    if state.exists() and (not asked.exists() or asked.read_text() != text):
        shutil.rmtree(state)
    with replacing(asked) as temporary:
        temporary.write_text(text)
    scanned(subject, chosen, state, batch_size, say, shard)
    activity = passed(subject, chosen, sample_of(subject), state, batch_size, say, part)
    scan = np.frombuffer((state / "scan.npz").read_bytes(), "uint8")
    write_arrays(out, {"manifest": text_array(text, raw=True), "scan": scan, **activity})
    shutil.rmtree(state)


def merge_shards(shards, out):
    """Make the state of a site in a new folder from the files of all shards; returns the site's manifest.

    Args:
        shards: names of the files, in any order.
        out: the folder.
    Raises:
        UsageError: a shard is missing or given twice, or belongs to another job; the message says what differs.
    """
    manifests = [(path, json.loads(read_arrays(path, ["manifest"])["manifest"].tobytes())) for path in shards]
    check_one_job(manifests, "job", DIFFERENT)
    ordered = [shards[place] for place in in_order([(path, manifest["shard"]) for path, manifest in manifests])]
    manifest, site, activity = manifests[0][1], Site(out), {}
    if site.open({}):
        raise UsageError(f"{out} is a microscope already. Name a new folder.")
    with tempfile.TemporaryDirectory() as folder:
        scans = []
        for number, path in enumerate(ordered):
            arrays = read_arrays(path)
            scans.append(Path(folder) / f"{number}.npz")
            scans[-1].write_bytes(arrays.pop("scan").tobytes())
            del arrays["manifest"]
            for name, array in arrays.items():
                activity.setdefault(name, []).append(array)
        dataset_scan.merge(scans, out=site.state / "scan.npz", patches=False)
    activity = {name: np.concatenate(parts) for name, parts in activity.items()}
    write_arrays(site.state / "activity.npz", {**activity, "layers": text_array(sorted(manifest["layers"]))})
    site.put_json(f"{STATE}/{DATA}", manifest.pop("told_apart"))
    for entry in ("kind", "batch_size", "computed_with", "shard"):
        del manifest[entry]
    site.put_json(MANIFEST, manifest)
    return manifest
