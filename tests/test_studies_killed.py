"""A study of two workers is killed outright, with its workers, and goes on."""

import json
import os
import signal
import subprocess
import sys
import time

import pandas
import pytest

ROWS = ("seed-0", "seed-1")


def _begun(out):
    """A study of two trainings at once, in a group of processes of its own."""
    words = [sys.executable, "-m", "kerascnn", "study", "tdt4265-lenet", "--quick", "--seeds", "2", "--workers", "2"]
    words += ["--rows", "lenet", "--out", out]
    return subprocess.Popen(words, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _saved(out):
    return list(out.glob("rows/lenet/*/checkpoint/state-*.npz"))


@pytest.mark.slow
def test_a_killed_study_goes_on(tmp_path):
    """What its workers had saved by then is taken up again (that a run then ends bit for bit as if undisturbed is
    tested with runs), and both trainings end whole."""
    study = _begun(tmp_path / "study")
    while not (saved := _saved(tmp_path / "study")):
        assert study.poll() is None, study.stderr.read()
        time.sleep(0.02)
    os.killpg(study.pid, signal.SIGKILL)
    study.communicate()
    said, wrong = (study := _begun(tmp_path / "study")).communicate()
    assert study.returncode == 0, wrong
    runs = [tmp_path / "study" / "rows" / "lenet" / row for row in ROWS]
    assert [pandas.read_csv(run / "metrics.csv")["step"].tolist() for run in runs] == [[2, 4]] * 2
    assert [json.loads((run / "run.json").read_text())["status"] for run in runs] == ["finished"] * 2
    for seed in {path.parents[1].name for path in saved}:
        assert f"lenet, {seed.replace('-', ' ')}: Resuming at" in said
