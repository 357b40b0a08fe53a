"""Layer-wise relevance propagation: how each kind of step shares the relevance of its output (Bach et al. 2015).

Epsilon rule, for every affine step y = sum_i w_i x_i + b:      R_i = x_i w_i / (y + epsilon sign(y)) R.
Alpha-beta rule, for convolutions: positive and negative contributions apart,
R_i = (alpha (x_i w_i)+ / z+ - beta (x_i w_i)- / z-) R with z+ and z- the sums of each sign, biases among them, and
alpha - beta = 1.
"""

import dataclasses

from keras import ops

from kerascnn.errors import UsageError
from kerascnn.network.rules.elementwise import unbroadcast
from kerascnn.network.rules.rule import RULES

_CONVOLUTIONS = ("conv", "depthwise", "conv_transpose")


@dataclasses.dataclass(frozen=True)
class Relevance:
    """The rules of one propagation.

    Attributes:
        epsilon: above 0.
        alpha: None leaves convolutions to the epsilon rule.
        merges: True merges batch normalisation into the layers beside it first.
    """

    epsilon: float
    alpha: float | None = None
    merges: bool = False

    def serves(self, step):
        """The word for how a step is served, or None."""
        if step.rule in _CONVOLUTIONS and self.alpha is not None:
            return "alpha-beta"
        words = {"linear": "epsilon", "move": "move", "route": "winner takes all", "pass": "pass on"}
        words |= {"product": "half each", "gate": "pass on", "constant": "gets none"}
        return words.get(RULES[step.rule].kind)


def _share(relevance, y, epsilon):
    return relevance / (y + epsilon * ops.where(y >= 0, ops.ones_like(y), -ops.ones_like(y)))


def relevance_back(method, step, weights, record, xs, y, relevance):
    """One array per input of the step: the relevance that each of its values gets."""
    rule, how = RULES[step.rule], method.serves(step)
    if how is None:
        raise UsageError(
            f"Layer-wise relevance propagation has no rule for layer {step.layer!r} ({step.rule}). "
            'kerascnn.explain.coverage(model, "lrp") lists every layer. Type gradient_x_input instead, with '
            'fallback="autodiff" if a layer has no rule there, too.'
        )
    if how == "alpha-beta":
        return (_alpha_beta(method, rule, step, weights, record, xs[0], relevance),)
    if how == "epsilon":
        back = rule.backward(step.config, weights, record, _share(relevance, y, method.epsilon))
        return tuple(x * g for x, g in zip(xs, back, strict=True))
    if how == "half each":
        return tuple(unbroadcast(relevance / 2, x.shape) for x in xs)
    if how == "pass on":
        return (relevance, *(None for _ in xs[1:]))
    return rule.backward(step.config, weights, record, relevance)


def _alpha_beta(method, rule, step, weights, record, x, relevance):
    kernel, *bias = weights
    signs = {}
    for name, part in (("+", ops.relu), ("-", lambda a: -ops.relu(-a))):
        signs[name] = part(x), part(kernel), [part(b) for b in bias]

    def contribution(pairs, bias):
        total, back = 0.0, 0.0
        for a, w in pairs:
            total = total + rule.forward(step.config, [w], a)[0]
        for b in bias:
            total = total + b
        share = relevance / ops.where(ops.equal(total, 0), ops.ones_like(total), total)
        for a, w in pairs:
            back = back + a * rule.backward(step.config, [w], record, share)[0]
        return back

    (xp, wp, bp), (xn, wn, bn) = signs["+"], signs["-"]
    positive = contribution(((xp, wp), (xn, wn)), bp)
    negative = contribution(((xp, wn), (xn, wp)), bn)
    return method.alpha * positive - (method.alpha - 1) * negative
