"""Trials in order: who leads, who led when, and which hyperparameters made the difference. Never imports Keras.

Everywhere `results` has one row a trial (columns trial, status, score, ended and the hyperparameters), `direction` is
"max" or "min", and `hyperparameters` is {name: {"kind": "float"|"int"|"choice"|"boolean", "low", "high", "log",
"values"}}.
"""

import numpy as np
import pandas as pd

SCORED = ("completed", "pruned", "stopped", "paused")
GROUPS = (*SCORED, "running", "waiting", "failed")
FEWEST_TRIALS = 8


def scored(results):
    """The trials that ended with a finite score, in the order of `results`."""
    return results[results["status"].isin(SCORED) & np.isfinite(results["score"])]


def ranked(results, direction):
    """All trials: those that ended with a score, best first, then running, waiting and failed ones."""
    group = results["status"].map(lambda status: max(0, GROUPS.index(status) - len(SCORED) + 1))
    keyed = results.assign(_group=group, _score=results["score"] * (-1 if direction == "max" else 1))
    return keyed.sort_values(["_group", "_score", "trial"]).drop(columns=["_group", "_score"])


def best_so_far(results, direction):
    """The best score at each moment of a search: DataFrame with columns trial, ended (seconds), score, best.

    One row for each trial that ended with a score, in the order in which they ended.
    """
    table = scored(results).sort_values(["ended", "trial"])[["trial", "ended", "score"]].reset_index(drop=True)
    best = table["score"].cummax() if direction == "max" else table["score"].cummin()
    return table.assign(best=best)


def fence(scores, direction):
    """The score beyond which a trial is far worse than the others: Tukey's quartile -/+ 1.5 interquartile ranges.

    A diverged loss of 1e9 would otherwise be all that a colour scale or a regression sees. Where the middle half of the
    scores is one value there is no such bound, and the worst score is returned.

    Args:
        scores: floats (N,), finite, N >= 1.
    """
    low, high = np.quantile(scores, [0.25, 0.75])
    if direction == "max":
        return max(np.min(scores), low - 1.5 * (high - low)) if high > low else np.min(scores)
    return min(np.max(scores), high + 1.5 * (high - low)) if high > low else np.max(scores)


def codes(column, hyperparameter):
    """A hyperparameter's values as floats (N,): numbers as they are, others by their place in `values`; NaN: inactive.

    Trees need no more: their splits do not change with a monotone scale, and two splits single out any place.
    """
    if hyperparameter["kind"] in ("float", "int"):
        return pd.to_numeric(column, errors="coerce").to_numpy(dtype=float)
    values = hyperparameter["values"]
    places = {value: float(place) for place, value in enumerate(values)}
    return np.array([np.nan if pd.isna(value) else places.get(value, np.nan) for value in column], dtype=float)


def importance_and_fit(results, hyperparameters, direction):
    """The share of each hyperparameter in the differences between the scores, and how far to trust it.

    Permutation importance (Breiman 2001, section 10) of a random forest fitted to the trials that ended with a score:
    how much worse it predicts with one column shuffled. Scores beyond the `fence` count as if they lay on it.

    Returns:
        shares: pandas.Series, index the names, largest first, sum 1. All NaN where nothing can be told: fewer than 8
            such trials, or equal scores.
        r2: float, the forest's out-of-bag R2 (1: it predicts unseen trials exactly; 0 or less: no better than their
            mean); NaN where the shares are.
    """
    # Not above: scikit-learn takes a second to import, and most of what is asked of a search needs none of it.
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    nothing = pd.Series(np.nan, index=list(hyperparameters), dtype=float, name="share"), np.nan
    table = scored(results)
    if len(table) < FEWEST_TRIALS or not hyperparameters:
        return nothing
    bound = fence(table["score"], direction)
    scores = table["score"].clip(**{"lower" if direction == "max" else "upper": bound}).to_numpy(dtype=float)
    if np.ptp(scores) == 0:
        return nothing
    features = np.column_stack([codes(table[name], entry) for name, entry in hyperparameters.items()])
    forest = RandomForestRegressor(n_estimators=100, oob_score=True, random_state=0).fit(features, scores)
    drops = permutation_importance(forest, features, scores, n_repeats=10, random_state=0).importances_mean.clip(min=0)
    if drops.sum() == 0:
        return nothing
    shares = pd.Series(drops / drops.sum(), index=list(hyperparameters), name="share")
    return shares.sort_values(ascending=False, kind="stable"), float(forest.oob_score_)
