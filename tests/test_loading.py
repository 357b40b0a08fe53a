"""load(): the reader is found, splits are made, sizes settled, broken files left out."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from kerascnn.datasets import ImageFiles, load
from kerascnn.datasets.loading import choose_size, resolve
from kerascnn.datasets.resize import ResizedImages, resize_batch
from kerascnn.errors import DataError, UsageError


def test_nothing_heavy_is_imported_before_data_are_loaded():
    heavy = "{'numpy', 'keras', 'tensorflow', 'pandas', 'sklearn', 'scipy', 'PIL', 'pooch', 'matplotlib'}"
    code = f"import sys, kerascnn.datasets as d; d.DATASETS.names(); print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# Sizes and channels


def test_one_size_is_kept(make_folder):
    assert load(make_folder({"a": 4, "b": 4}, size=(6, 9))).image_shape == (6, 9, 3)


def test_images_know_their_pixels(make_folder):
    root = make_folder({"train/a": 2, "train/b": 1, "test/a": 1, "test/b": 1})
    data = load(root, validation=0)
    for split in data.splits.values():
        for image, file, label in zip(split.images, split.files, split.labels, strict=True):
            np.testing.assert_array_equal(image, np.asarray(Image.open(root / file)))
            assert data.class_names[label] == file.split("/")[1]


def test_an_image_size_is_the_rule(make_folder):
    root = make_folder({"a": 3, "b": 3}, size=(6, 9))
    plain, sized = load(root), load(root, image_size=(4, 4))
    assert sized.image_shape == (4, 4, 3)
    np.testing.assert_array_equal(sized.train.images, resize_batch(plain.train.images, (4, 4)))


def test_size_of_many_sizes_by_pencil():
    assert choose_size(np.array([[8, 9], [8, 9]])) == ((8, 9), None)
    size, note = choose_size(np.array([[20, 40], [30, 30], [90, 50]]))  # shorter sides 20, 30, 50
    assert size == (30, 30)
    assert note.startswith("The images come in 3 sizes, from 20x40 to 90x50 (height x width)")
    assert choose_size(np.array([[4000, 3000], [3000, 4000]]))[0] == (224, 224)


def test_mixed_sizes_are_noted(make_folder):
    root = make_folder({"a": 3, "b": 3}, size=(10, 10))
    make_folder({"c": 3}, size=(20, 24))
    data = load(root, test=0, validation=0)
    assert data.image_shape == (10, 10, 3)
    assert len(data.train) == 9
    assert "2 sizes, from 10x10 to 20x24" in data.notes[0]


def test_channels_are_three_unless_all_are_grey(make_folder):
    grey = make_folder({"a": 3, "b": 3}, mode="L", name="grey")
    assert load(grey).image_shape == (8, 8, 1)
    assert load(grey, channels=3).image_shape == (8, 8, 3)
    make_folder({"b/colour": 1}, name="grey")
    assert load(grey).image_shape == (8, 8, 3)
    assert load(grey, channels=1).image_shape == (8, 8, 1)
    with pytest.raises(UsageError, match="channels must be 1"):
        load(grey, channels=2)


# Memory


def test_data_above_the_limit_stay_files_and_give_the_same_pixels(make_folder):
    root = make_folder({"a": 20, "b": 20}, size=(9, 10))
    data = load(root, image_size=8)
    need = 40 * 8 * 8 * 3
    assert isinstance(load(root, image_size=8, memory_limit=need).train.images, np.ndarray)
    lazy = load(root, image_size=8, memory_limit=need - 1)
    assert isinstance(lazy.train.images, ImageFiles)
    assert "so each is decoded when it is needed" in lazy.notes[-1]
    order = np.random.default_rng(0).permutation(len(lazy.train))
    np.testing.assert_array_equal(lazy.train.images[order], data.train.images[order])
    assert lazy.train.take(order).files == data.train.take(order).files
    np.testing.assert_array_equal(lazy.arrays("test")[0], data.arrays("test")[0])


def test_arrays_above_the_limit_are_resized_on_demand(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=np.arange(12) % 2)
    data = load(tmp_path / "a.npz", image_size=16, memory_limit=12 * 16 * 16 * 3 - 1)
    assert isinstance(data.train.images, ResizedImages)
    np.testing.assert_array_equal(data.train.images[:], load(tmp_path / "a.npz", image_size=16).train.images)
    assert "so each is resized when it is needed" in data.notes[-1]


def test_masks_follow_the_images():
    data = load("shapes", count=40, test=8, validation=8, image_size=24)
    assert [split.masks.shape for split in data.splits.values()] == [(24, 24, 24), (8, 24, 24), (8, 24, 24)]


# Broken files


@pytest.mark.parametrize("limit", [None, 0])
def test_broken_files_are_skipped_and_counted(make_folder, limit):
    root = make_folder({"train/a": 6, "train/b": 6, "test/a": 2, "test/b": 2})
    (root / "train/a/0.png").write_bytes((root / "train/a/0.png").read_bytes()[:-30])
    (root / "test/b/1.png").write_bytes(b"")
    data = load(root, validation=2, memory_limit=limit)
    assert len(data.train) + len(data.validation) == 11
    assert len(data.test) == 3
    assert [file for file, _ in data.skipped] == ["train/a/0.png", "test/b/1.png"]
    assert data.skipped[1][1] == "empty file"
    assert "train/a/0.png" not in data.train.files + data.validation.files
    for split in data.splits.values():
        for image, file in zip(split.images, split.files, strict=True):
            np.testing.assert_array_equal(image, np.asarray(Image.open(root / file)))
    with pytest.raises(DataError, match=r"Broken image .*0\.png: .*Without strict=True, broken files are skipped"):
        load(root, validation=0, strict=True, memory_limit=limit)


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_splits_are_made_of_what_can_be_read(make_folder, broken):
    root = make_folder({"a": 3, "b": 3})
    (root / f"a/{broken}.png").write_bytes(b"")
    data = load(root, validation=1, test=1)
    assert [len(split) for split in data.splits.values()] == [3, 1, 1]
    assert data.skipped == ((f"a/{broken}.png", "empty file"),)
    assert data.notes[0].startswith("1 of the 5 training images was held out for test")


def test_a_folder_of_broken_images(make_folder):
    root = make_folder({"a": 2, "b": 2})
    for file in root.rglob("*.png"):
        file.write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"none of the 4 images can be read. The first: a/0\.png \(not an image\)"):
        load(root)


def test_a_class_without_a_readable_image(make_folder):
    root = make_folder({"a": 3, "b": 1})
    (root / "b/0.png").write_bytes(b"")
    with pytest.raises(DataError, match="no training image of 'b' can be read, so it cannot be learned"):
        load(root, test=0, validation=0)


# Names and paths


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(UsageError, match=r"Unknown data set 'cifar'. Did you mean 'cifar10'.*Known: .*digits"):
        load("cifar")
    with pytest.raises(UsageError, match=r"Unknown option of the data set 'shapes' 'counts'.* Did you mean 'count'"):
        load("shapes", counts=10)
    with pytest.raises(UsageError, match="'npz' is read from a path"):
        load("npz")


def test_missing_paths_are_answered_with_the_nearest(make_folder, tmp_path):
    root = make_folder({"a": 1, "b": 1})
    with pytest.raises(UsageError, match=r"There is no folder or file '.*photo'. Did you mean .*photos\?"):
        load(str(tmp_path / "photo"))
    with pytest.raises(UsageError, match=r"There is no folder .*nowhere either"):
        load(root / "nowhere" / "deep")
    with pytest.raises(UsageError, match=r"There is no folder or file 'x\.npz'"):
        load("x.npz")


def test_a_misspelt_folder_is_answered_with_the_one_that_is_here(make_folder, tmp_path, monkeypatch):
    make_folder({"a": 1, "b": 1})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"There is no folder or file 'phots'\. Did you mean photos\?"):
        load("phots")


def test_a_file_that_is_no_data(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"a\.zip is not a data set .* Unpack other archives first"):
        load(tmp_path / "a.zip")


@pytest.mark.parametrize("name", ["a.npz", "pipe"])
def test_data_that_are_a_named_pipe(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match=rf"{name} is a named pipe; a regular file is needed"):
        load(tmp_path / name)


@pytest.mark.parametrize("data", ["", "  ", None, 7])
def test_neither_name_nor_path(data):
    with pytest.raises(UsageError, match="data must be the name of a data set or a path, not"):
        load(data)


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").mkdir()
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte is a folder; a regular file is needed"):
        load(tmp_path)


def test_a_name_is_the_data_set_and_a_path_the_folder(make_folder, monkeypatch, tmp_path):
    make_folder({"a": 1, "b": 1}, name="digits")
    monkeypatch.chdir(tmp_path)
    assert resolve("digits") == ("digits", None)
    assert resolve("./digits")[0] == "image_folder"
    assert load("digits").notes[0] == (
        "'digits' is the data set of that name; for the folder here called digits, type ./digits."
    )
