"""The recurrent networks of the COMP 576 report (P. Tang, 2017, section 1.4): an MNIST image read row by row.

The report compares 20 to 500 hidden units and calls 100 the best size; it trains with a keep rate of 0.6, which is
`dropout=0.4` on the last hidden state here. It prints no counts. The GRU applies its reset gate before the matrix
product, with one bias per gate, as TensorFlow's cell of 2017 and Cho et al. 2014 do; Keras' own default does not.
"""

from keras import Input, Model, layers

from kerascnn.errors import UsageError
from kerascnn.models import register


@register(source="COMP 576 report 2017", input_shape=(28, 28, 1), num_classes=10, parameters=13_910)
def rnn(input_shape=(28, 28, 1), num_classes=10, *, hidden_units=100, dropout=0.4, name="rnn"):
    """A plain recurrent layer (tanh) over the image's rows, then a dense softmax layer.

    Args:
        input_shape: (height, width, channels): height is the number of time steps, width * channels the step's size.
        num_classes: number of classes.
        hidden_units: size of the state.
        dropout: fraction of the last state dropped in training.
        name: the model's name.
    Returns:
        keras.Model, images float32 (N, height, width, channels) -> probabilities float32 (N, num_classes).
    """
    return _rows(input_shape, num_classes, _layer(layers.SimpleRNN, hidden_units, "rnn"), dropout, name)


@register(source="COMP 576 report 2017", input_shape=(28, 28, 1), num_classes=10, parameters=52_610)
def lstm(input_shape=(28, 28, 1), num_classes=10, *, hidden_units=100, dropout=0.4, name="lstm"):
    """A long short-term memory layer over the image's rows, then a dense softmax layer; arguments as of `rnn`."""
    return _rows(input_shape, num_classes, _layer(layers.LSTM, hidden_units, "lstm"), dropout, name)


@register(source="COMP 576 report 2017", input_shape=(28, 28, 1), num_classes=10, parameters=39_710)
def gru(input_shape=(28, 28, 1), num_classes=10, *, hidden_units=100, dropout=0.4, name="gru"):
    """A gated recurrent layer over the image's rows, then a dense softmax layer; arguments as of `rnn`."""
    layer = _layer(layers.GRU, hidden_units, "gru", reset_after=False)
    return _rows(input_shape, num_classes, layer, dropout, name)


def _layer(kind, hidden_units, name, **options):
    if not isinstance(hidden_units, int) or hidden_units < 1:
        raise UsageError(f"Model {name!r}: hidden_units must be a whole number above 0; received {hidden_units!r}.")
    return kind(hidden_units, name=name, **options)


def _rows(input_shape, num_classes, layer, dropout, name):
    height, width, channels = input_shape
    if height is None or width is None:
        raise UsageError(
            f"Model {name!r} reads an image row by row and needs to know its size; received input_shape={input_shape}."
        )
    inputs = Input(input_shape, name="image")
    x = layers.Reshape((height, width * channels), name="rows")(inputs)
    x = layer(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    x = layers.Dense(num_classes, name="fc")(x)
    outputs = layers.Softmax(dtype="float32", name="softmax")(x)
    return Model(inputs, outputs, name=name)
