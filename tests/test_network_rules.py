"""Steps that walk back by the backend's own derivative, by pencil; ties go to the first."""

import numpy as np
import pytest
from keras import ops

from kerascnn.backends import vector_jacobian
from kerascnn.network import plan
from kerascnn.network.rules.rule import RULES


def walked(name, config, *xs, weights=(), g=1.0):
    """(y, what each x gets) of one step, for a signal g."""
    assert plan.make_plan  # its import fills the table of rules
    xs = [ops.convert_to_tensor(np.asarray(x, "float32")) for x in xs]
    weights = [ops.convert_to_tensor(np.asarray(w, "float32")) for w in weights]
    y, record = RULES[name].forward(config, weights, *xs)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(RULES[name].value(config, weights, *xs)), ops.convert_to_numpy(y)
    )
    g = ops.convert_to_tensor(np.broadcast_to(np.float32(g), tuple(y.shape)))
    back = RULES[name].backward(config, weights, record, g)
    return [ops.convert_to_numpy(each).tolist() for each in (y, *back)]


def test_a_value_given_twice_has_two_derivatives():
    x = ops.convert_to_tensor(np.array([[3.0]], "float32"))
    _, back = vector_jacobian(lambda a, b: a * a * b, [x, x])
    assert [ops.convert_to_numpy(each).item() for each in back([ops.ones_like(x)])] == [18, 9]
    assert walked("concatenate", (1,), [[3]], [[3]], g=[[1, 10]]) == [[[3, 3]], [[1]], [[10]]]


@pytest.mark.parametrize(
    ("name", "config", "xs", "expected"),
    [
        ("take", (1, (0, 0, 2)), [[[5, 6, 7]]], [[[5, 5, 7]], [[2, 0, 1]]]),
        ("abs", (), [[[-2, 0, 2]]], [[[2, 0, 2]], [[-1, 0, 1]]]),
        ("square", (), [[[-2, 0, 3]]], [[[4, 0, 9]], [[-4, 0, 6]]]),
        ("reciprocal", (), [[[-2, 4]]], [[[-0.5, 0.25]], [[-0.25, -0.0625]]]),
        ("multiply", (), [[[2, 3]], [[4]]], [[[8, 12]], [[4, 4]], [[5]]]),
        ("maximum", (), [[[1, 2, 3]], [[3, 2, 1]]], [[[3, 2, 3]], [[0, 1, 1]], [[1, 0, 0]]]),
        ("minimum", (), [[[1, 2, 3]], [[3, 2, 1]]], [[[1, 2, 1]], [[1, 1, 0]], [[0, 0, 1]]]),
        ("repeat", (2,), [[[[1], [2]]]], [[[[1], [1], [2], [2]]], [[[2], [2]]]]),
        ("average_pool", ((2,), (2,), "same"), [[[[2], [4], [6]]]], [[[[3], [6]]], [[[0.5], [0.5], [1]]]]),
        ("adaptive_average", (2,), [[[[2], [4], [6]]]], [[[[3], [5]]], [[[0.5], [1], [0.5]]]]),
        ("mean", ((1,), True), [[[2, 4]]], [[[3]], [[0.5, 0.5]]]),
    ],
)
def test_by_pencil(name, config, xs, expected):
    assert walked(name, config, *xs) == expected
