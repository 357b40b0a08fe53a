"""Optuna's TPE as an oracle: it finds, repeats, resumes, and keeps to steps and conditions."""

import contextlib
import math

import keras_tuner
import pytest
from tuning_chief import SETTINGS, accuracy, run, search, space, suggested

from kerascnn.errors import UsageError
from kerascnn.recipes import Recipe
from tuning import optuna_storage, spaces
from tuning.chief import Chief
from tuning.searching import search as run_search
from tuning.store import Store

optuna = pytest.importorskip("optuna")


def test_tpe_finds_better_values_than_chance(new_chief, tmp_path):
    """The planted curve is best at a learning rate of 0.01; only the trials after the ten random ones can aim at it."""
    scores = {}
    for tuner in ("tpe", "random"):
        (tmp_path / tuner).mkdir()
        values = search(new_chief(folder=tmp_path / tuner, tuner=tuner, trials=30))
        scores[tuner] = [accuracy(value, 0) for value in values[10:]]
    assert sum(scores["tpe"]) / 20 > sum(scores["random"]) / 20 + 0.03
    assert min(scores["tpe"][-10:]) > 0.9  # within one decade


def test_a_search_that_is_resumed_suggests_what_an_undisturbed_one_does(new_chief, tmp_path):
    (tmp_path / "undisturbed").mkdir()
    undisturbed = search(new_chief(folder=tmp_path / "undisturbed", tuner="tpe", trials=12))
    chief = new_chief(tuner="tpe", trials=12)
    while (job := chief.ask("worker", 0.0))["do"] == "trial":
        chief = new_chief(tuner="tpe", trials=12)
        run(chief, job)
    assert suggested(chief) == undisturbed


def test_workers_at_the_same_time_get_different_values(new_chief):
    chief = new_chief(tuner="tpe", trials=30)
    for _ in range(12):
        run(chief, chief.ask("worker", 0.0))
    jobs = [chief.ask(f"worker {number}", 0.0) for number in range(6)]
    assert len({job["recipe"]["learning_rate"] for job in jobs}) == 6


def conditional(hp):
    optimizer = hp.Choice("optimizer", ["adam", "sgd"])
    with hp.conditional_scope("optimizer", ["sgd"]):
        momentum = hp.Float("momentum", 0.5, 0.9, step=0.1)
    return Recipe(
        optimizer=optimizer,
        momentum=momentum if optimizer == "sgd" else 0.9,
        batch_size=hp.Int("batch_size", 16, 128, step=2, sampling="log"),
        learning_rate=hp.Float("learning_rate", 1e-3, 1e-1, sampling="reverse_log"),
    )


def searched(folder, space, trials):
    """What TPE suggests in a space, and why the search ended."""
    with contextlib.closing(
        Chief(Store(folder), space, SETTINGS | {"tuner": "tpe", "trials": trials}, now=0.0)
    ) as chief:
        return search(chief), chief.store.fact("reason")


def test_conditions_and_steps_are_kept(tmp_path):
    values, _ = searched(tmp_path, conditional, 25)
    assert len(values) == 25
    assert {"momentum" in value for value in values} == {True, False}
    for value in values:
        assert ("momentum" in value) == (value["optimizer"] == "sgd")
        assert value.get("momentum", 0.5) == pytest.approx(round(10 * value.get("momentum", 0.5)) / 10)
        assert value["batch_size"] in (16, 32, 64, 128)
        assert isinstance(value["batch_size"], int)
        assert 1e-3 <= value["learning_rate"] <= 1e-1


def test_a_last_step_just_beyond_the_range_is_no_error(tmp_path):
    """0.001 times the square root of 10, twice, is 0.010000000000000002."""

    def rates(hp):
        return Recipe(learning_rate=hp.Float("learning_rate", 1e-3, 1e-2, step=math.sqrt(10), sampling="log"))

    values, reason = searched(tmp_path, rates, 30)
    assert max(value["learning_rate"] for value in values) > 1e-2
    assert (len(values), reason) == (3, "the space was searched to its end")


def test_a_small_space_is_searched_to_its_end(tmp_path):
    values, reason = searched(tmp_path, lambda hp: Recipe(batch_size=hp.Choice("batch_size", [16, 32, 64])), 30)
    assert sorted(value["batch_size"] for value in values) == [16, 32, 64]
    assert reason == "the space was searched to its end"


def test_where_optuna_is_missing_the_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(optuna_storage, "installed", lambda: False)
    with pytest.raises(UsageError, match=r"pip install 'kerascnn\[optuna\]'"):
        run_search("digits", search=space, tuner="tpe", out=tmp_path / "search")
    assert not (tmp_path / "search").exists()


def test_a_hyperparameter_becomes_its_distribution():
    hp = keras_tuner.HyperParameters()
    conditional(hp)

    rows = spaces.described(hp)
    distributions = {name: optuna_storage.distribution(row) for name, row in rows.items()}
    assert distributions == {
        "optimizer": optuna.distributions.CategoricalDistribution(("adam", "sgd")),
        "momentum": optuna.distributions.FloatDistribution(0.5, 0.9, step=0.1),
        "batch_size": optuna.distributions.IntDistribution(16, 128, log=True),
        "learning_rate": optuna.distributions.FloatDistribution(1e-3, 1e-1, log=True),
    }
