"""Feature visualisation: the image that excites a neuron, channel or class most, by optimisation.

The image is parametrised by its Fourier coefficients, scaled so that all frequencies learn alike, in decorrelated
colours; every step looks at it jittered, scaled and rotated (Olah, Mordvintsev and Schubert, "Feature visualization",
Distill 2017). Gradients come from the reverse walk, so that every backend takes the same path.
"""

import warnings

import numpy as np
from scipy.sparse import csr_array

from kerascnn.errors import UsageError
from kerascnn.explain.reverse import walk_back
from kerascnn.explain.subjects import opaque_step
from kerascnn.explain.targets import Neuron, check_channels_last
from kerascnn.network.plan import make_plan

# Colours of natural images are correlated: the square root of their covariance, normalised (Distill 2017's lucid).
COLOURS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])


def feature_images(
    model, targets, *, steps=128, learning_rate=0.05, low=0.0, high=1.0, jitter=4, scale=0.05, rotate=5.0, seed=0
):
    """Images that excite their targets, all optimised in one batch.

    All begin with the same noise and are moved in the same way, so that an image does not depend on what other targets
    are optimised with it.

    Args:
        model: a model with one image input of fixed size.
        targets: a list of classes and Neurons; a Neuron without row and col is its channel's mean.
        steps: steps of Adam.
        learning_rate: Adam's, on the scaled Fourier coefficients.
        low, high: range of the pixels that the model takes; numbers, or one for each channel.
        jitter: largest shift, pixels; scale: standard deviation of the zoom; rotate: of the angle, degrees.
        seed: seed of the start and of the transformations.
    Returns:
        (float32 images (len(targets), H, W, C) between low and high, scores (steps, len(targets))).
    """
    shape = model.input_shape
    if not isinstance(shape, tuple) or len(shape) != 4 or None in shape[1:]:
        raise UsageError(f"Feature visualisation needs one image input of fixed size; the model takes {shape}.")
    check_channels_last(make_plan(model, opaque_step))
    targets = [_mean_of_channel(t) for t in targets]
    height, width, channels = shape[1:]
    rng, n = np.random.default_rng(seed), len(targets)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    lowest = 1 / max(height, width)
    weight = (lowest / np.maximum(frequency, lowest))[None, :, :, None]
    spectrum = 0.01 * rng.standard_normal((2, 1, height, width // 2 + 1, channels)).repeat(n, 1)
    first, second, history = np.zeros_like(spectrum), np.zeros_like(spectrum), []
    low, span = np.asarray(low, float), np.asarray(high, float) - np.asarray(low, float)
    for step in range(1, steps + 1):
        pixels = _pixels(spectrum, weight, height, width)
        squashed = 1 / (1 + np.exp(-pixels))
        matrix, offset = _transformation(rng, height, width, jitter, scale, rotate)
        seen = _warped(low + span * squashed, _warp(matrix, offset, height, width, reflect=True))
        maps, _, scores = walk_back(model, seen.astype("float32"), targets if n > 1 else targets[0], derived=True)
        history.append(scores)
        slope = _awake(model, seen, targets, maps[0])
        inverse = np.linalg.inv(matrix)
        back = _warped(slope.astype(float), _warp(inverse, -inverse @ offset, height, width)) * span
        norm = np.sqrt((back**2).mean((1, 2, 3), keepdims=True)) + 1e-12
        slope = _spectrum_of(back / norm * squashed * (1 - squashed), weight, height, width)
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        ahead = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        spectrum += learning_rate * ahead
    final = low + span / (1 + np.exp(-_pixels(spectrum, weight, height, width)))
    return final.astype("float32"), np.array(history)


def _mean_of_channel(target):
    if isinstance(target, Neuron) and target.row is None and target.col is None:
        return Neuron(target.layer, target.channel, reduce="mean")
    return target


def _awake(model, images, targets, slopes):
    """Slopes (N, H, W, C), those of targets that are switched off, which are 0, replaced by the deconvnet's.

    The deconvnet passes rectifiers that are shut, so that what it reconstructs can switch the unit on.
    """
    off = ~slopes.any((1, 2, 3))
    if not off.any():
        return slopes
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is the gradient, of a network without rectifiers
            targets = targets if len(targets) > 1 else targets[0]
            (maps,), _, _ = walk_back(model, images.astype("float32"), targets, "deconvnet", derived=True)
    except UsageError:  # a layer without a rule for the deconvnet
        return slopes
    return np.where(off[:, None, None, None], maps, slopes)


def _pixels(spectrum, weight, height, width):
    coefficients = (spectrum[0] + 1j * spectrum[1]) * weight
    pixels = np.fft.irfft2(coefficients, (height, width), axes=(1, 2)) * (height * width)
    return pixels @ (COLOURS / np.linalg.norm(COLOURS, axis=0).max()).T if pixels.shape[-1] == 3 else pixels


def _spectrum_of(slope, weight, height, width):
    """The transposed operation of `_pixels`, up to a positive factor per coefficient that Adam divides out."""
    if slope.shape[-1] == 3:
        slope = slope @ (COLOURS / np.linalg.norm(COLOURS, axis=0).max())
    spectrum = np.fft.rfft2(slope, axes=(1, 2)) * weight
    return np.stack([spectrum.real, spectrum.imag])


def _transformation(rng, height, width, jitter, scale, rotate):
    angle, zoom = np.deg2rad(rng.normal(0, rotate)), np.exp(rng.normal(0, scale))
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
    centre = np.array([(height - 1) / 2, (width - 1) / 2])
    return matrix, centre - matrix @ centre + rng.integers(-jitter, jitter + 1, 2)


def _warp(matrix, offset, height, width, reflect=False):
    """Sparse (H * W, H * W): pixel o of the result is what lies at matrix @ o + offset, interpolated.

    Args:
        reflect: True mirrors the image at its border; False leaves 0 beyond it.
    """
    sides = np.array([height, width])[:, None]
    at = matrix @ np.indices((height, width)).reshape(2, -1) + offset[:, None]
    corner = np.floor(at).astype(int)
    part, known = at - corner, ((at >= 0) & (at <= sides - 1)).all(0)
    rows, cols, weights = [], [], []
    for step in np.ndindex(2, 2):
        step = np.array(step)[:, None]
        place, share = corner + step, np.where(step, part, 1 - part).prod(0)
        if reflect:
            place = place % (2 * sides)
            place = np.where(place >= sides, 2 * sides - 1 - place, place)
        else:
            place, share = np.clip(place, 0, sides - 1), share * known
        rows.append(np.arange(height * width))
        cols.append(place[0] * width + place[1])
        weights.append(share)
    entries = np.concatenate(weights), (np.concatenate(rows), np.concatenate(cols))
    return csr_array(entries, shape=(height * width,) * 2)


def _warped(images, warp):
    """Images (N, H, W, C) after a `_warp`."""
    count, height, width, channels = images.shape
    flat = np.moveaxis(images, 0, 2).reshape(height * width, count * channels)
    return np.moveaxis((warp @ flat).reshape(height, width, count, channels), 2, 0)
