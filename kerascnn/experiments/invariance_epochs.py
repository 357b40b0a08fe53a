"""How invariance grows during training: the area under the curves of `invariance`, after each of some epochs.

Zeiler and Fergus (2013) show figure 5 for a trained network only, and how features develop in figure 4.
"""

from pathlib import Path
from typing import Literal

import pandas

from kerascnn.errors import UsageError, counted
from kerascnn.experiments import register
from kerascnn.experiments.asked import layer_names
from kerascnn.experiments.invariance import COLOURS, FILLED, invariance, usual_layers
from kerascnn.experiments.kept import Kept
from kerascnn.experiments.kept_epochs import loaded, networks
from kerascnn.experiments.outcome import Outcome, mean_interval, told_interval
from kerascnn.plots import panel
from kerascnn.progress import Progress


@register(source="Zeiler and Fergus 2013, figures 4 and 5")
def invariance_epochs(
    models,
    images,
    labels=None,
    *,
    change="translation",
    amounts=None,
    layers=None,
    fill="zeros",
    batch_size=64,
    seed=0,
    keep=None,
    say=None,
):
    """How far the features of each layer move as images change, after each of some epochs of training.

    Args:
        models: {epochs done: keras.Model, or a function without arguments that gives one}, two or more.
        images, labels, change, amounts, layers, fill, batch_size, seed: as for `invariance`.
        keep: folder in which what was measured is saved, so that a stopped experiment continues; None: none.
        say: called with a line for each epoch.
    Returns:
        Outcome. Table: layer, epochs, area (mean relative distance over the amounts and the images), low and high (its
        95% interval), images. Arrays: "<layer>" (epochs, N), the mean over the amounts for each image.
    Raises:
        UsageError: there are fewer than two epochs; and as for `invariance`.
    """
    if len(models) < 2:
        raise UsageError(f"models holds {counted(len(models), 'epoch')}; two or more are needed to see a change.")
    order = sorted(models)
    last = loaded(models[order[-1]])
    names = usual_layers(last) if layers is None else layers
    progress = Progress("network", len(order), say)
    numbers_of = {}
    for epochs in order:
        model = last if epochs == order[-1] else loaded(models[epochs])
        kept = Kept(keep, model, images, labels, change, amounts, names, fill, batch_size, seed, progress=progress)

        def of_epoch(model=model):
            options = {"change": change, "amounts": amounts, "layers": names, "fill": fill}
            options |= {"batch_size": batch_size, "seed": seed}
            result = invariance(model, images, labels, **options)
            layers = list(result.tables["areas"]["layer"])
            return dict(zip(layers, result.arrays["relative"].mean(1), strict=True))

        def tell(areas, epochs=epochs):
            return f"epoch {epochs}: {', '.join(f'{name} {area.mean():.3f}' for name, area in areas.items())}"

        numbers_of[epochs] = dict(kept.measure(f"epoch {epochs}", of_epoch, tell))
    arrays = {name: [numbers_of[epochs][name] for epochs in order] for name in numbers_of[order[0]]}
    rows = [
        (name, epochs, *mean_interval(area), len(area))
        for name, values in arrays.items()
        for epochs, area in zip(order, values, strict=True)
    ]
    table = pandas.DataFrame(rows, columns=["layer", "epochs", "area", "low", "high", "images"])
    title = f"{last.name}: {change}{f', border {fill}' if change in FILLED else ''}"
    name = f"invariance-epochs-{change}"
    return Outcome(name, table, _findings(order, arrays), lambda: _figure(table, title), arrays)


def _findings(order, arrays):
    """How each layer's area changes from the first of the epochs to the last."""
    said = []
    for name, values in arrays.items():
        mean, low, high = mean_interval(values[-1] - values[0])
        verdict = "rises" if low > 0 else "falls" if high < 0 else "does not measurably change"
        said.append(
            f"{name}: mean relative distance {verdict} from epoch {order[0]} to epoch {order[-1]}: "
            f"{values[0].mean():.3f} to {values[-1].mean():.3f}, {mean:+.3f} "
            f"{told_interval(low, high, len(values[0]), form='{:+.3f}')}."
        )
    return tuple(said)


def _figure(table, title):
    title = f"{title}\nmean of {table['images'].iloc[0]} images with its 95% band"
    figure, axes = panel(6.4, 4, title, xlabel="epochs done", ylabel="mean relative distance of the features")
    order = sorted(set(table["epochs"]))
    for number, (name, rows) in enumerate(table.groupby("layer", sort=False)):
        colour = COLOURS[number % len(COLOURS)]
        axes.fill_between(range(len(order)), rows["low"], rows["high"], color=colour, alpha=0.2, linewidth=0)
        axes.plot(range(len(order)), rows["area"], color=colour, marker="o", markersize=4, label=name)
    axes.set_xticks(range(len(order)), order)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize="small")
    return figure


def command(
    asked,
    *,
    epochs: Path | None = None,
    change: Literal[
        "translation", "horizontal", "scale", "rotation", "brightness", "contrast", "blur", "noise"
    ] = "translation",
    amounts: tuple[float, ...] = (),
    layers: str | None = None,
    fill: Literal["zeros", "mirror", "mean"] = "zeros",
    images: int = 100,
    seed: int = 0,
):
    """Measure how far layers' features move as images change, after each of the epochs that were kept of a training.

    Parameters
    ----------
    epochs
        folder with networks that are named after the number of epochs done, such as 5.keras [default: those that
        kerascnn experiment evolution kept of this run]
    change
        what to do to the images
    amounts
        how much, in the unit of the change: pixels, scale factor, degrees or standard deviations
    layers
        names of layers, separated by commas
    fill
        what comes in over the border
    images
        how many test images to use
    seed
        seed for the choice of images and for the noise
    """
    folder = epochs or Path(asked.classifier.folder) / "experiments" / "evolution" / "epochs"
    models = networks(folder)
    if len(models) < 2:
        raise UsageError(
            f"{folder} holds {counted(len(models), 'network')} named after epochs, such as 5.keras; two or more are "
            "needed. To train the run again and keep some: kerascnn experiment evolution RUN"
        )
    split = asked.some(images, seed)
    options = {"change": change, "amounts": amounts or None, "layers": layer_names(layers), "fill": fill, "seed": seed}
    options |= {"keep": asked.kept("invariance-epochs"), "say": asked.say}
    return invariance_epochs(models, asked.prepared(split), asked.labels_if_known(split), **options)
