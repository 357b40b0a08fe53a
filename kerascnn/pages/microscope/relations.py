"""How units are related: which have correlated activity, and which weights lead from one to another."""

import numpy as np
from keras import ops

from kerascnn.network.graph import flatten

NEAREST = 8  # units listed as most alike
STRONGEST = 8  # units listed as wired most strongly


def standardised(height):
    """(n, units): each unit's heights over the images with mean 0 and length 1; 0 for one that never changes."""
    centred = height.astype("float64") - height.mean(0, dtype="float64")
    length = np.sqrt((centred**2).sum(0))
    return np.where(length > 1e-9 * (np.abs(height).max(0) + 1e-30), centred / np.where(length > 0, length, 1), 0)


def most_alike(heights, n=NEAREST):
    """{layer: [[(correlation, layer, unit), ...] for every unit]}: the units of largest Pearson correlation.

    Args:
        heights: {layer: (images, units)}.
        n: how many; fewer if fewer units ever change.
    """
    columns = {layer: standardised(height) for layer, height in heights.items()}
    everything = np.concatenate(list(columns.values()), 1)
    alive = everything.any(0)
    owner = [(layer, unit) for layer, column in columns.items() for unit in range(column.shape[1])]
    nearest, first = {}, 0
    for layer, column in columns.items():
        alike = column.T @ everything
        alike[:, ~alive] = -2
        alike[np.arange(column.shape[1]), first + np.arange(column.shape[1])] = -2
        alike = np.round(alike, 6)
        order = np.argsort(-alike, axis=1, kind="stable")[:, :n]
        nearest[layer] = [
            [(float(alike[unit, other]), *owner[other]) for other in row if alike[unit, other] > -2]
            if alive[first + unit]
            else []
            for unit, row in enumerate(order)
        ]
        first += column.shape[1]
    return nearest


def unit_map(height):
    """(units, 2) from -1 to 1: a map on which units with correlated activity are close; NaN for units that never
    change.

    Classical scaling of the distances sqrt(2 - 2 r): the two directions in which the standardised activities differ
    most. Signs are fixed, so that the same numbers give the same map.
    """
    columns = standardised(height)
    alive = columns.any(0)
    places = np.full((height.shape[1], 2), np.nan)
    if alive.sum() < 3:
        places[alive] = 0
        return places
    centred = columns[:, alive] - columns[:, alive].mean(1, keepdims=True)
    values, vectors = np.linalg.eigh(centred @ centred.T if len(centred) < centred.shape[1] else centred.T @ centred)
    two = vectors[:, [-1, -2]]
    two = centred.T @ two if len(centred) < centred.shape[1] else two * np.sqrt(np.maximum(values[[-1, -2]], 0))
    largest = two[np.abs(np.round(two, 6)).argmax(0), [0, 1]]
    two = two * np.where(largest < 0, -1, 1)
    places[alive] = two / max(np.abs(two).max(), 1e-12)
    return places


class Wiring:
    """The weights between the units of a network.

    Args:
        model: keras.Model.
        layers: SiteLayers whose units may be linked.
    """

    def __init__(self, model, layers):
        self._graph = flatten(model)
        self._node_of = {tensor: node for node in self._graph.nodes for tensor in node.outputs}
        self._site = {self._split(each.layer): each for each in layers}
        self._known = {}
        self.weights = {}
        for each in layers:
            weights = self._weights(each)
            if weights is not None:
                self.weights[each.address] = weights

    @staticmethod
    def _split(layer):
        path, _, call = layer.partition("#")
        return path, int(call or 1) - 1

    def _node(self, each):
        path, call = self._split(each.layer)
        return next(node for node in self._graph.nodes if node.name == path and node.call == call)

    def _weights(self, each):
        """(sources, sums, norms) of a layer: what each input channel is, and its weights to each unit, or None.

        sources: [(address, unit) or None] of every input channel; sums, norms: (inputs, units), over a kernel's places.
        """
        node = self._node(each)
        kernel = getattr(node.operation, "kernel", None)
        kind = type(node.operation).__name__
        if kernel is None or kind not in ("Conv2D", "Dense") or len(node.inputs) != 1:
            return None
        kernel = ops.convert_to_numpy(kernel).astype("float64")
        if kind == "Conv2D" and node.operation.groups != 1:
            return None
        kernel = kernel.reshape(-1, *kernel.shape[-2:])
        sources = self._sources(node.inputs[0])
        if sources is None or len(sources) != kernel.shape[1]:
            return None
        numbers = list(dict.fromkeys(sources))
        if len(numbers) < len(sources):  # a flattened map: its places are those of a kernel
            index = {source: i for i, source in enumerate(numbers)}
            where = np.array([index[source] for source in sources])
            sums, squares = np.zeros((len(numbers), kernel.shape[2])), np.zeros((len(numbers), kernel.shape[2]))
            np.add.at(sums, where, kernel.sum(0))
            np.add.at(squares, where, (kernel**2).sum(0))
            return numbers, sums, np.sqrt(squares)
        return sources, kernel.sum(0), np.sqrt((kernel**2).sum(0))

    def _sources(self, tensor):
        """[(address, unit) or None] of the channels (or flattened numbers) of a tensor; None if not known."""
        if tensor in self._known:
            return self._known[tensor]
        self._known[tensor] = sources = self._traced(tensor)
        return sources

    def _traced(self, tensor):
        node, width = self._node_of.get(tensor), self._graph.tensors[tensor].shape[-1]
        if node is None or width is None:
            return None
        each = self._site.get((node.name, node.call))
        if each is not None and each.scanned.channels == width:
            return [(each.address, unit) for unit in range(width)]
        inputs = [self._graph.tensors[number].shape for number in node.inputs]
        kind = type(node.operation).__name__
        if kind == "Concatenate" and node.operation.axis in (-1, len(inputs[0]) - 1):
            parts = [self._sources(number) for number in node.inputs]
            return None if None in parts else [source for part in parts for source in part]
        if len(node.inputs) != 1:
            return None
        below = self._sources(node.inputs[0])
        if below is None:
            return None
        if kind == "Flatten" and width % len(below) == 0:
            return below * (width // len(below))
        keeps = (
            "Pooling",
            "Normalization",
            "Activation",
            "ReLU",
            "Dropout",
            "Padding2D",
            "ELU",
            "Softmax",
            "Rescaling",
        )
        return below if any(word in kind for word in keeps) and len(below) == width else None

    def into(self, address, unit, n=STRONGEST):
        """[(sum, norm, address, unit)]: the units whose weights into this one are strongest, the strongest first."""
        if address not in self.weights:
            return []
        sources, sums, norms = self.weights[address]
        order = np.argsort(-np.round(norms[:, unit], 9), kind="stable")[:n]
        return [(float(sums[i, unit]), float(norms[i, unit]), *sources[i]) for i in order if sources[i]]

    def out_of(self, address, n=STRONGEST):
        """[[(sum, norm, address, unit), ...]] for every unit of a layer: the units that it feeds most strongly."""
        readers = {}
        for reader, (sources, sums, norms) in self.weights.items():
            for i, source in enumerate(sources):
                if source and source[0] == address:
                    order = np.argsort(-np.round(norms[i], 9), kind="stable")[:n]
                    readers.setdefault(source[1], []).extend(
                        (float(sums[i, o]), float(norms[i, o]), reader, int(o)) for o in order
                    )
        return {unit: sorted(rows, key=lambda row: -round(row[1], 9))[:n] for unit, rows in readers.items()}

    def filters(self, each):
        """(h, w, C, units) kernel of a convolution that reads the image itself, else None."""
        node = self._node(each)
        kernel = getattr(node.operation, "kernel", None)
        if type(node.operation).__name__ != "Conv2D" or kernel is None or kernel.shape[2] not in (1, 3):
            return None
        tensor = node.inputs[0]
        while tensor not in self._graph.inputs:
            below = self._node_of[tensor]
            plain = any(word in type(below.operation).__name__ for word in ("Rescaling", "Normalization", "Padding"))
            fixed = getattr(getattr(below.operation, "kernel", None), "shape", None)
            if len(below.inputs) != 1 or not (plain or (fixed and tuple(fixed[:2]) == (1, 1))):
                return None
            tensor = below.inputs[0]
        return ops.convert_to_numpy(kernel).astype("float64")
