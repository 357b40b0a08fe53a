"""A search whose chief and workers are killed again and again: every trial is completed once, and all processes end.

    KERASCNN_CHAOS=30,50 pytest tests/test_tuning_chaos.py -m slow -s -n 0

runs it with 30 trials and 50 kills.
"""

import json
import os
import random
import socket
import subprocess
import sys
import time

import pytest

import tuning

TRIALS, KILLS = map(int, os.environ.get("KERASCNN_CHAOS", "3,4").split(","))
SEARCH = {"trials": TRIALS, "epochs": 3, "stop_early": "none"}
SPACE = """
model = "lenet5"
data = "digits"
batch_size = 256
precision = "float32"

[search.learning_rate]
low = 1e-4
high = 1e-1
log = true
"""


class Processes:
    """The chief and three workers; each is started again when it is gone, until the search has ended."""

    def __init__(self, folder):
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as sock:
            self.address = f"127.0.0.1:{sock.getsockname()[1]}"
        (folder / "space.toml").write_text(SPACE)
        self.out = folder / "search"
        self.running = {}
        for name in ("chief", "worker1", "worker2", "worker3"):
            self.start(name)

    def start(self, name):
        command = [sys.executable, "-m", "kerascnn"]
        if name == "chief":
            command += ["tune", "--search", str(self.folder / "space.toml"), "--out", str(self.out)]
            command += ["--workers", "0", "--listen", self.address, "--lease", "4", "--winner", "none"]
            for option, value in SEARCH.items():
                command += ["--" + option.replace("_", "-"), str(value)]
            command += ["--resume"] if (self.out / "search.json").exists() else []
        else:
            command += ["tune-worker", "--join", self.address, "--name", name, "--patience", "20"]
        with open(self.folder / f"{name}.log", "ab") as log:
            self.running[name] = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self, name):
        self.running[name].kill()
        self.running[name].wait()

    def look(self):
        """Start again what was killed or failed; True once the chief has ended well."""
        for name, process in list(self.running.items()):
            if process.poll() is not None and process.returncode != 0:
                self.start(name)
        return self.running["chief"].returncode == 0


def alive(*words):
    """Processes that still run with one of these words among their arguments."""
    processes = subprocess.run(["ps", "-wweo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in processes.splitlines() if any(map(line.__contains__, words)) and "defunct" not in line]


@pytest.mark.slow
def test_no_trial_is_lost_or_counted_twice(tmp_path):
    rng = random.Random(0)
    processes = Processes(tmp_path)
    kills, deadline = 0, time.monotonic() + 120 * (TRIALS + KILLS)
    next_kill = time.monotonic() + 10
    while not processes.look():
        assert time.monotonic() < deadline, (tmp_path / "chief.log").read_text()[-2000:]
        if kills < KILLS and time.monotonic() > next_kill:
            processes.kill(rng.choice(sorted(processes.running)))
            kills += 1
            next_kill = time.monotonic() + rng.uniform(1, 5)
        time.sleep(0.1)
    ended = time.monotonic()
    belonging = processes.address, str(processes.out)  # of workers; of the chief and of trials
    while alive(*belonging) and time.monotonic() - ended < 300:
        for process in processes.running.values():
            process.poll()
        time.sleep(0.2)
    print(f"{kills} kills; all processes gone {time.monotonic() - ended:.1f} s after the chief")
    assert alive(*belonging) == []
    assert kills >= KILLS // 2
    table = tuning.results(processes.out)
    assert table["trial"].tolist() == list(range(TRIALS))
    assert table["reason"].tolist() == [""] * TRIALS
    assert table["status"].tolist() == ["completed"] * TRIALS
    assert table["epochs"].tolist() == [3] * TRIALS
    calm = tuning.search(search=tmp_path / "space.toml", out=tmp_path / "calm", winner="none", **SEARCH)  # all cores
    assert table["score"].tolist() == calm["score"].tolist()
    for folder, score in zip(table["run"], table["score"], strict=True):
        rows = tuning.curves(processes.out)
        reports = rows[rows["trial"] == int(folder[-4:])]
        assert reports["value"].max() == score
        with open(f"{folder}/run.json") as file:
            assert json.load(file)["status"] == "finished"
