"""From places in a layer's map back to the pixels that they see."""

import dataclasses
import warnings

import numpy as np

from kerascnn.errors import UsageError
from kerascnn.network.receptive_field import receptive_field


@dataclasses.dataclass(frozen=True, eq=False)
class Geometry:
    """What the places of one layer's map see.

    Attributes:
        rows, cols: size of the map; 1 and 1 for a layer without one.
        boxes: int64 (rows * cols, 4): top, left, bottom, right of the pixels seen, half open, clipped to the image.
        starts: int64 (rows * cols, 2): top and left where the field would begin without the image's border.
        size: (height, width) of the frame that any patch fits in, pixels.
    """

    rows: int
    cols: int
    boxes: np.ndarray
    starts: np.ndarray
    size: tuple

    @classmethod
    def of(cls, model, path, image_shape, map_shape):
        """The Geometry of a layer; the whole image, with a warning, where the reach of a layer on the way is not known.

        Args:
            path: the layer's path; "name#2" for the second call of a shared layer.
            image_shape: (height, width, channels).
            map_shape: the layer's output without the batch, (rows, cols, channels) or (units,).
        """
        rows, cols = map_shape[:2] if len(map_shape) == 3 else (1, 1)
        shape = tuple(image_shape) if None in model.input_shape[1:] else None
        try:
            field = receptive_field(model, path.removesuffix("#1"), input_shape=shape)
        except UsageError as error:
            if len(map_shape) == 3:  # units without a map see the whole image anyway
                warnings.warn(f"{error} Whole images stand for the patches.", stacklevel=4)
            boxes = np.tile([0, 0, *image_shape[:2]], (rows * cols, 1))
            return cls(rows, cols, boxes, boxes[:, :2], tuple(image_shape[:2]))
        if field.output_size is None:
            boxes = np.tile(field.box(), (rows * cols, 1))
        else:
            boxes = np.array([field.box(row, col) for row in range(rows) for col in range(cols)])
        size = (boxes[:, 2:] - boxes[:, :2]).max(0)
        starts = boxes[:, :2]
        if field.size is not None and tuple(size) == tuple(field.size):
            place = np.stack(np.divmod(np.arange(rows * cols), cols), 1)
            starts = np.asarray(field.offset) + place * np.asarray(field.stride)
        return cls(rows, cols, boxes, starts, tuple(map(int, size)))

    def cut(self, image, place):
        """The pixels (h, w, channels) of an image that a place sees."""
        top, left, bottom, right = self.boxes[place]
        return np.array(image[top:bottom, left:right])

    def inside(self, place):
        """bool (height, width): the pixels of the frame that lie within the image."""
        top, left, bottom, right = self.boxes[place]
        return self.framed(np.ones((bottom - top, right - left, 1), bool), place)[..., 0]

    def framed(self, patch, place):
        """The pixels of `cut` in a frame of zeros (*size, channels), placed as if the image had no border."""
        frame = np.zeros((*self.size, patch.shape[-1]), patch.dtype)
        top, left = self.boxes[place, :2] - self.starts[place]
        frame[top : top + patch.shape[0], left : left + patch.shape[1]] = patch
        return frame
