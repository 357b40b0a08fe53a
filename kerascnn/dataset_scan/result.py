"""What a scan found: tables, patches, and the neurons worth looking at."""

import numpy as np
import pandas as pd

from kerascnn import notebook
from kerascnn.dataset_scan.leaders import NONE
from kerascnn.dataset_scan.record import Record
from kerascnn.dataset_scan.statistics import bin_edges, selectivity_index
from kerascnn.errors import UsageError, counted, unknown

SHOWN = 8  # channels of which a notebook shows the strongest patch


def load(path):
    """The ScanResult in a file that `ScanResult.save` or `scan(..., out=path)` wrote.

    Raises:
        UsageError: no such file.
        DataError: the file is torn, or no scan's.
    """
    return ScanResult(Record.read(path))


def _shorter(name):
    """What a layer "block/conv1 (after relu)" may be called for short."""
    layer = name.partition(" (after ")[0]
    return layer, name.rpartition("/")[2], layer.rpartition("/")[2]


class ScanResult:
    """The leaders and statistics of every channel of the layers scanned.

    Attributes:
        manifest: dict: model, layers, k, per_image, samples, class_names, images (how many), weights (checksum).
        layers: names of the layers scanned, such as "fc1", or "conv1 (after relu)"; methods take "conv1" for that, too.
        class_names: tuple, empty where the data has none.
    """

    def __init__(self, record, take=None):
        self._record, self._take = record, take
        self.manifest = record.manifest
        self.layers = list(record.layers)
        self.class_names = tuple(record.manifest["class_names"])

    def __repr__(self):
        shard = "shard {}/{} of ".format(*self.manifest["shard"]) if "shard" in self.manifest else ""
        images = shard + counted(self.manifest["images"], "image")
        return f"ScanResult({self.manifest['model']}: {', '.join(self.layers)}; {images})"

    def _repr_html_(self):
        rows = []
        for layer in self.layers:
            stats = self.stats(layer)
            dead = f", {int(stats['dead'].sum())} never above 0" if stats["dead"].any() else ""
            rows.append((layer, f"{counted(len(stats), 'channel')}{dead}"))
        layer, images = self.layers[-1], []
        best = self.interesting(layer, SHOWN) if self.class_names else self.top(layer).query("rank == 1").head(SHOWN)
        for channel in best["channel"]:
            try:
                patch = self.patches(layer, int(channel))[0]
            except UsageError:  # saved without patches
                break
            if patch.shape[-1] in (1, 3):
                images.append(notebook.picture(notebook.as_bytes(patch), f"channel {channel}"))
        title = f"Scan of {self.manifest['model']} over {counted(self.manifest['images'], 'image')}"
        return notebook.card(title, rows, images)

    def top(self, layer):
        """The largest activations: DataFrame with columns channel, rank (from 1), value, image, row, col, label.

        `label` is a class name where names are known, else the class number, -1 for images without one. Ties go to the
        smaller image number, then to the first place in row-major order.
        """
        record = self._layer_record(layer)
        leaders, geometry = record.leaders, record.geometry
        channels, k = leaders.value.shape
        rows, cols = np.divmod(leaders.place.ravel(), geometry.cols)
        labels = leaders.label.ravel()
        named = [self.class_names[n] if n >= 0 else "" for n in labels] if self.class_names else labels
        table = pd.DataFrame(
            {
                "channel": np.repeat(np.arange(channels), k),
                "rank": np.tile(np.arange(1, k + 1), channels),
                "value": leaders.value.ravel(),
                "image": leaders.image.ravel(),
                "row": rows,
                "col": cols,
                "label": named,
            }
        )
        return table[table["image"] != NONE].reset_index(drop=True)

    def boxes(self, layer):
        """The pixels that each row of `top(layer)` sees: DataFrame channel, rank, top, left, bottom, right.

        Half open, clipped to the image: outside, no pixel can change the activation.
        """
        record, table = self._layer_record(layer), self.top(layer)
        corners = record.geometry.boxes[table["row"] * record.geometry.cols + table["col"]]
        edges = zip(("top", "left", "bottom", "right"), corners.T, strict=True)
        return table[["channel", "rank"]].assign(**dict(edges))

    def patches(self, layer, channel):
        """(k, h, w, C): the patches of the images that excite a channel most, in the data's own numbers.

        Every patch shows all that its neuron sees, in a frame of the layer's receptive field; where the field reaches
        beyond the image the frame is 0.

        Raises:
            UsageError: unknown layer or channel, or a result that was saved without patches.
        """
        record = self._layer_record(layer)
        keys = self._keys(layer, channel)
        return np.stack([record.geometry.framed(self._patch(record, *key), key[1]) for key in keys])

    def inside(self, layer, channel):
        """bool (k, h, w): the pixels of `patches` that lie within the image; the others are 0 there."""
        geometry = self._layer_record(layer).geometry
        return np.stack([geometry.inside(place) for _, place in self._keys(layer, channel)])

    def framed(self, layer, channel, images):
        """(k, h, w, C): k arrays (H, W, C), such as maps of `images(layer, channel)`, cut and framed like `patches`."""
        geometry = self._layer_record(layer).geometry
        places = [place for _, place in self._keys(layer, channel)]
        return np.stack([geometry.framed(geometry.cut(x, p), p) for x, p in zip(images, places, strict=True)])

    def map_size(self, layer):
        """(rows, columns) of a layer's map; (1, 1) for units."""
        geometry = self._layer_record(layer).geometry
        return geometry.rows, geometry.cols

    def images(self, layer, channel):
        """(k, H, W, C): the whole images of `patches`, where the data is still at hand."""
        if self._take is None:
            raise UsageError("The images themselves are not part of a saved scan or of a stream; its patches are.")
        return self._take(np.array([image for image, _ in self._keys(layer, channel)]))

    def stats(self, layer, *, by_class=False):
        """Statistics of a layer: DataFrame, one row a channel: mean, std, max, zeros, dead, q01, q05, ... q99.

        Args:
            by_class: True gives one row a class and channel, with the class's name in the first column.
        """
        statistics = self._layer_record(layer).statistics
        if not by_class:
            return statistics.table()
        if not self.class_names:
            raise UsageError("This scan knows no classes: give class_names= (and labels=) to scan.")
        tables = [statistics.table(row) for row in range(len(self.class_names))]
        for name, table in zip(self.class_names, tables, strict=True):
            table.insert(0, "class", name)
        return pd.concat(tables, ignore_index=True)

    def histogram(self, layer):
        """(counts int64 (channels, bins), edges (bins + 1,)): how often each activation was seen in the sample.

        Bins are a sixteenth of an octave wide, from the smallest activation seen to the largest, at least from 2**-12
        to 2**12; the one in the middle holds zero.
        """
        statistics = self._layer_record(layer).statistics
        return statistics.histogram.sum(0, dtype="int64"), bin_edges(statistics.octaves)

    def selectivity(self, layer):
        """How much each channel is one class's own: DataFrame, one row a channel.

        Columns: channel; class, the one that most of the top activations above 0 belong to; share of it among all top;
        preferred, the class with the largest mean activation; index, the class selectivity index of Morcos et al.
        (2018), (m - m_rest) / (m + m_rest) with m that class's mean and m_rest the mean over the others (0 to 1; nan
        where m is not above 0 or m_rest is below 0); max, the largest activation; strength, 0 to 1: the mean of its top
        activations above 0, divided by that of the layer's median channel (dead ones left out), at most 1.
        """
        if not self.class_names:
            raise UsageError("This scan knows no classes: give class_names= (and labels=) to scan.")
        record = self._layer_record(layer)
        labels = record.leaders.label
        excited = record.leaders.value > 0  # behind a ReLU the others lead by their number alone
        counts = np.stack([((labels == number) & excited).sum(1) for number in range(len(self.class_names))], 1)
        seen = np.maximum(1, (record.leaders.image != NONE).sum(1))
        statistics = record.statistics
        present = np.flatnonzero(statistics.images)  # classes of which there are images
        means = statistics.total[present] / (statistics.images[present, None] * int(statistics.places))
        best = present[means.argmax(0)]
        names = np.array(self.class_names)
        return pd.DataFrame(
            {
                "channel": np.arange(len(counts)),
                "class": names[counts.argmax(1)],
                "share": counts.max(1) / seen,
                "preferred": names[best],
                "index": selectivity_index(means),
                "max": record.leaders.value[:, 0],
                "strength": self._strength(layer),
            }
        )

    def _strength(self, layer):
        """(channels,) 0 to 1, see `selectivity`."""
        value = np.maximum(self._layer_record(layer).leaders.value.astype("float64"), 0)  # -inf where nobody is
        size = value.mean(1)
        return np.minimum(1, size / np.median(size[size > 0])) if (size > 0).any() else size

    def interesting(self, layer=None, n=10):
        """The n most telling channels: the largest share of one class among the top activations times `strength`, then
        the largest selectivity index. The rows of `selectivity`, best first, without channels that never rise above 0.

        Args:
            layer: None: the deepest of the layers scanned.
        """
        table = self.selectivity(self.layers[-1] if layer is None else layer)
        table = table[table["max"] > 0].assign(score=lambda rows: rows["share"] * rows["strength"])
        order = table.sort_values(["score", "index", "channel"], ascending=[False, False, True])
        return order.head(n).drop(columns="score").reset_index(drop=True)

    def save(self, path, *, patches=True):
        """Write one NPZ file, which `kerascnn.dataset_scan.load` reads.

        Patches of uint8 images higher than 64 pixels are kept as WebP, which changes their pixels a little; all others,
        and all numbers, are kept exactly.

        Args:
            patches: False leaves out the pixels of patches (they are most of the file).
        """
        if patches and self._take is not None:
            for record in self._record.layers.values():
                keys = np.stack([record.leaders.image, record.leaders.place], -1).reshape(-1, 2)
                self._fetch(record, [tuple(key) for key in keys.tolist() if key[0] != NONE])
        self._record.write(path, small=True, patches=patches)
        if self._take is not None:
            for record in self._record.layers.values():
                record.patches = {}

    def _fetch(self, record, keys, at_once=256):
        """Reads the patches of (image, place) pairs into `record.patches`."""
        numbers = sorted({image for image, _ in keys})
        by_image = {}
        for image, place in keys:
            by_image.setdefault(image, []).append(place)
        for start in range(0, len(numbers), at_once):
            some = numbers[start : start + at_once]
            for image, pixels in zip(some, self._take(np.array(some)), strict=True):
                for place in by_image[image]:
                    record.patches[image, place] = record.geometry.cut(pixels, place)

    def _patch(self, record, image, place):
        if (image, place) in record.patches:
            return record.patch(image, place)
        if self._take is None:
            raise UsageError("This scan was saved without patches: save it with patches=True.")
        return record.geometry.cut(self._take(np.array([image]))[0], place)

    def _keys(self, layer, channel):
        """(image, place) of a channel's leaders, best first."""
        leaders, number = self._layer_record(layer).leaders, self._channel(layer, channel)
        pairs = zip(leaders.image[number].tolist(), leaders.place[number].tolist(), strict=True)
        return [pair for pair in pairs if pair[0] != NONE]

    def output_layer(self, layer):
        """The network's layer whose output was scanned: "relu1" for "conv1 (after relu)"."""
        name = self._name(layer)
        return self.manifest.get("outputs", {}).get(name, name)

    def merged(self, earlier):
        """The layers of two scans of one network, data and settings as one ScanResult, in the network's order.

        Other versions of kerascnn may have made them; the result's is that of the later scan.

        Raises:
            UsageError: they differ in more than their layers; the message says in what.
        """
        free = ["kerascnn", "layers", "outputs", "order"]
        if "shard" not in self.manifest:  # whose images depend on the size of a batch
            free.append("batch_size")
        differing = [
            {"k": "top"}.get(name, name)
            for name in sorted(self.manifest.keys() | earlier.manifest.keys())
            if name not in free and self.manifest.get(name) != earlier.manifest.get(name)
        ]
        if differing:
            raise UsageError(
                f"Two scans of one network, data and settings can be one; these differ in {', '.join(differing)}."
            )
        both = earlier.manifest, self.manifest
        outputs, order = ({k: v for m in both for k, v in m.get(name, {}).items()} for name in ("outputs", "order"))
        layers = {**earlier._record.layers, **self._record.layers}
        names = sorted(layers, key=lambda name: order.get(name, -1))
        manifest = self.manifest | {"layers": names, "outputs": outputs, "order": order}
        return ScanResult(Record(manifest, self._record.done, {name: layers[name] for name in names}), self._take)

    def _layer_record(self, layer):
        return self._record.layers[self._name(layer)]

    def _name(self, layer):
        """The full name of a layer of this scan, from its end, or without what it comes after."""
        if layer in self._record.layers:
            return layer
        inner = [name for name in self.layers if layer in _shorter(name)]
        if len(inner) != 1:
            raise unknown("layer of this scan:", layer, self.layers)
        return inner[0]

    def _channel(self, layer, channel):
        count = len(self._layer_record(layer).leaders.value)
        if isinstance(channel, bool) or not isinstance(channel, (int, np.integer)) or not 0 <= channel < count:
            raise UsageError(f"Layer {layer!r} has no channel {channel!r}: it has {count}, 0 to {count - 1}.")
        return int(channel)
