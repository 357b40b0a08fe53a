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


def test_a_search_makes_its_trials_and_ends(new_chief):
    chief = new_chief()
    values = search(chief)
    assert len(values) == 6
    assert chief.over
    assert statuses(chief) == ["completed"] * 6
    row = chief.store.trial(0)
    assert row["score"] == pytest.approx(accuracy(json.loads(row["recipe"]), 9))
    assert row["best_epoch"] == 9


@pytest.mark.parametrize(
    "tuner", [pytest.param(name, marks=[pytest.mark.slow] * (name == "bayesian")) for name in TUNERS]
)
def test_a_chief_that_is_started_again_after_every_trial_suggests_the_same(tuner, tmp_path, new_chief):
    if tuner == "tpe":
        pytest.importorskip("optuna")
    asked = {
        "tuner": tuner,
        "trials": 7,
        "folder": tmp_path / "undisturbed",
        "stop_early": "none" if tuner == "hyperband" else "halving",
    }  # the Gaussian process begins with the 7th
    asked["folder"].mkdir()
    chief = new_chief(**asked)
    undisturbed = search(chief)
    order = [(event["kind"], event["trial"]) for event in chief.store.events()]
    asked["folder"] = tmp_path
    chief = new_chief(**asked)
    while (job := chief.ask("worker", 0.0))["do"] == "trial":
        chief = new_chief(**asked)
        run(chief, job)
    chief = new_chief(**asked)
    assert suggested(chief) == undisturbed
    assert len(undisturbed) == 7
    assert [(event["kind"], event["trial"]) for event in chief.store.events()] == order


def test_seed_zero_is_a_seed_and_others_differ(tmp_path, new_chief):
    values = []
    for number, seed in enumerate((0, 0, 1)):
        (tmp_path / str(number)).mkdir()
        values.append(search(new_chief(folder=tmp_path / str(number), seed=seed)))
    assert values[0] == values[1] != values[2]


def test_a_silent_workers_trial_is_lent_to_the_next_and_its_late_words_are_lost(new_chief):
    chief = new_chief()
    first = chief.ask("silent", 0.0)
    assert chief.beat(first["trial"], first["lease"], 9.0) == "go"
    assert chief.ask("other", 18.9)["trial"] == 1  # the beat renewed the lease until 19
    again = chief.ask("third", 19.1)
    assert (again["trial"], again["lease"]) == (0, 2)
    assert chief.beat(first["trial"], first["lease"], 19.2) == "lost"
    assert chief.report(first["trial"], first["lease"], 1, {"val_accuracy": 0.9}, 19.2) == "lost"
    assert chief.report(again["trial"], again["lease"], 1, {"val_accuracy": 0.8}, 19.2) == "go"


def test_a_silent_worker_that_speaks_before_anyone_asked_keeps_its_trial(new_chief):
    chief = new_chief()
    job = chief.ask("slow", 0.0)
    assert chief.report(job["trial"], job["lease"], 1, {"val_accuracy": 0.5}, 50.0) == "go"


def test_the_first_result_counts_and_repeating_it_changes_nothing(new_chief):
    chief = new_chief()
    job = chief.ask("worker", 0.0)
    run(chief, job)
    before = chief.store.trial(0), len(chief.store.events())
    chief.finish(0, job["lease"], "completed", "", 99.0, 5.0)
    chief.finish(0, job["lease"], "failed", "too late", 99.0, 5.0)
    assert (chief.store.trial(0), len(chief.store.events())) == before
    assert chief.report(0, job["lease"], 3, {"val_accuracy": 1.0}, 5.0) == "lost"


def test_a_chief_that_was_away_gives_its_workers_time(new_chief):
    job = new_chief().ask("worker", 0.0)
    chief = new_chief(now=1000.0)
    assert chief.ask("other", 1005.0)["trial"] == 1
    assert chief.beat(job["trial"], job["lease"], 1005.0) == "go"


def test_failed_trials_keep_their_reason_and_after_three_in_a_row_the_search_stops(new_chief):
    chief = new_chief()
    for number in range(5):
        job = chief.ask("worker", 0.0)
        if number == 1:
            run(chief, job)
        else:
            chief.finish(job["trial"], job["lease"], "failed", f"no luck {number}", 0.0, 0.0)
    assert chief.ask("worker", 0.0) == {"do": "done"}
    assert statuses(chief) == ["failed", "completed", "failed", "failed", "failed"]
    assert chief.store.trial(0)["reason"] == "no luck 0"
    assert chief.store.fact("reason") == "3 trials in a row failed, the last one because: no luck 4"


def test_a_trial_whose_process_keeps_dying_fails_and_a_leaving_worker_costs_nothing(new_chief):
    chief = new_chief()
    for _ in range(7):
        job = chief.ask("worker", 0.0)
        chief.release(job["trial"], job["lease"], 0.0)
    for number in range(DEATHS):
        assert statuses(chief) == ["waiting"]
        job = chief.ask("worker", 0.0)
        chief.release(job["trial"], job["lease"], 0.0, died=f"(killed by SIGKILL) {number}")
    assert statuses(chief) == ["failed"]
    assert "its process ended 5 times" in chief.store.trial(0)["reason"]


def test_an_old_lease_cannot_give_a_trial_back(new_chief):
    chief = new_chief()
    old = chief.ask("silent", 0.0)
    new = chief.ask("other", 11.0)
    chief.release(old["trial"], old["lease"], 12.0)
    assert (new["trial"], chief.store.trial(0)["status"]) == (0, "running")


def test_a_trial_without_a_finished_epoch_is_no_success(new_chief):
    chief = new_chief()
    job = chief.ask("worker", 0.0)
    chief.finish(job["trial"], job["lease"], "completed", "", 0.0, 0.0)
    assert (chief.store.trial(0)["status"], chief.store.trial(0)["reason"]) == ("failed", "no epoch was finished")


def test_when_the_time_is_up_trials_without_an_epoch_wait_for_more_time(new_chief):
    chief = new_chief(seconds=100.0)
    first, second = chief.ask("one", 0.0), chief.ask("two", 0.0)
    chief.report(second["trial"], second["lease"], 1, {"val_accuracy": 0.5}, 9.0)
    for job in (first, second):
        chief.release(job["trial"], job["lease"], 9.5)  # the search is interrupted
    chief.settle(101.0)
    assert chief.over
    assert statuses(chief) == ["waiting", "stopped"]
    assert chief.ask("one", 102.0) == {"do": "done"}  # it has ended
    assert not chief.may_go_on(102.0)
    chief = new_chief(now=102.0, seconds=200.0, trials=2)
    assert chief.over
    assert chief.may_go_on(102.0)
    chief.reopen()
    assert chief.ask("one", 102.0)["trial"] == 0


def test_seconds_of_a_trial_that_was_given_back_count(new_chief):
    chief = new_chief()
    job = chief.ask("worker", 0.0)
    chief.release(job["trial"], job["lease"], 55.0)
    job = chief.ask("worker", 60.0)
    chief.release(job["trial"], job["lease"], 70.0, died="(killed by SIGKILL)")  # how long it had run is not known
    job = chief.ask("worker", 80.0)
    chief.report(job["trial"], job["lease"], 1, {"val_accuracy": 0.5}, 84.0)
    chief.finish(job["trial"], job["lease"], "completed", "", 5.0, 85.0)
    assert chief.store.trial(0)["seconds"] == 60.0


def test_when_the_time_is_up_trials_stop_with_what_they_have(new_chief):
    chief = new_chief(seconds=100.0)
    job = chief.ask("worker", 0.0)
    assert chief.report(0, job["lease"], 1, {"val_accuracy": 0.5}, 99.0) == "go"
    assert chief.report(0, job["lease"], 2, {"val_accuracy": 0.6}, 101.0) == "stop"
    chief.finish(0, job["lease"], "completed", "", 1.0, 101.0)
    assert chief.ask("worker", 102.0) == {"do": "done"}
    assert (chief.store.trial(0)["status"], chief.store.trial(0)["score"]) == ("stopped", 0.6)
    assert chief.store.fact("reason") == "the time of 100 s was up"


def test_a_metric_that_is_not_computed_is_named(new_chief):
    chief = new_chief()
    job = chief.ask("worker", 0.0)
    with pytest.raises(UsageError, match="'val_accuracy' is not computed"):
        chief.report(0, job["lease"], 1, {"loss": 1.0}, 0.0)


def test_a_minimum_is_searched_where_the_objective_is_a_loss(new_chief):
    chief = new_chief(objective="val_loss")
    job = chief.ask("worker", 0.0)
    for epoch, loss in enumerate((3.0, 1.0, 2.0, math.nan), start=1):
        chief.report(0, job["lease"], epoch, {"val_loss": loss}, 0.0)
    chief.finish(0, job["lease"], "completed", "", 0.0, 0.0)
    assert (chief.store.trial(0)["score"], chief.store.trial(0)["best_epoch"]) == (1.0, 2)


def test_two_workers_whose_words_cross_lose_nothing(new_chief):
    chief = new_chief(trials=5)
    jobs = [chief.ask(name, 0.0) for name in "ab"]
    for turn in itertools.count():
        job = jobs[turn % 2]
        if job["do"] == "trial":
            run(chief, job, float(turn))
        jobs[turn % 2] = chief.ask("ab"[turn % 2], float(turn))
        if all(job["do"] == "done" for job in jobs):
            break
    assert statuses(chief) == ["completed"] * 5


def test_a_failure_counts_only_from_the_worker_that_has_the_trial(new_chief):
    chief = new_chief()
    old = chief.ask("silent", 0.0)
    new = chief.ask("other", 11.0)
    chief.finish(old["trial"], old["lease"], "failed", "its folder was locked", 0.0, 12.0)
    assert statuses(chief) == ["running"]
    chief.report(new["trial"], new["lease"], 1, {"val_accuracy": 0.5}, 12.0)
    chief.finish(old["trial"], old["lease"], "completed", "", 0.0, 12.0)
    assert statuses(chief) == ["completed"]


def test_values_that_make_no_recipe_are_failed_trials(new_chief):
    chief = new_chief(fixed={"schedule": "cosine", "rate_patience": 5})
    assert chief.ask("worker", 0.0) == {"do": "done"}
    assert statuses(chief) == ["failed"] * 3
    assert "rate_patience=5 needs the constant schedule" in chief.store.trial(0)["reason"]


def test_a_space_whose_recipe_counts_steps_is_searched_in_epochs(new_chief):
    chief = new_chief(fixed={})
    chief.space = lambda hp: Recipe(steps=5000, eval_every=100, dropout=hp.Float("dropout", 0.1, 0.5))
    recipe = chief.recipe({"dropout": 0.2})
    assert (recipe.steps, recipe.epochs, recipe.eval_every) == (0, 9, 100)


def test_a_trial_that_was_told_to_stop_and_killed_is_told_again(new_chief):
    chief = new_chief(seconds=100.0)
    job = chief.ask("worker", 0.0)
    assert chief.report(0, job["lease"], 1, {"val_accuracy": 0.5}, 101.0) == "stop"
    again = new_chief(seconds=None).ask("other", 1.0)
    assert again["do"] == "trial"
    assert new_chief(seconds=None).report(0, job["lease"], 1, {"val_accuracy": 0.5}, 1.0) == "stop"


def test_a_search_whose_time_is_up_ends_although_nobody_asks(new_chief):
    chief = new_chief(seconds=100.0)
    job = chief.ask("silent", 0.0)
    chief.report(job["trial"], job["lease"], 1, {"val_accuracy": 0.5}, 95.0)
    chief.settle(102.0)
    assert not chief.over  # its lease still runs
    chief.settle(106.0)
    assert chief.over
    assert (statuses(chief), chief.store.trial(0)["score"]) == (["stopped"], 0.5)


def test_a_search_that_has_nothing_left_ends_although_nobody_asks(new_chief):
    chief = new_chief(trials=2)
    for _ in range(2):
        chief.settle(0.0)
        assert not chief.over
        run(chief, chief.ask("mortal", 0.0))
    chief.settle(0.0)
    assert chief.over
    assert statuses(chief) == ["completed"] * 2


def test_no_time_passes_while_no_chief_lives(new_chief):
    chief = new_chief(seconds=100.0)
    job = chief.ask("worker", 60.0)
    chief = new_chief(now=1000.0, seconds=100.0)
    assert chief.report(0, job["lease"], 1, {"val_accuracy": 0.5}, 1039.0) == "go"
    assert chief.report(0, job["lease"], 2, {"val_accuracy": 0.5}, 1041.0) == "stop"


def test_a_trial_that_ends_with_its_last_epoch_is_complete_although_the_time_is_up(new_chief):
    chief = new_chief(seconds=100.0, epochs=1)
    job = chief.ask("worker", 0.0)
    chief.report(0, job["lease"], 1, {"val_accuracy": 0.5}, 101.0)
    chief.finish(0, job["lease"], "completed", "", 1.0, 101.0)
    assert statuses(chief) == ["completed"]


def test_who_asks_again_gets_the_trial_of_the_one_before_at_once(new_chief):
    chief = new_chief()
    first = chief.ask("local 0", 0.0)
    other = chief.ask("local 1", 0.0)
    again = chief.ask("local 0", 1.0)  # killed and started again, long before its lease runs out
    assert (again["trial"], again["lease"]) == (first["trial"], first["lease"] + 1)
    assert chief.report(other["trial"], other["lease"], 1, {"val_accuracy": 0.5}, 2.0) == "go"
    assert chief.report(first["trial"], first["lease"], 1, {"val_accuracy": 0.5}, 2.0) == "lost"


def test_the_best_epoch_counts_epochs_whose_score_was_no_number(new_chief):
    chief = new_chief(objective="val_loss")
    job = chief.ask("worker", 0.0)
    for epoch, loss in enumerate((math.nan, 3.0, 1.0), start=1):
        chief.report(0, job["lease"], epoch, {"val_loss": loss}, 0.0)
    chief.finish(0, job["lease"], "completed", "", 0.0, 0.0)
    assert (chief.store.trial(0)["score"], chief.store.trial(0)["best_epoch"]) == (1.0, 3)
