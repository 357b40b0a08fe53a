"""Recipe -> a compiled model: the network with its options, the optimizer, the loss and the schedule."""

import functools
import inspect
import math
from pathlib import Path

import keras
import numpy as np
from keras import ops

from kerascnn import backends, keras_file, runs
from kerascnn.datasets.preprocessing import Preprocessing
from kerascnn.errors import UsageError, command, counted, unknown
from kerascnn.layers import PatchWhitening, pass_on, whitening_filters
from kerascnn.models import MODELS, is_file
from kerascnn.models.backbone import backbone
from kerascnn.models.variants import altered
from kerascnn.network import pixels
from kerascnn.recipes import FIELDS
from kerascnn.training.batches import Batches
from kerascnn.training.muon import Muon
from kerascnn.training.reading import image_size

PATCH_IMAGES, PATCH_PIXELS = 5_000, 5_000 * 32 * 32  # at most so many training images, evenly spread, are whitened
TRAINED_BY = ("input_shape", "num_classes", "name")  # arguments of builders that a run sets itself
ALTERED = ("without", "widths", "extra")  # options of every network (`kerascnn.models.variants`)


def network(recipe, input_shape, num_classes, precision="float32"):
    """The recipe's network, not compiled.

    Args:
        input_shape: (height, width, channels).
        num_classes: number of classes.
        precision: Keras' name of the number format that it computes in.
    Raises:
        UsageError: unknown model, an option that it does not have, or an input too small for it.
    """
    builder = functools.partial(backbone, recipe.model) if is_file(recipe.model) else MODELS.get(recipe.model)
    known = [name for name in inspect.signature(builder).parameters if name not in TRAINED_BY]
    for name in recipe.model_options:
        if name not in (*known, *ALTERED):
            raise unknown(f"option of model {recipe.model!r}:", name, (*known, *ALTERED))
    options = {name: value for name, value in recipe.model_options.items() if name not in ALTERED}
    for name, option in (("dropout", "dropout"), ("batch_norm", "batch_norm"), ("fold_norm", "foldable_norm")):
        value = getattr(recipe, name)
        if value is None or (name == "fold_norm" and not value):
            continue
        if option not in known:
            raise UsageError(
                f"{name}={value} has nothing to act on: model {recipe.model!r} has no such setting. Leave it out."
            )
        options[option] = value
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        model = builder(input_shape=input_shape, num_classes=num_classes, **options)
        changes = {name: recipe.model_options[name] for name in ALTERED if name in recipe.model_options}
        return altered(model, **changes)[0] if changes else model
    finally:
        keras.config.set_dtype_policy(before)


def without_weights(recipe):
    """The recipe without the file that its network's first weights come from, for weights that come from elsewhere."""
    options = recipe.model_options
    return recipe.replace(model_options={**options, "weights": None}) if "weights" in options else recipe


def ready(recipe, data, precision, devices=1, share=(0, 1)):
    """(Preprocessing, the network, not compiled, training Batches) of a recipe and its ImageData; the seed is set.

    Args:
        devices: how many share each batch; the caller opens `backends.data_parallel`.
        share: (number of this host from 0, number of hosts that share each batch).
    """
    if is_file(recipe.model) and recipe.normalize != FIELDS["normalize"].default:
        raise UsageError(
            f"normalize={recipe.normalize!r} has nothing to act on: {recipe.model} itself says what it expects of "
            "pixels. Leave it out."
        )
    keras.utils.set_random_seed(recipe.seed)
    size, images = image_size(recipe), data.train.images
    model = network(recipe, (*size, images.shape[-1]), len(data.class_names), precision)
    if is_file(recipe.model):
        prepared = Preprocessing(tuple(images.shape[1:3]), size, images.shape[-1], *_expected(recipe.model, model))
    else:
        prepared = Preprocessing.fit(images, image_size=size, normalize=recipe.normalize)
    whitening = [layer for layer in model.layers if isinstance(layer, PatchWhitening)]
    if whitening or recipe.fast_start:
        most = max(100, min(PATCH_IMAGES, PATCH_PIXELS // math.prod(prepared.image_size)))
        some = prepared(data.train.images[np.arange(0, len(data.train), -(-len(data.train) // most))])
        for layer in whitening:
            layer.adapt(some)
        if recipe.fast_start:
            start_fast(model, some)
    batches = Batches(
        data.train,
        prepared,
        recipe.batch_size,
        augmentations=recipe.augment,
        seed=recipe.seed,
        num_classes=len(data.class_names),
        epochs=recipe.epochs,
        period=recipe.eval_every,
        total=recipe.steps,
        balanced=recipe.class_weights == "balanced",
        multiple=devices,
        share=share,
    )
    return prepared, model, batches


def _expected(path, model):
    """(mean, std, blue first) of the pixels that the network in a file takes: its run, or what was stated, knows."""
    home = Path(path).parent
    if (home / "run.json").exists() and (home / "data.json").exists():  # the network of a run
        known = Preprocessing.from_dict(runs.Run(home).read("data").get("preprocessing", {}))
        return known.mean, known.std, known.bgr
    preprocess = (keras_file.stated(path) or {}).get("preprocess")
    try:
        return pixels.expected(model, Path(path).name, preprocess, model.input_shape[-1], [])
    except UsageError as error:
        raise UsageError(f"{error} To say it once, type: {command('adopt', path)} --preprocess ...") from None


def start_fast(model, images):
    """Set a network's first weights so that it learns faster (Jordan 2024, arXiv:2404.00498, sections 3.2 and 3.3).

    The first convolution gets the principal components of the images' patches, each divided by its standard deviation,
    and their negatives, the largest variance first, as many as it has filters; the other convolutions pass on each
    input channel. What is left of their filters stays as it is. All are trained on.

    Args:
        images: float32 (N, height, width, channels) as the network sees them.
    Raises:
        UsageError: the network does not begin with a convolution, or its filters are larger than the images.
    """
    convolutions = [layer for layer in model.layers if type(layer) is keras.layers.Conv2D and layer.groups == 1]
    if not convolutions or convolutions[0].input is not model.inputs[0]:
        raise UsageError(
            f"fast_start=True has nothing to act on: the first layer of {model.name!r} is not an ordinary convolution. "
            "Leave it out."
        )
    first, *others = convolutions
    if any(side > size for side, size in zip(first.kernel_size, images.shape[1:3], strict=True)):
        needed, given = (f"{height}x{width}" for height, width in (first.kernel_size, images.shape[1:3]))
        raise UsageError(
            f"fast_start=True needs images of at least {needed} pixels, as the filters of {first.name!r}; these have "
            f"{given}. Leave it out."
        )
    kernel = np.array(ops.convert_to_numpy(first.kernel))
    pairs = min(first.filters // 2, math.prod(kernel.shape[:3]))
    components = whitening_filters(images, first.kernel_size)[..., :pairs]
    kernel[..., : 2 * pairs] = np.concatenate([components, -components], -1)
    first.kernel.assign(kernel)
    for layer in others:
        if all(side % 2 for side in layer.kernel_size):
            kernel = np.array(ops.convert_to_numpy(layer.kernel))
            pass_on(kernel)
            layer.kernel.assign(kernel)


LEAST_PROBABILITY = 1e-30  # in a loss: the gradient's 1/p stays finite in float32, also scaled for float16


def cross_entropy(targets, probabilities, smoothing=0.0):
    """The cross entropy (N,), nats, of targets and probabilities (N, num_classes), `smoothing` of each target spread
    evenly over the classes.

    On TensorFlow Keras takes it from the scores before the softmax. Elsewhere it would take probabilities below 1e-7
    for 1e-7, so that a confident mistake costs at most 16 nats and teaches nothing.
    """
    if backends.backend() == "tensorflow":
        return keras.losses.categorical_crossentropy(targets, probabilities, label_smoothing=smoothing)
    targets = targets * (1 - smoothing) + smoothing / targets.shape[-1]
    return -ops.sum(targets * ops.log(ops.maximum(probabilities, LEAST_PROBABILITY)), -1)


def compile_model(model, recipe, steps, steps_per_epoch, rate=None, *, nll=False):
    """Compile a network as the recipe asks: optimizer, schedule, L2 decay, loss with label smoothing, accuracy.

    Args:
        steps: steps of the whole training.
        steps_per_epoch: steps of one epoch, for warm-up.
        rate: learning rate or Keras' schedule in place of the recipe's.
        nll: True measures the loss without label smoothing, too, as `nll`.
    Raises:
        UsageError: settings that this network or this length cannot have.
    """
    if recipe.norm_bias_rate != 1 and not any(v.name == "beta" for v in model.trainable_variables):
        raise UsageError(
            f"norm_bias_rate={recipe.norm_bias_rate:g} has nothing to act on: {recipe.model} is trained without batch "
            "normalisation. Leave it out, or give batch_norm=True."
        )
    num_classes = model.output_shape[-1]
    mixed = "mixup" in recipe.augment

    def targets(labels):
        return labels if mixed else ops.one_hot(ops.cast(ops.reshape(labels, (-1,)), "int32"), num_classes)

    def loss(labels, probabilities):
        return cross_entropy(targets(labels), probabilities, recipe.label_smoothing)

    def unsmoothed(labels, probabilities):
        return cross_entropy(targets(labels), probabilities)

    accuracy = keras.metrics.CategoricalAccuracy if mixed else keras.metrics.SparseCategoricalAccuracy
    top5 = keras.metrics.TopKCategoricalAccuracy if mixed else keras.metrics.SparseTopKCategoricalAccuracy
    simple = not recipe.label_smoothing and not mixed and backends.backend() == "tensorflow"
    model.compile(
        optimizer=_optimizer(recipe, _rate(recipe, steps, steps_per_epoch) if rate is None else rate, model),
        loss="sparse_categorical_crossentropy" if simple else loss,
        metrics=[
            accuracy(name="accuracy"),
            *([keras.metrics.MeanMetricWrapper(unsmoothed, name="nll")] if nll else []),
            *([top5(5, name="top5")] if recipe.top5 else []),
        ],
        jit_compile=backends.jit_compile(),
    )


def _rate(recipe, steps, steps_per_epoch):
    """The learning rate, or Keras' schedule of it."""
    rate = recipe.learning_rate
    if recipe.warmup_epochs and recipe.schedule != "cosine":
        raise UsageError(
            f"warmup_epochs={recipe.warmup_epochs:g} has nothing to act on: the schedule is {recipe.schedule!r}. "
            "Leave it out, or give schedule='cosine'."
        )
    if recipe.schedule == "constant":
        return rate
    if recipe.schedule == "one_cycle":
        warmup = max(1, round(0.3 * steps))
        start = rate / 25
    else:
        warmup = round(recipe.warmup_epochs * steps_per_epoch)
        start = 0.0 if warmup else rate
    if steps <= warmup:
        if recipe.schedule == "one_cycle":
            raise UsageError(f"The one_cycle schedule needs at least 2 steps; this training has {steps}.")
        raise UsageError(
            f"warmup_epochs={recipe.warmup_epochs:g} leaves nothing of {counted(steps, 'step')}, of which an epoch has "
            f"{steps_per_epoch}. It must be below {steps / steps_per_epoch:.3g}."
        )
    peak = {"warmup_target": rate, "warmup_steps": warmup} if warmup else {}
    return keras.optimizers.schedules.CosineDecay(start, steps - warmup, **peak)


def _optimizer(recipe, rate, model):
    momentum = {"momentum": recipe.momentum}
    *_, head = [layer for layer in model.layers if any(v.name == "kernel" for v in layer.weights)] or [None]
    kernels = [v for layer in model.layers if layer is not head for v in layer.trainable_variables if len(v.shape) > 1]
    halved = any(layer.compute_dtype == "bfloat16" for layer in model.layers)
    kind, specific = {
        "adam": (keras.optimizers.Adam, {}),
        "adamw": (keras.optimizers.AdamW, {"weight_decay": recipe.weight_decay}),  # None would be Keras' 0.004
        "sgd": (keras.optimizers.SGD, {**momentum, "nesterov": recipe.nesterov and recipe.momentum > 0}),
        "rmsprop": (keras.optimizers.RMSprop, momentum),
        "muon": (Muon, {**momentum, "kernels": kernels, "product_dtype": "bfloat16" if halved else "float32"}),
    }[recipe.optimizer]
    common = {
        "learning_rate": rate,
        "weight_decay": recipe.weight_decay or None,
        "global_clipnorm": recipe.clip_norm or None,
    }
    average = {"use_ema": True, "ema_momentum": recipe.ema} if recipe.ema else {}
    return _by_name(kind, recipe.norm_bias_rate, recipe.l2)(**{**common, **average, **specific})


def _by_name(kind, bias_factor, l2):
    """The class of Keras' optimizer, or one of it that treats some weights otherwise.

    Args:
        bias_factor: the learning rate of batch normalisation's biases is so many times as high (Jordan 2024,
            arXiv:2404.00498, section 3.4).
        l2: so many times each kernel is added to its gradient, once that is clipped. A penalty, as Keras has it, would
            be in the validation loss, too, and take part in choosing the weights.
    """
    if bias_factor == 1 and not l2:
        return kind

    class ByName(kind):
        def update_step(self, gradient, variable, learning_rate):
            weight = self._trainable_variables[self._get_variable_index(variable)]  # TensorFlow's has no name
            if weight.name == "kernel" and l2:
                gradient = gradient + l2 * ops.cast(weight, gradient.dtype)
            super().update_step(gradient, variable, learning_rate * (bias_factor if weight.name == "beta" else 1))

    ByName.__name__ = kind.__name__  # by which its memory is counted
    return ByName
