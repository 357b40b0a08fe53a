"""The patches of a scan beside what in them excites the neuron: guided backpropagation, deconvnet and the others."""

import numpy as np

from kerascnn.explain import EXPLANATIONS, Neuron


def patch_maps(result, model, layer, channels, *, methods=("guided_backprop", "deconvnet"), preprocessing=None):
    """Maps of the patches that excite channels most.

    Args:
        result: ScanResult whose data is still at hand (from `scan`, of an array, a Split or an ImageData).
        model: the network that was scanned.
        channels: numbers of channels.
        methods: names of explanation methods that take a `Neuron`.
        preprocessing: as given to `scan`.
    Returns:
        {method: {channel: float32 (k, h, w, C)}}, in the frames of `result.patches`.
    Raises:
        UsageError: a saved scan or a stream, whose images are gone.
    """
    table = result.top(layer)
    prepared = getattr(preprocessing, "scale", preprocessing) or (lambda images: np.asarray(images, "float32"))
    framed = {method: {} for method in methods}
    for channel in channels:
        x = prepared(result.images(layer, channel))
        rows = table[table["channel"] == channel]
        places = result.map_size(layer) != (1, 1)
        targets = [
            Neuron(result.output_layer(layer), int(channel), *((int(row), int(col)) if places else ()))
            for row, col in zip(rows["row"], rows["col"], strict=True)
        ]
        for method in methods:
            maps = EXPLANATIONS.get(method)(model, x, targets)
            framed[method][channel] = result.framed(layer, channel, maps)
    return framed
