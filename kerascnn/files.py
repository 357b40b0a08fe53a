"""Reading what lies in users' folders, never blocked and never flooded.

A named pipe, a socket or a device may block for ever or have no end; a compressed file may hold a thousand times its
size; a header may promise more than any disk holds; brackets nested deeply exhaust Python's stack. All this is found
before anything is read, and becomes a DataError that names the file.
"""

import json
import math
import os
import stat
import tomllib
import zipfile

from kerascnn.errors import DataError
from kerascnn.processes import available_memory

LARGEST_TEXT = 64 << 20  # bytes; the largest data.json, one of a million broken files, has about as many
BOMB_BYTES = 256 << 20  # what a file that is packed BOMB_RATIO times as small may hold; real images shrink to a tenth
BOMB_RATIO = 200
DEEPEST = 100  # lists and tables in each other; ours have five
KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def check_regular(path):
    """Raise a DataError if `path`, or what it links to, is no regular file; FileNotFoundError if there is nothing."""
    kind = KINDS.get(stat.S_IFMT(os.stat(path).st_mode))
    if kind:
        raise DataError(f"{path} is {kind}; a regular file is needed.")


def read_text(path, encoding="utf-8"):
    """The text of a regular file.

    Raises:
        DataError: it is no regular file, larger than 64 MiB, or not text.
        FileNotFoundError: there is none.
    """
    check_regular(path)
    with open(path, "rb") as file:
        content = file.read(LARGEST_TEXT + 1)
    if len(content) > LARGEST_TEXT:
        raise DataError(f"{path} is too large to be read as text: it has more than {LARGEST_TEXT >> 20} MiB.")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text file: {error}.") from None


def read_json(path):
    """The value in a JSON file.

    Raises:
        DataError: the file cannot be read as JSON.
        FileNotFoundError: there is none.
    """
    return _value(json.loads, read_text(path, "utf-8-sig"), "JSON", path)


def read_toml(path):
    """The table in a TOML file, as a dict; errors as of `read_json`."""
    return _value(tomllib.loads, read_text(path, "utf-8-sig"), "TOML", path)


def json_value(content, path):
    """The value of JSON that was read already (bytes or text); errors as of `read_json`, which name `path`."""
    return _value(json.loads, content, "JSON", path)


def _value(parse, text, kind, path):
    try:
        value = parse(text)
        if _too_deep(value):
            raise RecursionError
        return value
    except RecursionError:
        raise DataError(f"{path} is not read as {kind}: its brackets are nested too deeply.") from None
    except ValueError as error:
        raise DataError(f"{path} is not valid {kind}: {error}.") from None


def tables_in(value):
    """Every dict in a value of dicts and lists, in order, an outer one before those in it."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
        if isinstance(value, (dict, list)):
            waiting += reversed(value.values() if isinstance(value, dict) else value)


def _too_deep(value):
    """True if lists and tables are nested more than DEEPEST times; what copies or prints them calls itself for each."""
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def check_inflated(path, packed, declared):
    """Raise a DataError if what a file says that it holds, unpacked, does not fit in memory or looks like a bomb.

    Args:
        path: the file.
        packed: its size on disk, bytes.
        declared: what it says that it holds, bytes.
    """
    if declared <= BOMB_BYTES:
        return
    if declared > BOMB_RATIO * packed:
        raise DataError(
            f"{path} has {packed:,} bytes and would unpack to {declared:,}: as images it would be empty, so it was not "
            "read. If it is meant, save it without compression."
        )
    free = available_memory()
    if declared > free:
        raise DataError(
            f"{path} holds {declared / 1e9:,.1f} GB unpacked, more than the {free / 1e9:,.1f} GB of memory that are "
            "free. Split it, or save the images as files in class folders: those are read one by one."
        )


def read_arrays(path, names=None):
    """{name: array} of an NPZ file.

    Args:
        names: those to read, where there are any; None: all.
    Raises:
        DataError: the file is torn, no NPZ file, holds Python objects, which could run a program, or says that it holds
            more than memory, or than it can.
    """
    import numpy as np

    check_regular(path)
    with open(path, "rb") as file:  # np.load leaves a broken file open
        try:
            if not zipfile.is_zipfile(file):
                raise ValueError("it is not a complete zip archive")
            _check_headers(path, file)
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files if names is None or name in names}
        except (MemoryError, DataError):
            raise
        except Exception as error:  # zipfile, zlib, tokenize and NumPy raise almost anything
            size = os.path.getsize(path)
            raise DataError(f"{path} is not a readable .npz file ({size:,} bytes found): {error}.") from error


def _check_headers(path, file):
    """Raise a DataError if an NPZ file's arrays, by what their headers say, should not be read."""
    from numpy.lib import format as npy

    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        check_inflated(path, os.path.getsize(path), sum(member.file_size for member in members))
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name == member.filename:
                continue
            with archive.open(member) as content:
                version = npy.read_magic(content)
                read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                shape, _, dtype = read_header(content)
                start = content.tell()
            if dtype.hasobject:
                raise DataError(
                    f"{path}: the array {name!r} holds Python objects, which are not read because they can run any "
                    "program. Save numbers, images as uint8; words as array.astype(str)."
                )
            declared = math.prod(shape) * dtype.itemsize
            if declared != member.file_size - start or (not dtype.itemsize and math.prod(shape)):
                raise DataError(
                    f"{path} is broken: the array {name!r} declares {math.prod(shape):,} numbers of {dtype} in shape "
                    f"{shape}, {declared:,} bytes, and holds {member.file_size - start:,} bytes."
                )
