"""What a user types wrong is answered with the value, what is allowed and what to type."""

import keras
import numpy as np
import pytest
from keras import layers

import kerascnn
from kerascnn import explain, models
from kerascnn.errors import UsageError


@pytest.fixture(scope="module")
def model():
    return models.cifar_net()


IMAGES = np.zeros((2, 32, 32, 3), "float32")
N = explain.Neuron

WRONG_TARGETS = [
    (N("conv5", 0), r"no layer 'conv5'.*conv1 to conv4; the deepest is 'conv4'.*kerascnn table cifar_net"),
    (N("conv4", 256), r"no channel 256: it has 256, 0 to 255"),
    (N("conv4", 0, 8, 0), r"maps of layer 'conv4' are 8x8: \(8, 0\) lies outside"),
    (N("conv4", 0, 3), r"2 coordinates"),
    (N("fc1", 0, 1, 1), r"'fc1' has units, not maps"),
    (N("conv4", 0, reduce="sum"), r"Unknown reduction of a channel 'sum'.*max, mean"),
    (10, r"no class 10: it has 10 classes, 0 to 9"),
    (-1, r"no class -1"),
    (1.5, r"1.5 is not a target"),
    ("cat", r"'cat' was given by name.*class_names="),
    ([1, 2, 3], r"2 images and 3 targets"),
    ([], r"empty list of targets"),
]


@pytest.mark.parametrize(("target", "message"), WRONG_TARGETS, ids=lambda v: str(v)[:30])
def test_targets(model, target, message):
    with pytest.raises(UsageError, match=message):
        explain.saliency(model, IMAGES, target)


WRONG_IMAGES = [
    (np.zeros((2, 28, 28, 3), "float32"), r"images \(N, 32, 32, 3\); received shape \(2, 28, 28, 3\).*32x32x3"),
    (np.zeros((32, 32, 3), "float32"), r"without the batch axis: type images\[None\]"),
    (np.zeros((0, 32, 32, 3), "float32"), r"empty batch"),
    (np.zeros((2, 32, 32, 3), "uint8"), r"received whole numbers \(uint8, 0 to 0\).*images / 255"),
    (np.zeros((2, 32, 32, 3), "complex64"), r"received dtype complex64"),
    (np.full((2, 32, 32, 3), np.nan, "float32"), r"NaN or infinite"),
]


@pytest.mark.parametrize(("images", "message"), WRONG_IMAGES, ids=lambda v: str(getattr(v, "dtype", ""))[:30])
def test_images(model, images, message):
    with pytest.raises(UsageError, match=message):
        explain.saliency(model, images)


def test_class_names(model):
    names = ["cat", "dog", *"abcdefgh"]
    by_name = explain.saliency(model, IMAGES + 0.5, "dog", class_names=names)
    np.testing.assert_allclose(by_name, explain.saliency(model, IMAGES + 0.5, 1), atol=1e-6)
    with pytest.raises(UsageError, match=r"Unknown class 'dgo'. Did you mean 'dog'"):
        explain.saliency(model, IMAGES, "dgo", class_names=names)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 33, "stride": 1}, "A patch of 33 pixels does not fit into an image of 32"),
        ({"patch": 0, "stride": 1}, "at least 1"),
        ({"patch": 8, "stride": 0}, "at least 1"),
        ({"patch": 8, "stride": 4, "fill": "grey"}, "Unknown fill 'grey'"),
        ({"patch": 8, "stride": 4, "fill": [0, 0]}, "3 numbers"),
        ({"patch": 8, "stride": 4, "layer": "conv9"}, "no layer 'conv9'"),
    ],
)
def test_occlusion(model, options, message):
    with pytest.raises(UsageError, match=message):
        explain.occlusion_scores(model, IMAGES, **options)


def test_options(model):
    for options, message in (
        ({"start": 2}, "start is 1 or 'activation'"),
        ({"dtype": "float16"}, "Unknown dtype 'float16'"),
        ({"fallback": "yes"}, "Unknown fallback 'yes'"),
    ):
        with pytest.raises(UsageError, match=message):
            explain.saliency(model, IMAGES, **options)
    with pytest.raises(UsageError, match="epsilon must be above 0"):
        explain.lrp(model, IMAGES, epsilon=0)
    with pytest.raises(UsageError, match="does not depend on layer 'conv4'"):
        explain.grad_cam(model, IMAGES, N("conv2", 0), layer="conv4")
    with pytest.raises(UsageError, match="'fc1' of model 'cifar_net' has no maps"):
        explain.grad_cam(model, IMAGES, layer="fc1")
    with pytest.raises(UsageError, match="is not a max-pooling layer; those are: pool1, pool2, pool3"):
        explain.switches(model, IMAGES, "conv1")


def test_channels_first_are_refused_where_maps_are_read():
    x = keras.Input((3, 8, 10))
    maps = layers.Conv2D(5, 3, data_format="channels_first", name="conv")(x)
    pooled = layers.MaxPooling2D(data_format="channels_first", name="pool")(maps)
    model = keras.Model(x, layers.Dense(4)(layers.Flatten()(pooled)), name="first")
    images = np.random.default_rng(0).random((2, 3, 8, 10), "float32")
    assert explain.saliency(model, images, 1).shape == images.shape
    for look in (
        lambda: explain.grad_cam(model, images, 1, layer="conv"),
        lambda: explain.saliency(model, images, N("conv", 4, 2, 2)),
        lambda: explain.occlusion_scores(model, images, patch=2, stride=2),
        lambda: explain.switches(model, images),
        lambda: kerascnn.scan(model, images, "conv", top=1),
    ):
        with pytest.raises(UsageError, match="Model 'first' has its channels first; looks at maps and places need"):
            look()


class Pools(layers.Layer):
    """A layer whose max-pooling is not its last operation."""

    def call(self, x):
        return 2 * keras.ops.max_pool(x, 2)


def test_switches_of_all_poolings_leave_out_those_inside_other_layers():
    x = keras.Input((8, 8, 1))
    model = keras.Model(x, layers.MaxPooling2D(name="outer")(Pools(name="block")(x)))
    assert list(explain.switches(model, np.random.default_rng(0).random((2, 8, 8, 1), "float32"))) == ["outer"]


def test_grad_cam_goes_through_layers_that_no_rule_serves():
    x = keras.Input((6, 6, 1))
    maps = layers.Conv2D(3, 3, name="conv")(x)
    model = keras.Model(x, layers.Dense(2)(layers.LSTM(3)(layers.Reshape((4, 12))(maps))))
    images = np.random.default_rng(0).random((2, 6, 6, 1), "float32")
    heat = explain.grad_cam(model, images, 1, rectify=False)
    with pytest.warns(UserWarning, match="automatic differentiation serves it"):
        again = explain.grad_cam(model, images, 1, fallback="autodiff", rectify=False)
    np.testing.assert_allclose(again, heat, atol=1e-6)
    later = keras.Model(maps, model.output)
    values = explain.activations(model, images, "conv")
    numeric = np.zeros_like(values)
    for index in np.ndindex(values.shape[1:]):
        step = np.zeros_like(values)
        step[(slice(None), *index)] = 0.01
        ends = [later.predict(values + sign * step, verbose=0)[:, 1] for sign in (1, -1)]
        numeric[(slice(None), *index)] = (ends[0] - ends[1]) / 0.02
    expected = (values * numeric.mean((1, 2), keepdims=True)).sum(-1)
    np.testing.assert_allclose(heat, expected, atol=1e-3)


def test_nan_weights_name_the_layer():
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), layers.Conv2D(2, 3, name="sick"), layers.Flatten(), layers.Dense(2)]
    )
    model.get_layer("sick").kernel.assign(np.full((3, 3, 1, 2), np.nan))
    with pytest.raises(UsageError, match=r"Layer 'sick'.*has NaN among its weights"):
        explain.saliency(model, np.zeros((1, 4, 4, 1), "float32"))


def test_several_outputs_need_a_target():
    inputs = keras.Input((4, 4, 1))
    flat = layers.Flatten()(inputs)
    model = keras.Model(inputs, [layers.Dense(2, name="age")(flat), layers.Dense(3, name="sex")(flat)])
    with pytest.raises(UsageError, match=r"2 outputs, age, sex: say which is meant with target=\{'age': class\}"):
        explain.saliency(model, np.zeros((1, 4, 4, 1), "float32"))
    assert explain.saliency(model, np.zeros((1, 4, 4, 1), "float32"), N("sex", 2)).shape == (1, 4, 4, 1)


def test_subclassed_models_say_why():
    class Mine(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(
        UsageError, match=r"subclass of keras.Model.*keras.Input\(\(8, 8, 3\)\); model = keras.Model\(i, "
    ):
        explain.saliency(Mine(name="mine"), np.zeros((1, 8, 8, 3), "float32"))


@keras.saving.register_keras_serializable("test_explain_errors")
class Attentive(keras.Model):
    """A model of the user's own class: a convolution, then attention among its places."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(4, 3, name="conv")
        self.attention = layers.MultiHeadAttention(2, 3)
        self.head = layers.Dense(3, activation="softmax")

    def call(self, x, training=None):
        x = layers.Reshape((16, 4))(self.conv(x))
        x = keras.random.uniform((1,)) * x if training else x
        return self.head(layers.Flatten()(self.attention(x, x)))


def test_a_subclassed_model_is_hidden_from_and_its_cure_works():
    images = np.random.default_rng(8).normal(size=(2, 6, 6, 2)).astype("float32")
    subclassed = Attentive(name="own")
    inputs = keras.Input((6, 6, 2))
    cured = keras.Model(inputs, subclassed.call(inputs))  # what the error says
    table = explain.occlusion_scores(subclassed, images, patch=3, stride=3, fill=0)
    hidden = images.copy()
    hidden[:, :3, 3:] = 0
    answers = np.asarray(subclassed.predict_on_batch(hidden))
    np.testing.assert_allclose(table[:, 0, 1], answers, rtol=1e-4, atol=1e-6)
    whole = np.asarray(subclassed.predict_on_batch(images))
    heat = explain.occlusion(subclassed, images, 2, patch=3, stride=3, fill=0, convention="probability")
    np.testing.assert_allclose(heat[:, 0, 1], answers[:, 2], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(explain.activations(subclassed, images, "own"), whole, rtol=1e-4, atol=1e-6)
    values = explain.activations(cured, images, "conv")
    gradient = explain.layer_cam(cured, images, 1, layer="conv")
    assert gradient.shape == (2, 4, 4)

    def score(maps):
        tokens = keras.ops.reshape(maps, (-1, 16, 4))
        flat = keras.ops.convert_to_numpy(subclassed.attention(tokens, tokens)).reshape(len(maps), -1)
        return flat @ keras.ops.convert_to_numpy(subclassed.head.kernel)[:, 1]

    weights = np.zeros((2, 4))
    for channel in range(4):  # the mean gradient of a channel, times its 16 places
        step = 1e-2 * np.eye(4, dtype="float32")[channel]
        weights[:, channel] = (score(values + step) - score(values - step)) / 2e-2 / 16
    heat = explain.grad_cam(cured, images, 1, layer="conv", rectify=False)
    np.testing.assert_allclose(heat, np.einsum("nijc,nc->nij", values, weights), atol=2e-3)
    with pytest.raises(UsageError, match=r"i = keras.Input\(\(6, 6, 2\)\)"):
        explain.grad_cam(subclassed, images, 1)


def test_an_unbuilt_sequential_is_told_the_images_shape():
    model = keras.Sequential([layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(2)])
    for look in (explain.saliency, explain.grad_cam, explain.activations):
        with pytest.raises(UsageError, match=r"model.build\(\(None, 6, 6, 2\)\)"):
            look(model, np.zeros((1, 6, 6, 2), "float32"))
    assert not model.built


def test_unknown_methods_get_the_nearest_name(model):
    with pytest.raises(UsageError, match="Did you mean 'guided_backprop'"):
        explain.coverage(model, "guided_backprob")
    with pytest.raises(AttributeError, match="has no attribute 'salency'"):
        explain.salency  # noqa: B018


def test_images_of_another_range_than_the_model_s_own_scaling():
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(2, 3, name="conv")(layers.Rescaling(1 / 255, name="to_one")(inputs))
    scaling = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)), name="scaling")
    images = np.random.default_rng(0).random((2, 6, 6, 3), "float32")
    with pytest.raises(
        UsageError, match=r"layer 'to_one' scales them itself.*expects 0 to 255; received 0.*images \* 255"
    ):
        explain.saliency(scaling, images, 0)
    assert explain.saliency(scaling, images * 255, 0).shape == images.shape
    assert explain.saliency(scaling, np.zeros_like(images), 0).shape == images.shape  # black is black in any range
    # on the way from black the first point is nearly black; its range says nothing
    parts = explain.integrated_gradients(scaling, images * 255, 0).sum((1, 2, 3))
    scores = scaling.predict(images * 255, verbose=0)[:, 0] - scaling.predict(images * 0, verbose=0)[:, 0]
    np.testing.assert_allclose(parts, scores, rtol=1e-3)
    with pytest.raises(UsageError, match="expects 0 to 255"):
        explain.integrated_gradients(scaling, images, 0)
    faint = np.full_like(images, 0.5)
    faint[0, 0, 0] = 1.5
    assert explain.smoothgrad(scaling, faint, 0, noise=0).shape == images.shape


def two_headed():
    """Two outputs from one convolution: a softmax over three classes and a sigmoid over two."""
    inputs = keras.Input((6, 6, 2))
    flat = layers.Flatten()(layers.Conv2D(4, 3, name="conv")(inputs))
    first = layers.Dense(3, activation="softmax", name="kind")(flat)
    model = keras.Model(inputs, [first, layers.Dense(2, activation="sigmoid", name="colour")(flat)], name="two")
    rng = np.random.default_rng(5)
    model.set_weights([rng.normal(scale=0.2, size=w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("output", ["kind", "colour"])
def test_one_of_several_outputs_is_explained_by_its_name(output):
    model, images = two_headed(), np.random.default_rng(6).normal(size=(2, 6, 6, 2)).astype("float32")
    alone = keras.Model(model.input, model.get_layer(output).output)
    for method in ("saliency", "integrated_gradients", "grad_cam"):
        for target in (1, None):
            values = explain.EXPLANATIONS.get(method)(model, images, {output: target})
            expected = explain.EXPLANATIONS.get(method)(alone, images, target)
            np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)
    values = explain.saliency(model, images, [{"kind": 0}, {"colour": 1}])
    np.testing.assert_allclose(values[1:], explain.saliency(model, images[1:], {"colour": 1}), rtol=1e-5, atol=1e-6)
    for convention in ("drop", "probability", "captum"):
        options = {"patch": 3, "stride": 2, "convention": convention}
        values = explain.occlusion(model, images, {output: 1}, **options)
        np.testing.assert_allclose(values, explain.occlusion(alone, images, 1, **options), rtol=1e-4, atol=1e-5)


def test_occlusion_of_a_neuron_is_how_much_it_falls():
    model, images = two_headed(), np.random.default_rng(6).normal(size=(2, 6, 6, 2)).astype("float32")
    whole, hidden = images.copy(), images.copy()
    hidden[:, 2:5, 0:3] = 0  # the square in row 1, column 0 of the map
    conv, colour = (keras.Model(model.input, model.get_layer(name).output) for name in ("conv", "colour"))
    options = {"patch": 3, "stride": 2, "fill": 0}
    for neuron, score in (
        (explain.Neuron("colour", 1), lambda x: np.asarray(colour.predict_on_batch(x))[:, 1]),
        (explain.Neuron("conv", 3, 2, 1), lambda x: np.asarray(conv.predict_on_batch(x))[:, 2, 1, 3]),
        (explain.Neuron("conv", 3), lambda x: np.asarray(conv.predict_on_batch(x))[..., 3].max((1, 2))),
        (explain.Neuron("conv", 3, reduce="mean"), lambda x: np.asarray(conv.predict_on_batch(x))[..., 3].mean((1, 2))),
    ):
        values = explain.occlusion(model, images, neuron, convention="drop", **options)
        np.testing.assert_allclose(values[:, 1, 0], score(whole) - score(hidden), rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError, match="has no probability"):
        explain.occlusion(model, images, explain.Neuron("conv", 3), convention="probability", **options)
    with pytest.raises(UsageError, match=r"Unknown output of two 'kinds'\. Did you mean 'kind'"):
        explain.occlusion(model, images, {"kinds": 1}, **options)
    with pytest.raises(UsageError, match=r"2 outputs, kind, colour: .* target=\{'kind': class\}"):
        explain.occlusion(model, images, 1, **options)
