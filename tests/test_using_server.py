import io
import json
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

import kerascnn
from kerascnn import cli

pytest.importorskip("uvicorn")


@pytest.fixture(scope="module")
def address(trained):
    """The address of a server of the trained run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "kerascnn", "serve", trained.folder, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said = process.stdout.readline()
    assert said.startswith("http://"), process.communicate()
    found = re.match(r"http://\S+", said)[0]
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            time.sleep(0.05)
    yield found
    process.terminate()
    process.communicate(timeout=20)


def get(address, body=None):
    try:
        with urllib.request.urlopen(urllib.request.Request(address, data=body), timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_service_answers_like_predict(trained, address):
    path = trained.folder.parent / "photos" / "grass" / "3.png"
    status, text = get(f"{address}/predict?top=2", path.read_bytes())
    assert status == 200
    expected = kerascnn.predict(trained, path, top=2).drop(columns="image").to_dict("records")
    answered = json.loads(text)
    assert [row["label"] for row in answered] == [row["label"] for row in expected]
    assert answered[0]["probability"] == pytest.approx(expected[0]["probability"], abs=1e-5)
    assert json.loads(get(f"{address}/labels")[1]) == ["blue sky", "grass", "tomato"]


def test_requests_at_once_are_answered_like_one_alone(trained, address):
    paths = sorted((trained.folder.parent / "photos").rglob("*.png"))[:12]
    alone = [get(f"{address}/predict", path.read_bytes()) for path in paths]
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda path: get(f"{address}/predict", path.read_bytes()), paths))
    assert together == alone


def test_the_page_needs_nothing_from_elsewhere(address):
    status, page = get(f"{address}/")
    assert status == 200
    assert "lenet5 on photos" in page
    assert re.findall(r"https?://", page) == []


def test_what_is_no_image_is_answered_and_the_server_goes_on(address):
    status, text = get(f"{address}/predict", b"no image")
    assert (status, list(json.loads(text))) == (400, ["error"])
    jpeg = io.BytesIO()
    Image.new("RGB", (64, 64)).save(jpeg, "JPEG", progressive=True)
    start, end = jpeg.getvalue().rindex(b"\xff\xda"), jpeg.getvalue().rindex(b"\xff\xd9")
    status, text = get(f"{address}/predict", jpeg.getvalue()[:end] + jpeg.getvalue()[start:end] * 3000)
    assert (status, "more than 100 scans" in json.loads(text)["error"]) == (400, True)
    assert get(f"{address}/predict?top=0", b"x")[0] == 400
    assert get(f"{address}/predict?top={'9' * 5000}", b"x")[0] == 400
    assert get(f"{address}/labels")[0] == 200


def test_a_port_that_is_taken(capfd, trained):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.run_command(["serve", str(trained.folder), "--port", str(port)]) == 2
    printed = capfd.readouterr()
    assert f"cannot listen at --host 127.0.0.1 --port {port}" in printed.err
    assert "Ctrl-C" not in printed.out


def test_a_port_that_cannot_be(capfd, trained):
    assert cli.run_command(["serve", str(trained.folder), "--port", "70000"]) == 2
    assert "--port 70000 is not allowed" in capfd.readouterr().err
