"""The workers that a search starts on its own machine: each on its share of the cores, started again when it dies."""

import contextlib
import os
import subprocess
import time

from kerascnn.processes import python_module

BRIEF = 5  # seconds; a worker that lives no longer has not even begun
MOST_BRIEF = 5  # so many brief lives in a row, and starting more is in vain


class LocalWorkers:
    """Worker processes that join one chief; they end when this process ends, because their pipe closes.

    Args:
        address: HOST:PORT of the chief.
        token: the chief's token, or "".
        count: number of workers.
    """

    def __init__(self, address, token, count):
        self.address, self.token, self.count = address, token, count
        self._running = {}  # number: (process, when it was started)
        self._brief = 0

    def tend(self):
        """Start every worker that does not run.

        Raises:
            RuntimeError: they keep ending as soon as they are started.
        """
        for number in range(self.count):
            process, began = self._running.get(number, (None, 0.0))
            if process is not None and process.poll() is None:
                continue
            if process is not None:
                process.stdin.close()
                self._brief = self._brief + 1 if process.returncode and time.monotonic() - began < BRIEF else 0
                if self._brief >= MOST_BRIEF:
                    raise RuntimeError(f"Workers end as soon as they are started (exit code {process.returncode}).")
            self._running[number] = self._start(number), time.monotonic()

    def _start(self, number):
        host, colon, port = self.address.rpartition(":")
        here = f"127.0.0.1{colon}{port}" if host == "0.0.0.0" else self.address
        command = [*python_module("kerascnn"), "tune-worker", "--join", here, "--number", str(number)]
        if hasattr(os, "sched_getaffinity"):
            cores = sorted(os.sched_getaffinity(0))
            share = cores[number :: self.count] or [cores[number % len(cores)]]
            command += ["--cores", ",".join(map(str, share))]
        environment = {**os.environ, "KERASCNN_TOKEN": self.token}
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment, start_new_session=True
        )

    def gone(self):
        """True once none runs."""
        return all(process.poll() is not None for process, _ in self._running.values())

    def stop(self):
        """Let every worker save its trial and end; one that has not done so within a minute is killed."""
        for process, _ in self._running.values():
            if process.poll() is None:
                process.terminate()
        for process, _ in self._running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
            process.kill()
            process.wait()
            process.stdin.close()
