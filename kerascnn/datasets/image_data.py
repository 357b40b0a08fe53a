"""ImageData: labelled images with their splits, class names and file names, kept together through every step."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from kerascnn import notebook
from kerascnn.errors import DataError, UsageError, counted

SHOWN = 12  # classes of which a notebook shows an image


@dataclass(frozen=True, eq=False)
class Split:
    """One split of a data set.

    Attributes:
        images: uint8 (N, H, W, C), an array, or an `ImageFiles` that decodes files on demand and is indexed like one.
        labels: int64 (N,), indices into the class names.
        files: N file names relative to the source, or () where images do not come from files of their own.
        masks: bool (N, H, W), True on the object, or None where nobody drew them.
    """

    images: object
    labels: np.ndarray
    files: tuple = ()
    masks: np.ndarray | None = None

    def __len__(self):
        return len(self.labels)

    def take(self, index):
        """The examples at `index` (an int array), in that order, as a Split."""
        index = np.asarray(index)
        return Split(
            self.images.take(index) if hasattr(self.images, "decode") else self.images[index],
            self.labels[index],
            tuple(self.files[i] for i in index) if self.files else (),
            None if self.masks is None else self.masks[index],
        )


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set: where it comes from, what its classes are called, and its splits.

    Attributes:
        name: short name, used in the names of run folders ("cifar10").
        source: where it was read from: a path, or words.
        class_names: one string a class; labels index it.
        train, validation, test: Splits; `validation` and `test` are None until they exist or `hold_out` makes them.
            `train` is None, or all labels are -1 and there are no class names, only where data need not be trained on.
        skipped: (file name, reason) of every file that was left out.
        notes: sentences about what was done on reading (ignored folders, a split that was made), for data.json.
        doubts: sentences about what may not be meant (folders merged into one class), with what to type.
    """

    name: str
    source: str
    class_names: tuple
    train: Split | None
    validation: Split | None = None
    test: Split | None = None
    skipped: tuple = ()
    notes: tuple = ()
    doubts: tuple = ()

    def __post_init__(self):
        repeated = sorted({name for name in self.class_names if self.class_names.count(name) > 1})
        if repeated:
            raise DataError(
                f"{self.source}: the class name {repeated[0]!r} occurs more than once; name every class once."
            )
        for split_name, split in self.splits.items():
            labels = split.labels
            if len(split.images) != len(labels):
                raise DataError(
                    f"{self.source}: the {split_name} split has {counted(len(split.images), 'image')} but "
                    f"{counted(len(labels), 'label')}."
                )
            unlabelled = not self.class_names and (labels == -1).all()
            if len(labels) and not unlabelled and not (labels.min() >= 0 and labels.max() < len(self.class_names)):
                raise DataError(
                    f"{self.source}: the {split_name} labels run from {labels.min()} to {labels.max()}, but there are "
                    f"{len(self.class_names)} classes, so only 0 to {len(self.class_names) - 1} are allowed."
                )

    def _repr_html_(self):
        rows = [(name, counted(len(split), "image")) for name, split in self.splits.items()]
        rows += [("size", "x".join(map(str, self.image_shape))), ("classes", len(self.class_names) or None)]
        rows += [("left out", counted(len(self.skipped), "file") if self.skipped else None)]
        split = next(iter(self.splits.values()))
        first = np.unique(split.labels, return_index=True)[1][:SHOWN]
        names = [self.class_names[label] if label >= 0 else "" for label in split.labels[first]]
        images = [notebook.picture(split.images[int(row)], name) for row, name in zip(first, names, strict=True)]
        return notebook.card(f"{self.name}: {self.source}", rows, images)

    @property
    def splits(self):
        """{"train": Split, ...}: the splits that exist, in that order."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}

    @property
    def image_shape(self):
        """(height, width, channels) of every image."""
        return tuple(next(iter(self.splits.values())).images.shape[1:])

    def replace(self, **changes):
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def arrays(self, split="train", *, mean=0.0, std=1.0):
        """(images, labels) for `model.fit`: float32 (N, H, W, C) scaled to (pixel / 255 - mean) / std, and int64 (N,).

        Args:
            split: "train", "validation" or "test".
            mean, std: numbers or arrays (C,), on the 0-to-1 scale; left alone, images run from 0 to 1.
        """
        if split not in self.splits:
            raise UsageError(f"This data has no split {split!r}; it has {', '.join(self.splits)}.")
        chosen = self.splits[split]
        images = np.asarray(chosen.images[:], "float32")
        images /= 255
        images -= np.asarray(mean, "float32")
        images /= np.asarray(std, "float32")
        return images, chosen.labels
