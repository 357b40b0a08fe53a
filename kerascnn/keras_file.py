"""The network of a run, or of a .keras file.

A file is looked at before Keras builds what it declares: bits that flipped are told by the checksums of its ZIP
archive, and more layers or weights than there can be are refused.
"""

import zipfile
import zlib
from pathlib import Path

import keras

import kerascnn.layers  # noqa: F401  a .keras file may hold them
from kerascnn import runs
from kerascnn.errors import DataError, UsageError, command
from kerascnn.files import check_inflated, check_regular, json_value, read_toml, tables_in
from kerascnn.network import graph

MOST_LAYERS = 5_000  # NASNet-Large, the deepest of Keras' applications, has about 1,000
MOST_IN_SEQUENTIAL = 300  # which Keras builds anew for each layer that is added


def load(run):
    """The `keras.Model` of a run: preprocessed images float32 (N, H, W, C) -> probabilities float32 (N, num_classes).

    Args:
        run: a Run, its folder, its name, "last", or the path of a .keras file.
    """
    if isinstance(run, (str, Path)) and str(run).endswith(".keras"):
        path = Path(run)
        if not path.exists():
            raise UsageError(f"There is no file {path}. List runs: kerascnn runs")
    else:
        run = runs.as_run(run)
        path = run / "best.keras"
        if not path.exists():
            raise DataError(
                f"{run.folder} has no best.keras; its status is {run.status!r}. "
                f"Finish it: {command('train', '--resume', run.folder)}"
            )
    _check(path)
    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras, h5py and the layers raise almost anything
        # Keras puts pages of configuration around what is wrong.
        reason = str(error).rpartition("Exception encountered: ")[2].partition(" Full object config")[0] or repr(error)
        raise DataError(f"{path} cannot be loaded: {reason}") from error
    if isinstance(run, runs.Run):
        _check_labels(run, model)
    return model


def beside(path):
    """The file that stores what was stated about a model file."""
    return Path(path).with_suffix(".kerascnn.toml")


def stated(path):
    """What was stated about a model file (`kerascnn adopt`), or None: a dict with labels, preprocess, resize, crop and
    from_logits."""
    file = beside(path)
    if not file.exists():
        return None
    said = read_toml(file)
    wrong = sorted(set(said) ^ {"labels", "preprocess", "resize", "crop", "from_logits"})
    if wrong:
        raise DataError(f"{file} is damaged at {wrong[0]!r}. Write it again: {command('adopt', path)} --preprocess ...")
    return said


def _check_labels(run, model):
    """Raise a DataError if a run's class names are not as many as the classes of its network."""
    outputs = model.output_shape[-1] if isinstance(model.output_shape, tuple) else None
    if not isinstance(outputs, int) or not (run / "labels.json").exists():
        return
    labels = run.read("labels")
    if len(labels) != max(outputs, 2):  # one unit tells two classes apart
        raise DataError(
            f"{run / 'labels.json'} names {len(labels)} classes and the network in best.keras has {outputs} outputs: "
            "one of the two files was changed."
        )


def _check(path):
    """Raise a DataError for a .keras file that is damaged, or that declares more than it can hold."""
    check_regular(path)
    size = path.stat().st_size
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is cut short or not a .keras file: its {size:,} bytes are not a whole zip archive.")
    try:
        with zipfile.ZipFile(path) as archive:
            check_inflated(path, size, sum(entry.file_size for entry in archive.infolist()))
            broken = archive.testzip()
            if broken:
                raise DataError(f"{path} is damaged: its part {broken!r} does not agree with its checksum.")
            if "config.json" not in archive.namelist():
                raise DataError(f"{path} is no .keras file: it is a zip archive without config.json.")
            config = json_value(archive.read("config.json"), f"{path}: config.json")
            stored = sum(entry.file_size for entry in archive.infolist() if entry.filename.endswith(".h5"))
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is damaged: {error}.") from error
    _check_layers(path, config)
    _check_weights(path, config, stored)


def _check_layers(path, config):
    """Raise a DataError for more layers than can be built in some seconds, and for PyTorch's among them."""
    count = 0
    for table in tables_in(config):
        kind, inner = table.get("class_name"), table.get("config")
        if kind == "TorchModuleWrapper":
            raise DataError(
                f"{path} holds a PyTorch module, which is a program and is not run. Save the module's weights with "
                "torch.save(module.state_dict(), 'x.pth') and start from these: kerascnn train --from x.pth"
            )
        layers = inner.get("layers") if isinstance(inner, dict) else None
        layers = len(layers) if isinstance(layers, list) else 0
        count += layers
        if kind == "Sequential" and layers > MOST_IN_SEQUENTIAL:
            raise DataError(
                f"{path} declares a Sequential model of {layers:,} layers; at most {MOST_IN_SEQUENTIAL} are built, "
                "and more in a functional model, keras.Model(inputs, outputs)."
            )
    if count > MOST_LAYERS:
        raise DataError(f"{path} declares {count:,} layers; at most {MOST_LAYERS:,} are built.")


def _check_weights(path, config, stored):
    """Raise a DataError for a network that declares more weights than the file has bytes for them."""
    try:
        with graph.without_weights():
            count = keras.saving.deserialize_keras_object(config).count_params()
    except Exception:  # loading says what is wrong
        return
    if count > stored:
        raise DataError(
            f"{path} declares {count:,} weights and holds {stored:,} bytes of them: it is damaged, or was made to fill "
            "the memory, and was not loaded."
        )
