"""The scan, callbacks, Muon, experiments and units switched off pass their own tests with JAX and torch, too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CHOSEN = {  # of the callbacks: a training that everything watches, one that resumes, and the errors
    "test_callbacks.py": "learned or files_of_every or kept_are or averaged or two_looks or told_once or cannot_work"
}


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
@pytest.mark.parametrize(
    "file",
    [
        "test_dataset_scan.py",
        "test_scan_statistics.py",
        "test_callbacks.py",
        "test_muon.py",
        "test_experiments_laws.py",
        "test_pages_engine.py",
    ],
)
def test_on_another_backend(backend, file):
    pytest.importorskip(backend)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", CHOSEN.get(file, ""), str(HERE / file)],
        env={**os.environ, "KERAS_BACKEND": backend},
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
