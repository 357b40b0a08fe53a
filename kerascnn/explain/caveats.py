"""What has to be said beside a map: that a method is another one on this model, or that a map is empty."""

import functools
import warnings

import numpy as np

from kerascnn.explain.subjects import exact_step
from kerascnn.network.plan import make_plan
from kerascnn.network.rules.elementwise import RECTIFIERS


class EmptyMap(UserWarning):
    """A map that is zero everywhere, the same everywhere, or not finite."""


def cautions(method, model):
    """Sentences that the caption of a method's map has to have on this model; mostly none.

    Args:
        method: a method's name (`EXPLANATIONS.names()`).
        model: as for every look.
    Returns:
        list of str.
    """
    return plan_cautions(method, make_plan(model, exact_step(method))) if RECTIFIERS.get(method) else []


def plan_cautions(method, plan):
    """`cautions` of a model as a plan; `method` may also be the rules of a relevance propagation."""
    rectifiers = RECTIFIERS.get(method) if isinstance(method, str) else None
    if not rectifiers or any(step.rule in (*rectifiers, "unsupported") for step in plan.steps):
        return []
    return [f"{method} equals the plain gradient here: model {plan.model!r} has no rectifier (ReLU)."]


def warned(function, facts):
    """Wraps a method so that it warns (EmptyMap) of maps that are zero, the same everywhere, or not finite."""

    @functools.wraps(function)
    def wrapper(model, images, *arguments, **options):
        result = function(model, images, *arguments, **options)
        for maps in result if isinstance(result, list) else [result]:
            for text in empty_maps(maps, function.__name__, facts):
                warnings.warn(text, EmptyMap, stacklevel=2)
        return result

    return wrapper


def empty_maps(maps, method, facts):
    """Sentences about maps (N, ...) that are not finite, zero everywhere or, of a layer's maps, the same everywhere."""
    flat = np.asarray(maps).reshape(len(maps), -1)
    finite = np.isfinite(flat).all(1)
    zero = finite & (flat == 0).all(1)
    constant = finite & ~zero & (flat == flat[:, :1]).all(1) if facts.get("of_layer") else np.zeros(len(flat), bool)
    zero_why = facts.get("zero", _ZERO)
    reasons = (
        (~finite, "not finite", "a derivative or a share is infinite there, as at the square root of 0"),
        (zero, "zero everywhere", zero_why),
        (constant, "the same everywhere", "it cannot show where; choose a layer with larger maps"),
    )
    return [f"{method}: {_which(mask)} {what}: {why}." for mask, what, why in reasons if mask.any()]


_ZERO = (
    "what is explained does not change with the image (a dead unit, a saturated activation), or the numbers are too "
    "small for float32, where dtype='float64' may help"
)


def _which(mask):
    if len(mask) == 1:
        return "the map is"
    places = np.flatnonzero(mask)
    shown = ", ".join(map(str, places[:10])) + (", ..." if len(places) > 10 else "")
    return f"{len(places)} of {len(mask)} maps (number {shown}) are" if len(places) > 1 else f"map {shown} is"
