"""The service that lends trials, the workers that run them, and a trial in its own process."""

import asyncio
import contextlib
import os
import socket
import threading
import time
import urllib.request

import pytest
import uvicorn

from kerascnn import Recipe, runs
from kerascnn.errors import DataError, UsageError
from tuning.chief import Chief
from tuning.store import Store
from tuning.workers import trial
from tuning.workers.local import LocalWorkers
from tuning.workers.service import service
from tuning.workers.worker import ChiefGone, Line, work


def test_local_workers_share_the_cores_and_are_given_up_where_they_cannot_begin(monkeypatch):
    monkeypatch.setattr("tuning.workers.local.BRIEF", 600)  # however long a busy machine takes to start them
    workers = LocalWorkers("nowhere", "", 2)
    workers.tend()
    cores = [
        set(process.args[process.args.index("--cores") + 1].split(",")) for process, _ in workers._running.values()
    ]
    there = set(map(str, os.sched_getaffinity(0)))
    assert cores[0] | cores[1] == there
    assert len(there) < 2 or not cores[0] & cores[1]
    with pytest.raises(RuntimeError, match="end as soon as they are started"):
        while True:
            workers.tend()
            time.sleep(0.1)
    workers.stop()
    assert workers.gone()


@contextlib.contextmanager
def served(folder, token="", elsewhere=None, host="127.0.0.1"):
    """The address of a chief with its journal in a folder; it answers on a thread and names the folder `elsewhere`."""
    settings = {"tuner": "random", "objective": "val_accuracy", "trials": 2, "epochs": 2, "seed": 0}
    settings |= {"stop_early": "none", "max_failures": 3, "seconds": None, "fixed": {}}
    ready, running = threading.Event(), {}

    async def serve(server, sock):
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        ready.set()
        await serving

    def run():
        chief = Chief(Store(folder), lambda hp: Recipe(learning_rate=hp.Float("learning_rate", 0.1, 0.2)), settings)
        application = service(chief, elsewhere or folder, host=host, token=token)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.create_server((host, 0), family=family)
        running["server"] = uvicorn.Server(uvicorn.Config(application, log_level="error", lifespan="off"))
        running["address"] = f"{f'[{host}]' if ':' in host else host}:{sock.getsockname()[1]}"
        asyncio.run(serve(running["server"], sock))
        sock.close()
        chief.close()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait(60)
    try:
        yield running["address"]
    finally:
        running["server"].should_exit = True
        thread.join()


def test_a_chief_answers_only_those_who_may_ask(tmp_path):
    with served(tmp_path, token="secret") as address:
        job = Line(address, "secret").post("ask", worker="a")
        assert (job["do"], job["trial"], job["lease"]) == ("trial", 0, 1)
        assert job["folder"] == str(tmp_path / "trials" / "0000")
        for token in ("", "secre", "wrong"):
            with pytest.raises(UsageError, match="the token is wrong"):
                Line(address, token).post("ask", worker="b")
        other = Line(address, "secret")
        other.headers["X-Kerascnn-Version"] = "0.0.1"
        with pytest.raises(UsageError, match=r"this worker is 0\.0\.1"):
            other.post("ask", worker="b")
        stranger = Line(address, "secret")
        stranger.headers["Host"] = "evil.example"  # as a page in a browser would, whose name was made to point here
        with pytest.raises(UsageError, match="Invalid host header"):
            stranger.post("ask", worker="b")
        with pytest.raises(UsageError, match="KeyError"):
            Line(address, "secret").post("ask")
        assert Line(address, "secret").post("beat", trial=0, lease=1) == {"answer": "go"}
        assert Line(address, "secret").post("beat", trial=99, lease=1) == {"answer": "lost"}


def test_a_worker_refuses_a_search_whose_folder_it_does_not_see_and_gives_the_trial_back(tmp_path):
    with served(tmp_path, elsewhere=tmp_path / "elsewhere") as address:
        with pytest.raises(UsageError, match="elsewhere is not on this machine"):
            work(address, say=lambda line: None)
        assert Line(address).post("ask", worker="other")["trial"] == 0


@pytest.mark.parametrize("address", ["foo", "foo:", ":7000", "foo:port", "http://foo:7000"])
def test_an_address_that_is_none(address):
    with pytest.raises(UsageError, match="is not HOST:PORT"):
        work(address)


def test_a_worker_without_a_chief_gives_up():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        address = f"127.0.0.1:{sock.getsockname()[1]}"
    with pytest.raises(ChiefGone, match="No chief answers"):
        work(address, patience=0.5)


def test_a_trial_that_goes_on_with_another_is_not_finished_by_its_beginning(tmp_path):
    """It is killed (here: its data are gone) after its folder was copied and before its own training began."""
    parent = runs.create(tmp_path / "trials" / "0000", model="lenet5", data="digits")
    recipe = Recipe(data=str(tmp_path / "gone"))
    parent.write("recipe", recipe.to_dict())
    parent.update(status="finished")
    job = {"folder": str(tmp_path / "trials" / "0001"), "parent": str(parent.folder), "hypermodel": None}
    with pytest.raises((UsageError, DataError)):
        trial.run({**job, "recipe": recipe.to_dict()}, None, print)
    assert runs.Run(tmp_path / "trials" / "0001").status != "finished"


def test_cores_that_are_not_there_are_told_by_the_worker():
    with pytest.raises(UsageError, match="cores=4096 are not all there"):
        work("127.0.0.1:1", cores=[4096])


def test_a_request_that_is_not_json_is_refused(tmp_path):
    with served(tmp_path) as address:
        request = urllib.request.Request(f"http://{address}/ask", b"hello", Line(address).headers)
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(request)
        assert os.listdir(tmp_path) == ["search.sqlite"]


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_a_chief_on_the_loopback_of_ipv6_answers(tmp_path):
    with served(tmp_path, host="::1") as address:
        assert Line(address).post("ask", worker="a")["do"] == "trial"


def test_what_speaks_no_http_is_no_chief():
    with socket.create_server(("127.0.0.1", 0)) as sock:

        def answer():
            with contextlib.suppress(OSError):
                while True:
                    with sock.accept()[0] as connection:
                        connection.sendall(b"SSH-2.0-OpenSSH\r\n")

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(ChiefGone, match="No chief answers"):
            Line(f"127.0.0.1:{sock.getsockname()[1]}", patience=0).post("ask", worker="a")
