"""An explanation of the same images, epoch by epoch."""

import numpy as np
from matplotlib.figure import Figure

from kerascnn.callbacks.watching import Watch
from kerascnn.explain import EXPLANATIONS, cautions, maps
from kerascnn.explain.sheets import draw_signed, one_value_per_pixel, to_colours


class ExplainEachEpoch(Watch):
    """Writes the maps of a few images by one method every so often (NPZ, `maps`), and epochs.png: a row an image, a
    column a look.

    Args:
        method: name of an explanation method (`kerascnn.explain.EXPLANATIONS`).
        images: float (N, H, W, C) as the model takes them; four or so.
        target: what is explained, as for the method; None: the top class of each image at the time.
        every, unit: see `Watch`.
        folder: the files go to <folder>/<method>; of a second one of the fit to <method>-<target>.
        **options: further arguments of the method.
    Raises:
        UsageError: unknown method; at the start of training, where images or target do not fit.
    """

    def __init__(self, method, images, target=None, every=1, unit="epochs", folder="watch", **options):
        EXPLANATIONS.facts(method)
        super().__init__(method, folder, every, unit)
        self.method, self.images, self.target, self.options = method, np.asarray(images), target, options

    def check(self):
        self._maps()

    def subject(self):
        return {"target": [] if self.target is None else [str(self.target)]}

    def _maps(self):
        return maps(self.method, self.model, self.images, self.target, **self.options)

    def look(self, at):
        self.keep(at, maps=self._maps())
        title = "\n".join([f"{self.method}, {self.model.name}", *cautions(self.method, self.model)])
        self.draw("epochs", epochs_sheet(self.images, self.kept(most=8), title, self.unit))


def epochs_sheet(images, looks, title, unit):
    """The figure of looks {epochs: {"maps": (N, H, W, C) or (N, H, W)}} beside the images."""
    figure = Figure(figsize=(max(5.2, 1.2 * (len(looks) + 1)), 1.2 * len(images) + 0.6), layout="constrained")
    for row, (image, line) in enumerate(
        zip(images, figure.subplots(len(images), len(looks) + 1, squeeze=False), strict=True)
    ):
        line[0].imshow(to_colours(image), cmap="gray", interpolation="nearest")
        line[0].set_axis_off()
        for ax, (at, look) in zip(line[1:], looks.items(), strict=True):
            draw_signed(ax, one_value_per_pixel(look["maps"][row]))
            if row == 0:
                ax.set_title(f"{at}", fontsize=8)
    figure.suptitle(f"{title}; {unit} above, each map between its own symmetric limits", fontsize=8)
    return figure
