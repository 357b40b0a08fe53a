"""Optuna's tree-structured Parzen estimator as a KerasTuner oracle (Bergstra et al. 2011; Watanabe 2023).

Each suggestion is made in a new Optuna study in memory, filled with the trials so far, with a seed from the search's
seed and the trial's number. So it depends on nothing but these, and a search that is resumed suggests the same.
Optuna's "constant liar" counts running trials as bad ones, so that parallel workers get different values.
"""

import keras_tuner
import numpy as np
import optuna
from optuna.trial import TrialState

from tuning import spaces
from tuning.optuna_storage import distribution, quiet, within

TRIES = 20  # suggestions that repeat an earlier trial, before values are drawn at random; as many again end it
STATES = {"COMPLETED": TrialState.COMPLETE, "RUNNING": TrialState.RUNNING}  # others are failures


class TpeOracle(keras_tuner.Oracle):
    """The oracle; its arguments are those of every KerasTuner oracle."""

    def populate_space(self, trial_id):
        """KerasTuner's answer for a new trial: {"status": "RUNNING", "values": {name: value}}, or "STOPPED" where
        nothing new is suggested."""
        rows = spaces.described(self.hyperparameters)
        domains = {name: distribution(row) for name, row in rows.items()}
        samplers = [optuna.samplers.TPESampler] * TRIES + [optuna.samplers.RandomSampler] * TRIES
        for number, sampler in enumerate(samplers):
            seed = np.random.SeedSequence([self.seed, len(self.trials), number]).generate_state(1)[0]
            with quiet():
                values = self._suggested(sampler(seed=int(seed)), domains)
            if not self._tried(values):
                return {"status": "RUNNING", "values": values}
        return {"status": "STOPPED", "values": None}

    def _suggested(self, sampler, domains):
        direction = "minimize" if self.objective.direction == "min" else "maximize"
        study = optuna.create_study(direction=direction, sampler=sampler)
        study.add_trials([_frozen(trial, domains) for trial in self.trials.values()])
        trial, chosen = study.ask(), keras_tuner.HyperParameters()
        for hp in self.hyperparameters.space:
            chosen.merge([hp])
            if chosen.is_active(hp):  # its conditions were chosen before it
                chosen.values[hp.name] = _on_grid(hp, _ask(trial, hp.name, domains[hp.name]))
        return chosen.values

    def _tried(self, values):
        return any(trial.hyperparameters.values == values for trial in self.trials.values())


def _frozen(trial, domains):
    """A KerasTuner trial as an Optuna trial."""
    values = trial.hyperparameters.values
    params = {name: within(domains[name], value) for name, value in values.items() if name in domains}
    state = STATES.get(trial.status, TrialState.FAIL)
    return optuna.trial.create_trial(
        state=state,
        value=trial.score if state == TrialState.COMPLETE else None,
        params=params,
        distributions={name: domains[name] for name in params},
    )


def _ask(trial, name, domain):
    if isinstance(domain, optuna.distributions.CategoricalDistribution):
        return trial.suggest_categorical(name, domain.choices)
    ask = trial.suggest_int if isinstance(domain, optuna.distributions.IntDistribution) else trial.suggest_float
    return ask(name, domain.low, domain.high, step=domain.step, log=domain.log)


def _on_grid(hp, value):
    """The value, moved to the nearest step where the steps are multiplied, which Optuna cannot do."""
    if getattr(hp, "step", None) is None or hp.sampling == "linear":
        return value
    return min(map(type(value), hp.values), key=lambda step: abs(np.log(step / value)))
