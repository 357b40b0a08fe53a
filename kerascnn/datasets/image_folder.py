"""Any folder of class folders with images, with or without train, validation and test folders above them.

    photos/cats/1.jpg                 one folder a class; validation and test images are held out by seed
    photos/train/cats/1.jpg           or split folders, in the usual spellings, in any case
    photos/test/cats/2.jpg
    photos/nature/forest/1.jpg        folders in class folders: with classes="leaves" each that holds images is a class

A folder counts as a split only if its name is a split's and it holds class folders itself: a class called "train" is
a class. Hidden folders, empty folders and files that are not images are ignored and named in the notes.
"""

import os
import re
from pathlib import Path

import numpy as np

from kerascnn.datasets import register
from kerascnn.datasets.decoding import SUFFIXES
from kerascnn.datasets.folder_tree import class_name, count_other, entries, look_below
from kerascnn.datasets.image_data import ImageData, Split
from kerascnn.datasets.image_files import ImageFiles
from kerascnn.errors import DataError, UsageError, counted, nearest

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


@register(description="any folder of class folders: type its path", needs_path=True)
def image_folder(path, *, classes=None, training=True):
    """A folder of class folders with images, split or not.

    Args:
        classes: "leaves" makes every folder that holds images a class, called by its path: "nature/forest"; None makes
            one class of each top folder and all below it.
        training: False takes what cannot be trained on: one class, a test folder alone, or images without class
            folders, whose labels are then -1.
    """
    if classes not in (None, "leaves"):
        raise UsageError(f"classes={classes!r} is not allowed for a folder. Allowed: 'leaves'.")
    root = Path(path)
    notes, nested = [], {}
    splits, base = _find_splits(root, notes, nested, classes == "leaves", training)
    if training and "train" not in splits:
        split, *more = splits
        if more:
            raise DataError(
                f"{root} has no training images: its splits are {_named(splits)}. A folder {root}/train is missing."
            )
        raise DataError(
            f"{root} has no training images, only {split} ({splits[split][0]}). Give the folder above, or rename it to "
            "train."
        )
    if "validation" in splits and "test" not in splits:
        splits["test"] = splits.pop("validation")
        notes.append(f"There is no test folder, so {splits['test'][0]} is the test split.")
    class_names = _class_names(root, splits, notes, training)
    return ImageData(
        name=_short_name(base if base.name else root.resolve()),
        source=str(root),
        class_names=class_names,
        notes=tuple(notes),
        doubts=(_merged(nested),) if nested else (),
        **{"train": None} | {name: _split(root, inner, class_names) for name, (_, inner) in splits.items()},
    )


def split_called(folder_name):
    """The split ("train", "validation", "test") that a folder's name stands for, or None."""
    words = [w for w in re.split(r"[^a-z]+", folder_name.casefold()) if w and w not in PADDING]
    return next((split for split, names in SPELLINGS.items() if len(words) == 1 and words[0] in names), None)


def _find_splits(root, notes, nested, leaves, training):
    """({split: (folder name, {class: [file, ...]})}, the folder that holds them), files relative to `root`.

    Images without classes are those of the class None in the split "train". What is to be said is added to `notes`, and
    {class: folders below it that are merged into it} to `nested`.
    """
    base = root
    while True:
        tree = _Tree(root, base)
        candidates = {name: split_called(name) for name in tree.folders}
        candidates = {name: split for name, split in candidates.items() if split and tree.has_folders(name)}
        if candidates or len(tree.folders) != 1 or not tree.has_folders(tree.folders[0]):
            break
        tree.note(notes)
        base = base / tree.folders[0]
    if base != root:
        notes.append(f"The folder {_shortened(base.relative_to(root).as_posix())} was entered, the only one there.")
    tree.note(notes)
    if not candidates:
        classes = tree.classes(notes, nested, leaves)
        if not classes and tree.images and not training:
            return {"train": ("", {None: tree.images})}, base
        _check_classes(root, base, classes, tree, 2 if training else 1)
        return {"train": ("", classes)}, base
    splits, entered = {}, False
    for name, split in sorted(candidates.items(), key=lambda item: item[1] != "train"):
        if split in splits:
            raise DataError(
                f"{root}: both {splits[split][0]!r} and {name!r} hold {split} images. Rename one, or give one folder."
            )
        inner = base / name
        sub = _Tree(root, inner)
        while len(sub.folders) == 1 and sub.has_folders(sub.folders[0]) and not sub.images:
            if not (split == "train" or entered or split_called(sub.folders[0])):
                break  # the only class of this split, with folders in it
            entered = entered or split == "train"
            inner = inner / sub.folders[0]
            sub = _Tree(root, inner)
        sub.note(notes)
        classes = sub.classes(notes, nested, leaves)
        _check_classes(root, inner, classes, sub, 2 if split == "train" and training else 1)
        splits[split] = (name, classes)
    others = [name for name in tree.folders if name not in candidates]
    if others:
        notes.append(f"Ignored beside the splits: {_listed(others)}.")
    return splits, base


class _Tree:
    """One folder's entries, looked at once."""

    def __init__(self, root, folder):
        self.root, self.folder = root, folder
        self.folders, self.hidden, self.special, self.others, self.images = [], [], [], {}, []
        self.prefix = f"{folder.relative_to(root).as_posix()}/" if folder != root else ""
        for name, kind in entries(folder):
            if kind.endswith("folder"):
                self.folders.append(name)
            elif kind == "image":
                self.images.append(self.prefix + name)
            elif kind == "other":
                count_other(self.others, name)
            else:
                {"hidden": self.hidden, "special": self.special}[kind].append(name)

    def has_folders(self, name):
        return any(kind.endswith("folder") for _, kind in entries(self.folder / name))

    def classes(self, notes, nested, leaves):
        """{class: sorted image files}; a class is a folder and all below it, or each folder that holds images.

        Classes without images are left out and noted; classes of several folders are added to `nested`.
        """
        files_by_class, spellings, empty, hidden, special, others = {}, {}, [], [], [], {}
        for name in self.folders:
            below = look_below(self.folder / name, self.root)
            hidden, special = hidden + below.hidden, special + below.special
            for suffix, number in below.others.items():
                others[suffix] = others.get(suffix, 0) + number
            if not below.images:
                empty.append(name)
            inner = {file: os.path.dirname(file)[len(self.prefix) + len(name) + 1 :] for file in below.images}
            for file, folder in inner.items():
                folder = f"{name}/{folder}".rstrip("/") if leaves else name
                files_by_class.setdefault(class_name(folder), []).append(file)
                spellings.setdefault(class_name(folder), {})[folder] = None
            if not leaves and len(set(inner.values())) > 1:
                nested.setdefault(class_name(name), set()).update({*inner.values()} - {""})
        where = self._where()
        if empty:
            notes.append(f"Ignored because they hold no images{where}: {_listed(empty)}.")
        notes += _passed_over(hidden, special, where)
        if others:
            counts = ", ".join(f"{n:,} {suffix}" for suffix, n in sorted(others.items()))
            notes.append(f"Ignored because they are not readable images{where}: {counts}.")
        twice = [name for name, folders in spellings.items() if len(folders) > 1]
        if twice:
            notes.append(
                f"Folders whose names differ only in how accents are written are one class{where}: {_listed(twice)}."
            )
        return {name: sorted(files) for name, files in files_by_class.items()}

    def note(self, notes):
        notes += _passed_over(self.hidden, self.special, self._where())
        if self.images and self.folders:
            count = counted(len(self.images), "image")
            notes.append(
                f"Ignored{self._where()}: {count} that {'lie' if len(self.images) > 1 else 'lies'} in no class folder."
            )

    def _where(self):
        return f" in {_shortened(self.prefix[:-1])}" if self.prefix else ""


def _passed_over(hidden, special, where):
    if hidden:
        yield f"Ignored because they are hidden{where}: {_listed(hidden)}."
    if special:
        yield f"Ignored because they are named pipes, sockets or devices{where}: {_listed(special)}."


def _merged(nested):
    """What to say of classes that are made of several folders, {class: folders below it}."""
    parts = [f"{_shortened(name)} ({_listed([*map(_shortened, sorted(inner))], 4)})" for name, inner in nested.items()]
    if all(split_called(folder) for inner in nested.values() for folder in inner):
        return (
            f"Splits lie in the class folders, so that test images are among the training images: {_listed(parts, 4)}. "
            f"Put the splits above the classes, as in train/{next(iter(nested))}."
        )
    classes = "1 class is" if len(nested) == 1 else f"{len(nested):,} classes are"
    return (
        f"{classes} made of the images of several folders: {_listed(parts, 4)}. To make each folder that holds images "
        "a class of its own, give classes='leaves'"
    )


def _check_classes(root, folder, classes, tree, least):
    layout = LAYOUT.format(root)
    if len(classes) >= least:
        return
    if classes:
        name, files = next(iter(classes.items()))
        folders = len({os.path.dirname(file) for file in files})
        leaves = f" Its images lie in {folders:,} folders: classes='leaves' makes each a class." if folders > 1 else ""
        raise DataError(
            f"{folder} has one class only, {name!r} with {counted(len(files), 'image')}; at least two are needed to "
            f"learn a difference. {layout}.{leaves}"
        )
    if tree.images:
        raise DataError(f"{folder} holds {counted(len(tree.images), 'image')} but no class folders. {layout}.")
    raise DataError(f"{folder} holds no images ({', '.join(s[1:] for s in SUFFIXES)}). {layout}.")


def _class_names(root, splits, notes, training):
    """The classes, sorted (by number if all are numbers): those of the training images, where there must be some, else
    those of any split. A class that only another split has is then an error."""
    known = splits["train"][1] if training else {name: () for _, classes in splits.values() for name in classes}
    if None in known:
        return ()
    names = sorted(known, key=int) if all(n.isdecimal() for n in known) else sorted(known)
    for split, (folder, classes) in splits.items():
        extra = sorted(set(classes) - set(known))
        if extra:
            near = [f"{g!r}" for g in nearest(extra[0], names, 1)]
            hint = f" (the nearest training class is {near[0]})" if near else ""
            raise DataError(
                f"{root}: the {split} folder {folder!r} has classes that the training folder has not: "
                f"{_listed(extra)}{hint}. Give both the same class folders."
            )
        missing = [name for name in names if name not in classes]
        if missing:
            notes.append(f"The {split} split has no images of {_listed(missing)}.")
    return tuple(names)


def _split(root, classes, class_names):
    if None in classes:
        files = tuple(classes[None])
        return Split(ImageFiles(root, files), np.full(len(files), -1, np.int64), files)
    files = tuple(file for name in class_names for file in classes.get(name, ()))
    counts = [len(classes.get(name, ())) for name in class_names]
    labels = np.repeat(np.arange(len(class_names), dtype=np.int64), counts)
    return Split(ImageFiles(root, files), labels, files)


def _named(splits):
    return " and ".join(f"{split} ({folder})" for split, (folder, _) in splits.items())


def _listed(names, most=8):
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _shortened(name, most=100):
    """A long path's beginning and end."""
    return name if len(name) <= most else f"{name[: most // 2]}...{name[-most // 2 + 3 :]}"


def _short_name(folder):
    return re.sub(r"[^\w.-]+", "-", folder.name).strip("-") or "images"
