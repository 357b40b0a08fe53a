"""What computes for the service: all images of one moment as one batch, in few threads, and a bounded queue."""

import asyncio
import base64
import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from kerascnn import backends
from kerascnn.dataset_scan.scanned_layers import scanned_layers
from kerascnn.errors import UsageError, unknown
from kerascnn.experiments.unit_ablation import Tail
from kerascnn.explain import activations, maps
from kerascnn.explain.answers import class_probabilities
from kerascnn.explain.sheets import is_signed, limit_of, one_value_per_pixel, range_of
from kerascnn.explain.subjects import check_images, opaque_step
from kerascnn.network.plan import make_plan
from kerascnn.plots import HEAT, SIGNED

AT_ONCE, WAITING = 32, 512  # images of a batch, and images that may wait
SLICE = WAITING // 4  # images of one request that wait, so that several large ones can
LOOKS = 32  # looks, maps and answers without units that may wait
MOST_UNITS = 256  # maps of a layer that are drawn
TILE = 64  # pixels of a map on the page, at least


class Busy(Exception):  # noqa: N818 (what happened)
    """More waits than may."""


class Refused(Exception):  # noqa: N818
    """A request that is not allowed: a sentence and the HTTP status."""

    def __init__(self, text, status=400):
        super().__init__(text)
        self.status = status


class Engine:
    """Computes with one classifier: looks in one thread, batches of answers in as many as the backend allows.

    If it allows one, that is the thread of the looks: Keras on JAX takes the weights out of a model that predicts.
    """

    def __init__(self, classifier):
        self.classifier = classifier
        self.pool = ThreadPoolExecutor(1)
        self.at_once = backends.predictions_at_once()
        self.answering = ThreadPoolExecutor(self.at_once) if self.at_once > 1 else self.pool
        self.pending, self.computing = [], {}  # (pixels, future) that wait, and {task: images} of batches
        self.layers = _layers(classifier.model)
        self.plan = make_plan(classifier.model, opaque_step)
        self.predict, self.looking = backends.predictor(classifier.model), 0
        self.batches = self.images = 0  # computed so far

    async def answer(self, pixels):
        """Probabilities (num_classes,) of uint8 pixels (*resize_to, C); images that wait together are one batch."""
        if len(self.pending) >= WAITING:
            raise Busy
        future = asyncio.get_running_loop().create_future()
        self.pending.append((pixels, future))
        self._compute()
        return await future

    async def answers(self, pixels):
        """Probabilities (N, num_classes) of the images of one request, of which at most SLICE wait at a time."""
        rows = []
        for first in range(0, len(pixels), SLICE):
            rows += await asyncio.gather(*map(self.answer, pixels[first : first + SLICE]))
        return np.stack(rows)

    def _compute(self):
        """Begin a batch of what waits: if none is being computed, or beside one that is no larger."""
        sizes = self.computing.values()
        while self.pending and len(sizes) < self.at_once and len(self.pending) >= min(sizes, default=1):
            some, self.pending = self.pending[:AT_ONCE], self.pending[AT_ONCE:]
            task = asyncio.ensure_future(self._answer(some))
            self.computing[task] = len(some)
            task.add_done_callback(self._computed)

    def _computed(self, task):
        del self.computing[task]
        self._compute()

    async def _answer(self, some):
        """Give each image of a batch its answer, or all of them the error."""
        try:
            pixels = np.stack([pixels for pixels, _ in some])
            answers = await asyncio.get_running_loop().run_in_executor(self.answering, self._answers, pixels)
        except Exception as error:
            for _, future in some:
                if not future.done():
                    future.set_exception(error)
            return
        self.batches, self.images = self.batches + 1, self.images + len(some)
        for (_, future), row in zip(some, answers, strict=True):
            if not future.done():
                future.set_result(row)

    async def look_at(self, function, *arguments):
        """The result of a function that looks at one image; of a bounded number at a time."""
        if self.looking >= LOOKS:
            raise Busy
        self.looking += 1
        try:
            return await self.do(function, *arguments)
        finally:
            self.looking -= 1

    def do(self, function, *arguments):
        """The result of a function that uses the model, as something to be awaited."""
        return asyncio.get_running_loop().run_in_executor(self.pool, function, *arguments)

    def _answers(self, pixels):
        scores = self.predict(self.classifier.preprocessing(pixels))
        return np.asarray(class_probabilities(self.classifier.model, scores))

    def look(self, pixels, method):
        """{"map": a PNG with transparency over the image, "image", "range"} of the image's top class."""
        prepared = self.classifier.preprocessing
        seen = prepared.crop(pixels[None])
        values = one_value_per_pixel(maps(method, self.classifier.model, prepared.scale(seen))[0])
        signed = is_signed(method, values)
        limit = limit_of(values) if signed else float(values.max()) or 1.0
        part = np.clip(values / limit, -1 if signed else 0, 1)
        from matplotlib import colormaps

        colours = colormaps[SIGNED]((part + 1) / 2) if signed else colormaps[HEAT](part)
        colours[..., 3] = np.abs(part) ** 0.5
        image = seen[0][..., 0] if seen.shape[-1] == 1 else seen[0]
        return {
            "map": _uri(Image.fromarray(np.round(255 * colours).astype("uint8"), "RGBA")),
            "image": _uri(Image.fromarray(image).convert("RGB")),
            "range": range_of(values, signed),
        }

    def maps_of(self, pixels, name, largest=None):
        """{"sheet": PNG, "tile": (width, height), "columns", "count", "channels", "largest"} of the maps of a layer.

        Args:
            largest: what is white; None: the largest absolute value.
        """
        values = activations(self.classifier.model, self._input(pixels), self._layer(name).output)[0]
        height, width, channels = values.shape
        count = min(channels, MOST_UNITS)
        largest = largest or float(np.abs(values).max()) or 1.0
        larger = max(1, round(TILE / max(height, width)))
        columns = 8
        rows = -(-count // columns)
        sheet = np.zeros((rows * height * larger, columns * width * larger), "uint8")
        for number in range(count):
            tile = np.clip(255 * values[..., number] / largest, 0, 255).repeat(larger, 0).repeat(larger, 1)
            top, left = number // columns * height * larger, number % columns * width * larger
            sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile.astype("uint8")
        return {
            "sheet": _uri(Image.fromarray(sheet)),
            "tile": [width * larger, height * larger],
            "columns": columns,
            "count": count,
            "channels": channels,
            "largest": largest,
        }

    def ablated(self, pixels, name, units):
        """(probabilities with all units, without some units of a layer), each (num_classes,)."""
        layer = self._layer(name)
        wrong = [unit for unit in units if not 0 <= unit < layer.channels]
        if wrong:
            raise Refused(f"Layer {name!r} has no unit {wrong[0]}: it has {layer.channels}, 0 to {layer.channels - 1}.")
        arrays = check_images(self.classifier.model, self.plan, self._input(pixels))
        tail = Tail(self.plan, arrays, layer.value, 1)
        return tail.whole[0], tail.without(units, np.zeros(tail.channels))[0] if units else tail.whole[0]

    def _input(self, pixels):
        return self.classifier.preprocessing(pixels[None])

    def _layer(self, name):
        for layer in self.layers:
            if name in (layer.name, layer.layer):
                return layer
        raise Refused(str(unknown("layer", name, [layer.layer for layer in self.layers])))


def _layers(model):
    """What the next layer sees of every convolution; [] where a network has none."""
    try:
        return scanned_layers(model)
    except UsageError:
        return []


def _uri(picture):
    file = io.BytesIO()
    picture.save(file, "png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
