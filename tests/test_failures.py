import contextlib
import os
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import kerascnn
from kerascnn import backends, cli, runs
from kerascnn.errors import TrainingFailed, UsageError, disk_full
from kerascnn.network.cost import cost
from kerascnn.recipes import Recipe
from kerascnn.training import finders
from kerascnn.training.failures import check_size, foreseen, memory, memory_ran_out, smaller_batch

TOO_MUCH = 2**46  # elements; as float32 more than a process can address


def exhaust():
    """Ask the backend for more memory than there can be; it raises its own error."""
    if backends.backend() == "tensorflow":
        import tensorflow as tf

        tf.zeros([TOO_MUCH])
    elif backends.backend() == "jax":
        import jax.numpy as jnp

        jnp.zeros([TOO_MUCH]).block_until_ready()
    else:
        import torch

        torch.empty([TOO_MUCH])


class ExhaustAt(keras.callbacks.Callback):
    """Runs out of memory in the second step of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.at = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, step, logs=None):
        if (self.epoch, step) == (self.at, 1):
            exhaust()


@pytest.mark.slow
def test_the_errors_of_python_numpy_and_the_backend_are_known():
    for failing in (exhaust, lambda: np.empty(2**58), lambda: bytearray(2**62)):
        with pytest.raises(Exception) as raised:  # noqa: PT011 (each library has its own class)
            failing()
        assert backends.out_of_memory(raised.value), repr(raised.value)
    for other in (RuntimeError("NaN or Inf loss"), ValueError("memory"), OSError(28, "No space left on device")):
        assert not backends.out_of_memory(other)


@pytest.mark.parametrize(
    ("batch_size", "fitting", "expected"),
    [(512, 300, 256), (512, 10_000, 256), (100, 10_000, 64), (64, 64, 32), (64, 1, 1), (64, 0, 0), (1, 9, 0)],
)
def test_smaller_batch(batch_size, fitting, expected):
    assert smaller_batch(batch_size, fitting) == expected


@pytest.fixture(scope="module")
def lenet():
    model = kerascnn.models.lenet5(input_shape=(32, 32, 1))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def advised(model, free, batch_size):
    return str(memory_ran_out(Recipe(batch_size=batch_size), model, "float32", free, 2, "all is lost"))


def test_the_advice_is_the_largest_power_of_two_whose_cost_fits(lenet):
    fits = {batch: cost(lenet, batch, "float32", "adam").training_bytes for batch in (64, 128)}
    between = (fits[64] + fits[128]) / 2 / 0.65
    text = advised(lenet, between, 1000)
    assert text.startswith("Memory ran out in epoch 3 with batches of 1000 images; training stopped and all is lost.")
    assert text.endswith("Give batch_size=64")
    assert advised(lenet, fits[128] / 0.65 + 1e5, 1000).endswith("Give batch_size=128")
    assert advised(lenet, 1e12, 1000).endswith("Give batch_size=512")
    assert "take smaller images (image_size=PIXELS) or" in advised(lenet, 1e5, 1000)
    assert "A batch cannot be smaller" in advised(lenet, 1e12, 1)


def test_a_step_that_cannot_fit_is_foreseen(lenet):
    need = cost(lenet, 256, "float32", "adam").training_bytes
    recipe = Recipe(batch_size=256)
    assert foreseen(recipe, lenet, "float32", need) == ""
    assert "batch_size=128 would fit" in foreseen(recipe, lenet, "float32", need - 1)
    assert "smaller images (image_size=PIXELS) would fit" in foreseen(recipe, lenet, "float32", 1e5)


def test_devices_share_a_batch_and_its_memory(lenet):
    need = cost(lenet, 128, "float32", "adam").training_bytes
    recipe = Recipe(batch_size=256)
    assert foreseen(recipe, lenet, "float32", need, 2) == ""
    assert "are free on each of 2 devices; batch_size=128 would fit" in foreseen(recipe, lenet, "float32", need - 1, 2)
    told = str(memory_ran_out(recipe, lenet, "float32", need / 0.65, 0, "nothing is kept", 2))
    assert "that were free on each of 2 devices, 65% count as usable. 128 images are" in told
    assert told.endswith("Give batch_size=128")
    assert "A batch cannot be smaller" in str(memory_ran_out(Recipe(batch_size=2), lenet, "float32", 1e12, 0, "", 2))
    assert backends.accelerator_memory() or memory(2) < 0.6 * memory()
    with pytest.raises(UsageError, match=r"image_size=\d+ with batches of 64 .* free on each of 64 devices"):
        check_size(Recipe(image_size=30_000), "float32", 64)


@pytest.mark.parametrize(("epoch", "kept"), [(0, "no epoch was finished"), (1, "the best weights so far are kept")])
@pytest.mark.slow
def test_memory_that_runs_out_in_training_is_told_with_the_batch_that_fits(epoch, kept, tmp_path):
    recipe = Recipe(epochs=3, batch_size=300, augment=("crop",))
    message = f"in epoch {epoch + 1} with batches of 300 images; training stopped and {kept}.*Give batch_size=256$"
    with pytest.raises(TrainingFailed, match=message):
        kerascnn.train(recipe, out=tmp_path / "a", callbacks=[ExhaustAt(epoch)], say=lambda line: None)
    run = runs.Run(tmp_path / "a")
    assert run.status == "failed"
    assert "batch_size=256" in run.read("run")["reason"]
    assert (run / "best.keras").exists() == (epoch > 0)


@pytest.mark.parametrize(
    ("model", "side"), [("lenet5", 20_000), ("lenet5", 10**6), ("lenet5", 10**9), ("resnet18", 20_000)]
)
def test_an_image_size_that_cannot_be_is_refused_before_it_is_made(model, side, tmp_path):
    with pytest.raises(
        UsageError, match=rf"image_size={side} with batches of 64 .* need ([0-9,.]+ GB|more than)"
    ) as refused:
        kerascnn.train(Recipe(model=model, image_size=side), out=tmp_path / "a", say=lambda line: None)
    fitting = int(str(refused.value).partition("give image_size=")[2].partition(",")[0])
    assert 64 < fitting < 20_000
    check_size(Recipe(model=model, image_size=fitting), "float32")
    assert not (tmp_path / "a").exists()


def test_the_size_that_images_are_cut_from_is_named_where_it_is_too_large():
    with pytest.raises(UsageError, match=r"resize_to=900000 with batches of 64 .*give resize_to=\d+, or"):
        check_size(Recipe(resize_to=900_000), "float32")
    check_size(Recipe(resize_to=512), "float32")
    with pytest.raises(UsageError, match=r"image_size=30000.*give image_size=\d"):
        finders.lr_find(Recipe(image_size=30_000))


class FileSizeLimit:
    """Within this block no file may have more than 20,000 bytes, as on a disk that is full."""

    def __enter__(self):
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, self.before[1]))

    def __exit__(self, *error):
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)


def write_table(path):
    with contextlib.closing(sqlite3.connect(path)) as table:
        table.execute("pragma max_page_count = 2")
        table.execute("create table a (b)")
        table.execute("insert into a values (?)", (bytes(100_000),))


WRITERS = {
    "Keras": ("a.keras", lambda path, model: model.save(path)),
    "NumPy": ("a.npz", lambda path, model: np.savez(path, x=np.zeros(10_000))),
    "text": ("a.json", lambda path, model: runs.write_json(path, list(range(20_000)))),
    "SQLite": ("a.sqlite", lambda path, model: write_table(path)),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_says_so_whoever_writes(writer, lenet, tmp_path, capsys):
    name, write = WRITERS[writer]
    with pytest.raises(Exception) as raised, FileSizeLimit():  # noqa: PT011 (each library has its own class)
        write(tmp_path / name, lenet)
    assert disk_full(raised.value).partition(":")[0] in ("File too large", "No space left on device")
    assert not backends.out_of_memory(raised.value)
    assert cli._explained(raised.value) == 1
    assert capsys.readouterr().err.rstrip().partition(": ")[2] == disk_full(raised.value)


HDF5 = """
import os, resource, sys, h5py, numpy
from kerascnn.errors import disk_full
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    with h5py.File(sys.argv[1], "w") as file:
        file["x"] = numpy.zeros(100_000)
except Exception as error:
    print(disk_full(error), flush=True)
os._exit(0)  # HDF5 cannot close its file
"""


def test_a_full_disk_says_so_in_hdf5(tmp_path):
    done = subprocess.run([sys.executable, "-c", HDF5, tmp_path / "a.h5"], capture_output=True, text=True, check=True)
    assert done.stdout == f"File too large: {tmp_path / 'a.h5'}\n"


@pytest.mark.skipif(backends.backend() != "tensorflow", reason="what TensorFlow's own writers raise")
def test_a_full_disk_is_no_memory_that_ran_out():
    import tensorflow as tf

    error = tf.errors.ResourceExhaustedError(None, None, "/a/variables.data; No space left on device")
    assert backends.out_of_memory(tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"))
    assert not backends.out_of_memory(error)
    assert disk_full(error) == "No space left on device"
    assert disk_full(OSError(13, "Permission denied")) == ""


@pytest.mark.slow
def test_a_run_that_fills_the_disk_says_how_to_go_on(tmp_path):
    class Fill(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise OSError(28, "Unable to synchronously create file (errno = 28, filename = '/d/a.h5')")

    with pytest.raises(OSError, match=r"No space left on device: /d/a\.h5\. What the last .* --resume .*/a$"):
        kerascnn.train(epochs=3, batch_size=300, out=tmp_path / "a", callbacks=[Fill()], say=lambda line: None)
    run = runs.Run(tmp_path / "a")
    assert run.read("run")["reason"] == "No space left on device: /d/a.h5"
    assert kerascnn.train(resume=run, say=lambda line: None).status == "finished"


def test_there_is_memory():
    assert memory() > 2**26


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_on_another_backend(backend):
    pytest.importorskip(backend)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", __file__],
        env={**os.environ, "KERAS_BACKEND": backend},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
