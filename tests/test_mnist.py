"""MNIST's IDX files, made here and real, whole and broken."""

import gzip
import os
import struct

import numpy as np
import pytest

from kerascnn.datasets import load
from kerascnn.datasets.mnist import read_idx
from kerascnn.errors import DataError, UsageError

NAMES = {"train": "train", "test": "t10k"}


def idx(array):
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path):
    """Twelve training and four test digits of 3x4 pixels as IDX files, the training ones gzipped."""
    for split, count in (("train", 12), ("test", 4)):
        images = np.arange(count * 12, dtype=np.uint8).reshape(count, 3, 4)
        labels = np.arange(count, dtype=np.uint8) % 2
        for kind, array in (("images", images), ("labels", labels)):
            name = f"{NAMES[split]}-{kind}-idx{array.ndim}-ubyte"
            if split == "train":
                (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
            else:
                (tmp_path / name).write_bytes(idx(array))
    return tmp_path


def test_files_gzipped_or_not(folder):
    data = load(folder, validation=0)
    assert data.image_shape == (3, 4, 1)
    np.testing.assert_array_equal(data.train.images[1, :, :, 0], np.arange(12, 24).reshape(3, 4))
    np.testing.assert_array_equal(data.test.images.ravel(), np.arange(48))
    assert data.test.labels.tolist() == [0, 1, 0, 1]
    assert data.class_names == tuple("0123456789")


def test_the_folders_above_and_other_spellings(folder, tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in folder.glob("*ubyte*"):
        file.rename(raw / file.name.replace("-idx", ".idx"))
    assert len(load(tmp_path, validation=0).train) == 12


@pytest.mark.parametrize("gzipped", [False, True])
def test_a_truncated_file_says_how_many_bytes_it_has(tmp_path, gzipped):
    content = idx(np.random.default_rng(0).integers(0, 256, (20, 5, 5), np.uint8))  # 516 bytes, not to be compressed
    file = tmp_path / "t.idx"
    file.write_bytes(gzip.compress(content)[:400] if gzipped else content[:400])
    with pytest.raises(DataError, match=r"t\.idx is broken: its header promises 516 bytes.* but \d+ were found"):
        read_idx(file, 3)


def test_a_truncated_plain_file_by_pencil(tmp_path):
    (tmp_path / "t.idx").write_bytes(idx(np.zeros((2, 3, 4), np.uint8))[:-5])
    with pytest.raises(DataError, match=r"promises 40 bytes, but 35 were found\. Fetch it again\."):
        read_idx(tmp_path / "t.idx", 3)
    (tmp_path / "t.idx").write_bytes(idx(np.zeros((2, 3, 4), np.uint8)) + b"!")
    with pytest.raises(DataError, match="promises 40 bytes, but more than 40 were found"):
        read_idx(tmp_path / "t.idx", 3)
    (tmp_path / "t.idx").write_bytes(bytes((0, 0, 8, 3, 0)))
    with pytest.raises(DataError, match="promises 16 bytes, but 5 were found"):
        read_idx(tmp_path / "t.idx", 3)


@pytest.mark.parametrize("content", [b"", b"hello, world", idx(np.zeros(3, np.uint8)), b"\x1f\x8bgarbage"])
def test_garbage_is_named(tmp_path, content):
    (tmp_path / "t.idx").write_bytes(content)
    with pytest.raises(DataError, match=r"t\.idx is not an IDX file of 3 dimensions: it should begin .* 00 00 08 03"):
        read_idx(tmp_path / "t.idx", 3)


def test_a_missing_or_unequal_file(folder):
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(3, np.uint8)))
    with pytest.raises(DataError, match="4 t10k images but 3 t10k labels"):
        load(folder)
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="has no file t10k-labels-idx1-ubyte"):
        load(folder)


def test_labels_out_of_range(folder):
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.full(4, 11, np.uint8)))
    with pytest.raises(DataError, match="test labels run from 11 to 11, but there are 10 classes"):
        load(folder)


def test_real_mnist(shared_data):
    data = load(shared_data / "mnist")
    assert [len(split) for split in data.splits.values()] == [54000, 6000, 10000]
    assert np.bincount(data.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    train = np.concatenate([data.train.labels, data.validation.labels])
    assert np.bincount(train).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    total = data.train.images.sum(dtype=np.int64) + data.validation.images.sum(dtype=np.int64)
    np.testing.assert_allclose(total / (60000 * 784 * 255), 0.1307, atol=5e-5)  # the mean that everyone uses


def test_a_gzipped_file_that_promises_a_thousand_times_its_size_is_not_unpacked(tmp_path):
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(gzip.compress(bytes((0, 0, 8, 3)) + struct.pack(">3I", 10**7, 28, 28) + bytes(1000)))
    with pytest.raises(DataError, match=r"ubyte\.gz has \d+ bytes and would unpack to 7,840,000,016"):
        read_idx(file, 3)


def test_a_named_pipe_in_the_place_of_a_file(folder):
    file = folder / "t10k-images-idx3-ubyte"
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte is a named pipe; a regular file is needed"):
        load(folder)


def test_more_than_ten_classes_and_labels_from_1(folder):
    for name, labels in (("train", [1, 26] * 6), ("t10k", [26, 1, 1, 26])):
        file = next(folder.glob(f"{name}-labels*"))
        content = idx(np.array(labels, np.uint8))
        file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    data = load(folder, validation=0)
    assert data.class_names == tuple(map(str, range(27)))
    assert data.doubts[0].startswith("The labels run from 1 to 26 and no image has the labels 0, 2, 3, 4, 5 ..., so 27")
    data = load(folder, validation=0, classes="present")
    assert data.class_names == ("1", "26")
    assert data.test.labels.tolist() == [1, 0, 0, 1]
    assert data.doubts == ()
    with pytest.raises(UsageError, match=r"classes='leaves' is not allowed for IDX files\. Allowed: present"):
        load(folder, classes="leaves")
