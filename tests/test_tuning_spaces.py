"""Search spaces: ours, a user's Python file, a TOML file; and what is wrong with them, in words."""

import numpy as np
import pytest

from kerascnn.errors import DataError, UsageError
from kerascnn.recipes import Recipe
from tuning import SEARCHES, hypermodels, searching, spaces

keras_tuner = pytest.importorskip("keras_tuner")


def toml(tmp_path, text):
    path = tmp_path / "space.toml"
    path.write_text(text)
    return spaces.load(str(path))


def code(tmp_path, text):
    path = tmp_path / "space.py"
    path.write_text(text)
    return spaces.load(str(path))


def corners(hp):
    """Values of HyperParameters with each at its least and at its largest, and each choice once."""
    for one in hp.space:
        ends = list(one.values) if type(one).__name__ in ("Choice", "Boolean") else [one.min_value, one.max_value]
        for end in ends:
            yield hp.values | {one.name: end}


@pytest.mark.parametrize("name", SEARCHES.names())
def test_the_corners_of_a_space_are_recipes(name):
    space = spaces.load(name)
    hps = spaces.hyperparameters(space)
    recipes = [spaces.recipe_of(space, values) for values in corners(hps)]
    assert all(isinstance(recipe, Recipe) for recipe in recipes)
    assert len({repr(recipe) for recipe in recipes}) > len(hps.space)


def test_the_space_of_the_report_holds_its_best_settings():
    hp = spaces.hyperparameters(spaces.load("cifar_net"))
    defaults = spaces.recipe_of(spaces.load("cifar_net"), hp.values)
    assert (defaults.rate_patience, defaults.dropout, defaults.learning_rate) == (5, 0.5, 0.001)
    ranges = spaces.described(hp)
    assert (ranges["rate_patience"]["low"], ranges["rate_patience"]["high"]) == (2, 10)
    assert (ranges["dropout"]["low"], ranges["dropout"]["high"]) == (0.0, 0.7)
    rate = ranges["learning_rate"]
    assert (rate["low"], rate["high"], rate["log"]) == (1e-5, 1e-1, True)


def test_a_toml_space(tmp_path):
    space = toml(
        tmp_path,
        """
        model = "lenet5"
        batch_size = 32
        [search.learning_rate]
        low = 1e-4
        high = 1e-1
        log = true
        [search.rate_patience]
        low = 2
        high = 10
        step = 4
        [search.batch_norm]
        values = [true, false]
        [search.augment]
        values = [["flip"], ["flip", "crop"], []]
        [search."model_options.variant"]
        values = ["modern", "1998"]
        """,
    )
    hp = spaces.hyperparameters(space)
    ranges = spaces.described(hp)
    assert list(ranges) == ["learning_rate", "rate_patience", "batch_norm", "augment", "model_options.variant"]
    assert ranges["learning_rate"] == {
        "kind": "float",
        "low": 1e-4,
        "high": 0.1,
        "log": True,
        "step": None,
        "values": [],
    }
    assert list(next(one for one in hp.space if one.name == "rate_patience").values) == [2, 6, 10]
    values = {
        "learning_rate": 0.01,
        "rate_patience": 6,
        "batch_norm": False,
        "augment": "flip crop",
        "model_options.variant": "1998",
    }
    recipe = spaces.recipe_of(space, values)
    assert recipe == Recipe(
        model="lenet5",
        batch_size=32,
        learning_rate=0.01,
        rate_patience=6,
        batch_norm=False,
        augment=("flip", "crop"),
        model_options={"variant": "1998"},
    )
    assert spaces.recipe_of(space, values | {"batch_norm": True}).batch_norm is True
    assert spaces.recipe_of(space, values | {"augment": ""}).augment == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch_size = 3", "searches nothing"),
        ("epochs = 3\n[search.dropout]\nlow = 0.0\nhigh = 0.5", "Give it to the search: epochs=VALUE"),
        ("[search.learning_rat]\nlow = 1\nhigh = 2", "Did you mean 'learning_rate'"),
        ("modle = 'x'\n[search.dropout]\nlow = 0\nhigh = 1", "Did you mean 'model'"),
        ("[search.dropout]\nlow = 0.5\nhigh = 0.1", "is empty: low = 0.5 must be below high = 0.1"),
        ("[search.dropout]\nlow = 0.1\nhigh = 0.1", "is empty"),
        ("[search.dropout]\nlow = 0.1", "needs low and high, or values"),
        ("[search.dropout]\nvalues = []", "list of one value or more"),
        ("[search.batch_norm]\nvalues = [false]", "which leaves nothing to choose"),
        ("[search.'dropout.x']\nvalues = [0.5]", "Unknown recipe field"),
        ("steps = 100\n[search.dropout]\nvalues = [0.5]", "Give it to the search: epochs=VALUE"),
        ("[search.dropout]\nlow = 'a'\nhigh = 'b'", "both must be numbers"),
        ("[search.dropout]\nlow = 0.1\nhigh = 5.0", "dropout=5.0 is out of range"),
        ("[search.dropout]\nlow = 0.0\nhigh = 0.5\nlog = true", "low = 0.0 must be above 0"),
        ("[search.dropout]\nlow = 0.0\nhigh = 0.5\nmax = 1", "Unknown word"),
        ("[search.dropout]\nlow = 0.0\nhigh = 0.5\nstep = -0.1", "step = -0.1: it must be a number above 0"),
        ("[search.dropout]\nlow = 0.0\nhigh = 0.5\nlog = 'no'", "must be true or false"),
        ("[search.dropout]\nlow = 0.0\nvalues = [0.5]", "so low cannot stand there"),
        ("search = [1]", "searches nothing"),
        ("[search]\ndropout = 0.5", "must be a table"),
        ("[search.optimizer]\nvalues = ['adam', 'adamm']", "Did you mean 'adam'"),
        ("[search.learning_rate]\nlow = 0.001\nhigh = 0.1\ndefault = 7.0", "default = 7.0"),
    ],
)
def test_what_is_wrong_with_a_toml_space(tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        toml(tmp_path, text)


def test_a_file_that_is_no_toml(tmp_path):
    with pytest.raises(DataError, match=r"space\.toml is not valid TOML"):
        toml(tmp_path, "[search")


def test_a_python_space_and_a_question_under_a_choice(tmp_path):
    space = code(
        tmp_path,
        """
from kerascnn import Recipe

def mine(hp):
    optimizer = hp.Choice("optimizer", ["adam", "sgd"])
    momentum = hp.Float("momentum", 0.0, 0.9) if optimizer == "sgd" else 0.9
    return Recipe(optimizer=optimizer, momentum=momentum)
""",
    )
    assert list(spaces.described(spaces.hyperparameters(space))) == ["optimizer", "momentum"]
    assert spaces.recipe_of(space, {"optimizer": "sgd", "momentum": 0.5}).momentum == 0.5


def test_a_conditional_scope_of_keras_tuner():
    def space(hp):
        optimizer = hp.Choice("optimizer", ["adam", "sgd"])
        with hp.conditional_scope("optimizer", ["sgd"]):
            momentum = hp.Float("momentum", 0.5, 0.99)
        return Recipe(optimizer=optimizer, momentum=momentum if optimizer == "sgd" else 0.9)

    hps = spaces.hyperparameters(space)
    assert [hp.name for hp in hps.space] == ["optimizer", "momentum"]
    assert spaces.recipe_of(space, {"optimizer": "adam"}).momentum == 0.9
    assert spaces.recipe_of(space, {"optimizer": "sgd", "momentum": 0.7}).momentum == 0.7
    assert spaces.searched_fields(space, hps) == {"optimizer": "optimizer", "momentum": "optimizer"}


def test_the_fields_that_a_space_searches():
    space = spaces.load("recurrent")
    expected = {"model": "cell", "model_options": "hidden_units"}
    expected |= {"learning_rate": "learning_rate", "batch_size": "batch_size"}
    assert spaces.searched_fields(space, spaces.hyperparameters(space)) == expected


def test_a_field_that_is_searched_under_one_choice_alone():
    def space(hp):
        optimizer = hp.Choice("optimizer", ["adam", "sgd"])
        momentum = hp.Float("momentum", 0.0, 0.9, default=0.9) if optimizer == "sgd" else 0.9
        return Recipe(optimizer=optimizer, momentum=momentum)

    searched = spaces.searched_fields(space, spaces.hyperparameters(space))
    assert searched == {"optimizer": "optimizer", "momentum": "momentum"}


def test_questions_that_lead_to_questions(tmp_path):
    def space(hp):
        for number in range(hp.Int("layers", 1, 3)):
            hp.Int(f"units_{number}", 10, 100)
        if hp.Choice("optimizer", ["adam", "sgd"]) == "sgd" and hp.Boolean("heavy"):
            hp.Float("momentum", 0.5, 0.99)
        return Recipe()

    names = set(spaces.described(spaces.hyperparameters(space)))
    assert names == {"layers", "units_0", "units_1", "units_2", "optimizer", "heavy", "momentum"}
    with pytest.raises(UsageError, match="asks for units_0, units_1, optimizer only here"):
        spaces.recipe_of(space, {"layers": 2})


def test_a_range_of_whole_numbers_for_a_field_of_fractions_is_a_range_of_fractions(tmp_path):
    space = toml(tmp_path, "[search.weight_decay]\nlow = 0\nhigh = 1")
    assert spaces.described(spaces.hyperparameters(space))["weight_decay"]["kind"] == "float"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("def a(hp): pass\ndef b(hp): pass", UsageError, "it has: a, b"),
        ("x = 1", UsageError, "it has: none"),
        ("1 / 0", DataError, "cannot be run: ZeroDivisionError"),
        ("import sys; sys.exit(3)", DataError, "cannot be run: SystemExit"),
    ],
)
def test_what_is_wrong_with_a_python_file(tmp_path, text, error, message):
    with pytest.raises(error, match=message):
        code(tmp_path, text)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda hp: 1 / hp.Int("a", 0, 2), "The space fails: ZeroDivisionError"),
        (lambda hp: hp.Int("a", 0, 2), "returns int"),
        (lambda hp: Recipe(), "asks for nothing"),
        (lambda hp: Recipe(dropout=hp.Float("dropout", 0.1, 0.1)), "range of dropout is empty"),
        (lambda hp: Recipe(batch_size=hp.Int("batch_size", 64, 32)), "range of batch_size is empty|batch_size"),
        (lambda hp: Recipe(dropout=hp.Float("dropout", 2.0, 3.0)), "dropout=2.0 is out of range"),
    ],
)
def test_what_is_wrong_with_a_function(function, message):
    with pytest.raises(UsageError, match=message):
        spaces.hyperparameters(function)


BUILD = """
import keras, keras_tuner

def head(hp, x):
    return keras.layers.Dense(10)(x)

def build_model(hp):
    model = keras.Sequential([keras.Input((4, 4, 1))])
    for number in range(hp.Int("layers", 1, 3)):
        FAILS
        model.add(keras.layers.Conv2D(hp.Choice(f"filters_{number}", [2, 4]), 3, padding="same"))
    model.add(keras.layers.Flatten())
    model.add(keras.layers.Dense(10, "softmax"))
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model
"""
FAILS = {
    "never": "pass",
    "FailedTrialError": "if number == 2: raise keras_tuner.errors.FailedTrialError('too deep')",
    "a shape error": "if number == 2: model.add(keras.layers.Conv2D(2, 9))",
    "with the default": "if hp.get('layers') == 1: raise ValueError('too flat')",
}


@pytest.mark.parametrize("form", ["function", "class", "object"])
@pytest.mark.parametrize("fails", FAILS)
def test_what_keras_tuner_builds_may_fail_for_some_values(tmp_path, fails, form):
    text = BUILD.replace("FAILS", FAILS[fails])
    if form != "function":
        text += "class Mine(keras_tuner.HyperModel):\n    def build(self, hp):\n        return build_model(hp)\n"
    if form == "object":
        text += "mine = Mine()\n"
    space = code(tmp_path, text)
    names = list(spaces.described(spaces.hyperparameters(space)))
    assert names[:2] == ["layers", "filters_0"]
    assert spaces.recipe_of(space, {"layers": 3}) == Recipe()  # what fails does so where it is trained
    assert space.hypermodel.build(keras_tuner.HyperParameters()) if fails != "with the default" else True
    settings = {"epochs": 1, "seed": 0, "objective": "val_accuracy"}
    described = searching._described(str(tmp_path / "space.py"), space, "digits", settings, {})
    assert list(described["hyperparameters"]) == names


def test_what_always_fails_says_why(tmp_path):
    space = code(tmp_path, BUILD.replace("FAILS", "raise ValueError('never')"))
    with pytest.raises(UsageError, match="The space fails: ValueError: never"):
        spaces.hyperparameters(space)
    space = code(tmp_path, "def build_model(hp):\n    hp.Int('a', 1, 2)\n    raise ValueError('never')")
    with pytest.raises(UsageError, match="The space fails: ValueError: never"):
        spaces.hyperparameters(space)
    text = "import keras_tuner\nclass Mine(keras_tuner.HyperModel):\n    def __init__(self, classes): pass"
    with pytest.raises(UsageError, match=r"Mine cannot be made without arguments .*Make one in the file: model = Mine"):
        code(tmp_path, text)
    with pytest.raises(UsageError, match="HyperModel is taken from a Python file"):
        spaces.load(keras_tuner.HyperModel())


def test_a_space_of_recipes_may_refuse_a_value():
    def space(hp):
        if hp.Choice("model", ["lenet5", "cifar_net"]) == "cifar_net":
            raise keras_tuner.errors.FailedTrialError("too large")
        return Recipe(dropout=hp.Float("dropout", 0.1, 0.5))

    hps = spaces.hyperparameters(space)
    assert list(spaces.described(hps)) == ["model", "dropout"]
    assert spaces.searched_fields(space, hps) == {"dropout": "dropout"}


def test_labels_are_one_hot_where_the_loss_wants_them():
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    labels = np.array([2, 0])
    for loss in ("categorical_crossentropy", keras.losses.CategoricalCrossentropy(from_logits=True)):
        model.compile("adam", loss)
        np.testing.assert_array_equal(hypermodels._labels(model, labels, 3), [[0, 0, 1], [1, 0, 0]])
    model.compile("adam", "sparse_categorical_crossentropy")
    np.testing.assert_array_equal(hypermodels._labels(model, labels, 3), labels)


def test_an_unknown_search_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'cifar_net'"):
        spaces.load("cifarnet")
    with pytest.raises(UsageError, match=r"There is no file mine\.toml"):
        spaces.load("mine.toml")
