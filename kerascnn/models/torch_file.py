"""Files that torch wrote, read without torch and without running anything that they hold.

`.pth` files are pickles: they are read by an unpickler that knows tensors and dictionaries; settings and counters
beside them are passed over, and whatever else could run a program is refused by name. Both of torch's layouts are
understood, the zip archive (since torch 1.6) and the older stream; `.safetensors` needs the safetensors package. Only
the tensors that are needed are read, and none that declares more than its file holds.
"""

import collections
import io
import math
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np

from kerascnn.errors import DataError, UsageError
from kerascnn.files import check_regular

SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")
# Under which names people save a state dict beside other things, the first that is there counts; the averaged weights
# (EMA) only where they are alone.
WRAPPERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net_state_dict", "net", "network", "module"),
    *("weights", "params", "parameters", "backbone", "encoder", "student", "teacher"),
    *("state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "ema", "params_ema"),
)
# What stands beside weights in checkpoints and is never needed: modules whose classes and functions are not run.
HARMLESS = (
    *("argparse", "collections", "_codecs", "copyreg", "datetime", "enum", "numpy", "omegaconf", "pathlib", "typing"),
    *("lightning", "lightning_fabric", "lightning_utilities", "pytorch_lightning", "mmengine", "easydict", "yacs"),
)
HARMLESS_NAMES = {
    "builtins": (
        "set",
        "frozenset",
        "complex",
        "slice",
        "range",
        "bytearray",
        "object",
        "dict",
        "list",
        "int",
        "float",
    ),
    "types": ("SimpleNamespace",),
    "torch": ("Size", "device", "dtype", "Generator"),
    "torch.serialization": ("_get_layout",),
}
HARMLESS_NAMES["__builtin__"] = HARMLESS_NAMES["builtins"]

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
        path: a .pth or .pt file holding a state dict, alone or under a usual name such as "state_dict", "model" or
            "model_state_dict", or a .safetensors file.
    Raises:
        DataError: no such file, not such a file, cut short, of more than it can hold, or a pickle that would run a
            program.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"No checkpoint file {str(path)!r}. A torchvision .pth or a .safetensors file is needed.")
    check_regular(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        with path.open("rb") as file:
            content, storages = _read_zip(path, file) if zipfile.is_zipfile(file) else _read_legacy(path, file)
            return {name: _array(tensor, storages) for name, tensor in _state_dict(content, path).items()}
    except (DataError, MemoryError):
        raise
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} is a damaged torch checkpoint: {error}") from error
    except Exception as error:  # a pickle that is cut short or damaged raises almost anything
        raise DataError(f"{path} is not a torch checkpoint, or it is cut short: {error}") from error


def _state_dict(content, path):
    """{name: _Tensor} in what a checkpoint holds: itself, or one of its dictionaries."""
    if not isinstance(content, dict):
        raise DataError(
            f"{path} holds a {type(content).__name__.strip('_')}, not a dictionary of tensors. Save one with: "
            "torch.save(module.state_dict(), PATH)"
        )
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, _Tensor)}
    inner = {name: value for name, value in content.items() if isinstance(value, dict) and _holds_tensors(value)}
    if len(tensors) > 1 or not inner:
        return tensors
    name = next((name for name in WRAPPERS if name in inner), None)
    if name is None and len(inner) > 1:
        raise DataError(
            f"{path} holds {len(inner)} dictionaries of tensors, {', '.join(map(repr, inner))}. Save the one that is "
            "meant alone: torch.save(checkpoint[NAME], PATH)"
        )
    return _state_dict(inner[name] if name is not None else next(iter(inner.values())), path)


def _holds_tensors(value, depth=3):
    return any(
        isinstance(item, _Tensor) or (depth and isinstance(item, dict) and _holds_tensors(item, depth - 1))
        for name, item in value.items()
        if isinstance(name, str)  # an optimizer's state is numbered
    )


class _Inert:
    """Stands for something in a pickle that is never needed: whatever would have made it is not run."""

    def __new__(cls, *args, **kwargs):
        return object.__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass

    def __setitem__(self, name, value):
        pass

    def __call__(self, *args, **kwargs):
        return self

    def append(self, item):
        pass

    extend = add = append


class _Clipped:
    """A file of which no more is asked than it holds: a pickle may declare text of any length."""

    def __init__(self, file):
        self.file, self.size = file, os.fstat(file.fileno()).st_size

    def read(self, count):
        return self.file.read(min(count, self.size))

    def readline(self):
        return self.file.readline()


class _TensorUnpickler(pickle._Unpickler):  # the one in C lets a pickle of some bytes fill the memory with its memo
    """Reads dictionaries of tensors; what is harmless beside them becomes `_Inert`, all else is refused by name."""

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) in (("torch._utils", "_rebuild_tensor"), ("torch._utils", "_rebuild_tensor_v2")):
            return lambda storage, offset, shape, strides, *_: _Tensor(storage, offset, shape, strides)
        if module == "torch._utils" and name in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
            return lambda tensor, *_: tensor
        if module in ("torch", "torch.cuda") and name in _DTYPES:
            return name
        if module.partition(".")[0] in HARMLESS or name in HARMLESS_NAMES.get(module, ()) or _is_dtype(module, name):
            return _Inert
        raise DataError(
            f"The checkpoint wants to use {module}.{name}, which no tensor needs: it was not read. If it is a whole "
            "module, save its tensors alone: torch.save(module.state_dict(), PATH)"
        )

    def persistent_load(self, saved_id):
        _, kind, key, *_ = saved_id
        return _Storage(kind, str(key))


def _is_dtype(module, name):
    return module == "torch" and name.rstrip("0123456789") in ("float", "bfloat", "int", "uint", "bool", "complex")


def _read_zip(path, file):
    archive = zipfile.ZipFile(file)
    entry = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
    if entry is None:
        raise DataError(f"{path} is not a torch checkpoint: it is a ZIP file without data.pkl.")
    root, size = entry.removesuffix("data.pkl"), os.fstat(file.fileno()).st_size

    def read(name):
        declared = archive.getinfo(name).file_size
        if declared > 20 * size:  # torch does not compress, and weights hardly shrink
            raise DataError(f"{path} declares {declared:,} bytes for {name} and has {size:,}: it was not read.")
        return archive.read(name)

    content = _TensorUnpickler(io.BytesIO(read(entry))).load()
    return content, _Storages(lambda storage: read(f"{root}data/{storage.key}"))


def _read_legacy(path, file):
    file.seek(0)
    clipped = _Clipped(file)
    if _TensorUnpickler(clipped).load() != _LEGACY_MAGIC:
        raise DataError(f"{path} is not a torch checkpoint.")
    _TensorUnpickler(clipped).load()  # the layout's version
    _TensorUnpickler(clipped).load()  # the machine it was written on
    kinds = {}

    class Unpickler(_TensorUnpickler):
        def persistent_load(self, saved_id):
            storage = super().persistent_load(saved_id)
            kinds[storage.key] = storage.kind
            return storage

    content = Unpickler(clipped).load()
    places = {}
    for key in map(str, _TensorUnpickler(clipped).load()):
        count = int(np.frombuffer(file.read(8), "<i8")[0])
        length = count * np.dtype(_DTYPES[kinds[key]]).itemsize
        if not 0 <= length <= clipped.size - file.tell():
            raise DataError(f"{path} declares {length:,} bytes for a tensor and has {clipped.size:,}: it was not read.")
        places[key] = file.tell(), length
        file.seek(length, os.SEEK_CUR)

    def read(storage):
        start, length = places[storage.key]
        file.seek(start)
        return file.read(length)

    return content, _Storages(read)


class _Storages(dict):
    """{storage: its numbers, one after the other}, each read when it is first asked for."""

    def __init__(self, read):
        super().__init__()
        self._read = read

    def __missing__(self, storage):
        flat = np.frombuffer(self._read(storage), _DTYPES[storage.kind])
        if storage.kind == "BFloat16Storage":
            flat = (flat.astype("<u4") << 16).view("<f4")
        self[storage] = flat
        return flat


def _array(tensor, storages):
    """The array that a tensor's place in its storage describes, a view of that."""
    flat, shape, strides = storages[tensor.storage], tuple(tensor.shape), tuple(tensor.strides)
    last = tensor.offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    beyond = min((tensor.offset, *shape, *strides)) < 0 or (0 not in shape and last >= flat.size)
    if beyond or math.prod(shape) > max(flat.size, 2**26):  # a number may stand for many, but not for any number
        raise DataError(f"A tensor of shape {shape} reaches beyond the {flat.size} numbers that the file holds for it.")
    byte_strides = [s * flat.itemsize for s in strides]
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], shape, byte_strides, writeable=False)


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
