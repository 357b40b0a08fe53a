"""Weights from files that torch wrote, read without torch, and from KerasHub.

`.pth` files are pickles: they are read by an unpickler that knows tensors and dictionaries and refuses everything
else, so a file that wants to run code is an error. Both of torch's layouts are understood, the zip archive (since torch
1.6) and the older stream; `.safetensors` needs the safetensors package.
"""

import collections
import math
import pickle
import zipfile
from pathlib import Path

import keras
import numpy as np

from kerascnn import graph
from kerascnn.errors import DataError, UsageError, unknown

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of torch's older layout
_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",  # widened to float32 when read
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_Storage = collections.namedtuple("_Storage", "kind key")
_Tensor = collections.namedtuple("_Tensor", "storage offset shape strides")


def read_state_dict(path):
    """The tensors of a torch checkpoint, {name: array}.

    Args:
        path: a .pth or .pt file holding a state dict, alone or under the key "state_dict", or a .safetensors file.
    Raises:
        DataError: no such file, not such a file, cut short, or a pickle that holds anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"No checkpoint file {str(path)!r}. A torchvision .pth or a .safetensors file is needed.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        content, storages = _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
        if isinstance(content, dict) and "state_dict" in content:
            content = content["state_dict"]
        if not isinstance(content, dict):
            raise DataError(f"{path} holds a {type(content).__name__}, not a dictionary of tensors.")
        return {name: _array(value, storages) for name, value in content.items() if isinstance(value, _Tensor)}
    except DataError:
        raise
    except (pickle.UnpicklingError, EOFError, KeyError, ValueError, IndexError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not a torch checkpoint, or it is cut short: {error}") from error
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} is a damaged torch checkpoint: {error}") from error


class _TensorUnpickler(pickle.Unpickler):
    """Reads dictionaries of tensors; every other class or function is refused by name."""

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _Tensor(storage, offset, shape, strides)
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module == "torch" and name in _DTYPES:
            return name
        raise DataError(f"The checkpoint wants to use {module}.{name}, which no tensor needs: it was not read.")

    def persistent_load(self, saved_id):
        _, kind, key, *_ = saved_id
        return _Storage(kind, str(key))


def _read_zip(path):
    with zipfile.ZipFile(path) as archive:
        entry = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
        if entry is None:
            raise DataError(f"{path} is not a torch checkpoint: it is a ZIP file without data.pkl.")
        root = entry.removesuffix("data.pkl")
        with archive.open(entry) as file:
            content = _TensorUnpickler(file).load()
        parts = [name for name in archive.namelist() if name.startswith(f"{root}data/")]
        return content, {name.removeprefix(f"{root}data/"): archive.read(name) for name in parts}


def _read_legacy(path):
    with path.open("rb") as file:
        if _TensorUnpickler(file).load() != _LEGACY_MAGIC:
            raise DataError(f"{path} is not a torch checkpoint.")
        _TensorUnpickler(file).load()  # the layout's version
        _TensorUnpickler(file).load()  # the machine it was written on
        kinds = {}

        class Unpickler(_TensorUnpickler):
            def persistent_load(self, saved_id):
                storage = super().persistent_load(saved_id)
                kinds[storage.key] = storage.kind
                return storage

        content = Unpickler(file).load()
        storages = {}
        for key in map(str, _TensorUnpickler(file).load()):
            count = int(np.frombuffer(file.read(8), "<i8")[0])
            storages[key] = file.read(count * np.dtype(_DTYPES[kinds[key]]).itemsize)
        return content, storages


def _array(tensor, storages):
    """The array that a tensor's place in its storage describes; copied, so that the storage can go."""
    kind, key = tensor.storage
    flat = np.frombuffer(storages[key], _DTYPES[kind])
    if kind == "BFloat16Storage":
        flat = (flat.astype("<u4") << 16).view("<f4")
    shape, strides = tuple(tensor.shape), tuple(tensor.strides)
    last = tensor.offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if min((tensor.offset, *shape, *strides)) < 0 or (0 not in shape and last >= flat.size):
        raise DataError(f"A tensor of shape {shape} reaches beyond the {flat.size} numbers that the file holds for it.")
    byte_strides = [s * flat.itemsize for s in strides]
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], shape, byte_strides).copy()


def _read_safetensors(path):
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError as error:
        raise UsageError(f"Reading {path} needs the safetensors package: pip install 'kerascnn[export]'") from error
    try:
        return load_file(path)
    except SafetensorError as error:
        raise DataError(f"{path} is not a safetensors file, or it is cut short: {error}") from error


def load_torch_weights(model, path, *, skip=()):
    """Puts a torch checkpoint's weights into a model whose layers have the checkpoint's names, "_" for ".".

    Convolution, dense and batch normalisation layers are understood. Where they read flattened maps, their weights are
    put from torch's order (channels, rows, columns) into Keras' (rows, columns, channels). Nothing is changed unless
    everything fits.

    Args:
        model: keras.Model, as resnet18 gives.
        path: the checkpoint, see `read_state_dict`.
        skip: names of layers that keep their own weights, as in ("fc",).
    Raises:
        DataError: a layer is missing on either side or has another shape; the first such layer is named.
        UsageError: `skip` names no layer of the model, or the model has no graph (a subclass of keras.Model).
    """
    modules = {}
    for name, array in read_state_dict(path).items():
        module, _, weight = name.rpartition(".")
        modules.setdefault(module.replace(".", "_"), {})[weight] = array
    _put(model, modules, skip, Path(path).name)


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
    names = [layer.name for layer in model.layers if layer.weights]
    for name in skip:
        if name not in names:
            raise unknown(f"layer of {model.name}", name, names)
    chosen = [layer for layer in model.layers if layer.weights and layer.name not in skip]
    maps = _flattened_maps(model)
    values = []
    for layer in chosen:
        if layer.name not in modules:
            raise DataError(f"{source} has no layer {layer.name!r}, the first of {model.name!r} that it lacks.")
        for variable in layer.weights:
            array = modules[layer.name].get(_TORCH_NAMES.get(variable.name))
            flattened = layer in maps and variable.name != "bias"
            if array is not None and flattened:
                if array.shape[-1] != math.prod(maps[layer]):
                    raise DataError(
                        f"Layer {layer.name!r} of {model.name!r} reads flattened maps of {maps[layer]} together with "
                        f"other numbers, {array.shape[-1]} in all: how torch orders these is not known here."
                    )
                array = _channels_last(array, maps[layer])
            if array is not None and variable.name == "kernel":
                array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
            if array is None or array.shape != tuple(variable.shape):
                found = "missing" if array is None else f"of shape {array.shape}"
                hint = f" To keep the layer's own weights: skip=({layer.name!r},)." if layer is chosen[-1] else ""
                raise DataError(
                    f"{source} does not fit {model.name!r}: at layer {layer.name!r} the model's {variable.name} is of "
                    f"shape {tuple(variable.shape)}, the checkpoint's is {found} (in Keras' order of axes).{hint}"
                )
            values.append((variable, array))
    extra = [name for name in modules if name not in names]
    if extra:
        raise DataError(f"{source} does not fit {model.name!r}: the model has no layer {extra[0]!r}.")
    for variable, array in values:
        variable.assign(array)


def _flattened_maps(model):
    """{layer: (rows, columns, channels)} of the layers that read maps which were made one row of numbers."""
    maps, found = {}, {}  # of tensors, of layers
    flat = graph.flatten(model)
    for node in flat.nodes:
        layer, read = node.operation, [maps[number] for number in node.inputs if number in maps]
        into, out = ([flat.tensors[n].shape for n in numbers] for numbers in (node.inputs, node.outputs))
        if type(layer).__name__ in ("Flatten", "Reshape") and (len(into[0]), len(out[0])) == (4, 2):
            maps[node.outputs[0]] = tuple(into[0][1:])
        elif read:
            found[layer] = read[0]
            if not isinstance(layer, keras.layers.Dense):
                maps[node.outputs[0]] = found[layer]
    return found


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
        DataError: the file is neither there nor to be had, or is not what its name promises.
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
