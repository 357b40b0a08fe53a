"""Which rule an activation function uses: decided by the function itself, never only by its name."""

from keras import activations, ops

_RULES = {
    activations.linear: ("identity", ()),
    activations.relu: ("relu", ()),
    ops.relu: ("relu", ()),
    activations.relu6: ("clipped_relu", (6.0, 0.0)),
    ops.relu6: ("clipped_relu", (6.0, 0.0)),
    activations.leaky_relu: ("leaky_relu", (0.2, None, 0.0)),
    ops.leaky_relu: ("leaky_relu", (0.2, None, 0.0)),
    activations.elu: ("elu", (1.0,)),
    ops.elu: ("elu", (1.0,)),
    activations.celu: ("celu", (1.0,)),
    ops.celu: ("celu", (1.0,)),
    activations.selu: ("selu", ()),
    ops.selu: ("selu", ()),
    activations.silu: ("silu", ()),
    ops.silu: ("silu", ()),
    activations.gelu: ("gelu", (False,)),
    ops.gelu: ("gelu", (True,)),
    activations.mish: ("mish", ()),
    activations.tanh: ("tanh", ()),
    ops.tanh: ("tanh", ()),
    activations.sigmoid: ("sigmoid", ()),
    ops.sigmoid: ("sigmoid", ()),
    activations.hard_sigmoid: ("hard_sigmoid", ()),
    ops.hard_sigmoid: ("hard_sigmoid", ()),
    activations.hard_silu: ("hard_silu", ()),
    ops.hard_silu: ("hard_silu", ()),
    activations.hard_tanh: ("hard_tanh", ()),
    ops.hard_tanh: ("hard_tanh", ()),
    activations.softplus: ("softplus", ()),
    ops.softplus: ("softplus", ()),
    activations.softsign: ("softsign", ()),
    ops.softsign: ("softsign", ()),
    activations.exponential: ("exp", ()),
    ops.exp: ("exp", ()),
    activations.log_sigmoid: ("log_sigmoid", ()),
    ops.log_sigmoid: ("log_sigmoid", ()),
    activations.tanh_shrink: ("tanh_shrink", ()),
    ops.tanh_shrink: ("tanh_shrink", ()),
    activations.softmax: ("softmax", (-1,)),
    ops.softmax: ("softmax", (-1,)),
    activations.log_softmax: ("log_softmax", (-1,)),
    ops.log_softmax: ("log_softmax", (-1,)),
    activations.hard_shrink: ("hard_shrink", (0.5,)),
    ops.hard_shrink: ("hard_shrink", (0.5,)),
    activations.soft_shrink: ("soft_shrink", (0.5,)),
    ops.soft_shrink: ("soft_shrink", (0.5,)),
    activations.sparse_plus: ("sparse_plus", ()),
    ops.sparse_plus: ("sparse_plus", ()),
    activations.sparse_sigmoid: ("sparse_sigmoid", ()),
    ops.sparse_sigmoid: ("sparse_sigmoid", ()),
    activations.sparsemax: ("sparsemax", (-1,)),
    ops.sparsemax: ("sparsemax", (-1,)),
    activations.glu: ("glu", (-1,)),
    ops.glu: ("glu", (-1,)),
    ops.square: ("square", ()),
    ops.abs: ("abs", ()),
    ops.erf: ("erf", ()),
    activations.squareplus: ("squareplus", (4,)),
    None: ("identity", ()),
}


def activation_rule(function):
    """(rule name, config) for an activation function, or None."""
    try:
        return _RULES.get(function)
    except TypeError:  # not hashable
        return None


def relu_step(x, slope, maximum, threshold):
    """(rule, value, config) of Keras' ReLU with its options, as the arguments of `Builder.step`."""
    slope, threshold = float(slope or 0), float(threshold or 0)
    if slope:
        return "leaky_relu", x, (slope, maximum, threshold)
    if maximum is None and not threshold:
        return "relu", x, ()
    return "clipped_relu", x, (maximum, threshold)
