"""A model as a plan: a list of primitive steps, each with one rule, and the arrays that they need.

A plan holds plain values and arrays that are read from the model at the time of the call, and no reference to the
model. Compiled functions are cached for each list of steps (`Plan.steps` is hashable), so changed weights are always
used, and no user's model is kept in memory.
"""

import dataclasses
from typing import NamedTuple

import keras

from kerascnn.backends import value_of
from kerascnn.errors import UsageError, unknown
from kerascnn.network import open_shapes, open_weights  # noqa: F401  they tell `open_node` how layers open
from kerascnn.network.graph import Graph, flatten
from kerascnn.network.heads import add_two_classes
from kerascnn.network.openings import open_node
from kerascnn.network.rules import convolution, elementwise, pooling, selecting, shaping  # noqa: F401  they fill RULES
from kerascnn.network.rules.rule import rule
from kerascnn.network.sizes import channels_first, sized
from kerascnn.network.steps import Builder


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """The result of `make_plan`.

    Attributes:
        model: the model's name.
        steps: tuple of Step, in an order in which they can run.
        constants: list of arrays: kernels, biases, fixed numbers.
        inputs: numbers of the model's input values.
        outputs: numbers of its output values.
        output_names: the names that Keras gives them.
        layers: {layer path: numbers of the outputs of its calls}, in the model's order.
        kinds: {layer path: class name}.
        shapes: {value number: shape, batch first} of the inputs and of every layer's output.
        unsupported: {layer path: reason} of the layers without a rule.
        channels_first: True if a layer has its channels before its rows and columns.
    """

    model: str
    steps: tuple
    constants: list
    inputs: tuple
    outputs: tuple
    output_names: tuple
    layers: dict
    kinds: dict
    shapes: dict
    unsupported: dict
    channels_first: bool


def make_plan(model, stand_in=None, graph=None):
    """The Plan of a built Functional or Sequential model.

    Args:
        stand_in: what replaces the rule of a layer without one: a function (builder, node, known, reason) -> numbers of
            its outputs, or None for a layer that it does not support. Without `stand_in`, such a layer is a step that
            raises an error when a walk needs it. In both cases `Plan.unsupported` names the layer.
        graph: the model's Graph, if its tensors have other sizes than the model's own.
    """
    graph, builder, unsupported = graph or flatten(model), Builder(open_node, stand_in), {}
    inputs = tuple(builder.value(graph.tensors[t].shape) for t in graph.inputs)

    def without_rule(node, reason, known):
        unsupported[node.name] = str(reason)
        outputs = stand_in(builder, node, known, reason) if stand_in else None
        if outputs is not None:
            return outputs
        values = tuple(known[t] for t in node.inputs)
        return tuple(builder.step("unsupported", values, (node.name, str(reason))) for _ in node.outputs)

    known, layers, kinds = builder.open(graph, inputs, without_rule), {}, {}
    for tensor in dict.fromkeys(graph.outputs):
        alone = len(graph.outputs) == 1
        add_two_classes(builder, model, known[tensor], tuple(graph.tensors[tensor].shape), alone=alone)
    for node in graph.nodes:
        layers.setdefault(node.name, []).append(known[node.outputs[0]])
        kinds[node.name] = type(node.operation).__name__
    return Plan(
        model=model.name,
        steps=tuple(builder.steps),
        constants=builder.constants,
        inputs=inputs,
        outputs=tuple(known[t] for t in graph.outputs),
        output_names=tuple(getattr(model, "output_names", [model.layers[-1].name])),  # Sequential has none
        layers=layers,
        kinds=kinds,
        shapes=builder.shapes,
        unsupported=unsupported,
        channels_first=channels_first(graph),
    )


class Described(NamedTuple):
    """A network at one input size.

    Attributes:
        graph: its flat Graph.
        shapes: one shape per tensor of the graph, batch first.
        plan: its Plan, with these shapes.
    """

    graph: Graph
    shapes: list
    plan: Plan


def describe(model, input_shape=None):
    """The Described of a model at its own input size or at `input_shape`; arguments and errors as of `sized`."""
    graph, shapes = sized(model, input_shape)
    tensors = [keras.KerasTensor(shape, tensor.dtype) for shape, tensor in zip(shapes, graph.tensors, strict=True)]
    return Described(graph, shapes, make_plan(model, graph=dataclasses.replace(graph, tensors=tensors)))


def _unsupported(config, weights, *xs):
    layer, reason = config
    raise UsageError(
        f"No rule walks back through layer {layer!r}: {reason}. For plain gradients, as of saliency or grad_cam, give "
        'fallback="autodiff"; kerascnn.explain.coverage(model, method) lists every layer.'
    )


rule("unsupported", _unsupported, None, "none")


def read_constants(plan, dtype):
    """The plan's constants as arrays of `dtype`, with their current values.

    Raises:
        UsageError: `dtype` is neither "float32" nor "float64".
    """
    if dtype not in ("float32", "float64"):
        raise unknown("dtype", dtype, ("float32", "float64"))
    return [keras.ops.cast(value_of(c) if isinstance(c, keras.Variable) else c, dtype) for c in plan.constants]
