"""MNIST (LeCun, Cortes, Burges 1998): 28x28 grey digits, 60,000 to train and 10,000 to test, in the original IDX files.

An IDX file is two zero bytes, the type of its numbers (8: uint8), its number of dimensions, each dimension as a
big-endian uint32, then the numbers. Fashion-MNIST, KMNIST and others that come in files of the same four names are read
as well; their classes are called 0 to 9, too, or up to their largest label (EMNIST).
"""

import gzip
import os
import re
import struct
import zlib

import numpy as np

from kerascnn.datasets import register
from kerascnn.datasets.downloads import fetch
from kerascnn.datasets.image_data import ImageData, Split
from kerascnn.datasets.npz import number_labels
from kerascnn.errors import DataError, UsageError
from kerascnn.files import check_inflated, check_regular

PARTS = {"train": "train", "test": "t10k"}
MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
FILES = {  # md5 of the original files, as torchvision and many others have them
    "train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
}


def recognises(path):
    """ "mnist" for a folder with MNIST's files, or the folder above torchvision's MNIST/raw."""
    return "mnist" if path.is_dir() and _folder(path) else None


@register(description="handwritten digits, 12 MB to download", image_shape=(28, 28, 1), num_classes=10)
def mnist(path=None, *, classes=None):
    """MNIST: 70,000 handwritten digits, 28x28 pixels, grey.

    Args:
        classes: "present" makes classes only of the labels that occur, such as EMNIST's 1 to 26.
    """
    if classes not in (None, "present"):
        raise UsageError(f"classes={classes!r} is not allowed for IDX files. Allowed: present.")
    if path is None:
        folder = fetch("mnist", {f: (md5, tuple(m + f for m in MIRRORS)) for f, md5 in FILES.items()})
    else:
        folder = _folder(path)
    splits, doubts = {}, ()
    for split, prefix in PARTS.items():
        images = read_idx(_find(folder, f"{prefix}-images"), 3)
        labels = read_idx(_find(folder, f"{prefix}-labels"), 1)
        if len(images) != len(labels):
            raise DataError(f"{folder}: {len(images):,} {prefix} images but {len(labels):,} {prefix} labels.")
        splits[split] = Split(images[..., None], labels.astype(np.int64))
    class_names = tuple("0123456789")
    labels = {split: part.labels for split, part in splits.items()}
    if classes or labels["train"].max(initial=0) > 9:
        labels, class_names, doubts = number_labels(labels, None, folder, classes, training=True)
        splits = {split: Split(part.images, labels[split]) for split, part in splits.items()}
    return ImageData(
        name="mnist" if path is None else re.sub(r"[^\w.-]+", "-", path.resolve().name) or "mnist",
        source=str(folder),
        class_names=class_names,
        doubts=doubts,
        **splits,
    )


def read_idx(file, dimensions):
    """The uint8 array of an IDX file with that many dimensions, plain or gzipped (told by its first bytes)."""
    check_regular(file)
    with open(file, "rb") as raw:
        gzipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        content, fault = _read_up_to(gzip.GzipFile(fileobj=raw) if gzipped else raw, 4 + 4 * dimensions)
        magic = bytes((0, 0, 8, dimensions))
        if content[:4] != magic:
            raise DataError(
                f"{file} is not an IDX file of {dimensions} dimensions: it should begin with the bytes "
                f"{magic.hex(' ')}, and begins with {content[:4].hex(' ') or 'nothing'}{fault}."
            )
        shape = struct.unpack(f">{dimensions}I", content[4:]) if len(content) == 4 + 4 * dimensions else ()
        expected = 4 + 4 * dimensions + int(np.prod(shape, dtype=object)) if shape else 4 + 4 * dimensions
        size = os.path.getsize(file)
        check_inflated(file, size, expected if gzipped else min(size, expected))
        raw.seek(0)
        content, fault = _read_up_to(gzip.GzipFile(fileobj=raw) if gzipped else raw, expected + 1)
    if not shape or len(content) != expected:
        length = f"{len(content):,}" if len(content) <= expected else f"more than {expected:,}"
        raise DataError(
            f"{file} is broken: its header promises {expected:,} bytes{' (unzipped)' if gzipped else ''}, but {length} "
            f"were found{fault}. Fetch it again."
        )
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def _read_up_to(file, count, piece=1 << 20):
    """(at most `count` bytes, what went wrong before them): what a broken gzip file still gives."""
    content = bytearray()
    try:
        while len(content) < count and (more := file.read(min(piece, count - len(content)))):
            content += more
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        return bytes(content), f" ({str(error).rstrip('.')})"
    return bytes(content), ""


def _folder(path):
    """The folder at or below `path` that has the training images."""
    for folder in (path, path / "raw", path / "MNIST" / "raw"):
        if folder.is_dir() and _candidates(folder, "train-images"):
            return folder
    return None


def _candidates(folder, start):
    """Files like train-images-idx3-ubyte, train-images.idx3-ubyte or either with .gz; plain before gzipped."""
    pattern = re.compile(rf"{start}[-.]idx\d-ubyte(\.gz)?$")
    return sorted((p for p in folder.iterdir() if pattern.match(p.name)), key=lambda p: len(p.name))


def _find(folder, start):
    files = _candidates(folder, start)
    if not files:
        raise DataError(f"{folder} has no file {start}-idx{3 if 'images' in start else 1}-ubyte or the same with .gz.")
    return files[0]
