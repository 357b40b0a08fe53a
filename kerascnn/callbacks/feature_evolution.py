"""How features form: the strongest patch of chosen feature maps and its deconvnet image through training.

Zeiler and Fergus 2013, figure 4.
"""

import numpy as np
from matplotlib.figure import Figure

from kerascnn.callbacks import register
from kerascnn.callbacks.watching import Watch, spread
from kerascnn.dataset_scan.explained import patch_maps
from kerascnn.dataset_scan.scanned_layers import scanned_layers
from kerascnn.dataset_scan.scanning import scan
from kerascnn.dataset_scan.sheets import enlarged, natural
from kerascnn.explain.sheets import caption, check_drawable, map_colours, what_is_drawn

EPOCHS = (1, 2, 5)  # and then 10, 20, 40, 60 ... as below
MOST = 6  # channels where none are named


class FeatureEvolution(Watch):
    """At epochs 1, 2, 5, 10, 20, 40, 60 ... finds the strongest patch of each chosen channel among fixed images, and
    its deconvnet image; writes evolution.png (a row a channel, a column for each of at most six looks, which
    fit a page) and the arrays of each look (NPZ).

    Args:
        images: float (N, H, W, C) as the model takes them, the images searched.
        layer: name; None: the deepest convolution, after its normalisation and activation.
        channels: numbers of channels; None: the first six.
        epochs: when to look, a tuple of epochs; None: as above.
        folder: the files go to <folder>/features; of a second one of the fit to features-<layer>-<channels>.
        bands: one or three channels of the images to draw; None: of other than one or three channels the mean.
    Raises:
        UsageError: at the start of training, where layer, channel or images do not fit.
    Example:
        looks = [kerascnn.callbacks.FeatureEvolution(images, "conv2", channels=(0, 5), epochs=(1, 2))]
        model.fit(images, labels, epochs=2, callbacks=looks)  # writes to watch/
    """

    def __init__(self, images, layer=None, channels=None, epochs=None, folder="watch", *, bands=None):
        super().__init__("features", folder)
        self.images, self.layer, self.epochs, self.bands = images, layer, epochs, bands
        self.channels = None if channels is None else tuple(channels)

    def check(self):
        check_drawable(self.images, self.bands)
        self.path = scanned_layers(self.model, self.layer)[-1].name
        result = scan(self.model, self.images[:1], self.path, 1, batch_size=1)
        there = range(len(result.top(self.path)))
        self.shown = tuple(there[:MOST]) if self.channels is None else self.channels
        for channel in self.shown:
            result.patches(self.path, channel)

    def subject(self):
        return {"layers": [self.path], "channels": list(map(int, self.shown))}

    def _due(self, epochs):
        if self.epochs is not None:
            return epochs in self.epochs
        return epochs in EPOCHS or epochs == 10 or epochs % 20 == 0

    def look(self, at):
        result = scan(self.model, self.images, self.path, 1)
        maps = patch_maps(result, self.model, self.path, self.shown, methods=("deconvnet",))["deconvnet"]
        table = result.top(self.path).set_index("channel")
        self.keep(
            at,
            patches=np.concatenate([result.patches(self.path, channel) for channel in self.shown]),
            inside=np.concatenate([result.inside(self.path, channel) for channel in self.shown]),
            deconvnet=np.concatenate([maps[channel] for channel in self.shown]),
            image=table.loc[list(self.shown), "image"].to_numpy(),
            value=table.loc[list(self.shown), "value"].to_numpy(),
        )
        title = f"{self.path} of {self.model.name}: strongest patch and its deconvnet image\n"
        title += f"{self.counts} above; stripes: beyond the image's border"
        self.draw("evolution", evolution(self.kept(most=6), self.shown, title, self.bands))


def evolution(looks, channels, title, bands=None):
    """The figure of looks {epochs: {"patches", "deconvnet": (channels, h, w, C), "inside": bool (channels, h, w)}}.

    What lies beyond the image's border is striped.
    """
    cell = min(0.85, 3.8 / len(looks))
    figure = Figure(figsize=(max(5.2, 2 * cell * len(looks) + 0.6), (cell + 0.1) * len(channels) + 0.7))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(len(channels), 2 * len(looks), squeeze=False)
    for column, (at, look) in enumerate(looks.items()):
        for row, channel in enumerate(channels):
            left, right = axes[row, 2 * column : 2 * column + 2]
            patch = look["patches"][row]
            inside = look["inside"][row] if "inside" in look else np.ones(patch.shape[:2], bool)
            shown = patch if bands is None else patch[..., list(bands)]
            left.imshow(enlarged(natural(shown, inside), inside), interpolation="nearest")
            right.imshow(enlarged(map_colours(look["deconvnet"][row]), inside), interpolation="nearest")
            if row == 0:
                left.set_title(f"{at}", fontsize=8, loc="right")
            if column == 0:
                left.set_ylabel(f"{channel}", fontsize=8)
    for ax in axes.ravel():
        ax.set(xticks=[], yticks=[])
    drawn = what_is_drawn(next(iter(looks.values()))["patches"][0], bands)
    caption(figure, f"{title}; {drawn}" if drawn else title, 8)
    return figure


@register()
def features(data, prepared):
    """The strongest patch of each chosen channel among 2,000 training images, and its deconvnet image."""
    return [FeatureEvolution(prepared(spread(data.train, 2000).images[:]))]
