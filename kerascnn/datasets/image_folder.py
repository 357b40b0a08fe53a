"""Any folder of class folders with images, with or without train, validation and test folders above them.

    photos/cats/1.jpg                 one folder a class; validation and test images are held out by seed
    photos/train/cats/1.jpg           or split folders, in the usual spellings, in any case
    photos/test/cats/2.jpg

A folder counts as a split only if its name is a split's and it holds class folders itself: a class called "train" is
a class. Hidden folders, empty folders and files that are no images are ignored and named in the notes.
"""

import os
import re
from pathlib import Path

import numpy as np

from kerascnn.datasets import register
from kerascnn.datasets.decoding import SUFFIXES
from kerascnn.datasets.image_data import ImageData, Split
from kerascnn.datasets.image_files import ImageFiles
from kerascnn.errors import DataError, nearest

SPELLINGS = {
    "train": ("train", "training", "trn", "trainset"),
    "validation": ("val", "valid", "validation", "validate", "dev", "valset"),
    "test": ("test", "testing", "tst", "testset", "eval", "evaluation", "holdout"),
}
PADDING = ("set", "data", "images", "split", "seg")  # as in "training_set", "seg_train"
LAYOUT = "One folder a class is needed, as in {0}/cat/1.jpg and {0}/dog/1.jpg, or {0}/train/cat/1.jpg and so on"


def recognises(path):
    """ "image_folder" for every folder; it is asked last."""
    return "image_folder" if path.is_dir() else None


@register(description="any folder of class folders: type its path", image_shape=None, num_classes=None, needs_path=True)
def image_folder(path):
    """A folder of class folders with images, split or not."""
    root = Path(path)
    notes = []
    splits, base = _find_splits(root, notes)
    if "train" not in splits and "validation" in splits and "test" in splits:
        raise DataError(
            f"{root} has no training images: its splits are {_named(splits)}. A folder {root}/train is missing."
        )
    if "train" not in splits:
        raise DataError(
            f"{root} has no training images, only {_named(splits)}. Give the folder above, or rename it to train."
        )
    if "validation" in splits and "test" not in splits:
        splits["test"] = splits.pop("validation")
        notes.append(f"There is no test folder, so {splits['test'][0]} is the test split.")
    class_names = _class_names(root, splits, notes)
    made = {name: _split(root, classes, class_names) for name, (_, classes) in splits.items()}
    return ImageData(
        name=_short_name(base if base.name else root.resolve()),
        source=str(root),
        class_names=class_names,
        notes=tuple(notes),
        **made,
    )


def split_called(folder_name):
    """The split ("train", "validation", "test") that a folder's name stands for, or None."""
    words = [w for w in re.split(r"[^a-z]+", folder_name.casefold()) if w and w not in PADDING]
    return next((split for split, names in SPELLINGS.items() if len(words) == 1 and words[0] in names), None)


def _find_splits(root, notes):
    """({split: (folder name, {class: [file, ...]})}, the folder that holds them), files relative to `root`."""
    base = root
    while True:
        tree = _Tree(root, base)
        candidates = {name: split_called(name) for name in tree.folders}
        candidates = {name: split for name, split in candidates.items() if split and tree.has_folders(name)}
        if candidates or len(tree.folders) != 1 or not tree.has_folders(tree.folders[0]):
            break
        base = base / tree.folders[0]
        notes.append(f"The folder {base.relative_to(root).as_posix()} was entered, the only one there.")
    tree.note(notes)
    if not candidates:
        classes = tree.classes(tree.folders, notes)
        _check_classes(root, base, classes, tree)
        return {"train": ("", classes)}, base
    found = {}
    for name, split in candidates.items():
        if split in found:
            raise DataError(
                f"{root}: both {found[split][0]!r} and {name!r} hold {split} images. Rename one, or give one folder."
            )
        inner = base / name
        sub = _Tree(root, inner)
        while len(sub.folders) == 1 and sub.has_folders(sub.folders[0]) and not sub.num_images:
            inner = inner / sub.folders[0]
            sub = _Tree(root, inner)
        sub.note(notes)
        classes = sub.classes(sub.folders, notes)
        _check_classes(root, inner, classes, sub, least=2 if split == "train" else 1)
        found[split] = (name, classes)
    others = [name for name in tree.folders if name not in candidates]
    if others:
        notes.append(f"Ignored beside the splits: {_listed(others)}.")
    return found, base


class _Tree:
    """One folder's entries, looked at once."""

    def __init__(self, root, folder):
        self.root, self.folder = root, folder
        self.folders, self.hidden, self.others, self.num_images = [], [], {}, 0
        for entry in _entries(folder):
            if is_hidden(entry.name):
                self.hidden.append(entry.name)
            elif entry.is_dir():
                self.folders.append(entry.name)
            elif entry.name.lower().endswith(SUFFIXES):
                self.num_images += 1
            else:
                _count_other(self.others, entry.name)

    def has_folders(self, name):
        return any(e.is_dir() and not is_hidden(e.name) for e in _entries(self.folder / name))

    def classes(self, names, notes):
        """{class: sorted image files below its folder}; classes without images are left out and noted."""
        found, empty, hidden, others = {}, [], [], {}
        for name in names:
            files = []
            _collect(self.folder / name, self.root, files, hidden, others, set())
            if files:
                found[name] = sorted(files)
            else:
                empty.append(name)
        where = self._where()
        if empty:
            notes.append(f"Ignored because they hold no images{where}: {_listed(empty)}.")
        if hidden:
            notes.append(f"Ignored because they are hidden{where}: {_listed(hidden)}.")
        if others:
            counts = ", ".join(f"{n:,} {suffix}" for suffix, n in sorted(others.items()))
            notes.append(f"Ignored because they are no images that can be read{where}: {counts}.")
        return found

    def note(self, notes):
        if self.hidden:
            notes.append(f"Ignored because they are hidden{self._where()}: {_listed(self.hidden)}.")
        if self.num_images and self.folders:
            notes.append(f"Ignored{self._where()}: {self.num_images:,} images that lie in no class folder.")

    def _where(self):
        return "" if self.folder == self.root else f" in {self.folder.relative_to(self.root).as_posix()}"


def is_hidden(name):
    """True for what systems put beside a user's files: Synology's thumbnails, macOS' resource forks, dot files."""
    return name.startswith(".") or name in ("__MACOSX", "@eaDir")


def _entries(folder):
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda e: e.name)
    except PermissionError as error:
        raise DataError(f"The folder {folder} may not be read (permission denied).") from error


def _count_other(others, name):
    suffix = Path(name).suffix.lower() or "without suffix"
    others[suffix] = others.get(suffix, 0) + 1


def _holds(folder, root):
    """True if `folder` is, or lies above, the root of the data: its images would get another class's label."""
    return Path(os.path.realpath(root)).is_relative_to(os.path.realpath(folder))


def _collect(folder, root, files, hidden, others, seen):
    """Append every image below `folder`, at any depth, to `files`, relative to `root`."""
    place = os.stat(folder)
    if (place.st_dev, place.st_ino) in seen or _holds(folder, root):  # a link back to a folder above
        return
    seen.add((place.st_dev, place.st_ino))
    prefix = folder.relative_to(root).as_posix() + "/"
    for entry in _entries(folder):
        if is_hidden(entry.name):
            hidden.append(prefix + entry.name)
        elif entry.is_dir():
            _collect(folder / entry.name, root, files, hidden, others, seen)
        elif entry.name.lower().endswith(SUFFIXES) and (entry.is_file() or entry.is_symlink()):
            files.append(prefix + entry.name)
        else:
            _count_other(others, entry.name)


def _check_classes(root, folder, classes, tree, least=2):
    layout = LAYOUT.format(root)
    if len(classes) >= least:
        return
    if classes:
        name = next(iter(classes))
        raise DataError(
            f"{folder} has one class only, {name!r} with {len(classes[name]):,} images; at least two are needed to "
            f"learn a difference. {layout}."
        )
    if tree.num_images:
        raise DataError(f"{folder} holds {tree.num_images:,} images but no class folders. {layout}.")
    raise DataError(f"{folder} holds no images ({', '.join(s[1:] for s in SUFFIXES)}). {layout}.")


def _class_names(root, splits, notes):
    """The training classes, sorted (by number if all are numbers); a class that only another split has is an error."""
    train = splits["train"][1]
    names = sorted(train, key=int) if all(n.isdecimal() for n in train) else sorted(train)
    for split, (folder, classes) in splits.items():
        extra = sorted(set(classes) - set(train))
        if extra:
            near = [f"{g!r}" for g in nearest(extra[0], names, 1)]
            hint = f" (the nearest training class is {near[0]})" if near else ""
            raise DataError(
                f"{root}: the {split} folder {folder!r} has classes that the training folder has not: "
                f"{_listed(extra)}{hint}. Give both the same class folders."
            )
        missing = sorted(set(train) - set(classes))
        if missing:
            notes.append(f"The {split} split has no images of {_listed(missing)}.")
    return tuple(names)


def _split(root, classes, class_names):
    files = tuple(file for name in class_names for file in classes.get(name, ()))
    counts = [len(classes.get(name, ())) for name in class_names]
    labels = np.repeat(np.arange(len(class_names), dtype=np.int64), counts)
    return Split(ImageFiles(root, files), labels, files)


def _named(splits):
    return " and ".join(f"{split} ({folder})" for split, (folder, _) in splits.items())


def _listed(names, most=8):
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _short_name(folder):
    return re.sub(r"[^\w.-]+", "-", folder.name).strip("-") or "images"
