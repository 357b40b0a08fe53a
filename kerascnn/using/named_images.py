"""The image files that a user names, read batch by batch, and what a network makes of them. Imports no Keras."""

import glob
import hashlib
import io
from pathlib import Path

import numpy as np

from kerascnn.datasets.decoding import SUFFIXES, BrokenImage, read_image
from kerascnn.datasets.folder_tree import look_below
from kerascnn.datasets.resize import resize_batch
from kerascnn.datasets.shard_index import is_packed, pack_at
from kerascnn.errors import DataError, UsageError
from kerascnn.files import check_regular


def image_paths(names, shards=False):
    """The image files that files, folders and glob patterns name, in order.

    Args:
        names: what was typed, one name or several.
        shards: True takes folders of shards, too; their files are (Pack, row) pairs (`kerascnn.datasets.shard_index`).

    Raises:
        UsageError: a name that matches nothing, or a folder without images.
    """
    paths = []
    for name in map(str, [names] if isinstance(names, (str, Path)) else names):
        if shards and is_packed(name):
            pack = pack_at(name)
            files = [(pack, row) for row in range(len(pack.names))]
        elif Path(name).is_dir():
            below = look_below(Path(name), Path(name))
            pipes = [file for file in below.special if file.lower().endswith(SUFFIXES)]  # said to be broken
            files = sorted(Path(name) / file for file in below.images + pipes)
            if not files:
                raise UsageError(f"The folder {name} holds no images. Allowed are {', '.join(SUFFIXES)}.")
        elif Path(name).exists():
            files = [Path(name)]
        else:
            files = [Path(p) for p in sorted(glob.glob(name, recursive=True)) if Path(p).is_file()]
            if not files:
                raise UsageError(
                    f"There is no image {name!r}. Name a file, a folder or a pattern such as 'photos/*.jpg'."
                )
        paths += files
    return paths


def predictions(answer, prepared, labels, images, *, top, size):
    """The most probable classes of images, a row each.

    Args:
        answer: function, uint8 (N, *resize_to, C) -> probabilities (N, num_classes).
        prepared: the Preprocessing that says `resize_to`.
        labels: class names.
        images: paths (files, folders, patterns), or uint8 (N, H, W, C) of any size.
        top: classes to give for each image; at most all of them.
        size: images in memory at a time.
    Returns:
        as of `predictions_of`.
    """
    check_top(top)
    if isinstance(images, np.ndarray):
        if images.ndim != 4 or images.dtype != "uint8" or images.shape[-1] not in (1, 3):
            raise UsageError(
                f"images has shape {images.shape} and dtype {images.dtype}; uint8 (N, H, W, C) is allowed, with "
                "1 or 3 channels."
            )
    else:
        images = image_paths(images, shards=True)
    return predictions_of(answer, prepared, labels, images, top=top, size=size)


def check_top(top):
    """Raise a UsageError if so many classes cannot be asked for."""
    if top < 1:
        raise UsageError(f"top={top} is not allowed: it must be at least 1.")


def predictions_of(answer, prepared, labels, images, *, top, size):
    """The same for what `image_paths` found, or an array.

    Returns:
        (rows, broken): (image, rank from 1, index, probability, label); (name, reason) of files that cannot be read.
    """
    rows, broken = [], []
    for first in range(0, len(images), size):
        part = images[first : first + size]
        if isinstance(images, np.ndarray):
            pixels = resize_batch(part, prepared.resize_to, prepared.channels)
            names = range(first, first + len(pixels))
        else:
            names, pixels = _read(part, prepared, broken)
        if not len(pixels):
            continue
        probabilities = answer(pixels)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
        rows += [
            (name, rank + 1, int(i), float(p[i]), labels[i])
            for name, p, best in zip(names, probabilities, order, strict=True)
            for rank, i in enumerate(best)
        ]
    return rows, broken


def digest(paths):
    """A checksum of the names of all files, (Pack, row) pairs among them, and of the bytes of up to 64."""
    checksum = hashlib.sha256()
    for path in paths:
        checksum.update(_name(path).encode("utf-8", "surrogateescape") + b"\0")
    for number in np.unique(np.linspace(0, len(paths) - 1, min(64, len(paths))).astype(int)).tolist():
        path = paths[number]
        checksum.update(path[0].content(path[1]) if isinstance(path, tuple) else _bytes(path))
    return checksum.hexdigest()


def _bytes(path):
    try:
        check_regular(path)
        return path.read_bytes()
    except (OSError, DataError):  # it will be said to be broken
        return b""


def _name(path):
    return str(Path(path[0].root) / path[0].names[path[1]]) if isinstance(path, tuple) else str(path)


def _read(paths, prepared, broken):
    """(names, uint8 (N, H, W, C)) of the files that can be read; (name, reason) of the others joins `broken`."""
    names, pixels = [], []
    for path in paths:
        file = io.BytesIO(path[0].content(path[1])) if isinstance(path, tuple) else path
        try:
            pixels.append(read_image(file, prepared.resize_to, prepared.channels))
            names.append(_name(path))
        except BrokenImage as error:
            broken.append((_name(path), error.reason))
    return names, np.stack(pixels) if pixels else np.zeros((0, *prepared.resize_to, prepared.channels), "uint8")
