"""A search over a Ray cluster: shares of processors, refusals, and a cluster whose workers and driver are killed.

    KERASCNN_CHAOS=30,50 pytest tests/test_tuning_ray.py -m slow -s -n 0

runs it with 30 trials and 50 kills. Ray is too large to be among the test's packages; without it these tests skip.
"""

import collections
import json
import os
import pickle
import random
import signal
import socket
import subprocess
import sys
import time
import types

import keras_tuner
import pytest
from test_tuning_chaos import SPACE

import tuning
from kerascnn import clusters
from kerascnn.errors import UsageError
from tuning.chief import DEATHS
from tuning.searching import search as run_search
from tuning.workers import engines, on_ray

TRIALS, KILLS = map(int, os.environ.get("KERASCNN_CHAOS", "4,4").split(","))
SEARCH = {"trials": TRIALS, "epochs": 3, "stop_early": "none"}


@pytest.mark.parametrize(
    ("cpus", "count", "each"),
    [([8, 8], 2, 8), ([8, 8], 3, 4), ([8, 8], 4, 4), ([8, 2], 2, 4), ([1, 1], 2, 1), ([3], 2, 1), ([16, 0], 1, 16)],
)
def test_workers_get_as_many_processors_as_let_all_of_them_fit(cpus, count, each):
    assert clusters.share(cpus, count) == each


@pytest.mark.parametrize(("cpus", "count"), [([1, 1], 3), ([], 1), ([0], 1)])
def test_more_workers_than_processors_are_refused(cpus, count):
    with pytest.raises(UsageError, match=f"workers={count} is too many: the Ray cluster has {sum(cpus)} processor"):
        clusters.share(cpus, count)


def test_workers_on_one_machine_take_processors_that_differ(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    there = sorted(os.sched_getaffinity(0))
    with on_ray._cores(1) as first:
        assert first == there[:1]
        with on_ray._cores(1) as second:
            assert second == (there[1:2] or None)
    with on_ray._cores(len(there) + 1) as none:
        assert none is None


def test_a_worker_of_another_version_or_without_the_folder_says_so(tmp_path, monkeypatch):
    asked = tmp_path / "search.json"
    asked.write_text("{}")
    digest = clusters.digest(asked)
    refusal = on_ray._work("127.0.0.1:1", "", 0, 1, str(asked), digest, "0.0.1")
    assert "The search runs kerascnn 0.0.1, but the worker" in refusal
    monkeypatch.setattr(clusters, "SEEN_WITHIN", 0)
    for other in (tmp_path / "elsewhere" / "search.json", asked):
        asked.write_text("{ }")  # another search lies there
        refusal = on_ray._work("127.0.0.1:1", "", 0, 1, str(other), digest, on_ray.__version__)
        assert f"does not see the search's folder {other.parent}" in refusal


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"engine": "dask"}, "Unknown engine 'dask'"),
        ({"storage": "x"}, "storage='x' is not allowed with engine='local'"),
        ({"engine": "ray", "storage": "x", "out": "y"}, "storage='x' is not allowed with out"),
        ({"engine": "ray", "storage": "s3://bucket/x"}, "is a URL"),
    ],
)
def test_engines_and_storages_that_are_not_allowed(given, message):
    with pytest.raises(UsageError, match=message):
        run_search("digits", **given)


@pytest.mark.parametrize(
    ("listening", "here", "joined"),
    [
        ("0.0.0.0:7000", "10.0.0.5", "10.0.0.5:7000"),
        ("[::]:7000", "fd00::5", "[fd00::5]:7000"),
        ("10.0.0.6:7000", "10.0.0.5", "10.0.0.6:7000"),
    ],
)
def test_workers_elsewhere_join_an_address_of_this_machine(listening, here, joined, monkeypatch):
    monkeypatch.setattr(engines, "RayWorkers", lambda cluster, address, *rest: address)
    cluster = types.SimpleNamespace(host=here, cpus=[2, 2])
    assert engines.team(2, cluster, listening, "secret", "search", lambda line: None) == joined


@pytest.mark.parametrize("kind", ["RandomSearchOracle", "BayesianOptimizationOracle", "GridSearchOracle"])
def test_oracles_cannot_be_pickled_which_ray_tune_would_do(kind):
    oracle = getattr(keras_tuner.oracles, kind)(objective=keras_tuner.Objective("val_accuracy", "max"), max_trials=3)
    with pytest.raises((AttributeError, pickle.PicklingError), match="Can't pickle local object"):
        pickle.dumps(oracle)


def test_without_ray_the_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'kerascnn\[ray\]'"):
        clusters.RayCluster("auto")


@pytest.mark.parametrize("address", ["nowhere", "host:", "host:port"])
def test_an_address_that_is_none_is_refused(address):
    pytest.importorskip("ray")
    with pytest.raises(UsageError, match=r"Allowed: 'auto', 'local' and 'HOST:PORT'"):
        run_search("digits", engine="ray", address=address)


def test_where_no_cluster_answers_the_message_says_how_to_start_one(tmp_path):
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as sock:
        address = f"127.0.0.1:{sock.getsockname()[1]}"
    with pytest.raises(UsageError, match=f"No Ray cluster answers at {address}. Start one: ray start --head"):
        run_search("digits", engine="ray", address=address, out=tmp_path / "search")
    assert not (tmp_path / "search").exists()


@pytest.fixture
def cluster(monkeypatch):
    """Two nodes with one processor each, on this machine."""
    pytest.importorskip("ray")
    for name, value in {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}.items():
        monkeypatch.setenv(name, value)
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    started.add_node(num_cpus=1)
    yield started
    started.shutdown()


def descendants(of):
    """[(process number, arguments)] of all processes below one."""
    table = subprocess.run(["ps", "-wweo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in table.splitlines()[1:] if "defunct" not in line]
    family, processes = {of}, []
    while new := [(int(pid), args) for pid, parent, args in rows if int(parent) in family and int(pid) not in family]:
        processes += new
        family |= {pid for pid, _ in new}
    return processes


@pytest.mark.slow
def test_no_trial_is_lost_or_counted_twice_on_a_cluster_that_is_killed(cluster, tmp_path):
    """Workers, trials and the driver are killed; the same command, typed again, goes on.

    No trial's process is killed so often that the search gives it up, as it should: on a busy machine all kills
    come while the same two trials run.
    """
    (tmp_path / "space.toml").write_text(SPACE)
    out, rng = tmp_path / "search", random.Random(0)
    command = [sys.executable, "-m", "kerascnn", "tune", "--search", str(tmp_path / "space.toml"), "--winner", "none"]
    command += ["--engine", "ray", "--address", cluster.address, "--storage", str(out), "--lease", "4"]
    command += ["--trials", str(TRIALS), "--epochs", "3", "--stop-early", "none"]

    def start():
        with open(tmp_path / "driver.log", "ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    driver, kills, drivers = start(), {"worker": 0, "trial": 0, "driver": 0}, 1 + KILLS // 10
    killed = collections.Counter()  # {what a trial's process was called with: kills}
    deadline, next_kill = time.monotonic() + 60 * (TRIALS + KILLS) + 120, time.monotonic() + 10
    while (code := driver.poll()) != 0:
        assert time.monotonic() < deadline, (tmp_path / "driver.log").read_text()[-2000:]
        assert code in (None, -signal.SIGKILL), (tmp_path / "driver.log").read_text()[-2000:]
        if code is not None:
            driver = start()
        if time.monotonic() > next_kill and sum(kills.values()) < KILLS:
            below = descendants(os.getpid())
            victims = [("worker", pid) for pid, args in below if args.startswith("ray::_work")]
            trials = {pid: args for pid, args in below if "tuning.workers.trial" in args}
            victims += [("trial", pid) for pid, args in trials.items() if killed[args] < DEATHS - 1]
            if victims and kills["driver"] < drivers and sum(kills.values()) >= KILLS // 2:
                victims = [("driver", driver.pid)]
            if victims:
                kind, pid = rng.choice(victims)
                os.kill(pid, signal.SIGKILL)
                kills[kind] += 1
                killed[trials.get(pid)] += 1
                next_kill = time.monotonic() + rng.uniform(1, 6)
        time.sleep(0.2)
    print(f"killed: {kills}")
    assert kills["driver"] >= 1
    table, curves = tuning.results(out), tuning.curves(out)
    assert table["trial"].tolist() == list(range(TRIALS))
    assert table["status"].tolist() == ["completed"] * TRIALS, table["reason"].tolist()
    assert table["epochs"].tolist() == [3] * TRIALS
    assert not curves.duplicated(["trial", "epoch"]).any()
    for folder, score in zip(table["run"], table["score"], strict=True):
        assert curves[curves["trial"] == int(folder[-4:])]["value"].max() == score
        with open(f"{folder}/run.json") as file:
            assert json.load(file)["status"] == "finished"
    calm = tuning.search(search=tmp_path / "space.toml", out=tmp_path / "calm", winner="none", workers=2, **SEARCH)
    assert table["score"].tolist() == calm["score"].tolist()  # each worker had one processor, there and here
