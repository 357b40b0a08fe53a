"""A custom layer's `call`, or an activation function, as the graph of keras.ops operations that it is made of."""

from kerascnn.network.graph import traced
from kerascnn.network.steps import NoRuleError


def trace(function, node, shapes):
    """The kerascnn.network.graph.Graph of a layer or function, found by calling it on symbolic tensors.

    Args:
        function: a keras.Layer, or a function of one tensor.
        node: the kerascnn.network.graph.Node that calls the layer; None for a function of one tensor.
        shapes: {tensor: shape} of its inputs.
    Raises:
        NoRuleError: it does something that symbolic tensors cannot follow.
    """
    try:
        return traced(function, node, shapes)
    except Exception as error:  # whatever the user's own code raises when it is given symbolic tensors
        name = getattr(function, "__name__", type(function).__name__)
        raise NoRuleError(f"{name} cannot be traced into keras.ops operations") from error
