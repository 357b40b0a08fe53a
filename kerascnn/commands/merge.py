"""`kerascnn merge`: what the jobs of an array have computed, each from its shard of the images, as one result."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kerascnn.commands.terminal import computing
from kerascnn.errors import UsageError, counted


def shard_file(what, shard):
    """What the file of a shard (i, n) is called, such as scan-03-of-16.npz."""
    number, count = shard
    return f"{what}-{number:0{len(str(count))}}-of-{count}.npz"


def check_absent(path):
    """Raise a UsageError if there is something at a path where nothing is to be replaced."""
    if path.exists():
        raise UsageError(f"{path} exists already. Name another --out, or delete it.")


def merge_hint(path, shard):
    """What to say when a shard is written: where it is, and how all become one."""
    name, count = path.name.split("-")[0], shard[1]
    pattern = path.with_name(f"{name}-*-of-{count}.npz")
    return f"{path}\nWhen all {count} are there: kerascnn merge {pattern} -o OUT"


def merge(
    *shards: str,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
):
    """Make one result of the shards of a scan or of features: the same numbers as without shards, bit for bit.

    Parameters
    ----------
    shards
        files that kerascnn scan or kerascnn features wrote with --shard, all of them, in any order
    out
        of scans: a folder for the tables, the sheets and scan.npz, or a file that ends with .npz for the scan alone; of
        features: a file that ends with .npz or .parquet
    """
    if not shards:
        raise UsageError("No shard was named. Type: kerascnn merge SHARD SHARD ... -o OUT")
    check_absent(out)
    for shard in shards:
        if not Path(shard).is_file():
            raise UsageError(f"There is no file {shard}.")
    with computing() as (say, _):
        _merge_scans(shards, out, say)


def _merge_scans(shards, out, say):
    import kerascnn
    from kerascnn.commands.scan import report_layers, write_classes, write_layer

    alone = out.suffix == ".npz"
    result = kerascnn.merge(shards, out=out if alone else out / "scan.npz")
    if not alone:
        for layer in result.layers:
            write_layer(result, layer, None, out)
        write_classes(result, out, say)
    report_layers(result)
    images, what = counted(result.manifest["images"], "image"), "the scan" if alone else "tables, sheets and scan.npz"
    say(f"\n{images}, of {counted(len(shards), 'shard')}; {what} in {out}")
