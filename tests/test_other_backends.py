"""The scan, callbacks, Muon, experiments and units switched off pass their own tests with JAX and torch, too."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = ("dataset_scan", "scan_statistics", "callbacks", "muon", "experiments_laws", "pages_engine")
# Of the callbacks: a training that everything watches, one that resumes, and the errors.
LOOKS = ("learned", "files_of_every", "kept_are", "averaged", "two_looks", "told_once", "cannot_work")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_on_another_backend(backend):
    pytest.importorskip(backend)
    words = ["-q", "-n", "0", "-p", "no:cacheprovider", "-k", f"not test_callbacks or {' or '.join(LOOKS)}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, *(str(HERE / f"test_{file}.py") for file in FILES)],
        env={**os.environ, "KERAS_BACKEND": backend},
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 80
