"""Processes that ours starts, and processors."""

import os
import sys


def python_module(name):
    """The command that runs a module as a process, without the working folder's own modules unless we see them, too."""
    seen = "" in sys.path or os.getcwd() in sys.path
    return [sys.executable, *([] if seen else ["-P"]), "-m", name]


def num_cpus():
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
