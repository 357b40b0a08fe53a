"""The filters of a convolution: as grids of tiles, and measured: how oriented, how fine, how far from the start."""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kerascnn.errors import UsageError
from kerascnn.explain.plans.plan import make_plan
from kerascnn.explain.subjects import opaque_step
from kerascnn.explain.targets import convolutions, find_layer

COLOURS = ("red", "green", "blue")


def layer_of(model, name=None):
    """(path, layer) of a convolution with filters of rows and columns; None: the first one.

    Raises:
        UsageError: no such layer, or a layer without filters.
    """
    plan = make_plan(model, opaque_step)
    deep = convolutions(plan)
    if name is None and not deep:
        raise UsageError(f"Model {model.name!r} has no convolution, so it has no filters.")
    path = deep[0] if name is None else find_layer(plan, name)[0]
    layer = model_layer(model, path)
    if getattr(getattr(layer, "kernel", None), "ndim", 0) != 4:
        raise UsageError(f"Layer {path!r} of model {model.name!r} has no filters. Those that have: {', '.join(deep)}.")
    return path, layer


def model_layer(model, path):
    """The layer at a path such as "block1/conv2"."""
    for part in path.partition("#")[0].split("/"):
        model = model.get_layer(part)
    return model


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


def mosaic(tiles, columns=None):
    """One image of tiles (n, h, w, ...) in a near-square grid with one-pixel gaps of 1 (white)."""
    count, h, w = tiles.shape[:3]
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    image = np.ones((rows * (h + 1) - 1, columns * (w + 1) - 1, *tiles.shape[3:]))
    for number, tile in enumerate(tiles):
        top, left = number // columns * (h + 1), number % columns * (w + 1)
        image[top : top + h, left : left + w] = tile
    return image


def filter_sheet(filters, title="", most=(24, 16)):
    """The figure of a layer's filters (n, h, w, channels), of which the first layer's have 1 or 3 channels.

    With three channels: in colour with each filter on a scale of its own and all on one, then red, green and blue
    alone. With one: both scales in grey. With more: a row per filter, a tile per input channel, at most `most`.
    """
    count, h, w, channels = filters.shape
    if channels not in (1, 3):
        rows, columns = min(count, most[0]), min(channels, most[1])
        tiles = np.moveaxis(filters[:rows, :, :, :columns], -1, 1).reshape(-1, h, w)
        figure, (ax,) = _panels(1, 0.28 * columns + 0.6, 0.28 * rows + 0.7)
        limit = float(np.abs(tiles).max()) or 1.0
        ax.imshow(mosaic(scaled(tiles, "one"), columns), cmap="RdBu_r", vmin=0, vmax=1, interpolation="nearest")
        ax.set_xlabel(f"input channel (first {columns} of {channels})", fontsize=8)
        ax.set_ylabel(f"filter (first {rows} of {count})", fontsize=8)
        figure.suptitle(f"{title}\none scale, {-limit:.2g} (blue) to {limit:.2g} (red)", fontsize=8)
        return figure
    limit = float(np.abs(filters).max())
    panels = [("each on its own scale", scaled(filters)), (f"one scale, ±{limit:.2g}", scaled(filters, "one"))]
    if channels == 3:
        panels += [(f"{name} alone, one scale", scaled(filters, "one")[..., i]) for i, name in enumerate(COLOURS)]
    figure, axes = _panels(len(panels), 2.6, 3.1)
    for ax, (name, tiles) in zip(axes, panels, strict=True):
        image = mosaic(tiles)
        image = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
        ax.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        ax.set_title(name, fontsize=8)
    figure.suptitle(title, fontsize=9)
    return figure


def _panels(count, width, height):
    figure = Figure(figsize=(width * count, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12)
    axes = figure.subplots(1, count, squeeze=False)[0]
    for ax in axes:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    return figure, axes


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
