"""One training on four machines of a Ray cluster, which share the file system: python docs/train-ray.py

Each machine runs "kerascnn train ... --hosts auto" as one Ray task. When a machine or a process dies, the others end,
and all begin again: the command is the same, so they resume from the last checkpoint. What would only fail again (exit
codes 1 and 2) is not repeated. Environment variables replace the settings below.
"""

import os
import shlex
import socket
import subprocess
import sys

import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

HOSTS = int(os.environ.get("HOSTS", "4"))
CPUS = int(os.environ.get("CPUS", "16"))  # of each machine
GPUS = int(os.environ.get("GPUS", "0"))
RESTARTS = int(os.environ.get("RESTARTS", "3"))
DATA = os.environ.get("DATA", os.path.expanduser("~/photos"))
RUN = os.environ.get("RUN", os.path.expanduser("~/runs/photos"))
OPTIONS = os.environ.get("OPTIONS", "--model resnet18 --batch-size 512 --epochs 90 --checkpoint-minutes 2")
KERASCNN = os.environ.get("KERASCNN", "kerascnn")


@ray.remote(num_cpus=0)
def free_address():
    """HOST:PORT at which the first machine can be reached."""
    with socket.socket() as found:
        found.bind(("", 0))
        return f"{ray.util.get_node_ip_address()}:{found.getsockname()[1]}"


@ray.remote(max_retries=0)
def train(number, address):
    """The exit code of one host's training."""
    command = [*shlex.split(KERASCNN), "train", DATA, *shlex.split(OPTIONS), "--out", RUN, "--hosts", "auto"]
    told = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(HOSTS), "JAX_PROCESS_ID": str(number)}
    return subprocess.run(command, env={**os.environ, "KERAS_BACKEND": "jax", **told}, check=False).returncode


def code_of(task):
    """A task's exit code; 75, as that of a host which has lost another, if the task or its machine is gone."""
    try:
        return ray.get(task)
    except ray.exceptions.RayError:
        return os.EX_TEMPFAIL


def main():
    ray.init(os.environ.get("RAY_ADDRESS", "auto"))
    group = placement_group([{"CPU": CPUS, **({"GPU": GPUS} if GPUS else {})}] * HOSTS, strategy="STRICT_SPREAD")
    ray.get(group.ready())
    places = [PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=number) for number in range(HOSTS)]
    for _ in range(RESTARTS + 1):
        address = ray.get(free_address.options(scheduling_strategy=places[0]).remote())
        options = {"num_cpus": CPUS, "num_gpus": GPUS}
        tasks = [
            train.options(**options, scheduling_strategy=place).remote(number, address)
            for number, place in enumerate(places)
        ]
        codes = list(map(code_of, tasks))
        if not any(codes):
            return 0
        if {1, 2}.intersection(codes):
            return next(code for code in codes if code in (1, 2))
    return os.EX_TEMPFAIL


if __name__ == "__main__":
    sys.exit(main())
