"""The report on a data set, by pencil: counts, sizes, means, broken files, duplicates and leaks."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from kerascnn.datasets import load
from kerascnn.datasets.check import check_data
from kerascnn.datasets.check_lines import lines
from kerascnn.errors import DataError


def plain(path, *levels, size=(2, 2)):
    """An RGB image of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, levels).save(path)


@pytest.fixture
def folder(tmp_path):
    """Two classes, train and test, with one broken file, a copy within train, a copy across, and a re-encoded one."""
    root = tmp_path / "data"
    for i in range(4):
        plain(root / f"train/a/{i}.png", 10 * i, 0, 255)
        plain(root / f"train/b/{i}.png", 10 * i, 51, 255)
    plain(root / "test/a/0.png", 100, 100, 100)
    plain(root / "test/b/0.png", 200, 100, 100)
    shutil.copy(root / "train/a/0.png", root / "train/a/copy.png")
    shutil.copy(root / "train/a/1.png", root / "test/a/leak.png")
    Image.open(root / "train/b/2.png").save(root / "test/a/again.bmp")
    (root / "train/b/broken.png").write_bytes(b"")
    (root / "train/none").mkdir()
    return root


def test_counts_and_broken_files(folder):
    report = check_data(folder, validation=0)
    assert report.counts == {"train": {"a": 5, "b": 4}, "test": {"a": 3, "b": 1}}
    assert report.broken == (("train/b/broken.png", "empty file"),)
    assert report.sizes == ((2, 2, 13),)
    assert report.image_shape == (2, 2, 3)
    assert report.memory_bytes == 13 * 12
    assert report.in_memory
    assert report.notes == ("Ignored because they hold no images in train: none.",)


def test_duplicates_within_and_across_splits(folder):
    report = check_data(folder, validation=0)
    assert [(group["images"], group["same_bytes"]) for group in report.duplicates] == [
        (["train/a/0.png", "train/a/copy.png"], True),
        (["train/a/1.png", "test/a/leak.png"], True),
        (["train/b/2.png", "test/a/again.bmp"], False),
    ]
    assert report.duplicates[2]["splits"] == ["train", "test"]
    assert report.duplicates[2]["classes"] == ["b", "a"]
    assert report.leaks == {"train/test": 2}
    assert report.conflicts == 1
    assert report.problems == (
        "1 file is broken; training leaves it out.",
        "2 test images also occur in train: the test accuracy will look too good.",
        "1 image occurs more than once with different classes.",
    )


def test_mean_and_std_by_pencil(folder):
    report = check_data(folder, validation=0)
    reds = np.array([0, 10, 20, 30, 0, 0, 10, 20, 30])  # a, its copy, b
    np.testing.assert_allclose(report.mean, [reds.mean() / 255, 4 / 9 * 0.2, 1], atol=1e-12)
    np.testing.assert_allclose(report.std, [reds.std() / 255, np.sqrt(20 / 81) * 0.2, 0], atol=1e-7)


def test_counts_are_those_of_load(folder):
    for options in ({}, {"validation": 3, "seed": 2}, {"image_size": 4, "channels": 1}):
        report, data = check_data(folder, **options), load(folder, **options)
        for name, split in data.splits.items():
            assert list(report.counts[name].values()) == np.bincount(split.labels, minlength=2).tolist()
        assert report.image_shape == data.image_shape
        assert report.broken == data.skipped
        assert report.notes == data.notes
        images = data.train.images / 255
        np.testing.assert_allclose(report.mean, images.mean((0, 1, 2)), atol=1e-12)
        np.testing.assert_allclose(report.std, images.std((0, 1, 2)), atol=1e-7)


def test_arrays_are_checked_too(tmp_path):
    images = np.arange(6 * 4, dtype=np.uint8).reshape(6, 2, 2)
    images[5] = images[0]
    np.savez(tmp_path / "a.npz", x_train=images[:5], y_train=[0, 1, 0, 1, 0], x_test=images[5:], y_test=[1])
    report = check_data(tmp_path / "a.npz", validation=0)
    assert report.duplicates[0]["images"] == ["train[0]", "test[0]"]
    assert report.leaks == {"train/test": 1}
    assert report.conflicts == 1
    np.testing.assert_allclose(report.mean, np.arange(20).mean() / 255)
    np.testing.assert_allclose(report.std, np.arange(20).std() / 255)
    assert report.problems[0] == "The test split has no readable image of 0."


def test_data_too_large_for_memory_are_said_to_stream(folder):
    report = check_data(folder, memory_limit=10)
    assert not report.in_memory
    assert "so each is decoded when it is needed" in report.notes[-1]


def test_json_takes_it(folder):
    for data in (folder, "digits"):
        report = check_data(data)
        assert json.loads(json.dumps(report.to_dict()))["name"] == report.name


def test_lines(folder):
    plain(folder / "train/a/wide.png", 1, 2, 3, size=(6, 4))
    assert lines(check_data(folder, validation=0)) == [
        f"data: 2 classes, {folder}",
        "",
        "class   train   test",
        "────────────────────",
        "a           6      3",
        "b           4      1",
        "all        10      4",
        "",
        "Sizes (height x width): 2x2 (13), 4x6 (1)",
        "Mean of the channels 0.0475 0.0808 0.9012, standard deviation 0.0453 0.0974 0.2965 (0 to 1)",
        "Broken files: 1",
        "  train/b/broken.png: empty file",
        "Duplicate images: 3, in 3 groups",
        "  same file: train/a/0.png, train/a/copy.png",
        "  same file: train/a/1.png, test/a/leak.png",
        "  same pixels: train/b/2.png, test/a/again.bmp",
        "Near duplicates were not searched for, because no image has 16 pixels on each side",
        "At 2x2 pixels, 3 channels, they take 0.0 MB, in memory",
        "Always predicting the most frequent class, 'a', is right for 60.0% of the training images",
        "  Ignored because they hold no images in train: none.",
        "  The images come in 2 sizes, from 2x2 to 4x6 (height x width): all are cropped and resized to 2x2; "
        "choose another with image_size=PIXELS.",
        "Problem: 1 file is broken; training leaves it out.",
        "Problem: 2 test images also occur in train: the test accuracy will look too good.",
        "Problem: 1 image occurs more than once with different classes.",
    ]


def test_what_cannot_be_loaded_raises_as_load_does(folder):
    with pytest.raises(DataError, match=r"Broken image .*broken\.png: empty file"):
        check_data(folder, strict=True)
    next(folder.rglob("broken.png")).unlink()
    check_data(folder, strict=True)
    path = folder / "train" / "a" / "half.jpg"
    Image.effect_noise((64, 64), 50).convert("RGB").save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"Broken image .*half\.jpg: .*Without strict=True"):
        check_data(folder, strict=True)
    path.unlink()
    for file in (folder / "train").rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(DataError, match="none of the 9 train images can be read"):
        check_data(folder)


@pytest.mark.parametrize(("number", "said"), [(24, True), (6, True), (5, False)])
def test_unbalanced_classes_are_a_problem_with_the_baseline(make_folder, number, said):
    root = make_folder({"train/cat": number, "train/dog": number, "train/eel": 2, "train/fox": 3, "test/cat": 1})
    if number == 6:
        make_folder({"train/gnu": 1}, name="photos")
    report = check_data(root, validation=0)
    assert report.balance["baseline"] == pytest.approx(number / sum(report.counts["train"].values()))
    sentence = f"The classes are unbalanced: 'cat' has {number} training images, 'eel' 2. Always answering 'cat'"
    if number == 6:
        sentence = "The classes are unbalanced: 'cat' has 6 training images, 'gnu' 1. Always answering 'cat' would be"
    assert any(problem.startswith(sentence) for problem in report.problems) is said
    doubts = load(root, validation=0).doubts
    assert [doubt.startswith(sentence) for doubt in doubts] == [True] * said


def test_merged_folders_are_a_problem(make_folder):
    root = make_folder({"nature/forest": 3, "nature/sea": 3, "city/street": 3})
    (problem,) = check_data(root, validation=0, test=0).problems
    assert problem.startswith("1 class is made of the images of several folders: nature (forest, sea).")
    assert check_data(root, classes="leaves", validation=0, test=0).problems == ()
