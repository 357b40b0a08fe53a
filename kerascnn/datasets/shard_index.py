"""Image files in a few large tar files, WebDataset's format (Aizman, Maltzahn and Breuel 2019), and the files in them.

A folder of shards holds `train-000000.tar`, `train-000001.tar` ..., `test-000000.tar` ..., each with pairs of members
000000042.jpg (the file's bytes as they were) and 000000042.cls (its label, a number), and `shards.npz`: where each file
lies, what it was called, and the classes. With it, any file can be read without looking through the tar files.
"""

import functools
import io
import json
import os
import threading
import zlib

from kerascnn.datasets.image_files import ImageFiles
from kerascnn.errors import DataError, counted
from kerascnn.files import read_arrays

INDEX = "shards.npz"
MOST_OPEN = 128  # shards that stay open
COLUMNS = ("split", "label", "shard", "offset", "length", "crc")


class Pack:
    """A folder of shards: what its index says, and the bytes of each file.

    Attributes:
        root: the folder.
        head: dict: name, class_names, notes, doubts, classes, problem, shards ([name, bytes] each).
        names: the files' names, relative to the folder that was packed.
        split, label, shard, offset, length, crc: arrays with a row for each file.
    """

    def __init__(self, root):
        self.root = str(root)
        arrays = read_arrays(os.path.join(root, INDEX))
        try:
            self.head = json.loads(arrays["head"].tobytes())
            text = arrays["names"].tobytes().decode("utf-8", "surrogateescape")
            self.names = tuple(text.split("\0")) if len(arrays["label"]) else ()
            for column in COLUMNS:
                setattr(self, column, arrays[column])
            shards = [(str(name), int(size)) for name, size in self.head["shards"]]
            if any(len(getattr(self, column)) != len(self.names) for column in COLUMNS):
                raise ValueError("its columns have different lengths")
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{os.path.join(root, INDEX)} is not an index of shards: {error}") from error
        self.paths = [os.path.join(root, os.path.basename(name)) for name, _ in shards]
        self._check(shards)
        self._open, self._lock = {}, threading.Lock()

    def _check(self, shards):
        missing = [name for (name, _), path in zip(shards, self.paths, strict=True) if not os.path.isfile(path)]
        if missing:
            more = f" and {len(missing) - 5:,} more" if len(missing) > 5 else ""
            are = counted(len(missing), "shard is", "shards are")
            raise DataError(
                f"{self.root}: {are} missing, of {len(shards)}: {', '.join(missing[:5])}{more}. Copy the whole folder."
            )
        for (name, size), path in zip(shards, self.paths, strict=True):
            if os.path.getsize(path) != size:
                raise DataError(
                    f"{self.root}: the shard {name} has {os.path.getsize(path):,} bytes, but {size:,} were written. It "
                    "was cut off or changed: copy it again, or pack the data again."
                )

    @functools.cached_property
    def rows(self):
        """{name: row} of all files."""
        return {name: row for row, name in enumerate(self.names)}

    def content(self, row):
        """The bytes of a file.

        Raises:
            DataError: they are not those that were packed.
        """
        content = self.part(row, 0, int(self.length[row]))
        if zlib.crc32(content) != self.crc[row]:
            raise DataError(
                f"{self.paths[self.shard[row]]} is damaged: {self.names[row]} in it is not what was packed. Copy the "
                "shard again."
            )
        return content

    def part(self, row, start, length):
        """Some bytes of a file; threads may read at the same time."""
        path, length = self.paths[self.shard[row]], max(0, min(length, int(self.length[row]) - start))
        try:
            number = self._opened(path)
            if number is not None:
                return os.pread(number, length, int(self.offset[row]) + start)
            with open(path, "rb") as file:
                return os.pread(file.fileno(), length, int(self.offset[row]) + start)
        except OSError as error:
            raise DataError(f"Cannot read {path}: {error.strerror}.") from error

    def __reduce__(self):
        return pack_at, (self.root,)

    def _opened(self, path):
        """The number of an open file, or None where too many are open already."""
        with self._lock:
            if path not in self._open and len(self._open) < MOST_OPEN:
                self._open[path] = os.open(path, os.O_RDONLY)
            return self._open.get(path)

    def __del__(self):
        for number in getattr(self, "_open", {}).values():
            os.close(number)


def is_packed(root):
    """True if a folder is a folder of shards."""
    return os.path.isfile(os.path.join(root, INDEX))


def pack_at(root):
    """The Pack of a folder; the same one as long as its index stays as it is."""
    return _pack(os.path.realpath(root), os.stat(os.path.join(root, INDEX)).st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _pack(root, _time):
    return Pack(root)


class PackedFiles(ImageFiles):
    """`ImageFiles` that lie in shards; `root` is their folder, `names` those of the pack."""

    @functools.cached_property
    def pack(self):
        """The Pack that they lie in."""
        return pack_at(self.root)

    def header(self, row):
        """The file of one row, of which only the requested bytes are read."""
        return io.BufferedReader(_Slice(self.pack, self.index[row]), 1024)

    def _file(self, number):
        file = io.BytesIO(self.pack.content(number))
        file.name = os.path.join(self.root, self.names[number])
        return file

    def content(self, row):
        """The bytes of the file of one row."""
        return self.pack.content(self.index[row])

    def num_bytes(self):
        """Bytes of all files."""
        return int(self.pack.length[self.index].sum())


class _Slice(io.RawIOBase):
    """A file in a pack, open for reading."""

    def __init__(self, pack, row):
        self.pack, self.row, self.place = pack, row, 0
        self.name = os.path.join(pack.root, pack.names[row])

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=os.SEEK_SET):
        self.place = max(0, offset + (0, self.place, int(self.pack.length[self.row]))[whence])
        return self.place

    def readinto(self, buffer):
        content = self.pack.part(self.row, self.place, len(buffer))
        buffer[: len(content)] = content
        self.place += len(content)
        return len(content)
