"""The maps against an independent reference: float64 NumPy with explicit loops, on random networks."""

import keras
import numpy as np
import pytest
from explain_networks import draw_network
from explain_reference import walk
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from kerascnn import explain

# Some of the networks have no rectifier, and some maps are zero
pytestmark = pytest.mark.filterwarnings("ignore:.*equals the plain gradient", "ignore:.*zero everywhere")
METHODS = ("saliency", "deconvnet", "guided_backprop")
RELAXED = {
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": list(HealthCheck),
    "database": None,
    "phases": (Phase.generate,),
}


@pytest.fixture(autouse=True)
def eager():
    """Each network is used six times only: on TensorFlow tracing it would take longer than running it."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def compare(network):
    for method in METHODS:
        expected = walk(network.calls, network.images, network.unit, method)
        scale = max(np.abs(expected).max(), 1e-30)
        values = explain.EXPLANATIONS.get(method)(network.model, network.images, network.unit)
        assert values.dtype == np.float32
        if np.abs(values - expected).max() > 1e-5 * scale:
            assume(well_posed(network, method, expected, scale))
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-5 * scale, err_msg=method)
        values = explain.EXPLANATIONS.get(method)(network.model, network.images, network.unit, dtype="float64")
        assert values.dtype == np.float64
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-10 * scale, err_msg=f"{method} in float64")


def well_posed(network, method, expected, scale):
    """False where the exact map itself jumps when the images change by a millionth: some ReLU is at its kink, and
    whether it passes is a matter of float32's rounding."""
    for factor in (1 - 1e-6, 1 + 1e-6):
        moved = walk(network.calls, network.images.astype("float64") * factor, network.unit, method)
        if np.abs(moved - expected).max() > 1e-5 * scale:
            return False
    return True


@settings(max_examples=25, **RELAXED)
@given(st.data())
def test_some_random_networks(data):
    compare(draw_network(data.draw))


@pytest.mark.slow
@settings(max_examples=300, **RELAXED)
@given(st.data())
def test_many_random_networks(data):
    compare(draw_network(data.draw))
