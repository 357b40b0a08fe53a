"""A study of two workers that is killed outright, with its workers, ends as one that was not."""

import os
import signal
import subprocess
import sys
import time

import pytest

ROWS = ("seed-0", "seed-1")


def _begun(out):
    """A study of two trainings at once, in a group of processes of its own."""
    words = [sys.executable, "-m", "kerascnn", "study", "tdt4265-lenet", "--quick", "--seeds", "2", "--workers", "2"]
    words += ["--rows", "lenet", "--out", out]
    return subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _saved(out):
    return list(out.glob("rows/lenet/*/checkpoint/state-*.npz"))


@pytest.mark.slow
def test_a_killed_study_goes_on_and_ends_the_same(tmp_path):
    calm, hunted = tmp_path / "calm", tmp_path / "hunted"
    study = _begun(hunted)
    while not _saved(hunted):
        assert study.poll() is None, study.stderr.read()
        time.sleep(0.02)
    os.killpg(study.pid, signal.SIGKILL)
    study.communicate()
    for out in (hunted, calm):
        _, said = (study := _begun(out)).communicate()
        assert study.returncode == 0, said
    ended = [[(out / "rows" / "lenet" / row / "metrics.csv").read_text() for row in ROWS] for out in (calm, hunted)]
    assert ended[0] == ended[1]
    assert ended[0][0] != ended[0][1]  # two seeds
    assert (calm / "table.csv").read_text() == (hunted / "table.csv").read_text()
