"""Activation statistics on a fixed probe set through training, as curves and as ridges of histograms (COMP 576)."""

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kerascnn import runs
from kerascnn.callbacks import register
from kerascnn.callbacks.watching import Watch, spread
from kerascnn.dataset_scan.scanning import scan
from kerascnn.dataset_scan.statistics import on_one_scale
from kerascnn.errors import counted
from kerascnn.plots import BLUE, SKY

COLUMNS = ("max", "mean", "std", "zeros")
LABELS = {"max": "largest activation", "mean": "mean", "std": "standard deviation", "zeros": "share of zeros"}


class ActivationStats(Watch):
    """Maximum, mean, standard deviation, share of zeros and histogram of chosen layers on the same images each time.

    Writes activations.csv (one row a look and layer), activations.png (curves) and ridge-<layer>.png (histograms over
    time); the histograms themselves are in the NPZ files, `counts` (layers, bins) with `edges`.

    Args:
        images: float (N, H, W, C) as the model takes them, the probe set; a few hundred are enough.
        layers: names; None: every convolution, after its normalisation and activation; see `kerascnn.scan`.
        every, unit: see `Watch`.
        folder: the files go to <folder>/activations; of a second one of the fit to activations-<layers>.
    Raises:
        UsageError: at the start of training, where a layer does not exist or the images do not fit.
    Example:
        looks = [kerascnn.callbacks.ActivationStats(images, ["conv1", "conv2"])]
        model.fit(images, labels, epochs=2, callbacks=looks)  # writes to watch/
    """

    def __init__(self, images, layers=None, every=1, unit="epochs", folder="watch"):
        super().__init__("activations", folder, every, unit, start=True)
        self.images, self.layers = images, layers

    def check(self):
        self._paths = scan(self.model, self.images[:1], self.layers, 1, batch_size=1).layers

    def subject(self):
        return {"layers": self._paths}

    def look(self, at):
        result = scan(self.model, self.images, self.layers, 1, batch_size=min(128, len(self.images)), samples=16)
        rows = [_row(result.stats(layer)) for layer in result.layers]
        counts, edges = on_one_scale([result.histogram(layer) for layer in result.layers])
        names, counts = np.array(result.layers), np.stack([each.sum(0) for each in counts])
        self.keep(at, layers=names, counts=counts, edges=edges, **_columns(rows))
        self.finish()

    def finish(self):
        looks = self.kept()
        tables = [
            pd.DataFrame({self.counts: at, "layer": look["layers"], **{name: look[name] for name in COLUMNS}})
            for at, look in looks.items()
        ]
        if not tables:
            return
        table = pd.concat(tables, ignore_index=True)
        self.write("activations", table)
        probe = f"{self.model.name}, {counted(len(self.images), 'probe image')}"
        self.draw("activations", curves(table, self.counts, probe))
        some = self.kept(most=12)
        for number, layer in enumerate(table["layer"].unique()):
            rows = {at: (look["counts"][number], look["edges"]) for at, look in some.items()}
            self.draw(f"ridge-{runs.plain(layer.replace('/', '-'))}", ridge(rows, self.counts, f"{layer} of {probe}"))


def _row(stats):
    """One layer's numbers from those of its channels, which all have as many values."""
    mean = stats["mean"].mean()
    square = (stats["std"] ** 2 + stats["mean"] ** 2).mean()
    return {
        "max": stats["max"].max(),
        "mean": mean,
        "std": np.sqrt(max(square - mean**2, 0)),
        "zeros": stats["zeros"].mean(),
    }


def _columns(rows):
    return {name: np.array([row[name] for row in rows]) for name in COLUMNS}


def curves(table, unit, title):
    """Four panels over time, one line a layer. `table`: DataFrame with `unit`, layer, max, mean, std, zeros."""
    names = table["layer"].unique()
    columns = min(6, len(names))
    figure = Figure(figsize=(8.2, 5.2 + 0.2 * -(-len(names) // columns)), layout="constrained")
    colours = [colormaps["viridis"](i / max(1, len(names) - 1) * 0.9) for i in range(len(names))]
    for ax, column in zip(figure.subplots(2, 2, sharex=True).ravel(), COLUMNS, strict=True):
        for name, colour in zip(names, colours, strict=True):
            rows = table[table["layer"] == name]
            ax.plot(rows[unit], rows[column], color=colour, marker=".", markersize=4, label=name)
        ax.set_ylabel(LABELS[column])
        ax.grid(alpha=0.25)
    for ax in figure.axes[2:]:
        ax.set_xlabel(unit)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=7, frameon=False)
    figure.suptitle(title, fontsize=9)
    return figure


def ridge(rows, unit, title, points=80):
    """Histograms above one another, the latest in front: {number: (counts (bins,), edges (bins + 1,))}."""
    histograms, edges = on_one_scale(list(rows.values()))
    total = sum(histograms)
    cumulated = np.cumsum(total) / max(1, total.sum())
    low = edges[np.searchsorted(cumulated, 0.0005)]
    high = edges[min(np.searchsorted(cumulated, 0.9995) + 1, len(edges) - 1)]
    bounds = np.linspace(low, max(high, low + 1e-3), points + 1)
    figure = Figure(figsize=(6, 1.2 + 0.32 * len(rows)), layout="constrained")
    ax = figure.subplots()
    shares = []
    for counts in histograms:
        below = np.interp(bounds, edges, np.concatenate([[0], np.cumsum(counts)]) / max(1, counts.sum()))
        shares.append(np.diff(below))
    # the bar at zero, where a ReLU puts most, would flatten everything else
    height = float(np.median([np.sort(share)[-2] for share in shares])) or 1.0
    centres = (bounds[1:] + bounds[:-1]) / 2
    for number, share in enumerate(shares):
        base = len(shares) - 1 - number
        shape = base + 1.6 * np.minimum(share / height, 1)
        ax.fill_between(centres, base, shape, color=SKY, edgecolor=BLUE, linewidth=0.6, zorder=number)
    ax.set_yticks(range(len(shares)), [str(at) for at in reversed(rows)])
    ax.set(xlabel="activation", ylabel=unit)
    ax.set_title(f"{title}\nhistograms on one scale, tall bars cut", fontsize=8)
    return figure


@register()
def activations(data, prepared):
    """Maximum, mean, deviation, share of zeros and histogram of every convolution on 256 test images."""
    return [ActivationStats(prepared(spread(data.test, 256).images[:]))]


@register("activations-all")
def activations_all(data, prepared):
    """The same on all test images, which are kept in memory (COMP 576)."""
    return [ActivationStats(prepared(data.test.images[:]))]
