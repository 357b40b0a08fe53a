"""`kerascnn features`: what a layer computes from every image of a data set, for use in other programs."""

import importlib
import json
import zipfile
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from kerascnn import __version__, runs
from kerascnn.commands.sharding import check_absent, merge_hint, shard_file
from kerascnn.commands.terminal import Subject, check_subject, computing
from kerascnn.datasets.resize import sides_of
from kerascnn.errors import UsageError
from kerascnn.files import read_arrays
from kerascnn.shards import check_one_job, in_order, parse_shard, shard_range

ROWS = ("files", "labels", "splits")  # the columns beside the features with a row for each image
DIFFERENT = {  # what messages call the entries of a manifest
    "kerascnn": "the version of kerascnn",
    "computed_with": "the versions of Keras and its backend",
    "network": "the network's weights",
    "layer": "the layer",
    "scales": "the scales",
    "data": "the images or their labels",
}


def features(
    run: Subject,
    data: str,
    /,
    *,
    layer: str,
    scales: str | None = None,
    aggregate: Literal["mean", "stack"] = "mean",
    shard: str | None = None,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
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
    shard
        compute only this part of the images, such as 3/16; kerascnn merge combines all parts into one file
    aggregate
        what to do with several scales: take their mean, or stack them
    out
        .npz file with features, files, labels, class_names and splits, or .parquet file with a row for each image; for
        a shard, always .npz [default: features.npz, or for a shard features-03-of-16.npz]
    """
    part = None if shard is None else parse_shard(shard)
    out = out or Path("features.npz" if part is None else shard_file("features", part))
    check_target(out)
    if part:
        if out.suffix != ".npz":
            raise UsageError(
                f"--out {out} is not allowed for a shard: the name must end with .npz. kerascnn merge writes .parquet."
            )
        check_absent(out)
    sides = sides_of(scales)
    check_subject(run)
    with computing() as (say, _):
        import numpy as np

        from kerascnn import datasets
        from kerascnn.using.classifier import subject
        from kerascnn.using.features import BATCH_SIZE
        from kerascnn.using.features import features as of_images

        classifier = subject(run)
        prepared = classifier.preprocessing
        images, loaded = {}, None
        for side in sides or [prepared.image_size]:
            size = {"image_size": side, "channels": prepared.channels, **({"memory_limit": 0} if part else {})}
            loaded = datasets.load(data, **size, validation=0, test=0, training=False)
            images[side] = _Together(loaded.splits.values(), prepared.scale)
        columns, manifest = _columns(loaded), {}
        if part:
            rows = slice(*shard_range(part, len(columns["splits"]), BATCH_SIZE))
            manifest = _manifest(classifier.model, images, columns, layer, aggregate) | {"shard": part}
            images = {side: _Part(each, rows) for side, each in images.items()}
            columns |= {name: columns[name][rows] for name in ROWS}
        array = of_images(classifier.model, images, layer, aggregate=aggregate, say=say)
        write_features(out, {"features": array, **columns, "layer": np.array(layer)}, manifest)
        say(merge_hint(out, part) if part else written(out, array, layer))


def _columns(loaded):
    """{name: array}: files, labels and splits, a row for each image, where there are any; and class_names."""
    import numpy as np

    parts = loaded.splits.values()
    return {
        "files": np.array([file for split in parts for file in split.files]),
        "labels": np.concatenate([split.labels for split in parts]) if loaded.class_names else np.array([], int),
        "class_names": np.array(loaded.class_names),
        "splits": np.repeat(list(loaded.splits), [len(split) for split in parts]),
    }


def _manifest(model, images, columns, layer, aggregate):
    """What all shards of one job have in common; the images are identified by up to 64 of them."""
    import hashlib

    import numpy as np

    from kerascnn import backends
    from kerascnn.dataset_scan.scanning import checksum

    some, digest = next(iter(images.values())), hashlib.sha256()
    for name, column in columns.items():
        digest.update(f"{name} {column.tolist()}".encode("utf-8", "surrogateescape"))
    for number in np.unique(np.linspace(0, len(some) - 1, min(64, len(some))).astype(int)).tolist():
        digest.update(some[number : number + 1].tobytes())
    return {
        "kerascnn": __version__,
        "computed_with": backends.computed_with(),
        "network": checksum(model.weights),
        "layer": layer,
        "scales": [list(side) if isinstance(side, tuple) else side for side in images],
        "aggregate": aggregate,
        "data": digest.hexdigest(),
    }


def merge_features(shards, out, say):
    """Merge shards of features, names of NPZ files in any order, into one file."""
    import numpy as np

    parts = [read_arrays(shard, ["manifest", "class_names", "layer", *ROWS]) for shard in shards]
    manifests = [
        (shard, json.loads(arrays["manifest"].tobytes()) if "manifest" in arrays else {})
        for shard, arrays in zip(shards, parts, strict=True)
    ]
    check_one_job(manifests, "job", DIFFERENT)
    order = in_order([(name, manifest["shard"]) for name, manifest in manifests])
    columns = {name: np.concatenate([parts[place][name] for place in order]) for name in ROWS}
    columns = {name: columns.get(name, array) for name, array in parts[0].items() if name != "manifest"}
    features = _Features([shards[place] for place in order], [len(parts[place]["splits"]) for place in order])
    if out.suffix == ".parquet":
        features = np.concatenate(list(features))
    write_features(out, {"features": features, **columns}, {})
    say(written(out, features, columns["layer"]))


class _Features:
    """The features in the files of shards, in order, of which one is in memory at a time.

    Attributes:
        shape, dtype: of all together.
    """

    def __init__(self, shards, lengths):
        self.shards, first = shards, read_arrays(shards[0], ["features"])["features"]
        self.shape, self.dtype = (sum(lengths), first.shape[1]), first.dtype

    def __iter__(self):
        return (read_arrays(shard, ["features"])["features"] for shard in self.shards)


def written(out, array, layer):
    """What to say about a file of features."""
    return f"{out}: {array.shape[0]} images, {array.shape[1]} features of {layer}"


def check_target(out):
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


def write_features(out, arrays, manifest):
    """Write features and their columns; the manifest of a shard goes with them."""
    import numpy as np

    if out.suffix == ".parquet":
        _write_parquet(out, **arrays)
        return
    if manifest:
        arrays = arrays | {"manifest": np.frombuffer(json.dumps(manifest).encode(), "uint8")}
    with runs.replacing(out) as temporary, zipfile.ZipFile(temporary, "w") as file:
        for name, array in arrays.items():
            with file.open(f"{name}.npy", "w", force_zip64=True) as member:  # as np.savez does, but for _Features
                _write_array(member, array)


def _write_array(file, array):
    """Write an array, or `_Features`, in NumPy's format."""
    import numpy as np

    if not isinstance(array, _Features):
        np.lib.format.write_array(file, array, allow_pickle=False)
        return
    header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(file, header)
    for part in array:
        file.write(np.ascontiguousarray(part).data)


def _write_parquet(out, features, files, labels, class_names, splits, layer):
    """One row for each image: file (if there are files), split, label and class (if there are labels), and the features
    as a list."""
    import pandas

    table = {"file": files} if len(files) else {}
    table["split"] = splits
    if len(labels):
        table |= {"label": labels, "class": [class_names[label] for label in labels]}
    table = pandas.DataFrame(table)
    table["features"] = list(features)
    table.attrs["layer"] = str(layer)
    with runs.replacing(out) as temporary:
        table.to_parquet(temporary, engine="pyarrow", index=False)


class _Part:
    """A slice of the images of a `_Together`."""

    def __init__(self, together, part):
        self.together, self.first, self.count = together, part.start, part.stop - part.start

    def __len__(self):
        return self.count

    def __getitem__(self, part):
        start, stop, _ = part.indices(self.count)
        return self.together[self.first + start : self.first + stop]


class _Together:
    """The images of several splits as the network takes them, one after another, a slice at a time."""

    def __init__(self, splits, scale):
        self.splits, self.scale = list(splits), scale

    def __len__(self):
        return sum(map(len, self.splits))

    def __getitem__(self, part):
        import numpy as np

        start, stop, _ = part.indices(len(self))
        parts = []
        for split in self.splits:
            if start < len(split) and stop > 0:
                parts.append(split.images[max(start, 0) : min(stop, len(split))])
            start, stop = start - len(split), stop - len(split)
        return self.scale(np.concatenate(parts))
