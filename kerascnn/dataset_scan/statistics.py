"""Statistics of every channel of a layer, gathered block by block in fixed memory.

Mean, standard deviation, maximum and share of zeros come from all values. Quantiles and histograms come from a sample
of places of every image (`blocks.sample_places`), counted in bins of a sixteenth of an octave on both sides of zero.
"""

import numpy as np
import pandas as pd

OCTAVES = (-12, 12)  # |x| below 2**-12 counts as zero in histograms, above 2**12 as 2**12
STEPS = 16  # bins an octave
SIDE = (OCTAVES[1] - OCTAVES[0]) * STEPS
BINS = 2 * SIDE + 1
CLASSES_WITH_HISTOGRAMS = 20  # beyond, one histogram serves all classes
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def bin_numbers(values):
    """The bin of each float32 value, 0 to BINS - 1, read off its exponent and its first four bits of mantissa.

    Bins lie like mirror images on both sides of zero: each holds its edge that is nearer to zero.
    """
    bits = np.ascontiguousarray(values, "float32").view("int32")
    size = ((bits & 0x7FFFFFFF) >> 19) - ((127 + OCTAVES[0]) << 4) + 1
    size = np.clip(size, 0, SIDE)
    return SIDE + np.where(bits < 0, -size, size)


def bin_edges():
    """(BINS + 1,) ascending edges of the bins."""
    steps = np.arange(SIDE + 1)
    positive = 2.0 ** (OCTAVES[0] + steps // STEPS) * (1 + steps % STEPS / STEPS)
    return np.concatenate([-positive[::-1], positive])


class Statistics:
    """Sums over all images seen, for each class and channel of one layer.

    Args:
        places: rows times columns of the layer's map.
        centre: (channels,), a value near each channel's mean, from which squares are taken.
        num_classes: rows of the sums; 0: one row for all, whatever their labels.
    """

    FIELDS = ("places", "centre", "images", "total", "squares", "maximum", "zeros", "histogram")

    def __init__(self, places, centre, num_classes):
        self.places, self.centre = np.asarray(places), np.asarray(centre, "float64")
        rows, channels = max(1, num_classes), len(centre)
        self.images = np.zeros(rows, "int64")
        self.total, self.squares = np.zeros((rows, channels)), np.zeros((rows, channels))
        self.maximum = np.full((rows, channels), -np.inf)
        self.zeros = np.zeros((rows, channels), "int64")
        kept = rows if rows <= CLASSES_WITH_HISTOGRAMS else 1
        self.histogram = np.zeros((kept, channels, BINS), "int64" if kept == 1 else "uint32")

    def add(self, labels, maximum, total, squares, zeros, sample):
        """Adds a block.

        Args:
            labels: int (images,).
            maximum, zeros: (images, channels), over the places.
            total, squares: (images, channels), sums over the places of x and of (x - centre)**2.
            sample: (images, places sampled, channels), values for the histogram.
        """
        if len(self.images) == 1:
            labels = np.zeros(len(labels), int)
        bins = bin_numbers(sample) + BINS * np.arange(sample.shape[-1])
        for label in np.unique(labels):
            own = labels == label
            self.images[label] += own.sum()
            self.total[label] += total[own].sum(0, dtype="float64")
            self.squares[label] += squares[own].sum(0, dtype="float64")
            self.maximum[label] = np.maximum(self.maximum[label], maximum[own].max(0))
            self.zeros[label] += zeros[own].sum(0, dtype="int64")
            if len(self.histogram) > 1:
                self._count(label, bins[own])
        if len(self.histogram) == 1:
            self._count(0, bins)

    def _count(self, row, bins):
        counted = np.bincount(bins.ravel(), minlength=self.histogram[row].size)
        self.histogram[row] += counted.reshape(self.histogram[row].shape).astype(self.histogram.dtype)

    def table(self, row=None):
        """A DataFrame, one row a channel: channel, mean, std, max, zeros (share), dead (never above 0), q01 to q99.

        Args:
            row: number of a class; None: all images.
        """
        chosen = slice(None) if row is None else slice(row, row + 1)
        count = max(1, int(self.images[chosen].sum())) * int(self.places)
        mean = self.total[chosen].sum(0) / count
        variance = self.squares[chosen].sum(0) / count - (mean - self.centre) ** 2
        maximum = self.maximum[chosen].max(0)
        columns = {
            "mean": mean,
            "std": np.sqrt(np.maximum(variance, 0)),
            "max": maximum,
            "zeros": self.zeros[chosen].sum(0) / count,
            "dead": maximum <= 0,
        }
        if row is None or len(self.histogram) > 1:
            histogram = self.histogram[chosen if len(self.histogram) > 1 else slice(None)].sum(0, dtype="int64")
            found = np.minimum(quantiles(histogram), maximum[:, None])
            columns |= {f"q{round(100 * q):02d}": found[:, i] for i, q in enumerate(QUANTILES)}
        table = pd.DataFrame(columns)
        table.insert(0, "channel", np.arange(len(table)))
        return table


def quantiles(histogram, wanted=QUANTILES):
    """(channels, len(wanted)) quantiles of counted values (channels, BINS), linear within a bin, exactly 0 in its own.

    A bin is a sixteenth of an octave wide, so that a quantile is off by less than 7% of its own size, and by less than
    2**-12 near zero.
    """
    edges, counts = bin_edges(), np.cumsum(histogram, axis=1)
    found = np.zeros((len(histogram), len(wanted)))
    for column, q in enumerate(wanted):
        for channel, row in enumerate(counts):
            rank = q * row[-1]
            number = min(int(np.searchsorted(row, rank, side="left")), BINS - 1)
            if number == SIDE or not row[-1]:
                continue
            before = row[number - 1] if number else 0
            share = (rank - before) / max(1, row[number] - before)
            found[channel, column] = edges[number] + share * (edges[number + 1] - edges[number])
    return found
