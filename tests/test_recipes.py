import dataclasses
import inspect
import json

import numpy as np
import pytest

from kerascnn.datasets import DATASETS
from kerascnn.errors import DataError, UsageError
from kerascnn.models import MODELS
from kerascnn.recipes import FIELDS, RECIPES, Recipe, read_config
from kerascnn.training.build import TRAINED_BY


@pytest.mark.parametrize("name", RECIPES.names())
def test_a_named_recipe_is_a_recipe_for_a_model_and_data_that_exist(name):
    recipe = RECIPES.get(name)()
    assert isinstance(recipe, Recipe)
    assert recipe.model in MODELS
    assert recipe.data in DATASETS
    assert RECIPES.get(name).__doc__
    assert set(recipe.model_options) <= set(inspect.signature(MODELS.get(recipe.model)).parameters) - set(TRAINED_BY)


@pytest.mark.parametrize("name", [name for name in RECIPES.names() if "source" in RECIPES.facts(name)])
def test_what_a_source_does_not_print_is_marked_as_ours(name):
    recipe, chosen = RECIPES.get(name)(), RECIPES.facts(name)["chosen"]
    arguments = inspect.signature(MODELS.get(recipe.model)).parameters
    assert all(setting in FIELDS or setting in arguments for setting in chosen)


def test_every_field_says_what_it_is():
    assert [name for name, spec in FIELDS.items() if not spec.metadata["doc"]] == []


def test_a_recipe_survives_json():
    recipe = Recipe(augment=("flip",), model_options={"variant": "1998"}, dropout=0.5, image_size=28)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    recipe = Recipe(model_options={"kernel_size": (5, 3), "widths": {"conv1": np.float64(8)}})
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert recipe.differences(recipe.replace(epochs=3, seed=7)) == ["epochs", "seed"]


def test_a_recipe_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().epochs = 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": 3}, r"Unknown recipe field 'epoch'\. Did you mean 'epochs'"),
        ({"epochs": 0}, r"epochs=0 is out of range: it must be at least 1 \(passes .*\)\.$"),
        ({"epochs": 2.5}, r"epochs=2.5 is not allowed: it must be a whole number"),
        ({"epochs": True}, r"epochs=True is not allowed: it must be a whole number"),
        ({"learning_rate": -1}, r"learning_rate=-1.0 is out of range: it must be from 1e-10 to 1000"),
        ({"learning_rate": float("nan")}, "learning_rate=nan is not allowed: it must be a finite number"),
        ({"weight_decay": float("inf")}, "weight_decay=inf is not allowed: it must be a finite number"),
        ({"seed": 2**32}, "seed=4294967296 is out of range"),
        ({"learning_rate": "fast"}, r"learning_rate='fast' is not allowed: it must be a number"),
        ({"dropout": 1.0}, r"dropout=1.0 is out of range: it must be from 0 to 0.99"),
        ({"optimizer": "adm"}, r"optimizer='adm' is not allowed. Allowed: adam, .* Did you mean 'adam'\?$"),
        ({"augment": ("flop",)}, r"augment='flop' is not allowed.*Did you mean 'flip'"),
        ({"augment": "flip"}, r"augment='flip' is not allowed: it must be a list of words"),
        ({"channels": 2}, r"channels=2 is not allowed. Allowed: None, 1, 3"),
        ({"model_options": {"skip": {"fc"}}}, r"model_options=\{'skip': \{'fc'\}\} is not allowed: JSON must be able"),
        ({"model_options": {"scale": float("nan")}}, r"model_options=\{'scale': nan\} is not allowed: JSON"),
        ({"batch_norm": 1}, r"batch_norm=1 is not allowed: it must be true or false"),
        ({"model": None}, r"model=None is not allowed: it must be text"),
        ({"augment": ("crop", "flip", "translate")}, r"augment has both crop and translate"),
        ({"test_views": "ten", "test_shift": True}, "test_views='ten' and test_shift=True cannot both be given"),
        (
            {"schedule": "cosine", "rate_patience": 3},
            r"rate_patience=3 needs the constant schedule, not 'cosine': .* Give schedule='constant', or",
        ),
    ],
)
def test_what_is_not_allowed_is_named(change, message):
    with pytest.raises(UsageError, match=message):
        Recipe().replace(**change)


def test_whole_numbers_are_taken_as_numbers_and_lists_as_tuples():
    recipe = Recipe(learning_rate=1, augment=["flip", "crop"])
    assert isinstance(recipe.learning_rate, float)
    assert recipe.augment == ("flip", "crop")


def test_config_files(tmp_path):
    toml = tmp_path / "a.toml"
    toml.write_text('epochs = 3\nlearning-rate = 0.01\naugment = ["flip"]\n[model_options]\nvariant = "1998"\n')
    recipe = Recipe().replace(**read_config(toml))
    assert (recipe.epochs, recipe.learning_rate, recipe.augment) == (3, 0.01, ("flip",))
    assert recipe.model_options == {"variant": "1998"}
    written = tmp_path / "recipe.json"
    written.write_text(json.dumps(recipe.to_dict()))
    assert Recipe().replace(**read_config(written)) == recipe


def test_a_config_with_a_wrong_field_a_broken_one_and_none(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("learning_rat = 3\n")
    with pytest.raises(UsageError, match=r"a.toml: 'learning_rat'\. Did you mean 'learning_rate'"):
        read_config(path)
    path.write_text("epochs = \n")
    with pytest.raises(DataError, match=r"a.toml is not valid TOML: .*line 1"):
        read_config(path)
    with pytest.raises(UsageError, match=r"no config file .*b.toml"):
        read_config(tmp_path / "b.toml")
