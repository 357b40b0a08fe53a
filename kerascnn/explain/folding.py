"""Batch normalisation merged into the convolution or dense layer beside it: at inference the two are one affine step.

The alpha-beta rule of relevance propagation shares positive and negative contributions apart, so that a network and its
twin with folded normalisation, which compute the same, would have different maps. zennit (Anders et al. 2021) merges
first, too, what follows a layer. Here normalisation before a layer is merged as well; where that layer pads, what the
normalisation adds becomes a bias that differs from place to place.
"""

import dataclasses
from collections import Counter

import numpy as np
from keras import ops

from kerascnn.network.rules.rule import RULES

AFFINE = ("conv", "depthwise", "conv_transpose", "dense")
_PASSED = ("identity", "transpose")  # what may stand between


def fold_batch_norm(plan, kept, shape_of, dtype):
    """The plan with every batch normalisation beside a convolution or dense layer merged into it.

    Args:
        kept: numbers of values that are read by others than the steps, so that they may not change.
        shape_of: function value number -> its shape, batch first.
        dtype: in which what a normalisation adds is sent through a layer.
    """
    fold = _Fold(plan, kept)
    for output in [step.output for step in plan.steps if step.rule == "batch_norm"]:
        fold.into_the_layer_before(output)
    for step in plan.steps:
        if step.rule in AFFINE:
            fold.into_the_layer_after(step.output, shape_of, dtype)
    return dataclasses.replace(plan, steps=tuple(fold.steps.values()), constants=fold.constants)


class _Fold:
    """The steps by the number of their output, changed one after another; the numbers of the values stay."""

    def __init__(self, plan, kept):
        self.steps, self.constants = {step.output: step for step in plan.steps}, list(plan.constants)
        readers = Counter(number for step in plan.steps for number in step.inputs) + Counter([*plan.outputs, *kept])
        self.once = {number for number, count in readers.items() if count == 1}
        self.ranks = {number: len(shape) for number, shape in plan.shapes.items()}

    def into_the_layer_before(self, output):
        norm = self.steps[output]
        value = norm.inputs[0]
        if value not in self.ranks:
            return
        last = self.ranks[value] - 1
        value, axis = self._behind(value, norm.config[0])
        layer = self.steps.get(value)
        if layer is None or layer.rule not in AFFINE or value not in self.once or axis != last:
            return
        scale, shift = self._numbers(norm)
        kernel, *bias = map(self._array, layer.weights)
        kernel = kernel * _along_outputs(layer.rule, scale, kernel.shape)
        self._change(layer, kernel, (bias[0] * scale if bias else 0) + shift)
        self.steps[output] = dataclasses.replace(norm, rule="identity", config=(), weights=())

    def into_the_layer_after(self, output, shape_of, dtype):
        layer = self.steps[output]
        value = layer.inputs[0]
        rank = self.ranks.get(value)
        if rank is None or value not in self.once:
            return
        value, axis = self._behind(value, rank - 1)
        norm = self.steps.get(value)
        if norm is None or norm.rule != "batch_norm" or value not in self.once or axis != norm.config[0]:
            return
        scale, shift = self._numbers(norm)
        kernel, *bias = map(self._array, layer.weights)
        everywhere = np.broadcast_to(shift, (1, *shape_of(layer.inputs[0])[1:]))
        arrays = [ops.convert_to_tensor(np.ascontiguousarray(a, dtype=dtype)) for a in (kernel, everywhere)]
        added = ops.convert_to_numpy(RULES[layer.rule].forward(layer.config, arrays[:1], arrays[1])[0])
        kernel = kernel * _along_inputs(layer, scale, kernel.shape)
        self._change(layer, kernel, added + (bias[0] if bias else 0))
        self.steps[value] = dataclasses.replace(norm, rule="identity", config=(), weights=())

    def _behind(self, value, axis):
        """(value, axis) where an axis of a value comes from, behind steps that only pass it on to one reader."""
        while value in self.once and value in self.steps and self.steps[value].rule in _PASSED:
            step = self.steps[value]
            axis = step.config[axis] if step.rule == "transpose" else axis
            value = step.inputs[0]
        return value, axis

    def _array(self, number):
        return np.asarray(ops.convert_to_numpy(self.constants[-number - 1])).astype("float64")

    def _numbers(self, norm):
        """(scale, shift), each (channels,), of a batch normalisation at inference."""
        gamma, beta, mean, variance = map(self._array, norm.weights)
        scale = gamma / np.sqrt(variance + norm.config[1])
        return scale, beta - mean * scale

    def _change(self, layer, kernel, bias):
        self.constants += [kernel, bias]
        weights = 1 - len(self.constants), -len(self.constants)
        self.steps[layer.output] = dataclasses.replace(layer, weights=weights)


def _along_outputs(rule, scale, shape):
    """A number per output channel, in a shape that broadcasts to the kernel."""
    if rule == "depthwise":
        return scale.reshape(shape[-2:])
    return scale[:, None] if rule == "conv_transpose" else scale


def _along_inputs(layer, scale, shape):
    """A number per input channel, in a shape that broadcasts to the kernel."""
    if layer.rule == "conv_transpose":
        return scale
    if layer.rule != "conv":
        return scale[:, None]
    groups = layer.config[3]
    return np.repeat(scale.reshape(groups, -1).T, shape[-1] // groups, 1)
