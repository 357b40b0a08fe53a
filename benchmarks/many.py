"""Loose image files against tar shards on a cold cache, and a scan in 1, 2 and 4 shards: python benchmarks/many.py DATA

DATA is a folder of class folders with many image files. Every measurement of reading is a fresh process, after the
pages, directory entries and inodes of the files were dropped from the cache, which needs root ("cold" in the result
says whether it was allowed). "bytes" reads every file, in the folder's order or at random; "decoded" loads the data,
which decodes all images to 32x32 pixels into memory. Loose files and shards alternate, and medians are printed. A
scan's shards run one after another here; on a cluster each would be a job of its own, so that the slowest one counts.
Writes benchmarks/results/many.json.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "many.json"
READINGS = ("bytes in order", "bytes at random", "decoded")


def drop_cache(folder):
    """Forget the pages of a folder's files and the system's directory entries and inodes; False where that is not
    allowed. Other pages stay in the cache, for the sake of whatever else runs."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())  # only clean pages are forgotten
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    try:
        Path("/proc/sys/vm/drop_caches").write_text("2")
    except OSError:
        return False
    return True


def read(folder, how):
    """Seconds that one kind of reading takes, in this process, and the images read."""
    import numpy as np

    from kerascnn import datasets
    from kerascnn.datasets.loading import read as find
    from kerascnn.datasets.resize import for_each

    start = time.perf_counter()
    if how == "decoded":
        data = datasets.load(folder, image_size=32, memory_limit=1 << 33)
        return time.perf_counter() - start, sum(map(len, data.splits.values()))
    splits = find(folder).splits.values()
    listed = time.perf_counter() - start
    rows = [(split.images, row) for split in splits for row in range(len(split))]
    if how == "bytes at random":
        rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    start = time.perf_counter()
    for_each(lambda i: rows[i][0].content(rows[i][1]), len(rows), 64 * 64)
    return listed + time.perf_counter() - start, len(rows)


def reading(folders, repeats):
    """{how: {what: images a second}}, each after the cache was dropped, and whether it could be."""
    seconds, cold, images = {}, True, 0
    for _ in range(repeats):
        for how in READINGS:
            for what, folder in folders.items():
                cold = drop_cache(folder) and cold
                done = subprocess.run(
                    [sys.executable, __file__, str(folder), "--child", how], check=True, capture_output=True, text=True
                )
                taken, images = json.loads(done.stdout.splitlines()[-1])
                seconds.setdefault(how, {}).setdefault(what, []).append(taken)
    speeds = {}
    for how, by_what in seconds.items():
        rates = {what: round(images / statistics.median(taken)) for what, taken in by_what.items()}
        speeds[how] = {
            "images_a_second": rates,
            "seconds": {what: [round(t, 2) for t in taken] for what, taken in by_what.items()},
            "times_as_fast": round(rates["shards"] / rates["loose"], 2),
        }
        print(
            f"{how:16} loose {rates['loose']:>8,}/s   shards {rates['shards']:>8,}/s   x {speeds[how]['times_as_fast']}"
        )
    return {"images": images, "cold": cold, "reading": speeds}


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
        for shards in (1, 2, 4):
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
    parser.add_argument("--scan", type=int, default=10_000, help="images of the scan")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps(read(asked.data, asked.child)))
        return
    from kerascnn import datasets

    result = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "python": platform.python_version()}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        files, size = datasets.pack(asked.data, asked.shards, Path(folder) / "shards")
        result["packing"] = {"files": files, "bytes": size, "seconds": round(time.perf_counter() - start, 2)}
        result |= reading({"loose": asked.data, "shards": Path(folder) / "shards"}, asked.repeats)
    result["scan"] = scanning(asked.scan)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
