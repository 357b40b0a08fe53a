"""The image files that a user names, read batch by batch, and what a network makes of them. Imports no Keras."""

import glob
import io
from pathlib import Path

import numpy as np

from kerascnn.datasets.decoding import SUFFIXES, BrokenImage, read_image
from kerascnn.datasets.folder_tree import look_below
from kerascnn.datasets.resize import resize_batch
from kerascnn.datasets.shard_index import is_packed, pack_at
from kerascnn.errors import UsageError


def image_paths(names, shards=False):
    """The image files that files, folders and glob patterns name, in order.

    Args:
        names: what was typed.
        shards: True takes folders of shards, too; their files are (Pack, row) pairs (`kerascnn.datasets.shard_index`).

    Raises:
        UsageError: a name that matches nothing, or a folder without images.
    """
    paths = []
    for name in map(str, names):
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
        (rows, broken): (image, rank from 1, index, probability, label); (name, reason) of files that cannot be read.
    """
    if top < 1:
        raise UsageError(f"top={top} is not allowed: it must be at least 1.")
    if isinstance(images, np.ndarray):
        if images.ndim != 4 or images.dtype != "uint8" or images.shape[-1] not in (1, 3):
            raise UsageError(
                f"images has shape {images.shape} and dtype {images.dtype}; uint8 (N, H, W, C) is allowed, with "
                "1 or 3 channels."
            )
        paths = None
    else:
        paths = image_paths([images] if isinstance(images, (str, Path)) else images, shards=True)
    rows, broken = [], []
    for first in range(0, len(images if paths is None else paths), size):
        part = slice(first, first + size)
        if paths is None:
            pixels = resize_batch(images[part], prepared.resize_to, prepared.channels)
            names = range(first, first + len(pixels))
        else:
            names, pixels = _read(paths[part], prepared, broken)
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


def _read(paths, prepared, broken):
    """(names, uint8 (N, H, W, C)) of the files that can be read; (name, reason) of the others joins `broken`."""
    names, pixels = [], []
    for path in paths:
        file = path
        if isinstance(path, tuple):
            pack, row = path
            path, file = Path(pack.root) / pack.names[row], io.BytesIO(pack.content(row))
        try:
            pixels.append(read_image(file, prepared.resize_to, prepared.channels))
            names.append(str(path))
        except BrokenImage as error:
            broken.append((str(path), error.reason))
    return names, np.stack(pixels) if pixels else np.zeros((0, *prepared.resize_to, prepared.channels), "uint8")
