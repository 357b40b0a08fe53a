"""Which outputs a scan looks at: a layer's own, or what the next layer sees of a convolution.

A convolution that stands before batch normalisation and ReLU is rarely 0 and nearly never below 0 everywhere: what its
channels say to the next layer comes out behind these. "conv1 (after relu)" is that output, with conv1's channels.
"""

import dataclasses
import re
import warnings

import keras

from kerascnn.errors import UsageError
from kerascnn.explain.subjects import opaque_step
from kerascnn.explain.targets import check_channels_last
from kerascnn.explain.walk import needed_steps
from kerascnn.network.find import call_names, convolutions, find, find_all
from kerascnn.network.graph import flatten
from kerascnn.network.plan import make_plan
from kerascnn.network.rules.rule import RULES

AFTER = re.compile(r"(.+) \(after [^()]*\)")
# Rules of a map that keep what channel a value belongs to and are no activation
AFFINE = {"identity", "scale", "batch_norm", "plus", "minus", "times", "over", "lrn"}
POOLING = {"max_pool", "average_pool"}
CONVOLUTIONS = {"conv", "conv_transpose", "depthwise"}
WORDS = {"clipped_relu": "relu", "hard_silu": "hard silu", "leaky_relu": "leaky relu", "batch_norm": "batch norm"}


@dataclasses.dataclass(frozen=True)
class ScannedLayer:
    """One output that a scan looks at.

    Attributes:
        name: what the result calls it: "conv1", or "conv1 (after relu)".
        layer: the layer whose channels they are: "conv1"; "conv1#2" is the second call of a shared layer.
        output: the layer whose output it is, such as "relu1".
        value: number of that output in the plan.
        channels: how many.
        seen: the name of what the next layer sees of these channels; `name` itself where that is scanned.
    """

    name: str
    layer: str
    output: str
    value: int
    channels: int
    seen: str


def scanned_layers(model, layers=None):
    """A list of ScannedLayers in the network's order, for what a user calls layers.

    Args:
        layers: a layer's name or a list: the outputs of these layers, or, as "conv1 (after relu)", what the next layer
            sees of them; None: what the next layer sees of every convolution, after its normalisation and activation.
    Raises:
        UsageError: a layer that does not exist, or has no channels; a network without convolutions and no names.
    """
    plan = make_plan(model, opaque_step)
    check_channels_last(plan)
    calls = _Calls(model, plan)
    if layers is None:
        chosen = _deepest_of_each([calls.seen(name) for name in _convolutions(plan)], plan)
    else:
        matches = [(name, AFTER.fullmatch(name)) for name in _names(plan, layers)]
        chosen = [calls.seen(match[1]) if match else calls.output(name) for name, match in matches]
    return sorted({each.value: each for each in chosen}.values(), key=lambda each: each.value)


def _convolutions(plan):
    deep = call_names(plan, convolutions(plan))
    if not deep:
        raise UsageError(
            f"Model {plan.model!r} has no convolution, so name other layers with layers=, from: "
            f"{', '.join(plan.layers)}."
        )
    return deep


def _names(plan, layers):
    """The names that a user asks for, patterns spelled out, with a stand-in for "conv5"."""
    names = layers.split(",") if isinstance(layers, str) else layers
    names = [name.strip() for name in map(str, names)]
    if not names:
        raise UsageError("layers=[] names no layer. Leave it out for every convolution.")
    deep = call_names(plan, convolutions(plan))
    known = {path.rpartition("/")[2].lower() for path in plan.layers}
    for number, name in enumerate(names):
        if name.lower() == "conv5" and "conv5" not in known and deep:
            told = f"Model {plan.model!r} has no layer {name!r}: its deepest convolution is {deep[-1]!r}."
            warnings.warn(told, stacklevel=4)
            names[number] = deep[-1]
    kept = [[name] if AFTER.fullmatch(name) else [place.name for place in find_all(plan, [name])] for name in names]
    return [name for few in kept for name in few]


def _deepest_of_each(chosen, plan):
    """One ScannedLayer for each output: of two convolutions that are added up the deeper one, not the shortcut."""

    def depth(each):
        return len(needed_steps(plan.steps, [find(plan, each.layer).value]))

    kept = {}
    for each in chosen:
        other = kept.get(each.value)
        if other is None or depth(each) > depth(other):
            kept[each.value] = each
    return list(kept.values())


class _Calls:
    """The calls of a network's layers, and what reads each output."""

    def __init__(self, model, plan):
        graph = flatten(model)
        self.plan, self.ends = plan, set(graph.outputs)
        self.nodes, self.readers, self.rules = {}, {}, {}
        for node in graph.nodes:
            self.nodes[node.name, node.call] = node
            for tensor in set(node.inputs):
                self.readers.setdefault(tensor, []).append(node)
        for step in plan.steps:
            self.rules.setdefault(step.layer, []).append(step.rule)

    def output(self, name):
        """The output of a layer that has channels."""
        _, path, value = find(self.plan, name)
        shape = self.plan.shapes[value]
        if len(shape) not in (2, 4):
            raise UsageError(
                f"Layer {path!r} of model {self.plan.model!r} has no channels: its output is {shape}. "
                f"Maps (N, rows, cols, channels) and units (N, units) are scanned, such as "
                f"{convolutions(self.plan)[-1:]}."
            )
        full = path if "#" not in str(name) else f"{path}#{str(name).partition('#')[2]}"
        output = ScannedLayer(full, full, full, value, shape[-1], full)
        return dataclasses.replace(output, seen=self._seen(output).name) if "Conv" in self.plan.kinds[path] else output

    def seen(self, name):
        """What the next layer sees of a layer's channels."""
        return self._seen(self.output(name))

    def _seen(self, output):
        path, _, call = output.layer.partition("#")
        node = self.nodes[path, int(call or 1) - 1]
        given = getattr(node.operation, "activation", None)
        if self._activates(node, besides=CONVOLUTIONS) or given not in (None, keras.activations.linear):
            return output
        end, words, passed = None, [], []
        while node := self._only_reader(node):
            kind = self._kind(node)
            if kind == "add":
                passed.append("add")
            if kind in ("activation", "normalisation", "add"):
                end = node
                words = [*passed, *([self._word(node)] if kind != "add" else [])]
            if kind in ("activation", "other"):
                break
        if end is None:
            return output
        path = end.name if len(self.plan.layers[end.name]) == 1 else f"{end.name}#{end.call + 1}"
        name = f"{output.name} (after {' and '.join(dict.fromkeys(words))})"
        return ScannedLayer(name, output.layer, path, self.plan.layers[end.name][end.call], output.channels, name)

    def _only_reader(self, node):
        """The one call that reads what a call makes; None where there are several, or it leaves the network."""
        readers = self.readers.get(node.outputs[0], [])
        return readers[0] if len(readers) == 1 and node.outputs[0] not in self.ends else None

    def _kind(self, node):
        """ "activation", "normalisation", "add", "passes" (pooling, dropout) or "other": where channels mix or move."""
        rules, name = set(self.rules.get(node.name, ())), type(node.operation).__name__
        if name.endswith("Normalization") and len(node.inputs) == 1:
            return "normalisation"
        if len(node.inputs) > 1:
            return "add" if rules == {"add"} else "other"
        if rules <= POOLING | {"identity"}:
            return "passes"
        if self._activates(node):
            return "activation"
        return "normalisation" if rules <= AFFINE else "other"

    def _activates(self, node, besides=()):
        """True for a call that computes a function of each value alone, such as ReLU, and rules `besides` before it."""
        rules = set(self.rules.get(node.name, ())) - AFFINE - {"multiply", *besides}
        return bool(rules) and all(RULES[rule].kind == "pass" for rule in rules)

    def _word(self, node):
        """What a call is called in a layer's name: relu, batch norm ..."""
        rules = [rule for rule in self.rules.get(node.name, []) if rule != "identity"]
        activation = [rule for rule in rules if RULES[rule].kind == "pass"]
        if type(node.operation).__name__.endswith("Normalization"):
            return {"BatchNormalization": "batch norm"}.get(type(node.operation).__name__, "normalisation")
        word = (activation or rules)[-1]
        return WORDS.get(word, word.replace("_", " "))
