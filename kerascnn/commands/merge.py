"""`kerascnn merge`: what the jobs of an array have computed, each from its shard of the images, as one result."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kerascnn.commands.features import check_target, merge_features
from kerascnn.commands.scan import report_layers, write_classes, write_layer
from kerascnn.commands.sharding import check_absent
from kerascnn.commands.terminal import computing
from kerascnn.errors import UsageError, counted
from kerascnn.files import read_arrays


def merge(
    *shards: str,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
):
    """Merge the shards of a scan or of features into one result: the same numbers as without shards, bit for bit.

    Parameters
    ----------
    shards
        files that kerascnn scan or kerascnn features wrote with --shard, all of them, in any order
    out
        for scans, a folder for the tables, the sheets and scan.npz, or a .npz file for the scan alone; for features, a
        .npz or .parquet file
    """
    if not shards:
        raise UsageError("No shard was named. Type: kerascnn merge SHARD SHARD ... -o OUT")
    check_absent(out)
    for shard in shards:
        if not Path(shard).is_file():
            raise UsageError(f"There is no file {shard}.")
    of_features = "layer" in read_arrays(shards[0], ["layer"])
    if of_features:
        check_target(out)
    with computing() as (say, _):
        (merge_features if of_features else _merge_scans)(shards, out, say)


def _merge_scans(shards, out, say):
    import kerascnn

    alone = out.suffix == ".npz"
    result = kerascnn.merge(shards, out=out if alone else out / "scan.npz")
    if not alone:
        for layer in result.layers:
            write_layer(result, layer, None, out)
        write_classes(result, out, say)
    report_layers(result)
    images, what = counted(result.manifest["images"], "image"), "the scan" if alone else "tables, sheets and scan.npz"
    say(f"\n{images}, of {counted(len(shards), 'shard')}; {what} in {out}")
