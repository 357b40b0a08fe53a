"""Operations and layers beside the common ones: each map against differences of the model's own answers.

All operations of one kind of input are branches of one model with one output unit each, so that target k explains
operation k.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops

from kerascnn import explain, models
from kerascnn.errors import UsageError
from kerascnn.explain.subjects import opaque_step
from kerascnn.explain.walk import Task, run
from kerascnn.network.plan import make_plan

pytestmark = pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")  # of Flatten
RNG = np.random.default_rng(31)
KERNEL = np.random.default_rng(7).normal(size=(3, 3, 4, 4)).astype("float32")


def branches(shape, functions, seed=5):
    """Model whose unit k is a weighted sum of functions[k](image), without biases."""
    inputs, units = keras.Input(shape), []
    for name, function in functions.items():
        x = function(inputs)
        x = layers.Flatten()(x) if len(x.shape) > 2 else x
        units.append(layers.Dense(1, use_bias=False, name=f"unit_{name}")(x))
    model, rng = keras.Model(inputs, layers.Concatenate()(units)), np.random.default_rng(seed)
    for variable in model.weights:
        if variable.path.startswith("unit_"):
            variable.assign(rng.normal(size=variable.shape))
    return model


def differences(model, image, step=2e-3):
    """(units, *image.shape): slope of every unit in every pixel, from the model's answers."""
    moves = np.eye(image.size, dtype="float32").reshape(-1, *image.shape) * step
    answers = model(np.concatenate([image + moves, image - moves])[:, :])
    up, down = np.split(keras.ops.convert_to_numpy(answers).astype("float64"), 2)
    return ((up - down) / (2 * step)).T.reshape(-1, *image.shape)


PICKS = {
    "split": lambda x: ops.concatenate(ops.split(x, 2, -1)[::-1], -1),
    "split_at": lambda x: ops.split(x, [1, 4], axis=1)[1],
    "unstack": lambda x: ops.unstack(x, axis=2)[3],
    "stack": lambda x: ops.stack([x, 2 * x], 1),
    "stack_last": lambda x: ops.stack([x, x], -1),
    "tile": lambda x: ops.tile(x, (1, 2, 1, 3)),
    "repeat": lambda x: ops.repeat(x, 3, 2),
    "take": lambda x: ops.take(x, [2, 0, 2], -1),
    "take_one": lambda x: ops.take(x, 4, axis=1),
    "roll": lambda x: ops.roll(x, 2, axis=1),
    "strided": lambda x: x[:, ::2, 1::3],
    "backwards": lambda x: x[:, ::-1, 4:0:-2],
    "numbers": lambda x: x[:, 2, ..., -1],
    "adaptive_average": lambda x: layers.AdaptiveAveragePooling2D((4, 3))(x),
    "adaptive_average_up": lambda x: layers.AdaptiveAveragePooling2D((7, 6))(x),
    "einsum_dense": lambda x: layers.EinsumDense("abcd,de->abce", (6, 6, 3))(x),
    "einsum_dots": lambda x: layers.EinsumDense("...d,de->...e", 3)(x),
    "conv": lambda x: ops.conv(x, KERNEL[..., :2], strides=2),
    "depthwise_conv": lambda x: ops.depthwise_conv(x, KERNEL, padding="same", dilation_rate=2),
    "separable_conv": lambda x: ops.separable_conv(x, KERNEL[..., :2], np.ones((1, 1, 8, 3), "float32")),
    "where_zero": lambda x: ops.where(x > 0.3, x, 0.0),
    "times_truth": lambda x: ops.where(ops.logical_not(ops.logical_and(x > 0.3, x < 1)), x, 2 * x),
}
OTHERS = {
    "adaptive_max": lambda x: layers.AdaptiveMaxPooling2D((4, 3))(x),
    "where": lambda x: ops.where(ops.greater_equal(x, 0.2), ops.sin(x), 3 * x),
    "cast": lambda x: x * ops.cast(x > 0.5, "float32"),
    "sign": lambda x: x * ops.sign(x),
    "floor": lambda x: x * ops.floor(3 * x),
    "stop_gradient": lambda x: x - 0 * ops.stop_gradient(x),
    "std": lambda x: ops.std(x, (1, 2)),
    "var": lambda x: ops.var(x, -1, keepdims=True),
    "logsumexp": lambda x: ops.logsumexp(x, -1),
    "logsumexp_kept": lambda x: ops.logsumexp(x, (1, 2), keepdims=True),
    "min": lambda x: ops.min(x, (1, 2)),
    "hard_shrink": lambda x: ops.hard_shrink(x, 0.2),
    "soft_shrink": lambda x: layers.Activation("soft_shrink")(x),
    "sparse_plus": lambda x: layers.Activation("sparse_plus")(x),
    "sparse_sigmoid": lambda x: layers.Activation("sparse_sigmoid")(2 * x),
    "sparsemax": lambda x: layers.Activation("sparsemax")(x),
    "threshold": lambda x: ops.threshold(x, 0.3, 0.0),
    "einsum": lambda x: ops.einsum("abcd,abed->ace", x, ops.sin(x)),
    # by automatic differentiation
    "normalize": lambda x: ops.normalize(x, axis=-1),
    "cumsum": lambda x: ops.cumsum(x, axis=1),
    "arctan": lambda x: ops.arctan(x),
}
STEPS = {
    "time_distributed": lambda x: layers.TimeDistributed(layers.Dense(5, activation="tanh"))(x),
    "time_distributed_model": lambda x: layers.TimeDistributed(
        keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Activation("tanh"), layers.Dense(2)])
    )(x),
    "time_distributed_maps": lambda x: layers.TimeDistributed(layers.Conv1D(2, 2))(layers.Reshape((6, 2, 2))(x)),
    "masking": lambda x: layers.Masking()(x),
    "masked_mean": lambda x: layers.GlobalAveragePooling1D()(layers.Dropout(0.5)(layers.Masking()(x))),
    "masked_gru": lambda x: layers.GRU(3)(layers.Masking()(x)),
    "masked_dense": lambda x: layers.TimeDistributed(layers.Dense(3))(layers.Masking()(x)),
    "attention": lambda x: layers.MultiHeadAttention(2, 3)(x, x),
    "masked_attention": lambda x: layers.MultiHeadAttention(2, 3)(layers.Masking()(x), x),
    "attention_scores": lambda x: layers.MultiHeadAttention(2, 3, dropout=0.1)(x, ops.sin(x)),
    "causal_attention": lambda x: layers.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True),
    "additive_attention": lambda x: layers.AdditiveAttention()([x, x]),
    "simple_rnn": lambda x: layers.SimpleRNN(3)(x),
    "lstm": lambda x: layers.LSTM(3, return_sequences=True)(x),
    "lstm_state": lambda x: layers.LSTM(3, return_state=True)(x)[2],
    "bidirectional": lambda x: layers.Bidirectional(layers.GRU(3))(x),
}
IMAGE = RNG.normal(size=(6, 6, 4)).astype("float32")
for step in (0.1, 1 / 3):  # no value where a function jumps
    IMAGE += np.where(np.abs(IMAGE - step * np.round(IMAGE / step)) < 5e-3, 0.012, 0).astype("float32")
ROWS = RNG.normal(size=(6, 4)).astype("float32")
ROWS[4:] = 0  # masked
SUBJECTS = {"picks": (IMAGE, PICKS), "others": (IMAGE, OTHERS), "steps": (ROWS, STEPS)}


@pytest.fixture(scope="module", params=SUBJECTS)
def subject(request):
    """(image, {name: function}, model, slopes by differences (units, ...))."""
    image, functions = SUBJECTS[request.param]
    keras.utils.set_random_seed(3)
    model = branches(image.shape, functions)
    return image, functions, model, differences(model, image)


def units_of(method, model, image, count):
    return explain.EXPLANATIONS.get(method)(model, image[None], range(count))


def test_every_operation_has_its_slope(subject):
    image, functions, model, expected = subject
    values = units_of("saliency", model, image, len(functions))
    for name, one, slope in zip(functions, values, expected, strict=True):
        if name.startswith("masked") or name == "masking":  # a step of zeros that moves is no longer masked
            one, slope = one[:4], slope[:4]
        np.testing.assert_allclose(one, slope, atol=5e-3 * max(np.abs(slope).max(), 1), err_msg=name)


@pytest.mark.filterwarnings("ignore:guided_backprop equals the plain gradient")
def test_operations_are_no_rectifiers(subject):
    """Guided backpropagation gives the plain gradient; the threshold at 0.3 alone is a rectifier."""
    image, functions, model, _ = subject
    plain, values = (units_of(method, model, image, len(functions)) for method in ("saliency", "guided_backprop"))
    for name, one, expected in zip(functions, values, plain, strict=True):
        expected = np.maximum(expected, 0) if name == "threshold" else expected
        np.testing.assert_allclose(one, expected, atol=1e-6, err_msg=name)


def test_relevance_of_what_moves_is_conserved():
    model = branches(IMAGE.shape, PICKS)
    values = explain.lrp(model, IMAGE[None], range(len(PICKS)))
    scores = keras.ops.convert_to_numpy(model(IMAGE[None]))[0]
    np.testing.assert_allclose(values.sum((1, 2, 3)), scores, rtol=1e-3, atol=1e-4)


def test_equal_values_in_adaptive_max_pooling_go_to_the_first():
    inputs = keras.Input((3, 3, 1))
    model = keras.Model(inputs, layers.Flatten()(layers.AdaptiveMaxPooling2D((2, 2))(inputs)))
    values = explain.saliency(model, np.ones((1, 3, 3, 1), "float32"), {0, 1, 2, 3})[0, ..., 0]
    np.testing.assert_array_equal(values, [[1, 1, 0], [1, 1, 0], [0, 0, 0]])


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_the_recurrent_networks_need_no_fallback(name):
    model = models.MODELS.get(name)(input_shape=(6, 5, 1), hidden_units=4)
    images = RNG.normal(size=(2, 6, 5, 1)).astype("float32")
    scores = keras.Model(model.input, model.layers[-2].output)
    expected = differences(scores, images[0])[3]
    np.testing.assert_allclose(explain.saliency(model, images, 3)[0], expected, atol=1e-3)
    table = explain.coverage(model)
    assert table.loc[table["layer"] == name, ["rule", "backward"]].to_numpy().tolist() == [
        ["autodiff", "automatic derivative"]
    ]
    with pytest.raises(UsageError, match=rf"layer '{name}': \w+ cannot be traced .*autodiff"):
        explain.lrp(model, images, 3)


def test_a_recurrent_layer_with_relu_may_hold_a_rectifier():
    inputs = keras.Input((6, 4))
    rows = layers.SimpleRNN(3, activation="relu", bias_initializer=keras.initializers.Constant(9.0), name="rows")
    model = keras.Model(inputs, layers.Dense(2)(rows(inputs)))  # the bias keeps its units alive
    assert explain.saliency(model, ROWS[None], 1).all()
    with pytest.raises(UsageError, match=r"layer 'rows': SimpleRNN cannot be traced .*fallback=\"autodiff\""):
        explain.guided_backprop(model, ROWS[None], 1)


class Inner(layers.Layer):
    """A layer of the user's own with an operation that no rule serves and a ReLU."""

    def call(self, x):
        return ops.relu(ops.arctan(x)) - ops.relu(-x)


def test_inside_a_layer_of_the_users_own_rectifiers_stay_rectifiers():
    inputs = keras.Input((6, 4))
    model = branches((6, 4), {"inner": Inner(name="inner")})
    by_hand = branches((6, 4), {"hand": lambda x: ops.relu(ops.arctan(x)) - ops.relu(-x)})
    assert inputs.shape == model.input_shape
    np.testing.assert_allclose(
        explain.guided_backprop(model, ROWS[None], 0), explain.guided_backprop(by_hand, ROWS[None], 0)
    )


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * ops.mean(x),
        lambda x: ops.cumsum(x, axis=0),
        lambda x: ops.flip(x, 0),
        lambda x: ops.roll(x, 1, axis=0),
    ],
)
def test_operations_that_mix_images_are_refused_by_name(function):
    inputs = keras.Input(batch_shape=(2, 6, 4))
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(function(inputs))))
    with pytest.raises(UsageError, match=r"No rule walks back through layer '\w+': .*fallback=\"autodiff\""):
        explain.saliency(model, np.stack([ROWS, ROWS]), 1)


@pytest.mark.parametrize(
    ("function", "answer"),
    [
        (lambda x: ops.max(x, (1, 2), initial=0.5), [[0.5, 0.5, 2]]),
        (lambda x: ops.min(x, (1, 2), initial=0.5), [[-3, -1, 0.5]]),
        (lambda x: ops.round(x, 1)[:, 0, 0], [[-3, -0.3, 2]]),
        (lambda x: ops.clip(x, np.array([-1.0, 0, 0]), np.array([0.0, 1, 1.5]))[:, 0, 0], [[-1, 0, 1.5]]),
    ],
    ids=["max", "min", "round", "clip"],
)
def test_options_that_no_rule_knows_are_no_silent_mistake(function, answer):
    """The steps compute what the model answers."""
    inputs = keras.Input((1, 2, 3))
    model = keras.Model(inputs, function(inputs))
    images = np.array([[[[-3, -0.26, 2], [-2, -1, 1]]]], "float32")
    np.testing.assert_allclose(model.predict(images, verbose=0), answer, atol=1e-6)
    plan = make_plan(model, opaque_step)
    computed = run(plan, Task(plan.steps, plan.inputs, plan.outputs), [images], [])[0][0]
    np.testing.assert_allclose(computed, answer, atol=1e-6)
