"""A model as a plan: a list of primitive steps, each served by one rule, and the arrays they need.

A plan holds plain values and arrays read from the model at the time of the call, nothing that points back to the model:
compiled functions are kept per list of steps (`Plan.steps` is hashable), so a changed weight is always seen, and no
user's model is kept alive.
"""

import dataclasses

import keras

from kerascnn.backends import value_of
from kerascnn.errors import UsageError, unknown
from kerascnn.explain.plans.heads import add_two_classes
from kerascnn.explain.rules import convolution, elementwise, pooling, selecting, shaping  # noqa: F401  they fill RULES
from kerascnn.explain.rules.rule import RULES, rule
from kerascnn.graph import flatten


@dataclasses.dataclass(frozen=True)
class Step:
    """One primitive step.

    Attributes:
        rule: its name in RULES.
        inputs: numbers of the values it takes; negative numbers are constants (`Plan.constants[-n - 1]`).
        output: number of the value it makes.
        config: the rule's plain values.
        weights: numbers of constants, all negative.
        layer: path of the layer that it belongs to, for messages.
        operation: class name of that layer.
    """

    rule: str
    inputs: tuple
    output: int
    config: tuple = ()
    weights: tuple = ()
    layer: str = dataclasses.field(default="", compare=False)
    operation: str = dataclasses.field(default="", compare=False)


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What `make_plan` returns.

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
        unsupported: {layer path: why} of the layers that no rule serves.
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


class NoRuleError(Exception):
    """Raised by what opens a layer when no rule serves it; the message says what it does that none serves.

    Attributes:
        mixes_images: True where one image's values would depend on the others', so that no map is one image's own.
    """

    def __init__(self, message, *, mixes_images=False):
        super().__init__(message)
        self.mixes_images = mixes_images


class Builder:
    """Collects steps while layers are opened one after another."""

    def __init__(self, stand_in=None):
        self.stand_in = stand_in
        self.steps, self.constants, self.shapes, self.count = [], [], {}, 0
        self.layer = self.operation = ""

    def value(self, shape=None):
        """A new value's number."""
        self.count += 1
        if shape is not None:
            self.shapes[self.count - 1] = tuple(shape)
        return self.count - 1

    def constant(self, array):
        """A new constant's number; `array` is a variable, a tensor or a number."""
        self.constants.append(array)
        return -len(self.constants)

    def step(self, rule, inputs, config=(), weights=()):
        """Adds one step; `inputs` is a value's number or several, `weights` are arrays. Returns its value's number."""
        if rule not in RULES:
            raise KeyError(rule)
        inputs = (inputs,) if isinstance(inputs, int) else tuple(inputs)
        weights = tuple(self.constant(w) for w in weights)
        output = self.value()
        self.steps.append(Step(rule, inputs, output, config, weights, self.layer, self.operation))
        return output

    def open(self, graph, values, without_rule, path=None):
        """Opens every node of a kerascnn.graph.Graph, adding its steps.

        Args:
            values: the numbers of the graph's inputs.
            without_rule: function (node, reason, known) -> numbers of the outputs of a node that no rule serves.
            path: the layer that all of it belongs to; None: the nodes' own names.
        Returns:
            {tensor of the graph: number of its value}.
        """
        from kerascnn.explain.plans.openings import open_node

        known = dict(zip(graph.inputs, values, strict=True))
        for node in graph.nodes:
            if path is None:
                self.layer, self.operation = node.name, type(node.operation).__name__
            shapes = {t: tuple(graph.tensors[t].shape) for t in (*node.inputs, *node.outputs)}
            steps, constants, count = len(self.steps), len(self.constants), self.count
            try:
                made = open_node(self, node, known, shapes)
            except NoRuleError as reason:
                del self.steps[steps:], self.constants[constants:]
                self.count = count
                made = without_rule(node, reason, known)
            made = made if isinstance(made, tuple) else (made,)
            for tensor, number in zip(node.outputs, made, strict=True):
                known[tensor] = number
                self.shapes.setdefault(number, shapes[tensor])
        return known

    def open_inner(self, graph, values):
        """Opens the graph of a traced activation function or layer; returns the number of its output."""

        def without_rule(node, reason, known):
            made = self.stand_in(self, node, known, reason) if self.stand_in else None
            if made is None:
                raise reason
            return made

        return self.open(graph, values, without_rule, path=self.layer)[graph.outputs[0]]


def make_plan(model, stand_in=None):
    """The Plan of a built Functional or Sequential model.

    Args:
        stand_in: what serves a layer without a rule: a function (builder, node, known, reason) -> numbers of its
            outputs, or None for one that it does not serve. Without it such a layer is a step that raises when a walk
            needs it. Either way `Plan.unsupported` names it.
    """
    graph, builder, unsupported = flatten(model), Builder(stand_in), {}
    inputs = tuple(builder.value(graph.tensors[t].shape) for t in graph.inputs)

    def without_rule(node, reason, known):
        unsupported[node.name] = str(reason)
        made = stand_in(builder, node, known, reason) if stand_in else None
        if made is not None:
            return made
        values = tuple(known[t] for t in node.inputs)
        return tuple(builder.step("unsupported", values, (node.name, str(reason))) for _ in node.outputs)

    known, layers, kinds = builder.open(graph, inputs, without_rule), {}, {}
    if len(graph.outputs) == 1:
        add_two_classes(builder, model, known[graph.outputs[0]], tuple(graph.tensors[graph.outputs[0]].shape))
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
        channels_first=any(getattr(n.operation, "data_format", None) == "channels_first" for n in graph.nodes),
    )


def _unsupported(config, weights, *xs):
    layer, reason = config
    raise UsageError(
        f"No rule walks back through layer {layer!r}: {reason}. For plain gradients, as of saliency or grad_cam, type "
        'fallback="autodiff", in the shell --fallback autodiff; '
        "kerascnn.explain.coverage(model, method) lists every layer."
    )


rule("unsupported", _unsupported, None, "none")


def read_constants(plan, dtype):
    """The plan's constants as arrays of `dtype`, with the values that they have now.

    Raises:
        UsageError: `dtype` is neither "float32" nor "float64".
    """
    if dtype not in ("float32", "float64"):
        raise unknown("dtype", dtype, ("float32", "float64"))
    return [keras.ops.cast(value_of(c) if isinstance(c, keras.Variable) else c, dtype) for c in plan.constants]
