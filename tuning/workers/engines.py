"""Where a search's workers run: on this machine, or over a Ray cluster."""

import contextlib
import socket
from pathlib import Path

from kerascnn.clusters import RayCluster, share
from kerascnn.errors import UsageError, counted, unknown
from tuning.workers.local import LocalWorkers
from tuning.workers.on_ray import RayWorkers
from tuning.workers.service import LOOPBACK

ENGINES = ("local", "ray")
EVERYWHERE = ("0.0.0.0", "[::]")  # hosts that stand for all addresses of this machine, and are none to others


def stored(engine, storage, out, resume):
    """The folder of the search and whether it is resumed, given `storage` where that is used.

    Raises:
        UsageError: an engine that is not known, or a storage that is not allowed.
    """
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    if storage is None:
        return out, resume
    if engine != "ray" or out is not None:
        other = "out" if out is not None else f"engine={engine!r}"
        raise UsageError(f"storage={str(storage)!r} is not allowed with {other}. It works only with engine='ray'.")
    if "://" in str(storage):
        raise UsageError(
            f"storage={str(storage)!r} is a URL. It must be a folder that all machines see: mount it and give its path."
        )
    return storage, (Path(storage) / "search.json").exists()


def connected(engine, address, workers, held):
    """The RayCluster and the number of workers on it, or (None, workers) without Ray.

    Args:
        address: as of `RayCluster`.
        workers: number of workers; None with Ray: one for each machine.
        held: contextlib.ExitStack at whose end the cluster is left.
    """
    if engine != "ray":
        return None, workers
    cluster = held.enter_context(contextlib.closing(RayCluster(address)))
    count = len(cluster.cpus) if workers is None else workers
    share(cluster.cpus, count)
    return cluster, count


def team(count, cluster, address, token, folder, say):
    """The workers that the search starts itself; `say` tells how others join.

    Args:
        count: number of workers.
        cluster: RayCluster, or None.
        address: HOST:PORT of the chief.
        token: the chief's token.
        folder: the search's folder.
    """
    if cluster is not None:
        say(f"{counted(count, 'worker')} on the Ray cluster of {counted(len(cluster.cpus), 'machine')}")
        host, _, port = address.rpartition(":")
        if host in EVERYWHERE:
            address = f"[{cluster.host}]:{port}" if ":" in cluster.host else f"{cluster.host}:{port}"
        return RayWorkers(cluster, address, token, count, folder)
    if not count or address.rpartition(":")[0] not in LOOPBACK:
        host, _, port = address.rpartition(":")
        reached = f"{socket.gethostname()}:{port}" if host in EVERYWHERE else address
        say(f"Workers join with: kerascnn tune-worker --join {reached}" + (" --token ..." if token else ""))
    return LocalWorkers(address, token, count)
