"""What the service computes: a unit that is switched off is a channel that is zero, on every backend.

tests/test_other_backends.py runs this file with JAX and torch, too.
"""

import asyncio
import threading

import keras
import numpy as np
import pytest
from keras import layers

from kerascnn import using
from kerascnn.pages.engine import LOOKS, WAITING, Busy, Engine, Refused

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 10, 3), "uint8")


def network(where="", units=()):
    """Three convolutions: one before normalisation, one with a shortcut around it, one on a branch of its own.

    Some channels are multiplied by 0 where the next layer reads them.
    """

    def seen(x, name):
        if name != where:
            return x
        mask = np.ones(x.shape[-1], "float32")
        mask[list(units)] = 0
        return keras.ops.multiply(x, mask)

    inputs = keras.Input((12, 10, 3))
    x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="a")(inputs)
    x = seen(layers.ReLU(name="a_relu")(layers.BatchNormalization(name="a_norm")(x)), "a")
    x = layers.MaxPooling2D(2, name="pool")(x)
    b = seen(layers.Conv2D(6, 3, padding="same", activation="relu", name="b")(x), "b")
    x = layers.Add(name="add")([x, b])
    c = seen(layers.Conv2D(4, 1, activation="tanh", name="c")(x), "c")
    x = layers.Flatten(name="flat")(layers.Concatenate(name="join")([x, c]))
    x = layers.Dense(5, activation="softmax", name="end")(layers.Dense(7, activation="relu", name="fc")(x))
    model = keras.Model(inputs, x, name="branched")
    rng = np.random.default_rng(1)
    shapes = [weight.shape for weight in model.weights]
    model.set_weights(
        [
            rng.uniform(0.1, 0.7, shape) if len(shape) == 1 else rng.normal(0, np.prod(shape[:-1]) ** -0.5, shape)
            for shape in shapes
        ]
    )
    return model


@pytest.fixture(scope="module")
def engine():
    return Engine(using.adopt(network(), preprocess="0-1"))


def answers(model):
    return keras.ops.convert_to_numpy(model(PIXELS[None] / np.float32(255), training=False))[0]


@pytest.mark.parametrize(
    ("layer", "units"), [("a", (0, 3)), ("a", range(6)), ("b", (5,)), ("b", (0, 1, 2)), ("c", (2,))]
)
def test_a_unit_that_is_off_is_a_channel_that_is_zero(engine, layer, units):
    before, after = engine.ablated(PIXELS, layer, list(units))
    np.testing.assert_allclose(before, answers(network()), atol=2e-6)
    np.testing.assert_allclose(after, answers(network(layer, units)), atol=2e-6)
    assert np.abs(after - before).max() > 1e-3


@pytest.mark.parametrize("count", [1, 3, 8])
def test_any_number_of_images_is_answered_as_the_model_answers(engine, count):
    pixels = np.random.default_rng(count).integers(0, 256, (count, 12, 10, 3), "uint8")
    expected = engine.classifier.model.predict_on_batch(pixels / np.float32(255))
    answers = engine._answers(pixels)
    assert answers.shape == (count, 5)
    np.testing.assert_allclose(answers, expected, atol=2e-6)


def test_no_unit_off_changes_nothing(engine):
    before, after = engine.ablated(PIXELS, "b", [])
    np.testing.assert_array_equal(before, after)


def test_a_unit_that_does_not_exist_is_refused(engine):
    with pytest.raises(Refused, match="Layer 'b' has no unit 6: it has 6, 0 to 5"):
        engine.ablated(PIXELS, "b", [0, 6])
    with pytest.raises(Refused, match="Unknown layer 'd'"):
        engine.ablated(PIXELS, "d", [0])


def test_only_so_many_looks_wait(engine):
    free = threading.Event()

    async def ask():
        waiting = [asyncio.ensure_future(engine.look_at(free.wait)) for _ in range(LOOKS)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await engine.look_at(free.wait)
        free.set()
        return await asyncio.gather(*waiting), await engine.look_at(int, "7")

    assert asyncio.run(ask()) == ([True] * LOOKS, 7)


def test_what_waits_while_batches_are_computed_is_one_batch(engine):
    pixels = np.random.default_rng(3).integers(0, 256, (5, 12, 10, 3), "uint8")
    free, before = threading.Event(), (engine.batches, engine.images)

    async def ask():
        for _ in range(engine.at_once):
            engine.answering.submit(free.wait)
        waiting = [asyncio.ensure_future(engine.answer(each)) for each in pixels]
        await asyncio.sleep(0)
        sizes = list(engine.computing.values()), len(engine.pending)
        free.set()
        return sizes, await asyncio.gather(*waiting)

    sizes, answers = asyncio.run(ask())
    assert sizes == ([1] * engine.at_once, 5 - engine.at_once)
    assert (engine.batches - before[0], engine.images - before[1]) == (engine.at_once + 1, 5)
    expected = engine.classifier.model.predict_on_batch(pixels / np.float32(255))
    np.testing.assert_allclose(answers, expected, atol=1e-6)


def test_one_request_may_have_more_images_than_may_wait(engine):
    pixels = np.random.default_rng(4).integers(0, 256, (WAITING + 40, 12, 10, 3), "uint8")
    answers = asyncio.run(engine.answers(list(pixels)))
    expected = engine.classifier.model.predict_on_batch(pixels / np.float32(255))
    np.testing.assert_allclose(answers, expected, atol=2e-6)


def test_a_batch_that_cannot_be_made_is_an_error_for_each_of_its_images(engine):
    async def ask():
        pixels = [PIXELS] * (engine.at_once + 1) + [PIXELS[1:]]
        waiting = asyncio.gather(*map(engine.answer, pixels), return_exceptions=True)
        return await asyncio.wait_for(waiting, 60)

    answers = asyncio.run(ask())
    assert [isinstance(each, ValueError) for each in answers] == [False] * engine.at_once + [True] * 2


def test_maps_have_the_scale_that_is_asked_for(engine):
    single = engine.maps_of(PIXELS, "b")
    assert engine.maps_of(PIXELS, "b", largest=single["largest"])["sheet"] == single["sheet"]
    double = engine.maps_of(PIXELS, "b", largest=2 * single["largest"])
    assert double["largest"] == 2 * single["largest"]
    assert double["sheet"] != single["sheet"]
