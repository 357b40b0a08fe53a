import dataclasses
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kerascnn import cli, datasets
from kerascnn.errors import UsageError
from kerascnn.recipes import Recipe
from kerascnn.training.build import compile_model, ready
from kerascnn.training.finders import batch_sizes, learning_rates

RECIPE = Recipe(data="digits", batch_size=32, image_size=16)


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits", image_size=16)


def test_the_rate_rises_by_one_factor_and_the_suggestion_learns(digits):
    table, suggested = learning_rates(RECIPE, low=1e-5, high=10, steps=60, data=digits)
    ratios = table["rate"].to_numpy()[1:] / table["rate"].to_numpy()[:-1]
    np.testing.assert_allclose(ratios, (10 / 1e-5) ** (1 / 59), rtol=1e-6)
    assert table["loss"].iloc[0] == pytest.approx(np.log(10), rel=0.1)  # ten classes, nothing learned
    assert 1e-4 < suggested < 0.1
    assert suggested <= table["rate"][table["loss"].idxmin()] / 10 * 1.0001
    again, same = learning_rates(RECIPE, low=1e-5, high=10, steps=60, data=digits)
    assert again.equals(table)
    assert same == suggested


def test_the_loss_is_each_step_s_own(digits):
    """At rates of nearly nothing the moving average is that of an untrained network, however many steps it has seen."""
    table, _ = learning_rates(RECIPE, low=1e-9, high=0.1, steps=60, data=digits)
    assert table["loss"].iloc[:20].between(2.2, 2.5).all()


def test_the_loss_where_a_pass_ends_in_a_shorter_batch(digits):
    """The moving average of the losses that `train_on_batch` gives, one by one: passes are of 1,000 and 293 images."""
    recipe = RECIPE.replace(batch_size=1000, normalize="standard", steps=30, eval_every=30)
    table, _ = learning_rates(recipe, low=1e-4, high=0.1, steps=30, data=digits)
    rising = keras.optimizers.schedules.ExponentialDecay(1e-4, 29, 0.1 / 1e-4)
    _, model, batches = ready(recipe, digits, "float32")
    compile_model(model, recipe, batches.total, batches.period, rising)
    mean, expected = 0.0, []
    for step in range(30):
        model.reset_metrics()
        mean = 0.95 * mean + 0.05 * float(model.train_on_batch(*batches[step])[0])
        expected.append(mean / (1 - 0.95 ** (step + 1)))
    np.testing.assert_allclose(table["loss"], expected, rtol=1e-4)


def test_batch_sizes_are_timed_and_fit_the_data(digits):
    table, suggested = batch_sizes(RECIPE, sizes=(16, 64, 4096), seconds=0.05, data=digits)
    assert table["batch_size"].tolist() == [16, 64]
    assert (table["images_per_second"] > 0).all()
    assert table["memory_bytes"].is_monotonic_increasing
    fastest = table["images_per_second"].max()
    enough = table[table["images_per_second"] >= 0.95 * fastest]["batch_size"]
    assert suggested == enough.iloc[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low": 1.0, "high": 0.1}, "low=1 and high=0.1 are no range"),
        ({"steps": 5}, "steps=5 is too few"),
        ({"low": 5.0, "high": 50.0, "steps": 40}, "The loss did not fall between 5 and"),
    ],
)
def test_bad_ranges(digits, options, message):
    with pytest.raises(UsageError, match=message):
        learning_rates(RECIPE, data=digits, **options)


def test_both_commands(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    common = ["--image-size", "16", "--batch-size", "32"]
    assert cli.run_command(["lr-find", *common, "--find-steps", "60", "--low", "1e-5"]) == 0
    assert cli.run_command(["batch-find", *common, "--seconds", "0.05"]) == 0
    out = capfd.readouterr().out
    assert "--learning-rate 0.0" in out
    assert "--batch-size" in out
    for name in ("lr-find", "batch-find"):
        with Image.open(f"{name}.png") as figure:
            assert figure.width > 500
        assert len(pd.read_csv(f"{name}.csv")) > 3
    assert cli.run_command(["lr-find", "--model", "lenet6"]) == 2
    for name in ("lr-find", "batch-find"):
        assert cli.run_command([name, "--out", "curve.csv"]) == 2
        assert "--out curve.csv is no PNG file. Type for example --out curve.png" in capfd.readouterr().err
    assert cli.run_command(["batch-find", *common, "--seconds", "0"]) == 2
    assert "seconds=0 is not allowed: it must be above 0" in capfd.readouterr().err
    Path("mine.csv").write_text("a,b\n1,2\n")
    assert cli.run_command(["lr-find", "--out", "mine.png"]) == 2
    assert "--out mine.png would replace mine.csv" in capfd.readouterr().err
    assert Path("mine.csv").read_text() == "a,b\n1,2\n"


def test_the_network_is_the_one_that_would_be_trained(digits):
    with pytest.raises(UsageError, match="There is no run 'nowhere'"):
        learning_rates(RECIPE.replace(start_from="nowhere"), steps=60, data=digits)
    with pytest.raises(UsageError, match="head"):
        learning_rates(RECIPE.replace(freeze="head*"), steps=60, data=digits)


def test_batch_sizes_whatever_the_schedule(digits):
    warm = RECIPE.replace(schedule="cosine", warmup_epochs=3)
    assert batch_sizes(warm, sizes=(16,), seconds=0.05, data=digits)[1] == 16


class TooManyAtOnce:
    """Images that cannot be held more than 32 at a time."""

    def __init__(self, images):
        self.images, self.shape = images, images.shape

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        if len(index) > 32:
            np.empty(2**58)
        return self.images[index]


def test_batch_sizes_up_to_the_first_that_does_not_fit(digits):
    train = datasets.image_data.Split(TooManyAtOnce(digits.train.images), digits.train.labels)
    scarce = dataclasses.replace(digits, train=train)
    recipe = RECIPE.replace(normalize="none")
    table, _ = batch_sizes(recipe, sizes=(16, 32, 64, 128), seconds=0.05, data=scarce)
    assert table["batch_size"].tolist() == [16, 32]
    with pytest.raises(MemoryError):
        batch_sizes(recipe, sizes=(64, 128), seconds=0.05, data=scarce)
