"""Receptive fields of whatever a network's steps know, by pencil and by perturbation."""

import keras
import pytest
from keras import Input, Model, layers, ops
from test_anatomy_receptive_field import check_by_perturbation

import kerascnn.explain.subjects
from kerascnn.anatomy import layer_table, receptive_field
from kerascnn.dataset_scan.geometry import Geometry
from kerascnn.network.reach import REACH
from kerascnn.network.rules.rule import RULES


def network(function):
    """A 1x1 convolution of a 12x10 image, the function, named "tried", and a 1x1 convolution behind it."""
    x = inputs = Input((12, 10, 2))
    x = layers.Conv2D(4, 1, name="before")(x)
    y = layers.Identity(name="tried")(function(x))
    return Model(inputs, layers.Conv2D(2, 1, name="after")(y))


@keras.saving.register_keras_serializable("test_network_reach")
class LayerScale(layers.Layer):
    """Each channel times a weight, as in ConvNeXt."""

    def build(self, shape):
        self.gamma = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, x):
        return x * self.gamma


def shuffled(x):
    """Channels in another order, as in ShuffleNet."""
    x = layers.Permute((1, 2, 4, 3))(layers.Reshape((12, 10, 2, 2))(x))
    return layers.Reshape((12, 10, 4))(x)


def space_to_depth(x):
    x = ops.transpose(ops.reshape(x, (-1, 6, 2, 5, 2, 4)), (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, 6, 5, 16))


def attention(x):
    tokens = ops.reshape(x, (-1, 120, 4))
    return ops.reshape(layers.MultiHeadAttention(1, 2)(tokens, tokens), (-1, 12, 10, 4))


PENCIL = {  # function: (place, its box)
    "pooling as an operation": (lambda x: ops.max_pool(x, 3, 2), (1, 2), (2, 4, 5, 7)),
    "mean pooling as an operation": (lambda x: ops.average_pool(x, 3, 1, "same"), (0, 9), (0, 8, 2, 10)),
    "Lambda": (lambda x: layers.Lambda(lambda x: x[:, ::2, 1:] * 2)(x), (2, 3), (4, 4, 5, 5)),
    "LayerScale": (lambda x: LayerScale()(x), (2, 3), (2, 3, 3, 4)),
    "a pooling in a Lambda": (
        lambda x: layers.Lambda(lambda x: ops.max_pool(ops.relu(x), 2, 2))(x),
        (5, 4),
        (10, 8, 12, 10),
    ),
    "shuffled channels": (shuffled, (2, 3), (2, 3, 3, 4)),
    "space to depth": (space_to_depth, (5, 1), (10, 2, 12, 4)),
    "flip": (lambda x: ops.flip(x, 1), (2, 3), (9, 3, 10, 4)),
    "roll": (lambda x: ops.roll(x, 2, 2), (2, 1), (2, 9, 3, 10)),
    "rows as columns": (lambda x: layers.Permute((2, 1, 3))(x), (9, 11), (11, 9, 12, 10)),
    "adaptive mean": (lambda x: layers.AdaptiveAveragePooling2D((5, 4))(x), (1, 3), (2, 7, 5, 10)),
    "adaptive maximum": (lambda x: layers.AdaptiveMaxPooling2D((5, 4))(x), (4, 1), (9, 2, 12, 5)),
    "output padding": (lambda x: layers.Conv2DTranspose(2, 3, 2, "same", output_padding=1)(x), (3, 0), (1, 0, 2, 1)),
    "means of columns": (lambda x: x + ops.mean(x, 1, keepdims=True), (2, 3), (0, 3, 12, 4)),
    "softmax of rows": (lambda x: layers.Softmax(axis=2)(x), (2, 3), (2, 0, 3, 10)),
    "one on the other": (lambda x: ops.concatenate([x, x], 1), (14, 3), (2, 3, 3, 4)),
    "attention within rows": (lambda x: ops.einsum("nhwc,nhkc->nhwk", x, x), (2, 3), (2, 0, 3, 10)),
    "attention": (attention, (2, 3), (0, 0, 12, 10)),
    "a condition": (lambda x: ops.where(x > 1, x, 0.5 * x), (2, 3), (2, 3, 3, 4)),
    "expm1": (lambda x: ops.expm1(x / 1000), (2, 3), (2, 3, 3, 4)),
}


@pytest.mark.parametrize("name", PENCIL)
def test_by_pencil_and_by_perturbation(name):
    function, place, box = PENCIL[name]
    model = network(function)
    for layer in ("tried", "after"):
        assert receptive_field(model, layer).box(*place) == box
    check_by_perturbation(model, "after", (12, 10, 2), units=3)


def test_sizes_of_bicubic_are_those_of_the_backend():
    check_by_perturbation(network(layers.UpSampling2D(2, interpolation="bicubic")), "after", (12, 10, 2), units=3)


def test_operations_keep_size_stride_and_offset():
    model = network(lambda x: ops.average_pool(ops.max_pool(x, 2), 3, 1))
    field = receptive_field(model, "after")
    assert (field.size, field.stride, field.offset) == ((6, 6), (2, 2), (0, 0))
    assert layer_table(model)["rf_size"].iloc[-1] == (6, 6)


def test_operations_at_another_size():
    inputs = Input((None, None, 2))
    model = Model(inputs, layers.ReLU(name="end")(ops.max_pool(inputs[:, :, 1:], 2)))
    assert receptive_field(model, "end", input_shape=(8, 9, 2)).box(3, 3) == (6, 7, 8, 9)
    assert receptive_field(model, "end", input_shape=(4, 5, 2)).output_size == (2, 2)


def test_what_opens_into_no_steps_sees_everything_where_it_makes_no_map():
    x = inputs = Input((4, 4, 2))
    x = layers.LSTM(3, name="lstm")(ops.reshape(x, (-1, 4, 8)))
    assert receptive_field(Model(inputs, x), "lstm").box() == (0, 0, 4, 4)


def test_every_rule_has_a_reach():
    """But for those of layers that open into no steps."""
    assert kerascnn.explain.subjects.subject  # it adds rules, too
    alone = {name for name, rule in RULES.items() if rule.kind == "pass"}
    assert set(RULES) - alone - set(REACH) == {"unsupported", "opaque", "autodiff"}


def test_a_scan_of_pooling_as_an_operation_shows_patches_not_whole_images(recwarn):
    model = network(lambda x: ops.max_pool(x, 3, 3))
    geometry = Geometry.of(model, "after", (12, 10, 2), (4, 3, 2))
    assert geometry.size == (3, 3)
    assert not recwarn.list
