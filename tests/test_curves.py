from types import SimpleNamespace

import numpy as np
import pandas
import pytest

from kerascnn import datasets, plots
from kerascnn.datasets.preprocessing import Preprocessing
from kerascnn.recipes import Recipe
from kerascnn.training.batches import Batches
from kerascnn.training.curves import Rows, in_batches, keep_rows

BATCHES = SimpleNamespace(period=5, total=12)


def rows(path, by_step, *measured):
    table = Rows(path, BATCHES, by_step)
    for epoch, logs in measured:
        table.on_epoch_end(epoch, logs)
    return path.read_bytes().decode().split("\r\n")[:-1]


def test_rows_have_epochs_from_0_or_steps_done(tmp_path):
    measured = [
        (0, {"val_loss": 2.5, "loss": 2.0}),
        (1, {"val_loss": 1.5, "loss": 1.0}),
        (2, {"val_loss": 1, "loss": 1}),
    ]
    by_epoch = rows(tmp_path / "a.csv", False, *measured)
    assert by_epoch == ["epoch,loss,val_loss", "0,2.0,2.5", "1,1.0,1.5", "2,1,1"]
    by_step = rows(tmp_path / "b.csv", True, *measured)
    assert by_step == ["step,loss,val_loss", "5,2.0,2.5", "10,1.0,1.5", "12,1,1"]
    unit, done = plots.axis(pandas.read_csv(tmp_path / "a.csv"))
    assert (unit, list(done)) == ("epochs", [1, 2, 3])
    unit, done = plots.axis(pandas.read_csv(tmp_path / "b.csv"))
    assert (unit, list(done)) == ("steps", [5, 10, 12])


def test_a_table_goes_on_with_the_columns_that_it_has(tmp_path):
    """Also one of a version that counted periods as epochs; what was not measured before is left out."""
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,loss,val_loss\r\n0,2.0,2.5\r\n1,1.0,1.5\r\n")
    keep_rows(path, 1)
    told = rows(path, True, (1, {"loss": 1.25, "top5": 0.5}))
    assert told == ["epoch,loss,val_loss", "0,2.0,2.5", "1,1.25,NA"]


@pytest.mark.parametrize(
    ("side", "batch_size", "devices", "at_once"), [(32, 8, 1, 256), (224, 8, 1, 10), (224, 16, 1, 16), (224, 8, 4, 12)]
)
def test_fewer_large_images_are_evaluated_at_once(side, batch_size, devices, at_once):
    some = datasets.Split(np.zeros((300, side, side, 1), "uint8"), np.zeros(300, int))
    data = datasets.ImageData("x", "x.npz", ("a", "b"), some, some, some)
    prepared = Preprocessing((side, side), (side, side), 1, (0.5,), (0.5,))
    recipe = Recipe(batch_size=batch_size)
    batches = Batches(some, prepared, batch_size, multiple=devices)
    images, _ = next(iter(in_batches(data, "validation", recipe, batches)))
    assert len(images) == at_once
