"""One block of images through the network, reduced to a few numbers a channel before it leaves the device."""

import functools

import numpy as np
from keras import ops

from kerascnn import backends
from kerascnn.explain.walk import Task, needed_steps, walk
from kerascnn.network.plan import read_constants

NUMBERS_AT_ONCE = 2**18  # of candidates' maps, to bound memory
GOLDEN = 0.6180339887498949
TINY = 2.0**-100  # sums of squares below it lose digits in float32


class Block:
    """What comes out of a block for one layer.

    Attributes:
        maximum, total, squares, zeros: (images, channels), over the places; see `Statistics.add`.
        sample: (images, places sampled, channels).
    """

    def __init__(self, values, reduced, centre):
        self._values = values  # (images, places, channels), on the device
        self.maximum, self.total, self.squares, zeros, self.sample = map(ops.convert_to_numpy, reduced)
        self.zeros = np.rint(zeros).astype("int64")  # a count, from means
        self._sum_again(centre)

    def _sum_again(self, centre):
        """Take the sums that float32 cannot hold, of huge or tiny activations, again in float64."""
        lost = (self.squares < TINY) & (self.maximum != centre)
        rows, channels = np.nonzero(lost | ~np.isfinite(self.squares) | ~np.isfinite(self.total))
        if not len(rows):
            return
        maps = self.maps(rows, channels).astype("float64")
        self.total, self.squares = self.total.astype("float64"), self.squares.astype("float64")
        with np.errstate(invalid="ignore"):  # infinite activations are an error later
            self.total[rows, channels] = maps.sum(1)
            self.squares[rows, channels] = ((maps - centre[channels, None]) ** 2).sum(1)

    def maps(self, rows, channels):
        """(len(rows), places): the maps of some images' channels."""
        count, (_, places, width) = len(rows), self._values.shape
        maps = np.empty((count, places), "float32")
        flat, most = ops.reshape(self._values, (-1,)), max(1, NUMBERS_AT_ONCE // places)
        for first in range(0, count, most):
            part = slice(first, min(first + most, count))
            size = part.stop - first
            padded = min(most, 1 << max(4, (size - 1).bit_length()))  # few shapes, for backends that compile
            start = np.zeros(padded, "int64")
            start[:size] = rows[part] * (places * width) + channels[part]
            index = start[:, None] + np.arange(places) * width
            maps[part] = ops.convert_to_numpy(ops.take(flat, index))[:size]
        return maps


class BlockPass:
    """A compiled forward pass to some layers, with the reductions.

    Args:
        plan: the model's plan.
        values: numbers of the layers' values in the plan.
        size: images a block; shorter blocks are filled up with their last image.
        samples: places of each image and map that come out for histograms; None: all.
    """

    def __init__(self, plan, values, size, samples):
        self.size, self.samples = size, samples
        self.constants = read_constants(plan, "float32")
        self._task = Task(needed_steps(plan.steps, values), plan.inputs, values)
        shapes = tuple(tuple(c.shape) for c in self.constants)
        self._forward, self._reduce = _compiled(self._task, size, tuple(plan.shapes[plan.inputs[0]]), shapes)
        self.centres = self.shapes = None

    def weights(self):
        """The weights that the pass needs, as arrays."""
        numbers = {number for step in self._task.steps for number in step.weights}
        return [ops.convert_to_numpy(self.constants[-number - 1]) for number in sorted(numbers)]

    def begin(self, images):
        """Finds the layers' shapes, and from the first image the values from which squares are taken."""
        outputs = self._forward(self._filled(images), self.constants)
        self.shapes = [tuple(map(int, f.shape[1:])) for f in outputs]
        first = [ops.convert_to_numpy(f[0]) for f in outputs]
        self.centres = [f.reshape(-1, f.shape[-1]).mean(0, dtype="float64").astype("float32") for f in first]

    def __call__(self, images, first):
        """A list of Blocks, one per layer.

        Args:
            images: float32 (N, H, W, C), N at most `size`.
            first: number of the first image in the whole data, on which the places sampled depend.
        """
        count = len(images)
        numbers = first + np.arange(self.size)
        centres = [ops.convert_to_tensor(c) for c in self.centres]
        rows = []
        for shape in self.shapes:
            places = sample_places(numbers, _places(shape), self.samples)
            rows.append(ops.convert_to_tensor(places + _places(shape) * np.arange(self.size)[:, None]))
        reductions = self._reduce(self._filled(images), self.constants, centres, rows)
        return [
            Block(values, [part[:count] for part in reduced], centre)
            for (values, *reduced), centre in zip(reductions, self.centres, strict=True)
        ]

    def _filled(self, images):
        missing = self.size - len(images)
        if missing:
            images = np.concatenate([images, np.repeat(images[-1:], missing, 0)])
        return ops.convert_to_tensor(images)


@functools.lru_cache(maxsize=16)
def _compiled(task, size, image_shape, constant_shapes):
    """(forward, reduce), compiled once for all passes over networks of one kind, however their weights change."""
    reduced = functools.partial(_reduced, task, size)
    return backends.compiled(functools.partial(_forward, task)), backends.compiled(reduced)


def _forward(task, images, constants):
    return walk(task, [images], constants, [])[0]


def _reduced(task, size, images, constants, centres, rows):
    """For each layer (values, maximum, total, squares, zeros, sample), as in `Block`."""
    reductions = []
    for values, centre, index in zip(_forward(task, images, constants), centres, rows, strict=True):
        channels = values.shape[-1]
        sample = ops.take(ops.reshape(values, (-1, channels)), ops.reshape(index, (-1,)), 0)
        flat, sample = (ops.reshape(x, (size, -1, channels)) for x in (values, sample))
        reductions.append((flat, *backends.over_places(values, centre), sample))
    return reductions


def _places(shape):
    return int(np.prod(shape[:-1]))


def sample_places(numbers, places, samples):
    """(len(numbers), n) places of each image's map: evenly spread, shifted from image to image by the golden ratio.

    Args:
        numbers: the images' numbers in the whole data.
        places: how many there are.
        samples: how many are wanted; None: all.
    """
    count = places if samples is None else min(samples, places)
    shift = (np.asarray(numbers) * GOLDEN % 1)[:, None] * places / count
    return (np.arange(count) * places / count + shift).astype("int64") % places
