"""Figures of a scan: patches that excite neurons, with value and class; arrays in, matplotlib figures out.

A figure fits a page of A4 at 150 dpi, 1,240 pixels wide, when it is saved at 120 dpi; `pages` says what goes on each.
"""

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure

from kerascnn.errors import counted
from kerascnn.explain.sheets import map_colours
from kerascnn.plots import BLUE, GREEN, RED

CELL, LEAST, WIDEST = 0.9, 6.0, 10.3  # inches: a cell, and the least and largest width of a figure
LETTER = 0.044  # inches: a letter under a patch
SIDE, BORDER, GAP = 64, 4, 6  # pixels of a cell's picture, its border, and the space between cells
ROWS, COLUMNS = 12, 10  # channels and patches of a page
COLUMNS_EXPLAINED = 4  # patches of a channel where maps are beside them
PERCENTILE = 99  # of a map's numbers other than 0: its colours end there
STRIPES = np.array([[1.0, 1.0, 1.0], [0.96, 0.68, 0.96]])  # beyond an image's border


def class_colours(class_names):
    """{name: colour}; ten that the colour-blind can tell apart as well as ten can be, then evenly spaced ones."""
    names = list(class_names)
    table = colormaps["tab10"] if len(names) <= 10 else colormaps["turbo"].resampled(len(names))
    return {name: table(number) for number, name in enumerate(names)}


def pages(rows, patches):
    """(slice of rows, slice of patches) of each figure that is needed for so many channels of so many patches."""
    lines = [slice(first, min(first + ROWS, rows)) for first in range(0, rows, ROWS)]
    columns = [slice(first, min(first + COLUMNS, patches)) for first in range(0, patches, COLUMNS)]
    return [(line, column) for line in lines for column in columns]


def patch_sheet(result, layer, channels=None, *, maps=None, title=None, names=None, ranks=None):
    """One row per channel, its strongest patches beside each other, value and class under each, a border in the class
    colour.

    What lies beyond the image's border is striped, white and pink, as nothing in a photograph is. Patches whose value
    is exactly 0 are left out: behind a ReLU they excite nothing. Maps of three colours are grey at zero, as in Zeiler
    and Fergus 2013; others are white at zero, red above, blue below. The colours of each map end at the 99th percentile
    of its numbers other than 0, so that one outlier does not whiten the rest.

    Args:
        result: ScanResult.
        layer: one of its layers.
        channels: which, None among them for a row without patches; None: the ten most telling ones where classes are
            known, else the first ten that rise above 0.
        maps: {method: {channel: (k, h, w) or (k, h, w, C)}}, maps of the same patches, in further columns (see
            `explained.patch_maps`).
        names: one text a row, in place of the channel's number.
        ranks: slice of the patches shown, the strongest first; None: as many as fit a page, 10, or 4 beside maps.
    """
    channels = default_channels(result, layer) if channels is None else list(channels)
    ranks = ranks or slice(0, COLUMNS_EXPLAINED if maps else COLUMNS)
    rows = [_row(result, layer, channel, maps or {}, ranks) for channel in channels]
    groups = ["patch", *(maps or {})]
    columns = max([1, *(len(row["leaders"]) for row in rows)])
    cell = min(CELL, (WIDEST - 0.9) / (columns * len(groups)))
    size = (max(LEAST, cell * columns * len(groups) + 0.9), (cell + 0.22) * len(rows) + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    colours = class_colours(result.class_names)
    borders = [[colours.get(leader.label, (0, 0, 0, 1)) for leader in row["leaders"]] for row in rows]
    for ax, group in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups, strict=True):
        ax.imshow(_mosaic([row[group] for row in rows], borders, columns), interpolation="nearest")
        if len(groups) > 1:
            ax.set_title(group.replace("_", " "), fontsize=9)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        if group == "patch":
            _label(ax, rows, names or channels, _letters(cell) if result.class_names else 0)
    title = title or f"{layer} of {result.manifest['model']}: what excites each channel most"
    figure.suptitle(f"{title}\n{_caption(result, ranks, bool(maps))}", fontsize=8)
    return figure


def _caption(result, ranks, maps):
    """What a sheet shows, besides whose patches: how many, of how many images, and what its colours mean."""
    k = result.manifest["k"]
    first, last = ranks.start or 0, min(k, ranks.stop)
    shown = "" if (first, last) == (0, k) else f"patches {first + 1} to {last} of {k}; "
    images = f"{counted(result.manifest['images'], 'image')} scanned; stripes: beyond the image's border"
    return f"{shown}{images}" + (f"\ncolours of each map end at its {PERCENTILE}th percentile" if maps else "")


def _row(result, layer, channel, maps, ranks):
    """What a row shows: {"leaders": tuples of the table, "patch": pictures, method: pictures}."""
    row = {"leaders": [], "patch": [], **{method: [] for method in maps}}
    if channel is None:
        return row
    table = result.top(layer)
    patches, inside = result.patches(layer, channel), result.inside(layer, channel)
    for number, leader in list(enumerate(table[table["channel"] == channel].itertuples()))[ranks]:
        if leader.value == 0:
            continue
        row["leaders"].append(leader)
        row["patch"].append(enlarged(natural(patches[number], inside[number]), inside[number]))
        for method, by_channel in maps.items():
            row[method].append(enlarged(map_colours(by_channel[channel][number]), inside[number]))
    return row


def _label(ax, rows, names, letters):
    """Write each row's name beside it, and value and class, cut to so many letters, under each patch."""
    ax.set_yticks([_corner(line, True) + SIDE / 2 for line in range(len(rows))])
    ax.set_yticklabels(names, fontsize=7)
    ax.tick_params(length=0)
    for line, row in enumerate(rows):
        below = _corner(line, True) + SIDE + BORDER + 1
        for column, leader in enumerate(row["leaders"]):
            text = f"{_number(leader.value)} {_short(leader.label, letters) if letters else ''}"
            ax.text(_corner(column) + SIDE / 2, below, text, fontsize=5.5, ha="center", va="top")
        if not row["leaders"]:
            told = "never above 0" if isinstance(names[line], (int, np.integer)) else "no channel is most excited by it"
            ax.text(_corner(0), _corner(line, True) + SIDE / 2, told, fontsize=7, va="center")


def _number(value):
    """Three digits, without a power of ten up to a million."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def _letters(cell):
    """How many letters of a class fit beside the value under a patch, by the width of a cell in inches."""
    return min(12, max(3, int(cell / LETTER) - 5))


def _short(name, most):
    """A class name that fits under a patch."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _corner(number, line=False):
    """First pixel of the picture in a column (or, with room for a text below, in a line) of cells."""
    return BORDER + number * (SIDE + 2 * BORDER + (4 * GAP if line else GAP))


def _mosaic(pictures, borders, columns):
    """One image (H, W, 4) of rows of pictures (SIDE, SIDE, 3), each with a border in its colour."""
    mosaic = np.zeros((_corner(len(pictures), True) - BORDER, _corner(columns) - BORDER - GAP, 4))
    for line, (row, colours) in enumerate(zip(pictures, borders, strict=True)):
        for column, (picture, colour) in enumerate(zip(row, colours, strict=True)):
            top, left = _corner(line, True), _corner(column)
            mosaic[top - BORDER : top + SIDE + BORDER, left - BORDER : left + SIDE + BORDER] = colour
            mosaic[top : top + SIDE, left : left + SIDE, :3] = picture
    return mosaic


def class_sheet(result, layer=None, *, classes=None):
    """A row per class: the channel that belongs to it most (see `class_channels`), or the words that there is none.

    Args:
        layer: None: the deepest of the layers scanned.
        classes: names of the classes shown; None: all.
    """
    layer = result.layers[-1] if layer is None else layer
    chosen, table, leaders = class_channels(result, layer), result.selectivity(layer), result.top(layer)["channel"]
    classes = list(result.class_names if classes is None else classes)
    channels, names = [chosen.get(name) for name in classes], list(classes)
    for number, channel in enumerate(channels):
        if channel is not None:
            seen = int((leaders == channel).sum())
            names[number] += f"\n{channel}: {round(table['share'][channel] * seen)} of {seen}"
    title = f"{layer} of {result.manifest['model']}: the channel most telling of each class"
    return patch_sheet(result, layer, channels, title=title, names=names)


def class_channels(result, layer):
    """{class name: number of the channel that belongs to it most}, no channel twice, without classes that have none.

    A channel belongs to the class that most of its top activations above 0 are of. Of a class's channels the one with
    the largest share times strength is taken, then the one with the largest selectivity index; see
    `ScanResult.selectivity`.
    """
    table, top = result.selectivity(layer), result.top(layer)
    excited = top[top["value"] > 0]
    counts = pd.crosstab(excited["channel"], excited["label"])
    counts = counts.reindex(index=table["channel"], columns=list(result.class_names), fill_value=0)
    alone = counts.eq(counts.sum(axis=1), axis=0) & (counts > 0)
    belongs = alone | counts.eq(counts.max(axis=1), axis=0) & (counts > 1)  # 1 of 9, as any other class, says nothing
    scores = counts.where(belongs, 0).mul(table["strength"], axis=0)
    chosen = {}
    for name in sorted(scores, key=lambda name: -scores[name].max()):
        order = table.assign(score=scores[name].to_numpy()).query("score > 0")
        order = order[~order["channel"].isin(list(chosen.values()))]
        order = order.sort_values(["score", "index", "channel"], ascending=[False, False, True])
        if len(order):
            chosen[name] = int(order["channel"].iloc[0])
    return {name: chosen[name] for name in result.class_names if name in chosen}


def default_channels(result, layer, n=10):
    """The channels that a sheet shows where none are named."""
    telling = result.interesting(layer, n)["channel"].tolist() if result.class_names else []
    top = result.top(layer)
    alive = top[top["value"] > 0]["channel"].unique()[:n].tolist()
    return telling or alive or top["channel"].unique()[:n].tolist()


def statistics_sheet(result, layer):
    """Four curves over the channels of a layer, sorted by mean: mean with its spread, maximum, share of zeros; and the
    histogram of all activations."""
    table = result.stats(layer).sort_values("mean").reset_index(drop=True)
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    x = np.arange(len(table))
    left.fill_between(x, table["q05"], table["q95"], alpha=0.25, color=BLUE, label="5% to 95%")
    left.plot(x, table["mean"], color=BLUE, label="mean")
    left.plot(x, table["max"], color=RED, linewidth=0.8, label="largest")
    left.set_yscale("symlog", linthresh=max(1e-3, float(table["mean"].abs().median())))
    left.set(xlabel="channel, by mean", ylabel="activation")
    left.legend(fontsize=7, frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    middle.plot(x, table["zeros"], color=GREEN)
    middle.set(xlabel="channel, by mean", ylabel="share of zeros", ylim=(-0.02, 1.02))
    counts, edges = result.histogram(layer)
    total = counts.sum(0)
    seen = np.flatnonzero(total)
    bounds = np.linspace(edges[seen[0]], edges[seen[-1] + 1], 41)
    below = np.interp(bounds, edges, np.concatenate([[0], np.cumsum(total)]) / total.sum())
    right.stairs(np.diff(below), bounds, fill=True, color=BLUE)
    right.set(xlabel="activation", ylabel="share of a sample of places", yscale="log")
    dead = int(table["dead"].sum())
    figure.suptitle(
        f"{layer} of {result.manifest['model']}: {counted(len(table), 'channel')}, {dead} never above 0; "
        f"{counted(result.manifest['images'], 'image')} scanned",
        fontsize=9,
    )
    return figure


def natural(patch, inside):
    """A patch (h, w, C) as (h, w, 3) between 0 and 1: bytes as they are, other numbers from the least to the largest of
    those `inside` the image. Of images with neither 1 nor 3 channels the mean is shown."""
    shown = patch if patch.shape[-1] in (1, 3) else patch.mean(-1, keepdims=True)
    if patch.dtype == "uint8":
        low, high = 0, 255
    else:
        seen = shown[inside].astype("float64")
        low, high = seen.min(), seen.max()
    return np.broadcast_to(np.clip((shown - low) / ((high - low) or 1.0), 0, 1), (*patch.shape[:2], 3))


def striped(picture, inside):
    """A picture (h, w, 3) with diagonal stripes, white and pink, where it is not `inside` the image."""
    rows, cols = np.indices(inside.shape)
    return np.where(inside[..., None], picture, STRIPES[(rows + cols) // 4 % 2])


def enlarged(picture, inside):
    """A picture (h, w, 3) brought to SIDE x SIDE pixels, striped beyond the image's border."""
    nearest = np.ix_(*(np.arange(SIDE) * side // SIDE for side in picture.shape[:2]))
    return striped(picture[nearest], inside[nearest])
