"""Recipes: frozen values that say which network, which data and how to train. This module never imports Keras.

`RECIPES` lists the named recipes, which are functions in named_recipes/. A trial of a search, a run from the command
line and a run from a script are all made from one Recipe.
"""

import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path

from kerascnn.errors import DataError, UsageError, nearest, unknown
from kerascnn.files import read_json, read_toml
from kerascnn.registry import Registry

HOME = Path(__file__).with_name("named_recipes")
RECIPES = Registry("recipe", "kerascnn.named_recipes", HOME, hint="kerascnn recipes")

OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop", "muon")
SCHEDULES = ("constant", "cosine", "one_cycle")
AUGMENTATIONS = ("flip", "crop", "translate", "cutout", "colour", "pca", "mixup")
PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
NORMALIZATIONS = ("standard", "mean", "none")


def setting(default, doc, *, low=None, high=None, choices=None):
    """A field of a Recipe: its default, its meaning with the unit, and what is allowed."""
    options = {"default": default} if not isinstance(default, dict) else {"default_factory": dict}
    return field(**options, metadata={"doc": doc, "low": low, "high": high, "choices": choices})


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Which network, which data and how to train; every field has its unit."""

    model: str = setting("lenet5", "name of the network (kerascnn models), or a .keras file, which gets a new head")
    data: str = setting("digits", "name of a data set (kerascnn datasets), or the path of a folder or file")
    classes: str | None = setting(
        None,
        "what a class is; none: a top folder with all below it, or a number from 0 to the largest label; leaves: each "
        "folder that holds images; present: a label that occurs in the .npz file, such as 1 to 26",
        choices=(None, "leaves", "present"),
    )
    image_size: int | None = setting(
        None, "side of the square images the network sees, pixels; none: the network's own", low=1
    )
    resize_to: int | None = setting(
        None,
        "side the images are brought to before crops of image_size are taken, pixels; none: image_size",
        low=1,
    )
    channels: int | None = setting(None, "1 for grey, 3 for colour; none: as the data has them", choices=(None, 1, 3))
    validation: float = setting(
        0.1, "fraction (below 1) or number of training images held out to choose weights", low=0
    )
    test: float = setting(0.15, "likewise for the test split, where the data has none", low=0)
    normalize: str = setting(
        "standard",
        "pixels minus the training mean, divided by the standard deviation; mean: only minus; none: 0 to 1",
        choices=NORMALIZATIONS,
    )
    augment: tuple[str, ...] = setting(
        (),
        "random changes of training images: flip (left to right, in every other pass), crop (shifted by up to 1/8 of "
        "the side, over black), translate (by up to 1/16, over the mirrored border), cutout (a grey square of a "
        "quarter of the side), colour (brightness, contrast, saturation), pca (AlexNet's colour noise), mixup (pairs "
        "of images and labels blended)",
        choices=AUGMENTATIONS,
    )
    dropout: float | None = setting(
        None, "fraction of units dropped in training; none: the network's own", low=0, high=0.99
    )
    batch_norm: bool | None = setting(None, "batch normalisation on or off; none: the network's own")
    fold_norm: bool = setting(
        False,
        "train with batch normalisation before each ReLU and fold it into the weights before it afterwards: the "
        "network that is kept has its own layers and parameters",
    )
    fast_start: bool = setting(
        False,
        "begin with the principal components of the images' patches as filters of the first convolution, and with "
        "identities, new features beside them, in the others: fewer epochs to the same accuracy",
    )
    model_options: dict[str, typing.Any] = setting({}, "further arguments of the network's builder, by name")
    epochs: int = setting(20, "passes over the training images (or evaluation periods, with eval_every)", low=1)
    steps: int = setting(0, "training steps in all, in place of epochs; 0: epochs decide", low=0)
    eval_every: int = setting(
        0, "steps from one evaluation, checkpoint and row of metrics.csv to the next; 0: a pass over the images", low=0
    )
    batch_size: int = setting(64, "images a step", low=1)
    optimizer: str = setting("adam", "how weights follow gradients", choices=OPTIMIZERS)
    learning_rate: float = setting(1e-3, "initial learning rate", low=1e-10, high=1e3)
    momentum: float = setting(0.9, "momentum of sgd, rmsprop and muon", low=0, high=0.9999)
    nesterov: bool = setting(True, "sgd's momentum is Nesterov's; no-nesterov: plain, as AlexNet's of 2012")
    weight_decay: float = setting(0.0, "decoupled weight decay, a fraction of learning rate x weight a step", low=0)
    l2: float = setting(0.0, "classic L2 decay in the gradient: this times each kernel is added to it", low=0)
    norm_bias_rate: float = setting(
        1.0, "times learning_rate: at what rate batch normalisation's biases learn", low=1e-6, high=1e6
    )
    schedule: str = setting(
        "constant",
        "course of the learning rate: constant, cosine (after warmup_epochs), one_cycle (up to learning_rate over the "
        "first 30% of the steps from a 25th of it, then down to 0)",
        choices=SCHEDULES,
    )
    warmup_epochs: float = setting(0.0, "epochs over which the learning rate rises from 0 (cosine schedule)", low=0)
    rate_patience: int = setting(0, "epochs without a better `monitor` before the learning rate falls; 0: never", low=0)
    rate_factor: float = setting(0.1, "what the learning rate is then multiplied with", low=1e-6, high=0.999)
    stop_patience: int = setting(0, "epochs without a better `monitor` before training stops; 0: never", low=0)
    min_delta: float = setting(
        0.0,
        "for both patiences: `monitor` counts as better where it is better by more than this; 0: by anything",
        low=0,
    )
    monitor: str = setting(
        "val_loss",
        "what chooses the best weights and drives both patiences",
        choices=("val_accuracy", "val_loss", "accuracy", "loss"),
    )
    keep: str = setting(
        "best",
        "whose weights are the result: of the epoch that is best by `monitor`, or of the last one",
        choices=("best", "last"),
    )
    test_curve: bool = setting(
        False,
        "evaluate the test images, too, whenever the validation images are, for metrics.csv and the curves alone: "
        "nothing is chosen by them, and the result says that they were watched",
    )
    top5: bool = setting(
        False,
        "measure at every evaluation how often the true class is among the five most probable; needs six classes",
    )
    label_smoothing: float = setting(
        0.0,
        "share of the target spread evenly over the classes; loss and val_loss are then of such targets, and nll, "
        "val_nll and the test loss of the true classes",
        low=0,
        high=0.99,
    )
    clip_norm: float = setting(0.0, "largest norm of the gradient over all weights; 0: no limit", low=0)
    ema: float = setting(
        0.0,
        "momentum of a moving average of the weights, which is then evaluated and kept, such as 0.999; 0: none",
        low=0,
        high=0.99999,
    )
    class_weights: str = setting(
        "none",
        "balanced: every class counts the same in the loss, however few its images",
        choices=("none", "balanced"),
    )
    start_from: str = setting(
        "",
        "run, or .keras, .weights.h5, .pth or .safetensors file, whose weights training starts from, where layers "
        "agree in name and shape",
    )
    freeze: str = setting(
        "", "layers that are not trained: names, patterns or ranges, separated by commas, such as conv1..conv4,fc*"
    )
    train_last: int = setting(
        0, "train only the last so many convolutions and dense layers, with what lies between them; 0: all", low=0
    )
    test_flip: bool = setting(
        False,
        "test with the mean of the probabilities of each image and its mirror image; predictions and exports see the "
        "image alone",
    )
    test_shift: bool = setting(
        False,
        "test also with each image moved by a pixel up and left, and down and right, each at half its weight",
    )
    test_views: str | None = setting(
        None,
        "ten: test with the mean of the probabilities of the four corners and the centre of images of resize_to, each "
        "also mirrored, as AlexNet's of 2012; none: the centre",
        choices=(None, "ten"),
    )
    precision: str = setting(
        "auto",
        "number format of the arithmetic; auto: mixed bfloat16 where it is faster, for a million parameters and more",
        choices=PRECISIONS,
    )
    seed: int = setting(0, "seed of every random choice", low=0, high=2**32 - 1)

    def __post_init__(self):
        for spec in dataclasses.fields(self):
            object.__setattr__(self, spec.name, _checked(spec, getattr(self, spec.name)))
        if self.freeze and self.train_last:
            raise UsageError(f"freeze={self.freeze!r} and train_last={self.train_last} cannot both be given. Give one.")
        if self.test_views and (self.test_flip or self.test_shift):
            other = "test_flip" if self.test_flip else "test_shift"
            raise UsageError(f"test_views={self.test_views!r} and {other}=True cannot both be given. Give one.")
        if {"crop", "translate"} <= set(self.augment):
            raise UsageError("augment has both crop and translate, and each shifts the images. Give one.")
        if self.rate_patience and self.schedule != "constant":
            raise UsageError(
                f"rate_patience={self.rate_patience} needs the constant schedule, not {self.schedule!r}: a schedule "
                "sets the learning rate itself. Give schedule='constant', or rate_patience=0."
            )

    def replace(self, **changes):
        """A copy with some fields changed; an unknown field or a value out of range is a UsageError."""
        for name in changes:
            if name not in FIELDS:
                raise unknown("recipe field", name, FIELDS)
        return dataclasses.replace(self, **changes)

    def to_dict(self):
        """A dict that JSON can hold; `from_dict` takes it back."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, values):
        """The recipe of a dict; unknown fields are a UsageError with the nearest names."""
        return cls().replace(**values)

    def differences(self, other):
        """Names of the fields in which two recipes differ."""
        return [name for name in FIELDS if getattr(self, name) != getattr(other, name)]


FIELDS = {spec.name: spec for spec in dataclasses.fields(Recipe)}


def _checked(spec, value):
    """The value of a field in its proper type, or a UsageError that names field, value and what is allowed."""
    rule = spec.metadata
    kinds = typing.get_args(spec.type) if isinstance(spec.type, types.UnionType) else (spec.type,)
    kind = next(k for k in kinds if k is not type(None))
    if value is None and type(None) in kinds:
        return None
    if typing.get_origin(kind) is tuple:
        value = tuple(value) if isinstance(value, (list, tuple)) else value
        wrong = not isinstance(value, tuple)
    elif typing.get_origin(kind) is dict:
        wrong = not isinstance(value, dict)
        value = value if wrong else _in_json(spec, value)
    elif kind is float:
        wrong = isinstance(value, bool) or not isinstance(value, (int, float))
        value = value if wrong else float(value)
    elif kind is int:
        wrong = isinstance(value, bool) or not isinstance(value, int)
    else:
        wrong = not isinstance(value, kind)
    if wrong:
        words = {
            "tuple": "a list of words",
            "dict": "a table",
            "str": "text",
            "int": "a whole number",
            "float": "a number",
        }
        name = getattr(typing.get_origin(kind) or kind, "__name__", str(kind))
        raise UsageError(
            f"{spec.name}={value!r} is not allowed: it must be {words.get(name, 'true or false')} ({rule['doc']})."
        )
    allowed = rule["choices"]
    for item in value if isinstance(value, tuple) else (value,):
        if allowed and item not in allowed:
            guess = nearest(item, allowed, 1)
            raise UsageError(
                f"{spec.name}={item!r} is not allowed. Allowed: {', '.join(map(str, allowed))}."
                + (f" Did you mean {guess[0]!r}?" if guess else "")
            )
    low, high = rule["low"], rule["high"]
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{spec.name}={value} is not allowed: it must be a finite number ({rule['doc']}).")
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        limits = f"at least {low}" if high is None else f"from {low} to {high}"
        raise UsageError(f"{spec.name}={value} is out of range: it must be {limits} ({rule['doc']}).")
    return value


def _in_json(spec, value):
    """A dict as it comes back from a run's recipe.json, such as with lists for tuples."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{spec.name}={value!r} is not allowed: JSON must be able to hold it ({error}). Give text, finite numbers, "
            "true or false, lists and tables."
        ) from None


def read_config(path):
    """The recipe fields in a TOML file (or a recipe.json), as a dict.

    Raises:
        UsageError: no such file, or a field that recipes do not have.
        DataError: the file is not TOML (JSON).
    """
    path = Path(path)
    if not path.exists():
        raise UsageError(f"There is no config file {path}. Name a .toml file with lines such as: epochs = 20")
    try:
        values = read_json(path) if path.suffix == ".json" else read_toml(path)
    except DataError as error:
        raise DataError(f"{error} A line looks like: learning_rate = 0.001") from None
    if not isinstance(values, dict):
        raise DataError(f"{path} holds no table of fields. A line looks like: learning_rate = 0.001")
    for name in values:
        if name.replace("-", "_") not in FIELDS:
            raise unknown(f"recipe field in {path}:", name, FIELDS)
    return {name.replace("-", "_"): value for name, value in values.items()}
