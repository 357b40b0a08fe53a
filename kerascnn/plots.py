"""Colours, mosaics and saving for every figure, and the figures of tables. Never imports Keras.

Every figure file gets its numbers beside it.
"""

import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kerascnn.runs import replacing

# Okabe and Ito's colours, which the colour-blind can tell apart.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
# Colour maps: of numbers around zero, of numbers from zero on, of heat over an image, of shares.
SIGNED, UNSIGNED, HEAT, SHARES = "RdBu_r", "cividis", "inferno", "Blues"
GAP = "#d9d9d9"  # what lies between the tiles of a mosaic, a colour that no scale has
DPI = 120


def save(figure, numbers, path):
    """Write a figure as PNG and its numbers (a DataFrame) as CSV beside it.

    Args:
        path: of the PNG file; the CSV has the same stem.
    """
    path = Path(path)
    write(figure, path, bbox_inches="tight")
    with replacing(path.with_suffix(".csv")) as temporary:
        numbers.to_csv(temporary, index=numbers.index.name is not None)


def write(figure, path, **options):
    """Write a figure as PNG, all at once; `options` are those of `Figure.savefig`."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=DPI, **options)


def panel(width, height, title, grid="both", **labels):
    """(Figure, Axes) of one panel.

    Args:
        width, height: inches.
        grid: "both", "x" or "y"; "" for none.
        labels: what `Axes.set` takes, such as xlabel.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set(**labels)
    axes.set_title(title, fontsize="medium")
    if grid:
        axes.grid(axis=grid, alpha=0.25)
    return figure, axes


def mosaic(tiles, columns=None, gap=1.0, above=0):
    """One image of tiles (n, h, w, ...) in a near-square grid with one-pixel gaps.

    Args:
        gap: what the gaps are filled with: 1 is white in grey and colour; NaN is no number of any scale.
        above: further rows of pixels over each line of tiles, with room for their numbers.
    """
    count, h, w = tiles.shape[:3]
    columns = columns or math.ceil(math.sqrt(count))
    line = h + above + 1
    image = np.full((math.ceil(count / columns) * line - 1, columns * (w + 1) - 1, *tiles.shape[3:]), gap)
    for number, tile in enumerate(tiles):
        top, left = number // columns * line + above, number % columns * (w + 1)
        image[top : top + h, left : left + w] = tile
    return image


def shortened(name, most=32):
    """A class's name with an ellipsis in its middle where it is longer than a figure has room for."""
    return name if len(name) <= most else f"{name[: most // 2]}...{name[-(most - most // 2 - 3) :]}"


def axis(metrics):
    """("epochs" or "steps", how many were done at each row) of a DataFrame as metrics.csv has it."""
    return ("steps", metrics["step"]) if "step" in metrics else ("epochs", metrics["epoch"] + 1)


def learning_curve(metrics, quantity, title):
    """Loss (or accuracy) of training and validation, and of the test where it was watched, over epochs or steps.

    Args:
        metrics: DataFrame with columns epoch (from 0) or step (steps done), `quantity`, val_<quantity> and
            test_<quantity>, those that there are; for the loss also nll, val_nll and test_nll where labels are
            smoothed, which are then drawn with whole lines.
        quantity: "loss", "accuracy" or "top5".
    """
    figure, axes = panel(6, 4, title)
    sets = (("", "training", BLUE), ("val_", "validation", ORANGE), ("test_", "test", GREEN))
    lines = [(f"{prefix}{quantity}", label, color, "-") for prefix, label, color in sets]
    if quantity == "loss" and "nll" in metrics:
        smoothed = [(column, f"{label}, smoothed labels", color, ":") for column, label, color, _ in lines]
        lines = [(f"{prefix}nll", label, color, "-") for prefix, label, color in sets] + smoothed
    unit, done = axis(metrics)
    for column, label, color, style in lines:
        if column in metrics:
            marker = {"marker": ".", "markersize": 4 if len(metrics) > 10 else 9}
            axes.plot(done, metrics[column], style, color=color, label=label, **marker)
    axes.set_xlabel(unit)
    axes.set_ylabel({"loss": "loss (nats)", "top5": "top-5 accuracy (fraction)"}.get(quantity, "accuracy (fraction)"))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    return figure


def confusion(counts, title):
    """A confusion matrix as a table of counts, each row shaded by its share.

    Args:
        counts: DataFrame (num_classes, num_classes), rows true, columns predicted.
    """
    size = len(counts)
    side = min(3 + 0.42 * size, 24)
    figure, axes = panel(side + 1, side, title, "", xlabel="predicted class", ylabel="true class")
    shares = counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
    image = axes.imshow(shares, cmap=SHARES, vmin=0, vmax=1)
    small = max(4, min(9, 260 / size))
    axes.set_xticks(range(size), map(shortened, counts.columns), rotation=90, fontsize=small)
    axes.set_yticks(range(size), map(shortened, counts.index), fontsize=small)
    if size <= 30:
        for row in range(size):
            for column in range(size):
                if counts.iat[row, column]:
                    color = "white" if shares.iat[row, column] > 0.6 else "black"
                    axes.text(
                        column, row, counts.iat[row, column], ha="center", va="center", fontsize=small, color=color
                    )
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    return figure


def rate_range(table, suggested, title):
    """The loss against the rising learning rate, the suggested rate marked; shaded is what does not count for it.

    Args:
        table: DataFrame with columns rate, loss (smoothed) and step_loss.
        suggested: a rate.
    """
    figure, axes = panel(6, 4, title, xlabel="learning rate", ylabel="loss (nats)")
    axes.plot(table["rate"], table["step_loss"], ".", color=BLUE, markersize=3, alpha=0.4, label="a step")
    axes.plot(table["rate"], table["loss"], color=BLUE, label="smoothed")
    rates, tenth = table["rate"].to_numpy(), len(table) // 10
    for first, last in ((rates[0], rates[tenth]), (rates[-1 - tenth], rates[-1])):
        axes.axvspan(first, last, color="0.93", zorder=0, label="not counted" if first == rates[0] else None)
    axes.axvline(suggested, color=ORANGE, linestyle="--", label=f"suggested: {suggested:.2g}")
    axes.set_xscale("log")
    low = min(table["loss"].min(), table["step_loss"].min())
    axes.set_ylim(low - 0.1 * abs(low), min(table["step_loss"].max(), 1.5 * table["step_loss"].iloc[0]))
    axes.legend(frameon=False)
    return figure


def batch_range(table, suggested, title):
    """Images a second and predicted memory against the batch size, the suggested size marked."""
    figure, axes = panel(6, 4, title, xlabel="batch size (images)", ylabel="images a second")
    axes.plot(table["batch_size"], table["images_per_second"], color=BLUE, marker="o")
    axes.axvline(suggested, color=ORANGE, linestyle="--", label=f"suggested: {suggested}")
    axes.set_xscale("log", base=2)
    axes.set_xticks(table["batch_size"], table["batch_size"])
    axes.set_ylim(bottom=0)
    memory = axes.twinx()
    memory.plot(table["batch_size"], table["memory_bytes"] / 2**20, color=GREEN, linestyle=":")
    memory.set_ylabel("predicted memory (MiB), dotted", color=GREEN)
    memory.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure
