"""Random changes of training images, outside the model: uint8 in, uint8 out, drawn from the generator that is given.

Where the images are part of a batch that several hosts share, `batch` says so: (number of images in the batch, a slice:
which of them these are). The numbers are then drawn for the whole batch, so that they do not depend on who shares it.
"""

import functools

import numpy as np


def _drawn(images, batch):
    """(how many images numbers are drawn for, which of the numbers these images get)."""
    return batch or (len(images), slice(None))


def flip(images, mirrored):
    """Those of the images (N, H, W, C) mirrored left to right for which `mirrored` bool (N,) is True."""
    changed = images.copy()
    changed[mirrored] = images[mirrored, :, ::-1]
    return changed


def crop(images, rng, size, padding, mode="constant", batch=None):
    """A window of `size` cut from each of the images (N, H, W, C) at a random place.

    Args:
        size: (height, width) of the window, pixels.
        padding: pixels put around the images first.
        mode: NumPy's name of what they are: "constant" for zeros, "reflect" for the mirrored border.
    """
    if padding:
        images = np.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)), mode)
    count, height, width, channels = images.shape
    total, part = _drawn(images, batch)
    rows = rng.integers(height - size[0] + 1, size=total)[part]
    columns = rng.integers(width - size[1] + 1, size=total)[part]
    windows = np.empty((count, *size, channels), images.dtype)
    for window, image, row, column in zip(windows, images, rows, columns, strict=True):
        window[:] = image[row : row + size[0], column : column + size[1]]
    return windows


def cutout(images, rng, batch=None):
    """A grey square with a quarter of the longer side laid over each of the images at a random place, cut at borders
    (DeVries and Taylor 2017, arXiv:1708.04552)."""
    _, height, width, _ = images.shape
    side = max(1, max(height, width) // 4)
    total, part = _drawn(images, batch)
    rows, columns = (rng.integers(most, size=total)[part] - side // 2 for most in (height, width))
    changed = images.copy()
    for image, row, column in zip(changed, rows, columns, strict=True):
        image[max(row, 0) : row + side, max(column, 0) : column + side] = 128
    return changed


def colour(images, rng, most=0.2, batch=None):
    """Brightness, contrast and saturation of each of the images times random factors of 1 - most to 1 + most."""
    total, part = _drawn(images, batch)
    factors = rng.uniform(1 - most, 1 + most, (3, total, 1, 1, 1)).astype("float32")
    brightness, contrast, saturation = factors[:, part]
    changed = images * brightness
    mean = changed.mean((1, 2, 3), keepdims=True)
    changed = mean + (changed - mean) * contrast
    grey = changed.mean(-1, keepdims=True)
    return to_bytes(grey + (changed - grey) * saturation)


def colour_components(images, most=5_000):
    """The principal components of the colours of training images: (variances (C,) on the 0-to-1 scale, ascending;
    directions (C, C), a column each, the largest entry of each positive).

    Args:
        images: uint8 (N, H, W, C), an array or `ImageFiles`; beyond `most` images, an even sample is read.
    """
    channels = images.shape[-1]
    sample = range(0, len(images), -(-len(images) // most))
    total, products, pixels = np.zeros(channels), np.zeros((channels, channels)), 0
    for first in range(0, len(sample), 64):
        colours = images[np.asarray(sample[first : first + 64])].reshape(-1, channels).astype("float64")
        total, products, pixels = total + colours.sum(0), products + colours.T @ colours, pixels + len(colours)
    mean = total / pixels
    variances, directions = np.linalg.eigh((products / pixels - np.outer(mean, mean)) / 255**2)
    largest = directions[np.abs(directions).argmax(0), np.arange(channels)]
    return variances, directions * np.sign(largest)


def pca(images, rng, components, deviation=0.1, batch=None):
    """AlexNet's colour noise (Krizhevsky et al. 2012, section 4.1): to each image a random multiple of each principal
    component of the training set's colours is added, the eigenvalue times a normal number of standard deviation 0.1.
    Grey images stay.

    Args:
        components: as of `colour_components`.
    """
    if images.shape[-1] == 1:
        return images
    variances, directions = components
    total, part = _drawn(images, batch)
    noise = rng.normal(0, deviation, (total, len(variances)))[part] * variances @ directions.T
    return to_bytes(images + 255 * noise[:, None, None].astype("float32"))


def to_bytes(images):
    """Numbers as uint8, rounded, those below 0 and above 255 cut."""
    return np.clip(np.rint(images), 0, 255).astype("uint8")


def mixup(images, labels, rng, alpha=0.2):
    """Each image and label blended with another of its batch, with weights from Beta(alpha, alpha) (Zhang et al. 2017,
    arXiv:1710.09412).

    Args:
        images: float (N, H, W, C), scaled.
        labels: float (N, num_classes), one-hot.
    """
    share = rng.beta(alpha, alpha, len(images)).astype("float32")
    other = rng.permutation(len(images))
    wide = share[:, None, None, None]
    mixed = wide * images + (1 - wide) * images[other]
    return mixed, share[:, None] * labels + (1 - share[:, None]) * labels[other]


def augment(images, rng, names, size, *, mirrored=None, components=None, batch=None):
    """Training images as the recipe's `augment` asks: crops where images are larger than the network's input, else
    shifted where "crop" (by up to 1/8 of the side, zeros moving in) or "translate" (by up to 1/16, the mirrored border
    moving in) is named, mirrored where "flip" is named, then changes of colour, then cutout. Mixing comes after
    scaling (`mixup`).

    Args:
        images: uint8 (N, H, W, C).
        names: the recipe's `augment`.
        size: (height, width) of the network's input.
        mirrored: for "flip", bool (N,).
        components: for "pca", as of `colour_components`.
        batch: where the images are part of a batch.
    """
    if images.shape[1:3] != tuple(size):
        images = crop(images, rng, tuple(size), 0, batch=batch)
    elif "crop" in names:
        images = crop(images, rng, tuple(size), max(size) // 8, batch=batch)
    elif "translate" in names:
        images = crop(images, rng, tuple(size), max(size) // 16, "reflect", batch)
    if "flip" in names:
        images = flip(images, mirrored)
    noise = functools.partial(pca, components=components)
    for name, change in (("colour", colour), ("pca", noise), ("cutout", cutout)):
        if name in names:
            images = change(images, rng, batch=batch)
    return images
