"""The processes of one training on this machine: started together, watched, and restarted when one dies."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kerascnn.errors import counted
from kerascnn.processes import num_cpus, python_module

GRACE = 3.0  # seconds that processes get to end by themselves once one was killed or has lost another
LAST_WORK = 60.0  # likewise once one has ended with an error, which all may have: the first keeps its best weights
LAST_LINES = 5  # shown of the output of a process that has failed out of sight
PR_SET_PDEATHSIG = 1  # of Linux' prctl.h
GONE = (os.EX_TEMPFAIL, -signal.SIGABRT)  # how a process ends when another is gone


class Launch:
    """N processes that train one network together, as hosts would.

    Args:
        arguments: of `kerascnn`, without its name; the same for each.
        processes: how many.
        restarts: how often all are restarted after one was killed.
        say: called with a line for each restart.
        again: what to type to resume.
    """

    def __init__(self, arguments, processes, restarts, say, again="the same command"):
        self.arguments, self.processes, self.restarts, self.say = arguments, processes, restarts, say
        self.again = again
        self._running = []
        self._signal = None

    def run(self):
        """Start them, wait until they end, and restart them where that may help; returns the exit code."""
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # which nohup sets
            numbers.append(signal.SIGHUP)  # they do not hear that the terminal is closed: their sessions are their own
        before = [signal.signal(number, self._stop) for number in numbers]
        try:
            with tempfile.TemporaryDirectory(prefix="kerascnn-launch-") as folder:
                return self._run(Path(folder))
        finally:
            self._kill()
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    def _run(self, folder):
        for restart in range(self.restarts + 1):
            self._start(folder)
            if self._signal:  # it came before all were there
                self._terminate()
            first, codes = self._wait()
            if self._signal:
                return 128 + self._signal
            if not any(codes):
                return 0
            wrong = next((number for number, code in enumerate(codes) if code > 0 and code not in GONE), None)
            number = first if wrong is None else wrong
            self._tell(number, folder)
            if wrong is not None:  # it would only happen again
                return codes[wrong]
            if restart < self.restarts:
                told = f"All resume from the last checkpoint, restart {restart + 1} of {self.restarts}"
                self.say(f"{self._ended(number, codes[number])}. {told}")
        after = counted(self.restarts, "restart")
        self.say(f"{self._ended(number, codes[number])} after {after}. Type {self.again} to resume")
        return 1

    def _start(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        common = {
            **os.environ,
            "KERAS_BACKEND": "jax",
            "JAX_COORDINATOR_ADDRESS": address,
            "JAX_COORDINATOR_BIND_ADDRESS": address,
            "JAX_NUM_PROCESSES": str(self.processes),
        }
        command = [*python_module("kerascnn"), *self.arguments]
        self._running = []
        for number in range(self.processes):
            environment = {**common, "JAX_PROCESS_ID": str(number), "JAX_LOCAL_DEVICE_IDS": str(number)}
            with contextlib.ExitStack() as stack:
                stack.enter_context(_share_of_cores(number, self.processes))
                output = None if number == 0 else stack.enter_context(open(_log(folder, number), "wb"))
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=environment,
                    start_new_session=True,  # Ctrl-C reaches only us
                    preexec_fn=ends_with_us(),
                )
            self._running.append(process)

    def _wait(self):
        """(number of the process that ended first with an error, or None; exit codes by number) once all have ended."""
        first = deadline = None
        while None in (codes := [process.poll() for process in self._running]):
            if first is None and any(codes):
                first = _first(codes)
                killed = codes[first] < 0 or codes[first] in GONE
                deadline = time.monotonic() + (GRACE if killed else LAST_WORK)
            if deadline and time.monotonic() > deadline and not self._signal:
                self._kill()
            time.sleep(0.1)
        return _first(codes) if first is None else first, codes

    def _stop(self, number, frame):
        """The first signal makes all save and stop; a second one ends them at once."""
        if self._signal:
            self._kill()
        self._signal = number
        self._terminate()

    def _terminate(self):
        for process in self._running:
            if process.poll() is None:
                process.terminate()

    def _kill(self):
        for process in self._running:
            if process.poll() is None:
                process.kill()
                process.wait()

    def _tell(self, number, folder):
        """Print the last lines of a process whose output was held back."""
        path = _log(folder, number)
        if number and path.exists():
            for line in path.read_text(errors="replace").splitlines()[-LAST_LINES:]:
                print(f"process {number}: {line}", file=sys.stderr)

    @staticmethod
    def _ended(number, code):
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else "lost the others"
        return f"Process {number} {how}"


def _first(codes):
    """The process that ended first with an error, of those that have ended, or None: one that others have lost."""
    wrong = [number for number, code in enumerate(codes) if code]
    return min(wrong, key=lambda number: codes[number] in GONE, default=None)


def ends_with_us():
    """What a new process calls on Linux to get SIGTERM when this one is gone, even by SIGKILL; elsewhere None."""
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def ask():
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it is gone already
            os._exit(1)

    return ask


def _log(folder, number):
    return folder / f"process-{number}.log"


@contextlib.contextmanager
def _share_of_cores(number, count):
    """Within this block, processes start on their share of this one's processors."""
    if not hasattr(os, "sched_setaffinity") or num_cpus() == 1:
        yield
        return
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[number::count] or [cores[number % len(cores)]])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
