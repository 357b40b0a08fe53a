"""How fast `kerascnn serve` answers: milliseconds for one client, images a second for sixteen; and what it survives.

    python benchmarks/serve.py --model cifar_net --seconds 10 --requests 10000

Prints a table and writes benchmarks/results/serve.json. The peer is `predict_on_batch` in the same process with batches
of the size that the service reached, measured in turn with the service, five times; the middle ratio counts. Then 12
good clients and 4 bad ones ask so many times: broken files, bombs, heads and bodies of 40 MB, slow and vanished
clients, what is no HTTP. Clients and server share the machine. Processor seconds of the server and of the clients are
counted beside wall seconds; on a busy machine only the former mean something, and the load is kept beside them. With
--first, clients, server and peer have real-time priority while they are timed (Linux, root), before all other work.
"""

import argparse
import contextlib
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
ROUNDS = 5
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
    """{"ms": of each request, "rate": images a second, "batch": mean size, and processor time an image of the server
    ("processor_ms") and of the clients ("client_ms")}."""
    before, cpu, own_cpu, began = batches(port), processor_seconds(process), time.process_time(), time.monotonic()
    done = steady(port, bodies, clients, seconds=seconds)
    wall, cpu, own_cpu = time.monotonic() - began, processor_seconds(process) - cpu, time.process_time() - own_cpu
    after = batches(port)
    assert all(status == 200 for _, _, status, _ in done)
    mean = (after[1] - before[1]) / (after[0] - before[0])
    ms = 1000 * np.array([each[0] for each in done])
    processor_ms = {"processor_ms": 1000 * cpu / len(done), "client_ms": 1000 * own_cpu / len(done)}
    return {"ms": ms, "rate": len(done) / wall, "batch": mean, **processor_ms}


def peer(network, batch, seconds):
    """(images a second, processor ms an image) of `predict_on_batch` alone."""
    images = np.random.default_rng(0).random((batch, *network.input_shape[1:]), "float32")
    network.predict_on_batch(images)
    began, cpu, count = time.monotonic(), time.process_time(), 0
    while time.monotonic() - began < seconds:
        network.predict_on_batch(images)
        count += batch
    return count / (time.monotonic() - began), 1000 * (time.process_time() - cpu) / count


@contextlib.contextmanager
def first(*processes):
    """Within this block the processes come before all others."""

    def give(policy, priority):
        for process in processes:
            subprocess.run(["chrt", "-a", policy, "-p", priority, str(process)], check=True)

    give("--rr", "10")
    try:
        yield
    finally:
        give("--other", "0")


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
    parser.add_argument("--first", action="store_true", help="before all other work of the machine, for seconds")
    typed = parser.parse_args()
    bodies = [picture(seed) for seed in range(20)]
    process, port = started(typed.model)
    try:
        for clients in (1, 16):
            steady(port, bodies, clients, seconds=2)
        network, rounds = using.subject(typed.model).model, []
        with first(process.pid, os.getpid()) if typed.first else contextlib.nullcontext():
            one = measured(process, port, bodies, 1, typed.seconds)
            for _ in range(ROUNDS):
                many = measured(process, port, bodies, 16, typed.seconds / ROUNDS)
                alone, cpu = peer(network, max(1, round(many["batch"])), typed.seconds / ROUNDS)
                rounds.append((many["rate"] / alone, {"alone": alone, "cpu": cpu, **many}))
        rounds.sort(key=lambda each: each[0])
        ended = survived(process, port, bodies, typed.requests, typed.model) if typed.requests else {}
    finally:
        process.terminate()
        process.wait()
    many = rounds[ROUNDS // 2][1]
    row = {
        "model": typed.model,
        "one_client_p50_ms": round(float(np.percentile(one["ms"], 50)), 2),
        "one_client_p99_ms": round(float(np.percentile(one["ms"], 99)), 2),
        "sixteen_clients_images_per_second": round(many["rate"], 1),
        "sixteen_clients_p99_ms": round(float(np.percentile(many["ms"], 99)), 2),
        "sixteen_clients_mean_batch": round(many["batch"], 1),
        "sixteen_clients_processor_ms_per_image": round(many["processor_ms"], 2),
        "sixteen_clients_own_processor_ms_per_image": round(many["client_ms"], 3),
        "predict_on_batch_images_per_second": round(many["alone"], 1),
        "predict_on_batch_processor_ms_per_image": round(many["cpu"], 2),
        "ratio": round(rounds[ROUNDS // 2][0], 3),
        "ratio_range": [round(rounds[0][0], 3), round(rounds[-1][0], 3)],
        "ratio_of_processor_time": round(many["cpu"] / many["processor_ms"], 3),
        "load": round(os.getloadavg()[0], 1),
        "real_time_priority": typed.first,
        **ended,
        "processor": backends.processor(),
    }
    RESULTS.write_text(json.dumps(row, indent=2) + "\n")
    for name, value in row.items():
        print(f"{name:42} {value}")


if __name__ == "__main__":
    main()
