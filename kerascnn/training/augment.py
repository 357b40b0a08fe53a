"""Random changes of training images, outside the model: uint8 in, uint8 out, drawn from the generator that is given."""

import numpy as np


def flip(images, rng):
    """Each of the images (N, H, W, C) mirrored left to right with probability 1/2."""
    mirrored = rng.random(len(images)) < 0.5
    return np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def crop(images, rng, size, padding):
    """A window of `size` cut from each of the images (N, H, W, C) at a random place.

    Args:
        size: (height, width) of the window, pixels.
        padding: zeros put around the images first, pixels.
    """
    if padding:
        images = np.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(images, size, axis=(1, 2))
    rows = rng.integers(windows.shape[1], size=len(images))
    columns = rng.integers(windows.shape[2], size=len(images))
    return np.moveaxis(windows[np.arange(len(images)), rows, columns], 1, -1)


def augment(images, rng, names, size):
    """Training images as the recipe's `augment` asks: crops where images are larger than the network's input or
    "crop" is named (then shifted by up to 1/8 of the side, zeros moving in), mirrored where "flip" is named.

    Args:
        images: uint8 (N, H, W, C).
        names: the recipe's `augment`.
        size: (height, width) of the network's input.
    """
    padding = max(size) // 8 if "crop" in names and images.shape[1:3] == tuple(size) else 0
    if padding or images.shape[1:3] != tuple(size):
        images = crop(images, rng, tuple(size), padding)
    if "flip" in names:
        images = flip(images, rng)
    return images
