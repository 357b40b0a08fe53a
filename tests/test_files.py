"""Files that would block, flood or overflow are refused before they are read, by name."""

import io
import os
import socket
import zipfile

import numpy as np
import pytest

from kerascnn.dataset_scan.record import Record
from kerascnn.errors import DataError
from kerascnn.files import LARGEST_TEXT, check_inflated, read_arrays, read_json, read_text, read_toml
from kerascnn.recipes import read_config
from kerascnn.runs import Run
from kerascnn.training.resume import check_table

DEEP = 200_000


def make_special(folder, kind):
    """A path at which there is something that is no regular file, or a link to it."""
    path = folder / "it"
    if kind.endswith("pipe"):
        os.mkfifo(path)
    elif kind.endswith("socket"):
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(path))
    elif kind.endswith("folder"):
        path.mkdir()
    else:
        path = path.parent / "/dev/zero"
    if kind.startswith("link"):
        (folder / "link").symlink_to(path)
        return folder / "link"
    return path


@pytest.mark.parametrize("read", [read_text, read_json, read_toml, read_arrays])
@pytest.mark.parametrize(
    "kind", ["pipe", "socket", "device", "folder", "link to a pipe", "link to a socket", "link to a device"]
)
def test_what_is_no_regular_file_is_not_opened(tmp_path, read, kind):
    path = make_special(tmp_path, kind)
    with pytest.raises(DataError, match=rf"{path} is a (named )?{kind.split()[-1]}; a regular file is needed"):
        read(path)


def test_a_run_whose_json_is_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "run.json")
    with pytest.raises(DataError, match=r"run\.json is a named pipe"):
        Run(tmp_path).read("run")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "[" * DEEP),
        ("a.json", '{"a":' * DEEP),
        ("a.json", "[" * DEEP + "]" * DEEP),
        ("a.json", "[" * 101 + "]" * 101),
        ("a.toml", "a = " + "[" * 400 + "]" * 400),
        ("a.toml", "a = " + "[" * DEEP),
        ("a.toml", "a = " + "{b = " * DEEP),
    ],
)
def test_brackets_nested_deeply(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    read = read_json if name.endswith("json") else read_toml
    for reader in (read, read_config):
        with pytest.raises(DataError, match=rf"{name} is not read as {name[2:].upper()}: its brackets are nested too"):
            reader(tmp_path / name)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"{", b"[1,", b"1" * 5000, b"nul"])
def test_what_is_no_json(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json is not (valid JSON|a text file)"):
        read_json(tmp_path / "a.json")


def test_text_has_a_largest_size(tmp_path):
    with open(tmp_path / "a.json", "wb") as file:
        file.truncate(LARGEST_TEXT + 1)
    with pytest.raises(DataError, match=r"a\.json is too large to be read as text: it has more than 64 MiB"):
        read_json(tmp_path / "a.json")


def save_declaring(path, shape, dtype="|u1", size=100):
    """An NPZ file of 100 zero bytes that says that its array has a shape, and that it unpacks to `size` more bytes."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": dtype, "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", content.getvalue() + bytes(100))
        archive.infolist()[0].file_size += size - 100


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((10**8, 1000, 1000, 3), "|u1"), ((3, 10**14), "<f8"), ((10**14,), "<U0"), ((2,), "<U100000000"), ((-1,), "|u1")],
)
def test_an_array_that_declares_more_than_it_holds(tmp_path, shape, dtype):
    save_declaring(tmp_path / "a.npz", shape, dtype)
    with pytest.raises(DataError, match=r"a\.npz is broken: the array 'x' declares .* and holds 100 bytes"):
        read_arrays(tmp_path / "a.npz")


def test_an_archive_that_unpacks_to_a_thousand_times_its_size(tmp_path):
    save_declaring(tmp_path / "a.npz", (8 << 30,), size=8 << 30)
    with pytest.raises(DataError, match=r"a\.npz has \d+ bytes and would unpack to 8,589,.*without compression"):
        read_arrays(tmp_path / "a.npz")


def test_more_than_memory_holds():
    check_inflated("a.npz", 10**9, 1)
    with pytest.raises(DataError, match=r"a\.npz holds 1,000,000\.0 GB unpacked, more than the .* GB of memory"):
        check_inflated("a.npz", 10**15, 10**15)


def test_arrays_come_back_and_a_torn_file_says_so_wherever_it_is_torn(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.arange(12.0).reshape(3, 4), y=np.array([1, 2], "uint8"))
    whole = path.read_bytes()
    read = read_arrays(path)
    assert list(read) == ["x", "y"]
    np.testing.assert_array_equal(read["x"], np.arange(12.0).reshape(3, 4), strict=True)
    outcomes = []
    for place in range(len(whole)):
        for bit in (1, 128):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
            try:
                outcomes.append(len(read_arrays(path)))
            except DataError:  # any other error would be one too many
                outcomes.append("refused")
    assert outcomes.count("refused") > len(outcomes) / 3
    for torn in (whole[:-30], whole[:40], b"", b"PK", np.arange(3).tobytes()):
        path.write_bytes(torn)
        with pytest.raises(DataError, match=r"is not a readable \.npz file"):
            read_arrays(path)


def test_arrays_of_python_objects_are_not_read(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([None, "a"], object))
    with pytest.raises(DataError, match="'x' holds Python objects, which are not read"):
        read_arrays(tmp_path / "a.npz")


def test_a_table_of_epochs_that_is_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "metrics.csv")
    with pytest.raises(DataError, match=r"metrics\.csv is a named pipe"):
        check_table(tmp_path, tmp_path / "metrics.csv", None)


def test_the_state_of_a_scan_that_is_nested_deeply(tmp_path):
    np.savez(tmp_path / "scan.npz", head=np.frombuffer(b"[" * DEEP, "uint8"))
    with pytest.raises(DataError, match=r"scan\.npz is torn, or no scan result"):
        Record.read(tmp_path / "scan.npz")
