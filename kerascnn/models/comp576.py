"""The LeNet of the COMP 576 report (P. Tang, 2017, section 1.2): CIFAR-10 in grey at 28x28.

The report varies the keep rate over its eight trials: 0.8, 0.6, 0.6, 0.4, 0.6, 0.6, 0.5, 0.4. Keras counts what is
dropped, so trial 1 is `dropout=0.2`, the default, and trial 8 is `dropout=0.6`.
"""

from keras import Input, Model, layers

from kerascnn.models import register


@register(source="COMP 576 report 2017", input_shape=(28, 28, 1), num_classes=10, parameters=3_274_634)
def lenet_grey(input_shape=(28, 28, 1), num_classes=10, *, dropout=0.2, name="lenet_grey"):
    """Two 5x5 convolutions of 32 and 64 filters with pooling, a dense layer of 1024 with dropout, softmax.

    Args:
        input_shape: (height, width, channels), at least 4x4 pixels.
        num_classes: number of classes.
        dropout: fraction of the 1024 units dropped in training: 1 minus the report's keep rate.
        name: the model's name.
    Returns:
        keras.Model, images float32 (N, height, width, channels) -> probabilities float32 (N, num_classes).
    """
    inputs = Input(input_shape, name="image")
    x = layers.Conv2D(32, 5, padding="same", activation="relu", name="conv1")(inputs)
    x = layers.MaxPooling2D(2, name="pool1")(x)
    x = layers.Conv2D(64, 5, padding="same", activation="relu", name="conv2")(x)
    x = layers.MaxPooling2D(2, name="pool2")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(1024, activation="relu", name="fc1")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    x = layers.Dense(num_classes, name="fc2")(x)
    outputs = layers.Softmax(dtype="float32", name="softmax")(x)
    return Model(inputs, outputs, name=name)
