"""What holds for every experiment: the batch size does not matter, and the model stays as it is."""

import keras
import numpy as np
import pandas
import pytest
from keras import layers

from kerascnn import experiments

RNG = np.random.default_rng(0)
LABELS = np.arange(18) % 2
IMAGES = RNG.normal(0, 1, (18, 8, 8, 3)).astype("float32")
IMAGES[LABELS == 1, :, :, 0] += 1
PLACES = {"part": np.tile([1, 1, 4, 4], (18, 1))}
HALVES = (IMAGES[:12], LABELS[:12], IMAGES[12:], LABELS[12:])
AT_SCALES = ({8: IMAGES[:12]}, LABELS[:12], {8: IMAGES[12:]}, LABELS[12:])
CALLS = {
    "invariance": lambda model, size: experiments.invariance(model, IMAGES, LABELS, amounts=[0, 1, 2], batch_size=size),
    "correspondence": lambda model, size: experiments.correspondence(
        model, IMAGES, PLACES, ["conv", "hidden"], repeats=2, batch_size=size
    ),
    "occlusion_trio": lambda model, size: experiments.occlusion_trio(
        model, IMAGES[:2], LABELS[:2], IMAGES[2:], batch_size=size
    ),
    "probes": lambda model, size: experiments.probes(model, *HALVES, ["conv", "hidden"], batch_size=size),
    "multiscale": lambda model, size: experiments.multiscale(model, *AT_SCALES, batch_size=size),
    "generalisation": lambda model, size: experiments.generalisation(
        model, *HALVES, counts=[4], repeats=1, steps=1, batch_size=size
    ),
    "nearest": lambda model, size: experiments.nearest(model, IMAGES[:2], IMAGES[2:], "hidden", batch_size=size),
    "unit_ablation": lambda model, size: experiments.unit_ablation(model, IMAGES, LABELS, batch_size=size),
    "evolution": lambda model, size: experiments.evolution({0: model, 1: model, 2: model}, IMAGES, batch_size=size),
}


@pytest.fixture(scope="module")
def model():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    x = layers.Flatten(name="flatten")(layers.MaxPooling2D(2, name="pool")(x))
    x = layers.Dense(6, activation="tanh", name="hidden")(x)
    return keras.Model(inputs, layers.Dense(2, activation="softmax", name="scores")(x), name="small")


@pytest.mark.parametrize("name", CALLS)
def test_the_batch_size_does_not_matter_and_the_model_stays_as_it_is(model, name):
    before = [weight.copy() for weight in model.get_weights()]
    structure = model.to_json()
    small, whole = (CALLS[name](model, size) for size in (5, 64))
    pandas.testing.assert_frame_equal(small.table, whole.table, rtol=1e-3, atol=1e-5)
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    assert model.to_json() == structure
    assert not model.compiled
    assert model.trainable
