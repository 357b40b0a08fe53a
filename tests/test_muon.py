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


def kernels(model):
    return [v for v in model.trainable_variables if v.name == "kernel" and "head" not in v.path]


def steps(model, gradients, **options):
    """The model's variables after Muon followed gradients, a list of arrays for each step."""
    optimizer = Muon(RATE, kernels=kernels(model), weight_decay=DECAY, **{"momentum": MOMENTUM, **options})
    for arrays in gradients:
        optimizer.apply([ops.convert_to_tensor(a.astype("float32")) for a in arrays], model.trainable_variables)
    return numbers(model)


def numbers(model):
    return [ops.convert_to_numpy(v).astype("float64") for v in model.trainable_variables]


def random_gradients(model, count):
    rng = np.random.default_rng(0)
    return [[rng.normal(size=v.shape) for v in model.trainable_variables] for _ in range(count)]


def muon_by_numpy(weights, gradients, ns_steps, momentum):
    """Jordan et al. 2024 in float64, the kernel's norm kept."""
    average, norm, filters = 0, np.linalg.norm(weights), weights.shape[-1]
    for gradient in gradients:
        average = momentum * average + gradient
        x = (gradient + momentum * average).reshape(-1, filters)
        x /= np.sqrt((x**2).sum())
        for _ in range(ns_steps):
            square = x @ x.T
            x = 3.4445 * x - 4.775 * square @ x + 2.0315 * square @ square @ x
        weights = weights / norm * np.sqrt(filters) - RATE * x.reshape(gradient.shape)
        weights = weights * norm / np.sqrt((weights**2).sum())
    return weights


def sgd_by_numpy(weights, gradients, momentum):
    """Nesterov's momentum, decay decoupled."""
    velocity = 0
    for gradient in gradients:
        velocity = momentum * velocity + gradient
        weights = weights * (1 - RATE * DECAY) - RATE * (gradient + momentum * velocity)
    return weights


@pytest.mark.parametrize(("ns_steps", "momentum"), [(3, MOMENTUM), (5, MOMENTUM), (3, 0.0)])
def test_three_steps_by_numpy(ns_steps, momentum):
    """Kernels of convolutions are turned as matrices; biases and the head follow SGD."""
    model = network()
    before = numbers(model)
    gradients = random_gradients(model, 3)
    after = steps(model, gradients, ns_steps=ns_steps, momentum=momentum)
    turned = {v.path for v in kernels(model)}
    assert turned == {"tall/kernel", "wide/kernel"}
    for number, variable in enumerate(model.trainable_variables):
        slopes = [arrays[number] for arrays in gradients]
        if variable.path in turned:
            expected = muon_by_numpy(before[number], slopes, ns_steps, momentum)
        else:
            expected = sgd_by_numpy(before[number], slopes, momentum)
        np.testing.assert_allclose(after[number], expected, rtol=1e-4, atol=1e-5, err_msg=variable.path)


def test_larger_kernels_take_the_same_steps_times_their_size():
    """So that a network that was trained before, or whose convolutions normalisation follows, is not upset."""
    small, large = network(), network()
    for kernel in kernels(large):
        kernel.assign(8 * kernel)
    gradients = random_gradients(small, 3)
    for name, one, eight in zip(
        [v.path for v in small.trainable_variables], steps(small, gradients), steps(large, gradients), strict=True
    ):
        if name in ("tall/kernel", "wide/kernel"):
            np.testing.assert_allclose(eight, 8 * one, rtol=1e-5, atol=1e-6)


def test_a_kernel_of_zeros_moves_and_stays_where_its_gradient_is_zero():
    model = network()
    for kernel in kernels(model):
        kernel.assign(0 * kernel)
    still, moving = random_gradients(model, 2)
    after = steps(model, [[0 * array for array in still]])
    assert all((array == 0).all() for v, array in zip(model.trainable_variables, after, strict=True) if v.ndim == 4)
    after = steps(model, [moving])
    sizes = [np.linalg.norm(array) for array in after if array.ndim == 4]
    np.testing.assert_allclose(sizes, np.sqrt([5, 9]), rtol=1e-6)


@pytest.mark.parametrize(("product_dtype", "off"), [("float32", 1e-5), ("bfloat16", 0.05)])
def test_a_step_turns_with_the_gradient_and_does_not_grow_with_it(product_dtype, off):
    """The nearest orthogonal matrix of c R G is R times that of G, for c > 0 and R a rotation."""
    optimizer = Muon(kernels=[], ns_steps=5, product_dtype=product_dtype)
    rng = np.random.default_rng(0)
    gradient = rng.normal(size=(3, 3, 4, 6)).astype("float32")
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0].astype("float32")

    def orthogonal(x):
        result = optimizer.orthogonal(ops.convert_to_tensor(x))
        assert tuple(result.shape) == x.shape
        return ops.convert_to_numpy(result)

    direction = orthogonal(gradient)
    np.testing.assert_allclose(orthogonal(1000 * gradient @ rotation), direction @ rotation, atol=off)
    values = np.linalg.svd(direction.reshape(36, 6), compute_uv=False)
    assert 0.65 < values.min() < values.max() < 1.25  # as far as five steps bring them
