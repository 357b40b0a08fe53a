"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 32x32 colour images, 50,000 to train and 10,000 to test.

Read as they are published: the folder of Python batches or of binary batches, or the .tar.gz of either, which is read
without unpacking it. Python batches are pickles, and a pickle can run any program; `read_pickle` lets one name nothing
but what NumPy arrays are made of. CIFAR-100 has its fine labels here.
"""

import contextlib
import gzip
import io
import os
import pickle
import tarfile
import zlib
from pathlib import Path

import numpy as np

from kerascnn.datasets import register
from kerascnn.datasets.downloads import cache_folder, fetch
from kerascnn.datasets.image_data import ImageData, Split
from kerascnn.errors import DataError

PIXELS = 3 * 32 * 32
LARGEST = 400 << 20  # bytes of an archive, unpacked: CIFAR's have 186 MB
NDARRAY = "numpy.ndarray"  # stands for the class in a pickle, which may name it but not call it
HOMES = ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/")
LAYOUTS = {  # (data set, form): training files, test file, file of class names
    ("cifar10", "python"): ([f"data_batch_{i}" for i in range(1, 6)], "test_batch", "batches.meta"),
    ("cifar10", "binary"): ([f"data_batch_{i}.bin" for i in range(1, 6)], "test_batch.bin", "batches.meta.txt"),
    ("cifar100", "python"): (["train"], "test", "meta"),
    ("cifar100", "binary"): (["train.bin"], "test.bin", "fine_label_names.txt"),
}
# Of LAYOUTS, in that order
SUBFOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin", "cifar-100-python", "cifar-100-binary")
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ARCHIVES = {  # sha256 as Keras and TensorFlow Datasets have them
    "cifar10": ("cifar-10-python.tar.gz", "sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"),
    "cifar100": ("cifar-100-python.tar.gz", "sha256:85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"),
}


def recognises(path):
    """ "cifar10" or "cifar100" for a folder of batches, the folder above it, or a .tar.gz of one."""
    layout = _find(path)
    return layout[0] if layout else None


@register(description="photographs of 10 things, 170 MB to download", image_shape=(32, 32, 3), num_classes=10)
def cifar10(path=None):
    """CIFAR-10: 60,000 colour photographs of ten kinds of things, 32x32 pixels."""
    return _load("cifar10", path)


@register(description="photographs of 100 things, 169 MB to download", image_shape=(32, 32, 3), num_classes=100)
def cifar100(path=None):
    """CIFAR-100: 60,000 colour photographs of a hundred kinds of things (fine labels), 32x32 pixels."""
    return _load("cifar100", path)


def _load(name, path):
    if path is None:
        path = _in_cache(name)
    dataset, form, read, place = _find(path)
    train_files, test_file, names_file = LAYOUTS[dataset, form]
    class_names = _class_names(read(names_file, optional=True), dataset, form, f"{place}/{names_file}")
    splits = {}
    for split, files in (("train", train_files), ("test", [test_file])):
        parse = _parse_python if form == "python" else _parse_binary
        batches = [parse(read(file), dataset, f"{place}/{file}") for file in files]
        images = np.concatenate([batch[0] for batch in batches])
        labels = np.concatenate([batch[1] for batch in batches])
        files = tuple(file for batch in batches for file in batch[2])
        # (N, 3, 32, 32) -> (N, 32, 32, 3)
        images = np.ascontiguousarray(images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        splits[split] = Split(images, labels, files if len(files) == len(labels) else ())
    if class_names is None:
        class_names = tuple(str(i) for i in range(100))
    return ImageData(name=dataset, source=str(path), class_names=class_names, **splits)


def _in_cache(name):
    """The folder or archive of `name` in the cache folder, fetched if it is not there."""
    folder = cache_folder(name)
    layout = _find(folder) if folder.is_dir() else None
    if layout and layout[0] == name:
        return folder
    for archive in sorted(folder.glob("cifar*.tar.gz")) if folder.is_dir() else ():
        if recognises(archive) == name:
            return archive
    file, sha = ARCHIVES[name]
    return fetch(name, {file: (sha, tuple(home + file for home in HOMES))}) / file


def _find(path):
    """(data set, form, function file name -> bytes, place in words) of a folder or archive, or None."""
    path = Path(path)
    if path.is_dir():
        for folder in (path, *(path / sub for sub in SUBFOLDERS)):
            for (name, form), (train, test, names) in LAYOUTS.items():
                # CIFAR-100's files are called "train" and "test", so its meta file or kin must be there too
                if (folder / train[0]).is_file() and ((folder / test).is_file() or (folder / names).is_file()):
                    return name, form, _folder_reader(folder), folder
        return None
    if not path.is_file() or not path.name.lower().endswith((".tar.gz", ".tgz", ".tar")):
        return None
    try:
        with _open_archive(path) as archive:
            first = next((m.name for m in archive if m.isfile() or m.isdir()), "")
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        if "cifar" in path.name.lower():
            raise DataError(f"{path} is not a readable archive: {error}. Fetch it again.") from error
        return None
    folder = first.strip("./").split("/")[0]
    if folder not in SUBFOLDERS:
        return None
    name, form = list(LAYOUTS)[SUBFOLDERS.index(folder)]
    return name, form, _archive_reader(path, LAYOUTS[name, form]), path


def _check_size(path, size):
    if size > LARGEST:
        raise DataError(
            f"{path} holds more than {LARGEST >> 20} MiB, which CIFAR does not, so it was not read. Fetch it again."
        )


class _Bounded:
    """A binary file that is not read beyond LARGEST: an archive of a few bytes may say that it holds gigabytes."""

    def __init__(self, file, path):
        self.file, self.path, self.tell = file, path, file.tell

    def read(self, size):
        _check_size(self.path, self.tell() + size)
        return self.file.read(size)

    def seek(self, place):
        _check_size(self.path, place)
        return self.file.seek(place)


@contextlib.contextmanager
def _open_archive(path):
    """The tarfile.TarFile of a .tar or .tar.gz file, of which not too much is unpacked."""
    with open(path, "rb") as raw:
        gzipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        content = gzip.GzipFile(fileobj=raw) if gzipped else raw
        with tarfile.open(fileobj=_Bounded(content, path), mode="r:") as archive:
            yield archive


def _folder_reader(folder):
    def read(file, optional=False):
        if not (folder / file).is_file():
            if optional:
                return None
            raise DataError(f"{folder} has no file {file!r}, which is a part of the data set.")
        _check_size(folder / file, os.path.getsize(folder / file))
        return (folder / file).read_bytes()

    return read


def _archive_reader(path, layout):
    """Reads the files of `layout` from an archive, all in one pass at the first call."""
    train, test, names = layout
    contents = {}

    def read(file, optional=False):
        if not contents:
            try:
                with _open_archive(path) as archive:
                    for member in archive:
                        base = member.name.rsplit("/", 1)[-1]
                        if member.isfile() and base in (*train, test, names):
                            contents[base] = archive.extractfile(member).read()
            except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
                raise DataError(
                    f"{path} is broken ({path.stat().st_size:,} bytes found): {error}. Fetch it again."
                ) from error
        if file not in contents and not optional:
            raise DataError(f"{path} has no file {file!r}, which is a part of the data set; fetch it again.")
        return contents.pop(file, None)

    return read


def _parse_python(content, name, file):
    """(uint8 (N, 3072), int64 (N,), file names) of a Python batch."""
    batch = read_pickle(content, file)
    label_key = "fine_labels" if name == "cifar100" else "labels"
    if not isinstance(batch, dict) or "data" not in batch or label_key not in batch:
        held = f"keys {', '.join(map(str, batch))}" if isinstance(batch, dict) else f"a {type(batch).__name__}"
        raise DataError(f"{file} is not a batch of {name}: 'data' and {label_key!r} are expected, it holds {held}.")
    data = batch["data"]
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != PIXELS:
        what = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise DataError(f"{file}: 'data' must be uint8 (N, {PIXELS}), it is {what}.")
    try:
        labels = np.asarray(batch[label_key])
        integers = np.issubdtype(labels.dtype, np.integer) and labels.shape == (len(data),)
    except ValueError:
        integers = False
    if not integers:
        raise DataError(f"{file}: {label_key!r} must be {len(data):,} integers, one an image.")
    files = batch.get("filenames", ())
    return data, labels.astype(np.int64), tuple(str(f) for f in files) if isinstance(files, list) else ()


def _parse_binary(content, name, file):
    """(uint8 (N, 3072), int64 (N,), ()) of a binary batch: records of a label byte (CIFAR-100: two) and 3072 pixels."""
    head = 2 if name == "cifar100" else 1
    if not content or len(content) % (head + PIXELS):
        raise DataError(
            f"{file} is broken: it must be a multiple of {head + PIXELS:,} bytes, one record an image, and has "
            f"{len(content):,} bytes ({len(content) % (head + PIXELS):,} too many). Fetch it again."
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, head + PIXELS)
    return records[:, head:], records[:, head - 1].astype(np.int64), ()


def _class_names(content, name, form, file):
    """The class names of a names file; where there is none, CIFAR-10's own, or None."""
    if content is None:
        return CIFAR10_CLASSES if name == "cifar10" else None
    if form == "binary":
        return tuple(content.decode("utf-8", "replace").split())
    meta = read_pickle(content, file)
    key = "fine_label_names" if name == "cifar100" else "label_names"
    if not isinstance(meta, dict) or not isinstance(meta.get(key), list):
        raise DataError(f"{file} has no list {key!r} of class names.")
    return tuple(str(n) for n in meta[key])


def read_pickle(content, file):
    """What a pickle of plain values and NumPy arrays holds; its byte strings as str (they are ASCII).

    Raises:
        DataError: the pickle is broken, or asks for anything else; the message names what it asked for.
    """
    try:
        return _plain(_ArraysOnly(io.BytesIO(content), encoding="bytes").load())
    except _NotAllowedError as error:
        raise DataError(
            f"{file} is not safe to read: this pickle asks for {error}, which no data set needs, and a pickle can run "
            "any program. Nothing of it was run. Fetch the file again from its home."
        ) from error
    except Exception as error:  # a broken pickle raises almost anything
        raise DataError(
            f"{file} is broken: {len(content):,} bytes were found, and they are not a complete pickle ({error}). "
            "Fetch it again."
        ) from error


class _NotAllowedError(Exception):
    """The name of something that a pickle may not have."""


class _ArraysOnly(pickle.Unpickler):
    """Unpickles plain values and NumPy arrays of numbers, and nothing else."""

    def find_class(self, module, name):
        allowed = {
            "numpy.core.multiarray._reconstruct": _reconstruct,
            "numpy.ndarray": NDARRAY,
            "numpy.core.numeric._frombuffer": _frombuffer,
            "numpy.dtype": _dtype,
            "_codecs.encode": _latin1,  # how Python 3 writes bytes in protocol 2
        }
        place = f"{module.replace('numpy._core', 'numpy.core')}.{name}"
        if place not in allowed:
            raise _NotAllowedError(f"{module}.{name}")
        return allowed[place]


def _reconstruct(kind, shape, code):
    if kind != NDARRAY:
        raise _NotAllowedError(f"an array of kind {kind!r}")
    return np.ndarray((0,), np.uint8)


def _frombuffer(content, dtype, shape, order):
    return np.frombuffer(content, dtype).reshape(shape, order=order)


def _dtype(code, *flags):
    dtype = np.dtype(code.decode("ascii") if isinstance(code, bytes) else code)
    if dtype.hasobject:
        raise _NotAllowedError("an array of Python objects")
    return dtype


def _latin1(text, encoding):
    if encoding not in ("latin1", "latin-1", b"latin1"):
        raise _NotAllowedError(f"the codec {encoding!r}")
    return text.encode("latin1")


def _plain(value):
    """The same value with its byte strings as str."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, dict):
        return {_plain(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value
