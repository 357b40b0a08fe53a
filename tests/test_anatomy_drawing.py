"""The SVG picture: well-formed, one box and name per layer, a line per connection, lines that do not overlap."""

import xml.etree.ElementTree as ET

import pytest
from keras import Input, Model, layers

from kerascnn import models
from kerascnn.anatomy import drawing
from kerascnn.anatomy.drawing import _lanes
from kerascnn.network import graph

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("name", models.MODELS.names())
def test_every_layer_has_a_box_and_a_name_and_every_connection_a_line(name):
    with graph.without_weights():
        model = models.MODELS.get(name)()
    picture = ET.fromstring(drawing(model))
    names = [text.text.strip() for text in picture.iter(f"{SVG}text") if text.get("class") == "name"]
    assert sorted(names) == sorted(layer.name for layer in model.layers)
    assert len(list(picture.iter(f"{SVG}rect"))) == len(names) + 1  # and the background
    connections = sum(len(node.inputs) for node in graph.flatten(model).nodes)
    assert len(list(picture.iter(f"{SVG}path"))) == connections


def test_nothing_lies_outside_the_picture():
    with graph.without_weights():
        picture = ET.fromstring(drawing(models.resnet18()))
    width, height = float(picture.get("width")), float(picture.get("height"))
    for box in picture.iter(f"{SVG}rect"):
        x, y = float(box.get("x", 0)), float(box.get("y", 0))
        assert x >= 0
        assert y >= 0
        assert x + float(box.get("width")) <= width
        assert y + float(box.get("height")) <= height


def test_names_are_escaped():
    inputs = Input((2,), name="a<b")
    picture = ET.fromstring(drawing(Model(inputs, layers.Dense(1, name="x&y")(inputs), name='<"m">')))
    assert any("x&y" in (text.text or "") for text in picture.iter(f"{SVG}text"))


def test_connections_that_pass_each_other_have_their_own_lanes():
    lanes = _lanes([(0, 5), (1, 3), (3, 6), (6, 9), (0, 5)])
    assert lanes == {(0, 5): 0, (1, 3): 1, (3, 6): 1, (6, 9): 0}
