"""How long a microscope takes to build, and how large it is.

    python benchmarks/microscope.py [--model FILE.keras|RUN|NAME] [--data DATA] [--images 1000] [--layers all]
        [--maps 3] [--looks 10] [--features 64] [--out FOLDER] [--name cifar_net]

Four builds into one folder: the passes over the images and the pages; the maps, too; the explanations of images, too;
and one in which nothing has changed. The first three together are what one build does, and a little more, since each
writes pages. With --features, units a second of the stage --feature-images: one at a time, and as many at once as the
stage takes. Where Playwright and Chromium are installed, the largest page of a layer and one of a unit are opened, each
five times in a new window, until all their pictures are there. Without --model it is cifar_net, freshly initialised, on
images of noise. Processor seconds of the process and its children are counted beside wall seconds; on a busy machine
only the former mean something, and the load is kept beside them. Sizes are bytes of the files, those of state/, which
only later builds need, apart. With --open, only the pages of a site in --out are opened. With --name, the row of this
name in benchmarks/results/microscope.json is written.
"""

import argparse
import contextlib
import json
import os
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import kerascnn
from kerascnn import backends
from kerascnn.datasets.image_data import ImageData, Split
from kerascnn.pages.microscope import features
from kerascnn.pages.microscope.layers import matching
from kerascnn.pages.microscope.subject import opened

RESULTS = Path(__file__).parent / "results" / "microscope.json"


def noise(count, classes=10):
    """An ImageData of images of noise."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (count, 32, 32, 3), "uint8"), rng.integers(0, classes, count)
    names = tuple(f"class {number}" for number in range(classes))
    return ImageData("noise", "noise", names, None, test=Split(images, labels))


def scale(images):
    return images.astype("float32") / 255


def subject(options):
    """(model, data, preprocessing) of the command line."""
    if options.model is None:
        keras.utils.set_random_seed(0)
        return kerascnn.models.cifar_net(), noise(options.images), scale
    return options.model, options.data, None


def timed(function):
    """{"seconds", "processor_seconds", "load"} of a call, the load that of the whole machine."""
    wall, cpu = time.monotonic(), sum(os.times()[:4])
    function()
    seconds, cpu = time.monotonic() - wall, sum(os.times()[:4]) - cpu
    return {"seconds": round(seconds, 1), "processor_seconds": round(cpu, 1), "load": round(os.getloadavg()[0], 1)}


def sizes(folder):
    """Bytes and files of a site and of its state."""
    bytes_of = {"site_bytes": 0, "state_bytes": 0, "files": 0}
    for path in folder.rglob("*"):
        if path.is_file():
            part = "state_bytes" if path.relative_to(folder).parts[0] == "state" else "site_bytes"
            bytes_of[part] += path.stat().st_size
            bytes_of["files"] += 1
    return bytes_of


def feature_speeds(model, data, preprocessing, count):
    """{"one at a time", "N at once": units a second} of feature images of the deepest convolution."""
    subject = opened(model, data, preprocessing=preprocessing, images=64)
    bounds = features.pixel_range(subject)
    (each,) = matching(subject.model, "deepest")
    layer = SimpleNamespace(each=each, units=each.scanned.channels)
    speeds = {}
    for at_once in (1, features.AT_ONCE):
        features.unit_images(subject, layer, range(at_once), *bounds)  # compiles
        asked = count if at_once > 1 else max(1, count // 8)
        began = time.monotonic()
        for first in range(0, asked, at_once):
            features.unit_images(subject, layer, range(first, min(first + at_once, asked)), *bounds)
        speeds["one at a time" if at_once == 1 else f"{at_once} at once"] = round(asked / (time.monotonic() - began), 2)
    return speeds


def opening_seconds(out):
    """{page: median seconds until it and all its pictures are there}; {} without Playwright or Chromium."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return {}
    chromium, seconds = shutil.which("chromium"), {}
    if chromium is None:
        return {}
    with sync_playwright() as play, contextlib.closing(play.chromium.launch(executable_path=chromium)) as browser:
        for path in pages(out):
            times = []
            for _ in range(6):
                with contextlib.closing(browser.new_context()) as window:
                    page, began = window.new_page(), time.monotonic()
                    page.goto(path.resolve().as_uri(), wait_until="load")
                    times.append(time.monotonic() - began)
            seconds[str(path.relative_to(out))] = round(statistics.median(times[1:]), 3)
    return seconds


def pages(out):
    """The largest page of a layer, that of a middle unit, of an explained image and of the network."""
    units, explained = sorted(out.glob("units/*/*.html")), sorted(out.glob("images/*-looks.webp"))
    images = [path.with_name(path.name.replace("-looks.webp", ".html")) for path in explained[:1]]
    largest = max(out.glob("layers/*.html"), key=lambda path: path.stat().st_size)
    return (largest, units[len(units) // 2], *images, out / "index.html")


def kept(name, row):
    """Add to one row of the results."""
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps(rows | {name: rows.get(name, {}) | row}, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--data")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--layers", default="all")
    parser.add_argument("--maps", type=int, default=3)
    parser.add_argument("--looks", type=int, default=10)
    parser.add_argument("--features", type=int, default=0, help="units of the deepest convolution to make images for")
    parser.add_argument("--out", type=Path, help="a new folder, which stays; usually a temporary one")
    parser.add_argument("--name", help="of the row in the results; without it nothing is written")
    parser.add_argument("--open", action="store_true", help="only open pages of the site in --out")
    options = parser.parse_args()
    if options.open:
        told = {"opening_seconds": opening_seconds(options.out)}
        print(told)
        return kept(options.name, told) if options.name else None
    model, data, preprocessing = subject(options)
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        out = options.out or Path(folder) / "site"
        settings = {"layers": options.layers, "images": options.images, "out": out, "preprocessing": preprocessing}
        builds = {
            "passes and pages": (0, 0),
            "maps and pages": (options.maps, 0),
            "explanations and pages": (options.maps, options.looks),
            "again, nothing changed": (options.maps, options.looks),
        }
        for name, (maps, looks) in builds.items():
            rows[name] = row = timed(
                lambda maps=maps, looks=looks: kerascnn.microscope(model, data, maps=maps, looks=looks, **settings)
            )
            print(f"{name:24} {row['seconds']:8.1f} s, {row['processor_seconds']:8.1f} processor seconds", flush=True)
        bytes_of = sizes(out)
        units, opening = len(list(out.glob("units/*/*.html"))), opening_seconds(out)
    speeds = feature_speeds(model, data, preprocessing, options.features) if options.features else {}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told = {"images": options.images, "layers": options.layers, "units": units, **bytes_of, "stages": rows}
    told |= {"peak_mb": round(peak), "opening_seconds": opening, "feature_units_per_second": speeds}
    told |= {"processor": backends.processor(), "versions": {"keras": keras.__version__}}
    for name, value in told.items():
        print(f"{name:24} {value}")
    if options.name:
        kept(options.name, told)


if __name__ == "__main__":
    main()
