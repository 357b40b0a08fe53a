"""Figures of maps and activations: arrays in, matplotlib figures out, nothing computed by a network.

Signed maps are drawn in a diverging colour map that is white at zero, between symmetric limits that the title names.
"""

import math

import numpy as np
from matplotlib.figure import Figure

SIGNED, UNSIGNED = "RdBu_r", "cividis"


def to_colours(image):
    """An image (H, W, C) of any range, or (H, W), as (H, W, 3) or (H, W) between 0 and 1."""
    image = np.asarray(image, float)
    image = (image - image.min()) / max(np.ptp(image), 1e-12)
    return image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image


def one_value_per_pixel(found):
    """A map (H, W, C) summed over its colours; (H, W) as it is."""
    return found.sum(-1) if found.ndim == 3 else found


def draw_signed(axes, found):
    """Draws a map (H, W), white at zero; returns the limit used."""
    limit = float(np.abs(found).max()) or 1.0
    axes.imshow(found, cmap=SIGNED, vmin=-limit, vmax=limit, interpolation="nearest")
    axes.set_axis_off()
    return limit


def _axes(rows, cols, cell=2.2):
    figure = Figure(figsize=(cell * cols, cell * rows + 0.5), layout="constrained")
    return figure, figure.subplots(rows, cols, squeeze=False)


def explanation_sheet(image, found, title=""):
    """Original, map and overlay side by side.

    Args:
        image: (H, W, C), any range.
        found: map (H, W, C) or (H, W).
        title: model, method, target: what the caption has to name.
    """
    figure, (axes,) = _axes(1, 3)
    flat = one_value_per_pixel(np.asarray(found))
    axes[0].imshow(to_colours(image), cmap="gray", interpolation="nearest")
    axes[0].set_title("image", fontsize=8)
    limit = draw_signed(axes[1], flat)
    axes[1].set_title(f"map, {-limit:.2g} to {limit:.2g}", fontsize=8)
    grey = to_colours(image)
    axes[2].imshow(grey.mean(-1) if grey.ndim == 3 else grey, cmap="gray", interpolation="nearest")
    shade = axes[2].imshow(flat, cmap=SIGNED, vmin=-limit, vmax=limit, interpolation="nearest")
    shade.set_alpha(np.clip(np.abs(flat) / limit, 0, 1) ** 0.5)
    axes[2].set_title("overlay", fontsize=8)
    for ax in axes:
        ax.set_axis_off()
    figure.suptitle(title, fontsize=9)
    return figure


def comparison_sheet(images, maps, labels=None, title=""):
    """One row per image, one column per method; every map has its own limits.

    Args:
        images: (N, H, W, C).
        maps: {method: (N, ...)}; maps of another size are stretched over the image's frame.
        labels: N texts, under the images.
    """
    figure, axes = _axes(len(images), len(maps) + 1, 1.7)
    for i, row in enumerate(axes):
        row[0].imshow(to_colours(images[i]), cmap="gray", interpolation="nearest")
        row[0].set_axis_off()
        row[0].set_title(labels[i] if labels is not None else "image", fontsize=8)
        for ax, (method, found) in zip(row[1:], maps.items(), strict=True):
            draw_signed(ax, one_value_per_pixel(np.asarray(found[i])))
            if i == 0:
                ax.set_title(method, fontsize=8)
    figure.suptitle(title or "each map between its own symmetric limits, white at zero", fontsize=9)
    return figure


def activation_grid(maps, title="", columns=None, most=64):
    """A layer's maps (h, w, channels) as a near-square grid, one scale for all, one-pixel gaps.

    Args:
        most: at most so many channels are drawn, the first ones.
    """
    maps = np.asarray(maps)[..., :most]
    h, w, count = maps.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = np.full((rows * (h + 1) - 1, columns * (w + 1) - 1), np.nan)
    for i in range(count):
        top, left = (i // columns) * (h + 1), (i % columns) * (w + 1)
        sheet[top : top + h, left : left + w] = maps[..., i]
    figure = Figure(figsize=(5.6, 0.7 + 4.5 * sheet.shape[0] / sheet.shape[1]), layout="constrained")
    ax = figure.subplots()
    low = min(0.0, float(maps.min()))
    limit = float(np.abs(maps).max()) or 1.0
    style = {"cmap": SIGNED, "vmin": -limit, "vmax": limit} if low < 0 else {"cmap": UNSIGNED, "vmin": 0, "vmax": limit}
    shown = ax.imshow(sheet, interpolation="nearest", **style)
    ax.set_axis_off()
    figure.colorbar(shown, ax=ax, label="activation, one scale")
    figure.suptitle(title, fontsize=9)
    return figure


def preprocessing_sheet(pixels, image, title=""):
    """An image as it is in its file, and what the network sees of it.

    Args:
        pixels: uint8 (H, W, C).
        image: float (h, w, C), after cropping, mean subtraction and scaling.
    """
    figure, (axes,) = _axes(1, 2, 2.6)
    for ax, shown, name in (
        (axes[0], pixels / 255, "before, 0 to 255"),
        (axes[1], to_colours(image), f"after, {image.min():.2g} to {image.max():.2g}"),
    ):
        ax.imshow(shown[..., 0] if shown.ndim == 3 and shown.shape[-1] == 1 else shown, cmap="gray", vmin=0, vmax=1)
        ax.set_title(name, fontsize=8)
        ax.set_axis_off()
    figure.suptitle(title, fontsize=9)
    return figure


def unit_sheet(values, title=""):
    """A dense layer's activations (units,): a bar per unit, and their histogram."""
    values = np.asarray(values)
    figure, (axes,) = _axes(1, 2, 3.5)
    axes[0].bar(np.arange(len(values)), values, width=1.0)
    axes[0].set(xlabel="unit", ylabel="activation")
    axes[1].hist(values, bins=40)
    axes[1].set(xlabel="activation", ylabel="units")
    figure.suptitle(f"{title} ({(values == 0).mean():.0%} exactly zero)", fontsize=9)
    return figure
