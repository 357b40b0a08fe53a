import numpy as np
import pytest

import kerascnn
from kerascnn.errors import UsageError
from kerascnn.recipes import Recipe
from kerascnn.training import minutes
from kerascnn.training.minutes import length
from kerascnn.training.reading import load_data


@pytest.mark.parametrize(
    ("recipe", "seconds", "expected"),
    [
        # A pass has 10 steps of 1/8 s, an evaluation takes 1 s: an epoch 2.25 s
        ({"epochs": 20}, 25, {"epochs": 11}),
        ({"epochs": 20, "warmup_epochs": 2, "schedule": "cosine"}, 25, {"epochs": 11, "warmup_epochs": 1.1}),
        ({"epochs": 20, "warmup_epochs": 2, "schedule": "cosine"}, 1.5, {"steps": 4, "warmup_epochs": 0.04}),
        # Two epochs and, before a third evaluation, 3 more steps
        ({"epochs": 20}, 5.9, {"steps": 23}),
        ({"epochs": 20}, 5.5, {"epochs": 2}),
        ({"epochs": 20}, 10.5, {"epochs": 4}),
        # 5 steps and an evaluation take 1.625 s
        ({"epochs": 50, "eval_every": 5}, 25, {"epochs": 15}),
        ({"steps": 100, "eval_every": 5}, 13, {"steps": 40}),
        ({"epochs": 50}, 10**6, {"epochs": 200}),
        ({"epochs": 50, "eval_every": 5}, 10**6, {"epochs": 400}),
        ({"steps": 100}, 10**6, {"steps": 2000}),
    ],
)
def test_the_length_that_fits_by_pencil(recipe, seconds, expected):
    recipe = Recipe(**recipe)
    fitting = length(recipe, 10, 1 / 8, 1.0, seconds)
    assert fitting == recipe.replace(**expected)


def test_less_than_two_steps_do_not_fit():
    assert length(Recipe(), 10, 1 / 8, 1.0, 1.2) is None
    assert length(Recipe(), 10, 1 / 8, 1.0, -3) is None


@pytest.mark.slow
def test_timing_changes_nothing_but_the_length(tmp_path, monkeypatch):
    """The weights are bit for bit those of a run whose epochs are typed."""
    monkeypatch.setattr(minutes, "MOST_EPOCHS", 1)
    monkeypatch.setattr(minutes, "STEPS_IN_ALL", 1)
    options = {"data": "digits", "model": "lenet5", "batch_size": 256, "dropout": 0.3, "augment": ("crop",)}
    said = []
    timed = kerascnn.train(minutes=10, out=tmp_path / "a", say=said.append, **options)
    typed = kerascnn.train(epochs=1, out=tmp_path / "b", say=said.append, **options)
    assert timed.read("recipe") == typed.read("recipe")
    for a, b in zip(*(kerascnn.load(run).get_weights() for run in (timed, typed)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any("ms here: 1 epoch, which take" in line for line in said)


@pytest.mark.parametrize(("enough", "side", "lines"), [(1, 64, 0), (2, 32, 1)])
def test_images_become_smaller_where_few_epochs_fit(enough, side, lines, make_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(minutes, "MOST_EPOCHS", 1)
    monkeypatch.setattr(minutes, "STEPS_IN_ALL", 1)
    monkeypatch.setattr(minutes, "ENOUGH", enough)
    folder, said = make_folder({"a": 12, "b": 12}, size=(64, 64)), []
    options = {"model": "lenet5", "batch_size": 8, "image_size": 64, "say": said.append}
    run = kerascnn.train(data=str(folder), out=tmp_path / "a", minutes=5, smaller=32, **options)
    assert run.read("recipe")["image_size"] == side
    assert kerascnn.load(run).input_shape == (None, side, side, 3)
    told = [line for line in said if line.endswith("epochs at 64x64 fit into minutes=5: 32x32 instead")]
    assert len(told) == lines
    assert sum("ms here" in line for line in said) == 1


def test_passes_over_the_images_by_pencil():
    assert minutes._passes(Recipe(epochs=7), 100) == 7
    assert minutes._passes(Recipe(epochs=7, eval_every=5, batch_size=10), 100) == 3.5
    assert minutes._passes(Recipe(steps=20, batch_size=10), 100) == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"smaller": 32}, "smaller=32 has nothing to act on without minutes"),
        ({"minutes": 0}, "minutes=0 is not allowed: it must be above 0"),
        ({"minutes": 3, "epochs": 2}, "minutes=3 and epochs=2 cannot both be given"),
        ({"minutes": 3, "resume": "last"}, r"minutes=3 is for new runs: .* Leave minutes=3 out\."),
        ({"minutes": 1e-3}, r"minutes=0.001 is not enough: .* Give minutes=[\d.]+ or more"),
    ],
)
def test_minutes_that_cannot_be(fields, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "saved_models").mkdir()
    if fields.get("resume"):
        (tmp_path / "saved_models" / "a").mkdir()
        (tmp_path / "saved_models" / "a" / "recipe.json").write_text("{}")
    with pytest.raises(UsageError, match=message):
        kerascnn.train(data="digits", model="lenet5", batch_size=256, say=lambda line: None, **fields)
    assert not list((tmp_path / "saved_models").glob("*digits*"))


def test_few_images_are_passed_over_more_often():
    """One step a pass: 250 epochs, as without a limit of time."""
    recipe = Recipe(epochs=250, batch_size=16)
    assert minutes.length(recipe, 1, 0.001, 0, 600).epochs == 250
    assert minutes.length(recipe, 10, 0.001, 0, 600).epochs == 200


def test_what_takes_far_too_long_is_timed_no_further():
    recipe = Recipe(data="digits", batch_size=256)
    given = recipe, load_data(recipe), "float32", 1
    assert minutes._measured(*given, 1e-6, 8) is None
    assert len(minutes._measured(*given, 1e-6, 0)) == 3
