"""Processes that ours starts, and memory."""

import subprocess
import sys

from kerascnn.processes import available_memory

SCRIPT = """
import subprocess, sys
from kerascnn.processes import python_module
sys.exit(subprocess.run(python_module("tuning.tables")).returncode)
"""


def test_a_file_of_the_users_does_not_hide_our_modules(tmp_path):
    (tmp_path / "tuning.py").write_text("raise SystemExit(7)\n")
    done = subprocess.run([sys.executable, "-P", "-c", SCRIPT], cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_available_memory_is_between_nothing_and_a_petabyte():
    assert 0 < available_memory() < 1 << 50
