"""The facts on the pages, gathered once for each layer: numbers from the scan, patches, classes, relations."""

import dataclasses

import numpy as np

from kerascnn.dataset_scan.statistics import selectivity_index

LOWER = (0.99, 0.9, 0.75, 0.5)  # quantiles of a unit's activity over the images; patches are shown from around each
BARS = 30  # of a histogram


@dataclasses.dataclass(frozen=True)
class Patch:
    """One place of one image, as a page shows it.

    Attributes:
        image, place: numbers.
        value: the activation there.
        words: "" or a remark, such as "quantile 0.9".
    """

    image: int
    place: int
    value: float
    words: str = ""


class LayerFacts:
    """The facts about the units of one layer.

    Attributes:
        each: the SiteLayer.
        geometry, leaders: see `kerascnn.dataset_scan`.
        stats: DataFrame of `ScanResult.stats`.
        classes: (classes, units) mean activity over the images of each class that has images, or None.
        present: numbers of those classes.
        shares: (classes, units) int: how many of a unit's strongest images above 0 are of each class, or None.
        counted: (units,) int: how many strongest images there are.
        index: (units,) class selectivity index; NaN without classes.
        preferred: (units,) number of the class with the largest mean; -1 if there is none.
    """

    def __init__(self, each, collected, num_classes, top):
        result = collected.result
        layer = result._record.layers[each.name]
        self.each, self.geometry, self.leaders = each, layer.geometry, layer.leaders
        self.top, self._lower = top, {}
        self.stats = result.stats(each.name)
        self.rows = self.stats.to_dict("records")
        self.height, self.place = collected.height[each.address], collected.place[each.address]
        self.sample = collected.sample
        self._counts, self._edges = result.histogram(each.name)
        units = len(self.stats)
        self.classes = self.shares = None
        self.index, self.preferred = np.full(units, np.nan), np.full(units, -1)
        self.counted = (layer.leaders.image >= 0).sum(1)
        if num_classes:
            statistics = layer.statistics
            self.present = np.flatnonzero(statistics.images)
            places = statistics.images[self.present, None] * int(statistics.places)
            self.classes = statistics.total[self.present] / places
            self.index = selectivity_index(self.classes) if len(self.present) > 1 else self.index
            best = self.present[self.classes.argmax(0)]
            self.preferred = np.where(self.classes.max(0) > 0, best, -1)
            labels = np.where((layer.leaders.value > 0) & (layer.leaders.image >= 0), layer.leaders.label, -1)
            self.shares = np.stack([(labels == number).sum(1) for number in range(num_classes)])

    @property
    def units(self):
        """Number of units."""
        return len(self.stats)

    @property
    def dead(self):
        """(units,) bool: never above 0."""
        return self.stats["dead"].to_numpy()

    @property
    def selectivity(self):
        """Mean selectivity index of the units that have one; NaN without classes."""
        known = self.index[~np.isnan(self.index)]
        return float(known.mean()) if len(known) else float("nan")

    def top_patches(self, unit):
        """The strongest Patches of a unit, without those of value 0, which excite nothing after a ReLU."""
        rows = zip(
            self.leaders.image[unit, : self.top].tolist(),
            self.leaders.place[unit, : self.top].tolist(),
            self.leaders.value[unit, : self.top].tolist(),
            strict=True,
        )
        return [Patch(*row) for row in rows if row[0] >= 0 and row[2] != 0]

    def lower_patches(self, unit):
        """As many Patches, largest first, from around lower quantiles of the unit's activity over the sample."""
        if unit not in self._lower:
            self._lower[unit] = self._find_lower(unit)
        return self._lower[unit]

    def _find_lower(self, unit):
        strongest = self.top_patches(unit)
        wanted, taken = len(strongest), {patch.image for patch in strongest}
        order = np.argsort(-self.height[:, unit], kind="stable")
        patches = []
        for number, quantile in enumerate(LOWER):
            most = -(-(wanted - len(patches)) // (len(LOWER) - number))
            for rank in _around(round((1 - quantile) * (len(order) - 1)), len(order)):
                if not most:
                    break
                row = int(order[rank])
                image = int(self.sample[row])
                if image in taken:
                    continue
                taken.add(image)
                most -= 1
                share = 1 - rank / max(1, len(order) - 1)
                place, value = int(self.place[row, unit]), float(self.height[row, unit])
                patches.append(Patch(image, place, value, f"above {100 * share:.0f}% of images"))
        return sorted(patches, key=lambda patch: -patch.value)

    def histogram(self, unit):
        """(heights 0 to 1 of BARS bars, left edge, right edge, share of zeros) of the activations other than 0.

        Shares within an octave's sixteenth are spread evenly; (None, 0, 0, 1) for a unit that is always 0.
        """
        counts = self._counts[unit].astype(float)
        middle = len(counts) // 2
        total, zeros = counts.sum(), counts[middle]
        counts[middle] = 0
        seen = np.flatnonzero(counts)
        if not len(seen):
            return None, 0.0, 0.0, 1.0
        low, high = min(0.0, self._edges[seen[0]]), max(0.0, self._edges[seen[-1] + 1])
        bounds = np.linspace(low, high, BARS + 1)
        below = np.interp(bounds, self._edges, np.concatenate([[0], np.cumsum(counts)]))
        bars = np.diff(below)
        return bars / bars.max(), float(low), float(high), float(zeros / total)

    def profile(self, unit, most=10):
        """[(class, mean, images among the strongest)] of the classes with the largest means; [] without classes."""
        if self.classes is None:
            return []
        means = self.classes[:, unit]
        shares = self.shares[self.present, unit]
        order = sorted(range(len(means)), key=lambda row: (-round(means[row], 9), -shares[row], row))
        return [(int(self.present[row]), float(means[row]), int(shares[row])) for row in order[:most]]


def _around(centre, count):
    """The numbers from 0 to count - 1, those nearest to `centre` first."""
    yield centre
    for step in range(1, count):
        yield from (rank for rank in (centre - step, centre + step) if 0 <= rank < count)


def strongest_units(facts, n=6):
    """{image: [(address, [unit, ...])]} of the sample: the units that come closest to their own largest activation."""
    units_of = {}
    for layer in facts:
        largest = layer.leaders.value[:, 0]
        share = np.where(largest > 0, layer.height / np.where(largest > 0, largest, 1), 0)
        order = np.argsort(-np.round(share, 6), axis=1, kind="stable")[:, :n]
        for row, image in enumerate(layer.sample.tolist()):
            units = [int(unit) for unit in order[row] if share[row, unit] > 0]
            units_of.setdefault(image, []).append((layer.each.address, units))
    return units_of
