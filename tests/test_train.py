import csv
import os
import signal
import threading

import keras
import numpy as np
import pytest
from PIL import Image

import kerascnn
from kerascnn import runs
from kerascnn.errors import DataError, Stopped, TrainingFailed, UsageError
from kerascnn.files import read_arrays
from kerascnn.recipes import Recipe
from kerascnn.training.prepare import anchored

QUICK = {"epochs": 3, "batch_size": 256, "dropout": 0.3, "augment": ("crop",), "monitor": "val_accuracy"}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def train(**fields):
    said = []
    run = kerascnn.train(Recipe(), say=said.append, **{**QUICK, **fields})
    return run, said


class SignalAt(keras.callbacks.Callback):
    """Sends this process a signal during one step of one epoch."""

    def __init__(self, epoch, step, number=signal.SIGINT):
        super().__init__()
        self.at, self.number = (epoch, step), number

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, step, logs=None):
        if (self.epoch, step) == self.at:
            os.kill(os.getpid(), self.number)


def metrics(run):
    """The rows of metrics.csv, as dicts of text."""
    return list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))


def weights(run):
    return kerascnn.load(run).get_weights()


def test_the_folder_of_a_finished_run():
    run, said = train()
    assert {p.name for p in run.folder.iterdir()} == {
        *("recipe.json", "data.json", "labels.json", "run.json", "metrics.csv", "best.keras"),
        *("plots", "samples", "checkpoint", "evaluation"),
    }
    assert {p.name for p in (run / "plots").iterdir()} == {
        f"{name}.{suffix}" for name in ("loss", "accuracy", "confusion") for suffix in ("png", "csv")
    }
    state = run.read("run")
    assert state["status"] == "finished"
    assert state["seconds"] > 0
    assert state["peak_memory_bytes"] > 1e8
    assert state["result"]["images"] == 360
    assert run.read("labels") == list("0123456789")
    assert Recipe.from_dict(run.read("recipe")) == Recipe(**QUICK)
    data = run.read("data")
    assert {name: split["images"] for name, split in data["splits"].items()} == {
        "train": 1293, "validation": 144, "test": 360,
    }  # fmt: skip
    assert sum(data["splits"]["test"]["per_class"]) == 360
    rows = metrics(run)
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    with Image.open(next((run / "samples").glob("7-*.png"))) as sample:
        assert sample.size == (32, 32)
    assert sum(line.startswith("epoch ") for line in said) == 3
    assert "ETA" in said[-2]


def test_best_weights_are_those_of_the_best_epoch():
    """The run's accuracy on validation is the best of its table, recomputed from best.keras."""
    run, _ = train(epochs=4, learning_rate=0.003)
    rows = metrics(run)
    best = max(float(row["val_accuracy"]) for row in rows)
    assert run.read("run")["result"]["val_accuracy"] == best
    data = kerascnn.datasets.load("digits", image_size=32)
    prepared = kerascnn.using.preprocessing(run)
    images, labels = prepared(data.validation.images), data.validation.labels
    probabilities = kerascnn.load(run).predict(images, verbose=0)
    assert (probabilities.argmax(1) == labels).mean() == pytest.approx(best)


def test_the_same_seed_gives_the_same_weights_and_another_does_not():
    first, second, other = (train(out=name, epochs=1, seed=seed)[0] for name, seed in (("a", 5), ("b", 5), ("c", 6)))
    for a, b in zip(weights(first), weights(second), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != c).any() for a, c in zip(weights(first), weights(other), strict=True))


@pytest.mark.parametrize(
    ("epoch", "step", "number", "code"),
    [
        (1, 2, signal.SIGINT, 130),
        pytest.param(0, 0, signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(1, 5, signal.SIGINT, 130, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_goes_on_exactly(epoch, step, number, code):
    """Weights and metrics of a run stopped within an epoch are bit for bit those of an undisturbed one."""
    changing = {
        "rate_patience": 1,
        "rate_factor": 0.5,
        "stop_patience": 9,
        "monitor": "val_loss",
        "learning_rate": 0.01,
    }
    whole, _ = train(out="whole", **changing)
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stop:
        train(out="stopped", callbacks=[SignalAt(epoch, step, number)], **changing)
    assert 128 + stop.value.signal_number == code
    assert signal.getsignal(number) == before
    assert runs.Run("stopped").status == "interrupted"
    said = []
    resumed = kerascnn.train(resume="stopped", say=said.append)
    assert resumed.status == "finished"
    assert any(line.startswith("Resuming at epoch") for line in said)
    assert (whole / "metrics.csv").read_bytes() == (resumed / "metrics.csv").read_bytes()
    for a, b in zip(weights(whole), weights(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    assert whole.read("run")["result"] == resumed.read("run")["result"]


def test_more_epochs_go_on_exactly_and_a_torn_checkpoint_is_stepped_over():
    whole, _ = train(out="whole", epochs=3)
    short, _ = train(out="short", epochs=2, keep_checkpoints=True)
    newest = max((short / "checkpoint").glob("state-*.npz"))
    newest.write_bytes(newest.read_bytes()[:-100])
    said = []
    longer = kerascnn.train(resume="short", epochs=3, say=said.append)
    assert any("cannot be read" in line and newest.name in line for line in said)
    assert (whole / "metrics.csv").read_bytes() == (longer / "metrics.csv").read_bytes()
    for a, b in zip(weights(whole), weights(longer), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_killed_before_its_first_checkpoint_starts_again():
    train(out="a", epochs=1)
    for path in (runs.Run("a") / "checkpoint").iterdir():
        path.unlink()
    runs.Run("a").update(status="running", pid=None)
    assert kerascnn.train(resume="a", say=lambda line: None).status == "finished"


def test_seconds_are_written_with_each_checkpoint_and_go_on():
    class Reads(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            seen.append(runs.Run("a").read("run").get("seconds"))

    seen = []
    run, _ = train(epochs=2, out="a", callbacks=[Reads()])
    assert seen[0] is None
    assert 0 < seen[1] < run.read("run")["seconds"]
    run.update(status="running", seconds=1000.0, pid=None)
    again = kerascnn.train(resume=run, epochs=3, say=lambda line: None)
    assert 1000 < again.read("run")["seconds"] < 2000


def test_a_run_that_lost_its_checkpoints_or_its_table_is_left_alone():
    run, _ = train(epochs=2)
    before = (run / "metrics.csv").read_bytes()
    (run / "metrics.csv").write_bytes(b"".join(before.splitlines(keepends=True)[:2]))
    with pytest.raises(DataError, match=r"metrics\.csv has 1 epoch and the checkpoint in .* 2: the table was changed"):
        kerascnn.train(resume=run.folder, epochs=3)
    (run / "metrics.csv").write_bytes(before)
    for path in (run / "checkpoint").glob("state-*"):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"no checkpoint that can be read, though .* has 2 epochs"):
        kerascnn.train(resume=run.folder, epochs=3)
    assert (run / "metrics.csv").read_bytes() == before
    assert run.status == "finished"


def test_resuming_with_another_recipe_or_other_data_is_refused(make_folder):
    folder = make_folder({"cat": 12, "dog": 12}, size=(16, 16))
    run, _ = train(data=str(folder), epochs=1, batch_size=8, model_options={"variant": "1998"}, image_size=16)
    with pytest.raises(UsageError, match=r"another recipe \(learning_rate was 0.001, now 0.5\)"):
        kerascnn.train(resume=run.folder, learning_rate=0.5)
    Image.new("RGB", (16, 16)).save(folder / "cat" / "new.png")
    with pytest.raises(DataError, match=r"is not what the run .* was trained on.*What changed: 1 file new"):
        kerascnn.train(resume=run.folder, epochs=2)
    (folder / "cat" / "new.png").unlink()
    run.write("data", run.read("data") | {"preprocessing": run.read("data")["preprocessing"] | {"mean": [0.5] * 3}})
    with pytest.raises(DataError, match=r"is not what the run .* was trained on"):
        kerascnn.train(resume=run.folder, epochs=2)
    cosine, _ = train(schedule="cosine", epochs=1)
    with pytest.raises(UsageError, match="cosine schedule over its whole length, so epochs=2 would"):
        kerascnn.train(resume=cosine.folder, epochs=2)


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_best_weights():
    class Spoil(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                self.model.optimizer.learning_rate = float("nan")

    with pytest.raises(TrainingFailed, match=r"in epoch 2; .*best weights so far are kept.*: learning_rate=0.0001$"):
        train(out="a", callbacks=[Spoil()])
    run = runs.Run("a")
    assert run.status == "failed"
    assert "NaN" in run.read("run")["reason"]
    assert all(np.isfinite(w).all() for w in weights(run))


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_validation_loss_that_is_not_a_number_is_never_the_best(epoch):
    class Spoil(keras.callbacks.Callback):
        def on_epoch_begin(self, number, logs=None):
            self.number = number

        def on_test_begin(self, logs=None):
            if self.number == epoch:
                self.kernel = self.model.trainable_variables[-2]  # behind the last ReLU, which may pass 0 for NaN
                self.before = keras.ops.convert_to_numpy(self.kernel)
                self.kernel.assign(self.before * float("nan"))

        def on_test_end(self, logs=None):
            if self.number == epoch:
                self.kernel.assign(self.before)

    kept = "the best weights so far are kept" if epoch else "no epoch was finished"
    with pytest.raises(TrainingFailed, match=f"in epoch {epoch + 1}; training stopped and {kept}"):
        train(out="a", monitor="val_loss", callbacks=[Spoil()])
    assert (runs.Run("a") / "best.keras").exists() == bool(epoch)


def test_a_result_is_of_the_weights_that_are_kept():
    run, _ = train(epochs=1, out="a")
    assert run.read("run")["result"]["epochs"] == 1
    with pytest.raises(Stopped):
        kerascnn.train(resume=run, epochs=4, callbacks=[SignalAt(2, 1)], say=lambda line: None)
    assert run.read("run")["result"] is None
    assert kerascnn.train(resume=run, say=lambda line: None).read("run")["result"]["epochs"] == 4


def test_a_run_of_another_backend_is_left_alone():
    run, _ = train(epochs=1, out="a")
    run.update(versions={"kerascnn": "0.1", "python": "3.11", "keras": "3.15.1", "jax": "0.10"})
    with pytest.raises(UsageError, match=r"was trained with jax, so it cannot resume.* Set KERAS_BACKEND=jax, or"):
        kerascnn.train(resume=run, epochs=2)
    assert run.status == "finished"


def test_errors_leave_no_folder_behind(make_folder):
    for fields, message in [
        ({"model": "lenet6"}, "Unknown model 'lenet6'. Did you mean 'lenet5'"),
        ({"data": "digit"}, "digits"),
        ({"image_size": 8}, "cannot take images of 8x8 pixels"),
        ({"resize_to": 24}, "resize_to=24 is less than the 32 pixels .*Give resize_to=32 or more, or image_size=24"),
        ({"batch_size": 5000}, "batch_size=5000 is more than the 1,293 training images"),
        ({"model_options": {"varian": 1}}, "Unknown option of model 'lenet5': 'varian'. Did you mean 'variant'"),
        ({"batch_norm": True}, "batch_norm=True has nothing to act on: model 'lenet5'.*Leave it out"),
        ({"fold_norm": True}, "fold_norm=True has nothing to act on: model 'lenet5'.*Leave it out"),
        (
            {"test_views": "ten"},
            "larger than the 32 pixels that the network sees. Give resize_to=36, or leave out test_views",
        ),
        ({"validation": 0}, "needs validation images"),
        ({"data": str(make_folder({"only": 3}))}, "one class|two"),
    ]:
        with pytest.raises(ValueError, match=message):
            train(**fields)
    assert not runs.ROOT.exists()


def test_a_run_on_a_relative_path_goes_on_from_another_folder(make_folder, tmp_path, monkeypatch):
    make_folder({"cat": 12, "dog": 12}, size=(16, 16))
    run, _ = train(data="photos", epochs=1, batch_size=8, image_size=16, out=tmp_path / "r")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert kerascnn.train(resume=run.folder.resolve(), epochs=2, say=lambda line: None).status == "finished"


def test_patience_stops_and_says_so():
    still = {"learning_rate": 1e-9, "min_delta": 0.1, "augment": (), "dropout": None}
    run, said = train(epochs=30, stop_patience=2, monitor="val_loss", keep_checkpoints=True, **still)
    assert run.read("run")["result"]["epochs"] < 30
    assert any(line.startswith("Stopped: val_loss has not") for line in said)
    for longer in ({}, {"epochs": 31}):
        with pytest.raises(UsageError, match=r"was stopped after epoch \d+, by its patience or a callback"):
            kerascnn.train(resume=run.folder, **longer)
    run.update(status="running", pid=None)  # as if killed before its test
    again = []
    kerascnn.train(resume=run.folder, say=again.append)
    assert any("already stopped" in line for line in again)
    assert run.status == "finished"
    _, said = train(epochs=1, stop_patience=5)
    assert any("stop_patience=5 is not below epochs=1" in line for line in said)


@pytest.mark.slow
def test_a_finished_run_keeps_the_checkpoint_that_more_epochs_need(tmp_path):
    fields = {"ema": 0.9, "stop_patience": 5, "learning_rate": 0.003}
    whole, _ = train(out="whole", epochs=3, keep_checkpoints=True, **fields)
    assert {p.name for p in (whole / "checkpoint").iterdir()} == {
        *("lock", "data.npz", "best.weights.h5", "state-00002-0000000.npz", "state-00003-0000000.npz")
    }
    short, _ = train(out="short", epochs=2, **fields)
    assert {p.name for p in (short / "checkpoint").iterdir()} == {"lock", "data.npz", "state-00002-0000000.npz"}
    longer = kerascnn.train(resume="short", epochs=3, say=lambda line: None)
    assert (whole / "metrics.csv").read_bytes() == (longer / "metrics.csv").read_bytes()
    for a, b in zip(weights(whole), weights(longer), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schedule": "one_cycle", "epochs": 1}, "has finished its 1 epochs?|one_cycle schedule"),
        (
            {"stop_patience": 1, "learning_rate": 1e-9, "min_delta": 0.1, "epochs": 9},
            r"was stopped after epoch \d, by its patience",
        ),
    ],
)
def test_a_run_that_cannot_go_on_keeps_no_checkpoint(fields, message):
    run, _ = train(**fields | {"augment": (), "dropout": None, "monitor": "val_loss"})
    assert {p.name for p in (run / "checkpoint").iterdir()} == {"lock", "data.npz"}
    for longer in ({}, {"epochs": 12}):
        with pytest.raises(UsageError, match=message):
            kerascnn.train(resume=run, **longer)


def test_more_epochs_that_are_no_better_leave_the_best_weights():
    run, _ = train(out="a", epochs=1, monitor="val_loss")
    before = weights(run)

    class Spoil(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.optimizer.learning_rate = 3.0

    kerascnn.train(resume=run, epochs=2, callbacks=[Spoil()], say=lambda line: None)
    assert run.read("run")["result"]["best_epoch"] == 1
    for a, b in zip(before, weights(run), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_the_last_weights_are_kept_where_that_is_asked_for(ema):
    """Also where an earlier epoch was better, and in a run that was stopped and went on."""
    seen = []

    class Spoil(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                self.model.optimizer.learning_rate = 3.0

        def on_epoch_end(self, epoch, logs=None):
            seen.append(self.model.get_weights())

    fields = {"keep": "last", "ema": ema, "out": "a"}
    with pytest.raises(Stopped):
        train(callbacks=[SignalAt(1, 2)], **fields)
    run = kerascnn.train(resume="a", callbacks=[Spoil()], say=lambda line: None)
    result, rows = run.read("run")["result"], metrics(run)
    assert (result["best_epoch"] < 3, result["kept_epoch"]) == (True, 3)
    assert result["val_accuracy"] == float(rows[-1]["val_accuracy"])
    for name, row in (("best", rows[result["best_epoch"] - 1]), ("last", rows[-1])):
        assert result[name] == {key: float(value) for key, value in row.items() if key != "epoch"}
    for a, b in zip(weights(run), seen[-1], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("least", "falls"), [(0.0, False), (1e-4, True)])
def test_a_smaller_loss_is_a_better_one_however_little_it_is(least, falls):
    """The loss on validation improves in every epoch, by less than the 1e-4 that Keras' callback asks for by itself."""
    run, said = train(
        epochs=4, optimizer="sgd", learning_rate=2e-7, rate_patience=1, stop_patience=2, min_delta=least,
        monitor="val_loss", augment=(), dropout=None,
    )  # fmt: skip
    rows = metrics(run)
    steps = np.diff([float(row["val_loss"]) for row in rows])
    assert ((steps < 0) & (steps > -1e-4)).all()
    assert (float(rows[-1]["learning_rate"]) < 2e-7 * 0.99) == falls
    assert any(line.startswith("Stopped:") for line in said) == falls


@pytest.mark.slow
def test_the_loss_with_label_smoothing_is_given_without_it_too():
    """In metrics.csv and the result; a run of a version that did not give it goes on as it began."""
    run, said = train(epochs=1, label_smoothing=0.2, out="a")
    row, result = metrics(run)[0], run.read("run")["result"]
    data = kerascnn.datasets.load("digits", image_size=32)
    prepared = kerascnn.using.preprocessing(run)
    probabilities = kerascnn.load(run).predict(prepared(data.validation.images), verbose=0).astype("float64")
    true = np.eye(10)[data.validation.labels]
    assert float(row["val_nll"]) == pytest.approx(-(true * np.log(probabilities)).sum(1).mean(), rel=1e-5)
    smoothed = -((0.8 * true + 0.02) * np.log(probabilities)).sum(1).mean()
    assert float(row["val_loss"]) == pytest.approx(smoothed, rel=1e-5)
    assert result["val_nll"] == float(row["val_nll"])
    assert any("val_nll of the true classes" in line for line in said)
    path = run / "checkpoint" / "state-00001-0000000.npz"
    arrays = read_arrays(path)
    np.savez(path, **{name: array for name, array in arrays.items() if name not in ("metrics/4", "metrics/5")})
    rows = [row.split(",") for row in (run / "metrics.csv").read_text().splitlines()]
    kept = [i for i, name in enumerate(rows[0]) if "nll" not in name]
    (run / "metrics.csv").write_text("".join(",".join(row[i] for i in kept) + "\n" for row in rows))
    longer = kerascnn.train(resume=run, epochs=2, say=lambda line: None)
    assert [set(row) for row in metrics(longer)] == [{"epoch", "accuracy", "loss", "val_accuracy", "val_loss"}] * 2
    assert all(row["val_loss"] for row in metrics(longer))


@pytest.mark.slow
def test_watching_the_test_images_changes_nothing_but_what_is_told():
    """The same weights bit for bit with and without the test split's curve, also in a run that was stopped."""
    fields = {"epochs": 2, "ema": 0.9, "monitor": "val_loss", "rate_patience": 1, "label_smoothing": 0.1}
    plain, _ = train(out="plain", **fields)
    with pytest.raises(Stopped):
        train(out="watched", test_curve=True, top5=True, callbacks=[SignalAt(1, 2)], **fields)
    watched = kerascnn.train(resume="watched", say=lambda line: None)
    same_weights(plain, watched)
    rows, result = metrics(watched), watched.read("run")["result"]
    assert [{name: row[name] for name in metrics(plain)[0]} for row in rows] == metrics(plain)
    shared = plain.read("run")["result"].keys() - {"best", "last"}
    assert {name: result[name] for name in shared} == {name: plain.read("run")["result"][name] for name in shared}
    for name in ("accuracy", "top5"):
        assert result[name] == pytest.approx(result["best"][f"test_{name}"])
    assert result["loss"] == pytest.approx(result["best"]["test_nll"], rel=1e-5)
    assert result["test_watched"]
    data = kerascnn.datasets.load("digits", image_size=32)
    prepared = kerascnn.using.preprocessing(watched)
    right = kerascnn.load(watched).predict(prepared(data.train.images), verbose=0).argmax(1) == data.train.labels
    assert result["train"]["images"] == len(right)
    assert result["train"]["accuracy"] == pytest.approx(right.mean())
    assert plain.read("run")["result"]["train"] == result["train"]
    assert "test_watched" not in plain.read("run")["result"]
    assert {path.name for path in (watched / "plots").glob("*.png")} == {
        *("loss.png", "accuracy.png", "top5.png", "confusion.png")
    }


def test_the_five_most_probable_need_six_classes(make_folder):
    with pytest.raises(UsageError, match=r"top5=True needs six classes or more; .* has 2\. Leave it out"):
        train(data=str(make_folder({"cat": 12, "dog": 12}, size=(16, 16))), batch_size=8, image_size=16, top5=True)


def test_an_old_run_keeps_the_least_change_that_keras_took(tmp_path):
    with pytest.raises(Stopped):
        train(epochs=3, rate_patience=2, min_delta=1e-4, monitor="val_loss", out="a", callbacks=[SignalAt(1, 2)])
    run = runs.Run("a")
    run.write("recipe", {name: value for name, value in run.read("recipe").items() if name != "min_delta"})
    kerascnn.train(resume=run, say=lambda line: None)
    assert run.read("recipe")["min_delta"] == 1e-4


@pytest.mark.slow
def test_images_that_stay_on_disk_train_like_arrays(make_folder, monkeypatch):
    """The same weights whether images are decoded once or at every batch."""
    folder = make_folder({"a": 40, "b": 40}, size=(16, 16))
    settings = {"data": str(folder), "image_size": 16, "batch_size": 16, "epochs": 2}
    arrays, _ = train(out="arrays", **settings)
    monkeypatch.setattr("kerascnn.datasets.loading.default_limit", lambda: 4000)
    files, _ = train(out="files", **settings)
    for a, b in zip(weights(arrays), weights(files), strict=True):
        np.testing.assert_array_equal(a, b)


def test_crops_of_larger_images():
    run, _ = train(resize_to=36, epochs=1)
    assert run.read("data")["preprocessing"]["resize_to"] == [36, 36]
    assert kerascnn.load(run).input_shape == (None, 32, 32, 1)


def test_training_in_a_thread_leaves_signals_alone():
    before, result = signal.getsignal(signal.SIGINT), []
    thread = threading.Thread(target=lambda: result.append(train(epochs=1)[0].status))
    thread.start()
    thread.join()
    assert result == ["finished"]
    assert signal.getsignal(signal.SIGINT) == before


def same_weights(a, b):
    for x, y in zip(weights(a), weights(b), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.slow
def test_steps_and_evaluation_every_n_steps(tmp_path):
    run, said = train(steps=17, eval_every=5, watch=["filters"], out=tmp_path / "a")  # passes have 6 steps
    assert [row["step"] for row in metrics(run)] == ["5", "10", "15", "17"]
    assert all("epoch" not in row for row in metrics(run))
    with open(run / "watch" / "filter-evolution" / "evolution.csv") as file:
        assert list(dict.fromkeys(row["steps"] for row in csv.DictReader(file))) == ["0", "5", "10", "15", "17"]
    result = run.read("run")["result"]
    assert (result["best_step"], result["steps"]) == (min(5 * result["best_epoch"], 17), 17)
    assert [line[:10] for line in said if line.startswith("step")] == [f"step {n:2}/17" for n in (5, 10, 15, 17)]
    stop = SignalAt(1, 3, signal.SIGTERM)
    with pytest.raises(Stopped, match="in epoch 2 after step 4"):
        train(steps=17, eval_every=5, out=tmp_path / "b", callbacks=[stop])
    again = kerascnn.train(resume=tmp_path / "b", say=lambda line: None)
    same_weights(run, again)
    assert metrics(run) == metrics(again)
    short, _ = train(steps=10, eval_every=5, out=tmp_path / "c")
    longer = kerascnn.train(resume=short, steps=17, say=lambda line: None)
    same_weights(run, longer)
    before = (longer / "recipe.json").read_text()
    for change, message in [
        ({"steps": 20}, r"ended after 17 steps, within a period of 5, so it cannot resume exactly"),
        ({"steps": 11}, r"was made for 17 steps; steps=11 is less\. Leave it out"),
        ({"epochs": 50}, r"another recipe \(epochs was 3, now 50\)"),
        ({}, r"has finished its 17 steps\. To continue, give steps=18 or more\."),
    ]:
        with pytest.raises(UsageError, match=message):
            kerascnn.train(resume=longer, **change)
    assert (longer / "recipe.json").read_text() == before


def test_a_run_that_another_process_trains_is_left_alone(tmp_path):
    with pytest.raises(Stopped):
        train(out=tmp_path / "run", callbacks=[SignalAt(1, 1)])
    run = runs.Run(tmp_path / "run")
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    with runs.locked(run / "checkpoint" / "lock"), pytest.raises(runs.Busy, match=r"Another process holds .*lock"):
        kerascnn.train(resume=run, say=lambda line: None)
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before
    assert kerascnn.train(resume=run, say=lambda line: None).status == "finished"


@pytest.mark.slow
def test_half_precision_scales_its_loss(tmp_path):
    run, _ = train(precision="mixed_float16", epochs=5, learning_rate=0.003, out=tmp_path / "run")
    assert run.status == "finished"
    assert float(metrics(run)[-1]["loss"]) < float(metrics(run)[0]["loss"])
    assert float(metrics(run)[-1]["accuracy"]) > 0.2


@pytest.mark.slow
def test_everything_at_once_resumes_exactly(tmp_path):
    """Moving average, mixup, cutout, balanced classes and a schedule, stopped within an epoch and at its end."""
    fields = {
        "ema": 0.9,
        "augment": ("flip", "crop", "mixup", "cutout"),
        "class_weights": "balanced",
        "schedule": "one_cycle",
        "l2": 1e-4,
        "epochs": 4,
    }
    run, _ = train(out=tmp_path / "a", **fields)
    with pytest.raises(Stopped):
        train(out=tmp_path / "b", callbacks=[SignalAt(1, 2)], **fields)
    with pytest.raises(Stopped):
        kerascnn.train(resume=tmp_path / "b", callbacks=[SignalAt(2, 5)], say=lambda line: None)
    again = kerascnn.train(resume=tmp_path / "b", say=lambda line: None)
    same_weights(run, again)
    assert metrics(run) == metrics(again)


@pytest.mark.slow
def test_the_averaged_weights_are_what_is_kept(tmp_path):
    """With a momentum of nearly 1 the average stays where the first step led, and is what best.keras holds."""
    keras.utils.set_random_seed(0)
    initial = kerascnn.models.lenet5(input_shape=(32, 32, 1), dropout=0.3).get_weights()
    run, _ = train(ema=0.9999, epochs=1, out=tmp_path / "a")
    plain, _ = train(epochs=1, out=tmp_path / "b")
    far = [np.abs(a - b).max() for a, b in zip(weights(plain), initial, strict=True)]
    near = [np.abs(a - b).max() for a, b in zip(weights(run), initial, strict=True)]
    assert max(near) < 0.2 * max(far)  # one step of the six


@pytest.mark.slow
def test_checkpoints_every_so_many_minutes(tmp_path):
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_begin(self, step, logs=None):
            seen.append(sorted(path.name for path in (tmp_path / "a" / "checkpoint").glob("state-*")))

    with pytest.raises(UsageError, match="checkpoint_minutes=-1 is not allowed"):
        train(out=tmp_path / "a", checkpoint_minutes=-1)
    run, _ = train(out=tmp_path / "a", epochs=1, checkpoint_minutes=0.0, callbacks=[Look()])
    assert [names[-1] for names in seen[1:]] == [f"state-00000-{step:07d}.npz" for step in range(1, 6)]
    same_weights(run, train(out=tmp_path / "b", epochs=1)[0])


def test_files_of_weights_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.safetensors").touch()
    recipe = anchored(Recipe(model="resnet18", model_options={"weights": "own.safetensors", "skip": ["fc"]}))
    assert recipe.model_options == {"weights": str(tmp_path / "own.safetensors"), "skip": ["fc"]}
    assert (
        anchored(Recipe(model="resnet18", model_options={"weights": "imagenet"})).model_options["weights"] == "imagenet"
    )
