"""How fast `kerascnn serve` answers: milliseconds for one client, images a second for sixteen; and what it survives.

    python benchmarks/serve.py --model cifar_net --seconds 10 --requests 10000

Prints a table and writes benchmarks/results/serve.json. The peer is `predict_on_batch` in the same process with batches
of the size that the service reached. Then 12 good clients and 4 bad ones ask so many times: broken files, bombs, bodies
of 40 MB, slow and vanished clients, what is no HTTP. Clients and server share the machine. Processor seconds of the
server are counted beside wall seconds; on a busy machine only the former mean something.
"""

import argparse
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from kerascnn import backends, using

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from service_clients import chaos, memory, steady, top

RESULTS = Path(__file__).parent / "results" / "serve.json"
TICK = os.sysconf("SC_CLK_TCK")


def started(model):
    """(process, port) of a server."""
    command = [sys.executable, "-m", "kerascnn", "serve", model, "--port", "8765"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    port = int(re.search(r":(\d+)", process.stdout.readline().partition("//")[2])[1])
    for _ in range(600):
        try:
            steady(port, [picture(0)], 1, count=1)
            return process, port
        except OSError:
            time.sleep(0.1)
    raise SystemExit("The server did not answer.")


def picture(seed):
    """A PNG file of 32x32 pixels."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), "uint8")).save(file, "png")
    return file.getvalue()


def processor_seconds(process):
    """Processor seconds that a process has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def batches(port):
    """(batches, images) that the service has computed."""
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        text = response.read().decode()
    return [int(re.search(rf"kerascnn_{name}_total (\d+)", text)[1]) for name in ("batches", "batch_images")]


def measured(process, port, bodies, clients, seconds):
    """{"ms": of each request, "rate": images a second, "processor_ms": of the server an image, "batch": mean size}."""
    before, cpu, began = batches(port), processor_seconds(process), time.monotonic()
    done = steady(port, bodies, clients, seconds=seconds)
    wall, cpu = time.monotonic() - began, processor_seconds(process) - cpu
    after = batches(port)
    assert all(status == 200 for _, _, status, _ in done)
    mean = (after[1] - before[1]) / (after[0] - before[0])
    ms = 1000 * np.array([each[0] for each in done])
    return {"ms": ms, "rate": len(done) / wall, "processor_ms": 1000 * cpu / len(done), "batch": mean}


def peer(model, batch, seconds=5.0):
    """(images a second, processor ms an image) of `predict_on_batch` alone."""
    network = using.subject(model).model
    images = np.random.default_rng(0).random((batch, *network.input_shape[1:]), "float32")
    network.predict_on_batch(images)
    began, cpu, count = time.monotonic(), time.process_time(), 0
    while time.monotonic() - began < seconds:
        network.predict_on_batch(images)
        count += batch
    return count / (time.monotonic() - began), 1000 * (time.process_time() - cpu) / count


def survived(process, port, bodies, requests, model):
    """What `requests` requests, a quarter of them bad, did to the server."""
    expected = [top(steady(port, [body], 1, count=1)[0][3]) for body in bodies]
    chaos(port, bodies, max(100, requests // 10), model)  # memory that is taken once
    before = memory(process.pid)[0]
    done, counts, wrong = chaos(port, bodies, requests, model, seed=1)
    differing = 0
    for _, number, status, body in done:
        same = status == 200 and top(body)[0] == expected[number][0]
        differing += not (same and abs(top(body)[1] - expected[number][1]) < 1e-4)
    return {
        "chaos_requests": requests,
        "chaos_good_answers_that_differ": differing,
        "chaos_bad_answers_not_as_expected": len(wrong),
        "chaos_good_p50_ms": round(1000 * float(np.percentile([each[0] for each in done], 50)), 1),
        "chaos_good_p99_ms": round(1000 * float(np.percentile([each[0] for each in done], 99)), 1),
        "chaos_memory_before_mb": round(before),
        "chaos_memory_after_mb": round(memory(process.pid)[0]),
        "chaos_memory_peak_mb": round(memory(process.pid)[1]),
        "chaos_alive": process.poll() is None,
        "chaos_kinds": {name: sum(each.values()) for name, each in sorted(counts.items())},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="cifar_net")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--requests", type=int, default=10_000, help="of good and bad clients together; 0: none")
    typed = parser.parse_args()
    bodies = [picture(seed) for seed in range(20)]
    process, port = started(typed.model)
    try:
        for clients in (1, 16):
            steady(port, bodies, clients, seconds=2)
        one = measured(process, port, bodies, 1, typed.seconds)
        many = measured(process, port, bodies, 16, typed.seconds)
        ended = survived(process, port, bodies, typed.requests, typed.model) if typed.requests else {}
    finally:
        process.terminate()
        process.wait()
    alone, cpu = peer(typed.model, max(1, round(many["batch"])))
    row = {
        "model": typed.model,
        "one_client_p50_ms": round(float(np.percentile(one["ms"], 50)), 2),
        "one_client_p99_ms": round(float(np.percentile(one["ms"], 99)), 2),
        "sixteen_clients_images_per_second": round(many["rate"], 1),
        "sixteen_clients_p99_ms": round(float(np.percentile(many["ms"], 99)), 2),
        "sixteen_clients_mean_batch": round(many["batch"], 1),
        "sixteen_clients_processor_ms_per_image": round(many["processor_ms"], 2),
        "predict_on_batch_images_per_second": round(alone, 1),
        "predict_on_batch_processor_ms_per_image": round(cpu, 2),
        "ratio": round(many["rate"] / alone, 3),
        "ratio_of_processor_time": round(cpu / many["processor_ms"], 3),
        **ended,
        "processor": backends.processor(),
    }
    RESULTS.write_text(json.dumps(row, indent=2) + "\n")
    for name, value in row.items():
        print(f"{name:42} {value}")


if __name__ == "__main__":
    main()
