"""Clients of a service, good and bad, for its test and its benchmark: plain sockets, so that they cost little."""

import io
import json
import random
import selectors
import socket
import threading
import time
import zlib

import numpy as np
from PIL import Image


def request(path, body, method="POST", extra=""):
    """The bytes of an HTTP request."""
    return f"{method} /{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body


def answer(connection):
    """(status, body) of the next response on a socket; (0, b"") if the server closed it."""
    got = b""
    while b"\r\n\r\n" not in got:
        part = connection.recv(65536)
        if not part:
            return 0, b""
        got += part
    head, _, body = got.partition(b"\r\n\r\n")
    while len(body) < _length(head):
        part = connection.recv(65536)
        if not part:
            return 0, b""
        body += part
    return int(head.split(None, 2)[1]), body


def _length(head):
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


def steady(port, bodies, clients, *, count=None, seconds=None, path="predict?top=1"):
    """[(seconds, number of the body, status, answer)] of clients that each ask again as soon as they are answered.

    Args:
        bodies: image files, which take turns.
        count, seconds: ends after so many requests, or after so long.
    """
    chosen, asked, done = selectors.DefaultSelector(), [0], []
    requests = [request(path, body) for body in bodies]
    began = time.monotonic()

    def ask(connection):
        number = asked[0] % len(requests)
        asked[0] += 1
        connection.sendall(requests[number])
        chosen.modify(connection, selectors.EVENT_READ, (number, time.monotonic()))

    sockets = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(clients)]
    for connection in sockets:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        chosen.register(connection, selectors.EVENT_READ)
        ask(connection)
    waiting = clients
    while waiting:
        for key, _ in chosen.select(timeout=60):
            number, since = key.data
            status, body = answer(key.fileobj)
            done.append((time.monotonic() - since, number, status, body))
            more = asked[0] < count if count is not None else time.monotonic() - began < seconds
            if more and status:
                ask(key.fileobj)
            else:
                waiting -= 1
                chosen.unregister(key.fileobj)
    for connection in sockets:
        connection.close()
    return done


def bomb(side=30_000):
    """A PNG file of a few kilobytes and very many pixels."""

    def chunk(kind, content):
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    rows = zlib.compress(b"\0" * ((side // 8 + 2) * 64), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def large(side=3000):
    """A JPEG file of some megapixels, which is a photograph like any other."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (side // 20, side // 20, 3), "uint8")).resize(
        (side, side)
    ).save(file, "jpeg")
    return file.getvalue()


def misdeeds(good, name):
    """{name: (function of a connected socket -> (status, body), allowed statuses)}; 0 is a closed connection."""

    def sent(content):
        def send(connection):
            connection.sendall(content)
            return answer(connection)

        return send

    def slow(connection):
        content = request("predict", good)
        step = len(content) // 5 + 1
        for first in range(0, len(content), step):
            connection.sendall(content[first : first + step])
            time.sleep(0.05)
        return answer(connection)

    def gone(connection):
        connection.sendall(request("predict", good)[:-20])
        return 0, b""

    def endless(connection):
        try:
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
            for _ in range(40):
                connection.sendall(b"x" * 1_000_000)
            return 200, b"A head of 40 MB was read."
        except OSError:
            return 0, b""

    def huge(connection):
        try:
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 40000000\r\n\r\n")
            for _ in range(40):
                connection.sendall(bytes(1_000_000))
            return answer(connection)
        except OSError:
            return 0, b""

    nested = b'{"instances": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"
    return {
        "no image": (sent(request("predict", b"no image")), {400}),
        "nothing": (sent(request("predict", b"")), {400}),
        "half an image": (sent(request("predict", good[: len(good) // 2])), {400}),
        "a bomb": (sent(request("predict", bomb())), {400}),
        "a photograph": (sent(request("predict", large())), {200}),
        "no HTTP": (sent(b"\x16\x03\x01\x00 hello\r\n\r\n"), {0, 400}),
        "a head without end": (endless, {0, 400}),
        "no such page": (sent(request("nothing", b"x")), {404}),
        "another host": (sent(request("predict", good).replace(b"127.0.0.1", b"evil.test")), {421}),
        "no JSON": (sent(request(f"v1/models/{name}:predict", b"{")), {400}),
        "deep JSON": (sent(request(f"v1/models/{name}:predict", nested)), {400}),
        "slow": (slow, {200}),
        "gone": (gone, {0}),
        "huge": (huge, {0, 413}),
    }


def chaos(port, bodies, count, name, *, bad=4, good=12, seed=0):
    """(answers of good clients as `steady` gives them, {misdeed: {status: how often}}, those with another answer).

    Args:
        count: requests of all clients together, the bad ones' share a quarter.
        name: of the model.
        bad, good: numbers of clients.
    """
    kinds, counts, wrong, lock = misdeeds(bodies[0], name), {}, [], threading.Lock()
    left = [count // 4]

    def misbehave(number):
        rng = random.Random(seed + number)
        while True:
            with lock:
                if not left[0]:
                    return
                left[0] -= 1
            name = rng.choice(list(kinds))
            deed, allowed = kinds[name]
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                    status, body = deed(connection)
            except ConnectionError:
                status, body = 0, b""
            with lock:
                answers = counts.setdefault(name, {})
                answers[status] = answers.get(status, 0) + 1
                if status not in allowed:
                    wrong.append((name, status, body[:200]))

    threads = [threading.Thread(target=misbehave, args=(number,)) for number in range(bad)]
    for thread in threads:
        thread.start()
    done = steady(port, bodies, good, count=count - count // 4)
    for thread in threads:
        thread.join()
    return done, counts, wrong


def top(body):
    """(index, probability) of the first class of an answer."""
    first = json.loads(body)[0]
    return first["index"], first["probability"]


def memory(process):
    """MB that a process takes, and the most that it has taken; Linux only."""
    with open(f"/proc/{process}/status", encoding="ascii") as file:
        lines = dict(line.split(":", 1) for line in file if line.startswith("Vm"))
    return int(lines["VmRSS"].split()[0]) / 1024, int(lines["VmHWM"].split()[0]) / 1024
