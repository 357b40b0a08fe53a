"""Which trials go on: successive halving's and Hyperband's, with a clock of our own."""

import json
import math

import pytest
from tuning_chief import accuracy, run, search, statuses, suggested


def test_halving_spares_epochs_and_keeps_the_best(new_chief):
    chief = new_chief(stop_early="halving", trials=30)
    search(chief)
    reports = chief.store.reports()
    assert 30 + 10 * 2 + 4 * 6 <= len(reports) < 30 * 9 / 2
    rows = chief.store.trials()
    nearest = min(rows, key=lambda row: abs(math.log10(json.loads(row["recipe"])["learning_rate"]) + 2))
    assert nearest["status"] == "completed"
    assert set(statuses(chief)) == {"completed", "pruned"}
    assert {row["reason"] for row in rows if row["status"] == "pruned"} <= {
        "halving after epoch 1",
        "halving after epoch 3",
    }


def test_a_paused_trial_goes_on_where_it_was_and_the_oracle_knew_its_score(new_chief):
    chief = new_chief(stop_early="halving", trials=2, epochs=3)
    jobs = [chief.ask(name, 0.0) for name in "ab"]
    answers = [
        chief.report(job["trial"], job["lease"], 1, {"val_accuracy": 0.5 + job["trial"] / 9}, 7.0) for job in jobs
    ]
    assert answers == ["pause", "pause"]
    assert chief.beat(0, jobs[0]["lease"], 7.5) == "go"  # its process is still saving
    assert chief.report(1, jobs[1]["lease"], 1, {"val_accuracy": 0.5 + 1 / 9}, 7.5) == "pause"  # said twice
    assert statuses(chief) == ["paused", "paused"]
    assert [row["seconds"] for row in chief.store.trials()] == [7.0, 7.0]
    chief = new_chief(stop_early="halving", trials=2, epochs=3)
    assert {trial.score for trial in chief.oracle.trials.values()} == {0.5, 0.5 + 1 / 9}
    job = chief.ask("c", 8.0)
    assert (job["trial"], job["lease"]) == (1, 3)
    assert chief.ask("d", 8.0) == {"do": "wait"}
    assert chief.report(1, 1, 2, {"val_accuracy": 0.1}, 8.0) == "lost"  # of the worker that it was lent to before
    assert chief.report(1, 3, 1, {"val_accuracy": 0.5 + 1 / 9}, 8.0) == "go"  # killed before its checkpoint was whole
    assert chief.report(1, 3, 2, {"val_accuracy": 0.7}, 9.0) == "go"
    assert chief.report(1, 3, 3, {"val_accuracy": 0.6}, 9.0) == "go"
    chief.finish(1, 3, "completed", "", 2.0, 9.0)
    assert chief.ask("d", 9.0) == {"do": "done"}
    rows = chief.store.trials()
    assert [(row["status"], row["score"], row["seconds"]) for row in rows] == [
        ("pruned", 0.5, 7.0),
        ("completed", 0.7, 9.0),
    ]
    assert rows[0]["reason"] == "halving after epoch 1"


def test_when_the_time_is_up_paused_trials_keep_what_they_have(new_chief):
    chief = new_chief(stop_early="halving", seconds=100.0)
    run(chief, chief.ask("worker", 0.0), 50.0)
    chief.settle(101.0)
    assert chief.over
    assert statuses(chief) == ["pruned"]


def test_hyperband_goes_on_with_the_trials_that_it_chose(new_chief):
    chief = new_chief(tuner="hyperband", trials=None)
    epochs = {}
    while (job := chief.ask("worker", 0.0))["do"] == "trial":
        epochs[job["trial"]] = job["recipe"]["epochs"]
        if job["parent"] is not None:
            parent = json.loads(chief.store.trial(job["parent"])["recipe"])
            assert {**parent, "epochs": job["recipe"]["epochs"]} == job["recipe"]
            assert epochs[job["parent"]] < job["recipe"]["epochs"]
        run(chief, job)
    assert sorted(set(epochs.values())) == [1, 3, 9]


def test_the_curve_of_a_trial_that_goes_on_begins_with_its_parents(new_chief):
    chief = new_chief(tuner="hyperband", trials=None)
    while (job := chief.ask("worker", 0.0))["parent"] is None:
        run(chief, job)
    first = chief.store.trial(job["parent"])["best_epoch"] + 1
    for epoch in range(first, job["recipe"]["epochs"] + 1):
        chief.report(job["trial"], job["lease"], epoch, {"val_accuracy": accuracy(job["recipe"], epoch)}, 0.0)
    chief.finish(job["trial"], job["lease"], "completed", "", 0.0, 0.0)
    row = chief.store.trial(job["trial"])
    assert (row["best_epoch"], row["score"]) == (3, pytest.approx(accuracy(job["recipe"], 3)))


@pytest.mark.parametrize("fixed", [{}, {"schedule": "cosine"}])
def test_after_a_trial_that_was_cut_short_hyperband_begins_anew(new_chief, fixed):
    """Every trial of the first bracket is cut short, or has a schedule that spans its own length."""
    chief = new_chief(tuner="hyperband", trials=None, fixed=fixed)
    while "tuner/trial_id" not in suggested(chief)[-1] if chief.store.count() else True:
        job = chief.ask("worker", 0.0)
        chief.report(job["trial"], job["lease"], 1, {"val_accuracy": accuracy(job["recipe"], 1)}, 0.0)
        if not fixed:
            chief.store.set_trial(job["trial"], stop="pruned")
        chief.finish(job["trial"], job["lease"], "completed", "", 0.0, 0.0)
    assert job["parent"] is None
    assert [report["epoch"] for report in chief.store.reports(job["trial"])] == [1]
