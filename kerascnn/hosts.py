"""The hosts that train one network together, each a process: joined by JAX's own bootstrap, they agree on what they do.

JAX knows the clusters (Slurm, Open MPI, Kubernetes, TPU); elsewhere JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
JAX_PROCESS_ID say who is who, as Kubeflow's JAX runtime and `kerascnn launch` set them.
"""

import contextlib
import importlib.util
import json
import os
import platform
import re
import signal
import sys
import threading
from dataclasses import dataclass

import numpy as np

from kerascnn.errors import DataError, HostLost, UsageError

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
JOINING = 300  # seconds that hosts wait for each other at the start
SILENCE = 8  # seconds without a sign of life after which a host counts as dead
LEAVING = 600  # seconds that hosts wait for the last checkpoint at the end
REASONS = {
    "tensorflow": "Keras' fit does not run under TensorFlow's strategy for many workers (keras-team/keras#20585)",
    "torch": "Keras has no data parallelism for PyTorch",
}


@dataclass(frozen=True)
class Hosts:
    """The hosts of a training, as one of them sees them; a training on one machine has one.

    Attributes:
        rank: the number of this one, from 0.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self):
        """True on the host that writes the run folder and says what happens."""
        return self.rank == 0

    def gather(self, value):
        """The values (anything JSON can hold) of all hosts, by rank; every host must call it."""
        if self.count == 1:
            return [value]
        from jax.experimental import multihost_utils

        text = np.frombuffer(json.dumps(value).encode(), "uint8")
        with self.watching():
            lengths = multihost_utils.process_allgather(np.array([len(text)])).ravel()
            padded = np.zeros(lengths.max(), "uint8")
            padded[: len(text)] = text
            rows = multihost_utils.process_allgather(padded)
        return [json.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)]

    def share(self, content):
        """The bytes that the first host has, on every host; the others' `content` is ignored."""
        if self.count == 1:
            return content
        from jax.experimental import multihost_utils

        sent = np.frombuffer(content if self.first else b"", "uint8")
        with self.watching():
            length = int(multihost_utils.broadcast_one_to_all(np.array([len(sent)]))[0])
            sent = sent if self.first else np.zeros(length, "uint8")
            return multihost_utils.broadcast_one_to_all(sent).astype("uint8").tobytes() if length else b""

    @contextlib.contextmanager
    def agreeing(self):
        """Yields a dict for what must be the same on every host, {name: anything JSON can hold}, compared at the end
        of the block; an error within the block on one host is raised on all.

        Raises:
            UsageError: values differ; the message names the first host that differs, and the values.
        """
        values, error = {}, None
        try:
            yield values
        except Exception as caught:
            if self.count == 1:
                raise
            error = caught
        told = {"host": platform.node(), "values": values, "error": error and [type(error).__name__, str(error)]}
        everyone = self.gather(told)
        if error:
            raise error
        for rank, other in enumerate(everyone):
            if other["error"]:
                kind, text = other["error"]
                raise (DataError if kind == "DataError" else UsageError)(f"{_called(other, rank)}: {text}")
        for rank, other in enumerate(everyone[1:], 1):
            _check_same(everyone[0], other, rank)

    @contextlib.contextmanager
    def watching(self):
        """Within this block, the error that a computation raises when another host is gone becomes a HostLost."""
        try:
            yield
        except Exception as error:
            if self.count == 1 or ("Gloo" not in str(error) and "NCCL" not in str(error)):
                raise
            raise HostLost(
                "Another host of this training is gone. Type the same command on all hosts to resume from the last "
                "checkpoint; if it named no folder, add out=FOLDER, that of the run."
            ) from error

    def stopping(self, step):
        """True at the same step on every host, soon after one of them got SIGTERM; called after every step.

        Args:
            step: the number of the step, which never decreases.
        """
        if self.count == 1:
            return False
        from jax.experimental import multihost_utils

        return multihost_utils.reached_preemption_sync_point(step)

    def leave(self):
        """Wait for the others, then leave them: from here on, each host computes alone."""
        if self.count > 1:
            import jax

            jax.distributed.shutdown()
            if threading.current_thread() is threading.main_thread():  # Python lets no other set it
                signal.signal(signal.SIGTERM, signal.SIG_DFL)  # which JAX had taken


ALONE = Hosts()


def check_hosts(hosts, backend):
    """Raise a UsageError unless `hosts` is an allowed value and the backend can join hosts."""
    if hosts not in (None, "auto"):
        raise UsageError(
            f"hosts={hosts!r} is not allowed. Allowed: auto, which reads {', '.join(VARIABLES)} or asks the cluster."
        )
    if hosts and backend != "jax":
        reason = f": {REASONS[backend]}" if backend in REASONS else ""
        raise UsageError(
            f"hosts={hosts!r} needs JAX, not {backend}{reason}. Install kerascnn[jax] and set KERAS_BACKEND=jax."
        )
    if hosts and importlib.util.find_spec("jax") is None:
        raise UsageError(f"hosts={hosts!r} needs JAX, which is not installed. Type: pip install 'kerascnn[jax]'")


def join(hosts):
    """The Hosts of this training, once all have joined.

    Args:
        hosts: None: this one alone. "auto": those that the environment or the cluster names.
    Raises:
        UsageError: the backend is not JAX, there is no cluster, or JAX has already computed something.
        HostLost: the others do not join in time.
    """
    if hosts is None:
        return ALONE
    from kerascnn import backends  # imports Keras

    check_hosts(hosts, backends.backend())
    import jax

    if not jax.distributed.is_initialized():
        _initialize(jax, _from_environment())
    group = Hosts(jax.process_index(), jax.process_count())
    with _quiet():  # Gloo prints as it connects
        group.gather(None)
    counts = group.gather(jax.local_device_count())
    if len(set(counts)) > 1:
        raise UsageError(f"Each host must have as many devices as the others; they have {', '.join(map(str, counts))}.")
    return group


def _from_environment():
    """The arguments of `jax.distributed.initialize` that the environment gives; {} where it gives none."""
    given = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
    if not given or list(given) == [VARIABLES[0]]:  # which JAX reads itself
        return {}
    address, *counts = (given.get(name, "") for name in VARIABLES)
    named = re.fullmatch(r".+:\d+", address) and all(number.isdecimal() for number in counts)
    if not named or int(counts[1]) >= int(counts[0]):
        shown = ", ".join(f"{name}={os.environ.get(name, '')}" for name in VARIABLES)
        raise UsageError(
            f"{shown} do not name a host among others. Needed: HOST:PORT of the first, how many there are, and the "
            "number of this one, from 0."
        )
    numbers = {"num_processes": int(counts[0]), "process_id": int(counts[1])}
    return {"coordinator_address": address, **numbers, "cluster_detection_method": "deactivate"}


def _initialize(jax, arguments):
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            **arguments,
            initialization_timeout=JOINING,
            heartbeat_timeout_seconds=SILENCE,
            shutdown_timeout_seconds=LEAVING,
        )
    except ValueError:
        raise UsageError(
            "hosts='auto' did not find a cluster: neither Slurm, Open MPI, Kubernetes nor TPU. On one machine, type "
            f"kerascnn launch --processes N train ...; elsewhere, set {', '.join(VARIABLES)} for each process."
        ) from None
    except RuntimeError as error:
        if "before" in str(error):
            raise UsageError(
                "hosts='auto' must come before JAX computes anything in this process: train in a new process."
            ) from None
        text = str(error).splitlines()[0]
        raise HostLost(f"The hosts of this training did not come together within {JOINING} s: {text}") from error


@contextlib.contextmanager
def _quiet():
    """Within this block, what native libraries print on file descriptor 1 goes to 2."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def _called(told, rank):
    return f"Host {rank} ({told['host']})"


def _check_same(first, other, rank):
    """Raise a UsageError that says in which values two hosts differ."""
    names = dict.fromkeys([*first["values"], *other["values"]])
    pairs = {name: (other["values"].get(name), first["values"].get(name)) for name in names}
    differing = [f"{name} is {pair[0]!r}, not {pair[1]!r}" for name, pair in pairs.items() if pair[0] != pair[1]]
    if differing:
        raise UsageError(
            f"{_called(other, rank)} disagrees with {_called(first, 0)}: "
            f"{'; '.join(differing)}. Type the same command, with the same data and versions, on all hosts."
        )
