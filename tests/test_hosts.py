"""Training over hosts: processes on loopback learn what one learns, a killed one is replaced, and errors say why."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import kerascnn
from kerascnn import backends, hosts, launching
from kerascnn.errors import Stopped, TrainingFailed, UsageError
from kerascnn.recipes import Recipe
from kerascnn.runs import Run
from kerascnn.training import train as training
from kerascnn.training.prepare import device_count

ROOT = Path(__file__).parents[1]
# Eight steps, on one process or on all of a group.
TRAIN = """
import sys
import kerascnn
from kerascnn import hosts as together
from kerascnn.recipes import RECIPES

together.SILENCE = 60  # seconds: the machine may be busy
recipe = RECIPES.get("digits")().replace(steps=8, batch_size=184, validation=149, optimizer="sgd", learning_rate=1e-3)
hosts = sys.argv[2] if len(sys.argv) > 2 else None
kerascnn.train(recipe, out=sys.argv[1], hosts=hosts, dropout=0.3, keep="last", say=lambda line: None)
"""
RECIPE = ("--epochs", "2", "--batch-size", "64", "--validation", "149", "--optimizer", "sgd", "--learning-rate", "0.05")
RECIPE += ("--augment", "crop", "--dropout", "0.3", "--keep", "last", "--checkpoint-minutes", "0")
# What two hosts tell each other; the second one then differs, and then fails.
TALK = """
from kerascnn import hosts
from kerascnn.errors import DataError, UsageError

hosts.SILENCE = 60  # seconds: the machine may be busy
group = hosts.join("auto")
print(group.gather("ab" * group.rank), group.share(b"from %d" % group.rank), group.share(b""))
with group.agreeing() as values:
    values["seed"] = 7
for tried in ("differs", "fails"):
    try:
        with group.agreeing() as values:
            values["seed"] = 7 + group.rank
            if tried == "fails" and group.rank:
                raise DataError("There is no folder photos.")
    except (UsageError, DataError) as error:
        print(type(error).__name__, error)
group.leave()
"""


# Two processes that would sleep for a minute, and write down their numbers.
ASLEEP = """
import signal
import sys
from kerascnn import launching

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which may be ignored, under nohup
launching.python_module = lambda name: ["sh", "-c", "echo $$ >> pids; exec sleep 60"]
sys.exit(launching.Launch([], 2, 0, print).run())
"""


def start(folder, *command, **environment):
    return subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT), **environment},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_two(folder, *command):
    """Two processes as two hosts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    common = {"JAX_COORDINATOR_ADDRESS": address, "JAX_COORDINATOR_BIND_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    return [start(folder, *command, **common, JAX_PROCESS_ID=str(number)) for number in range(2)]


def weights(folder):
    return kerascnn.load(folder).get_weights()


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path):
    pytest.importorskip("jax")
    processes = [*start_two(tmp_path, "-c", TRAIN, "two", "auto"), start(tmp_path, "-c", TRAIN, "one")]
    said = [process.communicate(timeout=600) for process in processes]
    assert [process.returncode for process in processes] == [0] * 3, said
    assert [out for out, _ in said] == [""] * 3
    for alone, shared in zip(weights(tmp_path / "one"), weights(tmp_path / "two"), strict=True):
        np.testing.assert_allclose(shared, alone, atol=1e-6)


@pytest.mark.slow
def test_a_killed_process_is_replaced_and_the_training_ends_as_without_the_kill(tmp_path):
    pytest.importorskip("jax")
    launched = ("-m", "kerascnn", "launch", "--processes", "2", "train", "digits", *RECIPE, "--out")
    killed, whole = start(tmp_path, *launched, "killed"), start(tmp_path, *launched, "whole")
    _kill_a_child(killed, tmp_path / "killed")
    said = [process.communicate(timeout=600) for process in (killed, whole)]
    assert [process.returncode for process in (killed, whole)] == [0, 0], said
    told, warned = said[0]
    assert "Process 1 was killed by SIGKILL. All resume from the last checkpoint, restart 1 of 3" in warned
    assert "2 devices of 2 hosts share each batch; left out of each pass: 0 train and 1 validation images" in told
    assert re.search("Resuming at epoch .*epoch 2/2 .*Test accuracy", told, re.DOTALL)
    for again, alone in zip(weights(tmp_path / "killed"), weights(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(again, alone)
    assert (tmp_path / "whole" / "metrics.csv").read_bytes() == (tmp_path / "killed" / "metrics.csv").read_bytes()
    assert Run(tmp_path / "whole").read("run")["hosts"] == 2
    shutil.rmtree(tmp_path / "whole" / "export")  # as if the job had ended before it was written
    again = start(tmp_path, *launched, "whole")
    told, _ = again.communicate(timeout=600)
    assert (again.returncode, "whole has finished already" in told, "Resuming" in told) == (0, True, False), told
    assert (tmp_path / "whole" / "export" / "saved_model").is_dir()


@pytest.mark.slow
def test_what_two_processes_tell_each_other(tmp_path):
    pytest.importorskip("jax")
    for number, process in enumerate(start_two(tmp_path, "-c", TALK)):
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        told, differs, fails = out.splitlines()
        assert told == "['', 'ab'] b'from 0' b''"
        assert re.fullmatch(
            r"UsageError Host 1 \(.*\) disagrees with Host 0 \(.*\): seed is 8, not 7\. Type .*", differs
        )
        named = (
            r"DataError There is no folder photos\." if number else r"DataError Host 1 \(.*\): There is no folder .*"
        )
        assert re.fullmatch(named, fails)


def _kill_a_child(launched, folder):
    """Kill process 1 once there is a checkpoint."""
    while not list(folder.glob("checkpoint/state-*.npz")):
        assert launched.poll() is None, launched.communicate()
        time.sleep(0.05)
    killed = 0
    for child in Path(f"/proc/{launched.pid}/task/{launched.pid}/children").read_text().split():
        if b"JAX_PROCESS_ID=1\0" in Path(f"/proc/{child}/environ").read_bytes():
            os.kill(int(child), signal.SIGKILL)
            killed += 1
    assert killed


def test_hosts_need_jax(tmp_path, call, monkeypatch):
    for backend, reason in (("tensorflow", "keras#20585"), ("torch", "no data parallelism for PyTorch")):
        with pytest.raises(UsageError, match=f"hosts='auto' needs JAX, not {backend}: .*{reason}.*KERAS_BACKEND=jax"):
            hosts.check_hosts("auto", backend)
    with pytest.raises(UsageError, match=r"hosts='auto' needs JAX, not openvino\. Install"):
        hosts.check_hosts("auto", "openvino")
    if backends.backend() != "jax":
        with pytest.raises(UsageError, match="needs JAX"):
            kerascnn.train(Recipe(), out=tmp_path / "a", hosts="auto")
        code, _, err = call("train", "--hosts", "auto", "--out", "a")
        assert code == 2
        assert "--hosts 'auto' needs JAX" in err
    assert not (tmp_path / "a").exists()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"hosts='auto' needs JAX, which is not installed.*kerascnn\[jax\]"):
        hosts.check_hosts("auto", "jax")


@pytest.mark.parametrize("third", [[], ["sleep", "1"]], ids=["both are gone", "a third one still runs"])
def test_a_process_that_was_killed_is_named_before_one_that_lost_it(third, monkeypatch):
    """Both have ended when they are first looked at."""
    lines = "if [ $JAX_PROCESS_ID = 0 ]; then exit 75; fi; kill -9 $$"
    start, said = launching.Launch._start, []

    def started(self, folder):
        start(self, folder)
        for process in self._running:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        self._running += [subprocess.Popen(third, start_new_session=True)] if third else []

    monkeypatch.setattr(launching, "python_module", lambda name: ["sh", "-c", lines])
    monkeypatch.setattr(launching.Launch, "_start", started)
    assert launching.Launch([], 2, 0, said.append).run() == 1
    assert said == ["Process 1 was killed by SIGKILL after 0 restarts. Type the same command to resume"]


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


@pytest.mark.parametrize("address", ["node0", "node0:", ":7001"])
def test_an_address_needs_host_and_port(address, monkeypatch):
    for name, value in zip(hosts.VARIABLES, (address, "2", "0"), strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"JAX_COORDINATOR_ADDRESS={address}, .* Needed: HOST:PORT of the first"):
        hosts._from_environment()


def test_variables_that_name_a_host(monkeypatch):
    for name in hosts.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert hosts._from_environment() == {}
    for name, value in zip(hosts.VARIABLES, ("node0:7001", "4", "3"), strict=True):
        monkeypatch.setenv(name, value)
    named = hosts._from_environment()
    assert (named["coordinator_address"], named["num_processes"], named["process_id"]) == ("node0:7001", 4, 3)


def test_hosts_part_in_any_thread(monkeypatch):
    jax = types.SimpleNamespace(distributed=types.SimpleNamespace(shutdown=lambda: None))
    monkeypatch.setitem(sys.modules, "jax", jax)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(hosts.Hosts(0, 2).leave).result()


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
    with pytest.raises(UsageError, match="was made on 2 hosts, so it cannot resume exactly on 1"):
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


def scripted(monkeypatch, script):
    """From here on `Launch` starts a shell script in place of kerascnn."""
    monkeypatch.setattr(launching, "python_module", lambda name: ["sh", "-c", script])


def test_a_signal_ends_also_processes_that_are_started_after_it(monkeypatch):
    @contextlib.contextmanager
    def signalled(number, count):
        if number == 1:
            signal.raise_signal(signal.SIGTERM)
        yield

    scripted(monkeypatch, "exec sleep 60")
    monkeypatch.setattr(launching, "_share_of_cores", signalled)
    began = time.monotonic()
    assert launching.Launch([], 2, 0, print).run() == 128 + signal.SIGTERM
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_no_process_stays_when_the_terminal_is_closed_or_launch_killed(number, tmp_path):
    if number == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("only Linux tells processes that another is gone")
    launched = start(tmp_path, "-c", ASLEEP)
    deadline = time.monotonic() + 60
    while not (tmp_path / "pids").exists() or len(pids := (tmp_path / "pids").read_text().split()) < 2:
        assert time.monotonic() < deadline, launched.poll()
        time.sleep(0.05)
    launched.send_signal(number)
    launched.communicate(timeout=30)  # until nobody holds its output any more
    assert launched.returncode == (-number if number == signal.SIGKILL else 128 + number)
    while remaining := [pid for pid in pids if _runs(pid)]:
        assert time.monotonic() < deadline, remaining
        time.sleep(0.05)


def _runs(pid):
    """True if a process is there and no zombie, as one stays whose new parent does not ask how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_first_process_may_keep_its_weights_after_an_error_of_all(monkeypatch, tmp_path):
    monkeypatch.setattr(launching, "GRACE", 0.1)
    kept = tmp_path / "kept"
    scripted(monkeypatch, f"if [ $JAX_PROCESS_ID = 0 ]; then sleep 1; touch {kept}; fi; exit 1")
    assert launching.Launch([], 2, 0, print).run() == 1
    assert kept.exists()


def test_a_new_run_that_launch_gave_up_says_where_it_goes_on(monkeypatch, call, capfd):
    pytest.importorskip("jax")
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    scripted(monkeypatch, "kill -9 $$")
    with pytest.raises(SystemExit, match="1"):
        call("launch", "--processes", "2", "--restarts", "0", "train", "--batch-size", "64")
    told = r"by SIGKILL after 0 restarts\. Type the same command with --out saved_models/\S+ to resume"
    out, err = capfd.readouterr()
    assert re.search(told, err)
    assert out == ""  # which belongs to what the first process says, such as JSON


def test_hosts_that_were_stopped_say_how_they_go_on():
    told = str(Stopped(signal.SIGTERM, "runs/a", 0, 3, hosts=2))
    assert told.endswith("Resume with the same command on all hosts; if it named no folder, add --out runs/a")
    assert str(Stopped(signal.SIGTERM, None, 0, 3, hosts=2)).endswith("Resume with the same command on all hosts.")


def test_a_host_that_is_not_the_first_says_that_the_loss_diverged(monkeypatch):
    def diverge(*arguments, test):
        raise RuntimeError("NaN or Inf loss")

    monkeypatch.setattr(training, "_fit", diverge)
    batches = types.SimpleNamespace(epoch=1, multiple=2)
    with pytest.raises(
        TrainingFailed, match=r"The loss became NaN or infinite in epoch 2; .* the first host says what is kept"
    ):
        training._follow(hosts.Hosts(1, 2), Recipe(), "float32", (None, batches, None, None, 2), test=True)


def test_launch_needs_jax(call, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    code, _, err = call("launch", "--processes", "2", "train")
    assert code == 2
    assert re.search(r"needs JAX, not torch: Keras has no data parallelism", err)
