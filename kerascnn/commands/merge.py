"""`kerascnn merge`: what the jobs of an array have computed, each from its shard of the images, as one result."""

import contextlib
import json
import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kerascnn import runs
from kerascnn.commands.features import check_target, merge_features
from kerascnn.commands.scan import report_layers, write_classes, write_layer
from kerascnn.commands.sharding import check_absent
from kerascnn.commands.terminal import computing, json_text
from kerascnn.commands.using import as_json, as_table, check_read, print_evaluation, write_rows
from kerascnn.errors import DataError, UsageError, counted
from kerascnn.files import read_arrays


def merge(
    *shards: str,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
):
    """Merge the shards of a job into one result: the same numbers as without shards, bit for bit.

    Parameters
    ----------
    shards
        files that kerascnn scan, features, predict, evaluate or microscope wrote with --shard, all of them, in any
        order
    out
        for scans, a folder for the tables, the sheets and scan.npz, or a .npz file for the scan alone; for features, a
        .npz or .parquet file; for predict, a .csv or .json file, as with --csv or --json; for evaluate, a .csv file, as
        with --predictions, or a .json file, as with --json; for microscope, a new folder for the site
    """
    if not shards:
        raise UsageError("No shard was named. Type: kerascnn merge SHARD SHARD ... -o OUT")
    check_absent(out)
    for shard in shards:
        if not Path(shard).is_file():
            raise UsageError(f"There is no file {shard}.")
    if merge_shards(shards, out) == "microscope":
        print(
            f"To draw its pages, repeat the command of a shard with --out {shlex.quote(str(out))} and without --shard"
        )


def merge_shards(shards, out):
    """Merge files, say what came of it, and return their kind: a key of MERGED."""
    kind = _kind(shards[0])
    other = next((shard for shard in shards if _kind(shard) != kind), None)
    if other:
        raise DataError(f"{other} holds no {kind}, unlike {shards[0]}. Name files of one kind.")
    _check_name(kind, out)
    with computing() as (say, _):
        MERGED[kind](shards, out, say)
    return kind


def check_merged(command, out):
    """Raise a UsageError if the shards of a command cannot be merged into a file or folder of that name."""
    check_absent(out)
    _check_name({"predict": "predictions", "evaluate": "evaluation"}.get(command, command), out)


def _check_name(kind, out):
    if kind == "features":
        check_target(out)
    elif kind in ("predictions", "evaluation") and out.suffix not in (".csv", ".json"):
        raise UsageError(f"--out {out} is not allowed for the {kind} of shards: the name must end with .csv or .json.")


def _kind(shard):
    """What the file of a shard holds: a key of MERGED."""
    arrays = read_arrays(shard, ["layer", "manifest"])
    if "layer" in arrays:
        return "features"
    kind = json.loads(arrays["manifest"].tobytes()).get("kind") if "manifest" in arrays else None
    return kind if kind in MERGED else "scan"


def _merge_scans(shards, out, say):
    import kerascnn

    alone = out.suffix == ".npz"
    with contextlib.nullcontext(out) if alone else runs.replacing(out) as place:
        result = kerascnn.merge(shards, out=place if alone else place / "scan.npz")
        if not alone:
            for layer in result.layers:
                write_layer(result, layer, None, place)
            write_classes(result, place, say)
    report_layers(result)
    images, what = counted(result.manifest["images"], "image"), "the scan" if alone else "tables, sheets and scan.npz"
    say(f"\n{images}, of {counted(len(shards), 'shard')}; {what} in {out}")


def _merge_predictions(shards, out, say):
    from kerascnn.using.answer_shards import merged_predictions

    rows, broken = merged_predictions(shards)
    with runs.replacing(out) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
        if out.suffix == ".json":
            file.write(json_text(as_table(rows)) + "\n")
        else:
            write_rows(rows, file)
    say(f"{out}: {counted(len({row[0] for row in rows}), 'image')}, of {counted(len(shards), 'shard')}")
    check_read(broken)


def _merge_evaluation(shards, out, say):
    from kerascnn.using.answer_shards import merged_evaluation

    measured = merged_evaluation(shards)
    if out.suffix == ".json":
        runs.write_text(out, json_text(as_json(measured)) + "\n")
    else:
        runs.write_table(out, measured.predictions)
    print_evaluation(measured)
    say(f"\n{out}, of {counted(len(shards), 'shard')}")


def _merge_microscopes(shards, out, say):
    from kerascnn.pages.microscope import shards as passes

    with runs.replacing(out) as place:
        images = counted(passes.merge_shards(shards, place)["images"], "image")
    say(f"{out}: results of {images}, from {counted(len(shards), 'shard')}")


MERGED = {
    "scan": _merge_scans,
    "features": merge_features,
    "predictions": _merge_predictions,
    "evaluation": _merge_evaluation,
    "microscope": _merge_microscopes,
}
