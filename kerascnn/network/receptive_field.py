"""Which pixels each unit of a layer sees: exact rectangles, through padding, strides, dilation, branches and skips.

Every value of a network's plan gets one rectangle per place, the hull of the rectangles that its step reads
(kerascnn.network.reach); padding adds nothing. If all places have the same geometry, there are also a size, a stride
and an offset as in the literature (Araujo, Norris, Sim, "Computing receptive fields of convolutional neural networks",
Distill 2019; their "padding" is minus our offset), which ignore the image's border. Channels are not distinguished: a
place sees what any of its channels sees.
"""

import dataclasses

import numpy as np

from kerascnn.errors import UsageError, unknown
from kerascnn.network.find import find
from kerascnn.network.plan import describe
from kerascnn.network.reach import through
from kerascnn.network.seen import Line, Seen, UnknownReach


@dataclasses.dataclass(frozen=True, eq=False)
class ReceptiveField:
    """The receptive fields of one layer's units.

    Attributes:
        layer: the layer's name.
        input_size: (height, width) of the image, pixels.
        output_size: (rows, columns) of the layer's map; None for a layer without one (after flatten, dense, global
            pooling), whose units all see the same rectangle.
        size, stride, offset: (height, width), pixels, unclipped: unit (row, column) sees `size` pixels from
            `offset + row * stride` on. None if the units do not share one geometry, or see the whole image.
    """

    layer: str
    input_size: tuple
    output_size: tuple | None
    size: tuple | None
    stride: tuple | None
    offset: tuple | None
    _boxes: np.ndarray = dataclasses.field(repr=False)

    def box(self, row=0, column=0):
        """(top, left, bottom, right) of the pixels that a unit sees: half-open, clipped to the image.

        A unit that sees only padding has the empty box (0, 0, 0, 0). Pixels outside the box cannot change the unit.

        Raises:
            UsageError: there is no such unit.
        """
        if self.output_size is None:
            return self._clean(self._boxes)
        rows, columns = self.output_size
        if not (0 <= row < rows and 0 <= column < columns):
            raise UsageError(
                f"Layer {self.layer!r} has no unit ({row}, {column}): it has {rows} rows and {columns} columns, "
                f"(0, 0) to ({rows - 1}, {columns - 1})."
            )
        return self._clean(self._boxes[row, column])

    @staticmethod
    def _clean(box):
        top, left, bottom, right = int(box[0]), int(box[1]), -int(box[2]), -int(box[3])
        return (top, left, bottom, right) if top < bottom and left < right else (0, 0, 0, 0)


def receptive_field(model, layer, *, input_shape=None, input_name=None):
    """The ReceptiveField of a layer's output.

    Args:
        model: keras.Model.
        layer: a layer's name (kerascnn.network.find); for a shared layer, a name without "#2" means the first call.
        input_shape: (height, width, channels), if the model's own is open or another is wanted.
        input_name: which image input, if there are several.
    Raises:
        UsageError: the layer or input is unknown, a size is open, channels come first, the layer does not see the
            image, or the reach of a layer on the way is not known here.
    """
    network = describe(model, input_shape)
    plan, (seen, image) = network.plan, _seen(network, input_name)
    name, _, value = find(plan, layer, call=1)
    seen = seen[value]
    if isinstance(seen, UnknownReach):
        raise UsageError(str(seen))
    if seen.boxes is None:
        raise UsageError(
            f"Layer {name!r} of model {model.name!r} sees nothing of the image: it has no receptive field."
        )
    return _named(name, seen, image)


def all_fields(network):
    """{(layer's path, number of the call): ReceptiveField} of all layers of a Described for which it is known."""
    plan, (seen, image) = network.plan, _seen(network)
    calls = {(path, call): seen[value] for path, values in plan.layers.items() for call, value in enumerate(values)}
    return {key: _named(key[0], each, image) for key, each in calls.items() if getattr(each, "boxes", None) is not None}


def _seen(network, input_name=None):
    """({value: Seen or UnknownReach}, (height, width) of the image) of a Described."""
    flat, shapes, plan = network
    if plan.channels_first:
        raise UsageError(f"Model {plan.model!r} has its channels first; receptive fields need channels last.")
    image = _image_input(network, input_name)
    height, width = shapes[image][1:3]
    if height is None or width is None:
        raise UsageError(
            f"Model {plan.model!r} takes images of any size, and receptive fields depend on it: give "
            f"input_shape=(height, width, {shapes[image][3]})."
        )
    values = {value: Seen(tuple(shapes[t][1:])) for t, value in zip(flat.inputs, plan.inputs, strict=True)}
    row, column = np.mgrid[:height, :width]
    boxes = np.stack([row, column, -row - 1, -column - 1], axis=-1).astype("int64")[:, :, None]
    values[plan.inputs[flat.inputs.index(image)]] = Seen((height, width, shapes[image][3]), boxes, (Line(0), Line(1)))
    outputs = {value for calls in plan.layers.values() for value in calls}
    for step in plan.steps:
        inputs = [values[number] for number in step.inputs if number >= 0]
        weights = [tuple(np.shape(plan.constants[-number - 1])) for number in step.weights]
        known = step.output in outputs or step.rule == "unsupported"  # not inside a traced activation
        shape = plan.shapes[step.output][1:] if known else None
        try:
            broken = next((seen for seen in inputs if isinstance(seen, UnknownReach)), None)
            values[step.output] = broken or through(step, weights, inputs, shape)
        except UnknownReach as error:
            values[step.output] = error
    return values, (height, width)


def _image_input(network, input_name):
    flat, shapes, plan = network
    images = {n: i for i, n in zip(flat.inputs, flat.input_names, strict=True) if len(shapes[i]) == 4}
    if input_name is not None:
        if input_name not in images:
            raise unknown(f"image input of {plan.model}", input_name, list(images))
        return images[input_name]
    if len(images) != 1:
        raise UsageError(
            f"Model {plan.model!r} has {len(images)} image inputs ({', '.join(images) or 'none'}); receptive fields "
            "belong to one: give input_name=."
        )
    return next(iter(images.values()))


def _named(layer, seen, image):
    """The ReceptiveField of what a layer's output sees: of a map the places, of anything else all together."""
    if len(seen.shape) != 3:
        return ReceptiveField(layer, image, None, None, None, None, seen.boxes.reshape(-1, 4).min(0))
    size, numbers = seen.shape[:2], [None, None, None]
    if [line and line.axis for line in seen.lines] == [0, 1]:
        numbers = [tuple(getattr(line, what) for line in seen.lines) for what in ("size", "stride", "offset")]
    return ReceptiveField(layer, image, size, *numbers, np.broadcast_to(seen.boxes.min(2), (*size, 4)))
