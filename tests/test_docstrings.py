"""The examples in the docstrings of explanation methods and of looks during training run as they stand."""

import inspect
import textwrap

import keras
import numpy as np
import pytest
from keras import layers

import kerascnn
from kerascnn.callbacks import watching
from kerascnn.explain import EXPLANATIONS

METHODS = [EXPLANATIONS.get(name) for name in EXPLANATIONS.names()]
LOOKS = [
    thing
    for thing in (getattr(kerascnn.callbacks, name) for name in dir(kerascnn.callbacks))
    if inspect.isclass(thing) and issubclass(thing, watching.Watch) and thing is not watching.Watch
]


@pytest.mark.filterwarnings("ignore::kerascnn.explain.caveats.EmptyMap")  # of random weights
@pytest.mark.parametrize("thing", [*METHODS, *LOOKS], ids=lambda thing: thing.__name__)
def test_the_example_runs(thing, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    x = inputs
    for number in (1, 2):
        x = layers.MaxPooling2D(2)(layers.Conv2D(6, 3, padding="same", activation="relu", name=f"conv{number}")(x))
    model = keras.Model(inputs, layers.Dense(4, activation="softmax", name="scores")(layers.Flatten()(x)))
    model.compile("adam", "sparse_categorical_crossentropy")
    images, labels = np.random.default_rng(0).uniform(size=(8, 16, 16, 3)).astype("float32"), np.arange(8) % 4
    code = inspect.getdoc(thing).partition("Example:\n")[2]
    known = {"kerascnn": kerascnn, "model": model, "images": images, "labels": labels}
    exec(compile(textwrap.dedent(code), thing.__name__, "exec"), known)
    if thing in METHODS:
        assert known["maps"].shape[:3] == images.shape[:3]
    else:
        assert len(LOOKS) >= 6
        assert list((tmp_path / "watch").rglob("*.png"))
