"""The search algorithms: KerasTuner's, unpatched, and Optuna's TPE (tuning.tpe)."""

import warnings

from tuning.stopping import direction_of

TUNERS = ("random", "bayesian", "hyperband", "grid", "tpe")
SEED_ZERO = 2**31 - 1  # KerasTuner takes seed 0 for no seed


def oracle(settings, hyperparameters):
    """The KerasTuner oracle of a search.

    Args:
        settings: dict with tuner, objective, trials, epochs and seed.
        hyperparameters: keras_tuner.HyperParameters.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras_tuner
        from keras_tuner import oracles

    common = {
        "objective": keras_tuner.Objective(settings["objective"], direction_of(settings["objective"])),
        "hyperparameters": hyperparameters,
        "seed": settings["seed"] or SEED_ZERO,
        "max_consecutive_failed_trials": None,  # the chief counts failures itself, and says why it stops
    }
    kinds = {
        "random": lambda: oracles.RandomSearchOracle(max_trials=settings["trials"], **common),
        "bayesian": lambda: oracles.BayesianOptimizationOracle(max_trials=settings["trials"], **common),
        "hyperband": lambda: oracles.HyperbandOracle(max_epochs=settings["epochs"], **common),
        "grid": lambda: oracles.GridSearchOracle(max_trials=settings["trials"], **common),
    }
    if settings["tuner"] == "tpe":
        from tuning.tpe import TpeOracle

        kinds["tpe"] = lambda: TpeOracle(max_trials=settings["trials"], **common)
    chosen = kinds[settings["tuner"]]()
    chosen.verbose = 0
    return chosen
