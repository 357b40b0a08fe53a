"""The service: answers, the forms of other servers, units switched off, and whom it refuses."""

import asyncio
import base64
import collections
import dataclasses
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import types
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from PIL import Image
from service_clients import bomb, chaos, memory, misdeeds, steady, top
from starlette.responses import JSONResponse

import kerascnn
from kerascnn import cli, using
from kerascnn.pages import guard
from kerascnn.pages.live import Handlers, _is_small, service

pytest.importorskip("uvicorn")


PROCESSES = {}  # {port: the server that listens there}


@pytest.fixture(scope="module")
def address(trained):
    """The address of a server of the trained run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "kerascnn", "serve", trained.folder, "--port", str(port)]
    # One heap, and large blocks given back as soon as they are freed: what is left is what the server holds.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "131072"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, env=environment, **pipes)
    PROCESSES[port] = process
    said = process.stdout.readline()
    assert said.startswith("http://"), process.communicate()
    url = re.match(r"http://\S+", said)[0]
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            time.sleep(0.05)
    yield url
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=20)[1]
    assert (process.returncode, "interrupted" in said, "Traceback" in said) == (0, False, False)


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
    for one, batched in zip(alone, together, strict=True):
        assert one[0] == batched[0] == 200
        for row, other in zip(json.loads(one[1]), json.loads(batched[1]), strict=True):
            assert row["label"] == other["label"]
            assert row["probability"] == pytest.approx(other["probability"], abs=1e-5)


def test_the_page_needs_nothing_from_elsewhere(address):
    status, page = get(f"{address}/")
    assert status == 200
    assert "lenet5 on photos" in page
    assert re.findall(r"(?:src|href)=.https?:", page) == []


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


@pytest.fixture(scope="module")
def photo(trained):
    return (trained.folder.parent / "photos" / "tomato" / "5.png").read_bytes()


def posted(address, path, body):
    status, text = get(f"{address}/{path}", body if isinstance(body, bytes) else json.dumps(body).encode())
    return status, json.loads(text)


def test_the_forms_of_other_servers_give_the_same_probabilities(trained, address, photo):
    classifier = using.subject(trained)
    pixels = np.asarray(Image.open(io.BytesIO(photo)).resize((16, 16)))
    expected = classifier.model.predict(classifier.preprocessing(pixels[None]), verbose=0)
    name = "lenet5"
    status, answer = posted(address, f"v1/models/{name}:predict", {"instances": [pixels.tolist(), pixels.tolist()]})
    assert status == 200
    np.testing.assert_allclose(answer["predictions"], np.repeat(expected, 2, 0), atol=1e-5)
    given = {"name": "images", "shape": [1, 16, 16, 3], "datatype": "UINT8", "data": pixels.ravel().tolist()}
    status, answer = posted(address, f"v2/models/{name}/infer", {"inputs": [given]})
    assert status == 200
    assert answer["outputs"][0]["shape"] == [1, 3]
    np.testing.assert_allclose(answer["outputs"][0]["data"], expected[0], atol=1e-5)
    whole = posted(address, "predict?top=3", photo)[1]
    encoded = {"b64": base64.b64encode(photo).decode()}
    row = posted(address, f"v1/models/{name}:predict", {"instances": [encoded]})[1]["predictions"][0]
    assert row[whole[0]["index"]] == pytest.approx(whole[0]["probability"], abs=1e-5)
    for path in ("v2/health/live", "v2/health/ready", f"v2/models/{name}/ready", f"v1/models/{name}"):
        assert get(f"{address}/{path}")[0] == 200


def test_small_files_are_read_at_once_and_large_ones_by_another_thread(photo):
    assert _is_small(photo)
    assert _is_small(b"no image")
    assert not _is_small(bomb())
    assert not _is_small(bytes(2**17))
    for kind, side in (("jpeg", 250), ("jpeg", 260), ("png", 250), ("png", 260), ("webp", 260)):
        file = io.BytesIO()
        Image.new("L", (side, side)).save(file, kind)
        assert _is_small(file.getvalue()) == (side < 256)


TOO_LARGE = {"shape": [1, 1, 1, 3], "datatype": "UINT8", "data": [10**400, 0, 0]}


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("v1/models/lenet5:predict", b"{", "not JSON"),
        ("v1/models/lenet5:predict", [], "must be a JSON object"),
        ("v1/models/lenet5:predict", {"instances": []}, "at least one image"),
        ("v1/models/lenet5:predict", {"instances": [[[1]]]}, "of shape"),
        ("v1/models/lenet5:predict", {"instances": [[[[300, 0, 0]]]]}, "from 0 to 255"),
        ("v1/models/lenet5:predict", {"instances": [{"b64": "?"}]}, "b64"),
        ("v1/models/lenet5:predict", {"instances": [[[[10**400, 0, 0]]]]}, "from 0 to 255"),
        ("v2/models/lenet5/infer", {"inputs": []}, "one input"),
        ("v2/models/lenet5/infer", {"inputs": [TOO_LARGE]}, "from 0 to 255"),
        ("v2/models/lenet5/infer", {"inputs": [{"shape": [1], "datatype": "FP32", "data": [1]}]}, "UINT8 of"),
        ("maps?layer=nothing", None, "Unknown layer 'nothing'"),
        ("ablate?layer=c1&units=99", None, "has no unit 99: it has 6, 0 to 5"),
        ("ablate?layer=c1&units=x", None, "units=x is not allowed"),
        ("look?method=grad_can", None, "Did you mean"),
        ("maps?layer=c1&largest=nan", None, "largest=nan is not allowed: it must be a number above 0"),
        ("maps?layer=c1&largest=-1", None, "largest=-1 is not allowed"),
    ],
)
def test_what_is_not_allowed_is_said(address, photo, path, body, said):
    status, answer = posted(address, path, photo if body is None else body)
    assert status == 400
    assert said in answer["error"]


def test_switched_off_units_answer_like_a_network_whose_filters_are_zero(trained, address, photo):
    classifier = using.subject(trained)
    layer = next(each for each in json.loads(get(f"{address}/layers")[1]) if each["layer"] == "c3")
    answer = posted(address, "ablate?layer=c3&units=0,2,5", photo)[1]
    c3 = classifier.model.get_layer("c3")
    weights = [weight.copy() for weight in c3.get_weights()]
    for weight in weights:
        weight[..., [0, 2, 5]] = 0  # the activation behind it is 0 at 0
    changed = keras.models.clone_model(classifier.model)
    changed.set_weights(classifier.model.get_weights())
    changed.get_layer("c3").set_weights(weights)
    pixels = np.asarray(Image.open(io.BytesIO(photo)).resize((16, 16)))
    expected = changed.predict(classifier.preprocessing(np.array([kept(photo, classifier)])), verbose=0)[0]
    assert layer["channels"] == 16
    assert pixels.shape == (16, 16, 3)
    for row in answer["after"]:
        assert row["probability"] == pytest.approx(float(expected[row["index"]]), abs=1e-5)
    assert answer["before"][0]["label"] == "tomato"
    assert answer["before"] != answer["after"]


def kept(content, classifier):
    from kerascnn.datasets.decoding import read_image

    prepared = classifier.preprocessing
    return np.asarray(read_image(io.BytesIO(content), prepared.resize_to, prepared.channels))


def test_maps_and_looks_are_pictures(address, photo):
    answer = posted(address, "maps?layer=c1", photo)[1]
    assert (answer["count"], answer["channels"]) == (6, 6)
    assert answer["sheet"].startswith("data:image/png;base64,")
    look = posted(address, "look?method=saliency", photo)[1]
    drawn = Image.open(io.BytesIO(base64.b64decode(look["map"].partition(",")[2])))
    assert (drawn.mode, drawn.size) == ("RGBA", (16, 16))


def port_of(address):
    return int(address.rpartition(":")[2])


def test_each_misdeed_gets_its_answer(address, photo):
    for name, (deed, allowed) in misdeeds(photo, "lenet5").items():
        if name == "huge":
            continue  # in the slow test
        with socket.create_connection(("127.0.0.1", port_of(address)), timeout=60) as connection:
            status, body = deed(connection)
        assert status in allowed, (name, status, body)
    assert get(f"{address}/labels")[0] == 200


@pytest.mark.slow
def test_1200_requests_of_good_and_bad_clients_are_answered_and_memory_stays(trained, address):
    paths = sorted((trained.folder.parent / "photos").rglob("*.png"))[:12]
    bodies, port = [path.read_bytes() for path in paths], port_of(address)
    expected = kerascnn.predict(trained, paths, top=1)["probability"].tolist()
    alone = [top(steady(port, [body], 1, count=1)[0][3]) for body in bodies]
    assert [probability for _, probability in alone] == pytest.approx(expected, abs=1e-5)
    process, answers, misdone, after = PROCESSES[port], [], set(), []
    for number in range(6):
        done, counts, wrong = chaos(port, bodies, 200, "lenet5", seed=10 * number)
        assert wrong == []
        assert (len(done), sum(sum(each.values()) for each in counts.values())) == (150, 50)
        answers, misdone = answers + done, misdone | set(counts)
        if os.path.exists("/proc/self/status"):
            after.append(memory(process.pid)[0])
    assert misdone == set(misdeeds(bodies[0], "lenet5"))
    for _, number, status, body in answers:
        assert status == 200
        index, probability = top(body)
        assert index == alone[number][0]
        assert probability == pytest.approx(alone[number][1], abs=1e-5)
    assert process.poll() is None
    if after:  # a single reading depends on what the allocator has given back, a leak raises all that follow
        assert min(after[3:]) < max(after[:3]) + 40, after


def test_names_and_pages_from_elsewhere_are_refused(address):
    def asked(**headers):
        try:
            with urllib.request.urlopen(urllib.request.Request(f"{address}/labels", headers=headers), timeout=30) as r:
                return r.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    assert asked() == 200
    assert asked(Host="evil.example") == 421
    assert asked(Origin="https://evil.example") == 403
    assert asked(Origin=address) == 200
    assert asked(Origin=address.rpartition(":")[0] + ":1") == 403


@pytest.mark.parametrize(
    ("origin", "code"),
    [("http://192.168.1.5:8000", 200), ("http://192.168.1.5:9000", 403), ("http://evil.example", 403)],
)
def test_the_page_may_ask_from_an_address_that_is_no_name_of_this_machine(origin, code):
    """Such as its address in the local network, which need not be among what its name stands for."""

    async def application(scope, receive, send):
        await JSONResponse({})(scope, receive, send)

    guarded = guard.Guard(application, hosts=("127.0.1.1",), token=None)
    headers = [(b"host", b"192.168.1.5:8000"), (b"origin", origin.encode())]
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
    asyncio.run(guarded({**scope, "server": ("192.168.1.5", 8000)}, None, send))
    assert sent[0]["status"] == code


def test_services_on_two_ports_have_cookies_of_their_own():
    guarded = guard.Guard(None, hosts=(), token="secret-one")
    for port, cookie, brings in ((8000, "8000", True), (8001, "8000", False)):
        headers = {"cookie": f"kerascnn-token-{cookie}=secret-one"}
        assert guarded._brings_token({"query_string": b"", "server": ("::1", port)}, headers) == brings


def test_what_was_not_foreseen_is_an_answer_that_the_page_can_read():
    counted = types.SimpleNamespace(counts=collections.Counter(), seconds=collections.Counter())

    async def fails(request):
        return 1 / 0

    request = types.SimpleNamespace(scope={"path": "/predict"})
    response = asyncio.run(Handlers.told(counted, fails)(request))
    assert (response.status_code, counted.counts["/predict", 500]) == (500, 1)
    assert json.loads(response.body) == {"error": "The network could not answer: ZeroDivisionError."}


async def asked_of(application, path):
    """(status, body) of a GET request, without a server."""
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        await asyncio.Event().wait()  # the client stays, and sends nothing more

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [(b"host", b"127.0.0.1")]}
    await application({**scope, "root_path": "", "http_version": "1.1"}, receive, send)
    return sent[0]["status"], b"".join(each.get("body", b"") for each in sent[1:]).decode()


def test_the_microscope_of_this_network_is_served_and_that_of_another_is_not(trained, tmp_path):
    classifier = dataclasses.replace(using.subject(trained), folder=tmp_path)
    images = np.random.default_rng(0).random((6, 16, 16, 3), "float32")
    small = {"layers": "c1", "top": 2, "maps": 0, "looks": 0, "out": tmp_path / "microscope"}
    kerascnn.microscope(classifier.model, images, **small)
    application = service(classifier)
    assert 'opened = {"c1": "c1"}' in asyncio.run(asked_of(application, "/"))[1]
    assert asyncio.run(asked_of(application, "/microscope/units/c1/0005.html"))[0] == 200
    status, body = asyncio.run(asked_of(application, "/microscope/units/c1/0006.html"))
    assert (status, "There is no such page" in body) == (404, True)
    shutil.rmtree(tmp_path / "microscope")
    other = keras.models.clone_model(classifier.model)
    kerascnn.microscope(other, images, **small)
    application = service(classifier)
    assert "opened = null" in asyncio.run(asked_of(application, "/"))[1]
    assert asyncio.run(asked_of(application, "/microscope/units/c1/0005.html"))[0] == 404


def test_requests_are_counted(address, photo):
    before = get(f"{address}/metrics")[1]
    posted(address, "predict", photo)
    after = get(f"{address}/metrics")[1]
    count = r'kerascnn_requests_total{path="/predict",status="200"} (\d+)'
    assert int(re.search(count, after)[1]) == int((re.search(count, before) or ["", "0"])[1]) + 1


def test_a_token_opens_the_service():
    from kerascnn.pages.guard import Guard

    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"in"})

    def status(query=b"", **headers):
        sent = []

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "query_string": query, "method": "GET", "path": "/"}
        scope["headers"] = [(b"host", b"here.example:80")] + [(k.encode(), v.encode()) for k, v in headers.items()]
        asyncio.run(Guard(application, ["here.example"], "secret-token")(scope, None, send))
        return sent[0]["status"], dict(sent[0]["headers"])

    assert status()[0] == 401
    assert status(authorization="Bearer wrong")[0] == 401
    assert status(authorization="Bearer secret-token")[0] == 200
    opened, headers = status(b"token=secret-token")
    assert opened == 200
    cookie = headers[b"set-cookie"].decode()
    assert "HttpOnly" in cookie
    assert status(cookie=cookie.partition(";")[0])[0] == 200
