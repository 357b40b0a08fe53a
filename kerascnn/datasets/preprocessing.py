"""What happens to uint8 images before a network sees them: a central crop, then scaling to floats.

A run keeps its Preprocessing in data.json, an export carries it inside, and `predict` applies it again.
"""

import math
from dataclasses import asdict, dataclass

import numpy as np

from kerascnn.errors import DataError

LARGEST_SIDE = 100_000  # pixels
PART = 1 << 25  # bytes of decoded images that are held at a time


@dataclass(frozen=True)
class Preprocessing:
    """How uint8 images become the network's input: x = (pixel / 255 - mean) / std.

    Attributes:
        resize_to: (height, width) that images are brought to first (`kerascnn.datasets.resize`).
        image_size: (height, width) of the network's input, cut from the centre.
        channels: 1 or 3.
        mean, std: one number a channel, on the 0-to-1 scale.
        bgr: True hands the channels on in reverse, blue first, as Caffe's networks take them.
    """

    resize_to: tuple
    image_size: tuple
    channels: int
    mean: tuple
    std: tuple
    bgr: bool = False

    @classmethod
    def fit(cls, images, *, image_size, normalize, most=20_000):
        """The Preprocessing whose mean and std are those of training images.

        Args:
            images: uint8 (N, H, W, C), an array or `ImageFiles`; beyond `most` images, an even sample is read.
            image_size: (height, width) of the network's input.
            normalize: "standard", "mean" (std stays 1) or "none" (mean 0, std 1).
        """
        channels = images.shape[-1]
        mean, std = np.zeros(channels), np.ones(channels)
        if normalize != "none":
            sample = range(0, len(images), -(-len(images) // most))
            step = max(1, PART // math.prod(images.shape[1:]))
            parts = (images[np.asarray(sample[i : i + step])] for i in range(0, len(sample), step))
            first, second = sum(map(pixel_sums, parts)) / (len(sample) * math.prod(images.shape[1:3]))
            mean = first / 255
            if normalize == "standard":
                std = np.sqrt(np.maximum(second / 255**2 - mean**2, 1e-6))
        return cls(
            tuple(images.shape[1:3]), tuple(image_size), channels, tuple(map(float, mean)), tuple(map(float, std))
        )

    def __call__(self, images, place=(0.5, 0.5)):
        """float32 (N, height, width, C), from uint8 images (N, *resize_to, C); `place` as of `crop`."""
        return self.scale(self.crop(images, place))

    def crop(self, images, place=(0.5, 0.5)):
        """The image_size of uint8 images (N, H, W, C) that is cut from their centre, or another place: (0, 0) is the
        upper left corner, (1, 1) the lower right one."""
        (height, width), (h, w) = images.shape[1:3], self.image_size
        top, left = int((height - h) * place[0]), int((width - w) * place[1])
        return images[:, top : top + h, left : left + w]

    def scale(self, images):
        """float32 values of uint8 images."""
        factor = (1 / (255 * np.asarray(self.std))).astype("float32")
        shift = (np.asarray(self.mean) / np.asarray(self.std)).astype("float32")
        count, height, width, channels = images.shape
        rows = images.reshape(count, height, width * channels)  # several times as fast as channel by channel
        scaled = rows * np.tile(factor, width)
        scaled -= np.tile(shift, width)
        scaled = scaled.reshape(images.shape)
        return scaled[..., ::-1] if self.bgr else scaled

    def to_dict(self):
        """A dict that JSON can hold; `Preprocessing.from_dict` takes it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values):
        """The Preprocessing of `to_dict`'s dict; DataError for a dict that cannot be one."""
        for name in ("resize_to", "image_size"):
            if not _numbers(values.get(name), 2, int, 1, LARGEST_SIDE):
                raise DataError(f"The preprocessing in data.json is damaged: {name} is {values.get(name)!r}.")
        channels = values.get("channels")
        if not _numbers([channels], 1, int, 1, LARGEST_SIDE):
            raise DataError(f"The preprocessing in data.json is damaged: channels is {channels!r}.")
        for name, low in (("mean", -np.inf), ("std", np.finfo("float32").tiny)):
            if not _numbers(values.get(name), channels, (int, float), low, np.finfo("float32").max):
                raise DataError(f"The preprocessing in data.json is damaged: {name} is {values.get(name)!r}.")
        try:
            return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})
        except TypeError:
            raise DataError(
                f"The preprocessing in data.json is damaged: it has the fields {', '.join(values)}."
            ) from None


def pixel_sums(image):
    """float (2, C), exact: the sums of the pixels and of their squares, of uint8 (..., C)."""
    flat, levels = image.reshape(-1, image.shape[-1]), np.arange(256)
    counts = np.zeros((flat.shape[-1], 256), np.int64)
    for start in range(0, len(flat), 1 << 18):  # in pieces: to count takes 8 bytes a pixel
        for channel, piece in enumerate(flat[start : start + (1 << 18)].T):
            counts[channel] += np.bincount(piece, minlength=256)
    return np.stack([counts @ levels, counts @ levels**2]).astype(float)


def _numbers(values, count, kind, low, high):
    """True for a sequence of `count` numbers of a kind from `low` to `high`."""
    return (
        isinstance(values, (list, tuple))
        and len(values) == count
        and all(isinstance(v, kind) and not isinstance(v, bool) and low <= v <= high for v in values)
    )
