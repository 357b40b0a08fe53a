"""Figures of maps: arrays in, matplotlib figures out, nothing computed by a network.

Signed maps are drawn in a diverging colour map that is white at zero, between symmetric limits; heat maps, which have
no sign, are blended over the image. Every figure has a colour bar and fits a page of A4.
"""

import math
import textwrap

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from kerascnn.errors import UsageError, counted
from kerascnn.explain import EXPLANATIONS
from kerascnn.plots import HEAT, ORANGE, SIGNED

PAGE = 8.2, 11.6  # inches: A4
PERCENTILE = 99.5  # of a map's absolute values, where its colours end


def check_drawable(images, bands=None):
    """Raises UsageError where images (N, H, W, C) cannot be drawn, or `bands` are not one or three of the channels."""
    shape = np.shape(images)
    if len(shape) not in (3, 4):
        raise UsageError(f"Images of shape {shape} cannot be drawn: they must be (N, H, W, C) or (N, H, W).")
    channels = shape[3] if len(shape) == 4 else 1
    if bands is None:
        return
    numbers = list(bands)
    if len(numbers) not in (1, 3) or not all(isinstance(n, (int, np.integer)) and 0 <= n < channels for n in numbers):
        raise UsageError(
            f"bands={bands!r} is not allowed: name one channel, or three for red, green and blue, of the "
            f"{counted(channels, 'channel')} of these images, 0 to {channels - 1}."
        )


def to_colours(image, bands=None):
    """An image as (H, W, 3) or (H, W) between 0 and 1.

    Args:
        image: (H, W, C) or (H, W). uint8 is drawn as it is, any other range from its least to its largest number.
        bands: one or three channels to draw; None: three channels are red, green and blue, one is grey, and of any
            other number (four bands are not colours with transparency) the mean is drawn.
    """
    image, whole = np.asarray(image, float), np.asarray(image).dtype == np.uint8
    if image.ndim == 3:
        if bands is not None:
            image = image[..., list(bands)]
        image = image[..., 0] if image.shape[-1] == 1 else image if image.shape[-1] == 3 else image.mean(-1)
    return image / 255 if whole else (image - image.min()) / max(np.ptp(image), 1e-12)


def what_is_drawn(image, bands=None):
    """ "", or which of an image's channels `to_colours` draws."""
    channels = np.shape(image)[2] if np.ndim(image) == 3 else 1
    if bands is not None:
        return f"channel {bands[0]}" if len(bands) == 1 else f"channels {', '.join(map(str, bands))}"
    return "" if channels in (1, 3) else f"mean of {channels} channels"


def one_value_per_pixel(relevance):
    """A map (H, W, C) summed over its colours; (H, W) as it is."""
    return relevance.sum(-1) if relevance.ndim == 3 else relevance


def is_signed(method, relevance):
    """False for a heat map: one of a layer's maps (`of_layer`) without negative values."""
    of_layer = method in EXPLANATIONS and EXPLANATIONS.facts(method).get("of_layer", False)
    return not of_layer or np.min(relevance) < 0


def limit_of(relevance):
    """Where the colours of a map end: the 99.5th percentile of its absolute values, so that one outlier does not leave
    all else white; 1 for a map of zeros."""
    sizes = np.abs(relevance)
    return float(np.percentile(sizes, PERCENTILE, method="higher")) or float(sizes.max()) or 1.0


def range_of(relevance, signed=True):
    """What the colours of a map reach from and to, in words."""
    if not np.any(relevance):
        return "0 everywhere"
    return f"±{limit_of(relevance):.2g}" if signed else f"0 to {relevance.max():.2g}"


def draw_image(axes, image, bands=None, **options):
    """Draws an image; `options` are imshow's."""
    axes.imshow(to_colours(image, bands), cmap="gray", vmin=0, vmax=1, interpolation="nearest", **options)
    axes.set_axis_off()


def draw_signed(axes, relevance):
    """Draws a map (H, W), white at zero."""
    limit = limit_of(relevance)
    axes.imshow(relevance, cmap=SIGNED, vmin=-limit, vmax=limit, interpolation="nearest")
    axes.set_axis_off()


def draw_map(axes, image, relevance, method, bands=None):
    """Draws a method's map of an image, one among several on a sheet: alone if it is signed, else over the image.

    Returns:
        (whether it is signed, what its colours reach from and to, in words).
    """
    flat = one_value_per_pixel(np.asarray(relevance))
    signed = is_signed(method, flat)
    if signed:
        draw_signed(axes, flat)
    else:
        draw_over(axes, image, flat, signed=False, bands=bands)
    return signed, range_of(flat, signed)


def draw_over(axes, image, relevance, *, frame=None, signed=True, bands=None):
    """Draws a map over the grey image, enlarged to it (or to the `frame` of it); returns (what was drawn, limit)."""
    grey = to_colours(image, bands)
    height, width = grey.shape[:2]
    draw_image(axes, grey.mean(-1) if grey.ndim == 3 else grey)
    top, left, rows, columns = frame or (0, 0, height, width)
    place = {"extent": (left - 0.5, left + columns - 0.5, top + rows - 0.5, top - 0.5)}
    if signed:
        limit = limit_of(relevance)
        shown = axes.imshow(relevance, cmap=SIGNED, vmin=-limit, vmax=limit, interpolation="nearest", **place)
        shown.set_alpha(np.clip(np.abs(relevance) / limit, 0, 1) ** 0.5)
    else:
        limit = float(relevance.max()) or 1.0
        shown = axes.imshow(relevance, cmap=HEAT, vmin=0, vmax=limit, interpolation="bilinear", **place)
        shown.set_alpha(0.75 * np.clip(relevance / limit, 0, 1) ** 0.5)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axes.set_axis_off()
    return shown, limit


def blended(image, relevance, *, signed=True):
    """uint8 (H, W, 3): a map (H, W) over the grey image of its size, as `draw_over` draws it, pixel for pixel.

    Args:
        image: uint8 (H, W, C), or any range.
        relevance: map (H, W).
        signed: False for a heat map.
    """
    grey = to_colours(image)
    grey = np.repeat((grey.mean(-1) if grey.ndim == 3 else grey)[..., None], 3, -1)
    limit = limit_of(relevance) if signed else float(relevance.max()) or 1.0
    part = np.clip(relevance / limit, -1 if signed else 0, 1)
    colours = colormaps[SIGNED]((part + 1) / 2) if signed else colormaps[HEAT](part)
    opacity = (np.abs(part) ** 0.5 * (1.0 if signed else 0.75))[..., None]
    return np.round(255 * (opacity * colours[..., :3] + (1 - opacity) * grey)).astype("uint8")


def map_colours(relevance):
    """A map as (h, w, 3), between symmetric limits of its own: of three colours grey at zero, else white at zero."""
    relevance = np.asarray(relevance, "float64")
    flat = relevance if relevance.ndim == 3 and relevance.shape[-1] == 3 else one_value_per_pixel(relevance)
    size = np.abs(flat[flat != 0])
    limit = float(np.percentile(size, PERCENTILE)) if len(size) else 1.0
    scaled = np.clip(0.5 + 0.5 * flat / limit, 0, 1)
    return scaled if scaled.ndim == 3 else colormaps[SIGNED](scaled)[..., :3]


def in_its_field(relevance):
    """The part of a map (H, W, ...) that holds all its numbers but zeros: what a unit's receptive field left of it."""
    seen = np.abs(relevance).reshape(*relevance.shape[:2], -1).any(-1)
    rows, columns = (np.flatnonzero(seen.any(axis)) for axis in (1, 0))
    return relevance[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else relevance


def _framed(axes, frame):
    """Draws the edge of what the network saw of an image."""
    top, left, height, width = frame
    axes.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor=ORANGE, linewidth=1))


def caption(figure, title, size=9):
    """Puts a title over a figure, its lines broken so that they fit the figure."""
    width = max(30, int(figure.get_size_inches()[0] * 112 / size))
    lines = [textwrap.fill(line, width) for line in str(title).splitlines()]
    figure.suptitle("\n".join(lines), fontsize=size)


def explanation_sheet(image, relevance, title="", *, frame=None, signed=None, bands=None):
    """An image, the map of what was explained, and the map over the image, with a colour bar.

    A map of three colours is also drawn as Zeiler and Fergus 2014 draw theirs: in colour, grey at zero, stretched, and
    cropped to the field in which it is not zero. A heat map is shown over the image only.

    Args:
        image: (H, W, C), any range; it may be larger than the map, such as the photograph that was explained.
        relevance: map (h, w, C) or (h, w), enlarged to the image.
        title: model, method, class, probability: what the caption has to name.
        frame: (top, left, height, width): the part of the image that the map belongs to, pixels; None: all of it.
        signed: False for a heat map; None: a map (h, w) without negative values is one.
        bands: one or three channels of the image to draw; see `to_colours`.
    Raises:
        UsageError: an image or bands that cannot be drawn.
    """
    image, relevance = np.asarray(image), np.asarray(relevance)
    check_drawable(image[None], bands)
    signed = relevance.ndim == 3 or bool(relevance.min() < 0) if signed is None else signed
    flat = one_value_per_pixel(relevance)
    coloured = signed and relevance.ndim == 3 and relevance.shape[-1] == 3
    panels = 2 + signed + coloured
    side = min(2.5, (PAGE[0] - 0.7) / panels)
    width = side * panels + 0.7
    height = side * min(2.0, max(0.6, image.shape[0] / image.shape[1])) + 0.5 + 0.16 * (2 + len(str(title)) // 90)
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    draw_image(axes[0], image, bands)
    axes[0].set_title(what_is_drawn(image, bands) or "image", fontsize=8)
    if frame is not None and tuple(frame) != (0, 0, *image.shape[:2]):
        _framed(axes[0], frame)
        axes[0].set_title("image; the network\nsaw what is framed", fontsize=8)
    if signed:
        draw_signed(axes[1], flat)
        axes[1].set_title("map", fontsize=8)
    if coloured:
        axes[2].imshow(map_colours(in_its_field(relevance)), interpolation="nearest")
        axes[2].set_axis_off()
        axes[2].set_title("in colour, grey at zero", fontsize=8)
    shown, limit = draw_over(axes[-1], image, flat, frame=frame, signed=signed, bands=bands)
    axes[-1].set_title("map over the image", fontsize=8)
    bar = ScalarMappable(shown.norm, shown.cmap)
    clipped = f", {PERCENTILE}% of the pixels" if signed and limit < np.abs(flat).max() else ""
    label = f"{range_of(flat, signed)}{clipped}"
    drawn = figure.colorbar(bar, ax=axes[-1], shrink=0.85)
    drawn.set_label(label if signed else f"heat map, {label}", fontsize=7)
    drawn.ax.tick_params(labelsize=7)
    caption(figure, title)
    return figure


def comparison_sheet(images, maps, labels=None, title="", *, bands=None):
    """A row per image, a column per method; for one image a grid. Every map has limits of its own.

    Args:
        images: (N, H, W, C), or a list of images of different sizes, such as photographs.
        maps: {method: (N, ...)}; maps of another size are stretched over the image's frame. Heat maps (`is_signed`)
            are blended over the image.
        labels: N texts, over the images.
        bands: as of `to_colours`.
    """
    images = [np.asarray(image) for image in images]
    check_drawable(images[0][None], bands)
    columns, rows = len(maps) + 1, len(images)
    grid = rows == 1 and columns > 4
    if grid:
        rows, columns = _grid(columns)
    cell = max(0.3, min(1.9, (PAGE[0] - 0.1) / columns, (PAGE[1] - 1.2) / rows - 0.3))
    small = 7 if cell > 1.1 else 5
    figure = Figure(figsize=(max(4.0, cell * columns), rows * (cell + 0.3) + 1.0), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.ravel():
        ax.set_axis_off()
    kinds = set()
    for number, image in enumerate(images):
        first, *others = axes.ravel() if grid else axes[number]
        draw_image(first, image, bands)
        drawn = what_is_drawn(image, bands)
        first.set_title(
            "\n".join(filter(None, [labels[number] if labels is not None else "image", drawn])), fontsize=small
        )
        for ax, (method, relevance) in zip(others, maps.items(), strict=False):
            signed, reach = draw_map(ax, image, relevance[number], method, bands)
            kinds.add(signed)
            name = method.replace(" " if " " in method else "_", "\n") if cell < 1.1 else method
            head = f"{name}\n" if grid or number == 0 else ""
            ax.set_title(f"{head}{reach}", fontsize=small)
    colour_bars(figure, axes, kinds)
    caption(figure, title or "each map between limits of its own")
    return figure


def _grid(count):
    """(rows, columns) of the fewest columns, at least four, in which so many maps fit a page of A4."""
    columns = 4
    while math.ceil(count / columns) * (min(1.9, (PAGE[0] - 0.1) / columns) + 0.3) > PAGE[1] - 1.2:
        columns += 1
    return math.ceil(count / columns), columns


def colour_bars(figure, axes, kinds):
    """One colour bar for all signed maps of a sheet, one for all heat maps, in parts of each map's limit."""
    for signed in sorted(kinds, reverse=True):
        bar = ScalarMappable(cmap=SIGNED if signed else HEAT)
        bar.set_clim(-1 if signed else 0, 1)
        drawn = figure.colorbar(bar, ax=axes, location="bottom", shrink=0.4, aspect=40, pad=0.02)
        drawn.set_ticks([-1, 0, 1] if signed else [0, 1])
        drawn.set_ticklabels(["-limit", "0", "+limit"] if signed else ["0", "limit"], fontsize=6)
        kind = f"signed maps, colours end at {PERCENTILE}% of the pixels" if signed else "heat maps over the image"
        drawn.set_label(f"{kind}; each its own limit", fontsize=6)


def preprocessing_sheet(pixels, image, title=""):
    """An image as it is in its file, and what the network sees of it.

    Args:
        pixels: uint8 (H, W, C).
        image: float (h, w, C), after cropping, mean subtraction and scaling.
    """
    figure = Figure(figsize=(5.4, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for ax, shown, name in (
        (left, pixels, "before, 0 to 255"),
        (right, image, f"after, {image.min():.2g} to {image.max():.2g}"),
    ):
        draw_image(ax, shown)
        ax.set_title("\n".join(filter(None, [name, what_is_drawn(shown)])), fontsize=8)
    caption(figure, title)
    return figure
