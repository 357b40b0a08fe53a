"""The filters of a layer through training: a strip, an animation, and what became of each."""

import math

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from kerascnn.callbacks import register
from kerascnn.callbacks.filter_grid import FilterGrid
from kerascnn.callbacks.filters import filters_of, layer_of, measured, scaled
from kerascnn.callbacks.watching import Watch
from kerascnn.explain.sheets import caption
from kerascnn.plots import mosaic
from kerascnn.runs import replacing


class FilterEvolution(Watch):
    """Keeps the filters of every look and writes, at the end and every ten looks, strip.png, evolution.gif and
    evolution.csv: norm, distance from the initial weights, orientation, frequency and verdict of every filter.

    Args:
        layer: a convolution's name; None: the first one.
        every, unit: see `Watch`; the filters before the first step are kept too.
        folder: the files go to <folder>/filter-evolution; of a second one of the fit to filter-evolution-<layer>.
    Raises:
        UsageError: at the start of training, where the layer does not exist or has no filters.
    Example:
        looks = [kerascnn.callbacks.FilterEvolution("conv1")]
        model.fit(images, labels, epochs=2, callbacks=looks)  # writes to watch/
    """

    def __init__(self, layer=None, every=1, unit="epochs", folder="watch"):
        super().__init__("filter-evolution", folder, every, unit, start=True)
        self.layer = layer

    def check(self):
        self.path, _ = layer_of(self.model, self.layer)

    def subject(self):
        return {"layers": [self.path]}

    def look(self, at):
        self.keep(at, filters=filters_of(self.model, self.path))
        done = self._epochs if self.unit == "epochs" else self._steps
        if at and done // self.every % 10 == 0:
            self.finish()

    def finish(self):
        looks = {at: arrays["filters"] for at, arrays in self.kept().items()}
        if not looks:
            return
        initial = next(iter(looks.values()))
        tables = [measured(filters, initial).assign(**{self.counts: at}) for at, filters in looks.items()]
        import pandas as pd

        self.write("evolution", pd.concat(tables, ignore_index=True))
        title = (
            f"{self.path} of {self.model.name}: {self.counts} above each part; filters by rows, each on its own scale"
        )
        self.draw("strip", strip(self.kept(most=8), title))
        with replacing(self.folder / "evolution.gif") as temporary:
            frames = [Image.fromarray(_frame(filters)) for filters in looks.values()]
            frames[0].save(temporary, save_all=True, append_images=frames[1:], duration=250, loop=0)


def _tiles(filters):
    """Filters (n, h, w, channels) as tiles (n, h, w, 3): in colour where there are three channels, else their mean."""
    shown = filters if filters.shape[-1] == 3 else filters.mean(-1, keepdims=True)
    return np.broadcast_to(scaled(shown), (*shown.shape[:3], 3))


def _frame(filters, side=320):
    """A grid of filters as uint8 (H, W, 3), about `side` pixels wide."""
    image = (255 * mosaic(_tiles(filters))).round().astype("uint8")
    factor = max(1, side // image.shape[1])
    return image.repeat(factor, 0).repeat(factor, 1)


def strip(looks, title):
    """The figure of a layer's grid at some moments, {number: {"filters": (n, h, w, channels)}}, four in a row."""
    grids = {at: mosaic(_tiles(arrays["filters"])) for at, arrays in looks.items()}
    height, width = next(iter(grids.values())).shape[:2]
    columns = min(4, len(grids))
    rows = math.ceil(len(grids) / columns)
    figure = Figure(figsize=(max(4.0, 2 * columns), rows * (2 * height / width + 0.25) + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    for ax, (at, grid) in zip(axes, grids.items(), strict=False):
        ax.imshow(grid, interpolation="nearest")
        ax.set_title(f"{at}", fontsize=8)
    caption(figure, title, 8)
    return figure


@register()
def filters(data, prepared):
    """The filters of the first convolution, and what becomes of each."""
    return [FilterGrid(), FilterEvolution()]
