"""TensorFlow, JAX and torch give the same maps, ties included."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("explain_on_backend.py")


@pytest.fixture(scope="module")
def maps_of(tmp_path_factory):
    """Function backend -> {name: map}, each computed once in a process of its own."""
    done, folder = {}, tmp_path_factory.mktemp("maps")

    def get(backend):
        if importlib.util.find_spec(backend) is None:
            pytest.skip(f"{backend} is not installed")
        if backend not in done:
            file = folder / f"{backend}.npz"
            environment = {**os.environ, "KERAS_BACKEND": backend}
            run = subprocess.run(
                [sys.executable, SCRIPT, file], env=environment, capture_output=True, text=True, check=False
            )
            assert run.returncode == 0, run.stderr[-3000:]
            done[backend] = dict(np.load(file))
        return done[backend]

    return get


@pytest.mark.parametrize("backend", [pytest.param(name, marks=pytest.mark.slow) for name in ("jax", "torch")])
def test_same_maps_as_tensorflow(maps_of, backend):
    expected, maps = maps_of("tensorflow"), maps_of(backend)
    assert expected.keys() == maps.keys()
    for name, value in expected.items():
        if name.startswith("switches"):
            # Behind layers that round, a tie may be one on one backend only; the first pooling sees exact ties.
            assert (value == maps[name]).mean() > 0.99, name
            continue
        np.testing.assert_allclose(maps[name], value, rtol=0, atol=1e-5 * np.abs(value).max(), err_msg=name)
        assert np.abs(value).max() > 0, name
