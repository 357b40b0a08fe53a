"""Arrays in an .npz file, under the names that Keras uses (x_train, y_train, x_test, y_test) or the like.

Images are uint8 (N, H, W, C) or (N, H, W), integers from 0 to 255, or floats from 0 to 1; labels are integers (N,) or
(N, 1). An array `class_names` of strings is used if there is one. The file is read without pickle: an array of Python
objects, which could run a program, is refused.
"""

import re
from pathlib import Path

import numpy as np

from kerascnn.datasets import register
from kerascnn.datasets.image_data import ImageData, Split
from kerascnn.errors import DataError
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


@register(description="arrays in an .npz file: type its path", image_shape=None, num_classes=None, needs_path=True)
def npz(path):
    """The arrays of an .npz file."""
    path = Path(path)
    arrays = read_arrays(path)
    by_key = {key.lower(): key for key in arrays}
    splits = {}
    for split, keys in IMAGE_KEYS.items():
        image_key = next((by_key[k] for k in keys if k in by_key), None)
        label_key = next((by_key[k] for k in LABEL_KEYS[split] if k in by_key), None)
        if image_key is None and label_key is None:
            continue
        if image_key is None or label_key is None:
            raise DataError(
                f"{path} has {image_key or label_key!r} without its {'images' if image_key is None else 'labels'}. "
                f"{_expected(arrays)}"
            )
        images = as_images(arrays[image_key], f"{path}, {image_key}")
        labels = as_labels(arrays[label_key], len(images), f"{path}, {label_key}")
        splits[split] = Split(images, labels)
    if "train" not in splits:
        raise DataError(f"{path} has no training images. {_expected(arrays)}")
    shapes = {split: s.images.shape[1:] for split, s in splits.items()}
    if len(set(shapes.values())) > 1:
        words = ", ".join(f"{split} {shape}" for split, shape in shapes.items())
        raise DataError(f"{path}: the splits' images differ in shape: {words}.")
    return ImageData(
        name=re.sub(r"[^\w.-]+", "-", path.stem) or "npz",
        source=str(path),
        class_names=_class_names(arrays, by_key, splits, path),
        **splits,
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
    """int64 (count,) of an array of labels; DataError, beginning with `where`, if it cannot be one."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if not np.issubdtype(array.dtype, np.integer):
        raise DataError(f"{where}: labels must be integers (0, 1, 2 ...), not {array.dtype}. Use .astype('int64').")
    if array.shape != (count,):
        raise DataError(f"{where}: {count:,} images need labels of shape ({count},), these have {array.shape}.")
    return array.astype(np.int64)


def _class_names(arrays, by_key, splits, path):
    key = next((by_key[k] for k in NAME_KEYS if k in by_key), None)
    if key is not None and arrays[key].dtype.kind in "US" and arrays[key].ndim == 1:
        return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in arrays[key].tolist())
    classes = 1 + max(int(split.labels.max()) for split in splits.values())
    if classes > max(1000, len(splits["train"])):
        raise DataError(f"{path}: a label of {classes - 1:,} would mean {classes:,} classes; number them from 0 up.")
    if len(np.unique(splits["train"].labels)) < 2:
        only = splits["train"].labels[0]
        raise DataError(f"{path}: the training labels are all {only}; at least two are needed.")
    return tuple(str(i) for i in range(classes))
