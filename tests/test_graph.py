"""The flat graph: nested models opened, shared layers once per call, and calling it again gives the model's output."""

import keras
import numpy as np
import pytest
from keras import Input, Model, Sequential, layers, ops

from kerascnn.errors import UsageError
from kerascnn.network import graph


def nested_and_shared():
    """A block that holds another, called twice; a shared layer; two inputs; an operation that is no layer."""
    a = Input((6, 6, 2))
    conv = layers.Conv2D(2, 3, padding="same", name="conv")
    inner = Sequential([Input((6, 6, 2)), conv, layers.ReLU()], name="inner")
    block = Model(a, layers.Add(name="add")([a, inner(a)]), name="block")
    left, right = Input((6, 6, 2), name="left"), Input((6, 6, 2), name="right")
    shared = layers.Conv2D(2, 1, name="shared")
    x = ops.maximum(shared(block(left)), shared(block(right)))
    return Model([left, right], layers.Concatenate(name="concat")([x, left]))


def test_paths_calls_and_order():
    flat = graph.flatten(nested_and_shared())
    names = [(node.name, node.call) for node in flat.nodes]
    assert {("block/inner/conv", 0), ("block/inner/conv", 1), ("block/add", 0), ("shared", 1)} <= set(names)
    assert names[-1] == ("concat", 0)
    assert flat.input_names == ("left", "right")
    seen = set(flat.inputs)
    for node in flat.nodes:
        assert set(node.inputs) <= seen
        assert not seen & set(node.outputs)
        seen |= set(node.outputs)
    assert flat.tensors[flat.outputs[0]].shape == (None, 6, 6, 4)


def test_calling_the_nodes_gives_the_models_output():
    model = nested_and_shared()
    images = [np.random.default_rng(i).normal(size=(3, 6, 6, 2)).astype("float32") for i in (0, 1)]
    flat = graph.flatten(model)
    out = flat.run([ops.convert_to_tensor(x) for x in images])[flat.outputs[0]]
    np.testing.assert_array_equal(ops.convert_to_numpy(out), ops.convert_to_numpy(model(images)))


def test_a_sequential_inside_a_sequential_is_flat():
    inner = Sequential([layers.Dense(3, name="a"), layers.Dense(2, name="b")], name="inner")
    model = Sequential([Input((4,)), inner, layers.Dense(1, name="c")])
    assert [node.name for node in graph.flatten(model).nodes] == ["inner/a", "inner/b", "c"]


class Own(Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Sequential([layers.Dense(2)], name="open"), r"Sequential model 'open' is not built.*keras.Input"),
        (Own(name="own"), r"'own' \(Own\) is a subclass"),
        (layers.Dense(2), "A keras.Model is needed; received Dense"),
        ("cifar_net", "received str"),
    ],
)
def test_models_without_a_graph(model, message):
    with pytest.raises(UsageError, match=message):
        graph.flatten(model)


def test_flatten_leaves_the_model_as_it_was():
    model = nested_and_shared()
    before = keras.saving.serialize_keras_object(model)
    graph.flatten(model)
    assert keras.saving.serialize_keras_object(model) == before


def test_without_weights_counts_but_holds_nothing():
    def build():
        return Sequential([Input((4,)), layers.Dense(3, name="a")])

    with graph.without_weights():
        model = build()
    assert model.count_params() == 15
    assert graph.flatten(model).tensors[-1].shape == (None, 3)
    # Keras fills in waiting variables when it next leaves a stateless scope: these must no longer wait.
    ops.convert_to_numpy(build()(np.zeros((1, 4), "float32")))
    with keras.StatelessScope():
        pass
    assert model.weights[0]._value is None


def test_a_nested_model_called_with_a_dict_gets_its_inputs_by_name():
    """The inner model lists its inputs in another order than that of the alphabet, in which a dict is flattened."""
    image, depth = Input((4,), name="image"), Input((4,), name="depth")
    inner = Model([image, depth], layers.Subtract()([image, depth]), name="inner")
    x = Input((4,))
    model = Model(x, inner({"depth": layers.Rescaling(2.0)(x), "image": layers.Rescaling(5.0)(x)}))
    ones = ops.ones((1, 4))
    flat = graph.flatten(model)
    np.testing.assert_array_equal(ops.convert_to_numpy(flat.run([ones])[flat.outputs[0]]), 3 * np.ones((1, 4)))
    np.testing.assert_array_equal(ops.convert_to_numpy(model(ones)), 3 * np.ones((1, 4)))
