"""Sums over blocks of images whose last bit does not depend on who computed which blocks.

Floating point addition is not associative, so the order of the additions is part of the result. Here it depends on the
blocks' numbers alone: 16 consecutive blocks are added up from left to right into a group, 16 groups into a larger one,
and so on. Shards of a scan keep what they have of each group, and added up in order they give the sums of one pass.
"""

from dataclasses import dataclass

import numpy as np

FAN = 16  # blocks of a group, groups of a larger one


@dataclass
class Part:
    """A group of blocks, whole or its beginning.

    Attributes:
        level: 0 for a block, 1 for a group of FAN blocks, 2 for a group of FAN such groups.
        number: counted from the beginning of the data, among those of its level.
        members: how many of the group, from its first on, have been added up; FAN for a whole one.
        values: (2, rows, channels), the sums.
    """

    level: int
    number: int
    members: int
    values: np.ndarray

    def begins(self, level, number, members):
        """True if this is the beginning of that group, with that many members."""
        return (self.level, self.number, self.members) == (level, number, members)


class Sums:
    """Two sums for each row and channel, over consecutive blocks that are added in order.

    Args:
        shape: (rows, channels).
    """

    def __init__(self, shape):
        self.shape = tuple(shape)
        self.parts = []

    def add(self, block, rows, first, second):
        """Add a block.

        Args:
            block: its number in the whole data.
            rows: int (n,), each once; `first`, `second`: (n, channels), what is added there to the two sums.
        """
        group, member = divmod(block, FAN)
        if member and self.parts and self.parts[-1].begins(1, group, member):
            values, place = self.parts[-1].values, self.parts[-1]
            place.members += 1
        else:
            values, place = np.zeros((2, *self.shape)), None
        values[0, rows] += first
        values[1, rows] += second
        if place is None:
            self._push(0, block, values)
        elif place.members == FAN:
            self.parts.pop()
            self._push(1, group, values)

    def extend(self, later):
        """Add the Sums of the blocks that follow."""
        for part in later.parts:
            if part.members == FAN:
                self._push(part.level, part.number, part.values.copy())
            else:
                self.parts.append(Part(part.level, part.number, part.members, part.values.copy()))

    def _push(self, level, number, values):
        """Append a whole group; its parent is appended in turn where this completes it."""
        parent, member = divmod(number, FAN)
        last = self.parts[-1] if self.parts else None
        if member == 0:
            self.parts.append(Part(level + 1, parent, 1, values))
        elif last and last.begins(level + 1, parent, member):
            last.values += values
            last.members += 1
            if last.members == FAN:
                self.parts.pop()
                self._push(level + 1, parent, last.values)
        else:  # its parent began in an earlier shard
            self.parts.append(Part(level, number, FAN, values))

    def totals(self):
        """(2, rows, channels): the two sums over all blocks."""
        values = np.zeros((2, *self.shape))
        for part in self.parts:
            values += part.values
        return values

    def to_arrays(self):
        """(int (n, 3): level, number and members of each part; float64 (n, 2, rows, channels))."""
        places = np.array([(part.level, part.number, part.members) for part in self.parts], "int64").reshape(-1, 3)
        return places, np.array([part.values for part in self.parts]).reshape(-1, 2, *self.shape)

    @classmethod
    def from_arrays(cls, places, values):
        sums = cls(values.shape[2:])
        sums.parts = [Part(*place, part) for place, part in zip(places.tolist(), values, strict=True)]
        return sums
