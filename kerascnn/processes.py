"""Processes that ours starts, processors, memory, and sockets that listen."""

import os
import socket
import sys
from pathlib import Path


def python_module(name):
    """The command that runs a module as a process, without the working folder's own modules unless we see them, too."""
    seen = "" in sys.path or os.getcwd() in sys.path
    return [sys.executable, *([] if seen else ["-P"]), "-m", name]


def num_cpus():
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory():
    """Bytes of memory that this process can still take: of the machine, or of its container if that is less."""
    amounts = []
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":") for line in file)
        amounts.append(int(fields["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        try:
            amounts.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
        except (AttributeError, ValueError, OSError):
            amounts.append(4 << 30)
    try:
        group = Path("/sys/fs/cgroup")
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        used = int((group / "memory.current").read_text()) - int(stat["inactive_file"])  # less what is only a cache
        amounts.append(int((group / "memory.max").read_text()) - used)
    except (OSError, KeyError, ValueError):
        pass
    try:
        import resource

        soft = resource.getrlimit(resource.RLIMIT_AS)[0]
        if soft != resource.RLIM_INFINITY:
            amounts.append(soft)
    except ImportError:
        pass
    return max(0, min(amounts))


def listening_socket(host, port):
    """A TCP socket that listens at an address, on whose connections answers are sent at once.

    Connections inherit the option. asyncio sets it only where a socket's protocol is named, which `create_server` does
    not do; an answer in two parts would then wait 40 ms for the client's delayed acknowledgement.
    """
    sock = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
