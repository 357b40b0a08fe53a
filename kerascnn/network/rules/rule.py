"""What the rule of a step is, and the table of them.

A rule serves one primitive step (a convolution without its activation, one activation, one pooling ...). It is two
functions of ordinary forward operations, so that every backend computes the same:

    forward(config, weights, *xs) -> (y, record)
    backward(config, weights, record, g) -> one array per x, shaped like it

`config` is a tuple of plain values, `weights` a list of arrays, `record` whatever `backward` needs. `backward` is the
exact vector-Jacobian product; deconvnet and guided backpropagation replace it for rectifiers and nothing else. Where
all methods walk back alike, `automatic` takes the backend's own derivative of the one step.

`kind` says what layer-wise relevance propagation does with the step:
    linear     affine in its inputs together: relevance is shared by their contributions to the output
    move       values only change place (reshape, concatenate, pad): relevance moves with them
    route      one input is chosen (maximum): it gets the relevance
    pass       a function of each value alone: relevance stays
    product    two branches multiplied: each gets half (uniform rule, Achtibat et al. 2024)
    gate       a value divided or scaled by a computed normaliser: the first input gets the relevance
    constant   a function that is flat wherever it has a slope (a comparison, rounding): it gets no relevance
    none       no rule
"""

from collections.abc import Callable
from typing import NamedTuple

from kerascnn.backends import vector_jacobian


class Rule(NamedTuple):
    """One row of the rule table; the module's docstring says what the fields are."""

    forward: Callable
    backward: Callable
    kind: str
    linear: bool  # no derivative depends on the data: coverage() has no line for it
    value: Callable  # as forward, y alone


RULES = {}


def rule(name, forward, backward, kind, linear=None, value=None):
    """Adds a rule to the table; `linear` is by default what the kind implies."""
    if name in RULES:
        raise ValueError(f"Two rules are called {name!r}.")
    linear = kind in ("linear", "move") if linear is None else linear
    RULES[name] = Rule(forward, backward, kind, linear, value or (lambda *given: forward(*given)[0]))


def automatic(name, function, kind, linear=None):
    """Adds a rule for y = function(config, weights, *xs) with the backend's own derivative.

    It is for steps where that is as exact as a rule (1e-10 in float64, at equal values and kinks too) and as fast
    (1.05 times at most); benchmarks/rules.py measures both.
    """

    def forward(config, weights, *xs):
        ys, back = vector_jacobian(lambda *values: function(config, weights, *values), xs)
        return ys[0], back

    rule(name, forward, lambda config, weights, back, g: tuple(back([g])), kind, linear, function)
