"""Figures of a layer's activations: maps as grids, units as bars, on one scale."""

import math

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from kerascnn.errors import counted
from kerascnn.explain.sheets import PAGE, caption
from kerascnn.plots import BLUE, GAP, SIGNED, UNSIGNED, mosaic

FEW_UNITS = 30  # up to this many units have a named bar each, and no histogram


def activation_grids(maps, title=""):
    """All maps (h, w, channels) of a layer, each with its channel's number, as figures of at most a page of A4.

    All share one scale.

    Returns:
        list of matplotlib figures.
    """
    maps = np.asarray(maps)
    count = maps.shape[-1]
    columns, rows = _most_tiles(*maps.shape[:2])
    limit, signed = float(np.abs(maps).max()) or 1.0, bool(maps.min() < 0)
    figures = []
    for page in np.array_split(np.arange(count), math.ceil(count / (columns * rows))):
        part = "" if len(page) == count else f", {page[0]} to {page[-1]} shown"
        head = f"{title}\n{counted(count, 'channel')}{part}"
        figures.append(activation_grid(maps[..., page], head, numbers=page, limit=limit, signed=signed))
    return figures


def _tile(h, w):
    """(width, height) in inches of a map: as many as it has pixels, at 150 dpi, if that is not too small to be seen."""
    side = min(PAGE[0] - 1.0, max(0.7, max(h, w) / 150))
    return side * w / max(h, w), side * h / max(h, w)


def _most_tiles(h, w):
    """(columns, rows) of maps that a page of A4 has room for."""
    width, height = _tile(h, w)
    return max(1, int((PAGE[0] - 1.0) / width)), max(1, int((PAGE[1] - 1.0) / height))


def activation_grid(maps, title="", columns=None, *, numbers=None, limit=None, signed=None):
    """A layer's maps (h, w, channels) as one grid, each with its channel's number, one scale, one-pixel gaps.

    Args:
        columns: maps beside each other; None: a near-square grid that is no wider than A4.
        numbers: the channels' numbers; None: from 0.
        limit: where the colours end; None: the largest absolute value.
        signed: True for a scale from -limit to limit; None: where a value is negative.
    """
    maps = np.asarray(maps)
    h, w, count = maps.shape
    most, lines = _most_tiles(h, w)
    columns = columns or min(most, max(math.ceil(math.sqrt(count)), math.ceil(count / lines)))
    rows = math.ceil(count / columns)
    limit = limit or float(np.abs(maps).max()) or 1.0
    signed = bool(maps.min() < 0) if signed is None else signed
    sheet = mosaic(np.moveaxis(maps, -1, 0), columns, np.nan)
    width, height = _tile(h, w)
    figure = Figure(figsize=(max(4.0, columns * width + 1.0), rows * height + 0.8), layout="constrained")
    ax = figure.subplots()
    box = {"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.3}
    for i, number in enumerate(range(count) if numbers is None else numbers):
        top, left = i // columns * (h + 1), i % columns * (w + 1)
        ax.text(left - 0.5, top - 0.5, str(number), fontsize=4.5, ha="left", va="top", bbox=box)
    cmap = colormaps[SIGNED if signed else UNSIGNED].with_extremes(bad=GAP)
    shown = ax.imshow(sheet, cmap=cmap, vmin=-limit if signed else 0, vmax=limit, interpolation="nearest")
    ax.set_axis_off()
    figure.colorbar(shown, ax=ax, label="activation, one scale", shrink=min(1.0, 3 / (rows * height)), aspect=15)
    caption(figure, title)
    return figure


def unit_sheet(values, title="", names=None):
    """A dense layer's activations (units,) as bars.

    Up to 30 units have their name or number. If there are more, the ten largest are named if `names` are given;
    otherwise a histogram is drawn.

    Args:
        names: what the units are called, such as the classes; None: their numbers.
    """
    values = np.asarray(values)
    zeros = (values == 0).mean()
    title = f"{title} ({zeros:.0%} exactly zero)" if zeros else title
    if len(values) <= FEW_UNITS:
        figure = Figure(figsize=(6, 0.9 + 0.2 * len(values)), layout="constrained")
        _named_bars(figure.subplots(), values, names or range(len(values)))
        caption(figure, title)
        return figure
    figure = Figure(figsize=(7.5, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.bar(np.arange(len(values)), values, width=1.0)
    left.set(xlabel="unit", ylabel="activation")
    if names is None:
        right.hist(values, bins=40)
        right.set(xlabel="activation", ylabel="units")
    else:
        largest = np.argsort(-values, kind="stable")[:10]
        _named_bars(right, values[largest], [names[i] for i in largest])
        right.set_title("the ten largest", fontsize=8)
    caption(figure, title)
    return figure


def _named_bars(axes, values, names):
    """A bar per value, the first on top, with its name and its number."""
    rows = np.arange(len(values))
    bars = axes.barh(rows, values, color=BLUE)
    axes.bar_label(bars, fmt=" %.3g ", fontsize=7)
    axes.set_yticks(rows, [str(name) for name in names], fontsize=7)
    axes.set(xlabel="activation", ylim=(len(values) - 0.5, -0.5))
    axes.margins(x=0.15)
    axes.axvline(0, color="black", linewidth=0.6)
