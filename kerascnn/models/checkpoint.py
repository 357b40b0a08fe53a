"""Puts weights into a model from files that torch wrote (`torch_file` reads them) and from KerasHub."""

import collections
import math
from pathlib import Path

import keras
import numpy as np

from kerascnn.errors import DataError, UsageError
from kerascnn.models.torch_file import read_state_dict
from kerascnn.network import graph
from kerascnn.network.find import find_all, layers_in


def load_torch_weights(model, path, *, skip=()):
    """Puts a torch checkpoint's weights into a model whose layers have the checkpoint's names, "_" for ".".

    Convolution, dense and batch normalisation layers are understood. Where they read flattened maps, their weights are
    put from torch's order (channels, rows, columns) into Keras' (rows, columns, channels). Nothing is changed unless
    everything fits.

    Args:
        model: keras.Model, as resnet18 gives.
        path: the checkpoint, see `read_state_dict`. Where its names begin with a wrapper's, as "module." or
            "backbone.", that is left out, and so are tensors without it that the model has no layer for.
        skip: names of layers that keep their own weights, as in ("fc",) or "fc,conv1".
    Raises:
        DataError: a layer is missing on either side or has another shape; the first such layer is named.
        UsageError: `skip` names no layer of the model, or the model has no graph (a subclass of keras.Model).
    """
    _put(model, _modules(model, path), skip, Path(path).name)


def fill_from_torch(model, path):
    """Put a torch checkpoint's weights into the layers of a model of the same names and shapes; the others stay.

    Args:
        model, path: as of `load_torch_weights`.
    Returns:
        names of the layers that were filled.
    """
    modules, maps, filled = _modules(model, path), _flattened_maps(model), []
    for layer in model.layers:
        arrays = [_keras_array(model, layer, v, modules.get(layer.name, {}), maps) for v in layer.weights]
        if arrays and all(
            a is not None and a.shape == tuple(v.shape) for a, v in zip(arrays, layer.weights, strict=True)
        ):
            layer.set_weights(arrays)
            filled.append(layer.name)
    return filled


def _modules(model, path):
    """{layer name: {torch's weight name: array}} of a checkpoint, without the name of a wrapper."""
    known = {layer.name for layer in model.layers if layer.weights}
    state = {tuple(name.split(".")): array for name, array in read_state_dict(path).items()}
    wrapper = _wrapper(state, known)
    modules = {}
    for parts, array in state.items():
        inside = parts[: len(wrapper)] == wrapper
        module = "_".join((parts[len(wrapper) :] if inside else parts)[:-1]) or ".".join(parts)
        if inside or module in known:
            modules.setdefault(module, {})[parts[-1]] = array
    return modules


def _wrapper(state, known):
    """The beginning of a checkpoint's names, as a tuple of parts, without which most of a model's layers are in it."""
    layers = collections.defaultdict(set)
    for parts in state:
        for depth in range(len(parts) - 1):
            module = "_".join(parts[depth:-1])
            if module in known:
                layers[parts[:depth]].add(module)
    return max(layers, key=lambda wrapper: (len(layers[wrapper]), -len(wrapper)), default=())


def _skipped(skip):
    """Names of layers from a sequence or from text: "fc", "fc,conv1", "('fc',)"."""
    names = skip.strip("()[]").split(",") if isinstance(skip, str) else skip
    return [name.strip(" '\"") for name in names if name.strip(" '\"")]


# Keras' name of a weight: torch's.
_TORCH_NAMES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def _put(model, modules, skip, source):
    """Assigns `modules`, {layer name: {torch's weight name: array}}, to the model's layers, all or nothing."""
    names, skip = [layer.name for layer in model.layers if layer.weights], _skipped(skip)
    skip = {place.path for place in find_all(layers_in(model), skip)} if skip else ()
    chosen = [layer for layer in model.layers if layer.weights and layer.name not in skip]
    maps = _flattened_maps(model)
    values = []
    for layer in chosen:
        if layer.name not in modules:
            raise DataError(
                f"{source} has no layer {layer.name!r}, the first of {model.name!r} that it lacks."
                + (_advice(layer.name) if layer is chosen[-1] else "")
            )
        for variable in layer.weights:
            array = _keras_array(model, layer, variable, modules[layer.name], maps)
            if array is None or array.shape != tuple(variable.shape):
                given = "missing" if array is None else f"of shape {array.shape}"
                hint = _advice(layer.name) if layer is chosen[-1] else ""
                raise DataError(
                    f"{source} does not fit {model.name!r}: at layer {layer.name!r} the model's {variable.name} is of "
                    f"shape {tuple(variable.shape)}, the checkpoint's is {given} (in Keras' order of axes).{hint}"
                )
            values.append((variable, array))
    extra = [name for name in modules if name not in names and name not in skip]
    if extra:
        raise DataError(f"{source} does not fit {model.name!r}: the model has no layer {extra[0]!r}.")
    for variable, array in values:
        variable.assign(array)


def _advice(name):
    return f" To keep the layer's own weights, give skip={name!r}"


def _keras_array(model, layer, variable, arrays, maps):
    """The array of torch's for a variable of a layer, in Keras' order of axes; None where there is none."""
    array = arrays.get(_TORCH_NAMES.get(variable.name))
    if array is None:
        return None
    if layer in maps and variable.name != "bias" and array.ndim and array.shape[-1] == variable.shape[0]:
        if array.shape[-1] != math.prod(maps[layer]):
            raise DataError(
                f"Layer {layer.name!r} of {model.name!r} reads flattened maps of {maps[layer]} together with "
                f"other numbers, {array.shape[-1]} in all: how torch orders these is not known here."
            )
        array = _channels_last(array, maps[layer])
    if variable.name == "kernel":
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    return array


def _flattened_maps(model):
    """{layer: (rows, columns, channels)} of the layers that read maps which were made one row of numbers."""
    maps, shapes = {}, {}  # of tensors, of layers
    flat = graph.flatten(model)
    for node in flat.nodes:
        layer, read = node.operation, [maps[number] for number in node.inputs if number in maps]
        into, out = ([flat.tensors[n].shape for n in numbers] for numbers in (node.inputs, node.outputs))
        if type(layer).__name__ in ("Flatten", "Reshape") and (len(into[0]), len(out[0])) == (4, 2):
            maps[node.outputs[0]] = tuple(into[0][1:])
        elif read:
            shapes[layer] = read[0]
            if not isinstance(layer, keras.layers.Dense):
                maps[node.outputs[0]] = shapes[layer]
    return shapes


def _channels_last(array, maps):
    """An array (..., channels * rows * columns) in the order (..., rows * columns * channels)."""
    rows, columns, channels = maps
    shape = array.shape
    return np.moveaxis(array.reshape(*shape[:-1], channels, rows, columns), -3, -1).reshape(shape)


# torchvision's files (its ResNet..._Weights.IMAGENET1K_V1); a name ends in the first digits of the file's SHA-256.
IMAGENET_FILES = {
    "resnet18": "resnet18-f37072fd.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-0676ba61.pth",
}
KERASHUB_PRESETS = {"resnet18": "resnet_18_imagenet", "resnet50": "resnet_50_imagenet"}


def load_pretrained(model, architecture, weights, skip=()):
    """`model` with the weights asked for: None, a checkpoint file, "imagenet" or "kerashub"; see `resnet18`."""
    if weights is None:
        return model
    if weights == "imagenet":
        weights = imagenet_file(architecture)
    if weights == "kerashub":
        load_kerashub_weights(model, KERASHUB_PRESETS.get(architecture, architecture), skip=skip)
    else:
        load_torch_weights(model, weights, skip=skip)
    return model


def imagenet_file(architecture):
    """The path of torchvision's ImageNet checkpoint: in the cache folder, fetched if it is not there.

    Raises:
        DataError: the file is missing and cannot be downloaded, or is not what its name promises.
    """
    import hashlib

    import pooch

    from kerascnn.datasets.downloads import cache_folder

    name = IMAGENET_FILES[architecture]
    path = cache_folder("weights") / name
    if path.exists():
        return path
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("CRITICAL")
    url = f"https://download.pytorch.org/models/{name}"
    try:
        pooch.retrieve(url, known_hash=None, fname=f"{name}.part", path=path.parent)
    except OSError as error:
        raise DataError(
            f"The ImageNet weights of {architecture} are not on this machine and download.pytorch.org cannot be "
            f"reached: put {name} into {path.parent}, or give a checkpoint's path as weights=."
        ) from error
    finally:
        logger.setLevel(level)
    part = path.with_name(f"{name}.part")
    promised = path.stem.rpartition("-")[2]
    if not hashlib.sha256(part.read_bytes()).hexdigest().startswith(promised):
        part.unlink()
        raise DataError(f"What {url} sent is not the original: its SHA-256 does not begin with {promised}.")
    return part.replace(path)


def load_kerashub_weights(model, preset, *, skip=()):
    """Puts the weights of a KerasHub ResNet classifier preset ("resnet_18_imagenet") into `model`.

    KerasHub's presets come from timm, not from torchvision: the same layers, other weights.
    """
    try:
        import keras_hub
    except ImportError as error:
        raise UsageError("weights='kerashub' needs KerasHub: pip install keras-hub") from error
    copy_kerashub_weights(model, keras_hub.models.ImageClassifier.from_preset(preset), skip=skip)


def copy_kerashub_weights(model, classifier, *, skip=()):
    """Puts the weights of a KerasHub ResNet image classifier into `model`, whose layers have torchvision's names."""
    modules = {}
    for layer in classifier.backbone.layers:
        if layer.weights:
            modules[_torch_name(layer.name)] = _torch_layout(layer)
    modules["fc"] = _torch_layout(classifier.output_dense)
    _put(model, modules, skip, classifier.name)


def _torch_name(name):
    """Our name of a KerasHub layer: "stack0_block1_2_conv" is "layer1_1_conv2"."""
    if name in ("conv1_conv", "conv1_bn"):
        return {"conv1_conv": "conv1", "conv1_bn": "bn1"}[name]
    stack, block, number, kind = name.split("_")
    block_name = f"layer{int(stack.removeprefix('stack')) + 1}_{block.removeprefix('block')}"
    if number == "0":
        return f"{block_name}_downsample_{0 if kind == 'conv' else 1}"
    return f"{block_name}_{kind}{number}"


def _torch_layout(layer):
    """{torch's weight name: array in torch's order of axes} of a Keras layer."""
    arrays = {}
    for variable in layer.weights:
        array = np.array(variable)
        if variable.name == "kernel":
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        arrays[_TORCH_NAMES[variable.name]] = array
    return arrays
