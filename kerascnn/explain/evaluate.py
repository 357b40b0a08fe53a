"""How much an explanation says about the network: sanity check, deletion and insertion, pointing, mass.

Every function takes maps or the name of a method and returns numbers; `evaluate` scores several methods at once.
Guided backpropagation and deconvnet fail the randomisation check: their maps hardly change when the network forgets
all that it has learned (Adebayo et al. 2018).
"""

import keras
import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from kerascnn.errors import UsageError, unknown
from kerascnn.explain import EXPLANATIONS
from kerascnn.explain.answers import probabilities
from kerascnn.explain.by_name import maps
from kerascnn.explain.reverse import fixed_target
from kerascnn.explain.subjects import opaque_step
from kerascnn.explain.targets import check_channels_last, score_value
from kerascnn.explain.walk import Task, run
from kerascnn.layers import give_weights
from kerascnn.network.plan import make_plan


def importance(method, model, images, target=None, **options):
    """(N, H, W) importance of every pixel: the method's maps, of colours the largest absolute value."""
    check_channels_last(make_plan(model, opaque_step))
    return importance_of(maps(method, model, images, target, **options))


def importance_of(maps):
    """(N, H, W) importance of every pixel of maps (N, H, W[, C]); see `importance`."""
    return np.abs(maps).max(-1) if maps.ndim == 4 else maps


def structural_similarity(a, b, sigma=1.5):
    """Mean SSIM (Wang et al. 2004) of two maps (H, W), each scaled to 0..1, with a Gaussian window."""
    a, b = ((x - x.min()) / max(np.ptp(x), 1e-12) for x in (np.asarray(a, float), np.asarray(b, float)))

    def blur(x):
        return gaussian_filter(x, sigma)

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    shared = blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    value = (2 * mean_a * mean_b + c1) * (2 * shared + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return float(value.mean())


def randomisation(model, images, target=None, *, methods=("saliency",), mode="cascading", seed=0, **options):
    """The weight-randomisation sanity check (Adebayo et al. 2018): maps before and after layers are made random.

    Args:
        mode: "cascading" makes layers random from the last one down, keeping them so; "independent" one at a time.
        seed: seed of the random weights, which have the mean and spread of each layer's own.
    Returns:
        pandas.DataFrame, one row per method and layer: method, layer, spearman (rank correlation of the importance with
        the untouched network's, mean over images), ssim, fails (True for methods known to fail the check).
    """
    if mode not in ("cascading", "independent"):
        raise unknown("mode", mode, ("cascading", "independent"))
    target, (images, *others) = fixed_target(model, images, target, options)
    if others:
        raise UsageError("The randomisation check takes models with one input.")
    copy, rng = _copied(model), np.random.default_rng(seed)
    before = {m: importance(m, copy, images, target, **options) for m in methods}
    rows = []
    trained = model.get_weights()
    for layer in _last_first(copy):
        if mode == "independent":
            give_weights(copy, trained)
        _randomise(layer, rng)
        for method in methods:
            ranks, alike = likeness(before[method], importance(method, copy, images, target, **options))
            fails = EXPLANATIONS.facts(method).get("fails_randomisation", False)
            rows.append((method, layer.name, np.mean(ranks), np.mean(alike), fails))
    return pd.DataFrame(rows, columns=["method", "layer", "spearman", "ssim", "fails"])


def random_twin(model, seed=0):
    """A copy of a model with all of its layers random: what cascading `randomisation` ends with."""
    copy, rng = _copied(model), np.random.default_rng(seed)
    for layer in _last_first(copy):
        _randomise(layer, rng)
    return copy


def _copied(model):
    copy = keras.models.clone_model(model)
    for layer in copy._flatten_layers():
        layer.trainable = True  # frozen layers, too, are made random; the model's own setter leaves them
    give_weights(copy, model.get_weights())
    copy.loss = getattr(model, "loss", None)  # it says whether a single unit is a score
    return copy


def _last_first(model):
    return reversed([layer for layer in model.layers if layer.trainable_weights])


def _randomise(layer, rng):
    for variable in layer.trainable_weights:
        value = keras.ops.convert_to_numpy(variable.value)
        variable.assign(rng.normal(value.mean(), value.std() + 1e-8, value.shape).astype("float32"))


def likeness(before, after):
    """(rank correlation (N,), structural similarity (N,)) of two importances (N, H, W), image by image."""
    pairs = list(zip(before, after, strict=True))
    return np.array([_spearman(a, b) for a, b in pairs]), np.array([structural_similarity(a, b) for a, b in pairs])


def _spearman(a, b):
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(spearmanr(a.ravel(), b.ravel()).statistic)


def deletion_curve(model, images, target, maps, *, steps=16, insertion=False, fill="blur"):
    """The target's probability as pixels go, the most important first (Petsiuk et al. 2018).

    Args:
        target: int array (N,), classes.
        maps: (N, H, W), importance; larger goes first.
        steps: number of equal shares of the pixels.
        insertion: True puts pixels into a blurred image instead of taking them out.
        fill: "blur" (Gaussian, sigma 1/8 of the height) or a number, in the place of missing pixels.
    Returns:
        (N, steps + 1) probabilities, from the whole (or the blurred) image on; their mean is the area.
    """
    images, maps = np.asarray(images, "float32"), np.asarray(maps)
    sigma = (0, images.shape[1] / 8, images.shape[2] / 8, 0)
    empty = gaussian_filter(images, sigma) if fill == "blur" else np.full_like(images, fill)
    old, new = (empty, images) if insertion else (images, empty)
    ranks = np.argsort(np.argsort(-maps.reshape(len(maps), -1), axis=1, kind="stable"), axis=1).reshape(maps.shape)
    shares = np.linspace(0, maps[0].size, steps + 1)
    changed = np.stack([np.where((ranks < share)[..., None], new, old) for share in shares], 1)
    plan = make_plan(model, opaque_step)
    flat = changed.reshape(-1, *images.shape[1:])
    scores = run(plan, Task(plan.steps, plan.inputs, (score_value(plan),)), [flat], [])[0][0]
    chances = probabilities(plan, scores).reshape(len(images), steps + 1, -1)
    return chances[np.arange(len(images)), :, np.asarray(target)]


def deletion_and_insertion(model, images, labels, maps, *, steps=16):
    """{"deletion", "insertion": (N,)}: the areas under the curves of each image; see `deletion_curve`."""
    kinds = {"deletion": False, "insertion": True}
    return {
        name: deletion_curve(model, images, labels, maps, steps=steps, insertion=insertion).mean(1)
        for name, insertion in kinds.items()
    }


def pointing_game(maps, masks):
    """Share of images whose most important pixel lies on the object (Zhang et al. 2016); masks are (N, H, W) bool."""
    maps, masks = _same_shape(maps, masks)
    return float(np.mean([mask.ravel()[m.argmax()] for m, mask in zip(maps, masks, strict=True)]))


def mass_accuracy(maps, masks):
    """Mean share of the positive importance that lies on the object (Arras et al. 2022)."""
    maps, masks = _same_shape(maps, masks)
    maps = np.maximum(maps, 0)
    return float(np.mean((maps * masks).sum((1, 2)) / np.maximum(maps.sum((1, 2)), 1e-30)))


def _same_shape(maps, masks):
    maps, masks = np.asarray(maps), np.asarray(masks, bool)
    if maps.shape != masks.shape:
        raise UsageError(f"Maps {maps.shape} and masks {masks.shape} must have the same shape (N, H, W).")
    return maps, masks


def evaluate(model, images, labels, *, masks=None, methods=None, steps=16, seed=0):
    """All scores of several methods, and of random maps for comparison.

    Args:
        labels: int (N,), the classes that are explained.
        masks: bool (N, H, W), where the object is; None leaves pointing and mass out.
        methods: names; None: all registered ones.
    Returns:
        pandas.DataFrame, one row per method and one for "random": deletion (area, lower is better), insertion (area,
        higher is better), pointing, mass, spearman and ssim after all layers are random (near 0 is better),
        fails_randomisation (known from Adebayo et al. 2018).
    """
    methods, labels = list(methods or EXPLANATIONS.names()), np.asarray(labels)
    rows, twin = [], random_twin(model, seed)
    for method in [*methods, "random"]:
        if method == "random":
            maps = np.random.default_rng(seed).random((len(images), *images.shape[1:3]))
        else:
            maps = importance(method, model, images, labels)
        areas = deletion_and_insertion(model, images, labels, maps, steps=steps)
        row = {"method": method, **{name: float(area.mean()) for name, area in areas.items()}}
        if masks is not None:
            row |= {"pointing": pointing_game(maps, masks), "mass": mass_accuracy(maps, masks)}
        if method != "random":
            ranks, alike = likeness(maps, importance(method, twin, images, labels))
            fails = bool(EXPLANATIONS.facts(method).get("fails_randomisation", False))
            row |= {"spearman": ranks.mean(), "ssim": alike.mean(), "fails_randomisation": fails}
        rows.append(row)
    return pd.DataFrame(rows)
