"""A custom layer's `call`, or an activation function, as the graph of keras.ops operations that it is made of."""

import inspect

import keras

from kerascnn.explain.plans.plan import NoRuleError
from kerascnn.graph import Ref, flatten


def trace(function, node, shapes):
    """The kerascnn.graph.Graph of what a layer or function does, found by calling it on symbolic tensors.

    Args:
        function: a keras.Layer, or a function of one tensor.
        node: the kerascnn.graph.Node that calls the layer; None for a function of one tensor.
        shapes: {tensor: shape} of what it is called on.
    Raises:
        NoRuleError: it does something that symbolic tensors cannot follow.
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
            out = function.call(*args, **kwargs)
        ordered = [symbols[t] for t in (node.inputs if node else (0,))]
        return flatten(keras.Function(ordered, out))
    except Exception as error:  # whatever the user's own code raises when it is given symbolic tensors
        name = getattr(function, "__name__", type(function).__name__)
        reason = str(error).strip().partition("\n")[0][:200]
        reason = f"{type(error).__name__}: {reason}"
        raise NoRuleError(f"{name} cannot be traced into keras.ops operations ({reason})") from error
    finally:
        for layer, (inbound, outbound) in zip(inner, marks, strict=True):
            del layer._inbound_nodes[inbound:], layer._outbound_nodes[outbound:]
