"""Loose image files against tar shards on a cold cache, and a scan and a search in 1, 2 and 4 parts.

    python benchmarks/many.py DATA

DATA is a folder of class folders with many image files. Every measurement of reading is a fresh process, which finds
the files and reads all of them in one random order with the library's threads: "bytes" reads them, "decoded" also
decodes them to 32x32 pixels. Before it, the pages of the files are dropped from the cache (posix_fadvise with DONTNEED,
after one sync). Directory entries and inodes stay cached, since dropping them needs root and hits every program on the
machine; and if the disk is virtual, its host may have the blocks in memory. Both favour loose files. Loose files and
shards alternate; medians are printed.

A scan's shards run one after another; on a cluster each would be a job of its own, so that the slowest one counts. The
search trains LeNet-5 on the digits, with as many worker processes on this machine; if Ray is installed, once more with
Ray's workers, of which there are no more than processors.

Writes benchmarks/results/many.json; with --parts, only these parts of it.
"""

import argparse
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "many.json"
READINGS = ("bytes", "decoded")
PARTS = ("reading", "scan", "search")
WORKERS = (1, 2, 4)
SPACE = """
model = "lenet5"
data = "digits"
precision = "float32"
[search.learning_rate]
low = 1e-4
high = 1e-1
log = true
"""


def drop_pages(folder):
    """Forget the pages of a folder's files, which must have been written back."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(folder, how):
    """What one kind of reading takes, in this process: {"finding", "reading", "processor"} in seconds, and "images"."""
    import numpy as np

    from kerascnn.datasets.decoding import read_image
    from kerascnn.datasets.loading import read as find
    from kerascnn.datasets.resize import for_each

    began, used = time.perf_counter(), time.process_time()
    splits = find(folder).splits.values()
    finding = time.perf_counter() - began
    rows = [(split.images, row) for split in splits for row in range(len(split))]
    order = np.random.default_rng(0).permutation(len(rows))

    def work(place):
        images, row = rows[order[place]]
        if how == "bytes":
            images.content(row)
        else:
            read_image(images.file(row), (32, 32), 3)

    began = time.perf_counter()
    for_each(work, len(rows), 32 * 32)
    reading = time.perf_counter() - began
    return {
        "finding": round(finding, 3),
        "reading": round(reading, 3),
        "processor": round(time.process_time() - used, 3),
        "images": len(rows),
    }


def reading(folders, repeats):
    """{how: {"images_a_second", "seconds"}} of each folder, after its pages were dropped."""
    seconds = {how: {name: [] for name in folders} for how in READINGS}
    os.sync()  # only clean pages are forgotten; fsync of 10,000 files one by one takes minutes
    for _ in range(repeats):
        for how in READINGS:
            for name, folder in folders.items():
                drop_pages(folder)
                done = subprocess.run(
                    [sys.executable, __file__, str(folder), "--child", how], check=True, capture_output=True, text=True
                )
                seconds[how][name].append(json.loads(done.stdout.splitlines()[-1]))
    results = {}
    for how, by_name in seconds.items():
        rates = {
            name: round(statistics.median(each["images"] / (each["finding"] + each["reading"]) for each in measured))
            for name, measured in by_name.items()
        }
        times = round(rates["shards"] / rates["loose"], 2)
        results[how] = {"images_a_second": rates, "times_as_fast": times, "seconds": by_name}
        print(f"{how:8} loose {rates['loose']:>8,}/s   shards {rates['shards']:>8,}/s   x {times}")
    return results


def searching(trials, engine):
    """{workers: {"seconds", "processor_seconds"}} of a search with so many worker processes of an engine."""
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        space = Path(folder) / "space.toml"
        space.write_text(SPACE)
        for workers in [number for number in WORKERS if engine == "local" or number <= os.cpu_count()]:
            command = [sys.executable, "-m", "kerascnn", "tune", "--search", str(space), "--trials", str(trials)]
            command += ["--epochs", "2", "--stop-early", "none", "--out", str(Path(folder) / str(workers))]
            command += ["--workers", str(workers)] + (["--engine", engine, "--address", "local"] * (engine != "local"))
            used, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            taken, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
            processor = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
            measured[workers] = {"seconds": round(taken, 1)}
            if engine == "local":  # Ray's processes are not children of the command
                measured[workers]["processor_seconds"] = round(processor, 1)
            print(f"{engine}, {workers} workers: {taken:.1f} s")
    return {"trials": trials, "epochs": 2, "load_before": _load(), "workers": measured}


def _load():
    return [round(load, 1) for load in os.getloadavg()]


def scanning(count):
    """{shards: {"all_seconds", "slowest_seconds", "merge_seconds"}} of a scan of cifar_net over noise."""
    import numpy as np

    import kerascnn

    model = kerascnn.models.cifar_net()
    images = np.random.default_rng(0).random((count, 32, 32, 3), "float32")
    options = {"layers": ["conv1", "conv4"], "labels": np.arange(count) % 10}
    kerascnn.scan(model, images[:256], **options | {"labels": np.arange(256) % 10})  # compiles
    results, contents = {}, set()
    with tempfile.TemporaryDirectory() as folder:
        for shards in WORKERS:
            taken, paths = [], []
            for number in range(1, shards + 1):
                paths.append(Path(folder) / f"{number}-of-{shards}.npz")
                start = time.perf_counter()
                kerascnn.scan(model, images, shard=(number, shards), out=paths[-1], **options)
                taken.append(time.perf_counter() - start)
            start = time.perf_counter()
            kerascnn.merge(paths, out=Path(folder) / f"{shards}.npz")
            merged = time.perf_counter() - start
            contents.add((Path(folder) / f"{shards}.npz").read_bytes())
            results[shards] = {
                "all_seconds": round(sum(taken), 2),
                "slowest_seconds": round(max(taken), 2),
                "merge_seconds": round(merged, 2),
            }
            print(f"{shards} shards: all {sum(taken):.1f} s, slowest {max(taken):.1f} s, merge {merged:.1f} s")
    return {"images": count, "shards": results, "same_bytes": len(contents) == 1}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scan", type=int, default=2_000, help="images of the scan")
    parser.add_argument("--trials", type=int, default=4, help="trials of the search")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps(read(asked.data, asked.child)))
        return
    from kerascnn import datasets

    result = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    result |= {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "python": platform.python_version()}
    if "reading" in asked.parts:
        result["load_before"] = _load()
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            files, size = datasets.pack(asked.data, asked.shards, Path(folder) / "shards")
            result["packing"] = {"files": files, "bytes": size, "seconds": round(time.perf_counter() - start, 2)}
            result["reading"] = reading({"loose": asked.data, "shards": Path(folder) / "shards"}, asked.repeats)
    if "scan" in asked.parts:
        result["scan"] = scanning(asked.scan)
    if "search" in asked.parts:
        result["search"] = searching(asked.trials, "local")
        if importlib.util.find_spec("ray"):
            result["search_ray"] = searching(asked.trials, "ray")
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
