"""Collect the steps of a plan while the layers of a model are opened one after another."""

import dataclasses

from kerascnn.network.rules.rule import RULES


def filling(table):
    """A decorator that takes keys and enters a function under each of them into a table, a dict."""

    def fills(*keys):
        def enter(function):
            table.update(dict.fromkeys(keys, function))
            return function

        return enter

    return fills


@dataclasses.dataclass(frozen=True)
class Step:
    """One primitive step.

    Attributes:
        rule: its name in RULES.
        inputs: numbers of the values that it takes; negative numbers are constants (`Plan.constants[-n - 1]`).
        output: number of the value that it computes.
        config: the rule's plain values.
        weights: numbers of constants, all negative.
        layer: path of the layer that it belongs to, for messages.
        operation: class name of that layer.
        call: 0 for the layer's first call in the model, 1 for the second ...
    """

    rule: str
    inputs: tuple
    output: int
    config: tuple = ()
    weights: tuple = ()
    layer: str = dataclasses.field(default="", compare=False)
    operation: str = dataclasses.field(default="", compare=False)
    call: int = dataclasses.field(default=0, compare=False)


class NoRuleError(Exception):
    """Raised while a layer is opened if there is no rule for it; the message says for which computation.

    Attributes:
        mixes_images: True if the values of one image would depend on other images, so that no map belongs to one image.
    """

    def __init__(self, message, *, mixes_images=False):
        super().__init__(message)
        self.mixes_images = mixes_images


class Builder:
    """Collects steps while layers are opened one after another.

    Args:
        open_node: function (builder, node, known, shapes) -> numbers of the outputs, opens one call.
        stand_in: see `make_plan`.
    """

    def __init__(self, open_node, stand_in=None):
        self.open_node, self.stand_in = open_node, stand_in
        self.steps, self.constants, self.shapes, self.count = [], [], {}, 0
        self.layer, self.operation, self.call = "", "", 0

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
        self.steps.append(Step(rule, inputs, output, config, weights, self.layer, self.operation, self.call))
        return output

    def open(self, graph, values, without_rule, path=None):
        """Opens every node of a kerascnn.network.graph.Graph, adding its steps.

        Args:
            values: the numbers of the graph's inputs.
            without_rule: function (node, reason, known) -> numbers of the outputs of a node without a rule.
            path: the layer that all steps belong to; None: the nodes' own names.
        Returns:
            {tensor of the graph: number of its value}.
        """
        known = dict(zip(graph.inputs, values, strict=True))
        for node in graph.nodes:
            if path is None:
                self.layer, self.operation, self.call = node.name, type(node.operation).__name__, node.call
            shapes = {t: tuple(graph.tensors[t].shape) for t in (*node.inputs, *node.outputs)}
            steps, constants, count = len(self.steps), len(self.constants), self.count
            try:
                outputs = self.open_node(self, node, known, shapes)
            except NoRuleError as reason:
                del self.steps[steps:], self.constants[constants:]
                self.count = count
                outputs = without_rule(node, reason, known)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            for tensor, number in zip(node.outputs, outputs, strict=True):
                known[tensor] = number
                if path is None or number not in self.shapes:  # a traced activation does not know the sizes of its map
                    self.shapes[number] = shapes[tensor]
        return known

    def open_inner(self, graph, values):
        """Opens the graph of a traced activation function or layer; returns the number of its output."""

        def without_rule(node, reason, known):
            outputs = self.stand_in(self, node, known, reason) if self.stand_in else None
            if outputs is None:
                raise reason
            return outputs

        return self.open(graph, values, without_rule, path=self.layer)[graph.outputs[0]]
