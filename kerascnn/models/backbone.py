"""A network from a .keras file under a new head, for transfer to other classes."""

from pathlib import Path

import keras
from keras import layers

from kerascnn import keras_file
from kerascnn.errors import UsageError
from kerascnn.layers import give_weights
from kerascnn.network.find import layers_of

HEAD = "new_head"
PASSED = (layers.ZeroPadding2D, layers.Dropout)  # between the features and the old head: they tell nothing


def backbone(path, input_shape, num_classes, *, dropout=0.2, fresh=False, name=None):
    """The layers of a .keras file up to its head, with their weights; their mean over places; a new softmax.

    The head is the last layer whose kernel has as many outputs as the network: a dense layer, or a convolution as in
    SqueezeNet. What follows it goes with it.

    Args:
        path: of the .keras file.
        input_shape: (height, width, channels); another size than the file's own works if no dense layer follows the
            maps directly.
        num_classes: of the new head.
        dropout: fraction of the features dropped before the new head.
        fresh: True starts the layers with fresh weights, all but those that were frozen when the file was saved.
        name: of the model; None: the file's name without its ending.
    Returns:
        keras.Model, uninitialised in its last layer (`HEAD`) alone.
    Raises:
        UsageError: the network has no head, or cannot take images of this shape.
    """
    path = Path(path).expanduser()
    lent = keras_file.load(path)
    if len(getattr(lent, "inputs", None) or ()) != 1:
        raise UsageError(f"{path} is not a Functional or Sequential model with one input, so it has no layers to lend.")
    features = _features(lent, path)
    inputs = keras.Input(tuple(input_shape))
    try:
        body = _at_size(keras.Model(lent.inputs, features), inputs, fresh)
    except (ValueError, TypeError) as error:
        size = "x".join(str(n) for n in lent.input_shape[1:])
        asked = "x".join(map(str, input_shape))
        raise UsageError(
            f"The network in {path} takes images of {size} and cannot take {asked}: {str(error).splitlines()[0]} "
            f"Give image_size={lent.input_shape[1]}."
        ) from None
    x = body.output
    if len(x.shape) == 4:
        x = layers.GlobalAveragePooling2D(name="mean_over_places")(x)
    elif len(x.shape) != 2:
        x = layers.Flatten(name="flat_features")(x)
    if dropout:
        x = layers.Dropout(dropout, name="drop_features")(x)
    outputs = layers.Dense(num_classes, activation="softmax", dtype="float32", name=HEAD)(x)
    return keras.Model(body.inputs[0], outputs, name=name or path.stem.replace(" ", "_"))


def _features(model, path):
    """The tensor that goes into the head of a model."""
    outputs = model.output_shape[-1]
    producers = {id(layer.output): layer for layer in model.layers if not isinstance(layer.output, list)}
    for layer in reversed(model.layers):
        kernel = getattr(layer, "kernel", None)
        if kernel is not None and kernel.shape[-1] == outputs and id(layer.output) in producers:
            tensor = layer.input
            while isinstance(producers.get(id(tensor)), PASSED):
                tensor = producers[id(tensor)].input
            if tensor is not model.inputs[0]:
                return tensor
    raise UsageError(f"The network in {path} has no layer of {outputs} units after others: it has no head to replace.")


def _at_size(body, inputs, fresh):
    """The same layers on another input. With their weights, all are trained, whatever was frozen when they were saved;
    with fresh ones, what was frozen stays as it was."""
    policy = keras.config.dtype_policy().name

    def copied(layer):
        config = layer.get_config() if fresh else _unfrozen(layer.get_config())
        if isinstance(config.get("dtype"), dict | str):
            config["dtype"] = policy
        return layer.__class__.from_config(config)

    clone = keras.models.clone_model(body, input_tensors=[inputs], clone_function=copied)
    if not fresh:
        give_weights(clone, body.get_weights())
        return clone
    for new, old in zip(layers_of(clone).values(), layers_of(body).values(), strict=True):
        if old.weights and not old.trainable_weights:
            give_weights(new, old.get_weights())
    return clone


def _unfrozen(config):
    """A layer's configuration with which it is trained, and all within it."""
    if isinstance(config, list):
        return [_unfrozen(value) for value in config]
    if isinstance(config, dict):
        return {name: name == "trainable" or _unfrozen(value) for name, value in config.items()}
    return config
