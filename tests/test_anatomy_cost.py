"""Costs by pencil on a network of two layers, laws on the others, and the MiniPlaces report's questions."""

import math

import keras
import pytest
from keras import Input, Model, Sequential, layers

from kerascnn import models
from kerascnn.anatomy import cost, largest_batch
from kerascnn.errors import UsageError
from kerascnn.network import graph


def two_layers():
    conv = layers.Conv2D(2, 3, padding="same", name="conv")
    return Sequential([Input((4, 4, 1)), conv, layers.Flatten(name="flat"), layers.Dense(3, name="fc")])


def outline(name, **options):
    with graph.without_weights():
        return models.MODELS.get(name)(**options)


def test_by_pencil():
    costs = cost(two_layers(), batch_size=10, optimizer="adam")
    conv, fc = 2 * 9 + 2, 32 * 3 + 3  # weights
    assert costs.parameters == conv + fc
    assert costs.macs == 16 * 18 + 32 * 3
    assert (costs.weight_bytes, costs.gradient_bytes, costs.optimizer_bytes) == tuple(
        4 * n * (conv + fc) for n in (1, 1, 2)
    )
    image, mid, out = 16 * 4, 32 * 4, 3 * 4  # bytes of one image, of conv's and of fc's output
    rows = costs.layers.set_index("layer")
    assert rows["activation_bytes"].to_dict() == {"conv": 10 * mid, "flat": 0, "fc": 10 * out}
    assert rows.loc["conv", "training_bytes"] == 10 * (image + mid + 2 * mid + out)
    assert rows.loc["fc", "training_bytes"] == 10 * (image + mid + out + 2 * out)
    largest = 32 * 3 * 4
    assert costs.training_bytes == 4 * 4 * (conv + fc) + largest + 10 * (image + 3 * mid + out)
    assert costs.inference_bytes == 4 * (conv + fc) + 10 * int(image + 1.5 * mid)


def test_what_is_no_product_is_not_counted():
    """A GRU with two biases of rank 2, and a PReLU on maps, whose slopes have rank 3."""
    gru = Sequential([Input((5, 3)), layers.GRU(4)])
    assert cost(gru, batch_size=1).macs == 5 * (3 * 12 + 4 * 12)
    conv = layers.Conv2D(2, 3, padding="same", name="conv")
    assert cost(Sequential([Input((4, 4, 1)), conv, layers.PReLU()]), batch_size=1).macs == 16 * 18


@pytest.mark.parametrize(
    ("optimizer", "slots"),
    [
        ("sgd", 0),
        ("sgd_momentum", 1),
        ("Adam", 2),
        (keras.optimizers.SGD(0.1), 0),
        (keras.optimizers.SGD(0.1, momentum=0.9), 1),
        (keras.optimizers.RMSprop(), 1),
        (keras.optimizers.RMSprop(momentum=0.9, centered=True), 3),
        (keras.optimizers.Adam(amsgrad=True), 3),
        (keras.optimizers.AdamW(), 2),
        (keras.optimizers.SGD(0.1, use_ema=True), 1),
        (keras.optimizers.Adam(gradient_accumulation_steps=4), 3),
    ],
)
def test_optimizer_slots(optimizer, slots):
    costs = cost(two_layers(), optimizer=optimizer)
    assert costs.optimizer_bytes == slots * costs.gradient_bytes


@pytest.mark.parametrize("optimizer", ["SGD", "Adagrad", "Adadelta", "Adam", "Adamax", "AdamW", "Ftrl", "Lion", "Nadam",
                                       "RMSprop"])  # fmt: skip
def test_slots_are_what_keras_makes(optimizer):
    model, built = two_layers(), getattr(keras.optimizers, optimizer)()
    built.build(model.trainable_variables)
    numbers = sum(math.prod(v.shape) for v in built.variables)
    costs = cost(model, optimizer=built)
    # Besides the slots an optimizer keeps its step, its learning rate and at times a scalar more.
    assert 0 <= 4 * numbers - costs.optimizer_bytes <= 4 * 8


def test_frozen_layers_need_no_gradient():
    model = two_layers()
    model.get_layer("fc").trainable = False
    costs = cost(model, optimizer="adam")
    assert costs.gradient_bytes == 4 * 20
    assert costs.optimizer_bytes == 2 * 4 * 20
    assert costs.weight_bytes == 4 * 119


def test_shared_layers_have_their_weights_once():
    shared = layers.Dense(4, name="shared")
    inputs = Input((4,))
    costs = cost(Model(inputs, shared(shared(inputs))), batch_size=1)
    assert costs.weight_bytes == 4 * 20
    assert costs.macs == 2 * 16


def test_precision():
    model = outline("cifar_net")
    full, mixed = cost(model, 100), cost(model, 100, "mixed_bfloat16")
    assert mixed.weight_bytes == full.weight_bytes == 2 * cost(model, 100, "bfloat16").weight_bytes
    assert mixed.layers["activation_bytes"].sum() * 2 == full.layers["activation_bytes"].sum()
    assert cost(model).precision == "float32"


def mixed(saved=None):
    """The network of two layers under mixed precision, as it is made or as it is loaded under the usual policy."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = two_layers()
    finally:
        keras.config.set_dtype_policy("float32")
    if saved is None:
        return model
    model.save(saved)
    return keras.models.load_model(saved)


def test_a_saved_models_own_precision_is_its_layers(tmp_path):
    before, loaded = cost(mixed(), 10), cost(mixed(tmp_path / "mixed.keras"), 10)
    assert before.precision == loaded.precision == "mixed_bfloat16"
    given = cost(two_layers(), 10, "mixed_bfloat16")
    for costs in (before, loaded):
        images = 10 * 16 * (4 - 2)  # they come in 32 bits, whatever the layers compute in
        assert costs.training_bytes == given.training_bytes + images
        assert costs.inference_bytes == given.inference_bytes + images
        assert costs.layers["activation_bytes"].tolist() == [10 * 32 * 2, 0, 10 * 3 * 2]


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a `quantize` method")
def test_quantized_weights_count_as_they_are_held():
    model = Sequential([Input((8,)), layers.Dense(6), layers.Dense(4)])
    full = cost(model, 1)
    for mode, size in (("int8", 1), ("int4", 1 / 2)):
        small = keras.models.clone_model(model)
        small.quantize(mode)
        costs = cost(small, 1)
        assert costs.macs == full.macs == 8 * 6 + 6 * 4
        assert costs.weight_bytes == sum(keras.ops.convert_to_numpy(v).nbytes for v in small.weights)
        assert costs.weight_bytes >= size * (8 * 6 + 6 * 4)


@pytest.mark.parametrize("side", [None, 24])
def test_a_backbone_for_any_size_costs_what_it_costs_at_its_size(side):
    inner = Input((side, side, 3))
    backbone = Model(inner, layers.Conv2D(4, 3, name="conv")(inner), name="backbone")
    x = Input((24, 24, 3))
    model = Model(x, layers.Dense(2)(layers.GlobalAveragePooling2D()(backbone(x))))
    costs = cost(model, 8)
    assert costs.macs == 22 * 22 * 4 * 27 + 4 * 2
    assert costs.layers.set_index("layer").loc["backbone/conv", "activation_bytes"] == 8 * 22 * 22 * 4 * 4
    assert largest_batch(model, 1e7) == largest_batch(keras.models.clone_model(model), 1e7)


def test_channels_first_take_another_size():
    x = Input((3, None, None))
    model = Model(x, layers.Conv2D(4, 3, data_format="channels_first")(x))
    assert cost(model, 1, input_shape=(3, 10, 12)).macs == 8 * 10 * 4 * 27
    with pytest.raises(UsageError, match=r"takes inputs of \(3, None, None\); not input_shape=\(10, 12, 3\)"):
        cost(model, 1, input_shape=(10, 12, 3))


def test_texts():
    words = layers.TextVectorization(output_sequence_length=20, vocabulary=["a", "b"])
    x = Input((1,), dtype="string")
    costs = cost(Model(x, layers.Dense(2)(layers.GlobalAveragePooling1D()(layers.Embedding(9, 8)(words(x))))), 1)
    assert costs.macs == 8 * 2
    open_length = Sequential([Input((None,)), layers.Embedding(9, 8), layers.GlobalAveragePooling1D()])
    with pytest.raises(UsageError, match=r"any size \(None,\).* give input_shape=, with a number"):
        cost(open_length)
    assert cost(open_length, 1, input_shape=(20,)).layers["activation_bytes"].tolist() == [20 * 8 * 4, 8 * 4]


@pytest.mark.parametrize("name", models.MODELS.names())
def test_memory_is_linear_in_the_batch_and_training_needs_more(name):
    model = outline(name)
    one, two, five = (cost(model, batch) for batch in (1, 2, 5))
    for what in ("training_bytes", "inference_bytes"):
        a, b, c = (getattr(costs, what) for costs in (one, two, five))
        assert abs((c - a) - 4 * (b - a)) <= 8  # half a byte may be rounded
    assert one.training_bytes > one.inference_bytes > one.weight_bytes
    assert one.macs == two.macs > 0
    assert one.parameters == model.count_params()


def test_the_largest_batch_fits_and_the_next_does_not():
    model = outline("zfnet_miniplaces")
    batch = largest_batch(model, 4e9, headroom=0.25)
    assert cost(model, batch).training_bytes <= 3e9 < cost(model, batch + 1).training_bytes
    assert largest_batch(model, 4e9, mode="inference") > largest_batch(model, 4e9)
    assert largest_batch(model, 1e6) == 0
    assert largest_batch(model, 4e9, optimizer="sgd") > largest_batch(model, 4e9, optimizer="adam")


def test_the_miniplaces_reports_questions():
    """CS 280 report, section 1.2.1: VGG-19 on its 96x96 images at its batch of 256."""
    vgg = outline("vgg19", input_shape=(96, 96, 3), num_classes=100)
    without = outline("vgg19", input_shape=(96, 96, 3), num_classes=100, dense_layers=0)
    full, less = cost(vgg, 256, optimizer="sgd_momentum"), cost(without, 256, optimizer="sgd_momentum")
    # Dropping the fully connected layers saves almost two thirds of the weights, and an eighth of the memory.
    assert 1 - less.parameters / full.parameters == pytest.approx(0.64, abs=0.01)
    assert 1 - less.training_bytes / full.training_bytes == pytest.approx(0.125, abs=0.01)
    # A first layer of stride 1 is what costs: VGG's has 12.7 times as many outputs as AlexNet's.
    first = full.layers.set_index("layer").loc["conv1_1", "activation_bytes"]
    alexnets = cost(outline("alexnet_miniplaces"), 256).layers.set_index("layer").loc["conv1", "activation_bytes"]
    assert first / alexnets == (96 * 96 * 64) / (22 * 22 * 96)
    # Only a smaller batch helps: it divides the activations, which are most of the memory.
    half = cost(vgg, 128, optimizer="sgd_momentum")
    assert 1 - half.training_bytes / full.training_bytes == pytest.approx(0.405, abs=0.01)


def test_errors():
    model = two_layers()
    with pytest.raises(UsageError, match=r"Unknown optimizer 'addam'. Did you mean 'adam'"):
        cost(model, optimizer="addam")
    with pytest.raises(UsageError, match=r"Unknown precision 'bf16'"):
        cost(model, precision="bf16")
    for bad in (0, -1, 2.5):
        with pytest.raises(UsageError, match="batch_size must be a whole number above 0"):
            cost(model, bad)
    with pytest.raises(UsageError, match="headroom must be at least 0 and below 1"):
        largest_batch(model, 1e9, headroom=1)
    with pytest.raises(UsageError, match="Unknown mode 'train'"):
        largest_batch(model, 1e9, mode="train")
    free = Model(x := Input((None, None, 3)), layers.Conv2D(1, 3)(x), name="free")
    with pytest.raises(UsageError, match=r"'free' takes inputs of any size.*give input_shape="):
        cost(free)
    assert cost(free, 1, input_shape=(5, 5, 3)).macs == 9 * 27


def test_it_says_itself_in_two_lines():
    first, second = str(cost(outline("cifar_net"), 128)).splitlines()
    assert first == "82,520,064 multiply-accumulates per image, 6,216,114 parameters."
    assert second.startswith("At batch 128, float32, adam: training 235.2 MB (weights 24.9 MB, gradients 24.9 MB")


def test_a_network_that_is_not_built_costs_what_it_costs_built():
    """Its largest weights are then in no variable of its own yet."""

    def parts():
        return [layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(100)]

    whole = cost(Sequential([Input((8, 8, 1)), *parts()]))
    assert cost(Sequential(parts()), input_shape=(8, 8, 1)).training_bytes == whole.training_bytes
