"""`kerascnn features`: what a layer computes from every image of a data set, for use in other programs."""

import importlib
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from kerascnn import runs
from kerascnn.commands.terminal import Subject, check_subject, computing
from kerascnn.datasets.resize import sides_of
from kerascnn.errors import UsageError


def features(
    run: Subject,
    data: str,
    /,
    *,
    layer: str,
    scales: str | None = None,
    aggregate: Literal["mean", "stack"] = "mean",
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("features.npz"),
):
    """Write the features of all images of a data set at a layer, averaged over places, mirror images and scales.

    Dense layers are applied as convolutions, so images may be larger than the network's own input. Each feature has
    length 1.

    Parameters
    ----------
    data
        a data set's name, a folder or a file
    layer
        a layer's name, such as that of the last layer before the scores (kerascnn table RUN)
    scales
        sides that images are resized to, pixels, separated by commas, such as 256,384,512 [default: the network's own]
    aggregate
        what to do with several scales: take their mean, or stack them
    out
        .npz file with features, files, labels, class_names and splits, or .parquet file with a row for each image
    """
    _check(out)
    sides = sides_of(scales)
    check_subject(run)
    with computing() as (say, _):
        import numpy as np

        from kerascnn import datasets
        from kerascnn.using.classifier import subject
        from kerascnn.using.features import features as of_images

        classifier = subject(run)
        prepared = classifier.preprocessing
        images, loaded = {}, None
        for side in sides or [prepared.image_size]:
            size = {"image_size": side, "channels": prepared.channels}
            loaded = datasets.load(data, **size, validation=0, test=0, training=False)
            images[side] = _Together(loaded.splits.values(), prepared.scale)
        found = of_images(classifier.model, images, layer, aggregate=aggregate, say=say)
        parts = loaded.splits.values()
        files = [file for split in parts for file in split.files]
        labels = np.concatenate([split.labels for split in parts]) if loaded.class_names else np.array([], int)
        splits = np.repeat(list(loaded.splits), [len(split) for split in parts])
        write = _write_parquet if out.suffix == ".parquet" else _write_npz
        write(out, found, files, labels, loaded.class_names, splits, layer)
        say(f"{out}: {found.shape[0]} images, {found.shape[1]} features of {layer}")


def _check(out):
    """Raise a UsageError if no features can be written to a file of that name."""
    if out.suffix not in (".npz", ".parquet"):
        raise UsageError(
            f"--out {out} is not allowed: the name must end with .npz, which NumPy reads, or .parquet, which pandas "
            "and databases read."
        )
    if out.suffix == ".parquet":
        try:
            importlib.import_module("pyarrow")
        except ImportError:
            raise UsageError(
                f"--out {out} needs pyarrow: pip install 'kerascnn[parquet]'. Without it, give a name that ends with "
                ".npz."
            ) from None


def _write_npz(out, found, files, labels, class_names, splits, layer):
    import numpy as np

    arrays = {"features": found, "files": np.array(files), "labels": labels, "class_names": np.array(class_names)}
    with runs.replacing(out) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays, splits=splits, layer=np.array(layer))


def _write_parquet(out, found, files, labels, class_names, splits, layer):
    """One row for each image: file, split, label and class (if there are labels), and the features as a list."""
    import pandas

    table = {"file": files, "split": splits}
    if len(labels):
        table |= {"label": labels, "class": [class_names[label] for label in labels]}
    table = pandas.DataFrame(table)
    table["features"] = list(found)
    table.attrs["layer"] = layer
    with runs.replacing(out) as temporary:
        table.to_parquet(temporary, engine="pyarrow", index=False)


class _Together:
    """The images of several splits as the network takes them, one after another, a slice at a time."""

    def __init__(self, splits, scale):
        self.splits, self.scale = list(splits), scale

    def __len__(self):
        return sum(map(len, self.splits))

    def __getitem__(self, part):
        import numpy as np

        start, stop, _ = part.indices(len(self))
        found = []
        for split in self.splits:
            if start < len(split) and stop > 0:
                found.append(split.images[max(start, 0) : min(stop, len(split))])
            start, stop = start - len(split), stop - len(split)
        return self.scale(np.concatenate(found))
