"""Figures of a scan: patches that excite neurons, with value and class; arrays in, matplotlib figures out."""

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from kerascnn.errors import counted
from kerascnn.explain.sheets import SIGNED, one_value_per_pixel, to_colours

CELL = 0.9  # inches
SIDE, BORDER, GAP = 64, 4, 6  # pixels of a cell's picture, its border, and the space between cells


def class_colours(class_names):
    """{name: colour}; ten that the colour-blind can tell apart as well as ten can be, then evenly spaced ones."""
    names = list(class_names)
    table = colormaps["tab10"] if len(names) <= 10 else colormaps["turbo"].resampled(len(names))
    return {name: table(number) for number, name in enumerate(names)}


def patch_sheet(result, layer, channels=None, *, maps=None, title=None, names=None):
    """One row per neuron, its patches beside each other, value and class under each, a border in the class colour.

    What lies beyond the image's border is white.

    Args:
        result: ScanResult.
        layer: one of its layers.
        channels: which; None: the ten most telling ones where classes are known, else the first ten.
        maps: {method: {channel: (k, h, w) or (k, h, w, C)}}, maps of the same patches, in further columns (see
            `explained.patch_maps`).
        names: one text a row, in place of the channel's number.
    """
    channels = default_channels(result, layer) if channels is None else list(channels)
    table = result.top(layer)
    own = [list(table[table["channel"] == channel].itertuples()) for channel in channels]
    columns = max(len(rows) for rows in own)
    patches = {
        c: [_painted(p, i) for p, i in zip(result.patches(layer, c), result.inside(layer, c), strict=True)]
        for c in channels
    }
    explained = {
        name: {c: [_signed(found) for found in own[c]] for c in channels} for name, own in (maps or {}).items()
    }
    groups = {"patch": patches, **explained}
    size = (CELL * columns * len(groups) + 0.9, (CELL + 0.22) * len(channels) + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    colours = class_colours(result.class_names)
    borders = [[colours.get(row.label, (0, 0, 0, 1)) for row in rows] for rows in own]
    for ax, (method, pictures) in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups.items(), strict=True):
        ax.imshow(_mosaic([pictures[c] for c in channels], borders), interpolation="nearest")
        if len(groups) > 1:
            ax.set_title(method, fontsize=9)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        if method != "patch":
            continue
        ax.set_yticks([_corner(line, True) + SIDE / 2 for line in range(len(channels))])
        ax.set_yticklabels(names or channels, fontsize=7)
        ax.tick_params(length=0)
        for line, rows in enumerate(own):
            for column, row in enumerate(rows):
                label = f"{row.value:.3g} {row.label if result.class_names else ''}"
                below = _corner(line, True) + SIDE + BORDER + 1
                ax.text(_corner(column) + SIDE / 2, below, label, fontsize=5.5, ha="center", va="top")
    caption = f"{layer} of {result.manifest['model']}: what excites each channel most; "
    figure.suptitle(title or caption + f"{counted(result.manifest['images'], 'image')} scanned", fontsize=9)
    return figure


def _corner(number, line=False):
    """First pixel of the picture in a column (or, with room for a text below, in a line) of cells."""
    return BORDER + number * (SIDE + 2 * BORDER + (4 * GAP if line else GAP))


def _mosaic(pictures, borders):
    """One image (H, W, 4) of rows of pictures (h, w, 3), each brought to SIDE pixels, with a border in its colour."""
    lines, columns = len(pictures), max(map(len, pictures))
    mosaic = np.zeros((_corner(lines, True) - BORDER, _corner(columns) - BORDER - GAP, 4))
    for line, (row, colours) in enumerate(zip(pictures, borders, strict=True)):
        for column, (picture, colour) in enumerate(zip(row, colours, strict=True)):
            top, left = _corner(line, True), _corner(column)
            mosaic[top - BORDER : top + SIDE + BORDER, left - BORDER : left + SIDE + BORDER] = colour
            nearest = [np.arange(SIDE) * side // SIDE for side in picture.shape[:2]]
            mosaic[top : top + SIDE, left : left + SIDE, :3] = picture[np.ix_(*nearest)]
    return mosaic


def class_sheet(result, layer=None, *, maps=None, title=None):
    """A row per class: the channel that belongs to it most (share of the class among its patches, then selectivity).

    Args:
        layer: None: the deepest of the layers scanned.
    """
    layer = result.layers[-1] if layer is None else layer
    chosen = class_channels(result, layer)
    names = [f"{name}\n{channel}" for name, channel in chosen.items()]
    channels = list(chosen.values())
    named = f"{layer} of {result.manifest['model']}: the channel most telling of each class; "
    images = f"{counted(result.manifest['images'], 'image')} scanned"
    return patch_sheet(result, layer, channels, maps=maps, title=title or named + images, names=names)


def class_channels(result, layer):
    """{class name: channel}: for each class the channel with the largest share of it, no channel twice."""
    labels = result.top(layer).pivot(index="channel", columns="rank", values="label")
    table = result.selectivity(layer)
    taken, chosen = set(), {}
    shares = {name: (labels == name).mean(axis=1) for name in result.class_names}
    for name in sorted(shares, key=lambda name: -shares[name].max()):
        order = table.assign(own=shares[name].reindex(table["channel"]).to_numpy())
        order = order[~order["channel"].isin(taken)].sort_values(
            ["own", "index", "channel"], ascending=[False, False, True]
        )
        if len(order):
            chosen[name] = int(order.iloc[0]["channel"])
            taken.add(chosen[name])
    return {name: chosen[name] for name in result.class_names if name in chosen}


def default_channels(result, layer, n=10):
    """The channels that a sheet shows where none are named."""
    telling = result.interesting(layer, n)["channel"].tolist() if result.class_names else []
    return telling or result.top(layer)["channel"].unique()[:n].tolist()


def statistics_sheet(result, layer):
    """Four curves over the channels of a layer, sorted by mean: mean with its spread, maximum, share of zeros; and the
    histogram of all activations."""
    table = result.stats(layer).sort_values("mean").reset_index(drop=True)
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    x = np.arange(len(table))
    left.fill_between(x, table["q05"], table["q95"], alpha=0.25, color="#0072B2", label="5% to 95%")
    left.plot(x, table["mean"], color="#0072B2", label="mean")
    left.plot(x, table["max"], color="#D55E00", linewidth=0.8, label="largest")
    left.set_yscale("symlog", linthresh=max(1e-3, float(table["mean"].abs().median())))
    left.set(xlabel="channel, by mean", ylabel="activation")
    left.legend(fontsize=7, frameon=False)
    middle.plot(x, table["zeros"], color="#009E73")
    middle.set(xlabel="channel, by mean", ylabel="share of zeros", ylim=(-0.02, 1.02))
    counts, edges = result.histogram(layer)
    total = counts.sum(0)
    seen = np.flatnonzero(total)
    bounds = np.linspace(edges[seen[0]], edges[seen[-1] + 1], 41)
    below = np.interp(bounds, edges, np.concatenate([[0], np.cumsum(total)]) / total.sum())
    right.stairs(np.diff(below), bounds, fill=True, color="#0072B2")
    right.set(xlabel="activation", ylabel="share of a sample of places", yscale="log")
    dead = int(table["dead"].sum())
    figure.suptitle(
        f"{layer} of {result.manifest['model']}: {counted(len(table), 'channel')}, {dead} never above 0; "
        f"{counted(result.manifest['images'], 'image')} scanned",
        fontsize=9,
    )
    return figure


def _painted(patch, inside):
    """A patch as (h, w, 3) between 0 and 1, white where it is not `inside` the image: bytes as they are, other numbers
    from their least to their largest."""
    shown = patch / 255 if patch.dtype == "uint8" else to_colours(patch)
    shown = np.broadcast_to(shown.reshape(*patch.shape[:2], -1), (*patch.shape[:2], 3))
    return np.where(inside[..., None], shown, 1.0)


def _signed(found):
    """A map as (h, w, 3), white at zero, between symmetric limits of its own."""
    flat = one_value_per_pixel(np.asarray(found))
    return colormaps[SIGNED](0.5 + 0.5 * flat / (float(np.abs(flat).max()) or 1.0))[..., :3]
