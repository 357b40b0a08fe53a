"""Which pixels each unit of a layer sees: exact rectangles, through padding, strides, dilation, branches and skips.

Every tensor of the graph gets one rectangle per place (row, column), the hull of the rectangles that its operation
reads; padding adds nothing. Where all places have the same geometry there is also a size, a stride and an offset as in
the literature (Araujo, Norris, Sim, "Computing receptive fields of convolutional neural networks", Distill 2019; their
"padding" is minus our offset), which ignore the image's border. Channels are not told apart: a place sees what any of
its channels sees.
"""

import dataclasses

import keras
import numpy as np
from keras import layers

from kerascnn.errors import UsageError, unknown
from kerascnn.network.find import Layers, find
from kerascnn.network.graph import traced
from kerascnn.network.sizes import channels_first, sized
from kerascnn.network.spatial import Box, UnknownSpread, spread, whole


@dataclasses.dataclass(frozen=True, eq=False)
class ReceptiveField:
    """The receptive fields of one layer's units.

    Attributes:
        layer: the layer's name.
        input_size: (height, width) of the image, pixels.
        output_size: (rows, columns) of the layer's map; None for a layer without one (after flatten, dense, global
            pooling), whose units all see the same rectangle.
        size, stride, offset: (height, width), pixels, unclipped: unit (row, column) sees `size` pixels from
            `offset + row * stride` on. None where the units do not share one geometry, or see all.
    """

    layer: str
    input_size: tuple
    output_size: tuple | None
    size: tuple | None
    stride: tuple | None
    offset: tuple | None
    _boxes: np.ndarray = dataclasses.field(repr=False)

    def box(self, row=0, column=0):
        """(top, left, bottom, right) of the pixels that a unit sees: half open, clipped to the image.

        A unit that sees padding only has the empty box (0, 0, 0, 0). Outside, no pixel can change the unit.

        Raises:
            UsageError: no such unit.
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
        layer: a layer's name (kerascnn.network.find); of a shared layer without "#2" the first call is meant.
        input_shape: (height, width, channels), where the model's own is open or another is wanted.
        input_name: which image input, where there are several.
    Raises:
        UsageError: unknown layer or input, an open size, channels first, a layer that does not see the image, or a
            layer on the way whose reach is not known here.
    """
    fields, flat, _ = all_fields(model, input_shape=input_shape, input_name=input_name)
    network = Layers(model.name, {}, {node.name: type(node.operation).__name__ for node in flat.nodes})
    for node in flat.nodes:
        network.layers.setdefault(node.name, []).append(node.outputs[0])
    place = find(network, layer, call=1)
    field, layer = fields[place.value], place.name
    if isinstance(field, UnknownSpread):
        raise UsageError(str(field))
    if field is None:
        raise UsageError(
            f"Layer {layer!r} of model {model.name!r} sees nothing of the image: it has no receptive field."
        )
    return field.named(layer)


def all_fields(model, *, input_shape=None, input_name=None):
    """({tensor number: field or UnknownSpread}, graph, shapes) of all tensors of a model."""
    flat, shapes = sized(model, input_shape)
    if channels_first(flat):
        raise UsageError(f"Model {model.name!r} has its channels first; receptive fields need channels last.")
    image = _image_input(model, flat, shapes, input_name)
    height, width = shapes[image][1:3]
    if height is None or width is None:
        raise UsageError(
            f"Model {model.name!r} takes images of any size, and receptive fields depend on it: give "
            f"input_shape=(height, width, {shapes[image][3]})."
        )
    fields = dict.fromkeys(flat.inputs)  # None: sees nothing of the image
    fields[image] = _Field.of_image(height, width)
    _send(flat.nodes, fields, shapes, (height, width))
    return fields, flat, shapes


def _send(nodes, fields, shapes, image):
    """Adds to `fields` ({tensor number: field, UnknownSpread or None}) those of what the nodes make."""
    for node in nodes:
        read, inputs = [fields[number] for number in node.inputs], [shapes[n] for n in node.inputs]
        broken = next((f for f in read if isinstance(f, UnknownSpread)), None)
        for position, number in enumerate(node.outputs):
            try:
                fields[number] = broken or _through(node, read, inputs, shapes[number], image)
            except UnknownSpread as error:
                inside = _opened(node, read, inputs, image)
                fields[number] = inside[position] if inside else error


def _opened(node, read, input_shapes, image):
    """The fields of the outputs of a custom layer made of layers and keras.ops; None where it cannot be opened."""
    if not isinstance(node.operation, keras.Layer):
        return None
    try:
        graph = traced(node.operation, node, dict(zip(node.inputs, input_shapes, strict=True)))
    except Exception:  # whatever the user's own code raises when it is given symbolic tensors
        return None
    fields = dict(zip(graph.inputs, read, strict=True))
    _send(graph.nodes, fields, [tuple(tensor.shape) for tensor in graph.tensors], image)
    outputs = [fields.get(number) for number in graph.outputs]
    return None if any(isinstance(field, UnknownSpread) for field in outputs) else outputs


def _image_input(model, flat, shapes, input_name):
    images = {n: i for i, n in zip(flat.inputs, flat.input_names, strict=True) if len(shapes[i]) == 4}
    if input_name is not None:
        if input_name not in images:
            raise unknown(f"image input of {model.name}", input_name, list(images))
        return images[input_name]
    if len(images) != 1:
        raise UsageError(
            f"Model {model.name!r} has {len(images)} image inputs ({', '.join(images) or 'none'}); receptive fields "
            "belong to one: give input_name=."
        )
    return next(iter(images.values()))


@dataclasses.dataclass(frozen=True, eq=False)
class _Field:
    """What each place of a tensor sees.

    Attributes:
        boxes: (rows, columns, 4) top, left, -bottom, -right, or (4,) where places are mixed: so a hull is a minimum.
        axes: one Box (size, stride, offset) for rows and one for columns, or None each.
        image: (height, width).
    """

    boxes: np.ndarray
    axes: tuple
    image: tuple

    @classmethod
    def of_image(cls, height, width):
        row, column = np.mgrid[:height, :width]
        boxes = np.stack([row, column, -row - 1, -column - 1], axis=-1).astype("int64")
        return cls(boxes, (Box(1, 1, 0), Box(1, 1, 0)), (height, width))

    def on_map(self, shape):
        """The boxes as (rows, columns, 4); where places are mixed, the same one everywhere."""
        return np.broadcast_to(self.boxes, (*shape[1:3], 4))

    def named(self, layer):
        size = self.boxes.shape[:2] if self.boxes.ndim == 3 else None
        numbers = [None, None, None]
        if None not in self.axes:
            numbers = [tuple(getattr(axis, what) for axis in self.axes) for what in ("size", "stride", "offset")]
        return ReceptiveField(layer, self.image, size, *numbers, self.boxes)


def _through(node, read, input_shapes, output_shape, image):
    """The _Field of a node's output, from the fields that it reads; None if none of them sees the image."""
    seeing = [(field, shape) for field, shape in zip(read, input_shapes, strict=True) if field is not None]
    if not seeing:
        return None
    reshapes = isinstance(node.operation, (layers.Flatten, layers.Reshape, layers.Permute))
    if reshapes or len(output_shape) != 4 or any(len(shape) != 4 for _, shape in seeing):
        return _Field(whole([field.boxes for field, _ in seeing]), (None, None), image)
    operation = spread(node, input_shapes, output_shape)
    parts = [_Field(*operation(field.on_map(shape), field.axes), image) for field, shape in seeing]
    boxes = np.minimum.reduce([part.boxes for part in parts])
    axes = parts[0].axes
    for part in parts[1:]:
        axes = tuple(_joined(a, b) for a, b in zip(axes, part.axes, strict=True))
    return _Field(boxes, axes, image)


def _joined(a, b):
    """The Box that covers both, where they have one stride."""
    if a is None or b is None or a.stride != b.stride:
        return None
    start, end = min(a.offset, b.offset), max(a.offset + a.size, b.offset + b.size)
    return Box(end - start, a.stride, start)
