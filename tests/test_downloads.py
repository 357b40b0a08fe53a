"""Downloads from a server on this machine, the cache folder, and what is said when there is no network."""

import functools
import hashlib
import http.server
import re
import threading

import numpy as np
import pytest
from test_cifar import archive, expect, python_folder
from test_mnist import idx

from kerascnn.datasets import cifar, downloads, load, mnist
from kerascnn.errors import DataError


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """(folder that a server on this machine gives out, its address); the cache folder is an empty one."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setenv("KERASCNN_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def put_mnist(folder):
    """The four files with 6 and 2 images; returns {file: checksum}."""
    files = {}
    for name in mnist.FILES:
        count = 6 if name.startswith("train") else 2
        array = np.arange(count, dtype=np.uint8) if "labels" in name else np.zeros((count, 28, 28), np.uint8)
        content = idx(array)
        (folder / name).write_bytes(content)
        files[name] = "md5:" + hashlib.md5(content).hexdigest()
    return files


def test_a_download_is_kept_and_used_again(served, monkeypatch, tmp_path, capfd):
    folder, address = served
    monkeypatch.setattr(mnist, "FILES", put_mnist(folder))
    monkeypatch.setattr(mnist, "MIRRORS", (address + "gone/", address))  # the first answers 404
    data = load("mnist", validation=0)
    assert [len(split) for split in data.splits.values()] == [6, 2]
    assert sorted(p.name for p in (tmp_path / "cache" / "mnist").iterdir()) == sorted(mnist.FILES)
    monkeypatch.setattr(mnist, "MIRRORS", ("http://unreachable.invalid/",))
    assert len(load("mnist", validation=0).train) == 6
    assert capfd.readouterr() == ("", "")


def test_a_wrong_checksum_is_refused_and_not_kept(served, monkeypatch, tmp_path):
    folder, address = served
    put_mnist(folder)
    monkeypatch.setattr(mnist, "MIRRORS", (address,))  # the checksums stay those of the true files
    with pytest.raises(DataError, match=r"what 127\.0\.0\.1:.* sent is not the original"):
        load("mnist")
    assert list((tmp_path / "cache" / "mnist").glob("*ubyte*")) == []


def test_cifar_comes_as_its_archive(served, monkeypatch, tmp_path):
    folder, address = served
    content = archive(python_folder(tmp_path / "cifar-10-batches-py"), "cifar-10-python.tar.gz").read_bytes()
    (folder / "cifar-10-python.tar.gz").write_bytes(content)
    checksum = ("cifar-10-python.tar.gz", "sha256:" + hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(cifar.ARCHIVES, "cifar10", checksum)
    monkeypatch.setattr(cifar, "HOMES", (address,))
    expect(load("cifar10", validation=0))
    monkeypatch.setattr(cifar, "HOMES", ("http://unreachable.invalid/",))
    expect(load("cifar10", validation=0))


def test_an_unpacked_folder_in_the_cache_is_used(monkeypatch, tmp_path):
    monkeypatch.setenv("KERASCNN_DATA", str(tmp_path))
    (tmp_path / "cifar10").mkdir()
    python_folder(tmp_path / "cifar10" / "cifar-10-batches-py")
    expect(load("cifar10", validation=0))


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("mnist", "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and t10k-labels"),
        ("cifar10", "cifar-10-python.tar.gz"),
        ("cifar100", "cifar-100-python.tar.gz"),
    ],
)
def test_without_network_one_sentence_says_where_to_put_the_file(name, files, monkeypatch, tmp_path, capfd):
    monkeypatch.setenv("KERASCNN_DATA", str(tmp_path))
    with pytest.raises(DataError) as caught:
        load(name)
    message = str(caught.value)
    assert f"The data set {name!r} is not on this machine and " in message
    assert f"cannot be reached: put {files}" in message
    assert f"into {tmp_path / name}, or give the path of the folder" in message
    assert not re.search(r"\.\s", message)  # one sentence
    assert capfd.readouterr() == ("", "")


def test_files_put_there_by_hand_are_used_whatever_their_checksum(monkeypatch, tmp_path):
    monkeypatch.setenv("KERASCNN_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    put_mnist(tmp_path / "mnist")
    assert len(load("mnist", validation=0).train) == 6


def test_only_missing_files_are_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("KERASCNN_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    put_mnist(tmp_path / "mnist")
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"put t10k-labels-idx1-ubyte\.gz into .* the folder that holds it instead"):
        load("mnist")


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("KERASCNN_DATA", raising=False)
    assert downloads.cache_folder("mnist").parts[-2:] == ("kerascnn", "mnist")
    monkeypatch.setenv("KERASCNN_DATA", "~/here")
    assert not str(downloads.cache_folder("mnist")).startswith("~")


def test_the_checksums_are_of_the_right_kind():
    lengths = {"md5": 32, "sha256": 64}
    for file, checksum in (*mnist.FILES.items(), *cifar.ARCHIVES.values()):
        kind, _, digits = checksum.partition(":")
        assert re.fullmatch(f"[0-9a-f]{{{lengths[kind]}}}", digits), file
