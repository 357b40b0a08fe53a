"""Guided backpropagation and deconvnet for the strongest patches of many units, many at a time.

The results equal those of `kerascnn.explain.guided_backprop` and `deconvnet` for the same neurons. Two things make this
faster. Both walks share one forward pass. And if a neuron sees only a part of the image, the walk uses a window of the
image, cut at a multiple of the layer's stride, so that every value that the neuron depends on is computed in the same
way. This is checked on the first units of a layer; if it fails, whole images are used.
"""

import functools

import numpy as np
from keras import ops

from kerascnn import backends
from kerascnn.errors import UsageError
from kerascnn.explain.subjects import exact_step
from kerascnn.explain.targets import both_scores, score_value
from kerascnn.explain.walk import Task, backward, forward, needed_steps, seed_array
from kerascnn.network.plan import make_plan, read_constants
from kerascnn.network.receptive_field import receptive_field

METHODS = ("guided_backprop", "deconvnet")
AT_ONCE = 24  # neurons walked together


class Walker:
    """Maps of one layer's neurons.

    Args:
        subject: the Subject.
        each: the SiteLayer.
        geometry: geometry of the layer, see `kerascnn.dataset_scan.geometry`.
    Raises:
        UsageError: there is a layer without a rule on the way.
    """

    def __init__(self, subject, each, geometry):
        self._subject, self._geometry = subject, geometry
        plan = make_plan(subject.model, exact_step("guided_backprop"))
        value = plan.layers[each.scanned.output.partition("#")[0]]
        value = value[int(each.scanned.output.partition("#")[2] or 1) - 1]
        if value == plan.outputs[0] and len(subject.model.output_shape) == 2:
            value = score_value(plan)  # before the softmax, whose slope dies where it is sure
        self._first = int(value == both_scores(plan))  # of a single unit z these are -z and z
        self._units = geometry.rows * geometry.cols == 1 and len(plan.shapes.get(value, (0, 0))) == 2
        self._constants = read_constants(plan, "float32")
        self._steps = needed_steps(plan.steps, [value])
        bad = next((step for step in self._steps if step.rule in ("unsupported", "opaque")), None)
        if bad is not None:
            raise UsageError(f"Layer {bad.layer!r} has no rule for the walk back: {plan.unsupported.get(bad.layer)}")
        eager = any(step.rule == "autodiff" for step in self._steps)
        walk = functools.partial(_both, self._steps, plan.inputs[0], value)
        self._walks = [
            walk if eager else backends.compiled(walk) for _ in range(2)
        ]  # of images, of windows: one shape each
        self._window = self._windowed(each, subject)

    def _windowed(self, each, subject):
        """(side of the window, stride) for rows and for columns, or None where whole images have to be walked."""
        shape = tuple(subject.pixels([0]).shape[1:])
        try:
            open_shape = shape if None in subject.model.input_shape[1:] else None
            field = receptive_field(subject.model, each.scanned.output.removesuffix("#1"), input_shape=open_shape)
        except UsageError:
            return None
        if self._units or field.size is None or field.stride is None or None in (*field.size, *field.stride):
            return None
        sides = []
        for whole, size, stride in zip(shape[:2], field.size, field.stride, strict=True):
            size, stride = int(size), int(stride)
            least = size + stride - 1
            side = least + (whole - least) % stride
            if side >= whole:
                return None
            sides.append((side, stride))
        return tuple(sides)

    def __call__(self, images, places, units, whole=False):
        """{method: [map (h, w, C) of what the place sees, cut as its patch]}.

        Args:
            images, places, units: sequences of equal length, at most AT_ONCE: which neurons.
            whole: True walks whole images.
        """
        x = self._subject.prepared(images)
        rows, cols = np.divmod(np.asarray(places), self._geometry.cols)
        corners = np.zeros((len(x), 2), int)
        cut = bool(self._window) and not whole
        if cut:
            x, rows, cols, corners = self._cut(x, rows, cols, np.asarray(places))
        units = np.asarray(units) + self._first
        index = np.stack([units] if self._units else [rows, cols, units], 1).astype("int32")
        missing = AT_ONCE - len(x)
        x, index = (np.concatenate([a, np.repeat(a[-1:], missing, 0)]) if missing else a for a in (x, index))
        arrays = self._walks[cut](ops.convert_to_tensor(x), self._constants, ops.convert_to_tensor(index))
        maps = {}
        for method, array in zip(METHODS, arrays, strict=True):
            array, cuts = ops.convert_to_numpy(array), []
            for number, place in enumerate(places):
                top, left, bottom, right = self._geometry.boxes[place]
                up, west = corners[number]
                cuts.append(array[number, top - up : bottom - up, left - west : right - west])
            maps[method] = cuts
        return maps

    def _cut(self, x, rows, cols, places):
        """Windows of the images, the places in their maps, and their corners."""
        starts = self._geometry.starts[places]
        (height, down), (width, across) = self._window
        steps = np.array([down, across])
        most = np.array([x.shape[1] - height, x.shape[2] - width])
        corners = np.clip(starts // steps * steps, 0, most)
        windows = np.stack([i[t : t + height, w : w + width] for i, (t, w) in zip(x, corners, strict=True)])
        shift = corners // steps
        return windows, rows - shift[:, 0], cols - shift[:, 1], corners

    def settle(self, images, places, units):
        """Use whole images from now on if windows give other maps for these neurons."""
        if not self._window:
            return
        exact = self(images, places, units, whole=True)
        try:
            windows = self(images, places, units)
        except Exception:  # a backend's own errors: a reshape that needs the whole image, say
            self._window = None
            return
        for method in METHODS:
            for a, b in zip(exact[method], windows[method], strict=True):
                if not np.allclose(a, b, rtol=1e-3, atol=1e-4 * (np.abs(a).max() + 1e-30)):
                    self._window = None
                    return


def _both(steps, source, value, images, constants, index):
    """[map of each method] for one neuron an image."""
    values, records = {source: images}, {}
    forward(steps, values, constants, records)
    arrays = {"index": index, "scale": ops.ones((index.shape[0],), "float32")}
    seed = seed_array("position", values[value], arrays)
    maps = []
    for method in METHODS:
        task = Task(steps, (source,), (source,), ((value, "position"),), method)
        signals = {value: seed}
        backward(task, steps, values, records, constants, signals)
        maps.append(signals.get(source, ops.zeros_like(images)))
    return maps
