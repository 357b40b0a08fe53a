"""Which rule would serve each layer of a model, before anything is explained."""

import pandas as pd

from kerascnn.errors import unknown
from kerascnn.explain import EXPLANATIONS
from kerascnn.explain.relevance import Relevance
from kerascnn.explain.subjects import exact_step
from kerascnn.network.heads import TWO_CLASSES, head_step
from kerascnn.network.plan import make_plan
from kerascnn.network.rules.elementwise import RECTIFIERS
from kerascnn.network.rules.rule import RULES


def coverage(model, method="saliency"):
    """A data frame with one row per non-linear step of a model: the rule that would serve it, or "unsupported".

    Layers that are linear at inference (convolutions, batch normalisation, averages, dropout ...) have no row, except
    under relevance propagation and where no rule serves them.

    Args:
        model: a built Functional or Sequential keras.Model.
        method: a method's name (`EXPLANATIONS.names()`).
    Returns:
        pandas.DataFrame with columns layer, operation, rule (its name or "unsupported"), backward (what it does to
        the signal g) and note (why there is none).
    """
    if method not in EXPLANATIONS:
        raise unknown("explanation method", method, EXPLANATIONS.names(), EXPLANATIONS.hint)
    relevance = Relevance(1e-6) if method == "lrp" else None
    plan, rows = make_plan(model, exact_step(relevance or (method if RECTIFIERS.get(method) else "gradient"))), []
    changed = RECTIFIERS.get(method, {})
    head = head_step(plan.steps, plan.outputs[0], single=True)
    for step in plan.steps:
        if step.rule == TWO_CLASSES:
            continue
        row = {"layer": step.layer, "operation": step.operation, "rule": step.rule, "note": ""}
        if step.rule == "unsupported":
            row |= {"backward": "", "note": plan.unsupported[step.layer]}
        elif step.rule == "autodiff":
            row |= {"backward": "automatic derivative", "note": plan.unsupported.get(step.layer, "")}
        elif step is head:
            row["backward"] = "cut off for classes"
        elif relevance:
            how = relevance.serves(step)
            row |= {"backward": how or "", "rule": step.rule if how else "unsupported"}
            row["note"] = "" if how else f"relevance propagation has no rule for {step.rule}"
        elif RULES[step.rule].linear:
            continue
        elif step.rule in changed:
            row["backward"] = EXPLANATIONS.facts(method)["rectifier"]
        else:
            row["backward"] = "switches" if RULES[step.rule].kind == "route" else "derivative"
        rows.append(row)
    return pd.DataFrame(rows, columns=["layer", "operation", "rule", "backward", "note"])
