"""What lies in and below a folder: image files at any depth, and what is passed over.

Names may be any bytes (Linux) and accents may be written in two ways (macOS): `class_name` makes one text of them.
Links are followed unless they lead back. Named pipes, sockets and devices, which would block, do not count as images.
"""

import errno
import os
import stat
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from kerascnn.datasets.decoding import SUFFIXES
from kerascnn.errors import DataError


def class_name(name):
    """A folder's name as text to show and save: accents composed (NFC), bytes that are not UTF-8 as \\xe9."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return unicodedata.normalize("NFC", text)


def is_hidden(name):
    """True for what systems put beside a user's files: Synology's thumbnails, macOS' resource forks, dot files."""
    return name.startswith(".") or name in ("__MACOSX", "@eaDir")


def entries(folder):
    """What a folder holds, as [(name, kind)] by name.

    Kinds are "folder", "linked folder", "image", "hidden", "other", and "special" for named pipes, sockets and devices,
    also behind links; a link that leads nowhere counts as a file.

    Raises:
        DataError: the folder may not be read, or its path is longer than the system allows.
    """
    try:
        with os.scandir(folder) as scan:
            return sorted((entry.name, _kind(entry)) for entry in scan)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise DataError(
                f"{str(folder)[:200]}... is nested too deeply: the system reads 4,095 bytes of a path at most, and "
                "those in it are longer. Move its images up."
            ) from error
        if isinstance(error, PermissionError):
            raise DataError(f"The folder {folder} may not be read (permission denied).") from error
        raise


def _kind(entry):
    if is_hidden(entry.name):
        return "hidden"
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    if not entry.is_file(follow_symlinks=False):  # only these need another look at the disk
        try:
            mode = entry.stat().st_mode
        except OSError:  # a link that leads nowhere, or round in circles
            mode = stat.S_IFREG
        if stat.S_ISDIR(mode):
            return "linked folder"
        if not stat.S_ISREG(mode):
            return "special"
    return "image" if entry.name.lower().endswith(SUFFIXES) else "other"


@dataclass
class Below:
    """What lies below a folder, at any depth; names are relative to the root of the data, with forward slashes.

    Attributes:
        images: image files, sorted.
        hidden, special: names that were passed over.
        others: {suffix: number of files that are not images}.
    """

    images: list = field(default_factory=list)
    hidden: list = field(default_factory=list)
    special: list = field(default_factory=list)
    others: dict = field(default_factory=dict)


def look_below(folder, root):
    """The Below of a folder at or under `root`, both Paths."""
    prefix = folder.relative_to(root).as_posix() + "/" if folder != root else ""
    below, seen, folders = Below(), set(), [(str(folder), prefix)]
    while folders:
        folder, prefix = folders.pop()
        inside = entries(folder)
        place = os.stat(folder)
        if (place.st_dev, place.st_ino) in seen:
            continue
        seen.add((place.st_dev, place.st_ino))
        for name, kind in inside:
            if kind == "folder" or (kind == "linked folder" and not _leads_back(f"{folder}/{name}", root)):
                folders.append((f"{folder}/{name}", f"{prefix}{name}/"))
            elif kind == "other":
                count_other(below.others, name)
            elif kind in ("image", "hidden", "special"):
                {"image": below.images, "hidden": below.hidden, "special": below.special}[kind].append(prefix + name)
    for names in (below.images, below.hidden, below.special):
        names.sort()
    return below


def count_other(others, name):
    """Count a file that is not an image in {suffix: number}."""
    suffix = Path(name).suffix.lower() or "without suffix"
    others[suffix] = others.get(suffix, 0) + 1


def _leads_back(link, root):
    """True for a link to the root of the data or above it: its images would get another class's label."""
    return Path(os.path.realpath(root)).is_relative_to(os.path.realpath(link))
