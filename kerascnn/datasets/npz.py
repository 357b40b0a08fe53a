"""Arrays in an .npz file, under the names that Keras uses (x_train, y_train, x_test, y_test) or the like.

Images are uint8 (N, H, W, C) or (N, H, W), integers from 0 to 255, or floats from 0 to 1. Labels are whole numbers or
words, (N,) or (N, 1), or one-hot rows (N, num_classes), of any dtype. An array `class_names` of strings is used if
there is one. The file is read without pickle: an array of Python objects, which could run a program, is refused.
"""

import re
import unicodedata
from pathlib import Path

import numpy as np

from kerascnn.datasets import register
from kerascnn.datasets.image_data import ImageData, Split
from kerascnn.errors import DataError, UsageError, counted
from kerascnn.files import read_arrays

IMAGE_KEYS = {
    "train": ("x_train", "train_images", "images_train", "train_x", "images", "x", "image", "data"),
    "validation": ("x_val", "x_valid", "x_validation", "val_images", "validation_images", "images_val"),
    "test": ("x_test", "test_images", "images_test", "test_x"),
}
LABEL_KEYS = {
    "train": ("y_train", "train_labels", "labels_train", "train_y", "labels", "y", "label", "targets", "target"),
    "validation": ("y_val", "y_valid", "y_validation", "val_labels", "validation_labels", "labels_val"),
    "test": ("y_test", "test_labels", "labels_test", "test_y"),
}
NAME_KEYS = ("class_names", "classes", "label_names", "target_names")


def recognises(path):
    """ "npz" for a file called something.npz."""
    return "npz" if path.is_file() and path.suffix.lower() == ".npz" else None


@register(description="arrays in an .npz file: type its path", needs_path=True)
def npz(path, *, classes=None, training=True):
    """The arrays of an .npz file.

    Args:
        classes: "present" makes classes only of the labels that occur, such as 1 to 26; None of all from 0 to the
            largest.
        training: False takes what cannot be trained on: one class, test images alone, or images without labels, whose
            labels are then -1.
    """
    if classes not in (None, "present"):
        raise UsageError(f"classes={classes!r} is not allowed for an .npz file. Allowed: present.")
    path = Path(path)
    arrays = read_arrays(path)
    by_key = {key.lower(): key for key in arrays}
    images, labels, notes = {}, {}, []
    for split, keys in IMAGE_KEYS.items():
        image_key = next((by_key[k] for k in keys if k in by_key), None)
        label_key = next((by_key[k] for k in LABEL_KEYS[split] if k in by_key), None)
        if image_key is None and label_key is None:
            continue
        if image_key is None or (label_key is None and training):
            raise DataError(
                f"{path} has {image_key or label_key!r} without its {'images' if image_key is None else 'labels'}. "
                f"{_expected(arrays)}"
            )
        images[split] = as_images(arrays[image_key], f"{path}, {image_key}")
        if label_key is not None:
            labels[split] = as_labels(arrays[label_key], len(images[split]), f"{path}, {label_key}")
    if "train" not in images and (training or not images):
        raise DataError(f"{path} has no training images. {_expected(arrays)}")
    shapes = {split: array.shape[1:] for split, array in images.items()}
    if len(set(shapes.values())) > 1:
        words = ", ".join(f"{split} {shape}" for split, shape in shapes.items())
        raise DataError(f"{path}: the splits' images differ in shape: {words}.")
    if labels:
        if labels.keys() < images.keys():
            notes.append(f"Left out, without labels: {', '.join(images.keys() - labels.keys())}.")
        key = next((by_key[k] for k in NAME_KEYS if k in by_key), None)
        named = arrays[key] if key is not None else np.zeros(0)
        names = [as_text(name) for name in named.tolist()] if named.dtype.kind in "US" and named.ndim == 1 else None
        labels, class_names, doubts = number_labels(labels, names, path, classes, training)
    else:
        labels, class_names, doubts = {s: np.full(len(array), -1, np.int64) for s, array in images.items()}, (), ()
    return ImageData(
        name=re.sub(r"[^\w.-]+", "-", path.stem) or "npz",
        source=str(path),
        class_names=class_names,
        notes=tuple(notes),
        doubts=doubts,
        **{"train": None} | {split: Split(images[split], labels[split]) for split in labels},
    )


def _expected(arrays):
    return (
        "Images and labels are expected as x_train, y_train and, if there are any, x_test, y_test; "
        f"it holds {', '.join(arrays) or 'nothing'}."
    )


def as_images(array, where):
    """uint8 (N, H, W, 1 or 3) of an array of images; DataError, beginning with `where`, if it cannot be one."""
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[-1] not in (1, 3) or 0 in array.shape:
        raise DataError(
            f"{where}: the images' shape is {array.shape}; (N, height, width), (N, height, width, 1) or "
            "(N, height, width, 3) is expected, at least one image, channels last."
        )
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if np.issubdtype(array.dtype, np.integer):
        low, high = int(array.min()), int(array.max())
        if low < 0 or high > 255:
            raise DataError(f"{where}: integer pixels must be from 0 to 255, these run from {low} to {high}.")
        return array.astype(np.uint8)
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"{where}: images must be integers or floats, not {array.dtype}.")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # also catches NaN
        raise DataError(
            f"{where}: float pixels must be from 0 to 1, these run from {low:g} to {high:g}. "
            "Save them as uint8 from 0 to 255."
        )
    return np.round(array * 255).astype(np.uint8)


def as_labels(array, count, where):
    """Labels as int64 (count,), as words str (count,), or as one-hot rows bool (count, num_classes).

    Raises:
        DataError: the array cannot be one of these; the message begins with `where`.
    """
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.shape[:1] != (count,) or array.ndim > 2:
        raise DataError(
            f"{where}: {counted(count, 'image')} need labels of shape ({count},), or one-hot ({count}, num_classes); "
            f"these have {array.shape}."
        )
    if array.ndim == 2:
        if array.dtype.kind not in "biuf" or not (((array == 0) | (array == 1)).all() and (array.sum(1) == 1).all()):
            raise DataError(
                f"{where}: labels of shape {array.shape} must be one-hot, each row one 1 and otherwise 0. Save the "
                "number of each image's class instead: labels.argmax(1)."
            )
        return array == 1
    if array.dtype.kind in "US":
        return np.array([as_text(word) for word in array.tolist()], str)
    if array.dtype.kind == "f":
        numbers = array.astype(np.float64)
        if ((numbers == np.round(numbers)) & (abs(numbers) < 2**53)).all():
            array = numbers.astype(np.int64)
    if array.dtype.kind not in "biu" or (array.dtype == np.uint64 and array.max() > 2**62):
        raise DataError(
            f"{where}: labels must be whole numbers (0, 1, 2 ...), words or one-hot rows, not {array.dtype}"
            f"{f' such as {array[0]}' if count else ''}."
        )
    return array.astype(np.int64)


def as_text(word):
    """A label's or class's name as text that can be saved: accents composed (NFC), other bytes as \\xe9."""
    word = word if isinstance(word, bytes) else word.encode("utf-8", "backslashreplace")
    return unicodedata.normalize("NFC", word.decode("utf-8", "backslashreplace"))


def number_labels(labels, names, path, classes, training):
    """({split: int64 (N,)}, class names, doubts) of what `as_labels` gives for each split.

    Args:
        labels: {split: int64 (N,), str (N,) or bool (N, num_classes)}.
        names: the class names in the file, or None.
        path: of the file, for messages.
        classes, training: as of `npz`.
    """
    kinds = {"words" if array.dtype.kind == "U" else "numbers" for array in labels.values()}
    if len(kinds) > 1:
        raise DataError(f"{path}: the labels are words in one split and numbers in another. Save all in one way.")
    widths = {array.shape[1] for array in labels.values() if array.ndim == 2}
    if len(widths) > 1:
        raise DataError(f"{path}: the one-hot labels have {' and '.join(map(str, sorted(widths)))} classes. Use one.")
    labels = {split: array.argmax(1) if array.ndim == 2 else array for split, array in labels.items()}
    known = labels["train"] if training else np.concatenate([*labels.values()])
    if training and len(np.unique(known)) < 2:
        raise DataError(f"{path}: the training labels are all {known[0]}; at least two are needed.")
    if kinds == {"words"}:
        names = tuple(names or sorted(set(known.tolist()), key=_word_order))
        if classes == "present":
            occurring = set().union(*(words.tolist() for words in labels.values()))
            names = tuple(name for name in names if name in occurring)
        place = {name: number for number, name in enumerate(names)}
        for split, words in labels.items():
            extra = sorted(set(words.tolist()) - set(names))
            if extra:
                raise DataError(
                    f"{path}: the {split} labels have {extra[0]!r}, but the classes are {', '.join(names[:10])}"
                    f"{', ...' if len(names) > 10 else ''}."
                )
        numbered = {split: np.array([place[word] for word in words.tolist()]) for split, words in labels.items()}
        return numbered, names, ()
    present = np.unique(np.concatenate([*labels.values()]))
    if classes == "present":
        names = _names_of(present, names)
        return {split: np.searchsorted(present, array) for split, array in labels.items()}, names, ()
    return labels, *_numbered_from_zero(present, names, max(widths, default=0), path, len(known))


def _word_order(word):
    return (0, int(word), word) if word.isdecimal() else (1, 0, word)


def _names_of(present, names):
    """The names of the labels that occur: the file's, by their numbers or, where there are as many, in their order."""
    if names and len(names) == len(present):
        return tuple(names)
    if names and present[0] >= 0 and present[-1] < len(names):
        return tuple(names[label] for label in present)
    return tuple(str(label) for label in present)


def _numbered_from_zero(present, names, width, path, count):
    """(class names, doubts) where each number from 0 to the largest label, or each of the names, is a class."""
    low, high = int(present[0]), int(present[-1])
    cure = "To make classes only of the labels that occur, give classes='present'"
    if low < 0 or (names and high >= len(names)):
        limit = f", but there are {len(names)} class names" if names else ""
        raise DataError(f"{path}: the labels run from {low} to {high}{limit}. Number them from 0 up. {cure}")
    if names or width:
        return tuple(names or map(str, range(width))), ()
    if high >= max(1000, count):
        raise DataError(f"{path}: a label of {high:,} would mean {high + 1:,} classes; number them from 0 up. {cure}")
    absent = np.setdiff1d(np.arange(high + 1), present)
    doubts = ()
    if len(absent):
        listed = ("labels " if len(absent) > 1 else "label ") + ", ".join(map(str, absent[:5]))
        listed += " ..." if len(absent) > 5 else ""
        doubts = (
            f"The labels run from {low} to {high} and no image has the {listed}, so {high + 1:,} classes are "
            f"made, {len(absent):,} of them without an image. {cure}",
        )
    return tuple(map(str, range(high + 1))), doubts
