"""What the commands with --shard have in common: the names of their files, and what they say."""

import shlex

from kerascnn.errors import UsageError


def shard_file(what, shard):
    """What the file of a shard (i, n) is called, such as scan-03-of-16.npz."""
    number, count = shard
    return f"{what}-{number:0{len(str(count))}}-of-{count}.npz"


def check_absent(path):
    """The path; a UsageError if something is there already."""
    if path.exists():
        raise UsageError(f"{path} already exists. Name another --out, or delete it.")
    return path


def merge_hint(path, shard):
    """What to say when a shard is written: where it is, and how to merge all."""
    what, count = path.name.split("-")[0], shard[1]
    names = "SHARD SHARD ..."  # of the user's choice
    if path.name == shard_file(what, shard):
        folder = str(path).removesuffix(path.name)
        names = f"{folder and shlex.quote(folder)}{what}-*-of-{count}.npz"
    return f"{path}\nWhen all {count} are done: kerascnn merge {names} -o OUT"
