"""Processes that ours starts, memory, and sockets that listen."""

import socket
import subprocess
import sys

from kerascnn.processes import available_memory, listening_socket

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


def test_answers_are_sent_at_once():
    """Without the option an answer in two parts waits 40 ms."""
    with listening_socket("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
