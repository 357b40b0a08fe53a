"""The layer table: the CS7011 report's numbers, nested and shared layers, formats, and multiply-accumulates."""

import io
import json

import keras
import numpy as np
import pandas as pd
import pytest
from keras import Input, Model, Sequential, layers

from kerascnn import models
from kerascnn.anatomy import as_text, layer_table, printed, totals
from kerascnn.errors import UsageError
from kerascnn.network import graph


@pytest.fixture(scope="module")
def table():
    with graph.without_weights():
        return layer_table(models.cifar_net())


def test_the_reports_totals(table):
    total = totals(table)
    assert total.loc["all", ["parameters", "trainable", "not_trainable"]].tolist() == [6_216_114, 6_216_094, 20]
    assert total["parameters"].tolist() == [6_216_114, 960_896, 5_255_218]
    assert total.loc[["convolutional", "dense"], "neurons"].tolist() == [131_072, 2_058]


def test_a_row_by_pencil(table):
    row = table.set_index("layer").loc["conv2"]
    assert (row.type, row.input_shape, row.output_shape) == ("Conv2D", (None, 16, 16, 64), (None, 16, 16, 128))
    assert (row.parameters, row.trainable, row.not_trainable) == (73_856, 73_856, 0)
    assert row.neurons == 16 * 16 * 128
    assert row.macs == 16 * 16 * 128 * (3 * 3 * 64)
    assert row.activation_bytes == 16 * 16 * 128 * 4
    # 3x3, a pool of 2, 3x3 at stride 2: 3 + 1 + 4 = 8 wide; padding 1 and 1 at stride 2 begin it 3 early.
    assert (row.rf_size, row.rf_stride, row.rf_offset) == ((8, 8), (2, 2), (-3, -3))


def test_printed_reads_like_the_reports_table(table):
    lines = printed(table).splitlines()
    assert lines[0].split() == ["Layer", "(type)", "Input", "Shape", "Output", "Shape", "Param"]
    assert ["conv1", "(Conv2D)", "(None,", "32,", "32,", "3)", "(None,", "32,", "32,", "64)", "1,792"] in [
        x.split() for x in lines
    ]
    assert "Parameters: 6,216,114, of which 6,216,094 are trainable and 20 are not;" in lines
    assert "    960,896 in the convolutional layers, 5,255,218 in the dense layers." in lines
    assert "Neurons: 131,072 in the convolutional layers, 2,058 in the dense layers." in lines
    assert len({len(line) for line in lines[:16]}) == 1


@pytest.mark.parametrize("what", ["table", "totals"])
def test_formats(table, what):
    frame = table if what == "table" else totals(table)
    rows = json.loads(as_text(frame, "json"))
    assert len(rows) == len(frame)
    assert [row["parameters"] for row in rows] == frame["parameters"].tolist()
    again = pd.read_csv(io.StringIO(as_text(frame, "csv")))
    assert again["macs"].tolist() == frame["macs"].tolist()
    markdown = as_text(frame, "markdown").splitlines()
    assert len(markdown) == len(frame) + 2
    assert all(line.startswith("|") for line in markdown)
    latex = as_text(frame, "latex")
    assert latex.startswith("\\begin{tabular}")
    assert "activation\\_bytes" in latex
    html = as_text(frame, "html")
    assert html.count("<tr") == len(frame) + 1
    with pytest.raises(UsageError, match=r"Unknown table format 'markdwon'. Did you mean 'markdown'"):
        as_text(frame, "markdwon")


def test_json_keeps_shapes_as_lists(table):
    assert json.loads(as_text(table, "json"))[1]["output_shape"] == [None, 32, 32, 64]


def test_shared_and_nested_layers_count_once():
    block = Sequential([Input((8, 8, 2)), layers.Conv2D(2, 3, padding="same", name="conv")], name="block")
    inputs = Input((8, 8, 2), name="image")
    x = block(block(inputs))
    model = Model(inputs, layers.Dense(3, name="fc")(layers.Flatten(name="flat")(x)))
    table = layer_table(model)
    assert table["layer"].tolist() == ["image", "block/conv", "block/conv#2", "flat", "fc"]
    assert table["parameters"].tolist() == [0, 38, 0, 0, 387]
    assert table["parameters"].sum() == model.count_params()
    assert table["macs"].tolist() == [0, 64 * 36, 64 * 36, 0, 128 * 3]


def test_frozen_layers_are_not_trainable():
    model = models.lenet5()
    model.get_layer("c3").trainable = False
    row = layer_table(model).set_index("layer").loc["c3"]
    assert (row.trainable, row.not_trainable) == (0, 2_416)


def test_low_precision_halves_activations():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        rows = layer_table(models.lenet5()).set_index("layer")
    finally:
        keras.config.set_dtype_policy("float32")
    assert rows.loc["c1", "activation_bytes"] == 28 * 28 * 6 * 2
    assert rows.loc["probabilities", "activation_bytes"] == 10 * 4


def test_open_sizes_are_open_until_a_size_is_given():
    inputs = Input((None, None, 3))
    model = Model(inputs, layers.Conv2D(4, 3, name="conv")(inputs))
    row = layer_table(model).set_index("layer").loc["conv"]
    assert row.output_shape == (None, None, None, 4)
    assert pd.isna(row.macs)
    assert row.parameters == 112
    assert "not known" in printed(layer_table(model))
    row = layer_table(model, input_shape=(10, 12, 3)).set_index("layer").loc["conv"]
    assert row.macs == 8 * 10 * 4 * 27


@keras.saving.register_keras_serializable("test", name="other name")
class Doubled(layers.Layer):
    def call(self, x):
        return 2 * x


class NotRegistered(Doubled):
    pass


def test_a_layer_of_the_users_own_in_a_model_that_is_not_built():
    model = Sequential([NotRegistered(), layers.Conv2D(4, 3, name="conv")])
    assert layer_table(model, input_shape=(5, 5, 1))["parameters"].tolist() == [0, 0, 40]


def test_models_that_are_not_built():
    model = Sequential([layers.Conv2D(4, 3, name="conv")], name="late")
    with pytest.raises(UsageError, match="'late' is not built"):
        layer_table(model)
    assert layer_table(model, input_shape=(5, 5, 1))["parameters"].tolist() == [0, 40]
    assert not model.built
    with pytest.raises(UsageError, match=r"takes inputs of \(5, 5, 1\); not input_shape=\(5, 5, 2\)"):
        layer_table(Sequential([Input((5, 5, 1)), layers.Conv2D(4, 3)], name="m"), input_shape=(5, 5, 2))
    with graph.without_weights():
        model = models.cifar_net()
    with pytest.raises(UsageError, match=r"cannot take input_shape=\(40, 40, 3\): layer 'fc1' was made for 4096"):
        layer_table(model, input_shape=(40, 40, 3))


def test_several_inputs():
    a, b = Input((4,), name="a"), Input((4,), name="b")
    table = layer_table(Model([a, b], layers.Add(name="sum")([a, b])))
    assert table["layer"].tolist() == ["a", "b", "sum"]
    assert table.loc[2, "input_shape"] == [(None, 4), (None, 4)]


# torchvision's documentation prints these as "GFLOPS" of multiply-accumulates at 224x224.
PUBLISHED_GIGA_MACS = {
    "resnet18": 1.81,
    "resnet34": 3.66,
    "resnet50": 4.09,
    "vgg11": 7.61,
    "vgg13": 11.31,
    "vgg16": 15.47,
    "vgg19": 19.63,
}


@pytest.mark.parametrize("name", PUBLISHED_GIGA_MACS)
def test_published_multiply_accumulates(name):
    with graph.without_weights():
        total = totals(layer_table(models.MODELS.get(name)()))
    assert round(total.loc["all", "macs"] / 1e9, 2) == PUBLISHED_GIGA_MACS[name]


@pytest.mark.parametrize("name", models.MODELS.names())
def test_multiply_accumulates_as_tensorflow_counts_them(name):
    """TensorFlow's profiler counts two operations per multiply-accumulate in its graph of the network."""
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("TensorFlow's graph is counted")
    if name in ("rnn", "lstm", "gru"):
        pytest.skip("a loop counts once in the graph")
    from test_models import small

    model = small(name)
    function = tf.function(lambda x: model(x, training=False), autograph=False)
    concrete = function.get_concrete_function(tf.TensorSpec((1, *model.input_shape[1:])))
    shapes = {op.name: op for op in concrete.graph.get_operations()}
    counted = 0
    for operation in shapes.values():
        if operation.type == "Conv2D":
            counted += int(np.prod(operation.outputs[0].shape)) * int(np.prod(operation.inputs[1].shape[:3]))
        elif operation.type == "MatMul":
            counted += int(np.prod(operation.inputs[0].shape)) * int(operation.inputs[1].shape[1])
    lrn = sum(
        int(np.prod(layer.output.shape[1:])) * layer.output.shape[-1]
        for layer in model.layers
        if type(layer).__name__ == "LocalResponseNormalization"
    )
    assert counted - lrn == totals(layer_table(model)).loc["all", "macs"]


@pytest.mark.parametrize(("name", "gates"), [("rnn", 1), ("lstm", 4), ("gru", 3)])
def test_recurrent_multiply_accumulates_by_pencil(name, gates):
    with graph.without_weights():
        rows = layer_table(models.MODELS.get(name)()).set_index("layer")
    assert rows.loc[name, "macs"] == 28 * gates * 100 * (28 + 100)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (layers.DepthwiseConv2D(3, name="x"), 6 * 6 * 4 * 9),
        (layers.SeparableConv2D(5, 3, name="x"), 6 * 6 * (4 * 9 + 4 * 5)),
        (layers.Conv2DTranspose(5, 3, strides=2, name="x"), 8 * 8 * 9 * 4 * 5),
        (layers.Conv2D(6, 3, groups=2, name="x"), 6 * 6 * 6 * 9 * 2),
        (layers.Dense(7, name="x"), 8 * 8 * 4 * 7),
        (layers.BatchNormalization(name="x"), 0),
        (layers.MultiHeadAttention(2, 2, name="x"), None),
    ],
)
def test_multiply_accumulates_by_pencil(layer, expected):
    inputs = Input((8, 8, 4))
    out = layer(inputs, inputs) if isinstance(layer, layers.MultiHeadAttention) else layer(inputs)
    macs = layer_table(Model(inputs, out)).set_index("layer").loc["x", "macs"]
    assert pd.isna(macs) if expected is None else macs == expected


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (layers.SeparableConv1D(6, 3, name="x"), (20, 4), (18 * 6, 18 * (3 * 4 + 4 * 6))),
        (layers.DepthwiseConv1D(3, name="x"), (18, 6), (16 * 6, 16 * 3 * 6)),
        (layers.Conv3DTranspose(2, 2, strides=2, name="x"), (3, 3, 3, 4), (6**3 * 2, 3**3 * 8 * 4 * 2)),
    ],
)
def test_neurons_and_products_of_other_convolutions(layer, shape, expected):
    inputs = Input(shape)
    row = layer_table(Model(inputs, layer(inputs))).set_index("layer").loc["x"]
    assert (row.neurons, row.macs) == expected
    assert row.part == "convolutional"


KERNEL = np.ones((3, 3, 2, 4), "float32")


class Halves(layers.Layer):
    """A layer of a user's own: a convolution of weights of its own, a pooling, a product with a constant matrix."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(3, 3, shape[-1], 5))

    def call(self, x):
        return keras.ops.matmul(keras.ops.max_pool(keras.ops.conv(x, self.kernel), 2), np.ones((5, 7), "float32"))


@pytest.mark.parametrize(
    ("function", "shape", "expected"),
    [
        (lambda x: layers.Attention()([x, x]), (16, 32), 2 * 16 * 16 * 32),
        (lambda x: layers.Dot(axes=(2, 2))([x, x]), (16, 32), 16 * 16 * 32),
        (lambda x: keras.ops.matmul(x, keras.ops.transpose(x, (0, 2, 1))), (16, 32), 16 * 16 * 32),
        (lambda x: keras.ops.einsum("bij,bkj->bik", x, x), (16, 32), 16 * 16 * 32),
        (lambda x: keras.ops.max_pool(x, 2), (16, 32), 0),
        (layers.EinsumDense("bij,jk->bik", (16, 6)), (16, 32), 16 * 32 * 6),
        (layers.TimeDistributed(layers.Conv2D(4, 3)), (5, 8, 8, 2), 5 * 6 * 6 * 4 * 9 * 2),
        (layers.Lambda(lambda x: keras.ops.conv(x, KERNEL)), (8, 8, 2), 6 * 6 * 4 * 9 * 2),
        (Halves(), (8, 8, 2), 6 * 6 * 5 * 9 * 2 + 3 * 3 * 5 * 7),
        (lambda x: keras.ops.conv(x, KERNEL, strides=2, padding="same"), (8, 8, 2), 4 * 4 * 4 * 9 * 2),
        (lambda x: keras.ops.depthwise_conv(x, KERNEL), (8, 8, 2), 6 * 6 * 9 * 2 * 4),
        (
            lambda x: keras.ops.separable_conv(x, KERNEL, np.ones((1, 1, 8, 3), "float32")),
            (8, 8, 2),
            6 * 6 * 8 * (9 + 3),
        ),
        (lambda x: keras.ops.conv(x, keras.ops.ones((3, 3, 2, 4)) * keras.ops.mean(x)), (8, 8, 2), None),
    ],
)
def test_products_of_operations_and_traced_layers_by_pencil(function, shape, expected):
    inputs = Input(shape)
    macs = layer_table(Model(inputs, function(inputs)))["macs"].iloc[-1]
    assert pd.isna(macs) if expected is None else macs == expected


def test_a_layer_of_the_users_own_is_convolutional_as_its_steps_are():
    inputs = Input((8, 8, 2))
    table = layer_table(Model(inputs, layers.Lambda(lambda x: keras.ops.conv(x, KERNEL), name="x")(inputs)))
    row = table.set_index("layer").loc["x"]
    assert (row.part, row.neurons, row.rf_size) == ("convolutional", 6 * 6 * 4, (3, 3))
