"""Folders of class folders, in the layouts that users have."""

import os
import shutil

import numpy as np
import pytest

from kerascnn.datasets import load
from kerascnn.datasets.image_folder import image_folder, split_called
from kerascnn.errors import DataError


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("training_set", "train"),
        ("seg_train", "train"),
        ("VAL", "validation"),
        ("valid", "validation"),
        ("Validation-Data", "validation"),
        ("test", "test"),
        ("Testing", "test"),
        ("eval", "test"),
        ("cats", None),
        ("test tubes", None),
        ("trains", None),
    ],
)
def test_spellings(name, split):
    assert split_called(name) == split


def test_class_folders_alone(make_folder):
    data = image_folder(make_folder({"dog": 3, "cat": 2}))
    assert data.class_names == ("cat", "dog")
    assert list(data.splits) == ["train"]
    assert data.train.files == ("cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png", "dog/2.png")
    assert data.train.labels.tolist() == [0, 0, 1, 1, 1]
    assert data.name == "photos"


def test_split_folders(make_folder):
    data = image_folder(make_folder({f"{s}/{c}": 2 for s in ("Train", "val", "TEST") for c in ("a", "b")}))
    assert list(data.splits) == ["train", "validation", "test"]
    assert data.test.files == ("TEST/a/0.png", "TEST/a/1.png", "TEST/b/0.png", "TEST/b/1.png")


def test_train_and_val_only_makes_val_the_test(make_folder):
    data = image_folder(make_folder({"train/a": 2, "train/b": 2, "val/a": 1, "val/b": 1}))
    assert list(data.splits) == ["train", "test"]
    assert data.test.files == ("val/a/0.png", "val/b/0.png")
    assert "There is no test folder, so val is the test split." in data.notes


def test_classes_called_train_and_test_are_classes(make_folder):
    data = image_folder(make_folder({"train": 2, "bus": 2, "test": 1}))
    assert data.class_names == ("bus", "test", "train")


def test_numbers_are_sorted_as_numbers(make_folder):
    assert image_folder(make_folder({"10": 1, "2": 1, "0": 1})).class_names == ("0", "2", "10")


def test_nested_files_belong_to_their_class(make_folder):
    data = image_folder(make_folder({"cat/2019/may": 1, "cat": 1, "dog": 1}))
    assert data.train.files == ("cat/0.png", "cat/2019/may/0.png", "dog/0.png")
    assert data.train.labels.tolist() == [0, 0, 1]


def test_a_single_folder_is_entered(make_folder):
    data = image_folder(make_folder({"pets/train/cat": 1, "pets/train/dog": 1}))
    assert data.name == "pets"
    assert data.train.files == ("pets/train/cat/0.png", "pets/train/dog/0.png")
    assert data.notes == ("The folder pets was entered, the only one there.",)
    inner = image_folder(
        make_folder({f"seg_{s}/seg_{s}/{c}": 1 for s in ("train", "test") for c in "ab"}, name="intel")
    )
    assert inner.class_names == ("a", "b")
    assert inner.test.files[0] == "seg_test/seg_test/a/0.png"


def test_what_is_ignored_is_named(make_folder):
    root = make_folder({"train/a": 2, "train/b": 2, "train/.cache": 1, "test/a": 1, "test/b": 1, "other/c": 1})
    (root / "train" / "empty").mkdir()
    (root / "train" / "b" / "notes.txt").write_text("x")
    (root / "train" / "a" / "._0.png").write_bytes(b"AppleDouble")
    (root / ".git").mkdir()
    data = image_folder(root)
    assert data.class_names == ("a", "b")
    assert len(data.train) == 4
    assert set(data.notes) == {
        "Ignored because they are hidden: .git.",
        "Ignored because they are hidden in train: .cache.",
        "Ignored because they hold no images in train: empty.",
        "Ignored because they are hidden in train: train/a/._0.png.",
        "Ignored because they are no images that can be read in train: 1 .txt.",
        "Ignored beside the splits: other.",
    }


def test_a_link_back_to_a_folder_above_ends(make_folder):
    root = make_folder({"a": 1, "b": 1})
    os.symlink(root / "a", root / "a" / "again")
    assert len(image_folder(root).train) == 2


@pytest.mark.parametrize("suffix", [".JPG", ".jpeg", ".webp", ".tif", ".bmp", ".gif"])
def test_every_suffix_is_found(make_folder, suffix):
    assert len(image_folder(make_folder({"a": 1, "b": 2}, suffix=suffix)).train) == 3


def test_bad_layouts(make_folder, tmp_path):
    with pytest.raises(DataError, match="one class only, 'cat' with 3 images; at least two"):
        image_folder(make_folder({"cat": 3}, name="one"))
    with pytest.raises(DataError, match=r"holds 2 images but no class folders. One folder a class is needed, as in"):
        image_folder(make_folder({".": 2}, name="flat"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no images \(jpg, .*\)\. One folder a class is needed"):
        image_folder(tmp_path / "empty")
    with pytest.raises(DataError, match="no training images, only test"):
        image_folder(make_folder({"test/a": 1, "test/b": 1}, name="untrained"))
    with pytest.raises(DataError, match="both 'train' and 'training' hold train images"):
        image_folder(make_folder({f"{s}/{c}": 1 for s in ("train", "training") for c in "ab"}, name="twice"))


def test_class_sets_that_differ(make_folder):
    counts = {"train/cat": 1, "train/dog": 1, "test/cat": 1}
    assert image_folder(make_folder(counts)).notes == ("The test split has no images of dog.",)
    with pytest.raises(
        DataError, match=r"the test folder 'test' has .* not: Dog \(the nearest training class is 'dog'\)"
    ):
        image_folder(make_folder({**counts, "test/Dog": 1}, name="typo"))


def test_the_users_files_are_never_modified(make_folder):
    root = make_folder({"train/a": 4, "train/b": 4, "test/a": 2, "test/b": 2}, size=(9, 12))
    (root / "train" / "a" / "broken.jpg").write_bytes(b"\xff\xd8 no")

    def state():
        files = sorted(p for p in root.rglob("*"))
        return [(str(p), p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else b"") for p in files]

    before = state()
    for path in [root, *root.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        data = load(root, image_size=8)
        lazy = load(root, image_size=8, memory_limit=0)
        np.testing.assert_array_equal(lazy.train.images.decode(), data.train.images)
        assert state() == before
    finally:
        for path in [root, *root.rglob("*")]:
            path.chmod(0o755)
        shutil.rmtree(root)


def test_a_link_to_the_root_does_not_lend_images_to_another_class(make_folder):
    root = make_folder({"a": 4, "b": 4})
    (root / "a" / "loop").symlink_to("..")
    data = load(root, validation=0, test=0)
    assert sorted(data.train.files) == sorted(f"{name}/{i}.png" for name in "ab" for i in range(4))


def test_a_named_pipe_is_no_image(make_folder):
    root = make_folder({"a": 4, "b": 4})
    os.mkfifo(root / "a" / "pipe.png")
    assert len(load(root, validation=0, test=0).train) == 8


def test_thumbnails_that_a_system_made_are_no_images(make_folder):
    root = make_folder({"car": 2, "car/@eaDir/0.png": 2, "train": 2, "train/@eaDir/0.png": 1, "train/__MACOSX": 1})
    data = image_folder(root)
    assert data.class_names == ("car", "train")
    assert data.train.files == ("car/0.png", "car/1.png", "train/0.png", "train/1.png")
    assert any("car/@eaDir" in note for note in data.notes)
