"""What several test files share: no network, the shared data where it is there, folders of small images."""

import os
import random
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

LOOPBACK = ("127.0.0.1", "::1", "localhost", "")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ("no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking")
FLAGS += ("disable-component-update", "disable-sync", "use-fake-device-for-media-stream")
# What a machine's settings would change: colours and widths of printed text, and where loopback requests go.
for variable in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES"):
    os.environ.pop(variable, None)
os.environ |= {"NO_PROXY": "127.0.0.1,localhost,::1", "no_proxy": "127.0.0.1,localhost,::1"}
# The same examples in every run, so that a failure can be had again; HYPOTHESIS_PROFILE=random searches for more.
settings.register_profile("same", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("random", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
random.seed(0)  # of models that test files make when they are imported; see `same_weights`


@pytest.fixture(autouse=True, scope="module")
def same_weights_in_every_file():
    random.seed(0)


@pytest.fixture(autouse=True)
def same_weights():
    """A model that is made without a seed has the same weights in each run: Keras takes its seeds from `random`."""
    random.seed(0)


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


@pytest.fixture
def augmentation():
    """Function (name, height, width) -> a layer of kerascnn.layers.AUGMENTATIONS for images of that size."""

    def make(name, height, width):
        from keras import layers

        needs = {"RandomCrop": (height, width), "RandomTranslation": (0.1, 0.1), "RandomPosterization": (4,)}
        factor = ("Brightness", "Contrast", "Hue", "Rotation", "Saturation", "Sharpness", "ColorDegeneration", "Zoom")
        needs |= {f"Random{kind}": (0.1,) for kind in factor}
        return getattr(layers, name)(*needs.get(name, ()))

    return make


@pytest.fixture
def call(capfd, tmp_path, monkeypatch):
    """Runs a command line in this process, in a folder of its own: (exit code, stdout, stderr)."""
    from kerascnn import cli

    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = cli.run_command([str(a) for a in arguments])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A finished, exported run: lenet5 on colour photographs of three made-up classes, 24x20 pixels on disk.

    Each class has a colour of its own, so that the network learns it. The images lie in `run.folder / "../photos"`.
    """
    import kerascnn
    from kerascnn.recipes import Recipe

    folder = tmp_path_factory.mktemp("trained")
    rng = np.random.default_rng(0)
    for number, name in enumerate(("blue sky", "grass", "tomato")):
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(24):
            pixels = rng.integers(0, 90, (24, 20, 3), np.uint8)
            pixels[..., 2 - number] += 150
            Image.fromarray(pixels).save(folder / "photos" / name / f"{i}.png")
    recipe = Recipe(data=str(folder / "photos"), image_size=16, epochs=6, batch_size=8, learning_rate=0.003)
    run = kerascnn.train(recipe, out=folder / "run", say=lambda line: None)
    kerascnn.export(run, fresh=False)
    return run


@pytest.fixture
def new_chief(tmp_path):
    """Makes a Chief on the same journal, as a chief that is started again would be."""
    from tuning_chief import SETTINGS, space

    from tuning.chief import Chief
    from tuning.store import Store

    chiefs = []

    def make(now=0.0, folder=tmp_path, **changes):
        while chiefs:
            chiefs.pop().close()
        chiefs.append(Chief(Store(folder), space, SETTINGS | changes, lease_seconds=10, now=now))
        return chiefs[0]

    yield make
    while chiefs:
        chiefs.pop().close()


@pytest.fixture(scope="module")
def browser():
    """Chromium, or a skip with the reason."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (the extra browser)")
    if CHROMIUM is None:
        pytest.skip("needs Chromium on this machine (Debian's package chromium)")
    os.environ.setdefault("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(
            executable_path=CHROMIUM, args=[f"--{flag}" for flag in FLAGS], timeout=120_000
        )
        yield chromium
        chromium.close()
