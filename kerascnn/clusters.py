"""Ray clusters: joining one, sharing out its processors, and whether its machines see a folder."""

import contextlib
import hashlib
import importlib.util
import os
import secrets
import socket
import time
from pathlib import Path

from kerascnn import __version__
from kerascnn.errors import UsageError, counted

SEEN_WITHIN = 30  # seconds in which a new file appears on a shared file system
CONNECT_SECONDS = 5  # for a cluster that is there


class RayCluster:
    """A connection to a Ray cluster.

    Args:
        address: "auto" (the cluster that this machine belongs to), HOST:PORT of its head, or "local" (a cluster of
            this process alone, which ends with it).
    Attributes:
        host: the address of this machine within the cluster.
        token: a new secret of this connection.
        cpus: number of processors of each machine.
        gpus: number of GPUs of all machines.
        gpus_each: 1 if every machine has a GPU, else 0.
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
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        machines = [node for node in nodes if node.get("CPU", 0) >= 1]  # a head may have none for others
        self.cpus = [int(machine["CPU"]) for machine in machines]
        if not self.cpus:
            self.close()
            raise UsageError(
                f"The Ray cluster at {address!r} has no machine with a processor for tasks. Start one: ray start "
                "--address HOST:PORT"
            )
        self.gpus = int(ray.cluster_resources().get("GPU", 0))
        self.gpus_each = min([1, *(int(machine.get("GPU", 0)) for machine in machines)])

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
            f"No Ray cluster answers at {address!r} ({_one_line(error)}). Start one: ray start --head"
        ) from None
    except (RuntimeError, ValueError, OSError) as error:  # such as another version of Ray or of Python
        told = _one_line(error)
        if "No node info" in told:
            told = "this machine does not belong to it. Type here: ray start --address HOST:PORT"
        elif "ersion mismatch" in told:
            told += " Install the same versions of Ray and Python."
        raise UsageError(f"The Ray cluster at {address!r} cannot be joined: {told}") from None


def _one_line(error):
    return " ".join(str(error).split()) or type(error).__name__


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


def cannot_begin(what, asked, sha, version):
    """Why a task cannot begin on this machine, or "".

    Args:
        what: what the task belongs to, such as "search".
        asked: a file in the folder that all machines must share.
        sha: that file's `digest` where the task was made.
        version: of kerascnn there.
    """
    here = socket.gethostname()
    if version != __version__:
        return f"The {what} runs kerascnn {version}, but the worker on {here} has {__version__}. Install that version."
    deadline = time.monotonic() + SEEN_WITHIN
    while digest(asked) != sha:
        if time.monotonic() > deadline:
            return (
                f"The worker on {here} does not see the {what}'s folder {Path(asked).parent}. Choose a folder that all "
                "machines of the cluster share, mounted at the same place."
            )
        time.sleep(0.5)
    return ""


def digest(path):
    """The SHA-256 of a file, "" where it cannot be read."""
    with contextlib.suppress(OSError):
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return ""
