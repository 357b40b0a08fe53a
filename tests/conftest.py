"""What several test files share: no network, the shared data where it is there, folders of small images."""

import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

LOOPBACK = ("127.0.0.1", "::1", "localhost", "")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Connections leave this machine in no test; loopback stays open."""
    connect, getaddrinfo = socket.socket.connect, socket.getaddrinfo

    def guarded_connect(self, address):
        if isinstance(address, tuple) and address[0] not in LOOPBACK:
            raise ConnectionRefusedError(f"network is closed in tests: {address}")
        return connect(self, address)

    def guarded_getaddrinfo(host, *args, **kwargs):
        if host is not None and (host.decode() if isinstance(host, bytes) else host) not in LOOPBACK:
            raise socket.gaierror(socket.EAI_NONAME, f"network is closed in tests: {host}")
        return getaddrinfo(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)


@pytest.fixture
def shared_data():
    """The folder of real data beside the project, as a Path; skips where there is none."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real data in {folder}, which are not part of the project")
    return folder


@pytest.fixture
def make_folder(tmp_path):
    """Makes {"train/cat": 3, ...} under a folder: PNG images, no two alike. Returns the folder."""

    def make(counts, name="photos", size=(8, 8), mode="RGB", suffix=".png"):
        root, n = tmp_path / name, 0
        for folder, count in counts.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                n += 1
                pixels = np.random.default_rng(n).integers(0, 256, (*size, len(mode)), np.uint8)
                Image.fromarray(pixels[..., 0] if mode == "L" else pixels).save(root / folder / f"{i}{suffix}")
        return root

    return make
