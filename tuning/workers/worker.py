"""A worker: asks the chief for trials and runs each in a process of its own. It never imports Keras."""

import contextlib
import http.client
import json
import os
import secrets
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from kerascnn import __version__
from kerascnn.errors import DataError, UsageError
from kerascnn.processes import python_module

TIMEOUT = 30  # seconds for one answer of the chief
PATIENCE = 300  # seconds without a chief after which a worker gives up


def check_token(token):
    """A token travels in an HTTP header, so it must be printable ASCII."""
    if not (token.isascii() and token.isprintable()):
        raise UsageError("The token holds characters that are not ASCII. Use letters, digits and punctuation.")


class ChiefGone(DataError):  # noqa: N818 (what happened)
    """The chief has not answered for too long."""


class Line:
    """What a worker says to the chief, over HTTP; repeats itself while the chief is being restarted.

    Args:
        address: HOST:PORT.
        token: what the chief asks for, or "".
        patience: seconds to go on trying.
        stopping: threading.Event after which a failure is final; None: never.
    """

    def __init__(self, address, token="", patience=PATIENCE, stopping=None):
        host, _, port = address.rpartition(":")
        if not host or "/" in host or not port.isdecimal():
            raise UsageError(f"{address!r} is not HOST:PORT, such as 127.0.0.1:7000.")
        if not patience >= 0:
            raise UsageError(f"patience={patience} is not allowed: it must be 0 or more.")
        check_token(token)
        self.address, self.patience, self.stopping = address, patience, stopping or threading.Event()
        self.headers = {"Content-Type": "application/json", "X-Kerascnn-Version": __version__}
        if token:
            self.headers["Authorization"] = f"Bearer {token}"

    def post(self, path, **message):
        """The chief's answer, a dict.

        Raises:
            UsageError: the chief refuses: another version, a wrong token.
            ChiefGone: no answer for `patience` seconds.
        """
        request = urllib.request.Request(f"http://{self.address}/{path}", json.dumps(message).encode(), self.headers)
        deadline = time.monotonic() + self.patience
        while True:
            try:
                with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=TIMEOUT) as got:
                    return json.loads(got.read())
            except (OSError, ValueError, http.client.HTTPException) as error:
                if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                    refusal = error.read().decode(errors="replace")
                    raise UsageError(f"The chief at {self.address} refuses: {refusal}") from None
                if time.monotonic() > deadline or self.stopping.wait(0.3):
                    raise ChiefGone(f"No chief answers at {self.address} ({error}).") from None


def work(address, *, token="", name=None, number=None, cores=None, patience=PATIENCE, say=print):
    """Run trials until the chief has no more.

    Args:
        address: HOST:PORT of the chief.
        token: the chief's token, where it has one.
        name: what the chief calls this worker, with some random letters; None: host and process.
        number: of a worker that the search itself has started, in place of the letters: one that is started again under
            its number resumes the trial of the one before.
        cores: numbers of the processor cores that trials may use; None: all.
        patience: seconds without a chief after which to give up.
        say: called with each line of progress.
    """
    if number is None:
        name = f"{name or f'{os.uname().nodename}-{os.getpid()}'}-{secrets.token_hex(4)}"
    else:
        name = f"{name or 'local'} {number}"
    if cores and hasattr(os, "sched_getaffinity") and not set(cores) <= os.sched_getaffinity(0):
        there = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        raise UsageError(f"cores={','.join(map(str, cores))} are not all there. Allowed: {there}.")
    stopping = threading.Event()
    line = Line(address, token, patience, stopping)
    with _terminated(stopping):
        while not stopping.is_set():
            job = line.post("ask", worker=name)
            if job["do"] == "done":
                return
            if job["do"] == "wait":
                stopping.wait(0.5)
            elif not Path(job["folder"]).parents[1].is_dir():
                line.post("release", trial=job["trial"], lease=job["lease"])
                raise UsageError(
                    f"The search's folder {Path(job['folder']).parents[1]} is not on this machine. Workers and chief "
                    "must share it: mount it at the same place."
                )
            else:
                say(f"trial {job['trial']}: begins (lease {job['lease']})")
                say(f"trial {job['trial']}: {_run_trial(line, job, cores, stopping)}")


def _run_trial(line, job, cores, stopping):
    """Run one trial in a process of its own, to its end; returns the outcome in words."""
    ticket = {"trial": job["trial"], "lease": job["lease"]}
    process = _start(job)
    ended, lost = threading.Event(), threading.Event()
    beating = (line, ticket, process, job["beat_seconds"], stopping, ended, lost)
    threading.Thread(target=_beat, args=beating, daemon=True).start()
    try:
        _write(process, json.dumps({**job, "cores": cores}))
        outcome = _relay(line, ticket, process, lost)
        if outcome is not None:
            return outcome
        code = process.wait()
        if lost.is_set():
            return "was given to another worker"
        died = "" if stopping.is_set() else _ending(code)
        line.post("release", **ticket, died=died)
        return f"given back {died}".strip()
    finally:
        ended.set()
        process.kill()
        process.wait()
        with contextlib.suppress(OSError):  # an answer that a killed process did not read
            process.stdin.close()
        process.stdout.close()


def _start(job):
    """The trial's process; its standard error goes to a log beside the trial's folder."""
    Path(job["folder"]).parent.mkdir(parents=True, exist_ok=True)
    with open(Path(job["folder"]).with_suffix(".log"), "ab") as log:
        return subprocess.Popen(
            [*python_module("tuning.workers.trial"), job["folder"]],  # the folder is for whoever lists processes
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )


def _beat(line, ticket, process, seconds, stopping, ended, lost):
    """Until `ended`, tell the chief every few seconds that the trial is alive, and the process when to stop."""
    last, told = time.monotonic(), False
    while not ended.wait(0.2):
        if stopping.is_set() and not told:
            process.terminate()  # once: a second signal would not let it save
            told = True
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            with contextlib.suppress(ChiefGone, UsageError):
                if line.post("beat", **ticket)["answer"] == "lost":
                    lost.set()
                    process.kill()


def _relay(line, ticket, process, lost):
    """Pass messages between the trial's process and the chief; returns the outcome, None if the process just ends."""
    answer = ""
    for text in process.stdout:
        message = json.loads(text)
        if "epoch" in message:
            try:
                answer = line.post("report", **ticket, **message)["answer"]
            except UsageError as error:  # such as an objective that is not computed
                line.post("finish", **ticket, status="failed", reason=str(error), seconds=0.0)
                return "failed"
            if answer == "lost":
                process.kill()
                lost.set()
            _write(process, answer)
        elif "released" in message:
            line.post("release", **ticket)
            return "waits on its rung" if answer == "pause" else f"given back: {message['released']}"
        else:
            status = "completed" if "completed" in message else "failed"
            reason, seconds = message.get("failed", ""), message.get("seconds", 0.0)
            line.post("finish", **ticket, status=status, reason=reason, seconds=seconds)
            return status
    return None


def _write(process, text):
    with contextlib.suppress(OSError):  # a process that is gone says so by its end
        process.stdin.write(text + "\n")
        process.stdin.flush()


def _ending(code):
    if code < 0:
        name = signal.Signals(-code).name
        return f"(killed by {name}{', perhaps because memory ran out' if name == 'SIGKILL' else ''})"
    return f"(exit code {code})"


@contextlib.contextmanager
def _terminated(stopping):
    """Within this block SIGTERM and SIGINT set the event, so that the trial is saved and given back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {n: signal.signal(n, lambda *_: stopping.set()) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
