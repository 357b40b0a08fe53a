"""One way to name a place in a network: layers, calls, patterns, ranges, the deepest; one error."""

import numpy as np
import pytest
from keras import Input, Model, Sequential, layers

from kerascnn import explain
from kerascnn.anatomy import receptive_field
from kerascnn.dataset_scan.scanned_layers import scanned_layers
from kerascnn.errors import UsageError
from kerascnn.network.find import call_names, find, find_all, layers_in
from kerascnn.network.plan import make_plan
from kerascnn.training.transfer import freeze, frozen_layers


@pytest.fixture(scope="module")
def model():
    """conv1, then a backbone of conv1, conv2 and pool, then `shared` twice and two dense layers."""
    parts = [layers.Conv2D(2, 3, padding="same", name=f"conv{i}") for i in (1, 2)]
    backbone = Sequential([Input((8, 8, 2)), *parts, layers.MaxPooling2D(2, name="pool")], name="backbone")
    shared = layers.Conv2D(2, 3, padding="same", name="shared")
    x = layers.Conv2D(2, 1, name="conv1")(inputs := Input((8, 8, 1)))
    x = layers.Flatten(name="flat")(shared(shared(backbone(x))))
    return Model(inputs, layers.Dense(2, name="fc2")(layers.Dense(3, name="fc1")(x)), name="tiny")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("conv1", ["conv1"]),
        ("conv2", ["conv2"]),  # as it was asked for
        ("backbone/conv1", ["backbone/conv1"]),
        ("backbone/*", ["backbone/conv1", "backbone/conv2", "backbone/pool"]),
        ("conv*", ["conv1", "backbone/conv1", "backbone/conv2"]),
        ("fc?, conv1", ["fc1", "fc2", "conv1"]),
        ("conv1..pool", ["conv1", "backbone/conv1", "backbone/conv2", "backbone/pool"]),
        ("shared#2", ["shared#2"]),
        ("share*", ["shared#1", "shared#2"]),
        (["fc1", "fc*"], ["fc1", "fc2"]),
        ("deepest#2", ["deepest#2"]),
    ],
)
def test_find_all(model, name, expected):
    assert [place.name for place in find_all(make_plan(model), name)] == expected


def test_what_a_name_stands_for(model):
    plan = make_plan(model)
    assert find(plan, "deepest#1") == ("shared#1", "shared", plan.layers["shared"][0])
    assert find(plan, "shared", call=1).value == plan.layers["shared"][0]
    assert find(plan, "pool").path == "backbone/pool"
    assert call_names(plan) == [
        *("conv1", "backbone/conv1", "backbone/conv2", "backbone/pool", "shared#1", "shared#2", "flat", "fc1", "fc2")
    ]
    assert find(layers_in(model), "pool").value is model.get_layer("backbone").get_layer("pool")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("conv3", r"'tiny' has no layer 'conv3'. Did you mean 'conv1'.*deepest is 'shared'. List them: .*table tiny"),
        ("conv[3-9]", r"has no layer 'conv\[3-9\]'"),
        ("shared", "is called 2 times: type 'shared#1' or 'shared#2'"),
        ("shared#3", "has calls #1 to #2; received 'shared#3'"),
        ("conv1#2", "has one call; received 'conv1#2'"),
        ("backbone", "several layers called 'backbone': type one of backbone/conv1, backbone/conv2, backbone/pool"),
        ("fc2..fc1", "'fc2..fc1' is empty: 'fc1' comes before 'fc2'"),
        ("fc1..fc9", "has no layer 'fc9'. Did you mean"),
    ],
)
def test_errors(model, name, message):
    with pytest.raises(UsageError, match=message):
        find(make_plan(model), name)


def test_no_name_at_all(model):
    with pytest.raises(UsageError, match="No layer of model 'tiny' is named"):
        find_all(make_plan(model), " , ")


def test_every_look_takes_the_same_names(model):
    images = np.ones((1, 8, 8, 1), "float32")
    assert list(explain.activations(model, images, "conv*")) == ["conv1", "backbone/conv1", "backbone/conv2"]
    assert explain.activations(model, images, "deepest#1").shape == (1, 4, 4, 2)
    assert explain.saliency(model, images, explain.Neuron("pool", 0)).shape == (1, 8, 8, 1)
    assert receptive_field(model, "pool").size == (6, 6)
    assert receptive_field(model, "shared#2").size == (14, 14)
    assert [each.name for each in scanned_layers(model, "backbone/conv*")] == ["backbone/conv1", "backbone/conv2"]


def test_layers_of_a_nested_model_are_frozen(model):
    assert frozen_layers(model, "backbone") == ["backbone/conv1", "backbone/conv2", "backbone/pool"]
    freeze(model, frozen_layers(model, "backbone/conv2, fc1"))
    kept = {v.path for v in model.non_trainable_variables}
    assert len(kept) == 4
    assert all("conv2" in path or "fc1" in path for path in kept)
