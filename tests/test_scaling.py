"""docs/many-machines.md: its tables are what docs/scaling.py prints, and its job files run commands that there are."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from kerascnn.cli import app
from kerascnn.runs import Run

DOCS = Path(__file__).parents[1] / "docs"
sys.path.insert(0, str(DOCS))
import scaling  # noqa: E402

FAST = scaling.Host(operations=1e9, network=1e6, latency=0.01)


def test_the_page_has_the_tables():
    block = re.search(r"```text\n(.*?)```", (DOCS / "many-machines.md").read_text(), re.DOTALL)[1]
    assert block == scaling.page() + "\n", "run: python docs/scaling.py, and put what it prints into the page"


def test_a_step_by_hand():
    """8e9 operations take 4 s on two hosts; a ring of two sends half of 6 MB twice, which takes 6 s and two turns."""
    assert scaling.step(8e9, 6e6, FAST, 1) == (8, 0)
    assert scaling.step(8e9, 6e6, FAST, 2) == pytest.approx((4, 6.02))
    assert scaling.step(8e9, 6e6, FAST, 4) == pytest.approx((2, 9.06))


def test_where_it_saturates_by_hand():
    """Without gradients only the turns count: 9 s / H is 2 (H - 1) 0.01 s at H (H - 1) = 450."""
    assert scaling.saturation(9e9, 0, FAST) == 22
    assert scaling.fastest(9e9, 0, FAST) == 21  # sqrt(450)


SRUN = """#!/bin/bash
shift  # --kill-on-bad-exit
export SLURM_JOB_ID=123 SLURM_STEP_NODELIST=127.0.0.1 SLURM_STEP_NUM_NODES=1
export SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_LOCALID=0
exec "$@"
"""


@pytest.fixture
def slurm(tmp_path):
    """Runs the Slurm job on one node that is not Slurm's: (exit code, what it printed, errors)."""
    (tmp_path / "srun").write_text(SRUN)
    (tmp_path / "srun").chmod(0o755)

    def run(**environment):
        path = f"{tmp_path}:{os.environ['PATH']}"
        environment = {**os.environ, "PYTHONPATH": str(DOCS.parent), "PATH": path, **environment}
        return _bash(str(DOCS / "train-slurm.sh"), environment, tmp_path)

    return run


def _bash(script, environment, folder):
    done = subprocess.run(["bash", script], env=environment, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def _parsed(words):
    """The arguments of a `train` command, as the command line takes them."""
    assert words[0] == "train"
    return app.parse_args(words, exit_on_error=False, print_error=False)[1].arguments


def test_the_slurm_job_types_a_command(slurm):
    code, out, err = slurm(KERASCNN="echo", HOME="/home/ada")
    assert (code, err) == (0, "")
    typed = _parsed(shlex.split(out))
    assert (str(typed["out"]), typed["hosts"], typed["data"]) == ("/home/ada/runs/photos", "auto", "/home/ada/photos")


def test_the_other_jobs_type_commands(tmp_path):
    yaml = pytest.importorskip("yaml")
    trainer = yaml.safe_load((DOCS / "train-kubeflow.yaml").read_text())["spec"]["trainer"]
    assert trainer["env"] == [{"name": "KERAS_BACKEND", "value": "jax"}]
    name, *words = [*trainer["command"], *trainer["args"]]
    assert name == "kerascnn"
    sky = yaml.safe_load((DOCS / "train-skypilot.yaml").read_text())
    (tmp_path / "job").write_text(sky["run"] + "\nenv")
    nodes = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1"}
    _, out, _ = _bash("job", {**os.environ, **nodes, "KERASCNN": "echo"}, tmp_path)
    first, *environment = out.splitlines()
    for command in (words, shlex.split(first)):
        typed = _parsed(command)
        assert (str(typed["out"]), typed["hosts"], typed["data"]) == ("/shared/runs/photos", "auto", "/shared/photos")
    assert {"JAX_COORDINATOR_ADDRESS=10.0.0.1:7001", "JAX_NUM_PROCESSES=2", "JAX_PROCESS_ID=1"} <= set(environment)


@pytest.mark.slow
def test_jax_reads_the_variables_of_slurm(slurm, tmp_path):
    pytest.importorskip("jax")
    (tmp_path / "join.py").write_text("from kerascnn.hosts import join\nprint(join('auto'))\n")
    code, out, err = slurm(KERASCNN=f"{sys.executable} {tmp_path / 'join.py'}", KERAS_BACKEND="jax")
    assert (code, out) == (0, "Hosts(rank=0, count=1)\n"), err


@pytest.mark.slow
def test_the_ray_job_trains_on_one_machine(tmp_path):
    """And begins again after a process was lost, but not after an error that would come again."""
    pytest.importorskip("ray")
    pytest.importorskip("jax")
    environment = os.environ | {"RAY_ADDRESS": "local", "RAY_USAGE_STATS_ENABLED": "0", "HOSTS": "1", "CPUS": "1"}
    environment |= {"KERASCNN": f"{sys.executable} -m kerascnn", "RUN": str(tmp_path / "run"), "DATA": "digits"}
    environment |= {"PYTHONPATH": str(DOCS.parent), "OPTIONS": "--epochs 1"}
    command = [sys.executable, str(DOCS / "train-ray.py")]

    def run(**more):
        asked = {"env": environment | more, "cwd": tmp_path, "capture_output": True, "text": True, "check": False}
        return subprocess.run(command, timeout=600, **asked)

    done = run()
    assert done.returncode == 0, done.stderr
    assert Run(tmp_path / "run").read("run")["status"] == "finished"
    (tmp_path / "dies.sh").write_text(
        f"echo began >> {tmp_path}/times\n[ $(wc -l < {tmp_path}/times) = 2 ] || kill -9 $$\n"
    )
    assert run(KERASCNN=f"sh {tmp_path}/dies.sh").returncode == 0
    assert (tmp_path / "times").read_text() == "began\n" * 2
    assert run(OPTIONS="--optimizer none").returncode == 2
