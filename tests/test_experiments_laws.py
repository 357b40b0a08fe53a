"""What holds for every experiment: the batch size does not matter, the model stays as it is, and one that was stopped
goes on."""

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
    "invariance": lambda model, **more: experiments.invariance(model, IMAGES, LABELS, amounts=[0, 1, 2], **more),
    "invariance_epochs": lambda model, **more: experiments.invariance_epochs(
        {0: model, 1: lambda: model}, IMAGES, LABELS, amounts=[0, 1], **more
    ),
    "correspondence": lambda model, **more: experiments.correspondence(
        model, IMAGES, PLACES, ["conv", "hidden"], repeats=2, **more
    ),
    "occlusion_trio": lambda model, **more: experiments.occlusion_trio(
        model, IMAGES[:2], LABELS[:2], IMAGES[2:], **more
    ),
    "probes": lambda model, **more: experiments.probes(model, *HALVES, ["conv", "hidden"], **more),
    "multiscale": lambda model, **more: experiments.multiscale(model, *AT_SCALES, **more),
    "generalisation": lambda model, **more: experiments.generalisation(
        model, *HALVES, counts=[4], repeats=1, steps=1, **more
    ),
    "nearest": lambda model, **more: experiments.nearest(model, IMAGES[:2], IMAGES[2:], "hidden", top=3, **more),
    "unit_ablation": lambda model, **more: experiments.unit_ablation(model, IMAGES, LABELS, **more),
    "evolution": lambda model, **more: experiments.evolution({0: model, 1: model, 2: model}, IMAGES, **more),
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
    small, whole = (CALLS[name](model, batch_size=size) for size in (5, 64))
    pandas.testing.assert_frame_equal(small.table, whole.table, rtol=1e-3, atol=1e-5)
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    assert model.to_json() == structure
    assert not model.compiled
    assert model.trainable


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_a_stopped_experiment_goes_on_and_gives_the_same(model, name, tmp_path):
    """Half of what was measured is still there: it is used as it is, and the rest is measured again."""
    whole = CALLS[name](model, keep=tmp_path)
    files = sorted(tmp_path.iterdir())
    assert len(files) >= 1
    for file in files[::2]:
        file.unlink()
    left = {file: file.stat().st_mtime_ns for file in files[1::2]}
    again = CALLS[name](model, keep=tmp_path)
    pandas.testing.assert_frame_equal(again.table, whole.table, rtol=1e-6)
    assert sorted(tmp_path.iterdir()) == files
    assert {file: file.stat().st_mtime_ns for file in left} == left
    assert again.findings == whole.findings
    again.figure()
