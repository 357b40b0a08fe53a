import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kerascnn
from kerascnn import datasets, runs
from kerascnn.datasets.check import check_data
from kerascnn.datasets.shard_index import INDEX, pack_at
from kerascnn.errors import DataError, UsageError
from kerascnn.recipes import Recipe
from kerascnn.training import digests


@pytest.fixture
def photos(make_folder):
    """Images of several sizes, colours and formats in two splits, one of them broken, and other files beside them."""
    folder = make_folder({"train/cat": 9, "train/dög": 8, "test/cat": 3, "test/dög": 2}, size=(12, 10))
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, (20, 14), np.uint8)).save(folder / "train" / "cat" / "grey.large.JPEG")
    (folder / "train" / "cat" / "torn.jpg").write_bytes(
        (folder / "train" / "cat" / "grey.large.JPEG").read_bytes()[:90]
    )
    (folder / "train" / "cat" / "notes.txt").write_text("not an image")
    return folder


def same(ours, theirs):
    assert (ours.name, ours.class_names, ours.skipped) == (theirs.name, theirs.class_names, theirs.skipped)
    assert (ours.notes, ours.doubts) == (theirs.notes, theirs.doubts)
    assert list(ours.splits) == list(theirs.splits)
    for name, split in ours.splits.items():
        assert split.files == theirs.splits[name].files
        np.testing.assert_array_equal(split.labels, theirs.splits[name].labels)
        np.testing.assert_array_equal(split.images[:], theirs.splits[name].images[:])


@pytest.mark.parametrize("limit", [None, 0])
def test_what_was_packed_is_read_as_the_folder_is(photos, tmp_path, limit):
    assert datasets.pack(photos, 4, tmp_path / "shards") == (24, sum(p.stat().st_size for p in images_in(photos)))
    options = {"image_size": 8, "memory_limit": limit}
    ours, theirs = (datasets.load(path, **options) for path in (tmp_path / "shards", photos))
    same(ours, theirs)
    assert [name for name, _ in ours.skipped] == ["train/cat/torn.jpg"]
    assert list(ours.splits) == ["train", "validation", "test"]
    taken = ours.train.images[[3, 1]]
    np.testing.assert_array_equal(taken, theirs.train.images[[3, 1]])
    for name, column in digests.digests(theirs).items():
        np.testing.assert_array_equal(digests.digests(ours)[name], column)


def images_in(folder):
    return [path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg")]


def test_the_files_are_webdataset_s_and_keep_their_bytes(photos, tmp_path):
    """Read with tarfile alone, as anyone would: pairs of members that share a name up to the first dot."""
    datasets.pack(photos, 4, tmp_path / "shards")
    read = datasets.load(photos, image_size=8, validation=0)
    assert sorted(os.listdir(tmp_path / "shards")) == [
        INDEX, "test-000000.tar", "train-000000.tar", "train-000001.tar", "train-000002.tar"
    ]  # fmt: skip
    contents, labels = {}, {}
    for path in sorted((tmp_path / "shards").glob("train-*.tar")):
        with tarfile.open(path) as archive:
            for member in archive:
                key, _, ending = member.name.partition(".")
                (labels if ending == "cls" else contents)[key] = archive.extractfile(member).read()
    assert list(contents) == list(labels) == [f"{number:09d}" for number in range(19)]
    files = [name for name in pack_at(tmp_path / "shards").names if name.startswith("train")]
    for content, label, file in zip(contents.values(), labels.values(), files, strict=True):
        assert content == (photos / file).read_bytes()
        assert read.class_names[int(label)] == Path(file).parts[1]
    first = np.asarray(Image.open(io.BytesIO(contents["000000000"])))
    np.testing.assert_array_equal(first, np.asarray(Image.open(photos / files[0])))


def test_the_same_data_give_the_same_bytes(photos, tmp_path):
    for name in ("a", "b"):
        datasets.pack(photos, 3, tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_checks_of_data_say_the_same(photos, tmp_path):
    datasets.pack(photos, 4, tmp_path / "shards")
    ours, theirs = (check_data(path, image_size=8).to_dict() for path in (tmp_path / "shards", photos))
    assert ours.pop("source") != theirs.pop("source")
    assert ours == theirs


@pytest.mark.slow
def test_a_network_learns_the_same_from_them_to_the_last_bit(photos, tmp_path):
    datasets.pack(photos, 2, tmp_path / "shards")
    runs = []
    for path in (photos, tmp_path / "shards"):
        recipe = Recipe(data=str(path), image_size=16, epochs=1, batch_size=4, seed=3)
        runs.append(kerascnn.train(recipe, out=tmp_path / f"run-{len(runs)}", say=lambda line: None))
    assert runs[0].read("data")["fingerprint"] == runs[1].read("data")["fingerprint"]
    for ours, theirs in zip(*(kerascnn.load(run).get_weights() for run in runs), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    measured = kerascnn.evaluate(runs[0], tmp_path / "shards")  # knows its own data there
    assert measured.to_dict() == kerascnn.evaluate(runs[0]).to_dict()
    ours, theirs = (kerascnn.predict(runs[0], str(path)) for path in (tmp_path / "shards", photos))
    ours["image"] = [str(Path(name).relative_to(tmp_path / "shards")) for name in ours["image"]]
    theirs["image"] = [str(Path(name).relative_to(photos)) for name in theirs["image"]]
    order = ["image", "rank"]
    assert ours.sort_values(order, ignore_index=True).equals(theirs.sort_values(order, ignore_index=True))


def test_leaves_and_test_images_alone(make_folder, tmp_path):
    nested = make_folder({"nature/sea": 3, "nature/wood": 3, "town/street": 3}, size=(8, 8))
    datasets.pack(nested, 2, tmp_path / "leaves", classes="leaves")
    ours = datasets.load(tmp_path / "leaves", classes="leaves", validation=0, test=0)
    assert ours.class_names == ("nature/sea", "nature/wood", "town/street")
    with pytest.raises(UsageError, match=r"classes=None is not allowed: .* was packed with classes='leaves'"):
        datasets.load(tmp_path / "leaves")
    looked_at = datasets.load(tmp_path / "leaves", validation=0, test=0, training=False)  # as by scan, with no option
    assert looked_at.class_names == ours.class_names
    with pytest.raises(UsageError, match=r"classes='present' is not allowed"):
        datasets.load(tmp_path / "leaves", classes="present", training=False)


def test_data_that_cannot_be_trained_on_are_packed_and_say_so(make_folder, tmp_path):
    folder = make_folder({"test/cat": 3, "test/dog": 3}, size=(8, 8))
    datasets.pack(folder, 1, tmp_path / "shards")
    same(*(datasets.load(path, training=False) for path in (tmp_path / "shards", folder)))
    with pytest.raises(DataError, match=r"cannot be trained on\. .* has no training images, only test"):
        datasets.load(tmp_path / "shards")
    unlabelled = make_folder({".": 4}, size=(8, 8), name="flat")
    datasets.pack(unlabelled, 2, tmp_path / "flat-shards")
    ours = datasets.load(tmp_path / "flat-shards", training=False, validation=0, test=0)
    assert ours.train.labels.tolist() == [-1] * 4
    with tarfile.open(tmp_path / "flat-shards" / "train-000000.tar") as archive:
        assert archive.getnames() == ["000000000.png", "000000001.png"]  # without .cls


def test_errors_of_packing(photos, tmp_path):
    (tmp_path / "there").mkdir()
    for arguments, message in (
        ((photos, 25, tmp_path / "x"), r"shards=25 is more than the 24 images\. Give shards=24 or less"),
        ((photos, 1, tmp_path / "x"), r"shards=1 is not allowed: train, test get files .* Give shards=2 or more"),
        ((photos, 0, tmp_path / "x"), r"shards=0 is not allowed: it must be a whole number, at least 1"),
        ((photos, 2, tmp_path / "there"), "there already exists. Name a new folder"),
        (("digits", 2, tmp_path / "x"), "digits does not consist of image files"),
        ((tmp_path / "no", 2, tmp_path / "x"), "There is no folder or file"),
    ):
        with pytest.raises(UsageError, match=message):
            datasets.pack(*arguments)
    with (
        runs.locked(tmp_path / ".x.lock"),
        pytest.raises(UsageError, match=r"Another process is packing data into .*x"),
    ):
        datasets.pack(photos, 2, tmp_path / "x")
    (tmp_path / ".x.lock").unlink()
    assert sorted(os.listdir(tmp_path)) == ["photos", "there"]


def test_shards_that_are_missing_cut_off_or_damaged(photos, tmp_path):
    datasets.pack(photos, 4, tmp_path / "shards")
    shard = tmp_path / "shards" / "train-000001.tar"
    content = shard.read_bytes()
    shard.unlink()
    with pytest.raises(DataError, match=r"1 shard is missing, of 4: train-000001\.tar\. Copy the whole folder"):
        datasets.load(tmp_path / "shards")
    shard.write_bytes(content[:-700])
    with pytest.raises(DataError, match=r"train-000001\.tar has .* bytes, but .* were written\. It was cut off"):
        datasets.load(tmp_path / "shards")
    shard.write_bytes(content[:600] + bytes([content[600] ^ 1]) + content[601:])
    with pytest.raises(DataError, match=r"train-000001\.tar is damaged: train/.* is not what was packed"):
        datasets.load(tmp_path / "shards", image_size=8)
    (tmp_path / "shards" / INDEX).write_bytes(b"PK")
    with pytest.raises(DataError, match=r"shards\.npz is not a readable \.npz file"):
        datasets.load(tmp_path / "shards")


def test_a_shard_that_cannot_be_opened(photos, tmp_path):
    datasets.pack(photos, 4, tmp_path / "shards")
    pack = pack_at(tmp_path / "shards")
    (tmp_path / "shards" / "train-000000.tar").unlink()
    with pytest.raises(DataError, match=r"Cannot read .*train-000000\.tar: No such file or directory\."):
        pack.content(0)


def test_many_shards_and_another_process(photos, tmp_path, monkeypatch):
    from kerascnn.datasets import shard_index

    datasets.pack(photos, 20, tmp_path / "shards")
    monkeypatch.setattr(shard_index, "MOST_OPEN", 2)
    ours, theirs = (datasets.load(path, image_size=8, memory_limit=0) for path in (tmp_path / "shards", photos))
    same(ours, theirs)
    again = pickle.loads(pickle.dumps(ours.train.images))
    np.testing.assert_array_equal(again[:], theirs.train.images[:])


def test_the_command(call, photos, tmp_path):
    code, out, err = call("data", "pack", photos, "--shards", "3", "-o", "shards")
    assert (code, err) == (0, "")
    assert out == "shards: 24 images, 0.0 MB, in 3 shards\nUse it like the folder: kerascnn train shards\n"
    code, _, err = call("data", "pack", photos, "--shards", "99", "-o", "more")
    assert (code, "--shards 99 is more than the 24 images. Give --shards 24 or less" in err) == (2, True)
    code, out, _ = call("data", "pack", photos, "--classes", "leaves", "--shards", "3", "-o", "leaves")
    assert (code, out.splitlines()[1]) == (0, "Use it like the folder: kerascnn train leaves --classes leaves")
    code, out, _ = call("data", "check", "shards")
    assert (code, "torn.jpg" in out) == (0, True)
