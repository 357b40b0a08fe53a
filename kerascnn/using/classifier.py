"""Any classifier in the form that the commands take: a keras.Model with its labels and preprocessing.

A run knows all three. For a bare .keras or .h5 file, the user states them once (`adopt`), and they are stored next to
it in NAME.kerascnn.toml. `subject` opens whatever a command may name: a run, a model file, `applications:NAME` of
keras.applications, or one of our networks, freshly initialised.
"""

import dataclasses
import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from kerascnn import keras_file, notebook, runs
from kerascnn.datasets.preprocessing import Preprocessing
from kerascnn.datasets.resize import as_size
from kerascnn.errors import DataError, UsageError, command
from kerascnn.models import APPLICATION, FILES, MODELS
from kerascnn.network.pixels import GUESSED, PREPROCESS, expected
from kerascnn.using.applications import affine, application_model, imagenet_labels
from kerascnn.using.class_names import class_indices, class_names


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network that classifies images, with everything that is needed to use it.

    Attributes:
        model: keras.Model, float32 (N, H, W, C) -> probabilities float32 (N, num_classes), or (N, 1) of class 1.
        preprocessing: function, uint8 (N, *resize_to, C) -> the model's input (`kerascnn.datasets.preprocessing`).
        labels: class names, in the order of the outputs.
        name: its name in titles.
        folder: where looks at it are written.
        notes: sentences about what was assumed.
        run: the Run that it comes from, or None.
    """

    model: keras.Model
    preprocessing: Preprocessing
    labels: tuple
    name: str
    folder: Path
    notes: tuple = ()
    run: runs.Run | None = None

    def _repr_html_(self):
        prepared = self.preprocessing
        size = "x".join(map(str, (*prepared.image_size, prepared.channels)))
        first = ", ".join(self.labels[:5]) + (", ..." if len(self.labels) > 5 else "")
        rows = [("input", size), ("classes", f"{len(self.labels):,}: {first}")]
        rows += [("parameters", f"{self.model.count_params():,}"), *(("note", note) for note in self.notes)]
        return notebook.card(f"Classifier {self.name}", rows)


def adopt(model, *, labels=None, preprocess=None, resize=None, crop=None, from_logits=False, folder=None):
    """A Classifier made from any keras.Model.

    Args:
        model: keras.Model with one image input and one output of class probabilities, or the path of its file.
        labels: class names: a sequence, {index: name}, or the path of a JSON list, a JSON table or a text file with one
            name per line. None: the numbers of the classes.
        preprocess: the pixel values that the model expects: a name in `network.pixels.PREPROCESS`, or (mean, std) on
            the 0-to-1 scale, one number each or one per channel. None: pixels from 0 to 255 if the model itself begins
            with scaling them.
        resize: side, or (height, width), that images are resized to; None: the same as `crop`.
        crop: side, or (height, width), cut from the centre; None: the model's own input size.
        from_logits: True if the model's outputs are scores: a softmax is added after them, or a sigmoid after a single
            one.
        folder: where looks at it are written; None: a folder named after the model in the current directory.
    Raises:
        UsageError: it is not an image classifier, or an argument is missing or not allowed.
    """
    name = None
    if isinstance(model, (str, Path)):
        name, model = Path(model).stem, load_file(model)
    name = name or model.name
    shape = _image_shape(model, name)
    size = as_size(crop) or shape[:2]
    if None in size:
        raise UsageError(f"{name} takes images of any size. Say which, such as crop=224.")
    _check_crop(name, shape, size)
    resize_to = as_size(resize) or size
    if any(large < small for large, small in zip(resize_to, size, strict=True)):
        raise UsageError(f"resize={resize} is smaller than the {size[0]}x{size[1]} pixels that the network sees.")
    notes = []
    mean, std, bgr = expected(model, name, preprocess, shape[2], notes)
    if from_logits:
        model = _with_probabilities(model)
    num_classes = max(2, model.output_shape[-1])
    names = class_names(labels, num_classes, notes)
    _check_probabilities(model, (*size, shape[2]), name)
    prepared = Preprocessing(resize_to, size, shape[2], mean, std, bgr)
    return Classifier(model, prepared, names, name, Path(folder or runs.plain(name)), tuple(notes))


def subject(named):
    """The Classifier that a command's argument names.

    Args:
        named: a Classifier; a run (a Run, its folder, its name, "last" or its best.keras), a .keras or .h5 file that
            was adopted, "applications:NAME" or "applications:NAME=WEIGHTS_FILE", or the name of one of our networks.
    """
    if isinstance(named, Classifier):
        return named
    if not isinstance(named, runs.Run):
        text, path = str(named), Path(named).expanduser()
        if text.startswith(APPLICATION):
            return application(text.removeprefix(APPLICATION))
        if path.name == "best.keras" and (path.parent / "run.json").exists():
            named = path.parent
        elif path.suffix in FILES:
            return _adopted(path)
        elif text in MODELS and not runs.is_run(text):
            classifier = adopt(MODELS.get(text)(), preprocess="0-1")
            note = f"{text} is freshly initialised: it has learned nothing."
            return dataclasses.replace(classifier, notes=(*classifier.notes, note))
    run = runs.as_run(named)
    model, name = keras_file.load(run), run.read("recipe")["model"]
    return Classifier(model, preprocessing(run), tuple(run.read("labels")), name, run.folder, run=run)


def preprocessing(run):
    """The Preprocessing of a run: uint8 (N, H, W, C) images at `resize_to` -> the network's input."""
    described = runs.as_run(run).read("data")
    if "preprocessing" not in described:
        raise DataError(f"{runs.as_run(run) / 'data.json'} is damaged: it has no preprocessing.")
    return Preprocessing.from_dict(described["preprocessing"])


# --- what a file beside a model says ---


def keep(path, *, labels=None, preprocess=None, resize=None, crop=None, from_logits=False):
    """Adopt a model file and store what was stated about it next to it; returns (the Classifier, the path written)."""
    import tomli_w

    classifier = adopt(path, labels=labels, preprocess=preprocess, resize=resize, crop=crop, from_logits=from_logits)
    prepared = classifier.preprocessing
    said = {
        "preprocess": GUESSED if preprocess is None else preprocess,
        "resize": prepared.resize_to,
        "crop": prepared.image_size,
        "from_logits": from_logits,
        "labels": classifier.labels,
    }
    file = keras_file.beside(path)
    with runs.replacing(file) as temporary:
        temporary.write_bytes(tomli_w.dumps(said).encode())
    return classifier, file


def _adopted(path):
    """The Classifier of a model file, from the file next to it or from the model itself."""
    said = keras_file.stated(path)
    if said is None:
        try:
            return adopt(path)
        except UsageError as error:
            hint = f"To say once what the file does not hold, type: {command('adopt', path)} --preprocess ..."
            raise UsageError(f"{error} {hint}") from None
    return adopt(path, **said)


def load_file(path):
    """The keras.Model in a .keras or legacy .h5 file."""
    path = Path(path).expanduser()
    if path.suffix == ".keras":
        return keras_file.load(path)
    if not path.is_file():
        raise UsageError(f"There is no file {path}.")
    try:
        return keras.saving.load_model(path, compile=False)
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise DataError(f"{path} cannot be loaded as a whole Keras model: {error}") from error


def import_custom_objects(path):
    """Run a user's Python file, so that Keras finds its layers and functions when it loads a model.

    Returns:
        Their names.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UsageError(f"There is no file {path}.")
    spec = importlib.util.spec_from_file_location(runs.plain(path.stem), path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise DataError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    objects = {n: o for n, o in vars(module).items() if getattr(o, "__module__", None) == module.__name__}
    keras.saving.get_custom_objects().update(objects)
    return sorted(objects)


def tried(model, data, *, labels=None, resize=None, crop=None, from_logits=False, most=1000):
    """How often a model is right about images under each preprocessing in `network.pixels.PREPROCESS`; the right one
    stands out.

    Args:
        model: keras.Model or the path of its file.
        data: a folder of class folders named after the labels, or a data set's name.
        labels, resize, crop, from_logits: as for `adopt`.
        most: at most this many images are tried, in an even sample.
    Returns:
        DataFrame with columns preprocess, images, accuracy (a fraction), the best first.
    Raises:
        UsageError: a class of the data is not among the labels.
    """
    import pandas

    from kerascnn import datasets

    model = model if isinstance(model, keras.Model) else load_file(model)
    rows = []
    for name in PREPROCESS:
        if np.size(PREPROCESS[name][0]) not in (1, model.input_shape[-1]):
            continue
        classifier = adopt(model, labels=labels, preprocess=name, resize=resize, crop=crop, from_logits=from_logits)
        if not rows:
            prepared = classifier.preprocessing
            loaded = datasets.load(
                data, image_size=prepared.resize_to, channels=prepared.channels, validation=0, test=0
            )
            split = loaded.test or loaded.train
            split = split.take(np.unique(np.linspace(0, len(split) - 1, min(most, len(split))).round().astype(int)))
            wanted = class_indices(loaded.class_names, classifier.labels, str(data))[split.labels]
            pixels = split.images[:]
        answers = classifier.model.predict(classifier.preprocessing(pixels), verbose=0)
        predicted = answers.argmax(1) if answers.shape[1] > 1 else (answers[:, 0] >= 0.5).astype(int)
        rows.append((name, len(wanted), float((predicted == wanted).mean())))
    table = pandas.DataFrame(rows, columns=["preprocess", "images", "accuracy"])
    return table.sort_values("accuracy", ascending=False, kind="stable", ignore_index=True)


def application(name):
    """The Classifier of a network of keras.applications (`application_model`), with its module's own preprocessing."""
    model, (name, _, weights) = application_model(name), name.partition("=")
    home = getattr(keras.applications, name).__module__.replace("keras.src.applications", "keras.applications")
    mean, std, bgr = affine(importlib.import_module(home).preprocess_input)
    prepared = Preprocessing(model.input_shape[1:3], model.input_shape[1:3], 3, mean, std, bgr)
    labels, note = imagenet_labels(model.output_shape[-1])
    fresh = f"{name} is freshly initialised: it has learned nothing. Type {APPLICATION}{name}=FILE"
    notes = tuple(filter(None, [note, None if weights else fresh]))
    return Classifier(model, prepared, labels, name, Path(runs.plain(name)), notes)


# --- checks ---


def _image_shape(model, name):
    """(height, width, channels) of a model's one image input."""
    inputs, outputs = model.inputs, model.outputs
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
        raise UsageError(f"{name} has inputs of shape {shapes}; one of images (N, height, width, channels) is needed.")
    if len(outputs) != 1 or len(outputs[0].shape) != 2:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in outputs)
        raise UsageError(
            f"{name} has outputs of shape {shapes}; one of class probabilities (N, num_classes) is needed."
        )
    shape = tuple(inputs[0].shape[1:])
    if shape[2] not in (1, 3):
        raise UsageError(f"{name} takes images of {shape[2]} channels; files are read with 1 or 3.")
    return shape


def _check_crop(name, shape, size):
    if any(fixed not in (None, given) for fixed, given in zip(shape[:2], size, strict=True)):
        raise UsageError(
            f"crop={size[0]}x{size[1]} is not what {name} takes: {shape[0]}x{shape[1]} pixels. Leave crop out."
        )


def _with_probabilities(model):
    end = keras.layers.Softmax() if model.output_shape[-1] > 1 else keras.layers.Activation("sigmoid")
    return keras.Model(model.inputs, end(model.outputs[0]), name=model.name)


def _check_probabilities(model, shape, name):
    """Raise a UsageError if the outputs for a grey and a noisy image are not probabilities."""
    images = np.stack([np.zeros(shape), np.random.default_rng(0).normal(size=shape)]).astype("float32")
    answers = np.asarray(model.predict_on_batch(images), "float64")
    sums = answers.sum(-1) if answers.shape[-1] > 1 else np.ones(2)
    if answers.min() < -1e-6 or answers.max() > 1 + 1e-6 or np.abs(sums - 1).max() > 1e-2:
        raise UsageError(
            f"The outputs of {name} are not probabilities: they run from {answers.min():.3g} to {answers.max():.3g} "
            f"and sum to {sums[0]:.3g}. If a softmax is missing, say from_logits=True."
        )
