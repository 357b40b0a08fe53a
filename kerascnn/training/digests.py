"""Digests of all images of a data set, kept beside a run's checkpoints: it resumes only with the data it began with.

A digest is the CRC-32 of an image's pixels where they are in memory (60,000 CIFAR-10 images: about 0.2 s on one core),
else of its file's bytes; where the files have more than 16 GiB together, of each file's size and time of change.
This detects accidental changes, not forgery.
"""

import hashlib
import os
import zlib

import numpy as np

from kerascnn import runs
from kerascnn.datasets.image_files import ImageFiles
from kerascnn.datasets.resize import ResizedImages, for_each
from kerascnn.datasets.shard_index import is_packed, pack_at
from kerascnn.errors import DataError, command, counted
from kerascnn.files import read_arrays

NAME = "checkpoint/data.npz"
COLUMNS = {"images": "pixels", "labels": "labels", "files": "file names"}
MOST_BYTES = 16 << 30  # of files that are read from end to end
PIXELS, SOURCES, BYTES, TIMES = "pixels", "pixels before resizing", "bytes", "times"


def write(run, data):
    """Keep the digests of an ImageData in a run folder."""
    with runs.replacing(run / NAME) as temporary:
        np.savez(temporary, **digests(data))


def digests(data, kinds=None):
    """{array name: array} of an ImageData: for each split its kind of digest, its images' digests and labels, and the
    64-bit digests of its files' names.

    Args:
        kinds: {split: kind} as of other digests, to compare with them; None: what costs least.
    """
    arrays = {}
    for name, split in data.splits.items():
        kind = kinds[name] if kinds else _cheapest(split.images)
        arrays |= {
            f"{name}/kind": np.array(kind),
            f"{name}/images": _digests(split, kind, data.source),
            f"{name}/labels": np.asarray(split.labels, "int32"),
            f"{name}/files": np.array([_name_digest(file) for file in split.files], "uint64"),
        }
    return arrays


def summary(data):
    """{what, in words: its short digest} of an ImageData, which must be the same on all hosts; only of names and labels
    where files are identified by size and time alone, in which copies differ."""
    told = {}
    for name, array in digests(data).items():
        split, _, column = name.partition("/")
        if column == "images" and _cheapest(data.splits[split].images) == TIMES:
            continue
        told[f"the number of {split} images"] = len(data.splits[split])
        if column != "kind":
            content = hashlib.blake2b(array.tobytes(), digest_size=4).hexdigest()
            told[f"the digest of the {COLUMNS[column]} of the {split} images"] = content
    return told


def changes(run, data, *, times=True):
    """What differs between an ImageData and the images that a run began with, in words; [] where nothing does.

    A run of an older version, which kept no digests, is left to the `fingerprint`; so is one whose images were digested
    in a way that cannot be repeated here, as before they were resized, where they now come into memory at their size.

    Args:
        times: False leaves data to the fingerprint of which only sizes and times of files are known: a copy's differ.
    """
    if not (run / NAME).exists():
        return []
    had = read_arrays(run / NAME)
    kinds = {name: had[f"{name}/kind"].item() for name in _splits(had)}
    if not times and TIMES in kinds.values():
        return []
    if list(kinds) != list(data.splits):
        return [f"its splits were {', '.join(kinds)}, now {', '.join(data.splits)}"]
    on_demand = [name for name, split in data.splits.items() if isinstance(split.images, ResizedImages)]
    if any(kind == SOURCES and name not in on_demand for name, kind in kinds.items()):
        return []
    try:
        now = digests(data, kinds)
    except FileNotFoundError:  # the files of images that came into memory some other way
        return []
    return _changes(had, now, data)


def check_same_images(run, data):
    """Raise a DataError that says what changed, if the images of an ImageData are not those that a run began with."""
    changed = changes(run, data)
    if changed:
        raise DataError(
            f"The data at {data.source} is not what the run {run.folder} was trained on, so it cannot resume exactly. "
            f"What changed: {'; '.join(changed)}. Bring the old data back, or start a new run, from its "
            f"weights if they serve: {command('train', data.source, '--from', run.folder)}"
        )


def _cheapest(images):
    if isinstance(images, ImageFiles):
        return BYTES if images.num_bytes() <= MOST_BYTES else TIMES
    return SOURCES if isinstance(images, ResizedImages) else PIXELS


def _digests(split, kind, source):
    """uint32 (N,): the digest of each image of a split."""
    digests = np.zeros(len(split), "uint32")
    images = split.images
    if kind in (BYTES, TIMES):
        root = images.root if isinstance(images, ImageFiles) else source
        if is_packed(root):
            return _packed_digests(pack_at(root), split.files, kind)

        def work(row):
            digests[row] = _file_digest(os.path.join(root, split.files[row]), kind)

        for_each(work, len(split), 64 * 64)
        return digests
    if kind == SOURCES:
        images, rows = images.images, images.index
    else:
        rows = np.arange(len(split))
    for start in range(0, len(rows), 256):
        block = np.ascontiguousarray(images[rows[start : start + 256]])
        digests[start : start + 256] = [zlib.crc32(image) for image in block]
    return digests


def _packed_digests(pack, files, kind):
    """The digests of files in shards, whose CRC-32 is in their index; it also serves in place of their times."""
    rows = [pack.rows[file] for file in files]
    if kind == BYTES:
        return pack.crc[rows].astype("uint32")
    sizes = (f"{pack.length[row]} {pack.crc[row]}" for row in rows)
    return np.array([zlib.crc32(size.encode()) for size in sizes], "uint32")


def _file_digest(path, kind):
    if kind == TIMES:
        state = os.stat(path)
        return zlib.crc32(f"{state.st_size} {state.st_mtime_ns}".encode())
    digest = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest = zlib.crc32(block, digest)
    return digest


def _name_digest(file):
    return int.from_bytes(hashlib.blake2b(os.fsencode(file), digest_size=8).digest(), "little")


def _splits(arrays):
    return [name.partition("/")[0] for name in arrays if name.endswith("/kind")]


def _changes(had, now, data):
    """What differs between two digests, in words; an empty list where nothing does."""
    if all(np.array_equal(had.get(name), array) for name, array in now.items()):
        return []
    files = {name: split.files for name, split in data.splits.items()}
    named = all(len(a[f"{name}/files"]) == len(a[f"{name}/images"]) for a in (had, now) for name in files)
    return _file_changes(had, now, files) if named else _row_changes(had, now, files)


def _file_changes(had, now, files):
    """What differs where every image has a file of its own: the file's name tells which it is."""

    def by_file(arrays):
        columns = ("files", "images", "labels")
        return {
            int(file): (digest, label, split)
            for split in files
            for file, digest, label in zip(*(arrays[f"{split}/{column}"] for column in columns), strict=True)
        }

    old, new = by_file(had), by_file(now)
    kinds = ("with other pixels", "with another class", "in another split")
    changed = {kind: [] for kind in ("new", *kinds)}
    for file in (file for split in files.values() for file in split):
        digest = _name_digest(file)
        if digest not in old:
            changed["new"].append(file)
            continue
        for kind, before, after in zip(kinds, old[digest], new[digest], strict=True):
            if before != after:
                changed[kind].append(file)
    gone = len(old.keys() - new.keys())
    if gone or changed["new"]:  # which may move the others into other splits
        changed = {kind: changed[kind] for kind in ("new", "with other pixels")}
    told = [f"{counted(len(names), 'file')} {kind}, the first {names[0]}" for kind, names in changed.items() if names]
    return told + ([f"{counted(gone, 'file')} gone"] if gone else []) or ["the order of its files"]


def _row_changes(had, now, splits):
    """What differs where images are told by their places."""
    told = []
    for split in splits:
        before, after = (len(arrays[f"{split}/images"]) for arrays in (had, now))
        if before != after:
            told.append(f"{after:,} {split} images, there were {before:,}")
            continue
        for column, what in (("labels", "labels"), ("images", "pixels")):
            differ = had[f"{split}/{column}"] != now[f"{split}/{column}"]
            if differ.any():
                first = int(differ.argmax()) + 1
                told.append(f"the {what} of {differ.sum():,} of {after:,} {split} images, the first number {first:,}")
    return told or ["the names of its files"]
