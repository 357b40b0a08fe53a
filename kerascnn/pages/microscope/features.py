"""Feature images: for every unit an image that excites it, made by optimisation, many units a step.

This stage is slow and is only done if it is asked for. It works through each layer in groups that are the same in every
build; a group that is done stays done.
"""

import hashlib

import numpy as np

from kerascnn.errors import UsageError, counted
from kerascnn.explain import Neuron
from kerascnn.explain.optimised import feature_images
from kerascnn.explain.recorded import activations
from kerascnn.explain.subjects import opaque_step
from kerascnn.explain.targets import both_scores
from kerascnn.network.plan import make_plan
from kerascnn.pages.microscope import pictures
from kerascnn.pages.microscope.site import STATE
from kerascnn.progress import Bell

AT_ONCE = 32  # units optimised together
STEPS = 96  # of the optimisation
SAMPLE = 64  # images that tell the range of the pixels


def file_of(address, unit):
    """The file of a unit's feature image in the site."""
    return f"units/{address}/{unit:04d}-feature.webp"


def optimised(site, subject, facts, wanted, say):
    """Write the feature images; returns {address: [largest activation of each unit on its image]}.

    Args:
        site, subject, facts: see those modules.
        wanted: False makes none, and returns those of earlier builds.
        say: called with sentences.
    """
    bounds, bell, told = pixel_range(subject), Bell(), {}
    for layer in facts:
        try:
            told[layer.each.address] = _of_layer(site, subject, layer, bounds, wanted, say, bell)
        except UsageError as error:
            say(f"no feature images of {layer.each.address}: {error}")
    return told


def pixel_range(subject):
    """(least, largest) number of each channel (C,) of images as the network takes them, over a sample."""
    index = np.unique(np.linspace(0, len(subject) - 1, min(SAMPLE, len(subject))).round().astype(int))
    x = subject.prepared(index)
    low, high = (np.round(bound((0, 1, 2)).astype("float64"), 6) for bound in (x.min, x.max))
    return low, np.where(high > low, high, low + 1)


def _of_layer(site, subject, layer, bounds, wanted, say, bell):
    """[largest activation] of a layer's units; NaN for those that have no image."""
    address, state = layer.each.address, f"features-{layer.each.address}.json"
    known = site.read_state(state, {})
    activations_of = []
    for first in range(0, layer.units, AT_ONCE):
        units = range(first, min(first + AT_ONCE, layer.units))
        key = hashlib.sha256(repr((list(units), STEPS, [bound.tolist() for bound in bounds])).encode()).hexdigest()
        there = all((site.folder / file_of(address, unit)).exists() for unit in units)
        if known.get(str(first), {}).get("key") != key or not there:
            if not wanted:
                activations_of += [float("nan")] * len(units)
                continue
            images, largest = unit_images(subject, layer, units, *bounds)
            for unit, image in zip(units, images, strict=True):
                site.put(file_of(address, unit), pictures.whole(_shown(image)))
            known[str(first)] = {"key": key, "largest": largest}
            site.put_json(f"{STATE}/{state}", known)
            if bell.rings():
                say(f"feature images of {address}: {units[-1] + 1:,} of {counted(layer.units, 'unit')}")
        activations_of += known[str(first)]["largest"]
    return activations_of


def unit_images(subject, layer, units, low, high):
    """(pictures (n, H, W, C) between 0 and 1, [largest activation of each unit on its own]) of some units of a layer.

    The images excite a channel's mean over its map; of the network's answers the score.
    """
    model, each = subject.model, layer.each
    targets = [Neuron(each.scanned.output, unit) for unit in units]
    plan = make_plan(model, opaque_step)
    if len(plan.outputs) == 1 and len(model.output_shape) == 2 and each.scanned.value == plan.outputs[0]:
        targets = [1] if both_scores(plan) is not None else list(units)
    images, _ = feature_images(model, targets, steps=STEPS, low=low, high=high)
    values = activations(model, images, each.scanned.output)
    largest = [float(f"{value[..., unit].max():.5g}") for value, unit in zip(values, units, strict=True)]
    shown = (images - low) / (high - low)
    if getattr(subject.preprocessing, "bgr", False):
        shown = shown[..., ::-1]
    return shown, largest


def _shown(image):
    """uint8 (H, W, 3) of an image (H, W, C) between 0 and 1."""
    shown = image if image.shape[-1] in (1, 3) else image.mean(-1, keepdims=True)
    return np.rint(255 * np.clip(np.broadcast_to(shown, (*shown.shape[:2], 3)), 0, 1)).astype("uint8")
