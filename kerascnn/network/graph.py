"""A Keras model's graph as one flat list of calls: nested models are opened, shared layers appear once per call.

`flatten(model)` works on Functional and Sequential models, however deeply they are nested, and never changes them. A
layer or model without a graph to open (a subclass) stays one node.
"""

import contextlib
import dataclasses
import inspect

import keras
from keras import tree
from keras.src.backend.common import global_state  # no public name; tests/test_graph.py notices if it goes

from kerascnn.errors import UsageError
from kerascnn.layers import AUGMENTATIONS


@dataclasses.dataclass(frozen=True)
class Ref:
    """The place of tensor number `id` in a node's arguments."""

    id: int


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """One call of one operation.

    Attributes:
        operation: the keras.Layer or keras.Operation.
        name: its path through the nested models, as in "block1/conv2"; calls of a shared layer have the same name.
        call: 0 for the operation's first call in the model, 1 for the second ...
        args, kwargs: the call's arguments, each tensor replaced by its `Ref`.
        inputs: numbers of the tensors among the arguments, in order.
        outputs: numbers of the output tensors.
    """

    operation: keras.Operation
    name: str
    call: int
    args: tuple
    kwargs: dict
    inputs: tuple
    outputs: tuple

    def arguments(self, values):
        """(args, kwargs) with `values[id]` for each tensor; `self.operation(*args, **kwargs)` calls again."""
        return tree.map_structure(lambda x: values[x.id] if isinstance(x, Ref) else x, (self.args, self.kwargs))


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """The flat graph of one model.

    Attributes:
        nodes: list of Node in an order in which they can be called.
        inputs, outputs: numbers of the model's input and output tensors.
        tensors: list of symbolic tensors; `tensors[number]` has `.shape` (batch first, None if open) and `.dtype`.
        input_names: names of the model's inputs.
    """

    nodes: list
    inputs: tuple
    outputs: tuple
    tensors: list
    input_names: tuple

    def run(self, values, call=None):
        """All tensors' values, {number: value}, from the inputs' values.

        Args:
            values: one value per input: arrays, or KerasTensors to learn shapes only.
            call: function (node, args, kwargs) -> output, used instead of calling the operation.
        """
        known = dict(zip(self.inputs, values, strict=True))
        for node in self.nodes:
            args, kwargs = node.arguments(known)
            out = call(node, args, kwargs) if call else node.operation(*args, **kwargs)
            known.update(zip(node.outputs, tree.flatten(out), strict=True))
        return known


def flatten(model):
    """The Graph of a Functional or Sequential `keras.Model`.

    Raises:
        UsageError: the model is not built yet, or is a subclass of keras.Model whose graph Keras does not know.
    """
    function = _function(model)
    if function is None:
        raise UsageError(why_no_graph(model))
    flat, calls, known = Graph([], (), (), [], ()), {}, {}

    def number(tensor):
        flat.tensors.append(tensor)
        return len(flat.tensors) - 1

    def add(function, known, path):
        """Adds the calls inside `function`; `known` maps id(its own symbolic tensor) to a tensor number."""
        for depth in sorted(function._nodes_by_depth, reverse=True):
            for node in function._nodes_by_depth[depth]:
                if node.is_input or any(id(t) not in known for t in node.input_tensors):
                    continue
                args, kwargs = tree.map_structure(
                    lambda x: Ref(known[id(x)]) if isinstance(x, keras.KerasTensor) else x,
                    (node.arguments.args, node.arguments.kwargs),
                )
                inner = _function(node.operation)
                name = f"{path}{node.operation.name}"
                if inner is None:
                    # A nested model's inner tensors serve every call of that model: each call gets new numbers.
                    outputs = tuple(map(number, node.outputs))
                    call = calls[name] = calls.get(name, -1) + 1  # of a path: inside a nested model it has another
                    inputs = tuple(known[id(t)] for t in node.input_tensors)
                    flat.nodes.append(Node(node.operation, name, call, args, kwargs, inputs, outputs))
                else:
                    inside = {id(t): n for t, n in zip(inner.inputs, _passed(inner, args, kwargs), strict=True)}
                    add(inner, inside, f"{name}/")
                    outputs = tuple(inside[id(t)] for t in inner.outputs)
                known.update({id(t): n for t, n in zip(node.outputs, outputs, strict=True)})

    for tensor in function.inputs:
        if id(tensor) not in known:
            known[id(tensor)] = number(tensor)
    inputs = tuple(known[id(t)] for t in function.inputs)
    add(function, known, "")
    outputs = tuple(known[id(t)] for t in function.outputs)
    return dataclasses.replace(flat, inputs=inputs, outputs=outputs, input_names=tuple(t.name for t in function.inputs))


def traced(function, node, shapes):
    """The Graph of a layer in inference, or of a function, found by calling it on symbolic tensors.

    Args:
        function: a keras.Layer, or a function of one tensor.
        node: the Node that calls the layer; None for a function of one tensor.
        shapes: {tensor number: shape} of its inputs.
    Raises:
        Exception: whatever the user's code raises when it is called on symbolic tensors.
    """
    symbols = {}

    def symbol(ref):
        if not isinstance(ref, Ref):
            return ref
        return symbols.setdefault(ref.id, keras.KerasTensor(shapes[ref.id]))

    inner = list(function._flatten_layers()) if isinstance(function, keras.Layer) else []
    marks = [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in inner]
    try:
        if node is None:
            out = function(symbol(Ref(0)))
        else:
            args, kwargs = keras.tree.map_structure(symbol, (node.args, node.kwargs))
            if "training" in inspect.signature(function.call).parameters:
                kwargs["training"] = False
            if isinstance(function, AUGMENTATIONS):  # their `call` takes arrays only
                out = function.transform_images(*args, None, **kwargs)
            else:
                out = function.call(*args, **kwargs)
        ordered = [symbols[t] for t in (node.inputs if node else (0,))]
        return flatten(keras.Function(ordered, out))
    finally:
        for layer, (inbound, outbound) in zip(inner, marks, strict=True):
            del layer._inbound_nodes[inbound:], layer._outbound_nodes[outbound:]


@contextlib.contextmanager
def without_weights():
    """Models built inside have layers, shapes and counts but no weight values: a VGG takes 0.02 s and no memory.

    They can be examined (tables, receptive fields, costs), but not called or saved.
    """
    waiting = "uninitialized_variables"
    before = global_state.get_global_attribute(waiting, [])
    global_state.set_global_attribute(waiting, [])
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        global_state.set_global_attribute(waiting, before)


def _passed(function, args, kwargs):
    """The numbers of the tensors that a nested model is called with, in the order of its inputs."""
    refs = [ref for ref in tree.flatten((args, kwargs)) if isinstance(ref, Ref)]
    given = next(iter((*args, *kwargs.values())))
    if isinstance(given, dict) and not isinstance(function._inputs_struct, dict):
        refs = [given[tensor.name] for tensor in function.inputs]  # Keras matches them by the inputs' names
    return [ref.id for ref in refs]


def _function(operation):
    """The keras.Function that holds an operation's graph, or None."""
    if isinstance(operation, keras.Sequential):
        return operation._functional
    return operation if isinstance(operation, keras.Function) else None


def has_graph(model):
    """True if `flatten` can open a model: it is Functional, or a Sequential that is built."""
    return _function(model) is not None


def why_no_graph(model, shape=None):
    """Why `flatten` cannot open a model, and what to type; `shape` is the shape of the images, without the batch."""
    if not isinstance(model, keras.Model):
        return f"A keras.Model is needed; received {type(model).__name__}: {model!r}."
    sizes = ", ".join(map(str, shape or ("height", "width", "channels")))
    if isinstance(model, keras.Sequential):
        return (
            f"The Sequential model {model.name!r} is not built: its input size is unknown. Put keras.Input(({sizes})) "
            f"before its first layer, or call model.build((None, {sizes}))."
        )
    return (
        f"Model {model.name!r} ({type(model).__name__}) is a subclass of keras.Model, so Keras keeps no graph of its "
        "layers. Functional and Sequential models can be looked into; make one of yours with "
        f"i = keras.Input(({sizes})); model = keras.Model(i, model.call(i))."
    )
