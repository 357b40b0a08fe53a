"""LocalResponseNormalization against loops, GroupedConv2D against Keras' own grouped convolution, PatchWhitening."""

import keras
import numpy as np
import pytest
from keras import ops

from kerascnn.errors import UsageError
from kerascnn.layers import GroupedConv2D, LocalResponseNormalization, PatchWhitening, give_weights


def lrn_loops(x, size, alpha, beta, k):
    """The paper's formula in float64, one channel at a time."""
    x, out = x.astype("float64"), np.empty(x.shape)
    channels = x.shape[-1]
    for c in range(channels):
        near = x[..., max(0, c - size // 2) : min(channels, c + size // 2 + 1)]
        out[..., c] = x[..., c] / (k + alpha * (near**2).sum(-1)) ** beta
    return out


@pytest.mark.parametrize(
    ("channels", "size", "alpha", "beta", "k"),
    [(96, 5, 1e-4, 0.75, 2.0), (7, 3, 0.5, 0.5, 1.0), (2, 5, 1.0, 0.75, 2.0), (1, 1, 0.1, 1.0, 0.5)],
)
def test_lrn_is_the_papers_formula(channels, size, alpha, beta, k):
    x = np.random.default_rng(0).normal(scale=10, size=(2, 3, 4, channels)).astype("float32")
    out = LocalResponseNormalization(size, alpha, beta, k)(x)
    np.testing.assert_allclose(ops.convert_to_numpy(out), lrn_loops(x, size, alpha, beta, k), rtol=2e-6)


def test_lrn_by_pencil():
    # k + alpha * (sum of the squares of channel and neighbours) = 1 + [5, 14, 13]; beta 1 divides by just that.
    out = LocalResponseNormalization(size=3, alpha=1, beta=1, k=1)(np.array([[1.0, 2.0, 3.0]], "float32"))
    np.testing.assert_allclose(ops.convert_to_numpy(out), [[1 / 6, 2 / 15, 3 / 14]], rtol=1e-6)


def test_lrn_in_low_precision_computes_in_float32():
    x = np.random.default_rng(1).normal(scale=30, size=(4, 16)).astype("float32")
    out = LocalResponseNormalization(dtype="mixed_bfloat16")(x)
    assert keras.backend.standardize_dtype(out.dtype) == "bfloat16"
    in_bfloat16 = ops.convert_to_numpy(ops.cast(ops.cast(x, "bfloat16"), "float32"))
    expected = lrn_loops(in_bfloat16, 5, 1e-4, 0.75, 2.0)
    np.testing.assert_allclose(ops.convert_to_numpy(ops.cast(out, "float32")), expected, rtol=2**-8)


@pytest.mark.parametrize("bad", [{"size": 4}, {"size": 0}, {"size": 2.5}, {"k": 0}, {"alpha": -1}])
def test_lrn_refuses_constants_that_make_no_sense(bad):
    with pytest.raises(UsageError, match="LocalResponseNormalization"):
        LocalResponseNormalization(**bad)


@pytest.mark.parametrize(
    ("groups", "options"),
    [
        (2, {"padding": "same"}),
        (2, {"strides": 2, "padding": "valid"}),
        (3, {"dilation_rate": 2, "use_bias": False}),
        (1, {}),
    ],
)
def test_grouped_convolution_equals_keras(groups, options):
    x = np.random.default_rng(2).normal(size=(2, 9, 8, 6)).astype("float32")
    ours = GroupedConv2D(12, 3, groups=groups, **options)
    theirs = keras.layers.Conv2D(12, 3, groups=groups, **options)
    out = ours(x)
    theirs.build(x.shape)
    assert ours.kernel.shape == (3, 3, 6 // groups, 12)
    theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(ops.convert_to_numpy(out), ops.convert_to_numpy(theirs(x)), atol=1e-5)


def test_grouped_convolution_trains_like_keras():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(8, 6, 6, 4)).astype("float32"), rng.normal(size=(8, 6, 6, 6)).astype("float32")
    kernel, bias = rng.normal(size=(3, 3, 2, 6)).astype("float32"), np.zeros(6, "float32")
    after = []
    for cls in (GroupedConv2D, keras.layers.Conv2D):
        model = keras.Sequential([keras.Input((6, 6, 4)), cls(6, 3, groups=2, padding="same")])
        model.set_weights([kernel, bias])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.train_on_batch(x, y)
        after.append(model.get_weights())
    assert abs(after[0][0] - kernel).max() > 1e-3
    for ours, theirs in zip(*after, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_groups_that_do_not_divide():
    message = r"'c': groups=4 does not divide its 6 input channels and 8 filters. It may have groups of 1, 2\."
    with pytest.raises(UsageError, match=message):
        GroupedConv2D(8, 3, groups=4, name="c")(np.zeros((1, 5, 5, 6), "float32"))


def test_both_layers_survive_saving(tmp_path):
    inputs = keras.Input((5, 5, 4))
    x = GroupedConv2D(6, 3, groups=2, name="conv")(inputs)
    model = keras.Model(inputs, LocalResponseNormalization(3, 0.1, 0.5, 1.5, name="norm")(x))
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    x = np.random.default_rng(4).normal(size=(2, 5, 5, 4)).astype("float32")
    np.testing.assert_array_equal(model.predict_on_batch(x), again.predict_on_batch(x))
    norm = again.get_layer("norm")
    assert (norm.size, norm.depth_radius, norm.alpha, norm.beta, norm.k) == (3, 1, 0.1, 0.5, 1.5)
    assert again.get_layer("conv").groups == 2


def test_whitened_patches_are_uncorrelated_with_variance_1():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(40, 9, 7, 3)) @ rng.normal(size=(3, 3)) + 5
    images[:, 1:] += images[:, :-1]  # rows depend on one another
    layer = PatchWhitening(2, epsilon=0.0)
    layer.build((None, 9, 7, 3))
    layer.adapt(images)
    out = ops.convert_to_numpy(layer(images.astype("float32")))
    assert out.shape == (40, 8, 6, 24) == (40, *layer.compute_output_shape((None, 9, 7, 3))[1:])
    first, negative = np.split(out.reshape(-1, 24).astype("float64"), 2, axis=1)
    np.testing.assert_allclose(np.cov(first, rowvar=False, bias=True), np.eye(12), atol=1e-4)
    np.testing.assert_allclose(first, -negative, atol=1e-4)


def test_whitening_by_pencil():
    """Grey 1x1 patches of variance 4: the filter is 1/2, with epsilon 5 it is 1/3; only the bias is trained."""
    images = np.array([-2.0, 2.0]).reshape(2, 1, 1, 1)
    for epsilon, factor in ((0.0, 0.5), (5.0, 1 / 3)):
        layer = PatchWhitening(1, epsilon=epsilon)
        layer.build((None, 1, 1, 1))
        layer.adapt(images)
        np.testing.assert_allclose(sorted(layer.get_weights()[0].ravel()), [-factor, factor], rtol=1e-6)
    assert [v.name for v in layer.trainable_variables] == ["bias"]
    again = PatchWhitening.from_config(layer.get_config())
    assert (again.size, again.epsilon) == (1, 5.0)


@pytest.mark.parametrize(("padding", "side"), [("valid", 7), ("same", 8)])
def test_the_shape_of_whitened_patches(padding, side):
    layer = PatchWhitening(2, padding=padding)
    assert layer.compute_output_shape((None, None, None, 3)) == (None, None, None, 24)
    patches = layer(np.zeros((1, 8, 8, 3), "float32"))
    assert patches.shape == layer.compute_output_shape((1, 8, 8, 3)) == (1, side, side, 24)


def test_an_adapted_normalisation_computes_with_the_weights_that_it_is_given():
    x = np.random.default_rng(0).normal(5, 3, (50, 4, 4, 2)).astype("float32")
    model = keras.Sequential([keras.Input((4, 4, 2)), keras.layers.Normalization()])
    model.layers[0].adapt(x)
    copy = keras.models.clone_model(model)
    give_weights(copy, model.get_weights())
    np.testing.assert_allclose(copy.predict(x, verbose=0), (x - x.mean((0, 1, 2))) / x.std((0, 1, 2)), atol=1e-4)
