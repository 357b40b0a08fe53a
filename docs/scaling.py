"""The tables of "Scaling on paper" in docs/many-machines.md: python docs/scaling.py

What a step computes, sends and reads, from `kerascnn.anatomy.cost` and five numbers of a host. A test keeps the page
equal to what this prints.
"""

from dataclasses import dataclass

from kerascnn import anatomy
from kerascnn.models import MODELS
from kerascnn.network import graph
from kerascnn.text_table import text_table

HOSTS = (1, 2, 8, 32, 128, 512, 1000)
TRAINING = 3 * 2  # operations a multiply-accumulate of the forward pass costs in training: forward, and twice backward


@dataclass(frozen=True)
class Host:
    """What a host does and sends.

    Attributes:
        operations: floating-point operations a second that it really does.
        network: bytes a second that it sends while it receives as many.
        latency: seconds from a host to its neighbour.
    """

    operations: float
    network: float
    latency: float


@dataclass(frozen=True)
class Case:
    """A training: the network, images of all hosts in a step, optimizer, and bytes of an image as it is read."""

    title: str
    model: str
    batch_size: int
    optimizer: str
    image_bytes: int
    host: Host


CASES = (
    Case(
        "resnet50 on hosts with eight accelerators (8 x 4e14 operations/s, 50 GB/s, 20 us), 8,192 images a step, SGD, "
        "JPEG files of 110 kB",
        *("resnet50", 8192, "sgd_momentum", 110_000),
        Host(8 * 4e14, 50e9, 20e-6),
    ),
    Case(
        "cifar_net on hosts with two cores (1.6e11 operations/s, 1.25 GB/s, 50 us), 4,096 images a step, Adam, pixels "
        "of 3 kB",
        *("cifar_net", 4096, "adam", 3072),
        Host(1.6e11, 1.25e9, 50e-6),
    ),
)


def step(operations, gradient_bytes, host, hosts):
    """(seconds of computing, seconds of the all-reduce) of a step.

    A ring sends 2 (H - 1) / H of the gradients from each host, in 2 (H - 1) turns (Patarasuk and Yuan 2009).

    Args:
        operations: of all hosts together.
        gradient_bytes: of the whole network.
    """
    turns = 2 * (hosts - 1)
    return operations / hosts / host.operations, turns * (gradient_bytes / hosts / host.network + host.latency)


def saturation(operations, gradient_bytes, host):
    """The least number of hosts for which the all-reduce takes as long as computing."""
    hosts = 1
    while True:
        compute, reduce = step(operations, gradient_bytes, host, hosts)
        if reduce >= compute:
            return hosts
        hosts += 1


def fastest(operations, gradient_bytes, host):
    """The number of hosts with which a step takes least: with more, the latency of the ring's turns costs more than
    their computing saves."""
    times = {hosts: sum(step(operations, gradient_bytes, host, hosts)) for hosts in range(1, 2001)}
    return min(times, key=times.get)


def table(case):
    """The table of a case, as text."""
    with graph.without_weights():
        measured = anatomy.cost(MODELS.get(case.model)(), case.batch_size, "float32", case.optimizer)
    operations = TRAINING * measured.macs * case.batch_size
    alone = sum(step(operations, measured.gradient_bytes, case.host, 1))
    rows = []
    for hosts in HOSTS:
        compute, reduce = step(operations, measured.gradient_bytes, case.host, hosts)
        speed = case.batch_size / (compute + reduce)
        sent = 2 * (hosts - 1) / hosts * measured.gradient_bytes
        numbers = (
            case.batch_size / hosts,
            1e3 * compute,
            1e3 * reduce,
            sent / 1e6,
            speed,
            speed * case.image_bytes / 1e6,
        )
        rows.append((f"{hosts:,}", *map(_shown, numbers), f"{100 * alone / hosts / (compute + reduce):.0f}%"))
    header = ("hosts", "images a host", "compute, ms", "all-reduce, ms", "sent a host, MB")
    header += ("images/s", "read by all, MB/s", "of ideal")
    sizes = operations, measured.gradient_bytes, case.host
    kept = measured.weight_bytes + measured.optimizer_bytes
    last = (
        f"gradients {measured.gradient_bytes / 1e6:,.1f} MB, a checkpoint {kept / 1e6:,.1f} MB; from "
        f"{saturation(*sizes):,} hosts on, the all-reduce takes as long as computing; {fastest(*sizes):,} are fastest"
    )
    return "\n".join((case.title, "", text_table(header, rows, "r" * len(header)), "", last))


def _shown(number):
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def page():
    """Both tables, as text."""
    return "\n\n".join(map(table, CASES))


if __name__ == "__main__":
    print(page())
