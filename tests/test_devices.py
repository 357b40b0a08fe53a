import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kerascnn
from kerascnn import backends
from kerascnn.errors import UsageError
from kerascnn.recipes import Recipe
from kerascnn.training.prepare import device_count

# Trains on one, two and "all" devices of a JAX that believes to have two, stops and resumes; prints nothing but errors.
SCRIPT = """
import keras
import kerascnn
from kerascnn.errors import UsageError
from kerascnn.recipes import Recipe

recipe = Recipe(
    epochs=2, batch_size=64, validation=143, augment=("crop",), dropout=0.3, ema=0.9, learning_rate=3e-3, monitor="loss"
)
for name, devices in (("one", 1), ("two", 2)):
    kerascnn.train(recipe, out=name, devices=devices, say=lambda line: None)
    assert keras.distribution.distribution() is None
kerascnn.train(recipe, out="resumed", devices="all", epochs=1, say=lambda line: None)
said = []
run = kerascnn.train(resume="resumed", epochs=2, watch=["activations", "patches"], say=said.append)
assert run.read("run")["data_parallel"] == 2
assert "2 devices share each batch; left out of each pass: 0 train and 1 validation images" in said, said
for changes, message in (
    ({"devices": 3}, "devices=3 is more than the 2 that JAX sees here. Give devices='all'"),
    ({"devices": 2, "batch_size": 63}, "batch_size=63 cannot be shared out evenly among 2 devices. Give batch_size="),
    ({"devices": 2, "validation": 1}, "is too few for 2 devices. Give validation=2 or more, or fewer devices."),
    ({"devices": 2, "image_size": 30_000}, "GB are free on each of 2 devices. "),
    ({"devices": 1, "resume": "two", "epochs": 3}, "was made with 2 devices, so it cannot resume exactly with 1"),
):
    try:
        kerascnn.train(None if "resume" in changes else recipe, out=None, **changes)
    except UsageError as error:
        assert message in str(error), error
    else:
        raise AssertionError(message)
"""


def on_two_devices(code, folder):
    environment = {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment, "PYTHONPATH": str(Path(__file__).parents[1])},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_two_devices_learn_what_one_learns_and_resume_exactly(tmp_path):
    pytest.importorskip("jax")
    on_two_devices(SCRIPT, tmp_path)

    def weights(name):
        return kerascnn.load(tmp_path / name).get_weights()

    def column(name, quantity):
        rows = csv.DictReader((tmp_path / name / "metrics.csv").read_text().splitlines())
        return [float(row[quantity]) for row in rows]

    np.testing.assert_allclose(column("one", "loss"), column("two", "loss"), rtol=1e-4)
    # float32 sums in another order, over 42 steps of Adam, which divides small gradients by their own size
    one, two = (np.concatenate([array.ravel() for array in weights(name)]) for name in ("one", "two"))
    assert np.linalg.norm(one - two) <= 1e-3 * np.linalg.norm(two)
    assert (np.abs(one - two) > 3e-3).mean() < 1e-3
    for array, resumed in zip(weights("two"), weights("resumed"), strict=True):
        np.testing.assert_array_equal(array, resumed)
    assert (tmp_path / "two" / "metrics.csv").read_bytes() == (tmp_path / "resumed" / "metrics.csv").read_bytes()


@pytest.mark.skipif(backends.backend() == "jax", reason="JAX shares batches out")
@pytest.mark.parametrize("devices", [2, "all"])
def test_without_jax_one_device_computes(devices, tmp_path):
    with pytest.raises(UsageError, match=f"devices={devices!r} needs JAX: with .* one device computes.*KERAS_BACKEND"):
        kerascnn.train(Recipe(), out=tmp_path / "a", devices=devices)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("devices", [0, -1, True, 1.5])
def test_a_number_of_devices_is_a_whole_number(devices):
    with pytest.raises(UsageError, match=r"devices=.* is not allowed: it must be a whole number above 0, or all"):
        device_count(devices, 64)


def test_one_device_is_the_default():
    assert device_count(None, 7) == device_count(1, 7) == 1


def test_the_command_knows_devices(call):
    code, _, err = call("train", "--devices", "many")
    assert code == 2
    assert "--devices" in err
    if backends.backend() != "jax":
        assert "--devices 2 needs JAX" in call("train", "--devices", "2")[2]
