"""What excites the neurons of a layer most, now and then during training."""

import contextlib

from kerascnn import runs
from kerascnn.callbacks import register
from kerascnn.callbacks.watching import Watch, spread
from kerascnn.dataset_scan import sheets
from kerascnn.dataset_scan.scanned_layers import scanned_layers
from kerascnn.dataset_scan.scanning import scan
from kerascnn.errors import counted


class TopPatches(Watch):
    """Scans images and writes the sheet of the strongest patches, <layer>-<epochs>.png, and their table (CSV).

    It also looks after the last epoch, or after the one in which a callback before it stops the training.

    Args:
        data: images float (N, H, W, C) as the model takes them, a Split or an ImageData; see `kerascnn.scan`.
        layer: name; None: the deepest convolution, after its normalisation and activation.
        top: patches a channel.
        channels: numbers of the channels drawn; None: the ten most telling where classes are known, else the first.
        every, unit: see `Watch`.
        labels, class_names, split, preprocessing: see `kerascnn.scan`.
        folder: the files go to <folder>/patches; of a second one of the fit to patches-<layer>.
    Raises:
        UsageError: at the start of training, where the layer does not exist, top is larger than the data, or the images
            do not fit.
    Example:
        looks = [kerascnn.callbacks.TopPatches(images, "conv2", top=4, every=1)]
        model.fit(images, labels, epochs=2, callbacks=looks)  # writes to watch/
    """

    def __init__(self, data, layer=None, top=9, channels=None, every=10, unit="epochs", folder="watch", **options):
        super().__init__("patches", folder, every, unit)
        self.data, self.layer, self.top, self.channels, self.options = data, layer, top, channels, options

    def check(self):
        self.path = scanned_layers(self.model, self.layer)[-1].name
        with contextlib.suppress(_Enough):
            self._scan(say=_stop)

    def subject(self):
        return {"layers": [self.path], "channels": [] if self.channels is None else list(map(int, self.channels))}

    def look(self, at):
        result = self._scan()
        stem = f"{runs.plain(self.path.replace('/', '-'))}-{at:07d}"
        self.write(stem, result.top(self.path).join(result.boxes(self.path)[["top", "left", "bottom", "right"]]))
        title = (
            f"{self.path} of {self.model.name} after {counted(at, self.counts[:-1])}: what excites each channel most"
        )
        self.draw(stem, sheets.patch_sheet(result, self.path, self.channels, title=title))

    def _due(self, epochs):
        last = epochs == (self.length or self.params["epochs"]) or self.model.stop_training
        return last or super()._due(epochs)

    def _scan(self, **options):
        return scan(self.model, self.data, self.path, self.top, **self.options, **options)


class _Enough(Exception):  # noqa: N818 (no error: the first block went through)
    pass


def _stop(done, count):
    raise _Enough


@register()
def patches(data, prepared):
    """The patches of 2,000 training images that excite the deepest convolution most."""
    options = {"class_names": data.class_names, "preprocessing": prepared}
    return [TopPatches(spread(data.train, 2000), top=min(9, len(data.train)), **options)]
