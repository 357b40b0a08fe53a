"""Whole searches: trials are runs, a killed one ends with the same numbers, failures have reasons, the best is kept."""

import contextlib
import fcntl
import json
import signal
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pandas
import pytest

import tuning
from kerascnn import Recipe, cli, runs
from kerascnn.errors import DataError, UsageError
from kerascnn.training.finish import fetch_best
from tuning import hypermodels, tables
from tuning.searching import _folder
from tuning.searching import search as run_search
from tuning.spaces import load as load_space
from tuning.store import Store
from tuning.winner import as_toml

SPACE = """
model = "lenet5"
data = "digits"
batch_size = 128
[search.learning_rate]
low = 1e-4
high = 1e-1
log = true
"""


@pytest.fixture
def space(tmp_path):
    (tmp_path / "space.toml").write_text(SPACE)
    return str(tmp_path / "space.toml")


def command(*words):
    return [sys.executable, "-m", "kerascnn", *map(str, words)]


@pytest.mark.slow
def test_a_search_from_the_command_line(tmp_path, space, capfd):
    out = tmp_path / "search"
    words = ["tune", "--search", space, "--trials", 2, "--epochs", 2, "--seed", 0, "--out", out]
    done = subprocess.run(command(*words, "--stop-early", "none"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Winner" in done.stdout
    table = tuning.results(out)
    assert table["status"].tolist() == ["completed"] * 2
    assert table["epochs"].tolist() == [2] * 2
    for row in table.itertuples():
        metrics = pandas.read_csv(f"{row.run}/metrics.csv")
        assert row.score == metrics["val_accuracy"].max()
        assert row.best_epoch == metrics["val_accuracy"].idxmax() + 1
        result = json.loads((tmp_path / row.run / "run.json").read_text())["result"]
        assert "accuracy" not in result  # the test split was left unread
    best = table.loc[table["score"].idxmax()]
    winner = json.loads((out / "winner" / "run.json").read_text())
    assert (winner["of_trial"], winner["how"]) == (best["trial"], "keep")
    assert 0 < winner["result"]["accuracy"] <= 1
    assert (out / "winner" / "export" / "saved_model").is_dir()
    assert "<html" in (out / "report.html").read_text()
    (out / "results.csv").unlink()
    assert cli.run_command(["tune-report", str(out)]) == 0
    assert len(pandas.read_csv(out / "results.csv")) == 2

    again = tmp_path / "again"
    killed = subprocess.Popen(command(*words[:-1], again, "--stop-early", "none"), stdout=subprocess.DEVNULL)
    while not list(again.glob("trials/0001/checkpoint/state-*")):  # the second trial has begun
        assert killed.poll() is None
        time.sleep(0.05)
    assert tables.described(again)["state"] == "running"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert cli.run_command(list(map(str, [*words[:-1], again]))) == 2
    assert "--resume" in capfd.readouterr().err
    resumed = ["tune", "--out", again, "--resume"]
    words = [sys.executable, "-m", "tuning", *map(str, resumed[1:])]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    columns = ["trial", "learning_rate", "status", "score", "best_epoch", "epochs"]
    pandas.testing.assert_frame_equal(tuning.results(again)[columns], table[columns], check_exact=True)
    pandas.testing.assert_frame_equal(tuning.curves(again), tuning.curves(out), check_exact=True)

    (tmp_path / "space.toml").write_text(SPACE.replace("128", "64"))
    capfd.readouterr()
    assert cli.run_command([*map(str, resumed), "--epochs", "4"]) == 2
    said = capfd.readouterr().err
    assert "epochs was 2, now 4" in said
    assert "first batch_size was 128, now 64" in said


@pytest.mark.slow
def test_failing_trials_are_told_and_the_search_ends(tmp_path, space):
    said = []
    (tmp_path / "space.toml").write_text(SPACE.replace("1e-4", "1e36").replace("1e-1", "1e37").replace("high", "high"))
    with pytest.raises(UsageError, match="learning_rate"):
        run_search(search=space, trials=3, out=tmp_path / "search")
    (tmp_path / "space.toml").write_text(SPACE + "[search.batch_size]\nvalues = [5000, 6000]\n")
    with pytest.raises(DataError, match="No trial was completed"):
        run_search(search=space, trials=9, max_failures=2, out=tmp_path / "search", say=said.append)
    table = tuning.results(tmp_path / "search")
    assert table["status"].tolist() == ["failed"] * 2
    assert "is more than the" in table["reason"][0]
    assert "2 trials in a row failed" in tables.described(tmp_path / "search")["reason"]
    assert (tmp_path / "search" / "report.html").exists()


@pytest.mark.slow
def test_a_loss_that_is_no_number_fails_its_trial_and_the_best_of_the_others_is_retrained(tmp_path, space):
    (tmp_path / "space.toml").write_text(
        'model = "lenet5"\ndata = "digits"\noptimizer = "sgd"\nl2 = 10.0\nprecision = "float32"\n'
        "[search.learning_rate]\nvalues = [1000.0, 0.01]\n"
    )
    table = run_search(search=space, tuner="grid", epochs=1, out=tmp_path / "search", winner="retrain", say=no_word)
    assert table["status"].tolist() == ["failed", "completed"]
    assert "NaN" in table["reason"][0]
    first, again = (runs.Run(tmp_path / "search" / name).read("data")["splits"] for name in ("trials/0001", "winner"))
    assert again["train"]["images"] == first["train"]["images"] + first["validation"]["images"]
    assert "validation" not in again
    assert runs.Run(tmp_path / "search" / "winner").read("run")["how"] == "retrain"


@pytest.mark.slow
def test_a_winner_is_retrained_over_fewer_epochs_with_less_warm_up(tmp_path, space):
    settings = 'schedule = "cosine"\nwarmup_epochs = 1\n'
    (tmp_path / "space.toml").write_text(settings + SPACE.replace("1e-4", "5.0").replace("1e-1", "9.0"))
    table = run_search(search=space, trials=1, epochs=2, out=tmp_path / "search", winner="retrain", say=no_word)
    recipe = runs.Run(tmp_path / "search" / "winner").read("recipe")
    assert recipe["epochs"] == table["best_epoch"][0]
    assert recipe["warmup_epochs"] == recipe["epochs"] / 2


@pytest.mark.slow
def test_a_paused_trial_trains_on_as_if_it_had_not_been(tmp_path, space):
    options = {"search": space, "trials": 4, "epochs": 3, "winner": "none", "say": no_word}
    whole = run_search(out=tmp_path / "whole", stop_early="none", **options)
    table = run_search(out=tmp_path / "halved", stop_early="halving", **options)
    assert sorted(table["status"]) == ["completed", "completed", "pruned", "pruned"]
    long = table["status"] == "completed"
    assert table["epochs"].tolist() == [3 if done else 1 for done in long]
    pandas.testing.assert_series_equal(table["score"][long], whole["score"][long], check_exact=True)
    kept, expected = (tuning.curves(tmp_path / name) for name in ("halved", "whole"))
    merged = kept.merge(expected, on=["trial", "epoch"])
    assert len(merged) == 8
    assert merged["value_x"].tolist() == merged["value_y"].tolist()
    assert table["seconds"].min() > 0


@pytest.mark.slow
def test_hyperband_goes_on_with_the_runs_that_it_chose(tmp_path, space):
    table = run_search(search=space, tuner="hyperband", epochs=3, out=tmp_path / "search", winner="none", say=no_word)
    assert set(table["status"]) == {"completed"}
    with contextlib.closing(Store(tmp_path / "search", readonly=True)) as store:
        parents = {row["trial"]: row["parent"] for row in store.trials() if row["parent"] is not None}
    assert parents
    for child, parent in parents.items():
        folders = [tables.run_folder(tmp_path / "search", number) for number in (child, parent)]
        rows, first = (pandas.read_csv(folder / "metrics.csv") for folder in folders)
        assert (len(rows), len(first)) == (3, 1)
        pandas.testing.assert_frame_equal(rows.head(1), first, check_exact=True)
        assert table["epochs"][child] == 2


@pytest.mark.slow
def test_a_winner_whose_process_was_killed_gets_its_weights_from_its_checkpoint(tmp_path, space):
    out = tmp_path / "search"
    run_search(search=space, trials=1, epochs=1, out=out, winner="none", say=no_word)
    fetch_best(runs.Run(out / "trials" / "0000"))  # a process that is killed has not yet deleted them
    (out / "trials" / "0000" / "best.keras").unlink()
    runs.Run(out / "trials" / "0000").update(result=None, status="interrupted", reason="paused")  # waits on a rung
    settings = json.loads((out / "search.json").read_text())
    del settings["first"]["fast_start"]  # as made before recipes had it
    (out / "search.json").write_text(json.dumps(settings))
    run_search(search=space, out=out, resume=True, say=no_word)
    assert not (out / "winner").exists()  # as it was: none
    run_search(search=space, out=out, resume=True, winner="keep", say=no_word)
    assert (out / "winner" / "best.keras").exists()
    crowned = runs.Run(out / "winner").read("run")
    assert crowned["result"]["accuracy"] > 0
    assert (crowned["status"], crowned["reason"]) == ("finished", None)


def no_word(line):
    """Says nothing."""


HYPERMODEL = """
import keras, keras_tuner


class Mine(keras_tuner.HyperModel):
    def build(self, hp):
        model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
        rate = hp.Float("rate", 1e-3, 1e-1, sampling="log")
        model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=[METRIC])
        hp.Choice("batch", [32, 64])
        return model

    def fit(self, hp, model, *args, **kwargs):
        return model.fit(*args, batch_size=hp.get("batch"), **kwargs)
"""


@pytest.mark.slow
def test_a_hypermodel_of_keras_tuner(tmp_path):
    (tmp_path / "mine.py").write_text(HYPERMODEL.replace("METRIC", '"accuracy"'))
    table = run_search(
        "digits", search=tmp_path / "mine.py", trials=2, epochs=2, stop_early="none", out=tmp_path / "search"
    )
    assert table["status"].tolist() == ["completed"] * 2
    assert table["batch"].isin([32, 64]).all()
    for row in table.itertuples():
        assert row.score == pandas.read_csv(f"{row.run}/metrics.csv")["val_accuracy"].max()
    assert table["score"].max() > 0.5

    (tmp_path / "mine.py").write_text(HYPERMODEL.replace("METRIC", '"sparse_top_k_categorical_accuracy"'))
    for options, message in [
        (
            {"dropout": 0.5},
            r"dropout=0\.5 has nothing to act on: the HyperModel makes the network.* Allowed: data, image",
        ),
        ({"winner": "retrain"}, "winner='retrain' is not allowed: a HyperModel makes no recipe"),
    ]:
        with pytest.raises(UsageError, match=message):
            run_search("digits", search=tmp_path / "mine.py", out=tmp_path / "other", **options)
    with pytest.raises(DataError, match="'val_accuracy' is not computed"):
        run_search("digits", search=tmp_path / "mine.py", trials=1, epochs=1, out=tmp_path / "other")


def test_a_hypermodel_trains_without_validation_images_if_nothing_needs_them(tmp_path):
    (tmp_path / "mine.py").write_text(HYPERMODEL.replace("METRIC", '"accuracy"'))
    images, labels = np.zeros((20, 8, 8), "uint8"), np.arange(20) % 10
    np.savez(tmp_path / "d.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    values = {"rate": 0.01, "batch": 64}
    recipe = Recipe(data=str(tmp_path / "d.npz"), validation=0, epochs=1, monitor="loss")
    space, report = load_space(tmp_path / "mine.py"), keras.callbacks.Callback()
    run = hypermodels.fit(space, values, recipe, tmp_path / "run", report)
    metrics = pandas.read_csv(run / "metrics.csv")
    assert (metrics["loss"].notna().all(), metrics["val_loss"].isna().all()) == (True, True)
    assert (run / "best.keras").exists()
    with pytest.raises(UsageError, match="monitor='val_loss' needs validation images, but validation=0"):
        hypermodels.fit(space, values, recipe.replace(monitor="val_loss"), tmp_path / "other", report)


def test_two_chiefs_never_run_one_search(tmp_path, space):
    folder = tmp_path / "search"
    with pytest.raises(DataError, match="No trial was made"):
        run_search(search=space, seconds=1, workers=0, lease_seconds=1, out=folder, say=lambda line: None)
    with open(folder / "search.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="is running already"):
            run_search(out=folder, resume=True)


def test_strangers_need_a_token(tmp_path, space):
    with pytest.raises(UsageError, match="a token is needed"):
        run_search(search=space, out=tmp_path / "search", listen="0.0.0.0:0")
    assert not (tmp_path / "search").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"search": "cifarnet"}, "Did you mean 'cifar_net'"),
        ({"tuner": "bayes"}, "Did you mean 'bayesian'"),
        ({"objective": "val_acuracy"}, "Did you mean 'val_accuracy'"),
        ({"stop_early": "medium"}, "Did you mean 'median'"),
        ({"winner": "kept"}, "Did you mean 'keep'"),
        ({"tuner": "hyperband", "stop_early": "halving"}, "hyperband halves itself"),
        ({"trials": 0}, "trials=0 is out of range"),
        ({"epochs": 0}, "epochs=0 is out of range"),
        ({"workers": -1}, "workers=-1 is out of range"),
        ({"listen": "7000"}, "is not HOST:PORT"),
        ({"listen": ":7000", "token": "x"}, "is not HOST:PORT"),
        ({"token": "schlüssel"}, "not ASCII"),
        ({"search": "recurrent", "model": "gru"}, "model is searched by cell, so it cannot be fixed to 'gru'"),
        ({"search": "cifar_net", "data": "digits", "augment": ("flip",)}, "augment is searched"),
        ({"steps": 100}, "steps cannot be fixed"),
        ({"listen": "127.0.0.1:99999"}, "is not HOST:PORT"),
        ({"learning_rate": 0.1}, "learning_rate is searched"),
        ({"dropuot": 0.1}, "Did you mean 'dropout'"),
        ({"data": "no-such-data"}, "no-such-data"),
        ({"start_from": "no-run"}, "There is no run 'no-run'"),
        ({"resume": True}, "holds no search to resume"),
        ({"seed": -1}, "seed=-1 is out of range"),
        ({"monitor": "val_loss"}, "it is the search's own objective"),
    ],
)
def test_what_cannot_be_searched_is_told_before_anything_is_written(tmp_path, space, options, message):
    with pytest.raises((UsageError, DataError), match=message):
        run_search(**({"search": space, "out": tmp_path / "search"} | options))
    assert not (tmp_path / "search").exists()


def test_a_port_in_use_and_a_folder_in_use(tmp_path, space):
    with socket.create_server(("127.0.0.1", 0)) as sock, pytest.raises(UsageError, match="Nothing can listen on"):
        run_search(search=space, out=tmp_path / "search", listen=f"127.0.0.1:{sock.getsockname()[1]}")
    assert not (tmp_path / "search").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(UsageError, match="not empty"):
        run_search(search=space, out=tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_search_that_was_killed_before_it_wrote_anything_can_begin_again(tmp_path, space):
    (tmp_path / "search").mkdir()
    for name in ("search.lock", ".search.17.tmp.json"):
        (tmp_path / "search" / name).write_text("")
    with pytest.raises(UsageError, match="seconds=0 is out of range"):
        run_search(search=space, out=tmp_path / "search", seconds=0)
    assert _folder(tmp_path / "search", {}, {"name": "space"}, print) == tmp_path / "search"


def test_a_search_that_goes_on_keeps_the_trials_that_were_made(tmp_path, space):
    with contextlib.closing(Store(tmp_path)) as store, store.writing():
        for number in range(3):
            store.add_trial(number, {}, {}, 0.0)
    (tmp_path / "search.json").write_text(json.dumps({"search": space}))
    before = (tmp_path / "search.json").read_bytes()
    with pytest.raises(UsageError, match="trials=2 is below the 3 already made"):
        run_search(search=space, trials=2, out=tmp_path, resume=True)
    assert (tmp_path / "search.json").read_bytes() == before


def test_a_hyperparameter_called_like_a_column_is_refused(tmp_path):
    def space(hp):
        return Recipe(dropout=hp.Float("score", 0, 0.5))

    with pytest.raises(UsageError, match="'score', which is a column of the results"):
        run_search("digits", search=space, out=tmp_path / "search")


def test_the_winners_recipe_comes_back_from_toml(tmp_path):
    recipe = Recipe(model="lenet5", augment=("flip", "crop"), model_options={"variant": "1998"}, learning_rate=3e-05)
    without = {"variant": "1998", "weights": None}  # TOML has no word for None
    (tmp_path / "winner.toml").write_text(as_toml(recipe.replace(model_options=without)))
    from kerascnn.recipes import read_config

    assert Recipe().replace(**read_config(tmp_path / "winner.toml")) == recipe


def test_commands_on_no_search(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in (["tune-status"], ["tune-report", "mine"], ["tune", "--time", "soon"]):
        assert cli.run_command(words) == 2
    said = capsys.readouterr().err
    assert "There is no last search" in said
    assert "Unknown search folder 'mine'" in said
    assert "--time 'soon' is not a time" in said
