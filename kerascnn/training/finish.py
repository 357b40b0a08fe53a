"""What comes after the last step: best.keras, the test result, the plots, seconds and memory."""

import gc
import os
import resource
import sys
import time

import numpy as np
import pandas

from kerascnn import plots, runs
from kerascnn.datasets.preprocessing import Preprocessing
from kerascnn.errors import counted
from kerascnn.keras_file import load
from kerascnn.training import record
from kerascnn.training.build import network, without_weights
from kerascnn.training.evaluate import evaluate_split, views_of
from kerascnn.training.fold import fold
from kerascnn.training.resume import BEST

MOST_TRAINING = 10_000  # training images that are evaluated at the end


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
    """Delete what resuming no longer needs, once a run has finished: all checkpoints but the last, where more epochs
    can follow, and the best weights, which best.keras holds.

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

    It has the rows of metrics.csv of the best epoch and of the last, and the epoch whose weights are kept; where a
    period is not an epoch, the steps done by then, too; and how good these weights are on the training images. Where
    the test split was watched, it says so.

    Args:
        test: False leaves the test split unread, as searches do, and has no numbers of the training images.
    """
    metrics = pandas.read_csv(run / "metrics.csv")
    _draw_curves(run, metrics, f"{recipe.model} on {data.name}")
    chosen = metrics[recipe.monitor]
    best = int(chosen.idxmin() if "loss" in recipe.monitor else chosen.idxmax())
    last = len(metrics) - 1
    kept = best if recipe.keep == "best" else last
    unit, done = plots.axis(metrics)
    steps = {name: int(done[row]) for name, row in (("best_step", best), ("kept_step", kept), ("steps", last))}
    rows = metrics.drop(columns=["epoch", "step"], errors="ignore")
    return {
        **(_tested(run, recipe, final, data, prepared) if test else {}),
        **({"test_watched": True} if test and recipe.test_curve else {}),
        **({"train": _on_training(final, data, prepared)} if test else {}),
        "best_epoch": best + 1,
        "kept_epoch": kept + 1,
        recipe.monitor: float(chosen[kept]),
        **({"val_nll": float(metrics["val_nll"][kept])} if "val_nll" in metrics else {}),
        "epochs": len(metrics),
        **(steps if unit == "steps" else {}),
        "best": rows.iloc[best].to_dict(),
        "last": rows.iloc[last].to_dict(),
    }


def _draw_curves(run, metrics, title):
    """Draw loss and accuracy, and top-5 where it was measured, of all splits in one figure each."""
    words = {"loss": "loss", "accuracy": "accuracy", "top5": "top-5 accuracy"}
    for quantity, word in words.items():
        named = [quantity, "nll"] if quantity == "loss" else [quantity]
        series = [f"{prefix}{name}" for name in named for prefix in ("", "val_", "test_")]
        columns = [c for c in ("epoch", "step", *series) if c in metrics]
        if quantity in metrics:
            figure = plots.learning_curve(metrics, quantity, f"{title}: {word}")
            plots.save(figure, metrics[columns], run / "plots" / f"{quantity}.png")


def _tested(run, recipe, final, data, prepared):
    """Evaluate the best weights on the test split and draw the confusion matrix; returns the numbers for run.json."""
    measured = evaluate_split(final, data.test, prepared, data.class_names, **views_of(recipe))
    record.keep(run, measured, data.test.images)
    plots.save(
        plots.confusion(measured.confusion, f"{recipe.model} on {data.name}: {counted(measured.images, 'test image')}"),
        measured.confusion,
        run / "plots" / "confusion.png",
    )
    return measured.to_dict()


def _on_training(final, data, prepared):
    """How good the weights are on the training images as they are, without augmentation and dropout, one view of each;
    at most `MOST_TRAINING` of them, evenly spread."""
    split = data.train
    if len(split) > MOST_TRAINING:
        split = split.take(np.linspace(0, len(split) - 1, MOST_TRAINING).astype(int))
    measured = evaluate_split(final, split, prepared, data.class_names).to_dict()
    return {name: measured[name] for name in ("images", "loss", "accuracy", "top5")}


def spent(began):
    """Seconds since `began` (of `time.monotonic`), and peak resident memory of this process, for run.json."""
    gc.collect()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"seconds": round(time.monotonic() - began, 2), "peak_memory_bytes": peak}
