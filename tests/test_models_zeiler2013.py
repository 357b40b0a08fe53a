"""The Zeiler-Fergus network: the sides that figure 3 prints, and its count by pencil."""

from kerascnn import models
from kerascnn.network import graph


def test_the_sides_of_figure_3():
    with graph.without_weights():
        shapes = {layer.name: tuple(layer.output.shape[1:]) for layer in models.zfnet().layers}
    sides = ["conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5"]
    assert [shapes[name][0] for name in sides] == [110, 55, 26, 13, 13, 13, 13, 6]
    assert [shapes[name][2] for name in sides] == [96, 96, 256, 256, 384, 384, 256, 256]


def test_count_by_pencil():
    convolutions = 49 * 3 * 96 + 25 * 96 * 256 + 9 * (256 * 384 + 384 * 384 + 384 * 256) + 96 + 256 + 384 + 384 + 256
    dense = (6 * 6 * 256 + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 1000
    assert convolutions + dense == models.MODELS.facts("zfnet")["parameters"]
