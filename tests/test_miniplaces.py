"""MiniPlaces' development kit, with three places and six small photographs."""

import numpy as np
import pytest
from PIL import Image

from kerascnn.datasets import load
from kerascnn.datasets.miniplaces import _categories, _listed
from kerascnn.errors import DataError

TRAIN = ["train/a/abbey/00000001.jpg 0", "train/a/abbey/00000002.jpg 0", "train/b/bay/00000001.jpg 1"]
TRAIN += ["train/b/bay/00000002.jpg 1", "train/c/church/outdoor/00000001.jpg 2"]
VAL = ["val/00000001.jpg 2", "val/00000002.jpg 0"]


def kit(root, images="images", labels="."):
    (root / labels).mkdir(parents=True, exist_ok=True)
    (root / labels / "categories.txt").write_text("/a/abbey 0\n/b/bay 1\n/c/church/outdoor 2\n")
    (root / labels / "train.txt").write_text("\n".join(TRAIN) + "\n")
    (root / labels / "val.txt").write_text("\n".join(VAL))
    for i, line in enumerate(TRAIN + VAL):
        file = root / images / line.split()[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (128, 128), (10 * i, 100, 200)).save(file, quality=95)
    return root


@pytest.mark.parametrize(
    ("images", "labels"), [("images", "."), (".", "."), ("images", "data"), ("data/images", "data")]
)
def test_the_kit_wherever_its_images_are(tmp_path, images, labels):
    data = load(kit(tmp_path, images, labels), validation=0)
    assert data.class_names == ("abbey", "bay", "church/outdoor")
    assert data.train.labels.tolist() == [0, 0, 1, 1, 2]
    assert data.test.labels.tolist() == [2, 0]
    prefix = "" if images == "." else f"{images}/"
    assert data.test.files == (f"{prefix}val/00000001.jpg", f"{prefix}val/00000002.jpg")
    assert data.image_shape == (128, 128, 3)
    np.testing.assert_allclose(data.test.images[1, 64, 64], [60, 100, 200], atol=4)
    assert "val images are the test split" in data.notes[0]


def test_listed_images_that_are_missing_are_skipped(tmp_path):
    (kit(tmp_path) / "images/train/b/bay/00000002.jpg").unlink()
    data = load(tmp_path, validation=0)
    assert data.skipped == (("images/train/b/bay/00000002.jpg", "no such file"),)
    assert len(data.train) == 4


def test_label_files_without_images(shared_data):
    with pytest.raises(
        DataError, match=r"but not its images: .*images/train/a/abbey/00000001\.jpg should be the first"
    ):
        load(shared_data / "miniplaces")


def test_the_real_label_files(shared_data):
    names = _categories(shared_data / "miniplaces" / "categories.txt")
    assert (len(names), names[0], names[99]) == (100, "abbey", "yard")
    for file, count in (("train.txt", 1000), ("val.txt", 100)):
        _, labels = _listed(shared_data / "miniplaces" / file)
        assert np.bincount(labels).tolist() == [count] * 100


def test_by_name_it_says_what_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASCNN_DATA", str(tmp_path))
    with pytest.raises(DataError, match=rf"unpack http\S+data\.tar\.gz into {tmp_path}/miniplaces and put train\.txt"):
        load("miniplaces")
    kit(tmp_path / "miniplaces")
    assert len(load("miniplaces", validation=0).train) == 5


def test_wrong_label_files(tmp_path):
    root = kit(tmp_path)
    (root / "val.txt").write_text("val/00000001.jpg 2\nval/00000002.jpg seven\n")
    with pytest.raises(DataError, match=r"val\.txt, line 2: 'val/00000002\.jpg seven' should be a name, a space"):
        load(root)
    (root / "val.txt").write_text("val/00000001.jpg 3\n")
    with pytest.raises(DataError, match="test labels run from 3 to 3, but there are 3 classes"):
        load(root)
    (root / "categories.txt").write_text("/a/abbey 0\n/b/bay 2\n")
    with pytest.raises(DataError, match=r"must give the labels 0, 1, 2 and so on once each; it gives \[0, 2\]"):
        load(root)
