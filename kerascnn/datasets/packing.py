"""Packs image files into a few large tar files: what `kerascnn data pack` does (`kerascnn.datasets.shard_index`)."""

import io
import json
import tarfile
import zlib
from pathlib import Path

import numpy as np

from kerascnn import runs
from kerascnn.datasets.image_files import ImageFiles
from kerascnn.datasets.loading import read
from kerascnn.datasets.shard_index import COLUMNS, INDEX
from kerascnn.errors import DataError, UsageError, counted, whole


def pack(data, shards, out, *, classes=None):
    """Write the image files of a data set, byte for byte, into a folder of tar files that is read like the data set.

    Args:
        data: the path of a folder of class folders, or of other data that are read from image files.
        shards: how many tar files; each split that the data have gets its share of them, at least one.
        out: the folder, which must not exist. The same data give the same bytes.
        classes: "leaves" as for `kerascnn.datasets.load`.
    Returns:
        (images, bytes): how many, and the sum of their sizes.
    Raises:
        UsageError: more shards than images, fewer than splits, or `out` exists.
        DataError: the data do not come from image files.
    """
    out = Path(out)
    _check_absent(out)
    lock = out.with_name(f".{out.name}.lock")
    try:
        with runs.locked(lock):
            try:
                _check_absent(out)  # another process may just have written it
                return _packed(data, shards, out, classes)
            finally:
                lock.unlink()
    except runs.Busy:
        raise UsageError(f"Another process is packing data into {out}. Wait for it, or name another folder.") from None


def _check_absent(out):
    if out.exists() or out.is_symlink():
        raise UsageError(f"{out} already exists. Name a new folder for the shards, or delete it.")


def _packed(data, shards, out, classes):
    """What `pack` does and returns, once nobody else can write to `out`."""
    source_data, problem = _read(data, classes)
    counts = _shares(source_data, shards)
    head = {
        "name": source_data.name,
        "class_names": list(source_data.class_names),
        "notes": list(source_data.notes),
        "doubts": list(source_data.doubts),
        "classes": classes,
        "problem": problem,
    }
    with runs.replacing(out) as folder:
        folder.mkdir()
        written = [_write_split(folder, name, split, counts[name]) for name, split in source_data.splits.items()]
        columns = {name: np.concatenate([part[name] for _, part in written]) for name in COLUMNS if name != "shard"}
        firsts = np.cumsum([0] + [len(names) for names, _ in written])
        shard = [part["shard"] + first for (_, part), first in zip(written, firsts, strict=False)]
        files = [file for split in source_data.splits.values() for file in split.files]
        names = [name for names, _ in written for name in names]
        head["shards"] = [(name, (folder / name).stat().st_size) for name in names]
        arrays = {
            "head": np.frombuffer(json.dumps(head).encode(), "uint8"),
            "names": np.frombuffer("\0".join(files).encode("utf-8", "surrogateescape"), "uint8"),
            "shard": np.concatenate(shard),
            **columns,
        }
        with (folder / INDEX).open("wb") as file:
            np.savez_compressed(file, **arrays)
    return len(files), int(columns["length"].sum())


def _read(data, classes):
    """(the ImageData, why it cannot be trained on or "") of what can be packed."""
    try:
        source_data, problem = read(data, classes=classes, training=True), ""
    except DataError as error:
        source_data, problem = read(data, classes=classes, training=False), str(error)
    if not all(isinstance(split.images, ImageFiles) for split in source_data.splits.values()):
        raise UsageError(
            f"{data} does not consist of image files, so there is nothing to pack: it is read as one array already."
        )
    return source_data, problem


def _shares(data, shards):
    """{split: number of shards}, in proportion to the images, each at least 1."""
    sizes = {name: len(split) for name, split in data.splits.items()}
    total = sum(sizes.values())
    if whole("shards", shards) > total:
        raise UsageError(
            f"shards={shards} is more than the {counted(total, 'image')}. Give shards={total} or less; files of 100 MB "
            "to 1 GB are usual."
        )
    if shards < len(sizes):
        raise UsageError(
            f"shards={shards} is not allowed: {', '.join(sizes)} get files of their own. Give shards={len(sizes)} or "
            "more."
        )
    counts = dict.fromkeys(sizes, 1)
    for _ in range(shards - len(sizes)):  # to the split with the fullest shards, of those that can be divided
        open_ = [name for name in sizes if counts[name] < sizes[name]]
        fullest = max(open_, key=lambda name: sizes[name] / counts[name])
        counts[fullest] += 1
    return counts


def _write_split(folder, name, split, shards):
    """(names of the shards, {column: array}) of a split, whose shards are written."""
    count, names = len(split), []
    columns = {column: np.zeros(count, "int64") for column in COLUMNS}
    columns["split"][:] = ("train", "validation", "test").index(name)
    columns["label"][:] = split.labels
    for number in range(shards):
        names.append(f"{name}-{number:06d}.tar")
        with tarfile.open(folder / names[-1], "w", format=tarfile.USTAR_FORMAT) as archive:
            for row in range(count * number // shards, count * (number + 1) // shards):
                content, suffix = split.images.content(row), Path(split.files[row]).suffix.lower()
                place = _add(archive, f"{row:09d}{suffix}", content)
                if split.labels[row] >= 0:
                    _add(archive, f"{row:09d}.cls", str(split.labels[row]).encode())
                facts = {"shard": number, "offset": place, "length": len(content), "crc": zlib.crc32(content)}
                for column, value in facts.items():
                    columns[column][row] = value
    return names, columns


def _add(archive, name, content):
    """Append a member; returns where its content begins."""
    member = tarfile.TarInfo(name)  # without owner and time, so that the same files give the same bytes
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
    return archive.offset - -(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
