"""What is computed is what was recorded in tests/golden/; golden_values.py records it again.

Maps are computed in float64, in which another machine or library rounds far below the tolerance. Trainings are compared
bit for bit only on the machine that recorded them (processor, threads, versions): elsewhere sums are rounded otherwise,
as they are with another number of threads.
"""

import json

import golden_values as golden
import keras
import numpy as np
import pytest
from golden_networks import NAMES

VALUES = json.loads((golden.FOLDER / "values.json").read_text())
SAME_MACHINE = VALUES["machine"] == golden.machine()
QUICK = ("lenet5", "dense_block", "ties")  # the others take several seconds each to compile
some = pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
every = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def recorded():
    with np.load(golden.FOLDER / "maps.npz") as file:
        return dict(file)


def compare(name, recorded, dtype, tolerance):
    refused = VALUES["refused"].get(name, [])
    methods = {key.split("|")[1].partition(" ")[0] for key in recorded}
    for words, maps in golden.maps(name, dtype, methods).items():
        assert (maps is None) == (words in refused), f"{words}: {'refused' if maps is None else 'no longer refused'}"
        for number, values in enumerate(maps or ()):
            expected = recorded[f"{name}|{words}|{number}"]
            allowed = tolerance(words) * np.abs(expected).max()
            np.testing.assert_allclose(values, expected, rtol=0, atol=allowed, err_msg=f"{name}: {words}")


@some
def test_maps(name, recorded):
    """Within 1e-6 of each map's maximum; occlusion, which is computed in float32, within 2e-4 on another machine.

    Occlusion is a difference of scores, whose rounding it enlarges: without oneDNN it moves by up to 3.4e-5.
    """
    compare(name, recorded, "float64", lambda words: 2e-4 if words == "occlusion" and not SAME_MACHINE else 1e-6)


@pytest.mark.slow
@every
def test_maps_in_float32(name, recorded):
    """Measured: up to 3.4e-5 for occlusion and for relevance, which divides by sums near 0; 1.2e-6 for all else."""
    compare(name, recorded, "float32", lambda words: 2e-4 if words.startswith(("lrp", "occlusion")) else 1e-5)


def test_every_method_recorded_is_still_there(recorded):
    methods = {key.split("|")[1].partition(" ")[0] for key in recorded}
    assert methods <= set(golden.explain.EXPLANATIONS.names())


@every
def test_tables_and_costs(name):
    table, expected = golden.tables(name), VALUES["tables"][name]
    for row, was in zip(table["rows"], expected["rows"], strict=True):
        for column in golden.FIELD:  # what was not known may be known now
            row[column] = row[column] if was[column] is not None else None
    assert table == expected


@every
def test_receptive_fields(name):
    fields = golden.receptive_fields(name, VALUES["receptive fields"][name])
    assert fields.keys() == VALUES["receptive fields"][name].keys()
    for layer, expected in VALUES["receptive fields"][name].items():
        if expected is not None:  # what was not known may be known now
            assert fields[layer] == expected, layer


def test_200_receptive_fields_are_recorded():
    fields = [boxes for layers in VALUES["receptive fields"].values() for boxes in layers.values() if boxes]
    assert sum(map(len, fields)) >= 200


def test_scan():
    assert golden.scan() == VALUES["scan"]


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="recorded with TensorFlow")
@pytest.mark.parametrize("name", golden.TRAININGS)
def test_trainings(name):
    """Bit for bit; on another machine the losses within 1e-5 and each weight array within 1e-5 of its norm.

    Measured on one machine: with one thread in place of two or without oneDNN, arrays move by up to 1e-6 of their norm.
    """
    rows, weights = golden.training(name)
    with np.load(golden.FOLDER / "weights.npz") as file:
        expected = [file[f"{name}|{number}"] for number in range(len(weights))]
        assert len([key for key in file if key.startswith(f"{name}|")]) == len(weights)
    if SAME_MACHINE:
        assert rows == VALUES["trainings"][name]
        for array, was in zip(weights, expected, strict=True):
            np.testing.assert_array_equal(array, was)
        return
    for row, was in zip(rows, VALUES["trainings"][name], strict=True):
        assert row.keys() == was.keys()
        for column in ("loss", "val_loss"):
            assert float(row[column]) == pytest.approx(float(was[column]), rel=1e-5)
    for array, was in zip(weights, expected, strict=True):
        assert np.linalg.norm(array - was) <= 1e-5 * np.linalg.norm(was)
