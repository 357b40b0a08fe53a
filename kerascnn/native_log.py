"""Keeps the terminal clean: what native libraries print on file descriptor 2 goes to a file instead.

TensorFlow and JAX print log lines from C++ at import and at the first device query, whatever the environment says.
Python's own `sys.stderr` keeps reaching the terminal.
"""

import contextlib
import os
import sys
import tempfile


class NativeLog:
    """File descriptor 2 as a file; `move(path)` takes what was gathered to another file and goes on there."""

    def __init__(self, file, terminal):
        self._file, self.terminal = file, terminal

    def move(self, path):
        """Append everything gathered so far to the file at `path`, and everything that follows."""
        self._file.seek(0)
        gathered = self._file.read()
        target = open(path, "ab+", buffering=0)  # noqa: SIM115 (stays open until the process stops writing)
        target.write(gathered)
        os.dup2(target.fileno(), 2)
        self._file.close()
        self._file = target


@contextlib.contextmanager
def native_log():
    """Within this block native output is gathered; yields the NativeLog."""
    sys.stderr.flush()
    saved, stderr = os.dup(2), sys.stderr
    terminal = open(saved, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    gathered = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (NativeLog owns it)
    log = NativeLog(gathered, terminal)
    os.dup2(gathered.fileno(), 2)
    sys.stderr = terminal
    try:
        yield log
    finally:
        terminal.flush()
        sys.stderr = stderr
        os.dup2(saved, 2)
        os.close(saved)
        log._file.close()
