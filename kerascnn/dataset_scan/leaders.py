"""The k largest activations of every channel, kept while images stream by.

The order is total: larger values first, then smaller image numbers, then places in row-major order. It does not depend
on how the images are batched.
"""

import numpy as np

NONE = -1  # image number of a rank that no image has taken yet


class Leaders:
    """The k best (value, image, place, label) of each channel of one layer.

    Args:
        channels: number of channels.
        k: ranks kept.
        per_image: how many places of one image may be among the k.

    Attributes:
        value: float32 (channels, k), -inf where nobody is yet.
        image, place, label: int64 (channels, k); place is the index in row-major order.
    """

    FIELDS = ("value", "image", "place", "label")

    def __init__(self, channels, k, per_image=1):
        self.k, self.per_image = k, per_image
        self.value = np.full((channels, k), -np.inf, "float32")
        self.image, self.place, self.label = (np.full((channels, k), NONE) for _ in range(3))

    def candidates(self, maxima):
        """(image, channel) index arrays of the maps in a block that may hold one of the k best.

        Args:
            maxima: (images, channels), the largest value of every map of the block.
        """
        count = min(self.k, len(maxima))
        better = maxima > self.value[:, -1]  # at equal values the earlier image stays
        crowded = better.sum(0) > count
        for channel in np.flatnonzero(crowded):
            best = np.argsort(-maxima[:, channel], kind="stable")[:count]
            better[np.setdiff1d(np.arange(len(maxima)), best), channel] = False
        return np.nonzero(better)

    def add(self, rows, channels, maps, first, labels):
        """Enters the candidates.

        Args:
            rows, channels: what `candidates` gave, at least one pair.
            maps: (len(rows), places), the values of those maps.
            first: number of the block's first image.
            labels: (images,) of the block.
        """
        count = min(self.per_image, maps.shape[1])
        places = maps.argmax(1)[:, None] if count == 1 else np.argsort(-maps, axis=1, kind="stable")[:, :count]
        values = np.take_along_axis(maps, places, 1)
        order = np.argsort(channels, kind="stable")
        for part in np.split(order, np.flatnonzero(np.diff(channels[order])) + 1):
            channel = channels[part[0]]
            images = np.repeat(rows[part], count)
            entries = {
                "value": np.concatenate([self.value[channel], values[part].ravel()]),
                "image": np.concatenate([self.image[channel], images + first]),
                "place": np.concatenate([self.place[channel], places[part].ravel()]),
                "label": np.concatenate([self.label[channel], labels[images]]),
            }
            best = np.lexsort((entries["place"], entries["image"], -entries["value"]))
            best = best[entries["image"][best] != NONE][: self.k]
            for name, column in entries.items():
                getattr(self, name)[channel, : len(best)] = column[best]

    def extend(self, later):
        """Enter the Leaders of other images."""
        entries = {name: np.concatenate([getattr(self, name), getattr(later, name)], 1) for name in self.FIELDS}
        best = np.lexsort((entries["place"], entries["image"], -entries["value"]), axis=1)[:, : self.k]
        for name, column in entries.items():
            setattr(self, name, np.take_along_axis(column, best, 1))
