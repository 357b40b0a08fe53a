"""Folders of class folders, in the layouts that users have."""

import os
import re
import shutil
import socket
import subprocess

import numpy as np
import pytest

from kerascnn.datasets import load
from kerascnn.datasets.image_folder import image_folder, split_called
from kerascnn.errors import DataError, UsageError


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


def test_images_beside_a_single_folder_are_told(make_folder):
    data = image_folder(make_folder({".": 3, "sub/cat": 2, "sub/dog": 2}))
    assert len(data.train) == 4
    assert any("3 images that lie in no class folder" in note for note in data.notes), data.notes


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
        "Ignored because they are not readable images in train: 1 .txt.",
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


NESTED = {"nature/forest": 2, "nature/sea": 1, "city/street": 1}


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        (NESTED, "1 class is made of the images of several folders: nature (forest, sea)."),
        ({f"{s}/{f}": n for s in ("train", "test") for f, n in NESTED.items()}, "1 class is made of .* nature "),
        (
            {"cat/2019/may": 1, "cat": 1, "dog/a": 1, "dog/b/c": 1},
            "2 classes are made of .*: cat (2019/may), dog (a, b/c).",
        ),
        ({"cat/images": 2, "cat/notes/.x": 1, "dog/images": 1}, None),
        ({"cat": 1, "dog": 1}, None),
    ],
)
def test_folders_merged_into_one_class_are_told(make_folder, counts, told):
    doubts = image_folder(make_folder(counts)).doubts
    assert len(doubts) == (told is not None)
    if told:
        assert re.match(told.replace("(", r"\(").replace(")", r"\)"), doubts[0])
        assert doubts[0].endswith("a class of its own, give classes='leaves'")


def test_leaves_are_classes(make_folder):
    root = make_folder({**{f"train/{f}": n for f, n in NESTED.items()}, "test/nature/sea": 1, "train/city": 1})
    data = image_folder(root, classes="leaves")
    assert data.class_names == ("city", "city/street", "nature/forest", "nature/sea")
    assert data.train.labels.tolist() == [0, 1, 2, 2, 3]
    assert data.train.files[1] == "train/city/street/0.png"
    assert data.test.labels.tolist() == [3]
    assert data.doubts == ()
    assert image_folder(root).test.labels.tolist() == [1]
    flat = load(make_folder({"a": 1, "b": 1}, name="flat"), classes="leaves", validation=0, test=0)
    assert flat.class_names == ("a", "b")
    one = make_folder({"deep/x/nature/forest": 1, "deep/x/nature/sea": 1}, name="one")
    assert image_folder(one, classes="leaves").class_names == image_folder(one).class_names == ("forest", "sea")


def test_one_class_of_several_folders_is_answered_with_leaves(make_folder):
    root = make_folder({"all/a": 1, "all/b/c": 1, "notes": 0})
    with pytest.raises(DataError, match=r"one class only, 'all' with 2 images.* in 2 folders: classes='leaves' makes"):
        image_folder(root)
    assert image_folder(root, classes="leaves").class_names == ("all/a", "all/b/c")


def test_splits_within_the_classes_are_told(make_folder):
    root = make_folder({"cat/train": 2, "cat/test": 1, "dog/train": 1, "dog/test": 1})
    (doubt,) = image_folder(root).doubts
    assert doubt.startswith("Splits lie in the class folders, so that test images are among the training images: cat (")
    assert doubt.endswith("Put the splits above the classes, as in train/cat.")


def test_classes_has_two_values(make_folder):
    with pytest.raises(UsageError, match=r"classes='leafs' is not allowed for a folder. Allowed: 'leaves'\."):
        load(make_folder({"a": 1, "b": 1}), classes="leafs")
    with pytest.raises(UsageError, match="Unknown option of the data set 'digits' 'classes'"):
        load("digits", classes="leaves")


COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize("names", [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED), (DECOMPOSED, DECOMPOSED)])
def test_accents_written_in_two_ways_are_one_class(make_folder, names):
    data = image_folder(make_folder({f"train/{names[0]}": 2, "train/b": 1, f"test/{names[1]}": 1}))
    assert data.class_names == ("b", COMPOSED)
    assert data.test.labels.tolist() == [1]
    assert data.test.files == (f"test/{names[1]}/0.png",)


def test_two_folders_of_one_name_are_one_class_and_noted(make_folder):
    data = image_folder(make_folder({COMPOSED: 2, DECOMPOSED: 3, "b": 1}))
    assert data.class_names == ("b", COMPOSED)
    assert data.train.labels.tolist() == [0, 1, 1, 1, 1, 1]
    assert data.notes == (f"Folders whose names differ only in how accents are written are one class: {COMPOSED}.",)


def test_names_that_are_not_utf8(make_folder):
    root = make_folder({"train/a": 2, "train/b": 2, "test/a": 1, "test/b": 1})
    for split in (b"train", b"test"):
        os.rename(bytes(root) + b"/" + split + b"/b", bytes(root) + b"/" + split + b"/caf\xe9")
    data = load(root, validation=0)
    assert data.class_names == ("a", r"caf\xe9")
    assert data.train.images.shape == (4, 8, 8, 3)
    assert os.fsencode(data.test.files[1]) == b"test/caf\xe9/0.png"


@pytest.fixture
def nest():
    """Makes 1,100 folders in each other, below a folder, with one image in the last; removes them afterwards."""
    folders = []

    def make(folder, name, picture):
        folders.append((folder, name))
        here = os.open(folder, os.O_RDONLY)
        for _ in range(1100):
            os.mkdir(name, dir_fd=here)
            inner = os.open(name, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = inner
        with open(os.open("1.png", os.O_WRONLY | os.O_CREAT, dir_fd=here), "wb") as file:
            file.write(picture.read_bytes())
        os.close(here)

    yield make
    for folder, name in folders:  # shutil.rmtree calls itself for each level
        subprocess.run(["rm", "-rf", folder / name], check=True)


def test_folders_deeper_than_pythons_stack(make_folder, nest):
    root = make_folder({"a": 1, "b": 2})
    nest(root / "a", "d", root / "b" / "0.png")
    data = load(root, validation=0, test=0)
    assert len(data.train.files) == 4
    assert data.train.images.shape == (4, 8, 8, 3)
    assert len(data.doubts[0]) < 400


def test_folders_deeper_than_the_system_reads_are_named(make_folder, nest):
    root = make_folder({"a": 1, "b": 1})
    nest(root / "a", "deeper", root / "b" / "0.png")
    with pytest.raises(DataError, match=r"photos/a/deeper/.*\.\.\. is nested too deeply: the system reads 4,095 bytes"):
        image_folder(root)


@pytest.mark.parametrize("kind", ["pipe", "socket", "link to a pipe", "link to a device"])
@pytest.mark.parametrize("place", [".", "a", "a/deeper"])
def test_what_is_no_regular_file_is_no_image(make_folder, kind, place):
    root = make_folder({"a": 1, "b": 1, "a/deeper": 1})
    path = root / place / "x.png"
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(path))
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        os.mkfifo(root.parent / "pipe")
        path.symlink_to("/dev/zero" if kind.endswith("device") else root.parent / "pipe")
    data = load(root, validation=0, test=0)
    assert len(data.train) == 3
    name = path.relative_to(root).as_posix()
    assert f"Ignored because they are named pipes, sockets or devices: {name}." in data.notes


# Data that cannot be trained on


def test_one_class_alone(make_folder):
    data = load(make_folder({"dog": 3}), training=False, validation=0, test=0)
    assert (data.class_names, data.train.labels.tolist()) == (("dog",), [0, 0, 0])


@pytest.mark.parametrize("folder", ["test", "val"])
def test_a_test_folder_alone(make_folder, folder):
    root = make_folder({f"{folder}/a": 1, f"{folder}/b": 2})
    for limit in (None, 0):
        data = load(root, training=False, memory_limit=limit)
        assert list(data.splits) == ["test"]
        assert data.train is None
        assert data.image_shape == (8, 8, 3)
        assert data.test.labels.tolist() == [0, 1, 1]
    with pytest.raises(DataError, match=f"no training images, only {'test' if folder == 'test' else 'validation'}"):
        load(root)


def test_a_test_folder_of_one_class_beside_others(make_folder):
    data = load(make_folder({"test/b": 2, "val/a": 1}), training=False)
    assert data.class_names == ("a", "b")
    assert {name: split.labels.tolist() for name, split in data.splits.items()} == {"validation": [0], "test": [1, 1]}


def test_images_without_class_folders(make_folder):
    root = make_folder({".": 3})
    (root / "broken.png").write_bytes(b"")
    data = load(root, training=False, validation=0, test=0)
    assert (data.class_names, data.train.labels.tolist()) == ((), [-1, -1, -1])
    assert data.train.files == ("0.png", "1.png", "2.png")
    assert data.skipped == (("broken.png", "empty file"),)
    with pytest.raises(DataError, match="holds 4 images but no class folders"):
        load(root)
