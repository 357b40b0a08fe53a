"""Processes that ours starts."""

import subprocess
import sys

SCRIPT = """
import subprocess, sys
from kerascnn.processes import python_module
sys.exit(subprocess.run(python_module("tuning.tables")).returncode)
"""


def test_a_file_of_the_users_does_not_hide_our_modules(tmp_path):
    (tmp_path / "tuning.py").write_text("raise SystemExit(7)\n")
    done = subprocess.run([sys.executable, "-P", "-c", SCRIPT], cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
