"""Other people's models: every coat of ReLU, nesting, sharing; and none of them is changed by being looked at."""

import copy
import gc
import weakref

import keras
import numpy as np
import pytest
from keras import layers, ops

from kerascnn import explain
from kerascnn.errors import UsageError
from kerascnn.layers import AUGMENTATIONS

WALKS = ("saliency", "deconvnet", "guided_backprop")
RNG = np.random.default_rng(11)
KERNEL, BIAS = RNG.normal(size=(3, 3, 2, 4)), RNG.normal(size=4)
HEAD = RNG.normal(size=(5 * 6 * 4, 3)), RNG.normal(size=3)
IMAGES = RNG.normal(size=(2, 7, 8, 2)).astype("float32")
CALLS = (explain.saliency, explain.deconvnet, explain.guided_backprop)


def convolution(activation=None):
    return layers.Conv2D(4, 3, activation=activation, name="conv")


def finish(inputs, x, activation="softmax", name=None):
    """The model, with the weights that every one here has."""
    x = layers.Dense(3, activation=activation, name="head")(layers.Flatten()(x))
    model = keras.Model(inputs, x, name=name)
    model.set_weights([KERNEL, BIAS, *HEAD])
    return model


def by_name():
    inputs = keras.Input((7, 8, 2))
    return finish(inputs, convolution("relu")(inputs))


def by_layer():
    inputs = keras.Input((7, 8, 2))
    return finish(inputs, layers.ReLU()(convolution()(inputs)))


def by_activation_layer():
    inputs = keras.Input((7, 8, 2))
    return finish(inputs, layers.Activation("relu")(convolution()(inputs)))


def by_ops():
    inputs = keras.Input((7, 8, 2))
    return finish(inputs, ops.relu(convolution()(inputs)))


def by_maximum():
    inputs = keras.Input((7, 8, 2))
    return finish(inputs, convolution(lambda x: ops.maximum(x, 0))(inputs))


def by_lambda_of_relu():
    inputs = keras.Input((7, 8, 2))
    return finish(inputs, convolution(lambda x: keras.activations.relu(x))(inputs))


def by_layer_object():
    inputs = keras.Input((7, 8, 2))
    return finish(inputs, convolution(layers.ReLU())(inputs))


def nested_three_deep():
    inner_input = keras.Input((None, None, 2))
    inner = keras.Sequential([inner_input, convolution(), layers.ReLU()], name="inner")
    middle_input = keras.Input((7, 8, 2))
    middle = keras.Model(middle_input, inner(middle_input), name="middle")
    outer = keras.Sequential([keras.Input((7, 8, 2)), middle], name="outer")
    inputs = keras.Input((7, 8, 2))
    return finish(inputs, outer(inputs))


def logits():
    inputs = keras.Input((7, 8, 2))
    return finish(inputs, convolution("relu")(inputs), activation=None)


def softmax_layer_in_float32():
    inputs = keras.Input((7, 8, 2))
    x = layers.Flatten()(convolution("relu")(inputs))
    x = layers.Softmax(dtype="float32")(layers.Dense(3)(x))
    model = keras.Model(inputs, layers.Activation("linear", dtype="float32")(x))
    model.set_weights([KERNEL, BIAS, *HEAD])
    return model


def sequential_built_by_calling():
    model = keras.Sequential([convolution("relu"), layers.Flatten(), layers.Dense(3, activation="softmax")])
    model(IMAGES)
    model.set_weights([KERNEL, BIAS, *HEAD])
    return model


COATS = (
    by_layer,
    by_activation_layer,
    by_ops,
    by_layer_object,
    by_lambda_of_relu,
    by_maximum,
    nested_three_deep,
    logits,
    softmax_layer_in_float32,
    sequential_built_by_calling,
)


@pytest.fixture(scope="module")
def expected():
    return {method: explain.EXPLANATIONS.get(method)(by_name(), IMAGES, 1) for method in WALKS}


@pytest.mark.parametrize("coat", COATS, ids=lambda f: f.__name__)
def test_relu_in_every_coat(coat, expected):
    model = coat()
    for method in WALKS:
        np.testing.assert_allclose(
            explain.EXPLANATIONS.get(method)(model, IMAGES, 1), expected[method], rtol=1e-5, atol=1e-6, err_msg=method
        )
    assert not np.allclose(expected["saliency"], expected["guided_backprop"])


def test_a_loaded_file_gives_the_same_map(tmp_path, expected):
    nested_three_deep().save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(explain.guided_backprop(model, IMAGES, 1), expected["guided_backprop"], atol=1e-6)


def test_shared_layers_count_once_per_call():
    inputs, shared = keras.Input((4, 4, 1)), layers.Conv2D(1, 1, use_bias=False, name="shared")
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(layers.Add()([shared(shared(inputs)), shared(inputs)])))
    model.set_weights([np.full((1, 1, 1, 1), 3.0)])
    image = np.ones((1, 4, 4, 1), "float32")
    np.testing.assert_allclose(explain.saliency(model, image, 0), np.full((1, 4, 4, 1), (9 + 3) / 16))
    with pytest.raises(UsageError, match=r"called 3 times: type 'shared#1' or 'shared#2' or 'shared#3'"):
        explain.saliency(model, image, explain.Neuron("shared", 0))
    assert explain.saliency(model, image, explain.Neuron("shared#2", 0, 1, 1)).max() in (3, 9)


def test_two_inputs_give_two_maps():
    a, b = keras.Input((3, 3, 1), name="left"), keras.Input((3, 3, 1), name="right")
    x = layers.Subtract()([layers.Flatten()(a), layers.Flatten()(b)])
    model = keras.Model([a, b], layers.Dense(1, use_bias=False)(x))
    model.set_weights([np.arange(9.0)[:, None]])
    x = np.ones((1, 3, 3, 1), "float32")
    left, right = explain.saliency(model, [x, x], 0)
    np.testing.assert_array_equal(left.ravel(), np.arange(9))
    np.testing.assert_array_equal(right, -left)
    by_names = explain.saliency(model, {"right": x, "left": x}, 0)
    np.testing.assert_array_equal(by_names[0], left)


@pytest.mark.filterwarnings("ignore:guided_backprop equals the plain gradient")
def test_one_pixel_images():
    model = keras.Sequential([keras.Input((1, 1, 3)), layers.Conv2D(2, 1), layers.Flatten(), layers.Dense(2)])
    assert explain.guided_backprop(model, np.ones((1, 1, 1, 3), "float32")).shape == (1, 1, 1, 3)


@pytest.mark.filterwarnings("ignore:saliency")  # the neuron may be off
def test_images_of_any_size():
    inputs = keras.Input((None, None, 3))
    x = layers.GlobalMaxPooling2D()(layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="c")(inputs))
    model = keras.Model(inputs, layers.Dense(2)(x))
    for size in ((7, 9), (12, 5)):
        images = RNG.normal(size=(2, *size, 3)).astype("float32")
        assert explain.saliency(model, images, explain.Neuron("c", 3, 2, 1)).shape == images.shape
        with pytest.raises(UsageError, match="lies outside"):
            explain.saliency(model, images, explain.Neuron("c", 3, 6, 1))


class Scaled(layers.Layer):
    """A custom layer made of keras.ops and layers."""

    def build(self, shape):
        self.inner = layers.Conv2D(4, 3, activation="relu")
        self.inner.build(shape)
        self.factor = self.add_weight(shape=(), initializer="ones")
        super().build(shape)

    def call(self, x, training=None):
        return self.inner(x) * self.factor


class Opaque(layers.Layer):
    """A layer that no rule serves and that cannot be traced: its shape is decided by hand."""

    def call(self, x):
        if isinstance(x, keras.KerasTensor):
            raise TypeError("no symbolic tensors here")
        return ops.cumsum(x, axis=1)

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


def test_custom_layers_are_traced_and_left_as_they_were(expected):
    inputs, layer = keras.Input((7, 8, 2)), Scaled(name="scaled")
    x = layers.Dense(3, activation="softmax")(layers.Flatten()(layer(inputs)))
    model = keras.Model(inputs, x)
    layer.inner.set_weights([KERNEL, BIAS])
    model.layers[-1].set_weights(list(HEAD))
    before = len(layer.inner._inbound_nodes)
    np.testing.assert_allclose(
        explain.guided_backprop(model, IMAGES, 1), expected["guided_backprop"], rtol=1e-5, atol=1e-6
    )
    assert len(layer.inner._inbound_nodes) == before


@keras.saving.register_keras_serializable("test_explain_models")
class Restless(layers.RandomFlip):
    """An augmentation of the user's own, which doubles the images outside training."""

    def transform_images(self, images, transformation, training=True):
        return super().transform_images(images, transformation, training) if training else images * 2


def augmented(layer):
    """(a model with a layer that augments the images before it, the same without it, images)."""
    stack = [layers.Conv2D(4, 3, activation="relu", name="conv"), layers.Flatten(), layers.Dense(3)]
    plain = keras.Sequential([keras.Input((7, 8, 3)), *stack])
    images = np.random.default_rng(3).uniform(size=(2, 7, 8, 3)).astype("float32")
    return keras.Sequential([keras.Input((7, 8, 3)), layer, *stack]), plain, images


@pytest.mark.parametrize("name", [kind.__name__ for kind in AUGMENTATIONS])
def test_augmentation_is_nothing_in_inference(name, augmentation):
    model, plain, images = augmented(augmentation(name, 7, 8))
    np.testing.assert_allclose(explain.deconvnet(model, images, 1), explain.deconvnet(plain, images, 1), atol=1e-6)
    assert len(explain.coverage(model)) == len(explain.coverage(plain))
    scans = [explain.activations(m, images, "conv") for m in (model, plain)]
    np.testing.assert_allclose(*scans, atol=1e-6)


def test_an_augmentation_of_the_users_own_is_not_taken_for_its_parent():
    model, plain, images = augmented(Restless())
    values = explain.saliency(model, images, 1)
    np.testing.assert_allclose(values, 2 * explain.saliency(plain, 2 * images, 1), rtol=1e-5)


def opaque_model():
    inputs = keras.Input((7, 8, 2))
    return finish(inputs, convolution("relu")(Opaque(name="strange")(inputs)))


def test_a_layer_without_a_rule_is_named():
    model = opaque_model()
    with pytest.raises(UsageError, match=r"layer 'strange': Opaque cannot be traced .* fallback=\"autodiff\""):
        explain.saliency(model, IMAGES, 1)
    table = explain.coverage(model, "deconvnet")
    assert table.loc[table["layer"] == "strange", "rule"].tolist() == ["unsupported"]


def test_fallback_is_the_plain_gradient_and_says_so():
    model = opaque_model()
    with pytest.warns(UserWarning, match=r"'strange' \(Opaque\) has no rule: automatic differentiation"):
        values = explain.saliency(model, IMAGES, 1, fallback="autodiff")
    summed = IMAGES.cumsum(1)
    plain = explain.saliency(by_name(), summed, 1)
    np.testing.assert_allclose(values, plain[:, ::-1].cumsum(1)[:, ::-1], rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError, match="plain gradients"):
        explain.guided_backprop(model, IMAGES, 1, fallback="autodiff")


def everything(model):
    """All that could change: weights' bytes, config, the activation objects."""
    activations = [id(getattr(layer, "activation", None)) for layer in model.layers]
    nodes = [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in model.layers]
    weights = [np.asarray(w.numpy() if hasattr(w, "numpy") else w).tobytes() for w in model.weights]
    return weights, copy.deepcopy(model.get_config()), activations, nodes


def normalised(policy=None):
    inputs = keras.Input((7, 8, 2))
    x = layers.Conv2D(4, 3, dtype=policy)(inputs)
    x = layers.ReLU(dtype=policy)(layers.BatchNormalization(dtype=policy)(x))
    x = layers.Dense(3, dtype=policy)(layers.Flatten(dtype=policy)(layers.Dropout(0.5, dtype=policy)(x)))
    model = keras.Model(inputs, layers.Softmax(dtype="float32")(x))
    rng = np.random.default_rng(2)
    for variable in model.weights:
        if "seed" not in variable.path:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape) * (1 if "variance" in variable.path else 0.3))
    return model


LOOKS = [
    *(pytest.param(lambda m, x, n=n: explain.EXPLANATIONS.get(n)(m, x), id=n) for n in explain.EXPLANATIONS.names()),
    pytest.param(lambda m, x: explain.occlusion_scores(m, x, patch=3, stride=2), id="occlusion_scores"),
    pytest.param(lambda m, x: explain.activations(m, x), id="activations"),
    pytest.param(lambda m, x: explain.switches(m, x), id="switches"),
    pytest.param(lambda m, x: explain.coverage(m), id="coverage"),
]


@pytest.mark.parametrize("look", LOOKS)
def test_the_model_is_bit_identical_afterwards(look):
    model = normalised()
    before = everything(model)
    look(model, IMAGES)
    assert everything(model) == before


def test_inside_a_callback_nothing_changes_the_training():
    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            maps.append(explain.guided_backprop(self.model, IMAGES, 1))

    def trained(callbacks):
        keras.utils.set_random_seed(1)
        model = normalised()
        model.compile("sgd", "sparse_categorical_crossentropy")
        x = np.random.default_rng(0).normal(size=(8, 7, 8, 2)).astype("float32")
        model.fit(x, np.arange(8) % 3, batch_size=4, epochs=2, verbose=0, shuffle=False, callbacks=callbacks)
        return model.get_weights()

    maps = []
    for a, b in zip(trained([]), trained([Look()]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(maps) == 4
    assert not np.array_equal(maps[0], maps[3])


def test_changed_weights_are_seen_at_once():
    model = by_name()
    before = explain.saliency(model, IMAGES, 1)
    model.get_layer("head").kernel.assign(2 * HEAD[0])
    np.testing.assert_allclose(explain.saliency(model, IMAGES, 1), 2 * before, rtol=1e-5, atol=1e-6)


def test_mixed_bfloat16_is_explained_in_float32():
    plain, mixed = normalised(), normalised("mixed_bfloat16")
    a, b = explain.guided_backprop(plain, IMAGES, 1), explain.guided_backprop(mixed, IMAGES, 1)
    assert b.dtype == np.float32
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] >= 0.999


def test_the_model_is_not_kept_alive():
    model = by_name()
    explain.guided_backprop(model, IMAGES, 1)
    explain.occlusion_scores(model, IMAGES, patch=3, stride=2)
    ghost = weakref.ref(model)
    del model
    gc.collect()
    assert ghost() is None


def test_unbuilt_sequential_says_what_to_type():
    model = keras.Sequential([layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(2)])
    with pytest.raises(UsageError, match=r"is not built.*model.build\(\(None, 7, 8, 2\)\)"):
        explain.saliency(model, IMAGES)
    assert not model.built
