"""Runs killed at random moments, again and again, end bit for bit as undisturbed ones.

    KERASCNN_KILLS=100 pytest tests/test_resume_kills.py -m slow -n 0

kills each of them 100 times.
"""

import os
import random
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from kerascnn import runs

KILLS = int(os.environ.get("KERASCNN_KILLS", "2"))
LIFE = textwrap.dedent("""
    import os, signal, sys, threading
    import keras, kerascnn
    folder, seconds, optimizer = sys.argv[1], float(sys.argv[2]), sys.argv[3]

    class Death(keras.callbacks.Callback):
        def on_train_batch_end(self, step, logs=None):
            if seconds and not hasattr(self, "timer"):  # the first step includes compilation
                self.timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
                self.timer.daemon = True
                self.timer.start()

    fields = dict(data="digits", optimizer=optimizer, schedule="constant", image_size=16, epochs=20, batch_size=128,
                  dropout=0.3, augment=("flip", "crop"), ema=0.99, rate_patience=2, rate_factor=0.5, stop_patience=15,
                  seed=3)
    options = dict(keep_checkpoints=True, callbacks=[Death()], checkpoint_minutes=0.002, say=lambda line: None)
    if os.path.exists(os.path.join(folder, "run.json")):
        kerascnn.train(resume=folder, **options)
    else:
        kerascnn.train(out=folder, **options, **fields)
""")


def live(folder, seconds, backend, optimizer):
    """One life of a run, killed that many seconds after its first step (0: never); returns the exit code."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", LIFE, str(folder), str(seconds), optimizer],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, -9), done.stderr[-2000:]
    return done.returncode


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "optimizer"), [("tensorflow", "muon"), ("jax", "adam")])
def test_killed_at_random_moments(tmp_path, backend, optimizer):
    pytest.importorskip(backend)
    rng = random.Random(backend)
    assert live(tmp_path / "whole", 0, backend, optimizer) == 0
    expected = np.load(newest(tmp_path / "whole"))
    kills, number = 0, 0
    while kills < KILLS:
        folder, number = tmp_path / f"killed-{number}", number + 1
        finished = False
        while not finished:
            finished = live(folder, rng.uniform(0.01, 0.5) if kills < KILLS else 0, backend, optimizer) == 0
            kills += not finished
        with np.load(newest(folder)) as arrays:
            for name in expected.files:
                np.testing.assert_array_equal(arrays[name], expected[name], err_msg=name)
        assert (folder / "metrics.csv").read_bytes() == (tmp_path / "whole" / "metrics.csv").read_bytes()
        ours, theirs = (runs.Run(f).read("run")["result"] for f in (folder, tmp_path / "whole"))
        assert ours == theirs
    assert kills >= KILLS


def newest(folder):
    """The last checkpoint of a run: weights, optimizer, moving averages, counters."""
    return sorted((folder / "checkpoint").glob("state-*.npz"))[-1]
