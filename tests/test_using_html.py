"""The page with a network inside classifies images in Chromium as Keras does."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kerascnn
from kerascnn.using.formats import missing

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def page(trained):
    """A page of Chromium, without a network, that shows the exported file."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (the extra dev)")
    if CHROMIUM is None:
        pytest.skip("needs Chromium on this machine (Debian's package chromium)")
    if missing("html"):
        pytest.skip(f"needs {', '.join(missing('html'))}: pip install 'kerascnn[onnx]'")
    exported = kerascnn.export(trained, "html", fresh=False)
    os.environ.setdefault("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = chromium.new_context(offline=True).new_page()
        opened.context.set_default_timeout(180_000)
        faults = []
        opened.on("pageerror", lambda error: faults.append(str(error)))
        opened.goto(exported.path.as_uri())
        opened.get_by_text("Ready.", exact=True).wait_for()
        yield opened
        assert faults == []
        chromium.close()


def probabilities(page, paths):
    """What the page answers to files: (N, num_classes)."""
    page.set_input_files("#files", paths)
    page.get_by_text(f"{len(paths)} done.").wait_for()
    told = page.eval_on_selector_all("li", "items => items.map(item => item.dataset.probabilities)")
    return np.array([json.loads(each) for each in told])


def test_a_hundred_images_are_answered_as_by_keras(page, trained, tmp_path):
    """Photographs of every class, and noise of many shapes: colour, grey, transparent, turned by its EXIF tag."""
    paths = sorted((trained.folder.parent / "photos").rglob("*.png"))
    rng = np.random.default_rng(0)
    for number in range(100 - len(paths)):
        height, width = 7 + 5 * number, 90 - 3 * number
        mode = ("RGB", "L", "RGBA")[number % 3]
        shape = (height, width) if mode == "L" else (height, width, len(mode))
        pixels = rng.integers(0, 256, shape, np.uint8)
        if mode == "RGBA":
            pixels[..., 3] = np.where(pixels[..., 3] > 127, 255, 0)
        path = tmp_path / f"{number}.png"
        exif = Image.Exif()
        exif[274] = 1 + number % 8
        Image.fromarray(pixels).save(path, exif=exif)
        paths.append(path)
    answers = probabilities(page, paths)
    table = kerascnn.predict(trained, paths, top=3)
    table["order"] = [paths.index(Path(name)) for name in table["image"]]
    ours = table.sort_values(["order", "index"])["probability"].to_numpy().reshape(100, 3)
    np.testing.assert_allclose(answers, ours, atol=1e-4)


def test_a_file_that_is_no_image_is_said_to_be_none(page, tmp_path):
    (tmp_path / "words.png").write_text("no image")
    page.set_input_files("#files", tmp_path / "words.png")
    page.get_by_text("words.png: cannot be read as an image").wait_for()


def test_files_that_are_given_meanwhile_take_the_place_of_the_others(page, trained):
    paths = [str(path) for path in sorted((trained.folder.parent / "photos").rglob("*.png"))[:40]]
    page.set_input_files("#files", paths)
    page.set_input_files("#files", paths[:3])
    page.get_by_text("3 done.").wait_for()
    page.wait_for_timeout(300)  # in which what is left of the first forty would be answered
    assert page.locator("li").count() == 3
    assert page.get_by_text("3 done.").count() == 1


def test_files_that_are_given_while_the_network_loads_are_answered(page, trained):
    path = sorted((trained.folder.parent / "photos").rglob("*.png"))[0]
    other = page.context.new_page()
    other.goto(page.url, wait_until="commit")
    other.locator("#files").set_input_files(str(path))
    other.get_by_text("1 done.").wait_for()
    assert other.locator("li").count() == 1
    other.close()
