"""The chief's decisions, with a clock of our own and no network: nothing lost, nothing counted twice."""

import itertools
import json
import math

import pytest
from tuning_chief import accuracy, run, search, statuses, suggested

from kerascnn.errors import UsageError
from kerascnn.recipes import Recipe
from tuning.chief import DEATHS
from tuning.oracles import TUNERS


def test_a_search_makes_its_trials_and_ends(chief):
    made = chief()
    values = search(made)
    assert len(values) == 6
    assert made.over
    assert statuses(made) == ["completed"] * 6
    row = made.store.trial(0)
    assert row["score"] == pytest.approx(accuracy(json.loads(row["recipe"]), 9))
    assert row["best_epoch"] == 9


@pytest.mark.parametrize(
    "tuner", [pytest.param(name, marks=[pytest.mark.slow] * (name == "bayesian")) for name in TUNERS]
)
def test_a_chief_that_is_started_again_after_every_trial_suggests_the_same(tuner, tmp_path, chief):
    if tuner == "tpe":
        pytest.importorskip("optuna")
    asked = {
        "tuner": tuner,
        "trials": 7,
        "folder": tmp_path / "undisturbed",
        "stop_early": "none" if tuner == "hyperband" else "halving",
    }  # the Gaussian process begins with the 7th
    asked["folder"].mkdir()
    made = chief(**asked)
    undisturbed = search(made)
    order = [(event["kind"], event["trial"]) for event in made.store.events()]
    asked["folder"] = tmp_path
    made = chief(**asked)
    while (job := made.ask("worker", 0.0))["do"] == "trial":
        made = chief(**asked)
        run(made, job)
    made = chief(**asked)
    assert suggested(made) == undisturbed
    assert len(undisturbed) == 7
    assert [(event["kind"], event["trial"]) for event in made.store.events()] == order


def test_seed_zero_is_a_seed_and_others_differ(tmp_path, chief):
    found = []
    for number, seed in enumerate((0, 0, 1)):
        (tmp_path / str(number)).mkdir()
        found.append(search(chief(folder=tmp_path / str(number), seed=seed)))
    assert found[0] == found[1] != found[2]


def test_a_silent_workers_trial_is_lent_to_the_next_and_its_late_words_are_lost(chief):
    made = chief()
    first = made.ask("silent", 0.0)
    assert made.beat(first["trial"], first["lease"], 9.0) == "go"
    assert made.ask("other", 18.9)["trial"] == 1  # the beat renewed the lease until 19
    again = made.ask("third", 19.1)
    assert (again["trial"], again["lease"]) == (0, 2)
    assert made.beat(first["trial"], first["lease"], 19.2) == "lost"
    assert made.report(first["trial"], first["lease"], 1, {"val_accuracy": 0.9}, 19.2) == "lost"
    assert made.report(again["trial"], again["lease"], 1, {"val_accuracy": 0.8}, 19.2) == "go"


def test_a_silent_worker_that_speaks_before_anyone_asked_keeps_its_trial(chief):
    made = chief()
    job = made.ask("slow", 0.0)
    assert made.report(job["trial"], job["lease"], 1, {"val_accuracy": 0.5}, 50.0) == "go"


def test_the_first_result_counts_and_repeating_it_changes_nothing(chief):
    made = chief()
    job = made.ask("worker", 0.0)
    run(made, job)
    before = made.store.trial(0), len(made.store.events())
    made.finish(0, job["lease"], "completed", "", 99.0, 5.0)
    made.finish(0, job["lease"], "failed", "too late", 99.0, 5.0)
    assert (made.store.trial(0), len(made.store.events())) == before
    assert made.report(0, job["lease"], 3, {"val_accuracy": 1.0}, 5.0) == "lost"


def test_a_chief_that_was_away_gives_its_workers_time(chief):
    job = chief().ask("worker", 0.0)
    made = chief(now=1000.0)
    assert made.ask("other", 1005.0)["trial"] == 1
    assert made.beat(job["trial"], job["lease"], 1005.0) == "go"


def test_failed_trials_keep_their_reason_and_after_three_in_a_row_the_search_stops(chief):
    made = chief()
    for number in range(5):
        job = made.ask("worker", 0.0)
        if number == 1:
            run(made, job)
        else:
            made.finish(job["trial"], job["lease"], "failed", f"no luck {number}", 0.0, 0.0)
    assert made.ask("worker", 0.0) == {"do": "done"}
    assert statuses(made) == ["failed", "completed", "failed", "failed", "failed"]
    assert made.store.trial(0)["reason"] == "no luck 0"
    assert made.store.fact("reason") == "3 trials in a row failed, the last one because: no luck 4"


def test_a_trial_whose_process_keeps_dying_fails_and_a_leaving_worker_costs_nothing(chief):
    made = chief()
    for _ in range(7):
        job = made.ask("worker", 0.0)
        made.release(job["trial"], job["lease"], 0.0)
    for number in range(DEATHS):
        assert statuses(made) == ["waiting"]
        job = made.ask("worker", 0.0)
        made.release(job["trial"], job["lease"], 0.0, died=f"(killed by SIGKILL) {number}")
    assert statuses(made) == ["failed"]
    assert "its process ended 5 times" in made.store.trial(0)["reason"]


def test_an_old_lease_cannot_give_a_trial_back(chief):
    made = chief()
    old = made.ask("silent", 0.0)
    new = made.ask("other", 11.0)
    made.release(old["trial"], old["lease"], 12.0)
    assert (new["trial"], made.store.trial(0)["status"]) == (0, "running")


def test_a_trial_without_a_finished_epoch_is_no_success(chief):
    made = chief()
    job = made.ask("worker", 0.0)
    made.finish(job["trial"], job["lease"], "completed", "", 0.0, 0.0)
    assert (made.store.trial(0)["status"], made.store.trial(0)["reason"]) == ("failed", "no epoch was finished")


def test_when_the_time_is_up_trials_stop_with_what_they_have(chief):
    made = chief(seconds=100.0)
    job = made.ask("worker", 0.0)
    assert made.report(0, job["lease"], 1, {"val_accuracy": 0.5}, 99.0) == "go"
    assert made.report(0, job["lease"], 2, {"val_accuracy": 0.6}, 101.0) == "stop"
    made.finish(0, job["lease"], "completed", "", 1.0, 101.0)
    assert made.ask("worker", 102.0) == {"do": "done"}
    assert (made.store.trial(0)["status"], made.store.trial(0)["score"]) == ("stopped", 0.6)
    assert made.store.fact("reason") == "the time of 100 s was up"


def test_a_metric_that_is_not_computed_is_named(chief):
    made = chief()
    job = made.ask("worker", 0.0)
    with pytest.raises(UsageError, match="'val_accuracy' is not computed"):
        made.report(0, job["lease"], 1, {"loss": 1.0}, 0.0)


def test_a_minimum_is_searched_where_the_objective_is_a_loss(chief):
    made = chief(objective="val_loss")
    job = made.ask("worker", 0.0)
    for epoch, loss in enumerate((3.0, 1.0, 2.0, math.nan), start=1):
        made.report(0, job["lease"], epoch, {"val_loss": loss}, 0.0)
    made.finish(0, job["lease"], "completed", "", 0.0, 0.0)
    assert (made.store.trial(0)["score"], made.store.trial(0)["best_epoch"]) == (1.0, 2)


def test_two_workers_whose_words_cross_lose_nothing(chief):
    made = chief(trials=5)
    jobs = [made.ask(name, 0.0) for name in "ab"]
    for turn in itertools.count():
        job = jobs[turn % 2]
        if job["do"] == "trial":
            run(made, job, float(turn))
        jobs[turn % 2] = made.ask("ab"[turn % 2], float(turn))
        if all(job["do"] == "done" for job in jobs):
            break
    assert statuses(made) == ["completed"] * 5


def test_a_failure_counts_only_from_the_worker_that_has_the_trial(chief):
    made = chief()
    old = made.ask("silent", 0.0)
    new = made.ask("other", 11.0)
    made.finish(old["trial"], old["lease"], "failed", "its folder was locked", 0.0, 12.0)
    assert statuses(made) == ["running"]
    made.report(new["trial"], new["lease"], 1, {"val_accuracy": 0.5}, 12.0)
    made.finish(old["trial"], old["lease"], "completed", "", 0.0, 12.0)
    assert statuses(made) == ["completed"]


def test_values_that_make_no_recipe_are_failed_trials(chief):
    made = chief(fixed={"schedule": "cosine", "rate_patience": 5})
    assert made.ask("worker", 0.0) == {"do": "done"}
    assert statuses(made) == ["failed"] * 3
    assert "rate_patience=5 needs the constant schedule" in made.store.trial(0)["reason"]


def test_a_space_whose_recipe_counts_steps_is_searched_in_epochs(chief):
    made = chief(fixed={})
    made.space = lambda hp: Recipe(steps=5000, eval_every=100, dropout=hp.Float("dropout", 0.1, 0.5))
    recipe = made.recipe({"dropout": 0.2})
    assert (recipe.steps, recipe.epochs, recipe.eval_every) == (0, 9, 100)


def test_a_trial_that_was_told_to_stop_and_killed_is_told_again(chief):
    made = chief(seconds=100.0)
    job = made.ask("worker", 0.0)
    assert made.report(0, job["lease"], 1, {"val_accuracy": 0.5}, 101.0) == "stop"
    again = chief(seconds=None).ask("other", 1.0)
    assert again["do"] == "trial"
    assert chief(seconds=None).report(0, job["lease"], 1, {"val_accuracy": 0.5}, 1.0) == "stop"


def test_a_search_whose_time_is_up_ends_although_nobody_asks(chief):
    made = chief(seconds=100.0)
    job = made.ask("silent", 0.0)
    made.report(job["trial"], job["lease"], 1, {"val_accuracy": 0.5}, 95.0)
    made.settle(102.0)
    assert not made.over  # its lease still runs
    made.settle(106.0)
    assert made.over
    assert (statuses(made), made.store.trial(0)["score"]) == (["stopped"], 0.5)


def test_a_search_that_has_nothing_left_ends_although_nobody_asks(chief):
    made = chief(trials=2)
    for _ in range(2):
        made.settle(0.0)
        assert not made.over
        run(made, made.ask("mortal", 0.0))
    made.settle(0.0)
    assert made.over
    assert statuses(made) == ["completed"] * 2


def test_no_time_passes_while_no_chief_lives(chief):
    made = chief(seconds=100.0)
    job = made.ask("worker", 60.0)
    made = chief(now=1000.0, seconds=100.0)
    assert made.report(0, job["lease"], 1, {"val_accuracy": 0.5}, 1039.0) == "go"
    assert made.report(0, job["lease"], 2, {"val_accuracy": 0.5}, 1041.0) == "stop"


def test_a_trial_that_ends_with_its_last_epoch_is_complete_although_the_time_is_up(chief):
    made = chief(seconds=100.0, epochs=1)
    job = made.ask("worker", 0.0)
    made.report(0, job["lease"], 1, {"val_accuracy": 0.5}, 101.0)
    made.finish(0, job["lease"], "completed", "", 1.0, 101.0)
    assert statuses(made) == ["completed"]


def test_who_asks_again_gets_the_trial_of_the_one_before_at_once(chief):
    made = chief()
    first = made.ask("local 0", 0.0)
    other = made.ask("local 1", 0.0)
    again = made.ask("local 0", 1.0)  # killed and started again, long before its lease runs out
    assert (again["trial"], again["lease"]) == (first["trial"], first["lease"] + 1)
    assert made.report(other["trial"], other["lease"], 1, {"val_accuracy": 0.5}, 2.0) == "go"
    assert made.report(first["trial"], first["lease"], 1, {"val_accuracy": 0.5}, 2.0) == "lost"


def test_the_best_epoch_counts_epochs_whose_score_was_no_number(chief):
    made = chief(objective="val_loss")
    job = made.ask("worker", 0.0)
    for epoch, loss in enumerate((math.nan, 3.0, 1.0), start=1):
        made.report(0, job["lease"], epoch, {"val_loss": loss}, 0.0)
    made.finish(0, job["lease"], "completed", "", 0.0, 0.0)
    assert (made.store.trial(0)["score"], made.store.trial(0)["best_epoch"]) == (1.0, 3)
