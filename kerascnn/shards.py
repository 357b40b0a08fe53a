"""Work in shards: which images shard i of n takes, and whether all shards are there before they are merged.

Shards are numbered from 1. Each takes whole blocks of consecutive images, so that every image is computed in the same
batch as without shards.
"""

import re

from kerascnn.errors import UsageError, counted

GROUP = 16  # blocks that shards keep together where there are enough of them; see `kerascnn.dataset_scan.sums`


def parse_shard(text):
    """(i, n) of what was typed, such as "3/16".

    Raises:
        UsageError: it is not a shard.
    """
    match = re.fullmatch(r"\s*([0-9]+)\s*/\s*([0-9]+)\s*", text)
    if not match:
        raise UsageError(
            f"shard={text!r} is not allowed: it must be the number of a shard and how many there are, such as 1/16 to "
            "16/16."
        )
    return check_shard((int(match[1]), int(match[2])))


def check_shard(shard):
    """The shard (i, n) as two ints; a UsageError if it is not one."""
    try:
        number, count = (int(n) for n in shard if int(n) == n)
    except (TypeError, ValueError):
        raise UsageError(f"shard={shard!r} is not allowed: it must be (i, n), such as (1, 16) to (16, 16).") from None
    if not 1 <= number <= count:
        allowed = f"1/{count} to {count}/{count}" if count > 0 else "1/1 and so on"
        raise UsageError(f"shard={number}/{count} is not allowed. Allowed: {allowed}.")
    return number, count


def shard_range(shard, images, block):
    """(first, stop): the numbers of the images that a shard takes.

    Args:
        shard: (i, n).
        images: how many there are.
        block: images that are computed together.
    Raises:
        UsageError: there are more shards than blocks.
    """
    number, count = check_shard(shard)
    blocks = -(-images // block)
    if count > blocks:
        raise UsageError(
            f"shard={number}/{count} is not allowed: {counted(images, 'image')} make {counted(blocks, 'block')} of "
            f"{block}, so there can be at most {counted(blocks, 'shard')}."
        )
    unit = block * (GROUP if blocks >= GROUP * count else 1)
    units = -(-images // unit)
    return units * (number - 1) // count * unit, min(images, units * number // count * unit)


def check_one_job(manifests, what, words):
    """Raise a UsageError if shards do not belong to one job, or one is not a shard.

    Args:
        manifests: (name, dict) pairs; their entries must be equal except for "shard", which a whole result lacks.
        what: what they are shards of, such as "scan".
        words: {entry: what it says of the job}, for the message.
    """
    for name, manifest in manifests:
        if "shard" not in manifest:
            raise UsageError(f"{name} is not a shard but a whole result, so there is nothing to merge it with.")
    (first, one), *others = manifests
    for name, other in others:
        entries = [entry for entry in dict.fromkeys([*one, *other]) if entry != "shard"]
        differing = [entry for entry in entries if one.get(entry) != other.get(entry)]
        if differing:
            told = ", ".join(dict.fromkeys(words.get(entry, entry) for entry in differing))
            raise UsageError(f"{first} and {name} do not belong to one {what}. They differ in: {told}.")


def in_order(shards):
    """The places of the given shards, in order of their numbers.

    Args:
        shards: (name, (i, n)) pairs.
    Raises:
        UsageError: one is of another number of shards, given twice, or missing.
    """
    first, count, places = shards[0][0], None, {}
    for place, (name, shard) in enumerate(shards):
        number, others = shard
        count = count or others
        if others != count:
            raise UsageError(f"{name} is shard {number}/{others}, but {first} is one of {count} shards.")
        if number in places:
            raise UsageError(
                f"Shard {number}/{count} was given twice: {shards[places[number]][0]} and {name}. Name it once."
            )
        places[number] = place
    missing = [f"{number}/{count}" for number in range(1, count + 1) if number not in places]
    if missing:
        more = f" and {len(missing) - 8:,} more" if len(missing) > 8 else ""
        raise UsageError(
            f"{counted(len(missing), 'shard is', 'shards are')} missing: {', '.join(missing[:8])}{more}. Compute "
            f"{'it' if len(missing) == 1 else 'them'} first, and name all {count}."
        )
    return [places[number] for number in range(1, count + 1)]
