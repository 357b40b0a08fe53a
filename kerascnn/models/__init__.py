"""The networks: functions that return plain `keras.Model`s made with the functional API.

`kerascnn.models.cifar_net()` builds a network by name; `MODELS` lists names and published facts without Keras.
Every builder takes `input_shape=(height, width, channels)` and `num_classes=`, defaults to its source's own, names
its layers in the source's words, and returns class probabilities in float32.

Facts of a model (literals in its `@register(...)`):
    source: whose network it is, with the year.
    input_shape: (height, width, channels) when called without arguments.
    num_classes: likewise.
    parameters: the exact number of parameters then, with those that are not trained.
    trainable: the number that is trained, where some are not (batch normalisation's moving averages).
    published: the source's own count, as it prints it, where it prints one.
    difference: one sentence on why ours is not that number, or what had to be chosen.
"""

import functools
from pathlib import Path

from kerascnn.registry import Registry, room

MODELS = Registry("model", __name__, Path(__file__).parent, hint="kerascnn models")
FILES = (".keras", ".h5", ".hdf5")  # what a file with a whole Keras model is called
APPLICATION = "applications:"  # before the name of a network of keras.applications


def register(name=None, **facts):
    """Decorator: the function is a model builder; an input too small for its layers gets a clear error."""

    def add(builder):
        @functools.wraps(builder)
        def build(*args, **kwargs):
            from kerascnn.models.input_size import check_size

            return check_size(builder, *args, **kwargs)

        return MODELS.register(name, **facts)(build)

    return add


def is_file(name):
    """True for a .keras file in place of a network's name: its layers under a new head (`kerascnn.models.backbone`)."""
    return str(name).endswith(FILES[0])


def facts(name):
    """Facts of a registered network; or input_shape and parameters of the one in a .keras file."""
    from kerascnn.models.file_facts import file_facts

    return file_facts(Path(name).expanduser()) if is_file(name) else MODELS.facts(name)


__getattr__, __dir__ = room(__name__, registry=MODELS)
