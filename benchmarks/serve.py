"""How fast `kerascnn serve` answers: milliseconds for one client, images a second for sixteen, some of them broken.

    python benchmarks/serve.py --model cifar_net --seconds 10

Prints a table and writes benchmarks/results/serve.json. The peer is `predict_on_batch` with batches of 32 in the same
process; clients and server share the machine.
"""

import argparse
import http.client
import io
import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

from kerascnn import backends, using

RESULTS = Path(__file__).parent / "results" / "serve.json"


def started(model):
    """(process, port) of a server."""
    command = [sys.executable, "-m", "kerascnn", "serve", model, "--port", "8765"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    port = int(re.search(r":(\d+)", process.stdout.readline().partition("//")[2])[1])
    for _ in range(100):
        try:
            asked(http.client.HTTPConnection("127.0.0.1", port, timeout=60), "GET", "/v2/health/ready")
            return process, port
        except OSError:
            time.sleep(0.1)
    raise SystemExit("The server did not answer.")


def asked(connection, method, path, body=None):
    connection.request(method, path, body)
    response = connection.getresponse()
    return response.status, response.read()


def client(port, image, until, times, statuses, bad=False):
    """Ask until a moment; of a bad client every fourth request is broken, of which the answer must be 400."""
    connection, number = http.client.HTTPConnection("127.0.0.1", port, timeout=60), 0
    while time.monotonic() < until:
        number += 1
        broken = bad and number % 4 == 0
        began = time.monotonic()
        status, _ = asked(connection, "POST", "/predict", b"no image" if broken else image)
        if not broken:
            times.append(time.monotonic() - began)
        statuses.append(status == (400 if broken else 200))


def together(port, image, clients, seconds, bad=0):
    """(milliseconds of each good request, images a second, whether every answer was right)."""
    times, statuses = [], []
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(target=client, args=(port, image, until, times, statuses, number < bad))
        for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 1000 * np.array(times), len(times) / seconds, all(statuses)


def peer(model, seconds=5.0, batch=32):
    """Images a second of `predict_on_batch` alone."""
    network = using.subject(model).model
    images = np.random.default_rng(0).random((batch, *network.input_shape[1:]), "float32")
    network.predict_on_batch(images)
    began, count = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        network.predict_on_batch(images)
        count += batch
    return count / (time.monotonic() - began)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="cifar_net")
    parser.add_argument("--seconds", type=float, default=10)
    typed = parser.parse_args()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), "uint8")
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    process, port = started(typed.model)
    try:
        for clients in (1, 16):  # compiles every size of batch
            together(port, file.getvalue(), clients, 3)
        one, _, right_one = together(port, file.getvalue(), 1, typed.seconds)
        many, rate, right_many = together(port, file.getvalue(), 16, typed.seconds, bad=4)
    finally:
        process.terminate()
        process.wait()
    alone = peer(typed.model)
    row = {
        "model": typed.model,
        "one_client_p50_ms": round(float(np.percentile(one, 50)), 2),
        "one_client_p99_ms": round(float(np.percentile(one, 99)), 2),
        "sixteen_clients_images_per_second": round(rate, 1),
        "sixteen_clients_p99_ms": round(float(np.percentile(many, 99)), 2),
        "requests": len(one) + len(many),
        "all_answers_right": bool(right_one and right_many),
        "predict_on_batch_images_per_second": round(alone, 1),
        "ratio": round(rate / alone, 3),
        "processor": backends.processor(),
    }
    RESULTS.write_text(json.dumps(row, indent=2) + "\n")
    for name, value in row.items():
        print(f"{name:36} {value}")


if __name__ == "__main__":
    main()
