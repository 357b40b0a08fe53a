"""Training over hosts: processes on loopback learn what one learns, a killed one is replaced, and errors say why."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import kerascnn
from kerascnn import backends, hosts
from kerascnn.errors import UsageError
from kerascnn.recipes import Recipe
from kerascnn.runs import Run
from kerascnn.training.prepare import device_count

ROOT = Path(__file__).parents[1]
RECIPE = ("--epochs", "2", "--batch-size", "64", "--validation", "149", "--optimizer", "sgd", "--learning-rate", "0.05")
RECIPE += ("--augment", "crop", "--dropout", "0.3", "--keep", "last")


def start(folder, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "kerascnn", *arguments],
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT), **environment},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def weights(folder):
    return kerascnn.load(folder).get_weights()


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_and_go_on_exactly_when_one_is_killed(tmp_path):
    pytest.importorskip("jax")
    two = ("launch", "--processes", "2", "train", "digits", *RECIPE, "--checkpoint-minutes", "0")
    whole, killed = start(tmp_path, *two, "--out", "two"), start(tmp_path, *two, "--out", "killed")
    _kill_a_child(killed, tmp_path / "killed")
    said = {"killed": killed.communicate(timeout=300), "two": whole.communicate(timeout=300)}
    assert (whole.returncode, killed.returncode) == (0, 0), said
    assert (
        "Process 1 was killed by SIGKILL. All start again from the last checkpoint, restart 1 of 3" in said["killed"][0]
    )
    assert "Going on with epoch" in said["killed"][0]
    assert (
        "2 devices of 2 hosts share each batch; left out of each pass: 0 train and 1 validation images"
        in said["two"][0]
    )
    assert said["two"][0].count("epoch 1/2") == 1
    assert said["two"][1] == ""
    one = start(tmp_path, "train", "digits", *RECIPE, "--out", "one")
    assert "Test accuracy" in one.communicate(timeout=300)[0]
    for alone, shared, again in zip(*map(weights, (tmp_path / n for n in ("one", "two", "killed"))), strict=True):
        np.testing.assert_allclose(alone, shared, atol=1e-6)
        np.testing.assert_array_equal(shared, again)
    assert (tmp_path / "two" / "metrics.csv").read_bytes() == (tmp_path / "killed" / "metrics.csv").read_bytes()
    assert Run(tmp_path / "two").read("run")["hosts"] == 2


def _kill_a_child(launched, folder):
    """Kill process 1 once there is a checkpoint within the first epoch."""
    while not list(folder.glob("checkpoint/state-00000-*.npz")):
        assert launched.poll() is None, launched.communicate()
        time.sleep(0.05)
    for child in Path(f"/proc/{launched.pid}/task/{launched.pid}/children").read_text().split():
        if b"JAX_PROCESS_ID=1\0" in Path(f"/proc/{child}/environ").read_bytes():
            os.kill(int(child), signal.SIGKILL)


def test_hosts_need_jax(tmp_path, call):
    for backend, reason in (("tensorflow", "keras#20585"), ("torch", "no data parallelism for PyTorch")):
        with pytest.raises(UsageError, match=f"hosts='auto' needs JAX, not {backend}: .*{reason}.*KERAS_BACKEND=jax"):
            hosts.check_hosts("auto", backend)
    if backends.backend() != "jax":
        with pytest.raises(UsageError, match="needs JAX"):
            kerascnn.train(Recipe(), out=tmp_path / "a", hosts="auto")
        code, _, err = call("train", "--hosts", "auto", "--out", "a")
        assert code == 2
        assert "--hosts 'auto' needs JAX" in err
    assert not (tmp_path / "a").exists()


def test_one_host_is_the_default():
    group = hosts.join(None)
    assert group == hosts.ALONE
    assert group.gather({"a": 1}) == [{"a": 1}]
    assert group.share(b"abc") == b"abc"
    assert not group.stopping(1)
    with pytest.raises(KeyError), group.agreeing():
        raise KeyError


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"hosts": "all"}, r"hosts='all' is not allowed. Allowed: auto"),
        ({"hosts": "auto", "devices": 2}, r"hosts='auto' and devices=2 cannot both be given: all devices"),
        ({"hosts": "auto", "minutes": 3}, r"minutes=3 cannot both be given: .*Give epochs or steps instead"),
        (
            {"hosts": "auto", "watch": ["patches"]},
            r"watch=\['patches'\] cannot both be given: looks compute on one host",
        ),
    ],
)
def test_what_hosts_cannot_have(given, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        kerascnn.train(Recipe(), out=tmp_path / "a", **given)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("number", "count"), [("2", "2"), ("-1", "2"), ("", "2"), ("0", "x")], ids=["too-large", "negative", "none", "text"]
)
def test_variables_that_name_no_host(number, count, monkeypatch):
    for name, value in zip(hosts.VARIABLES, ("node0:7001", count, number), strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"JAX_NUM_PROCESSES={count}, JAX_PROCESS_ID={number} do not name a host"):
        hosts._from_environment()


def test_variables_that_name_a_host(monkeypatch):
    for name in hosts.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert hosts._from_environment() == {}
    for name, value in zip(hosts.VARIABLES, ("node0:7001", "4", "3"), strict=True):
        monkeypatch.setenv(name, value)
    named = hosts._from_environment()
    assert (named["coordinator_address"], named["num_processes"], named["process_id"]) == ("node0:7001", 4, 3)


def test_hosts_that_differ_are_told_in_what():
    first = {"host": "node0", "values": {"learning_rate": 0.1, "seed": 0, "the number of train images": 10}}
    other = {"host": "node7", "values": {"learning_rate": 0.2, "seed": 0, "the number of train images": 9}}
    hosts._check_same(first, first, 1)
    message = r"Host 3 \(node7\) disagrees with Host 0 \(node0\): learning_rate is 0.2, not 0.1; the number of train "
    with pytest.raises(UsageError, match=message + "images is 9, not 10. Type the same command"):
        hosts._check_same(first, other, 3)


def test_a_run_of_two_hosts_does_not_go_on_alone(tmp_path):
    run = Run(tmp_path)
    run.write("run", {"hosts": 2, "data_parallel": 2})
    with pytest.raises(UsageError, match="was made on 2 hosts, so it cannot go on exactly on 1"):
        device_count(None, 64, run)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (("--processes", 0, "train"), "--processes 0 is not allowed: it must be 1 or more"),
        (("--processes", 2, "--restarts", -1, "train"), "--restarts -1 is not allowed: it must be 0 or more"),
        (("--processes", 2, "tune"), "launch starts train, not 'tune'"),
        (("--processes", 2), "launch starts train. Type for example: kerascnn launch --processes 2 train digits"),
        (("--processes", 3, "train", "--batch-size", "64"), "--batch-size 64 cannot be shared out evenly among 3 proc"),
        (("--processes", 2, "train", "--hosts", "auto"), "launch sets --hosts itself"),
        (("--processes", 2, "train", "digitz"), "digitz"),
        (("--processes", 2, "train", "--epoch", "3"), "--epoch"),
    ],
)
def test_what_launch_cannot_start(typed, message, call, tmp_path, monkeypatch):
    pytest.importorskip("jax")
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    code, out, err = call("launch", *typed)
    assert (code, out) == (2, "")
    assert message in err
    assert not (tmp_path / "saved_models").exists()


def test_launch_needs_jax(call, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    code, _, err = call("launch", "--processes", "2", "train")
    assert code == 2
    assert re.search(r"needs JAX, not torch: Keras has no data parallelism", err)
