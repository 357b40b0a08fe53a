"""The filters of a convolution: as sheets of tiles, and measured: how oriented, how fine, how far from the start."""

import math

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure

from kerascnn.errors import UsageError, unknown
from kerascnn.explain.sheets import PAGE, caption
from kerascnn.network.find import convolutions, find, layers_in
from kerascnn.plots import GAP, SIGNED, mosaic

COLOURS = ("red", "green", "blue")
TILE = 0.55  # inches
NUMBER = 0.13  # inches, the height of a tile's number
SEVERAL = 16  # with up to so many input channels every filter is drawn, else the first ones
LINES = 24  # filters of several input channels on a page


def layer_of(model, name=None):
    """(path, layer) of a convolution with filters of rows and columns; None: the first whose filters are larger than a
    pixel (some networks begin with a 1x1 convolution that prepares the colours), or the first of all.

    Raises:
        UsageError: no such layer, or a layer without filters.
    """
    network = layers_in(model)
    deep = convolutions(network)
    if name is None and not deep:
        raise UsageError(f"Model {model.name!r} has no convolution, so it has no filters.")
    _, path, layer = find(network, (_first(network, deep) if name is None else name).partition("#")[0])
    if getattr(getattr(layer, "kernel", None), "ndim", 0) != 4:
        raise UsageError(f"Layer {path!r} of model {model.name!r} has no filters. Those that have: {', '.join(deep)}.")
    return path, layer


def _first(network, paths):
    kernels = ((path, getattr(find(network, path.partition("#")[0])[2], "kernel", None)) for path in paths)
    shapes = ((path, tuple(getattr(kernel, "shape", ()))) for path, kernel in kernels)
    return next((path for path, shape in shapes if len(shape) == 4 and max(shape[:2]) > 1), paths[0])


def filters_of(model, name=None):
    """float32 (filters, h, w, input channels) of a convolution's kernel; None: of the first convolution."""
    import keras

    layer = layer_of(model, name)[1]
    kernel = np.asarray(keras.ops.convert_to_numpy(layer.kernel), "float32")
    if isinstance(layer, keras.layers.DepthwiseConv2D):  # (h, w, channels, multiplier): each filter sees one channel
        return np.moveaxis(kernel.reshape(*kernel.shape[:2], 1, -1), -1, 0)
    if isinstance(layer, keras.layers.Conv2DTranspose):  # (h, w, filters, input channels)
        return np.moveaxis(kernel, 2, 0)
    return np.moveaxis(kernel, -1, 0)


def scaled(tiles, scale="each"):
    """Tiles (n, h, w, ...) between 0 and 1, 0.5 being 0 for "one".

    Args:
        scale: "each": every tile from its least to its largest number; "one": all between symmetric limits.
    """
    if scale == "one":
        return 0.5 + tiles / (2 * float(np.abs(tiles).max()) or 1.0)
    axes = tuple(range(1, tiles.ndim))
    low, high = tiles.min(axes, keepdims=True), tiles.max(axes, keepdims=True)
    return np.where(high > low, (tiles - low) / np.where(high > low, high - low, 1), 0.5)


def filter_views(filters):
    """The views of filters (n, h, w, channels) that `filter_sheet` draws.

    "each": every filter on a scale of its own. "one": all on one scale. "red", "green", "blue": one colour's weights
    alone, on one scale. Filters of three channels have all five, of one channel the first two, others "one".
    """
    return {3: ("each", "one", *COLOURS), 1: ("each", "one")}.get(np.shape(filters)[-1], ("one",))


def filter_sheets(filters, title=""):
    """Every view of a layer's filters as figures of at most a page of A4.

    Args:
        filters: (n, h, w, channels), as from `filters_of`.
    Returns:
        {ending: figure}; the ending of the first is "", others are "-one", "-red" and so on, with "-2", "-3" for
        further pages.
    """
    count, channels = len(filters), np.shape(filters)[-1]
    views = filter_views(filters)
    if channels in (1, 3):
        most = math.prod(_most_tiles(*np.shape(filters)[1:3]))
    else:
        most = LINES
        count = min(count, LINES) if channels > SEVERAL else count
    pages = np.array_split(np.arange(count), math.ceil(count / most))
    return {
        ("" if view == views[0] else f"-{view}") + ("" if not number else f"-{number + 1}"): filter_sheet(
            filters, title, view, page
        )
        for view in views
        for number, page in enumerate(pages)
    }


def filter_sheet(filters, title="", view=None, numbers=None):
    """One view of a layer's filters: a tile per filter with its number above it.

    Filters of other than one or three channels are drawn as a row each, with a tile per input channel (16 at most).

    Args:
        filters: (n, h, w, channels), as from `filters_of`.
        view: one of `filter_views(filters)`; None: the first one.
        numbers: the filters drawn; None: all, or the first 24 where each is a row.
    Raises:
        UsageError: these filters have no such view.
    """
    filters = np.asarray(filters)
    views = filter_views(filters)
    view = views[0] if view is None else view
    if view not in views:
        raise unknown("view of filters", view, views)
    if filters.shape[-1] not in (1, 3):
        return _rows(filters, title, np.arange(min(len(filters), LINES)) if numbers is None else np.asarray(numbers))
    numbers = np.arange(len(filters)) if numbers is None else np.asarray(numbers)
    limit = float(np.abs(filters).max()) or 1.0
    tiles = scaled(filters) if view == "each" else scaled(filters, "one")
    words = "each filter on its own scale" if view == "each" else f"all on one scale, ±{limit:.2g}"
    if view in COLOURS:
        tiles, words = tiles[..., COLOURS.index(view) : COLOURS.index(view) + 1], f"{view} alone, {words}"
    elif view == "one" and filters.shape[-1] == 3:
        words += ", grey at zero"
    return _grid(tiles[numbers], numbers, f"{title}\n{words}", limit if view != "each" else None)


def _grid(tiles, numbers, title, limit):
    """Numbered tiles (n, h, w, 1 or 3); one-channel tiles on one scale, -limit to limit, are white at zero."""
    count, h, w, channels = tiles.shape
    most, lines = _most_tiles(h, w)
    columns = min(most, max(math.ceil(math.sqrt(count)), math.ceil(count / lines)))
    above = _above(h)
    signed = channels == 1 and limit is not None
    image = mosaic(tiles if channels == 3 else tiles[..., 0], columns, np.nan if signed else 1.0, above)
    rows = math.ceil(count / columns)
    width, height = _pitch(h, w)
    side = 0.9 if signed else 0.3
    figure = Figure(figsize=(max(4.0, columns * width + side), rows * height + 0.8), layout="constrained")
    ax = figure.subplots()
    cmap = colormaps[SIGNED].with_extremes(bad=GAP) if signed else "gray"
    shown = ax.imshow(image, cmap=cmap, vmin=0, vmax=1, interpolation="nearest")
    ax.set_axis_off()
    for place, number in enumerate(numbers):
        left, top = place % columns * (w + 1) - 0.5, place // columns * (h + above + 1) + above - 0.5
        ax.text(left, top, str(number), fontsize=6, ha="left", va="bottom")
    if signed:
        _bar(figure, ax, shown, limit)
    caption(figure, title)
    return figure


def _above(h):
    """Rows of pixels over each line of tiles of height h, which with the gap have room for a number."""
    return max(0, math.ceil(NUMBER / TILE * h) - 1)


def _pitch(h, w):
    """(width, height) in inches of a tile with the gap beside it and the number over it."""
    return TILE * (w + 1) / max(h, w), TILE * (h + _above(h) + 1) / max(h, w)


def _most_tiles(h, w):
    """(columns, lines) of tiles that a page of A4 has room for."""
    width, height = _pitch(h, w)
    return int((PAGE[0] - 0.9) / width), int((PAGE[1] - 1.2) / height)


def _rows(filters, title, numbers):
    """A row per filter, a tile per input channel, on one scale."""
    count, h, w, channels = filters.shape
    columns = min(channels, SEVERAL)
    limit = float(np.abs(filters).max()) or 1.0
    tiles = np.moveaxis(scaled(filters, "one")[numbers][..., :columns], -1, 1).reshape(-1, h, w)
    figure = Figure(figsize=(max(4.0, 0.4 * columns + 1.6), 0.4 * len(numbers) + 1.1), layout="constrained")
    ax = figure.subplots()
    cmap = colormaps[SIGNED].with_extremes(bad=GAP)
    shown = ax.imshow(mosaic(tiles, columns, np.nan), cmap=cmap, vmin=0, vmax=1, interpolation="nearest")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, labelsize=6)
    ax.set_xticks((w - 1) / 2 + (w + 1) * np.arange(columns), range(columns))
    ax.set_yticks((h - 1) / 2 + (h + 1) * np.arange(len(numbers)), numbers)
    _bar(figure, ax, shown, limit)
    places = (
        f"a row per {_shown('filter', len(numbers), count)}, a column per {_shown('input channel', columns, channels)}"
    )
    caption(figure, f"{title}\n{places}, all on one scale, ±{limit:.2g}", 8)
    return figure


def _shown(noun, shown, count):
    return noun if shown == count else f"{noun} ({shown} of {count:,})"


def _bar(figure, axes, shown, limit):
    """A colour bar of weights for tiles that were `scaled` to one scale."""
    bar = figure.colorbar(shown, ax=axes, shrink=0.6, aspect=20)
    bar.set_ticks([0, 0.5, 1])
    bar.set_ticklabels([f"{-limit:.2g}", "0", f"{limit:.2g}"], fontsize=7)
    bar.set_label("weight", fontsize=7)


def measured(filters, initial=None):
    """What each filter is: DataFrame filter, norm, coherence, orientation, frequency, and distance, verdict.

    The spectrum of a filter is the power of its discrete Fourier transform on 32x32 points, after its mean is taken
    away, summed over input channels. `coherence`, 0 to 1, is the length of the mean of its directions (doubled angles,
    as opposite directions are one): 1 where all power lies along one line, as in an edge or a grating. `orientation`,
    degrees, 0 to 180, is the direction in which the filter varies: 0 from left to right, 90 from top to bottom.
    `frequency` is the mean in cycles per pixel.

    Args:
        filters: (n, h, w, channels).
        initial: the same filters before training; gives `distance`, the L2 distance from them, and `verdict`: "died"
            (a norm below 5% of the initial one), "froze" (a distance below 5% of it), "edge" (coherence above 0.5),
            or "".
    """
    varying = filters - filters.mean((1, 2), keepdims=True)
    power = (np.abs(np.fft.fft2(varying, (32, 32), axes=(1, 2))) ** 2).sum(-1)
    down, right = np.meshgrid(np.fft.fftfreq(32), np.fft.fftfreq(32), indexing="ij")
    inner = (np.abs(down) < 0.5) & (np.abs(right) < 0.5)  # at 1/2 the sign of a frequency is lost
    weight = np.where(inner, power, 0)
    total = weight.sum((1, 2))
    directions = (weight * np.exp(2j * np.arctan2(down, right))).sum((1, 2))
    safe = np.where(total > 0, total, 1)
    table = pd.DataFrame(
        {
            "filter": np.arange(len(filters)),
            "norm": np.sqrt((filters.astype("float64") ** 2).sum((1, 2, 3))),
            "coherence": np.abs(directions) / safe,
            "orientation": np.degrees(np.angle(directions)) / 2 % 180,
            "frequency": (weight * np.hypot(down, right)).sum((1, 2)) / safe,
        }
    )
    if initial is not None:
        start = np.sqrt((initial.astype("float64") ** 2).sum((1, 2, 3)))
        table["distance"] = np.sqrt(((filters - initial).astype("float64") ** 2).sum((1, 2, 3)))
        cases = [table["norm"] < 0.05 * start, table["distance"] < 0.05 * start, table["coherence"] > 0.5]
        table["verdict"] = np.select(cases, ["died", "froze", "edge"], "")
    return table
