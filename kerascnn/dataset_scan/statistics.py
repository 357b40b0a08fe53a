"""Statistics of every channel of a layer, gathered block by block in memory that does not grow with the data.

Mean, standard deviation, maximum and share of zeros come from all values. Quantiles and histograms come from a sample
of places of every image (`blocks.sample_places`), counted in bins of a sixteenth of an octave on both sides of zero.
The octaves counted widen as the data need them.
"""

import numpy as np
import pandas as pd

from kerascnn.dataset_scan.sums import Sums

OCTAVES = (-12, 12)  # what is counted at first: 2**-12 <= |x| < 2**12
WIDEST = (-126, 128)  # all of float32 but numbers below 2**-126, which count as zero
STEPS = 16  # bins an octave
CLASSES_WITH_HISTOGRAMS = 20  # beyond, one histogram serves all classes
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def num_bins(octaves=OCTAVES):
    """Bins on both sides of zero, and the one at zero."""
    return 2 * (octaves[1] - octaves[0]) * STEPS + 1


def bin_numbers(values, octaves=OCTAVES):
    """The bin of each float32 value, 0 to num_bins - 1, read off its exponent and its first four bits of mantissa.

    Bins lie like mirror images on both sides of zero: each holds its edge that is nearer to zero. What is smaller than
    the octaves counts as zero, what is larger lies in the last bin.
    """
    side = (octaves[1] - octaves[0]) * STEPS
    bits = np.ascontiguousarray(values, "float32").view("int32")
    size = ((bits & 0x7FFFFFFF) >> 19) - ((127 + octaves[0]) << 4) + 1
    size = np.clip(size, 0, side)
    return side + np.where(bits < 0, -size, size)


def bin_edges(octaves=OCTAVES):
    """(num_bins + 1,) ascending edges of the bins."""
    steps = np.arange((octaves[1] - octaves[0]) * STEPS + 1)
    positive = 2.0 ** (octaves[0] + steps // STEPS) * (1 + steps % STEPS / STEPS)
    return np.concatenate([-positive[::-1], positive])


def octaves_of(values, octaves=OCTAVES):
    """(low, high): `octaves`, widened so that they hold all float32 values but 0."""
    size = np.abs(np.asarray(values, "float32"))
    largest = size.max(initial=0)
    smallest = size.min(initial=np.inf, where=size >= 2.0 ** WIDEST[0])
    low, high = octaves
    if largest >= 2.0**high:
        high = int(np.frexp(largest)[1])
    if smallest < 2.0**low:
        low = int(np.frexp(smallest)[1]) - 1
    return low, high


def widened(histogram, octaves, wider):
    """Counts (..., num_bins(octaves)) of some octaves as counts (..., num_bins(wider)); no count is lost."""
    inner, outer = ((octaves[0] - wider[0]) * STEPS, (wider[1] - octaves[1]) * STEPS)
    if not inner and not outer:
        return histogram
    side = (octaves[1] - octaves[0]) * STEPS
    wide = np.zeros((*histogram.shape[:-1], num_bins(wider)), histogram.dtype)
    middle = wide.shape[-1] // 2
    wide[..., outer : outer + side] = histogram[..., :side]
    wide[..., middle] = histogram[..., side]
    wide[..., middle + 1 + inner : middle + 1 + inner + side] = histogram[..., side + 1 :]
    return wide


def on_one_scale(histograms):
    """(list of counts, edges) of (counts (..., bins), edges (bins + 1,)) pairs: on the octaves that hold them all."""
    octaves = [tuple(np.log2(edges[[len(edges) // 2, -1]]).round().astype(int).tolist()) for _, edges in histograms]
    wider = min(low for low, _ in octaves), max(high for _, high in octaves)
    counts = [widened(np.asarray(c), have, wider) for (c, _), have in zip(histograms, octaves, strict=True)]
    return counts, bin_edges(wider)


class Statistics:
    """Sums over all images seen, for each class and channel of one layer.

    Args:
        places: rows times columns of the layer's map.
        centre: (channels,), a value near each channel's mean, from which squares are taken.
        num_classes: rows of the sums; 0: one row for all, whatever their labels.
    """

    FIELDS = ("places", "centre", "images", "maximum", "zeros", "octaves", "histogram")

    def __init__(self, places, centre, num_classes):
        self.places, self.centre = np.asarray(places), np.asarray(centre, "float64")
        rows, channels = max(1, num_classes), len(centre)
        self.images = np.zeros(rows, "int64")
        self.sums, self._whole = Sums((rows, channels)), None
        self.maximum = np.full((rows, channels), -np.inf)
        self.zeros = np.zeros((rows, channels), "int64")
        kept = rows if rows <= CLASSES_WITH_HISTOGRAMS else 1
        self.octaves = np.array(OCTAVES)
        self.histogram = np.zeros((kept, channels, num_bins()), "int64" if kept == 1 else "uint32")

    @property
    def total(self):
        """float64 (rows, channels): the sums of x."""
        return self._totals()[0]

    @property
    def squares(self):
        """float64 (rows, channels): the sums of (x - centre)**2."""
        return self._totals()[1]

    def _totals(self):
        return self.sums.totals() if self._whole is None else self._whole

    def finish(self):
        """Keep only the sums over all blocks, when no more blocks will come."""
        self._whole, self.sums = self._totals(), None

    def add(self, block, labels, maximum, total, squares, zeros, sample):
        """Adds a block.

        Args:
            block: its number in the whole data.
            labels: int (images,).
            maximum, zeros: (images, channels), over the places.
            total, squares: (images, channels), sums over the places of x and of (x - centre)**2.
            sample: (images, places sampled, channels), values for the histogram.
        """
        if len(self.images) == 1:
            labels = np.zeros(len(labels), int)
        self._widen(octaves_of(sample, tuple(self.octaves.tolist())))
        bins = bin_numbers(sample, self.octaves) + self.histogram.shape[-1] * np.arange(sample.shape[-1])
        rows, sums = np.unique(labels), []
        for label in rows:
            of_class = labels == label
            self.images[label] += of_class.sum()
            sums.append([each[of_class].sum(0, dtype="float64") for each in (total, squares)])
            largest = maximum[of_class].max(0) + 0.0  # -0 and 0 are one maximum, whichever comes first
            self.maximum[label] = np.maximum(self.maximum[label], largest)
            self.zeros[label] += zeros[of_class].sum(0, dtype="int64")
            if len(self.histogram) > 1:
                self._count(label, bins[of_class])
        if len(self.histogram) == 1:
            self._count(0, bins)
        self.sums.add(block, rows, *np.swapaxes(sums, 0, 1))

    def extend(self, later):
        """Add the Statistics of the blocks that follow."""
        self._widen((min(self.octaves[0], later.octaves[0]), max(self.octaves[1], later.octaves[1])))
        self.histogram = self.histogram + widened(later.histogram, later.octaves, self.octaves)
        self.images, self.zeros = self.images + later.images, self.zeros + later.zeros
        self.maximum = np.maximum(self.maximum, later.maximum)
        self.sums.extend(later.sums)

    def to_arrays(self):
        """{name: array}."""
        arrays = {name: getattr(self, name) for name in self.FIELDS}
        if self._whole is not None:
            return arrays | {"total": self.total, "squares": self.squares}
        parts, sums = self.sums.to_arrays()
        return arrays | {"parts": parts, "sums": sums}

    @classmethod
    def from_arrays(cls, arrays):
        statistics = cls.__new__(cls)
        arrays = {"octaves": np.array(OCTAVES), **arrays}  # which older files lack
        for name in cls.FIELDS:
            setattr(statistics, name, arrays[name])
        finished = "total" in arrays
        statistics._whole = np.stack([arrays["total"], arrays["squares"]]) if finished else None
        statistics.sums = None if finished else Sums.from_arrays(arrays["parts"], arrays["sums"])
        return statistics

    def _widen(self, octaves):
        """Count these octaves from now on, which hold those counted so far."""
        self.histogram = widened(self.histogram, self.octaves, octaves)
        self.octaves = np.array(octaves)

    def _count(self, row, bins):
        counted = np.bincount(bins.ravel(), minlength=self.histogram[row].size)
        self.histogram[row] += counted.reshape(self.histogram[row].shape).astype(self.histogram.dtype)

    def table(self, row=None):
        """A DataFrame, one row a channel: channel, mean, std, max, zeros (share), dead (never above 0), q01 to q99.

        Args:
            row: number of a class; None: all images. Of a class without images all is NaN, and no channel dead.
        """
        chosen = slice(None) if row is None else slice(row, row + 1)
        count = int(self.images[chosen].sum()) * int(self.places) or np.nan
        mean = self.total[chosen].sum(0) / count
        variance = self.squares[chosen].sum(0) / count - (mean - self.centre) ** 2
        maximum = np.where(np.isnan(count), np.nan, self.maximum[chosen].max(0))
        columns = {
            "mean": mean,
            "std": np.sqrt(np.maximum(variance, 0)),
            "max": maximum,
            "zeros": self.zeros[chosen].sum(0) / count,
            "dead": maximum <= 0,
        }
        if row is None or len(self.histogram) > 1:
            histogram = self.histogram[chosen if len(self.histogram) > 1 else slice(None)].sum(0, dtype="int64")
            values = np.minimum(quantiles(histogram, octaves=self.octaves), maximum[:, None])
            columns |= {f"q{round(100 * q):02d}": values[:, i] for i, q in enumerate(QUANTILES)}
        table = pd.DataFrame(columns)
        table.insert(0, "channel", np.arange(len(table)))
        return table


def selectivity_index(means):
    """(channels,): the class selectivity index of Morcos et al. (2018), (m - rest) / (m + rest).

    Args:
        means: (classes, channels), each channel's mean over the images of a class. m is the largest of them, and rest
            the mean of the others.
    Returns:
        0 to 1; nan of a single class, and where m is not above 0, or rest is below 0, as for scores: a ratio to them
        says nothing.
    """
    if len(means) < 2:
        return np.full(means.shape[1], np.nan)
    largest = means.max(0)
    rest = (means.sum(0) - largest) / (len(means) - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((largest > 0) & (rest >= 0), (largest - rest) / (largest + rest), np.nan)


def quantiles(histogram, octaves=OCTAVES):
    """(channels, len(QUANTILES)) of counted values (channels, bins), linear within a bin, exactly 0 in its own.

    A bin is a sixteenth of an octave wide, so that a quantile is off by less than 7% of its own size.
    """
    edges, counts = bin_edges(octaves), np.cumsum(histogram, axis=1)
    middle, last = histogram.shape[1] // 2, histogram.shape[1] - 1
    values = np.zeros((len(histogram), len(QUANTILES)))
    for column, q in enumerate(QUANTILES):
        for channel, row in enumerate(counts):
            rank = q * row[-1]
            number = min(int(np.searchsorted(row, rank, side="left")), last)
            if number == middle or not row[-1]:
                continue
            before = row[number - 1] if number else 0
            share = (rank - before) / max(1, row[number] - before)
            values[channel, column] = edges[number] + share * (edges[number + 1] - edges[number])
    return values
