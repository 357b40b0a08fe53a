"""Steps of Muon against float64 NumPy, and what orthogonal steps mean."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from kerascnn.training.muon import Muon

RATE, DECAY, MOMENTUM = 0.02, 0.5, 0.8


def network():
    """A convolution of more weights a filter than filters, one of less, and a head; 8x8 images of two channels."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(5, 3, activation="relu", name="tall")(inputs)
    x = layers.Conv2D(9, 1, activation="relu", name="wide")(x)
    return keras.Model(inputs, layers.Dense(3, name="head")(layers.Flatten()(x)))


def steps(model, gradients, **options):
    """Let Muon follow gradients, a list of arrays for each step; returns the variables after each."""
    optimizer = Muon(
        RATE,
        weight_decay=DECAY,
        adam_weight_decay=DECAY,
        momentum=MOMENTUM,
        exclude_layers=["head"],
        **options,
    )
    after = []
    for arrays in gradients:
        optimizer.apply([ops.convert_to_tensor(a.astype("float32")) for a in arrays], model.trainable_variables)
        after.append([ops.convert_to_numpy(v).astype("float64") for v in model.trainable_variables])
    return after


def random_gradients(model, count):
    rng = np.random.default_rng(0)
    return [[rng.normal(size=v.shape) for v in model.trainable_variables] for _ in range(count)]


def muon_by_numpy(weights, gradients, ns_steps):
    """Jordan et al. 2024 in float64, the step's length after Liu et al. 2025 (arXiv:2502.16982), decay decoupled."""
    momentum = 0
    for gradient in gradients:
        momentum = MOMENTUM * momentum + gradient
        x = (gradient + MOMENTUM * momentum).reshape(-1, gradient.shape[-1])
        x /= np.sqrt((x**2).sum())
        for _ in range(ns_steps):
            square = x @ x.T
            x = 3.4445 * x - 4.775 * square @ x + 2.0315 * square @ square @ x
        step = 0.2 * np.sqrt(max(x.shape)) * x.reshape(gradient.shape)
        weights = weights * (1 - RATE * DECAY) - RATE * step
    return weights


def adamw_by_numpy(weights, gradients):
    mean = square = 0
    for t, gradient in enumerate(gradients, 1):
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        step = mean / (1 - 0.9**t) / (np.sqrt(square / (1 - 0.999**t)) + 1e-7)
        weights = weights * (1 - RATE * DECAY) - RATE * step
    return weights


@pytest.mark.parametrize("ns_steps", [3, 5])
def test_three_steps_by_numpy(ns_steps):
    """Kernels of convolutions are orthogonalised as matrices; biases and the head follow AdamW."""
    model = network()
    before = [ops.convert_to_numpy(v).astype("float64") for v in model.trainable_variables]
    gradients = random_gradients(model, 3)
    after = steps(model, gradients, ns_steps=ns_steps)[-1]
    names = [v.path.split("/")[-2:] for v in model.trainable_variables]
    for number, name in enumerate(names):
        own = [arrays[number] for arrays in gradients]
        hidden_kernel = name[0] != "head" and name[1] == "kernel"
        expected = (
            muon_by_numpy(before[number], own, ns_steps) if hidden_kernel else adamw_by_numpy(before[number], own)
        )
        np.testing.assert_allclose(after[number], expected, rtol=1e-4, atol=2e-4, err_msg="/".join(name))


@pytest.mark.parametrize(("product_dtype", "off"), [("float32", 1e-5), ("bfloat16", 0.05)])
def test_a_step_turns_with_the_gradient_and_does_not_grow_with_it(product_dtype, off):
    """The nearest orthogonal matrix of c R G is R times that of G, for c > 0 and R a rotation."""
    optimizer = Muon(product_dtype=product_dtype)
    rng = np.random.default_rng(0)
    gradient = rng.normal(size=(3, 3, 4, 6)).astype("float32")
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0].astype("float32")

    def orthogonal(x):
        found = optimizer.zeropower_via_newtonschulz5(ops.convert_to_tensor(x), 5)
        assert tuple(found.shape) == x.shape
        return ops.convert_to_numpy(found)

    found = orthogonal(gradient)
    np.testing.assert_allclose(orthogonal(1000 * gradient @ rotation), found @ rotation, atol=off)
    values = np.linalg.svd(found.reshape(36, 6), compute_uv=False)
    assert 0.65 < values.min() < values.max() < 1.25  # as far as five steps bring them
