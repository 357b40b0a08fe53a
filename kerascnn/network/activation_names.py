"""Which rule an activation function uses: decided by the function itself, never only by its name."""

from keras import activations, ops

# Functions that have their rule's name in keras.activations and keras.ops; {name: the rule's config, if it has one}
_NAMED = {
    "leaky_relu": (0.2, None, 0.0),
    "elu": (1.0,),
    "celu": (1.0,),
    "softmax": (-1,),
    "log_softmax": (-1,),
    "hard_shrink": (0.5,),
    "soft_shrink": (0.5,),
    "sparsemax": (-1,),
    "glu": (-1,),
    "squareplus": (4,),
}
_PLAIN = """
    relu selu silu mish tanh sigmoid hard_sigmoid hard_silu hard_tanh softplus softsign log_sigmoid tanh_shrink
    sparse_plus sparse_sigmoid exp square abs erf
"""
_NAMED |= dict.fromkeys(_PLAIN.split(), ())
_RULES = {getattr(room, n): (n, c) for room in (activations, ops) for n, c in _NAMED.items() if hasattr(room, n)}
_RULES |= {
    None: ("identity", ()),
    activations.linear: ("identity", ()),
    activations.relu6: ("clipped_relu", (6.0, 0.0)),
    ops.relu6: ("clipped_relu", (6.0, 0.0)),
    activations.gelu: ("gelu", (False,)),
    ops.gelu: ("gelu", (True,)),
    activations.exponential: ("exp", ()),
}


def activation_rule(function):
    """(rule name, config) for an activation function, or None."""
    try:
        return _RULES.get(function)
    except TypeError:  # not hashable
        return None
