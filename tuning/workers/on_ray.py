"""Workers over a Ray cluster: each is one Ray task, which Ray starts again elsewhere when its process or machine dies.

Ray places the workers and nothing else. What they do is what `tuning.workers.worker` does anywhere: they ask the chief
for trials, and a trial continues from its checkpoint in the search's folder, which all machines share.
"""

import contextlib
import os
import socket
import tempfile
import time
from pathlib import Path

from kerascnn import __version__, runs
from kerascnn.clusters import cannot_begin, digest, share
from kerascnn.errors import DataError, UsageError
from tuning.workers.worker import ChiefGone, work

SAVE_SECONDS = 60  # for a worker that is told to stop
BRIEF = 60  # seconds; a worker that fails within them has hardly begun
MOST_BRIEF = 5  # after this many such failures in a row, starting more is pointless


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
        self._start = lambda number: task.remote(address, token, number, cpus, asked, digest(asked), __version__)
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


def _work(address, token, number, cpus, asked, sha, version):
    """The Ray task: a worker until the search has no more trials; returns why it cannot begin, or ""."""
    wrong = cannot_begin("search", asked, sha, version)
    if wrong:
        return wrong
    try:
        with _cores(cpus) as cores:
            work(address, token=token, name="ray", number=number, cores=cores, say=lambda line: None)
    except (UsageError, DataError, ChiefGone) as error:
        return f"The worker on {socket.gethostname()} ended: {error}"
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
