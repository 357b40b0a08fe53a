"""The filters of a layer as a grid, epoch by epoch (the 8x8 grids of the CS7011 report, the colours of TDT4265's)."""

from kerascnn import runs
from kerascnn.callbacks.filters import filter_sheets, filters_of, layer_of
from kerascnn.callbacks.watching import Watch
from kerascnn.errors import counted


class FilterGrid(Watch):
    """Writes <layer>-<epochs>.png and the filters themselves (NPZ, `filters` (n, h, w, channels)) every so often.

    First-layer filters are drawn in colour, each on a scale of its own; further figures show them on one scale (-one)
    and red, green and blue alone (-red, -green, -blue). Deeper filters are a row each, a tile per input channel.

    Args:
        layer: a convolution's name; None: the first one.
        every, unit: see `Watch`.
        folder: the files go to <folder>/filters; of a second FilterGrid of the fit to filters-<layer>.
    Raises:
        UsageError: at the start of training, where the layer does not exist or has no filters.
    Example:
        looks = [kerascnn.callbacks.FilterGrid("conv1")]
        model.fit(images, labels, epochs=2, callbacks=looks)  # writes to watch/
    """

    def __init__(self, layer=None, every=1, unit="epochs", folder="watch"):
        super().__init__("filters", folder, every, unit)
        self.layer = layer

    def check(self):
        self.path, _ = layer_of(self.model, self.layer)

    def subject(self):
        return {"layers": [self.path]}

    def look(self, at):
        filters = filters_of(self.model, self.path)
        self.keep(at, filters=filters)
        title = (
            f"{self.path} of {self.model.name}: {counted(len(filters), 'filter')} after {counted(at, self.counts[:-1])}"
        )
        for ending, figure in filter_sheets(filters, title).items():
            self.draw(f"{runs.plain(self.path.replace('/', '-'))}-{at:07d}{ending}", figure)
