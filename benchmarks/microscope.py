"""How long a microscope takes to build, and how large it is.

    python benchmarks/microscope.py [--model FILE.keras|RUN|NAME] [--data DATA] [--images 1000] [--layers all]
        [--maps 3] [--json microscope.json]

Three builds into one folder: the passes over the images and the pages; the maps, too; and one in which nothing has
changed. Without --model it is cifar_net, freshly initialised, on images of noise: weights and images do not change the
work. Processor seconds are counted beside wall seconds; on a busy machine only the former mean something. Sizes are
bytes of the files, those of state/, which only later builds need, apart.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import kerascnn
from kerascnn.datasets.image_data import ImageData, Split


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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--data")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--layers", default="all")
    parser.add_argument("--maps", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model, data, preprocessing = subject(options)
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "site"
        settings = {"layers": options.layers, "images": options.images, "out": out, "preprocessing": preprocessing}
        builds = {"passes and pages": 0, "maps and pages": options.maps, "again, nothing changed": options.maps}
        for name, maps in builds.items():
            rows[name] = timed(lambda maps=maps: kerascnn.microscope(model, data, maps=maps, **settings))[:2]
            print(f"{name:24} {rows[name][0]:8.1f} s, {rows[name][1]:8.1f} processor seconds", flush=True)
        found = sizes(out)
        units = len(list(out.glob("units/*/*.html")))
        slowest = max(out.glob("layers/*.html"), key=lambda path: path.stat().st_size).stat().st_size
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{units:,} units; {found['site_bytes'] / 1e6:.1f} MB in {found['files']:,} files")
    print(f"{found['state_bytes'] / 1e6:.1f} MB of state; largest layer page {slowest / 1e3:.0f} kB")
    print(f"{peak:,.0f} MB memory")
    if options.json:
        told = {"units": units, **found, "peak_mb": round(peak), "images": options.images, "seconds": rows}
        options.json.write_text(json.dumps(told | {"versions": {"keras": keras.__version__}}, indent=2) + "\n")


if __name__ == "__main__":
    main()
