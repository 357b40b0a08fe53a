"""The Optuna study beside a search's journal: the same trials and numbers, also after kills, whatever the tuner."""

import contextlib
import json
import math
import os
from pathlib import Path

import pytest
from tuning_chief import SETTINGS, run, space

import tuning
from kerascnn import cli
from tuning import optuna_storage, spaces
from tuning.chief import Chief
from tuning.store import Store

optuna = pytest.importorskip("optuna")
TrialState = optuna.trial.TrialState


@pytest.fixture
def folder(tmp_path):
    """A search's folder with its search.json, and no trial yet."""
    search = {"search": "space", "name": "space", "data": "digits", "direction": "max"}
    search |= {"hyperparameters": spaces.described(spaces.hyperparameters(space))}
    (tmp_path / "search.json").write_text(json.dumps({**SETTINGS, **search}))
    Store(tmp_path).close()
    return tmp_path


@contextlib.contextmanager
def chief_of(folder, **changes):
    with contextlib.closing(Chief(Store(folder), space, SETTINGS | changes, now=0.0)) as chief:
        yield chief


def study_of(folder):
    """The study as Optuna itself reads it."""
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / "optuna.log")))
    return optuna.load_study(study_name="space", storage=storage)


def check_equal(folder):
    table, curves, study = tuning.results(folder), tuning.curves(folder), study_of(folder)
    assert [trial.number for trial in study.trials] == table["trial"].tolist()
    for trial, row in zip(study.trials, table.to_dict("records"), strict=True):
        assert trial.params == {name: row[name] for name in ("learning_rate", "batch_size")}
        values = curves[curves["trial"] == row["trial"]]
        assert trial.intermediate_values == dict(zip(values["epoch"], values["value"], strict=True))
        assert trial.user_attrs["status"] == row["status"]
        if row["status"] in ("completed", "pruned", "stopped"):
            assert trial.value == row["score"]
    return [trial.state for trial in study.trials]


def test_a_search_that_runs_is_read_by_optuna_and_goes_on_in_the_same_file(folder):
    with chief_of(folder, trials=4, stop_early="halving", epochs=9) as chief:
        for _ in range(3):
            run(chief, chief.ask("worker", 0.0))
        job = chief.ask("worker", 0.0)
        assert optuna_storage.write(folder) == folder / "optuna.log"
        states = check_equal(folder)
        assert set(states) == {TrialState.RUNNING}  # three are paused
        while job["do"] == "trial":
            run(chief, job)
            job = chief.ask("worker", 0.0)
    with open(folder / "optuna.log", "ab") as file:
        file.write(b'{"op_code":5,"worker')  # a killed process leaves half a line
    optuna_storage.write(folder)
    states = check_equal(folder)
    assert set(states) == {TrialState.COMPLETE, TrialState.PRUNED}
    size = (folder / "optuna.log").stat().st_size
    optuna_storage.write(folder)
    assert (folder / "optuna.log").stat().st_size == size  # nothing new
    best = study_of(folder).best_trial
    table = tuning.results(folder)
    assert best.value == table[table["status"] == "completed"]["score"].max()


def test_failures_and_scores_that_are_no_numbers(folder):
    with chief_of(folder, objective="val_accuracy") as chief:
        job = chief.ask("worker", 0.0)
        chief.report(job["trial"], job["lease"], 1, {"val_accuracy": math.nan}, 0.0)
        chief.finish(job["trial"], job["lease"], "failed", "the loss was NaN", 1.0, 0.0)
    optuna_storage.write(folder)
    (trial,) = study_of(folder).trials
    assert (trial.state, trial.user_attrs["reason"]) == (TrialState.FAIL, "the loss was NaN")
    assert math.isnan(trial.intermediate_values[1])


def test_a_file_that_cannot_be_written_is_told_once_and_stops_nothing(folder):
    (folder / "optuna.log").mkdir()
    told = []
    follow = optuna_storage.follower(folder, json.loads((folder / "search.json").read_text()), told.append)
    follow()
    follow(last=True)
    assert len(told) == 1
    assert "optuna.log is no longer written" in told[0]


def test_a_lock_links_to_the_file_from_any_folder(folder, monkeypatch):
    """Optuna tells the age of a lock by the file that it links to; without one it would wait for a dead process."""
    links, symlink = [], os.symlink
    monkeypatch.setattr(os, "symlink", lambda target, path: links.append(target) or symlink(target, path))
    monkeypatch.chdir(folder.parent)
    optuna_storage.write(Path(folder.name))
    assert set(links) == {str(folder.resolve() / "optuna.log")}


def test_without_optuna_nothing_is_written(folder, monkeypatch, capsys):
    monkeypatch.setattr(optuna_storage, "installed", lambda: False)
    optuna_storage.follower(folder, {}, pytest.fail)(last=True)
    assert cli.run_command(["tune-report", str(folder)]) == 0
    assert "optuna.log" not in capsys.readouterr().out
    assert not (folder / "optuna.log").exists()
