"""Starting from another network's weights, and training only a part of a network."""

import math
import tempfile
from pathlib import Path

import h5py
import keras

from kerascnn import runs
from kerascnn.errors import DataError, UsageError, counted
from kerascnn.keras_file import load
from kerascnn.layers import give_weights
from kerascnn.models import is_file, torch_file
from kerascnn.models.backbone import HEAD
from kerascnn.models.checkpoint import fill_from_torch
from kerascnn.network.find import find_all, layers_in, layers_of
from kerascnn.training.head import start_head


def transfer(recipe, model, data, prepared, fill=True):
    """Start from other weights and freeze, as the recipe asks; returns sentences about what was done.

    Args:
        data: ImageData, whose classes are to be learned.
        prepared: its Preprocessing.
        fill: False leaves the weights as they are, for a resumed run.
    """
    notes, filled = [], []
    if recipe.start_from and fill:
        filled, left = start_from(model, recipe.start_from, data.class_names)
        new = f"; new: {', '.join(left)}" if left else ""
        notes.append(f"{counted(len(filled), 'layer starts', 'layers start')} from {recipe.start_from}{new}")
    if is_file(recipe.model) and fill and HEAD not in filled and not recipe.model_options.get("fresh"):
        notes.append(start_head(model, data, prepared, recipe.class_weights == "balanced"))
    names = frozen_layers(model, recipe.freeze, recipe.train_last)
    if names:
        freeze(model, names)
        trained = sum(math.prod(v.shape) for v in model.trainable_variables)
        notes.append(f"{len(names)} layers are frozen, {names[0]} to {names[-1]}; {trained:,} parameters are trained")
    return notes


def start_from(model, source, class_names):
    """Put the weights of a run or file into the layers of the same name and shapes; the others stay as they are.

    A run with other classes does not lend its last dense layer, the head, nor what follows it.

    Args:
        model: keras.Model.
        source: a run (folder, name or "last"), or a .keras, .weights.h5, .pth or .safetensors file.
        class_names: the classes to be learned.
    Returns:
        (names of the layers that were filled, names of those with weights that were not).
    Raises:
        UsageError: no such run or file, or no layer fits.
        DataError: a file that cannot be read.
    """
    weighted = [layer for layer in model.layers if layer.weights]
    if str(source).endswith(".weights.h5"):
        filled = _fill(model, [layer.name for layer in weighted], Path(source))
    elif Path(source).suffix in torch_file.SUFFIXES:
        filled = fill_from_torch(model, source)
    else:
        weights = {layer.name: layer.get_weights() for layer in _lenders(source, class_names) if layer.weights}
        filled = []
        for layer in weighted:
            lent = weights.get(layer.name)
            if lent and [w.shape for w in lent] == [tuple(w.shape) for w in layer.weights]:
                give_weights(layer, lent)
                filled.append(layer.name)
    if not filled:
        raise UsageError(
            f"No layer of {model.name!r} has the name and shape of one in {source}; its layers with weights are "
            f"{', '.join(layer.name for layer in weighted)}. Give model=NAME, the network that {source} "
            "was made with."
        )
    return filled, [layer.name for layer in weighted if layer.name not in filled]


def _lenders(source, class_names):
    """The layers of a run's or .keras file's network that lend their weights: if its classes are others, those before
    the head."""
    others = False
    if not str(source).endswith(".keras"):
        if Path(source).is_file():
            raise UsageError(
                f"start_from={str(source)!r} is no .keras, .weights.h5, {', '.join(torch_file.SUFFIXES[:-1])} or "
                f"{torch_file.SUFFIXES[-1]} file. Give one, or a run's folder or name."
            )
        source = runs.find(source)
        others = list(source.read("labels")) != list(class_names)
    layers = load(source).layers
    dense = [number for number, layer in enumerate(layers) if isinstance(layer, keras.layers.Dense)]
    return layers[: dense[-1]] if others and dense else layers


def _fill(model, names, path):
    """Put the weights of a .weights.h5 file into the layers of `names`; returns the names of those that were filled.

    Keras itself loads such a file by the classes and places of the layers, not by their names, though it writes these.
    """
    if not path.is_file():
        raise UsageError(f"There is no file {path}.")
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "own.weights.h5"
        model.save_weights(whole)
        try:
            with h5py.File(path) as file, h5py.File(whole, "r+") as filled:
                lent, held = _arrays(file), _arrays(filled)
                if not lent:
                    raise UsageError(
                        f"{path} holds no names of layers, as files of older versions of Keras. Load it into its "
                        "network and save that as a .keras file."
                    )
                fitting = [name for name in names if _shapes(held[name]) == _shapes(lent.get(name, {}))]
                for name in fitting:
                    for key, array in held[name].items():
                        array[...] = lent[name][key][...]
        except OSError as error:
            raise DataError(f"{path} is cut short or not a file of weights: {error}") from error
        model.load_weights(whole)
    return fitting


def _arrays(file):
    """{name of a layer: {path below it: array}} of an open .weights.h5 file."""
    by_layer = {}
    for group in file.get("layers", {}).values():
        if "vars" in group and "name" in group["vars"].attrs:
            arrays = by_layer[group["vars"].attrs["name"]] = {}
            group.visititems(
                lambda key, item, arrays=arrays: arrays.update({key: item} if hasattr(item, "shape") else {})
            )
    return by_layer


def _shapes(arrays):
    return {key: array.shape for key, array in arrays.items()}


def frozen_layers(model, freeze="", train_last=0):
    """Names of the layers that a recipe's `freeze` or `train_last` keeps from being trained.

    Raises:
        UsageError: a name, pattern or range that matches nothing, or more layers to train than there are.
    """
    if train_last:
        names = [layer.name for layer in model.layers]
        deep = [layer.name for layer in model.layers if any(v.name == "kernel" for v in layer.weights)]
        if train_last > len(deep):
            raise UsageError(
                f"train_last={train_last} is more than the {len(deep)} convolutions and dense layers of {model.name!r}."
            )
        return names[: names.index(deep[-train_last])]
    if not freeze.strip(" ,"):
        return []
    network = layers_in(model)
    frozen = {place.path for place in find_all(network, freeze)}
    return [path for path in network.layers if path in frozen]


def freeze(model, names):
    """Keep layers from being trained; batch normalisation among them uses and keeps the statistics that it has."""
    opened = layers_of(model) | {layer.name: layer for layer in model.layers}
    for name in names:
        opened[name].trainable = False
    if not model.trainable_variables:
        raise UsageError(f"Nothing of {model.name!r} is left to train: all its layers with weights are frozen.")
