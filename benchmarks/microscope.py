"""How long a microscope takes to build, and how large it is.

    python benchmarks/microscope.py [--model FILE.keras|RUN|NAME] [--data DATA] [--images 1000] [--layers all]
        [--maps 3] [--looks 10] [--features 64] [--json microscope.json]

Four builds into one folder: the passes over the images and the pages; the maps, too; the explanations of images, too;
and one in which nothing has changed. With --features, units a second of the stage --feature-images: one at a time, and
as many at once as the stage takes. Without --model it is cifar_net, freshly initialised, on images of noise: weights
and images do not change the work. Processor seconds are counted beside wall seconds; on a busy machine only the former
mean something. Sizes are bytes of the files, those of state/, which only later builds need, apart.
"""

import argparse
import json
import os
import resource
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
    """(wall seconds, processor seconds, what the function returns)."""
    wall, cpu = time.monotonic(), time.process_time()
    found = function()
    return round(time.monotonic() - wall, 1), round(time.process_time() - cpu, 1), found


def sizes(folder):
    """Bytes and files of a site and of its state."""
    found = {"site_bytes": 0, "state_bytes": 0, "files": 0}
    for path in folder.rglob("*"):
        if path.is_file():
            part = "state_bytes" if path.relative_to(folder).parts[0] == "state" else "site_bytes"
            found[part] += path.stat().st_size
            found["files"] += 1
    return found


def feature_speeds(model, data, preprocessing, count):
    """{"one at a time", "N at once": units a second} of feature images of the deepest convolution."""
    subject = opened(model, data, preprocessing=preprocessing, images=64)
    bounds = features.pixel_range(subject)
    (each,) = matching(subject.model, "deepest")
    layer = SimpleNamespace(each=each, units=each.scanned.channels)
    speeds = {}
    for at_once in (1, features.AT_ONCE):
        features.made(subject, layer, range(at_once), *bounds)  # compiles
        asked = count if at_once > 1 else max(1, count // 8)
        began = time.monotonic()
        for first in range(0, asked, at_once):
            features.made(subject, layer, range(first, min(first + at_once, asked)), *bounds)
        speeds["one at a time" if at_once == 1 else f"{at_once} at once"] = round(asked / (time.monotonic() - began), 2)
    return speeds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--data")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--layers", default="all")
    parser.add_argument("--maps", type=int, default=3)
    parser.add_argument("--looks", type=int, default=10)
    parser.add_argument("--features", type=int, default=0, help="units of the deepest convolution to make images for")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model, data, preprocessing = subject(options)
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "site"
        settings = {"layers": options.layers, "images": options.images, "out": out, "preprocessing": preprocessing}
        builds = {
            "passes and pages": (0, 0),
            "maps and pages": (options.maps, 0),
            "explanations and pages": (options.maps, options.looks),
            "again, nothing changed": (options.maps, options.looks),
        }
        for name, (maps, looks) in builds.items():
            rows[name] = timed(
                lambda maps=maps, looks=looks: kerascnn.microscope(model, data, maps=maps, looks=looks, **settings)
            )[:2]
            print(f"{name:24} {rows[name][0]:8.1f} s, {rows[name][1]:8.1f} processor seconds", flush=True)
        found = sizes(out)
        units = len(list(out.glob("units/*/*.html")))
        slowest = max(out.glob("layers/*.html"), key=lambda path: path.stat().st_size).stat().st_size
    speeds = feature_speeds(model, data, preprocessing, options.features) if options.features else {}
    for name, speed in speeds.items():
        print(f"feature images, {name:14} {speed:8.2f} units a second")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{units:,} units; {found['site_bytes'] / 1e6:.1f} MB in {found['files']:,} files")
    print(f"{found['state_bytes'] / 1e6:.1f} MB of state; largest layer page {slowest / 1e3:.0f} kB")
    print(f"{peak:,.0f} MB memory")
    if options.json:
        told = {"units": units, **found, "peak_mb": round(peak), "images": options.images, "seconds": rows}
        told |= {"feature_units_per_second": speeds, "processor": backends.processor()}
        options.json.write_text(json.dumps(told | {"versions": {"keras": keras.__version__}}, indent=2) + "\n")


if __name__ == "__main__":
    main()
