"""Which channels of a layer matter: each is switched off in turn, and the loss and the accuracy are measured again.

Only the part of the network after the layer is computed again. After Morcos, Barrett, Rabinowitz and Botvinick, "On
the importance of single directions for generalization" (2018), who found that class-selective units matter no more than
others.
"""

import functools
from typing import Literal

import numpy as np
import pandas
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import spearmanr
from scipy.stats import t as student

from kerascnn.dataset_scan.scanned_layers import scanned_layers
from kerascnn.dataset_scan.statistics import selectivity_index
from kerascnn.errors import UsageError
from kerascnn.experiments import register
from kerascnn.experiments.kept import Kept, blocks
from kerascnn.experiments.labels import check_classes, checked_labels
from kerascnn.experiments.outcome import Outcome, mean_interval, told_interval
from kerascnn.explain.answers import probabilities
from kerascnn.explain.subjects import check_images, opaque_step
from kerascnn.explain.targets import score_value
from kerascnn.explain.walk import Task, needed_steps, run
from kerascnn.network.plan import make_plan
from kerascnn.plots import BLUE, ORANGE
from kerascnn.progress import Progress
from kerascnn.using.features import check_feature

FILLS = ("zero", "mean")
STEPS = 16  # points of a cumulative curve
IN_MEMORY = 1024  # images whose maps are in memory at a time, at most
NUMBERS = 2**28  # in these maps, at most
GROUP = 16  # channels that are measured and saved together


@register(source="Morcos, Barrett, Rabinowitz and Botvinick 2018")
def unit_ablation(model, images, labels, layer=None, *, fill="zero", batch_size=64, keep=None, say=None):
    """Loss and accuracy with each channel of a layer switched off, and with more and more of them.

    Args:
        model: keras.Model with one image input and one answer, class probabilities or scores.
        images: float (N, H, W, C) as the model takes them, or anything of that length that gives such arrays for
            slices; the layer's maps of at most 1,024 images are in memory at a time, of fewer if they are large.
        labels: int (N,), the true classes.
        layer: a layer's name; "conv1 (after relu)" for what the next layer sees of it. None: what the next layer sees
            of the deepest convolution.
        fill: the value that replaces a channel: "zero", or "mean" (its mean over all images and places).
        batch_size: images computed at once; the result does not depend on it.
        keep: folder in which what was measured is saved, so that a stopped experiment continues; None: none.
        say: called with lines of progress.
    Returns:
        Outcome. Table: channel, loss (mean negative log-likelihood without it), loss_change, low and high (95% interval
        over images of this change), accuracy, accuracy_change, selectivity (of Morcos et al., of the channel's means by
        class; nan if no mean is above 0), rank (1: the largest loss_change), images; channel -1 is the whole
        network. Table "cumulative": off and the two accuracies. Arrays: "loss" (channels, N) and, over the numbers of
        channels "off", the accuracies "most_important_first" and "least_important_first".
    Raises:
        UsageError: the layer or fill is unknown, the layer gives the class probabilities, or a label is not one of the
            network's classes.
    """
    chosen = scanned_layers(model, layer)[-1]
    plan = make_plan(model, opaque_step)
    check_feature(plan, chosen.name, chosen.value)
    if fill not in FILLS:
        raise UsageError(f"fill={fill!r} is not allowed: it must be {' or '.join(map(repr, FILLS))}.")
    labels = checked_labels(labels, len(images))

    one = Tail(plan, check_images(model, plan, np.asarray(images[:1])), chosen.value, batch_size)
    size = max(1, min(IN_MEMORY, NUMBERS // one.maps.size))

    @functools.lru_cache(1)
    def tail(start):
        few = check_images(model, plan, np.asarray(images[start : start + size]))
        return Tail(plan, few, chosen.value, batch_size)

    parts = blocks(len(images), size)
    kept = Kept(keep, model, images, labels, chosen.name, fill, size)
    channels = chosen.channels
    groups = blocks(channels, GROUP)
    kept.progress = Progress("part", len(parts) * (len(groups) + 3), say)
    whole = [kept.measure(f"whole {p.start}", lambda p=p: _whole(tail(p.start), labels[p])) for p in parts]
    loss, correct, means = (np.concatenate([each[key] for each in whole]) for key in ("loss", "correct", "means"))
    filling = np.zeros(channels) if fill == "zero" else means.mean(0)

    def of_group(part, group):
        each = [
            _judged(tail(part.start).without([channel], filling), labels[part])
            for channel in range(group.start, group.stop)
        ]
        return dict(zip(("loss", "correct"), map(np.array, zip(*each, strict=True)), strict=True))

    measured = [
        [kept.measure(f"channels {g.start} of {p.start}", lambda p=p, g=g: of_group(p, g)) for g in groups]
        for p in parts
    ]
    losses, hits = (
        np.concatenate([np.concatenate([each[key] for each in of_part]) for of_part in measured], 1)
        for key in ("loss", "correct")
    )
    table = _table(loss, correct, losses, hits, selectivity(means, labels))
    order = table["channel"].to_numpy()[1:][np.argsort(table["rank"].to_numpy()[1:], kind="stable")]
    off = np.unique(np.linspace(0, channels, min(STEPS, channels) + 1).astype(int))

    def course(part, first):
        return [_judged(tail(part.start).without(first[:n], filling), labels[part])[1].sum() for n in off]

    curves = {
        name: sum(kept.measure(f"{name} {p.start}", lambda p=p, first=first: course(p, first)) for p in parts)
        / len(labels)
        for name, first in (("most_important_first", order), ("least_important_first", order[::-1]))
    }
    arrays = {"loss": losses, "off": off, **curves}
    title = f"{model.name}, {chosen.name}: channels set to {fill}, {len(labels)} images"
    tables = {"cumulative": pandas.DataFrame({"off": off, **curves})}
    said = _findings(chosen.name, table)
    return Outcome("unit-ablation", table, said, lambda: _figure(table, arrays, title), arrays, tables)


def _whole(tail, labels):
    """{"loss": (N,), "correct": (N,), "means": (N, channels) over the places} of the whole network."""
    check_classes(labels, tail.whole.shape[1])
    loss, correct = _judged(tail.whole, labels)
    means = tail.maps.reshape(len(labels), -1, tail.channels).mean(1)
    return {"loss": loss, "correct": correct, "means": means}


class Tail:
    """The part of a network behind one value, to be computed again with channels of that value switched off.

    Attributes:
        maps: the value, float32 (N, ..., channels).
        whole: the network's own probabilities (N, classes).
    """

    def __init__(self, plan, arrays, value, batch_size):
        self.plan, self.batch_size = plan, batch_size
        end = score_value(plan)
        changed, steps = {value}, []
        for step in needed_steps(plan.steps, [end]):
            if step.output != value and changed.intersection(step.inputs):
                changed.add(step.output)
                steps.append(step)
        beside = {n for step in steps for n in step.inputs if n >= 0} - changed  # such as a shortcut around the layer
        self.task = Task(tuple(steps), (value, *sorted(beside)), (end,))
        first = Task(plan.steps, plan.inputs, (*self.task.inputs, end))
        (self.maps, *self.beside, scores), _ = run(plan, first, arrays, [], batch_size=batch_size)
        self.channels, self.whole = self.maps.shape[-1], probabilities(plan, scores)

    def without(self, channels, filling):
        """Probabilities (N, classes) with some channels set to their `filling` (channels,)."""
        maps = self.maps.copy()
        maps[..., channels] = filling[channels]
        if not self.task.steps:
            return probabilities(self.plan, maps)
        (scores,), _ = run(self.plan, self.task, [maps, *self.beside], [], batch_size=self.batch_size)
        return probabilities(self.plan, scores)


def _judged(answers, labels):
    """(loss (N,), correct (N,)) of class probabilities."""
    of_class = answers[np.arange(len(labels)), labels].astype("float64")
    return -np.log(np.maximum(of_class, 1e-30)), answers.argmax(1) == labels


def selectivity(maps, labels):
    """(channels,): each channel's class selectivity index, of maps (N, ..., channels)."""
    by_image = maps.reshape(len(maps), -1, maps.shape[-1]).mean(1)
    return selectivity_index(np.stack([by_image[labels == label].mean(0) for label in np.unique(labels)]))


def _table(loss, correct, losses, hits, selective):
    mean, low, high = mean_interval(losses - loss)
    table = pandas.DataFrame(
        {
            "channel": np.arange(len(losses)),
            "loss": losses.mean(1),
            "loss_change": mean,
            "low": low,
            "high": high,
            "accuracy": hits.mean(1),
            "accuracy_change": hits.mean(1) - correct.mean(),
            "selectivity": selective,
        }
    )
    table["rank"] = (-table["loss_change"]).rank(method="first").astype(int)
    whole = {"channel": -1, "loss": loss.mean(), "accuracy": correct.mean(), "rank": 0}
    table = pandas.concat([pandas.DataFrame([whole], columns=table.columns), table], ignore_index=True)
    table["images"] = len(loss)
    return table


def _findings(layer, table):
    units = table[table["channel"] >= 0]
    top = units.sort_values("rank").iloc[0]
    images = int(top["images"])
    rises, falls = _sure(units, images)
    sentences = [
        f"{layer}: channel {int(top['channel'])} matters most: without it the loss changes by "
        f"{top['loss_change']:+.4f} {told_interval(top['low'], top['high'], images, form='{:+.4f}')}, the accuracy by "
        f"{100 * top['accuracy_change']:+.1f} points.",
        f"{layer}: without one channel the loss rises measurably for {rises} of {len(units)} channels and falls "
        f"measurably for {falls}, at a level of 5% for all {len(units)} together (Bonferroni).",
    ]
    known = units.dropna(subset=["selectivity"])
    if len(known) > 3 and known["selectivity"].nunique() > 1 and known["loss_change"].nunique() > 1:
        correlation, chance = spearmanr(known["selectivity"], known["loss_change"])
        verdict = "a positive relation" if correlation > 0 else "a negative relation"
        verdict = "no measurable relation" if chance > 0.05 else verdict
        sentences.append(
            f"{layer}: {verdict} between a channel's class selectivity and how much it matters: rank correlation "
            f"{correlation:+.2f} over {len(known)} channels (p = {chance:.2g})."
        )
    return tuple(sentences)


def _sure(units, images):
    """(number of channels without which the loss rises, number of those without which it falls), so surely that all of
    them are right in 95% of such experiments: each at 5% divided by their number."""
    if images < 2:
        return 0, 0
    half = (units["high"] - units["low"]) / 2  # of each channel's own interval
    wider = student.ppf(1 - 0.025 / len(units), images - 1) / student.ppf(0.975, images - 1)
    change = units["loss_change"]
    return int((change > wider * half).sum()), int((change < -wider * half).sum())


def _figure(table, arrays, title):
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    ranked, curves, against = figure.subplots(1, 3)
    units = table[table["channel"] >= 0].sort_values("rank")
    ranked.fill_between(units["rank"], units["low"], units["high"], color=BLUE, alpha=0.3, linewidth=0)
    ranked.plot(units["rank"], units["loss_change"], color=BLUE)
    ranked.axhline(0, color="0.5", linewidth=1)
    for axes in (ranked, curves):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    ranked.set(xlabel="channels, the most important first", ylabel="change of the loss without it")
    for name, colour in (("most_important_first", ORANGE), ("least_important_first", BLUE)):
        curves.plot(arrays["off"], arrays[name], color=colour, marker="o", markersize=3, label=name.replace("_", " "))
    curves.set(xlabel="channels switched off", ylabel="accuracy", ylim=(0, 1))
    curves.legend(frameon=False, fontsize="small")
    against.scatter(units["selectivity"], units["loss_change"], s=12, color=BLUE)
    against.axhline(0, color="0.5", linewidth=1)
    against.set(xlabel="class selectivity", ylabel="change of the loss without it")
    for axes in (ranked, curves, against):
        axes.grid(alpha=0.25)
    figure.suptitle(title, fontsize="medium")
    return figure


def command(
    asked, *, layer: str | None = None, fill: Literal["zero", "mean"] = "zero", images: int = 1000, seed: int = 0
):
    """Measure which channels of a layer matter, by switching off each in turn.

    Parameters
    ----------
    layer
        a layer's name [default: the deepest convolution]
    fill
        value of a channel that is switched off: zero, or its mean over all images
    images
        how many test images to use
    seed
        seed for the choice of images
    """
    asked.need_labels("the loss needs")
    split = asked.some(images, seed)
    options = {"fill": fill, "keep": asked.kept("unit-ablation"), "say": asked.say}
    return unit_ablation(asked.model, asked.prepared(split), asked.labels(split), layer, **options)
