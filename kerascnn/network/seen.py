"""What a place of a value sees of the image, as boxes and lines; what moving, mixing and reshaping do to it."""

import dataclasses

import numpy as np

EMPTY = 2**40  # beyond any image


class UnknownReach(Exception):  # noqa: N818 - kept as a value for the steps after it
    """The reach of a step is not known here; the message names the step."""


@dataclasses.dataclass(frozen=True)
class Line:
    """Along an axis of a value, place i sees `size` pixels of the image from `offset + i * stride` on."""

    axis: int
    size: int = 1
    stride: int = 1
    offset: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
    """What each place of a value sees.

    Attributes:
        shape: shape without the batch; None, or with None for sizes, if it is not known.
        boxes: int64 (*shape, 4) top, left, -bottom, -right, so that the hull of several is their minimum; an axis along
            which all places see the same, as channels mostly do, may have length 1. None: no part of the image is seen.
        lines: a Line for the image's rows and one for its columns, ignoring the border; None if there is none.
    """

    shape: tuple
    boxes: np.ndarray | None = None
    lines: tuple = (None, None)

    def along(self, axis):
        """The boxes with the axis spelled out."""
        if self.boxes.shape[axis] == self.shape[axis]:
            return self.boxes
        return np.repeat(self.boxes, self.shape[axis], axis)

    def moved(self, shape, boxes, axes):
        """A Seen whose axis i was axis axes[i] of this one; None for a new axis."""
        kept = [line if line and line.axis in axes else None for line in self.lines]
        lines = tuple(line and dataclasses.replace(line, axis=axes.index(line.axis)) for line in kept)
        return Seen(tuple(shape), boxes, lines)

    def changed(self, axis, length, boxes, line=lambda line: None):
        """A Seen with other boxes along one axis; `line` makes the new Line of that axis."""
        shape = (*self.shape[:axis], length, *self.shape[axis + 1 :])
        return Seen(shape, boxes, tuple(line(x) if x and x.axis == axis else x for x in self.lines))

    def slid(self, axis, length, taps=1, stride=1, dilation=1, before=0):
        """After a window whose place i reads `i * stride - before + t * dilation` for t below `taps`."""
        if (length, taps, stride, before) == (self.shape[axis], 1, 1, 0):
            return self
        moved = np.moveaxis(self.along(axis), axis, 0)
        boxes = np.full((length, *moved.shape[1:]), EMPTY, moved.dtype)
        for tap in range(taps):
            read = np.arange(length) * stride - before + tap * dilation
            valid = (read >= 0) & (read < len(moved))
            boxes[valid] = np.minimum(boxes[valid], moved[read[valid]])

        def line(old):
            size = old.size + (taps - 1) * dilation * old.stride
            return Line(axis, size, old.stride * stride, old.offset - before * old.stride)

        return self.changed(axis, length, np.moveaxis(boxes, 0, axis), line)

    def gathered(self, axis, reads):
        """After a step whose place i reads the places that row i of `reads`, bool (new, old), marks."""
        moved = np.moveaxis(self.along(axis), axis, 0)
        empty = np.full(moved.shape[1:], EMPTY, moved.dtype)
        boxes = np.stack([moved[row].min(0) if row.any() else empty for row in reads])
        return self.changed(axis, len(reads), np.moveaxis(boxes, 0, axis))

    def mixed(self, axes, kept=True):
        """After a step whose places see all places along some axes; without `kept` the axes are gone."""
        axes = tuple(axis for axis in axes if self.shape[axis] != 1 or not kept)
        boxes = self.boxes.min(axes, keepdims=True)
        mixed = Seen(self.shape, boxes, tuple(x if x and x.axis not in axes else None for x in self.lines))
        if kept:
            return mixed
        rest = [axis for axis in range(len(self.shape)) if axis not in axes]
        return mixed.moved([self.shape[axis] for axis in rest], boxes.squeeze(axes), rest)

    def reshaped(self, shape):
        """After a reshape: the first and last axes that stay as they are keep their boxes and lines."""
        first = _alike(self.shape, shape)
        last = min(_alike(self.shape[::-1], shape[::-1]), len(self.shape) - first, len(shape) - first)
        dims, rest = self.boxes.shape[:-1], slice(first, len(self.shape) - last)
        boxes, new = self.boxes, shape[first : len(shape) - last]
        if set(dims[rest]) <= {1}:
            new = [1] * len(new)
        else:
            boxes = np.broadcast_to(boxes, (*dims[:first], *self.shape[rest], *dims[rest.stop :], 4))
        boxes = boxes.reshape((*dims[:first], *new, *dims[rest.stop :], 4))
        axes = [*range(first), *[None] * len(new), *range(rest.stop, len(self.shape))]
        return self.moved(shape, boxes, axes)

    def with_channels(self, count):
        """The same for another number of channels, each of which sees what all saw."""
        return Seen((*self.shape[:-1], count), self.boxes, self.lines)

    def fitted(self, shape):
        """The same for a `shape` that it was repeated to along axes of length 1, or None for another shape."""
        if len(shape) != len(self.shape) or any(m not in (1, n) for m, n in zip(self.shape, shape, strict=True)):
            return None
        kept = [line if line and self.shape[line.axis] == shape[line.axis] else None for line in self.lines]
        return Seen(tuple(shape), self.boxes, tuple(kept))


def _alike(a, b):
    """How many numbers are the same at the beginning of two tuples."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
