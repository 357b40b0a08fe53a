"""Suspected labels: of a run, of a model file on a folder, and of all images by folds."""

import shutil

import numpy as np
import pytest

import kerascnn
from kerascnn import runs, using
from kerascnn.errors import UsageError
from kerascnn.training import record


@pytest.fixture
def mislabelled(trained, tmp_path):
    """The photographs of `trained` with one of each class put into the folder of the next class."""
    folder = tmp_path / "mislabelled"
    shutil.copytree(trained.folder.parent / "photos", folder)
    names = sorted(path.name for path in folder.iterdir())
    for number, name in enumerate(names):
        shutil.move(folder / name / "0.png", folder / names[(number + 1) % 3] / f"moved-{name}.png")
    return folder


def test_the_images_in_wrong_folders_come_first(trained, mislabelled):
    table = using.suspects(trained, mislabelled)
    moved = {file for file in table["file"] if "moved-" in file}
    assert set(table["file"][:3]) == moved
    assert len(moved) == 3
    for row in table[:3].itertuples():
        assert row.suggested in row.file.rpartition("moved-")[2]
        assert row.label == row.file.split("/")[0]
    assert table["suspected"][:3].all()
    assert table["confidence"].is_monotonic_increasing


def test_a_run_is_asked_about_its_validation_and_test_images(trained):
    table = using.suspects(trained)
    splits = using.data_of(trained).splits
    held_out = {name: splits[name].files for name in ("validation", "test")}
    assert set(table["split"]) <= held_out.keys()
    for row in table.itertuples():
        assert held_out[row.split][row.image] == row.file
    wrong = record.read(trained)["predictions"]
    wrong = wrong[~wrong["correct"]]
    assert set(wrong["file"]) <= set(table["file"])


def test_bad_input_is_named(trained, call, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"folds=1 is not allowed: it must be a whole number from 2 to 24"):
        using.cross_suspects(trained, 1)
    monkeypatch.setattr(record, "MOST_ANSWERS", 4 * 3 * 20)  # of 72 images in 3 classes
    with pytest.raises(UsageError, match=r"folds=3 .* 24 images in 3 classes are more than .* Give folds=4 or more"):
        using.cross_suspects(trained, 3)
    code, _, err = call("suspects", str(trained.folder), "--cross", "99")
    assert code == 2
    assert "--cross 99 is not allowed" in err
    code, _, err = call("suspects", str(trained.folder), "photos", "--cross", "2")
    assert code == 2
    assert "--cross 2 trains on the run's own data" in err
    code, _, err = call("suspects", str(trained.folder), "--out", "x.txt")
    assert code == 2
    assert "--out x.txt is not the name of a .csv file" in err


def test_the_command_writes_all_and_prints_the_first(trained, mislabelled, call, tmp_path):
    code, out, _ = call("suspects", str(trained.folder), str(mislabelled), "--top", "2", "--out", "s.csv")
    assert code == 0
    assert out.count("moved-") == 2
    assert (tmp_path / "s.csv").read_text().count("moved-") == 3


@pytest.mark.slow
def test_folds_judge_every_image_once_and_are_not_trained_again(mislabelled, tmp_path):
    recipe = kerascnn.Recipe(data=str(mislabelled), image_size=16, epochs=8, batch_size=8, learning_rate=0.003)
    run = kerascnn.train(recipe, out=tmp_path / "run", say=lambda line: None)
    said = []
    table = using.cross_suspects(run, 2, say=said.append)
    assert {file for file in table["file"][:3] if "moved-" in file} == set(table["file"][:3])
    folds = [runs.Run(run / "cross" / f"fold-{n}") for n in (1, 2)]
    counts = [fold.read("run")["result"]["images"] for fold in folds]
    assert sum(counts) == 72
    files = sorted(path.name for path in (run / "cross").iterdir())
    assert files == ["fold-1", "fold-2"]
    before = [(fold / "metrics.csv").stat().st_mtime_ns for fold in folds]
    again = using.cross_suspects(run, 2, say=said.append)
    assert again.equals(table)
    assert [(fold / "metrics.csv").stat().st_mtime_ns for fold in folds] == before
    assert np.isfinite(again["confidence"]).all()
