"""`cifar_net` line by line as the CS7011 report's table prints it."""

from keras import layers

from kerascnn import models

TABLE = [  # layer, output shape, parameters
    ("image", (32, 32, 3), 0),
    ("conv1", (32, 32, 64), 1_792),
    ("pool1", (16, 16, 64), 0),
    ("conv2", (16, 16, 128), 73_856),
    ("pool2", (8, 8, 128), 0),
    ("conv3", (8, 8, 256), 295_168),
    ("conv4", (8, 8, 256), 590_080),
    ("pool3", (4, 4, 256), 0),
    ("flatten", (4096,), 0),
    ("fc1", (1024,), 4_195_328),
    ("fc2", (1024,), 1_049_600),
    ("softmax", (10,), 10_250),
    ("bn", (10,), 40),
    ("softmax_activation", (10,), 0),
]


def test_the_printed_table():
    model = models.cifar_net()
    rows = [(layer.name, tuple(layer.output.shape[1:]), layer.count_params()) for layer in model.layers]
    assert rows == TABLE


def test_task_v_switches():
    """After every block - a convolution with its pool, or a convolution alone - and dropout after dense layers too."""
    model = models.cifar_net(batch_norm=True, dropout=0.5)
    names = [layer.name for layer in model.layers]
    ends = ["pool1", "pool2", "conv3", "pool3"]
    assert [n for n in names if n.endswith("_bn")] == [f"{end}_bn" for end in ends]
    assert [n for n in names if n.endswith("_dropout")] == [f"{end}_dropout" for end in [*ends, "fc1", "fc2"]]
    assert names.index("pool1_dropout") == names.index("pool1_bn") + 1 == names.index("pool1") + 2
    extra = 4 * (64 + 128 + 256 + 256)  # four numbers per channel
    assert model.count_params() == 6_216_114 + extra
    assert {layer.rate for layer in model.layers if isinstance(layer, layers.Dropout)} == {0.5}


def test_dropout_of_dense_layers_apart_from_that_of_blocks():
    def dropped(**options):
        model = models.cifar_net(**options)
        return {layer.name: layer.rate for layer in model.layers if isinstance(layer, layers.Dropout)}

    blocks = {f"{end}_dropout": 0.5 for end in ("pool1", "pool2", "conv3", "pool3")}
    assert dropped(dropout=0.5, dense_dropout=0) == blocks
    assert dropped(dense_dropout=0.25) == {"fc1_dropout": 0.25, "fc2_dropout": 0.25}
    assert dropped(dropout=0.5, dense_dropout=0.25) == {**blocks, "fc1_dropout": 0.25, "fc2_dropout": 0.25}


def test_no_batch_normalisation_at_all():
    model = models.cifar_net(output_norm=False)
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in model.layers)
    assert model.count_params() == 6_216_114 - 40
    assert model.layers[-1].name == "softmax_activation"
