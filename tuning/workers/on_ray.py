"""Workers over a Ray cluster: each is one Ray task, which Ray starts again elsewhere when its process or machine dies.

Ray places the workers and nothing else. What they do is what `tuning.workers.worker` does anywhere: they ask the chief
for trials, and a trial continues from its checkpoint in the search's folder, which all machines share.
"""

import contextlib
import hashlib
import importlib.util
import os
import secrets
import socket
import tempfile
import time
from pathlib import Path

from kerascnn import __version__, runs
from kerascnn.errors import DataError, UsageError, counted
from tuning.workers.worker import ChiefGone, work

SEEN_WITHIN = 30  # seconds in which a new file appears on a shared file system
CONNECT_SECONDS = 5  # for a cluster that is there
SAVE_SECONDS = 60  # for a worker that is told to stop
BRIEF = 60  # seconds; a worker that fails within them has hardly begun
MOST_BRIEF = 5  # after this many such failures in a row, starting more is pointless


class RayCluster:
    """A connection to a Ray cluster.

    Args:
        address: "auto" (the cluster that this machine belongs to), HOST:PORT of its head, or "local" (a cluster of
            this process alone, which ends with it).
    Attributes:
        host: the address of this machine within the cluster.
        token: a new secret that the workers show to the chief.
        cpus: number of processors of each machine.
        gpus: number of GPUs of all machines.
    Raises:
        UsageError: Ray is not installed, or there is no cluster.
    """

    def __init__(self, address):
        if importlib.util.find_spec("ray") is None:
            raise UsageError("engine='ray' needs ray, which is not installed. Type: pip install 'kerascnn[ray]'")
        import ray

        self.connected = not ray.is_initialized()
        if self.connected:
            _connect(ray, address)
        self.host, self.token = ray.util.get_node_ip_address(), secrets.token_hex(16)
        self.cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        self.gpus = int(ray.cluster_resources().get("GPU", 0))

    def close(self):
        """Leave the cluster, unless the caller had joined it before."""
        import ray

        if self.connected:
            ray.shutdown()


def _connect(ray, address):
    """Join the cluster at an address; the UsageError where that fails says what to do."""
    if address not in ("auto", "local"):
        host, _, port = str(address).rpartition(":")
        if not host or not port.isdecimal():
            raise UsageError(f"address={address!r} is not allowed. Allowed: 'auto', 'local' and 'HOST:PORT'.")
        try:  # Ray itself would try for minutes
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
        except (OSError, OverflowError):
            raise UsageError(f"No Ray cluster answers at {address}. Start one: ray start --head") from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that we start reports to nobody
    try:
        ray.init(address, log_to_driver=False, configure_logging=False)
    except ConnectionError as error:
        raise UsageError(
            f"No Ray cluster answers at {address!r} ({_first_line(error)}). Start one: ray start --head"
        ) from None
    except (RuntimeError, ValueError, OSError) as error:  # such as another version of Ray or of Python
        raise UsageError(f"The Ray cluster at {address!r} cannot be joined: {_first_line(error)}") from None


def _first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def share(cpus, count):
    """The processors that each of `count` workers gets, as many as fit.

    Args:
        cpus: number of processors of each machine.
    Raises:
        UsageError: there are more workers than processors.
    """
    shares = [n for n in range(max(cpus, default=0), 0, -1) if sum(cpu // n for cpu in cpus) >= count]
    if not shares:
        raise UsageError(
            f"workers={count} is too many: the Ray cluster has {counted(sum(cpus), 'processor')}. Each needs one."
        )
    return shares[0]


class RayWorkers:
    """The workers of a search on a cluster, with the methods of `tuning.workers.local.LocalWorkers`.

    Args:
        cluster: RayCluster.
        address: HOST:PORT of the chief.
        token: the chief's token.
        count: number of workers.
        folder: the search's folder.
    """

    def __init__(self, cluster, address, token, count, folder):
        import ray

        cpus = share(cluster.cpus, count)
        gpus = 1 if cluster.gpus >= count else 0
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=-1, retry_exceptions=False)(_work)
        asked = str(Path(folder).resolve() / "search.json")
        self._start = lambda number: task.remote(address, token, number, cpus, asked, _digest(asked), __version__)
        self._running, self._count = {}, count
        self._failures, self._began = 0, {}

    def tend(self):
        """Start every worker that is not running.

        Raises:
            UsageError: a worker cannot begin: it does not see the search's folder, or has another version.
        """
        import ray

        for number in range(self._count):
            task = self._running.get(number)
            if task is None or ray.wait([task], timeout=0)[0]:
                if task is not None:
                    self._check(task, time.monotonic() - self._began[number])
                self._running[number], self._began[number] = self._start(number), time.monotonic()

    def _check(self, task, seconds):
        """Raise an error if a task that ended after some seconds says or shows that starting another is pointless."""
        import ray

        try:
            refusal = ray.get(task)
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            self._failures = self._failures + 1 if seconds < BRIEF else 0
            if self._failures >= MOST_BRIEF:
                raise UsageError(f"Workers on the Ray cluster cannot run: {type(cause).__name__}: {cause}") from None
            return
        if refusal:
            raise UsageError(refusal)

    def gone(self):
        """True once none runs."""
        import ray

        tasks = list(self._running.values())
        return not tasks or len(ray.wait(tasks, num_returns=len(tasks), timeout=0)[0]) == len(tasks)

    def stop(self):
        """Let every worker save its trial and end; one that has not done so within a minute is killed."""
        import ray

        tasks = list(self._running.values())
        for task in tasks:
            ray.cancel(task)
        left = ray.wait(tasks, num_returns=len(tasks), timeout=SAVE_SECONDS)[1] if tasks else []
        for task in left:
            ray.cancel(task, force=True)


def _work(address, token, number, cpus, asked, digest, version):
    """The Ray task: a worker until the search has no more trials; returns why it cannot begin, or ""."""
    here = socket.gethostname()
    if version != __version__:
        return f"The search runs kerascnn {version}, but the worker on {here} has {__version__}. Install that version."
    deadline = time.monotonic() + SEEN_WITHIN
    while _digest(asked) != digest:
        if time.monotonic() > deadline:
            return (
                f"The worker on {here} does not see the search's folder {Path(asked).parent}. Choose a folder that all "
                "machines of the cluster share, mounted at the same place."
            )
        time.sleep(0.5)
    try:
        with _cores(cpus) as cores:
            work(address, token=token, name="ray", number=number, cores=cores, say=lambda line: None)
    except (UsageError, DataError, ChiefGone) as error:
        return f"The worker on {here} ended: {error}"
    return ""


def _digest(path):
    """The SHA-256 of a file, "" where it cannot be read."""
    with contextlib.suppress(OSError):
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return ""


@contextlib.contextmanager
def _cores(number):
    """That many processors of this machine that no other worker of the kind has; any if all are taken."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    groups = [cores[at : at + number] for at in range(0, len(cores) - number + 1, number)]
    for group in groups:
        name = f"kerascnn-cores-{os.getuid()}-{'-'.join(map(str, group[:1]))}.lock"
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(runs.locked(Path(tempfile.gettempdir()) / name))
            except runs.Busy:
                continue
            yield group
            return
    yield None
