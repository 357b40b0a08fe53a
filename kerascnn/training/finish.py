"""What comes after the last step: best.keras, the test result, the plots, seconds and memory."""

import gc
import os
import resource
import sys
import time

import pandas

from kerascnn import plots, runs
from kerascnn.datasets.preprocessing import Preprocessing
from kerascnn.errors import counted
from kerascnn.keras_file import load
from kerascnn.training import record
from kerascnn.training.build import network, without_weights
from kerascnn.training.evaluate import evaluate_split
from kerascnn.training.fold import fold
from kerascnn.training.resume import BEST


def write_best(run, recipe):
    """Write best.keras, the best weights in a float32 network, and return it; None where none are best yet."""
    weights = run / "checkpoint" / BEST
    if not weights.exists():
        return None
    data = run.read("data")
    prepared = Preprocessing.from_dict(data["preprocessing"])
    shapes = (*prepared.image_size, prepared.channels), len(data["class_names"])
    recipe = without_weights(recipe)
    final = network(recipe, *shapes)
    final.load_weights(weights)
    if recipe.fold_norm:
        final = fold(final, network(recipe.replace(fold_norm=False), *shapes))
    with runs.replacing(run / "best.keras") as temporary:
        final.save(temporary)
    return final


def fetch_best(run):
    """Bring a finished run's best weights back from best.keras, so that later epochs are compared with them."""
    if (run / "best.keras").exists() and not (run / "checkpoint" / BEST).exists():
        fetched = run / "checkpoint" / f"fetched.{BEST}"  # Keras wants the suffix
        load(run).save_weights(fetched)
        os.replace(fetched, run / "checkpoint" / BEST)


def delete_checkpoints(run, recipe, *, stopped):
    """Delete what going on needs no more, once a run has finished: all checkpoints but the last, where more epochs can
    follow, and the best weights, which best.keras holds.

    Args:
        stopped: whether its patience or a callback ended the run: then, as under a schedule, nothing can follow.
    """
    states = sorted((run / "checkpoint").glob("state-*.npz"))
    longer = recipe.schedule == "constant" and not stopped
    for path in states[:-1] if longer else states:
        path.unlink()
    if not (longer and recipe.fold_norm):  # whose best.keras holds folded weights
        (run / "checkpoint" / BEST).unlink(missing_ok=True)


def results(run, recipe, final, data, prepared, *, test=True):
    """Evaluate the weights that are kept once on the test split, draw the plots, and return the result for run.json.

    It has the rows of metrics.csv of the best epoch and of the last, and the epoch whose weights are kept.

    Args:
        test: False leaves the test split unread, as searches do.
    """
    metrics = pandas.read_csv(run / "metrics.csv")
    title = f"{recipe.model} on {data.name}"
    for quantity in ("loss", "accuracy"):
        extra = ("nll", "val_nll") if quantity == "loss" else ()
        columns = [c for c in ("epoch", quantity, f"val_{quantity}", *extra) if c in metrics]
        plots.save(
            plots.learning_curve(metrics, quantity, f"{title}: {quantity}"),
            metrics[columns],
            run / "plots" / f"{quantity}.png",
        )
    chosen = metrics[recipe.monitor]
    best = int(chosen.idxmin() if "loss" in recipe.monitor else chosen.idxmax())
    last = len(metrics) - 1
    kept = best if recipe.keep == "best" else last
    return {
        **(_tested(run, recipe, final, data, prepared) if test else {}),
        "best_epoch": int(metrics["epoch"][best]) + 1,
        "kept_epoch": int(metrics["epoch"][kept]) + 1,
        recipe.monitor: float(chosen[kept]),
        **({"val_nll": float(metrics["val_nll"][kept])} if "val_nll" in metrics else {}),
        "epochs": len(metrics),
        "best": metrics.drop(columns="epoch").iloc[best].to_dict(),
        "last": metrics.drop(columns="epoch").iloc[last].to_dict(),
    }


def _tested(run, recipe, final, data, prepared):
    """Evaluate the best weights on the test split and draw the confusion matrix; returns the numbers for run.json."""
    views = {"mirrored": recipe.test_flip, "shifted": recipe.test_shift}
    measured = evaluate_split(final, data.test, prepared, data.class_names, **views)
    record.keep(run, measured, data.test.images)
    plots.save(
        plots.confusion(measured.confusion, f"{recipe.model} on {data.name}: {counted(measured.images, 'test image')}"),
        measured.confusion,
        run / "plots" / "confusion.png",
    )
    return measured.to_dict()


def spent(began):
    """Seconds since `began` (of `time.monotonic`), and peak resident memory of this process, for run.json."""
    gc.collect()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"seconds": round(time.monotonic() - began, 2), "peak_memory_bytes": peak}
