"""Multiply-accumulates of a network, call by call, from the steps that its layers open into.

Convolutions, dense layers, matrix products and einsum multiply; as is usual, biases, pooling, normalisation, resizing
and activations are not counted. The sizes of the values between the steps come from Keras, which runs the steps on
symbolic tensors. Layers that open into no steps are counted here as far as that is possible: recurrent layers and
quantised dense layers.
"""

import math

import keras
import numpy as np

from kerascnn.network.heads import TWO_CLASSES
from kerascnn.network.rules.rule import RULES

CONVOLUTIONS = ("conv", "depthwise", "conv_transpose")
DENSE = ("dense", "einsum_weight")
_PRODUCTS = (*CONVOLUTIONS, *DENSE, "matmul", "einsum")
_NO_STEPS = ("unsupported", "opaque", "autodiff")
# Operations and layers that multiply without weights of their own. Where one opens into no steps, its work is unknown.
_MULTIPLY = """
    AdditiveAttention Attention Conv ConvTranspose DepthwiseConv Dot DotProductAttention Einsum Inner Matmul Outer
    SeparableConv Tensordot Vdot
"""
_MULTIPLY = frozenset(_MULTIPLY.split())


def steps_of_calls(plan):
    """{(layer's path, number of the call): list of its steps} of a Plan."""
    calls = {}
    for step in plan.steps:
        if step.rule != TWO_CLASSES:  # the second class of a classifier with one unit is no work of a layer
            calls.setdefault((step.layer, step.call), []).append(step)
    return calls


def kind(operation, steps):
    """The part "convolutional" or "dense" by the last step with weights that are multiplied, "" without one."""
    for step in reversed(steps):
        if step.rule in CONVOLUTIONS + DENSE:
            return "convolutional" if step.rule in CONVOLUTIONS else "dense"
    return "dense" if isinstance(operation, keras.layers.Dense | keras.layers.EinsumDense) else ""  # quantised


def macs(described):
    """{(layer's path, number of the call): multiply-accumulates of one image, or None where not known}.

    Args:
        described: kerascnn.network.plan.Described.
    """
    graph, shapes, plan = described
    calls, counts = steps_of_calls(plan), {}
    for node in graph.nodes:
        steps = calls.get((node.name, node.call), [])
        if any(step.rule in _NO_STEPS for step in steps):
            counts[node.name, node.call] = _of_a_layer(node.operation, *(shapes[n] for n in node.inputs[:1]))
        elif not any(step.rule in _PRODUCTS for step in steps):
            counts[node.name, node.call] = 0
    multiplying = {call: steps for call, steps in calls.items() if call not in counts}
    for call, sizes in _sizes(plan, multiplying).items():
        work = [_products(plan, step, sizes) for step in multiplying[call]] if sizes else [None]
        counts[call] = None if None in work else sum(work)
    return counts


def _of_a_layer(operation, shape=()):
    """The multiply-accumulates of a layer or operation without steps, by its class, or None."""
    if type(operation).__name__ in _MULTIPLY:
        return None
    matrices = [v for v in getattr(operation, "weights", ()) if len(v.shape) > 1]
    if not matrices or isinstance(operation, keras.layers.Embedding):
        return 0
    if None in shape[1:]:
        return None
    if isinstance(operation, keras.layers.Dense):
        return math.prod(shape[1:]) * operation.units  # not the kernel's size: 4-bit weights are packed
    if isinstance(operation, keras.layers.SimpleRNN | keras.layers.LSTM | keras.layers.GRU):
        kernels = operation.cell.kernel, operation.cell.recurrent_kernel
        return shape[1] * sum(math.prod(kernel.shape) for kernel in kernels)
    return None


def _products(plan, step, sizes):
    """The multiply-accumulates of one step for one image."""
    inputs = [sizes[number] for number in step.inputs]
    weights = [tuple(np.shape(plan.constants[-number - 1])) for number in step.weights]
    if step.rule in ("conv", "depthwise"):
        return math.prod(sizes[step.output][:-1]) * math.prod(weights[0])
    if step.rule == "conv_transpose":
        return math.prod(inputs[0][:-1]) * math.prod(weights[0])
    if step.rule == "dense":
        return math.prod(inputs[0]) * weights[0][-1]
    if step.rule == "matmul":
        return math.prod(sizes[step.output]) * inputs[0][-1]
    if step.rule in ("einsum", "einsum_weight"):
        terms = zip(step.config, inputs + weights, strict=False)
        return math.prod({letter: n for term, shape in terms for letter, n in zip(term, shape, strict=True)}.values())
    return 0


def _sizes(plan, calls):
    """{call: {value: shape for one image}} of all that the steps of some calls read and compute; {} where not known."""
    known = {}
    for call, steps in calls.items():
        outputs = {step.output for step in steps}
        numbers = {n for step in steps for n in (*step.inputs, *step.weights)} - outputs
        shapes = {n: (1, *plan.shapes[n][1:]) if n >= 0 else np.shape(plan.constants[-n - 1]) for n in numbers}
        if not any(None in shape for shape in shapes.values()):
            known[call] = {number: keras.KerasTensor(shape) for number, shape in shapes.items()}
    computed = _Steps(calls).compute_output_spec(known) if known else {}
    return {call: {n: tuple(x.shape) for n, x in computed.get(call, {}).items()} for call in calls}


class _Steps(keras.Operation):
    """Runs the steps of some calls, each from the values that it is given, so that Keras infers all shapes."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def call(self, known):
        known = {call: dict(values) for call, values in known.items()}
        for call, values in known.items():
            for step in self.calls[call]:
                arrays = [values[number] for number in step.inputs]
                weights = [values[number] for number in step.weights]
                values[step.output] = RULES[step.rule].value(step.config, weights, *arrays)
        return known
