"""CIFAR's Python and binary batches, in folders and archives, whole, broken and hostile."""

import pickle
import re
import tarfile

import numpy as np
import pytest

from kerascnn.datasets import load
from kerascnn.datasets.cifar import CIFAR10_CLASSES, read_pickle
from kerascnn.errors import DataError

N = 20  # images a batch


def batch(i, labels_key="labels", classes=10):
    rng = np.random.default_rng(i)
    return {
        "batch_label": f"batch {i}",
        "data": rng.integers(0, 256, (N, 3072), np.uint8),
        labels_key: [(j + i) % classes for j in range(N)],
        "filenames": [f"{i}_{j}.png" for j in range(N)],
    }


def python_folder(folder, protocol=2):
    """CIFAR-10 as Python batches of 20 images, with str keys."""
    folder.mkdir()
    for i, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"], 1):
        (folder / name).write_bytes(pickle.dumps(batch(i), protocol))
    meta = {"label_names": [f"class {i}" for i in range(10)], "num_cases_per_batch": N}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol))
    return folder


def binary_folder(folder):
    folder.mkdir()
    for i, name in enumerate([*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"], 1):
        b = batch(i)
        (folder / name).write_bytes(
            b"".join(bytes([x]) + d.tobytes() for x, d in zip(b["labels"], b["data"], strict=True))
        )
    (folder / "batches.meta.txt").write_text("\n".join(CIFAR10_CLASSES) + "\n\n")
    return folder


def archive(folder, name):
    with tarfile.open(folder.parent / name, "w:gz") as tar:
        tar.add(folder, folder.name)
    return folder.parent / name


def expect(data):
    assert (len(data.train), len(data.test)) == (100, 20)
    first = batch(1)["data"][0]  # 1024 red values, row by row, then green, then blue
    np.testing.assert_array_equal(data.train.images[0, 0, 1], [first[1], first[1025], first[2049]])
    np.testing.assert_array_equal(data.train.images[0, 2, 5], [first[69], first[1093], first[2117]])
    np.testing.assert_array_equal(data.test.images[3, :, :, 0].ravel(), batch(6)["data"][3, :1024])
    assert data.train.labels[:3].tolist() == [1, 2, 3]
    assert data.name == "cifar10"


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_python_batches(tmp_path, protocol):
    data = load(python_folder(tmp_path / "cifar-10-batches-py", protocol), validation=0)
    expect(data)
    assert data.class_names[3] == "class 3"
    assert data.train.files[20] == "2_0.png"


def python2_pickle(value):
    """What Python 2's cPickle wrote for a dict of str, list, int and a uint8 array, protocol 2, opcode by opcode."""

    def text(s):
        return b"U" + bytes([len(s)]) + s.encode()

    def put(v):
        if isinstance(v, str):
            return text(v)
        if isinstance(v, int):
            return b"J" + v.to_bytes(4, "little", signed=True)
        if isinstance(v, list):
            return b"](" + b"".join(map(put, v)) + b"e"
        raw = v.tobytes()
        rows, columns = v.shape
        return (
            b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\n" + b"K\x00\x85" + text("b") + b"\x87R"
            b"(K\x01" + put(rows) + put(columns) + b"\x86"
            b"cnumpy\ndtype\n" + text("u1") + b"K\x00K\x01\x87R"
            b"(K\x03" + text("|") + b"NNN" + put(-1) + put(-1) + b"K\x00tb"
            b"\x89" + b"T" + len(raw).to_bytes(4, "little") + raw + b"tb"
        )

    items = b"".join(text(k) + put(v) for k, v in value.items())
    return b"\x80\x02}(" + items + b"u."


def test_batches_as_python_2_wrote_them(tmp_path):
    value = batch(1)
    read = read_pickle(python2_pickle(value), "b")
    np.testing.assert_array_equal(read["data"], value["data"])
    assert read["labels"] == value["labels"]
    assert read["filenames"] == value["filenames"]


def test_binary_batches(tmp_path):
    data = load(binary_folder(tmp_path / "bin"), validation=0)
    expect(data)
    assert data.class_names == CIFAR10_CLASSES


@pytest.mark.parametrize("make", [python_folder, binary_folder])
def test_archives_are_read_without_unpacking(tmp_path, make):
    folder = make(tmp_path / ("cifar-10-batches-py" if make is python_folder else "cifar-10-batches-bin"))
    file = archive(folder, "c10.tar.gz")
    before = sorted(tmp_path.rglob("*"))
    expect(load(file, validation=0))
    assert sorted(tmp_path.rglob("*")) == before


def test_the_folder_above(tmp_path):
    python_folder(tmp_path / "cifar-10-batches-py")
    expect(load(tmp_path, validation=0))


def test_cifar100_has_its_fine_labels(tmp_path):
    for name, i in (("train", 1), ("test", 2)):
        content = batch(i, "fine_labels", 100) | {"coarse_labels": [0] * N}
        (tmp_path / name).write_bytes(pickle.dumps(content, 2))
    names = [f"fine {i}" for i in range(100)]
    (tmp_path / "meta").write_bytes(pickle.dumps({"fine_label_names": names, "coarse_label_names": []}, 2))
    data = load(tmp_path, validation=0)
    assert (data.name, len(data.class_names), data.class_names[7]) == ("cifar100", 100, "fine 7")
    assert data.train.labels.tolist() == list(range(1, 21))


def test_cifar100_binary(tmp_path):
    for name in ("train.bin", "test.bin"):
        (tmp_path / name).write_bytes(b"".join(bytes([1, 50 + i]) + bytes([i]) * 3072 for i in range(4)))
    data = load(tmp_path, validation=0)
    assert data.train.labels.tolist() == [50, 51, 52, 53]
    assert data.train.images[3].min() == data.train.images[3].max() == 3


# Bad files


class Hostile:
    """Pickles as a call of a function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path):
    marker = tmp_path / "ran"
    folder = python_folder(tmp_path / "cifar")
    (folder / "data_batch_3").write_bytes(pickle.dumps({"data": Hostile(open, str(marker), "w"), "labels": []}))
    with pytest.raises(
        DataError, match=r"data_batch_3 is not safe to read: this pickle asks for (_?io|builtins)\.open"
    ):
        load(folder)
    assert not marker.exists()


@pytest.mark.parametrize(
    "name", ["os\nsystem", "builtins\neval", "numpy\nload", "numpy\nndarray.tofile", "_codecs\ndecode"]
)
def test_every_other_name_is_refused(name):
    with pytest.raises(DataError, match=r"asks for " + re.escape(name.replace("\n", "."))):
        read_pickle(b"c" + name.encode() + b"\n.", "p")


def test_arrays_of_objects_and_other_codecs_are_refused():
    with pytest.raises(DataError, match="an array of Python objects"):
        read_pickle(pickle.dumps(np.array([None, 1], object)), "p")
    with pytest.raises(DataError, match="the codec 'zlib'"):
        read_pickle(b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x04\x00\x00\x00zlibtR.", "p")


def test_truncated_files_are_named(tmp_path):
    folder = python_folder(tmp_path / "cifar")
    whole = (folder / "data_batch_2").read_bytes()
    (folder / "data_batch_2").write_bytes(whole[:1000])
    with pytest.raises(
        DataError, match=r"data_batch_2 is broken: 1,000 bytes were found, and they are not a complete pickle"
    ):
        load(folder)
    (folder / "data_batch_2").unlink()
    with pytest.raises(DataError, match="has no file 'data_batch_2', which is a part of the data set"):
        load(folder)


def test_truncated_binary_files_are_named(tmp_path):
    folder = binary_folder(tmp_path / "cifar")
    (folder / "test_batch.bin").write_bytes(bytes(3073 * 2 + 5))
    with pytest.raises(DataError, match=r"must be a multiple of 3,073 bytes.* has 6,151 bytes \(5 too many\)"):
        load(folder)


def test_truncated_archives_are_named(tmp_path):
    file = archive(python_folder(tmp_path / "cifar-10-batches-py"), "cifar-10-python.tar.gz")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=rf"cifar-10-python\.tar\.gz is broken \({len(whole) // 2:,} bytes found\)"):
        load(file)
    file.write_bytes(b"garbage")
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz is not a readable archive"):
        load(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": np.zeros((N, 3000), np.uint8)}, r"'data' must be uint8 \(N, 3072\), it is uint8 \(20, 3000\)"),
        ({"data": [1, 2]}, "'data' must be uint8 .* it is list"),
        ({"labels": [0] * 3}, "'labels' must be 20 integers"),
        ({"labels": [0.5] * N}, "'labels' must be 20 integers"),
        ({"labels": [10] * N}, "labels run from .* to 10, but there are 10 classes"),
    ],
)
def test_wrong_contents(tmp_path, change, message):
    folder = python_folder(tmp_path / "cifar")
    (folder / "test_batch").write_bytes(pickle.dumps(batch(6) | change))
    with pytest.raises(DataError, match=message):
        load(folder)


def test_other_pickles_are_no_batches(tmp_path):
    folder = python_folder(tmp_path / "cifar")
    (folder / "test_batch").write_bytes(pickle.dumps([1]))
    with pytest.raises(DataError, match="not a batch of cifar10: 'data' and 'labels' are expected, it holds a list"):
        load(folder)
    assert read_pickle(pickle.dumps({b"a": (1, b"x")}), "p") == {"a": [1, "x"]}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
@pytest.mark.parametrize("first", [True, False])
def test_an_archive_that_says_that_it_holds_gigabytes(tmp_path, mode, kind, first):
    member = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
    member.size, member.type = 8 * 10**9, kind
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", mode) as tar:
        if not first:
            tar.addfile(tarfile.TarInfo("cifar-10-batches-py/readme.html"))
        tar.addfile(member)
        tar.addfile(tarfile.TarInfo("cifar-10-batches-py/test_batch"))
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz holds more than 400 MiB, which CIFAR does not"):
        load(tmp_path / "cifar-10-python.tar.gz")


def test_a_batch_of_gigabytes(tmp_path):
    folder = python_folder(tmp_path / "cifar-10-batches-py")
    with open(folder / "data_batch_2", "r+b") as file:
        file.truncate(8 << 30)
    with pytest.raises(DataError, match=r"data_batch_2 holds more than 400 MiB"):
        load(folder)
