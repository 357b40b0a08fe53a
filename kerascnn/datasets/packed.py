"""Image files in shards that `kerascnn data pack` wrote: they are read as the folder that was packed."""

import numpy as np

from kerascnn.datasets import register
from kerascnn.datasets.image_data import ImageData, Split
from kerascnn.datasets.shard_index import PackedFiles, is_packed, pack_at
from kerascnn.errors import DataError, UsageError


def recognises(path):
    """ "packed" for a folder of shards with their index."""
    return "packed" if path.is_dir() and is_packed(path) else None


@register(description="image files in tar shards (kerascnn data pack): type its path", needs_path=True)
def packed(path, *, classes=None, training=True):
    """The data that were packed: the same images, labels, names, splits and notes, in the same order.

    Args:
        classes: as it was when the data were packed.
        training: False also takes data that cannot be trained on, and the classes as packed if none are given.
    """
    pack = pack_at(path)
    if classes != pack.head["classes"] and (training or classes is not None):
        raise UsageError(
            f"classes={classes!r} is not allowed: {path} was packed with classes={pack.head['classes']!r}. Give the "
            "same, or pack the data again."
        )
    if training and pack.head["problem"]:
        raise DataError(f"{path} was packed from data that cannot be trained on. {pack.head['problem']}")
    splits = {}
    for number, name in enumerate(("train", "validation", "test")):
        rows = np.flatnonzero(pack.split == number)
        if len(rows):
            files = tuple(pack.names[row] for row in rows)
            splits[name] = Split(PackedFiles(path, pack.names, index=rows), pack.label[rows].astype("int64"), files)
    return ImageData(
        name=pack.head["name"],
        source=str(path),
        class_names=tuple(pack.head["class_names"]),
        notes=tuple(pack.head["notes"]),
        doubts=tuple(pack.head["doubts"]),
        **{"train": None} | splits,
    )
