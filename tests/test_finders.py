import dataclasses
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kerascnn import cli, datasets, models
from kerascnn.errors import UsageError
from kerascnn.recipes import Recipe
from kerascnn.training.build import compile_model, ready
from kerascnn.training.finders import BELOW, batch_find, lowest, lr_find, smoothed

RECIPE = Recipe(data="digits", batch_size=32, image_size=16)


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits", image_size=16)


def test_the_rate_rises_by_one_factor_and_the_suggestion_learns(digits):
    table, suggested = lr_find(RECIPE, low=1e-5, high=10, steps=60, data=digits)
    ratios = table["rate"].to_numpy()[1:] / table["rate"].to_numpy()[:-1]
    np.testing.assert_allclose(ratios, (10 / 1e-5) ** (1 / 59), rtol=1e-6)
    assert table["loss"].iloc[0] == pytest.approx(np.log(10), rel=0.1)  # ten classes, nothing learned
    assert suggested == table["rate"][lowest(table)] / BELOW
    assert 5e-4 < suggested < 3e-2
    again, same = lr_find(RECIPE, low=1e-5, high=10, steps=60, data=digits)
    assert again.equals(table)
    assert same == suggested


def test_the_loss_is_each_step_s_own(digits):
    """At rates of nearly nothing it is that of an untrained network, however many steps it has seen."""
    table, _ = lr_find(RECIPE, low=1e-9, high=0.1, steps=60, data=digits)
    assert table["step_loss"].iloc[:20].between(2.2, 2.5).all()


def test_the_loss_where_a_pass_ends_in_a_shorter_batch(digits):
    """The losses that `train_on_batch` gives, one by one: passes are of 1,000 and 293 images."""
    recipe = RECIPE.replace(batch_size=1000, normalize="standard", steps=30, eval_every=30)
    table, _ = lr_find(recipe, low=1e-4, high=0.1, steps=30, data=digits)
    rising = keras.optimizers.schedules.ExponentialDecay(1e-4, 29, 0.1 / 1e-4)
    _, model, batches = ready(recipe, digits, "float32")
    compile_model(model, recipe, batches.total, batches.period, rising)
    expected = []
    for step in range(30):
        model.reset_metrics()
        expected.append(float(model.train_on_batch(*batches[step])[0]))
    np.testing.assert_allclose(table["step_loss"], expected, rtol=1e-4)


def test_a_line_is_smoothed_to_itself_and_a_bump_is_flattened():
    rates = np.geomspace(1e-5, 1, 80)
    line = 3 - 0.4 * np.log10(rates)
    np.testing.assert_allclose(smoothed(rates, line), line, rtol=1e-9)
    bump = np.where(np.arange(80) == 40, 1.0, 0.0)
    x = np.log10(rates)
    weights = np.exp(-0.5 * ((x - x[40]) / 0.25) ** 2)
    assert smoothed(rates, bump)[40] == pytest.approx(1 / weights.sum(), rel=1e-6)


def curve(least, *, start=2.3, fall=1.5, diverged=None, drop_at_once=0.0):
    """A made-up table of 200 steps from 1e-6 to 10: the loss falls in a valley that is deepest at the rate `least`."""
    rates = np.geomspace(1e-6, 10, 200)
    x = np.log10(rates / least)
    losses = start - drop_at_once * (np.arange(200) > 3) - fall * np.exp(-0.5 * (x / np.where(x < 0, 1.5, 0.4)) ** 2)
    losses = losses + np.random.default_rng(0).normal(0, 0.02, 200)
    if diverged is not None:
        losses = np.where((rates > diverged) & (rates < 10 * diverged), 5.0, losses)
    return pd.DataFrame({"rate": rates, "loss": smoothed(rates, losses), "step_loss": losses})


@pytest.mark.parametrize("least", [3e-5, 1e-3, 0.1])
def test_the_bottom_of_a_valley_is_found(least):
    table = curve(least)
    assert 0.5 < table["rate"][lowest(table)] / least < 2.5


@pytest.mark.parametrize("least", [1e-3, 0.01])
def test_a_steep_first_step_does_not_draw_the_suggestion_to_the_edge(least):
    table = curve(least, drop_at_once=0.7)
    assert 0.5 < table["rate"][lowest(table)] / least < 2.5


def test_what_comes_after_the_divergence_does_not_count():
    """There the network answers the same for every image, which may be a smaller loss than ever before."""
    table = curve(1e-3, fall=0.2, diverged=0.01)
    after = table["rate"] > 0.1
    table.loc[after, ["loss", "step_loss"]] = 1.0
    assert table["rate"][lowest(table)] == pytest.approx(1e-3, rel=1.0)


def test_of_a_flat_bottom_the_largest_rate_is_taken():
    rates = np.geomspace(1e-6, 10, 200)
    losses = np.interp(np.log10(rates), [-6, -4, -2, -1, 1], [2.3, 1.0, 1.0, 2.0, 2.0])
    losses -= 0.001 * (np.abs(np.log10(rates) + 3.5) < 0.2)  # a little less at 3e-4
    table = pd.DataFrame({"rate": rates, "loss": smoothed(rates, losses), "step_loss": losses})
    assert 3e-3 < table["rate"][lowest(table)] < 1.5e-2


@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_a_loss_that_never_falls_has_no_least(slope):
    rates = np.geomspace(1e-6, 10, 200)
    losses = 2.3 + slope * np.log10(rates / 1e-6) + np.random.default_rng(0).normal(0, 0.02, 200)
    assert lowest(pd.DataFrame({"rate": rates, "loss": smoothed(rates, losses), "step_loss": losses})) is None


def test_batch_sizes_are_timed_and_fit_the_data(digits):
    table, suggested = batch_find(RECIPE, sizes=(16, 64, 4096), seconds=0.05, data=digits)
    assert table["batch_size"].tolist() == [16, 64]
    assert (table["images_per_second"] > 0).all()
    assert table["memory_bytes"].is_monotonic_increasing
    fastest = table["images_per_second"].max()
    enough = table[table["images_per_second"] >= 0.95 * fastest]["batch_size"]
    assert suggested == enough.iloc[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low": 1.0, "high": 0.1}, "low=1 and high=0.1 are not a range"),
        ({"steps": 5}, "steps=5 is too few"),
        (
            {"low": 5.0, "high": 50.0, "steps": 40},
            r"The loss did not fall between 5 and .* Give low=0\.5, or steps=80\.",
        ),
        ({"low": 1e3, "high": 1e5}, r"The loss did not fall between 1000 and 10[0-9.]+\. Give low=100"),
    ],
)
def test_bad_ranges(digits, options, message):
    with pytest.raises(UsageError, match=message):
        lr_find(RECIPE, data=digits, **options)


def test_a_loss_that_is_not_a_number_from_the_first_step_on_never_fell(digits, tmp_path):
    ruined = models.lenet5((16, 16, 1), 10)
    ruined.set_weights([np.full_like(weights, np.nan) for weights in ruined.get_weights()])
    ruined.save(tmp_path / "ruined.keras")
    with pytest.raises(UsageError, match=r"The loss did not fall between 1e-06 and 1e-06\. Give low=1e-07"):
        lr_find(RECIPE.replace(start_from=str(tmp_path / "ruined.keras")), data=digits)


@pytest.mark.slow
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
    assert cli.run_command(["lr-find", "--find-steps", "9"]) == 2
    assert "--find-steps 9 is too few" in capfd.readouterr().err
    assert cli.run_command(["lr-find", "--model", "lenet6"]) == 2
    for name in ("lr-find", "batch-find"):
        assert cli.run_command([name, "--out", "curve.csv"]) == 2
        assert "--out curve.csv is not a PNG file. Type for example --out curve.png" in capfd.readouterr().err
    assert cli.run_command(["batch-find", *common, "--seconds", "0"]) == 2
    assert "--seconds 0 is not allowed: it must be above 0" in capfd.readouterr().err
    Path("mine.csv").write_text("a,b\n1,2\n")
    assert cli.run_command(["lr-find", "--out", "mine.png"]) == 2
    assert "--out mine.png would replace mine.csv" in capfd.readouterr().err
    assert Path("mine.csv").read_text() == "a,b\n1,2\n"


def test_the_network_is_the_one_that_would_be_trained(digits):
    with pytest.raises(UsageError, match="There is no run 'nowhere'"):
        lr_find(RECIPE.replace(start_from="nowhere"), steps=60, data=digits)
    with pytest.raises(UsageError, match="head"):
        lr_find(RECIPE.replace(freeze="head*"), steps=60, data=digits)


def test_batch_sizes_whatever_the_schedule(digits):
    warm = RECIPE.replace(schedule="cosine", warmup_epochs=3)
    assert batch_find(warm, sizes=(16,), seconds=0.05, data=digits)[1] == 16


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
    table, _ = batch_find(recipe, sizes=(16, 32, 64, 128), seconds=0.05, data=scarce)
    assert table["batch_size"].tolist() == [16, 32]
    with pytest.raises(MemoryError):
        batch_find(recipe, sizes=(64, 128), seconds=0.05, data=scarce)
