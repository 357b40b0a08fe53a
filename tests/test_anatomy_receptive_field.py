"""Receptive fields: published, by pencil, and by perturbation: outside its box nothing changes a unit, bitwise."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import Input, Model, Sequential, layers, ops

from kerascnn import models
from kerascnn.anatomy import receptive_field
from kerascnn.errors import UsageError
from kerascnn.layers import AUGMENTATIONS
from kerascnn.network import graph


def positive_weights(model, seed=0):
    """All weights positive, so that no contribution cancels or is cut by a ReLU; variances near 1."""
    rng = np.random.default_rng(seed)
    model.set_weights([rng.uniform(0.5, 1.0, w.shape) for w in model.get_weights()])


def check_by_perturbation(model, layer, image_shape, units=12, seed=0):
    """Outside a unit's box no pixel changes it, bitwise; every side of the box holds a pixel that does."""
    positive_weights(model, seed)
    field = receptive_field(model, layer)
    flat = graph.flatten(model)
    number = next(node.outputs[0] for node in flat.nodes if node.name == layer)
    rng = np.random.default_rng(seed)
    height, width, _ = image_shape
    image = rng.uniform(0.5, 1.0, (1, *image_shape)).astype("float32")

    def outputs(images):
        return ops.convert_to_numpy(flat.run([ops.convert_to_tensor(images)])[number])

    rows, columns = field.output_size or (1, 1)
    for _ in range(units):
        row, column = int(rng.integers(rows)), int(rng.integers(columns))
        top, left, bottom, right = field.box(row, column)
        assert 0 <= top <= bottom <= height
        assert 0 <= left <= right <= width
        outside = rng.uniform(0.5, 1.0, image.shape).astype("float32")
        outside[:, top:bottom, left:right] = image[:, top:bottom, left:right]
        sides = []
        if bottom > top:
            for where in (
                np.s_[:, top, left:right],
                np.s_[:, bottom - 1, left:right],
                np.s_[:, top:bottom, left],
                np.s_[:, top:bottom, right - 1],
            ):
                changed = image.copy()
                changed[where] += 1000.0
                sides.append(changed)
        # One batch, so that the same kernel computes all of them.
        values = outputs(np.concatenate([image, outside, *sides]))
        unit = values[:, row, column] if field.output_size else values.reshape(len(values), -1)
        np.testing.assert_array_equal(unit[1], unit[0], err_msg=f"a pixel outside {field.box(row, column)} matters")
        for i, side in enumerate(("top", "bottom", "left", "right")[: len(sides)]):
            assert (unit[2 + i] != unit[0]).any(), f"the {side} side of {field.box(row, column)} does not matter"


# Random networks: a chain of blocks, some of which branch and meet again.
window = st.tuples(st.integers(1, 4), st.integers(1, 3), st.sampled_from(["same", "valid"]), st.integers(1, 2))
step = st.one_of(
    st.tuples(st.just("conv"), window),
    st.tuples(st.just("depthwise"), window),
    st.tuples(st.just("pool"), window),
    st.tuples(st.just("average"), window),
    st.tuples(st.just("pad"), st.tuples(*[st.integers(0, 2)] * 4)),
    st.tuples(st.just("crop"), st.tuples(*[st.integers(0, 2)] * 4)),
    st.tuples(st.just("norm"), st.none()),
    st.tuples(st.just("up"), st.sampled_from(["nearest", "bilinear"])),
    st.tuples(st.just("transposed"), window),
    st.tuples(st.just("skip"), window),
    st.tuples(st.just("unequal"), window),
)


def grown(steps, side=(13, 11)):
    """(model, name of its last layer): the steps that fit, one after the other."""
    x = inputs = Input((*side, 2))
    for i, (kind, how) in enumerate(steps):
        try:
            y = one_step(x, kind, how, f"l{i}")
        except ValueError:  # too small for this window
            continue
        if 0 in y.shape[1:3] or max(y.shape[1:3]) > 40:
            continue
        x = y
    x = layers.Conv2D(1, 1, name="last")(x)
    return Model(inputs, x)


def one_step(x, kind, how, name):
    def windowed(x, name, how=how):
        size, stride, padding, dilation = how
        dilation = 1 if stride > 1 else dilation
        return layers.Conv2D(2, size, stride, padding, dilation_rate=dilation, activation="relu", name=name)(x)

    if kind == "conv":
        return windowed(x, name)
    if kind == "depthwise":
        return layers.DepthwiseConv2D(how[0], how[1], how[2], name=name)(x)
    if kind == "pool":
        return layers.MaxPooling2D(how[0], how[1], how[2], name=name)(x)
    if kind == "average":
        return layers.AveragePooling2D(how[0], how[1], how[2], name=name)(x)
    if kind == "pad":
        return layers.ZeroPadding2D((how[:2], how[2:]), name=name)(x)
    if kind == "crop":
        return layers.Cropping2D((how[:2], how[2:]), name=name)(x)
    if kind == "norm":
        return layers.BatchNormalization(name=name)(x)
    if kind == "up":
        return layers.UpSampling2D(2, interpolation=how, name=name)(x)
    if kind == "transposed":
        return layers.Conv2DTranspose(2, how[0], how[1], how[2], name=name)(x)
    if kind == "skip":  # a block with an identity skip
        y = windowed(x, f"{name}_conv", (how[0], 1, "same", how[3]))
        return layers.Add(name=name)([layers.Conv2D(2, 1, name=f"{name}_flat")(x), y])
    # Two branches of unequal strides, cropped to one size.
    a, b = windowed(x, f"{name}_a"), layers.Conv2D(2, 1, name=f"{name}_b")(x)
    rows, columns = min(a.shape[1], b.shape[1]), min(a.shape[2], b.shape[2])
    return layers.Add(name=name)([a[:, :rows, :columns], b[:, -rows:, -columns:]])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(step, min_size=1, max_size=5), st.integers(0, 5))
def test_random_networks_by_perturbation(steps, seed):
    check_by_perturbation(grown(steps), "last", (13, 11, 2), units=4, seed=seed)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.lists(step, min_size=1, max_size=8), st.integers(0, 5))
def test_many_random_networks_by_perturbation(steps, seed):
    check_by_perturbation(grown(steps), "last", (13, 11, 2), units=4, seed=seed)


@pytest.mark.parametrize(
    "layer",
    [
        layers.Resizing(20, 17),
        layers.Resizing(5, 7),
        layers.Resizing(26, 4, interpolation="nearest"),
        layers.CenterCrop(8, 5),
        layers.CenterCrop(13, 11),
        layers.RMSNormalization(),
        layers.UnitNormalization(),
        layers.UnitNormalization(axis=[1, 2]),
    ],
    ids=lambda layer: f"{layer.name}",
)
def test_sizes_and_norms_by_perturbation(layer):
    layer = layer.from_config(layer.get_config() | {"name": "tried"})
    x = inputs = Input((13, 11, 2))
    x = layers.Conv2D(2, 3, strides=1, name="before")(x)
    x = layer(layers.ZeroPadding2D(1)(x))
    model = Model(inputs, layers.Conv2D(2, 2, name="after")(x))
    for name in ("tried", "after"):
        check_by_perturbation(model, name, (13, 11, 2), units=4)


def test_sizes_by_pencil():
    """Output 2 of 3 places from 6 has its centre at 4.5, between inputs 4 and 5; nearest reads input 5."""
    x = Input((6, 6, 1))
    model = Model(x, [layers.Resizing(3, 3, name="two")(x), layers.Resizing(3, 3, "nearest", name="one")(x)])
    assert receptive_field(model, "two").box(2, 0) == (4, 0, 6, 2)
    assert receptive_field(model, "one").box(2, 0) == (5, 1, 6, 2)
    cropped = receptive_field(Model(x, layers.CenterCrop(3, 2, name="crop")(x)), "crop")
    assert cropped.box(0, 0) == (1, 2, 2, 3)
    assert cropped.stride == (1, 1)


def test_antialiasing_reads_on_by_pencil():
    """Halving with a triangle of two pixels each side: output 1 has its centre at 2.5 and weighs inputs 1 to 4."""
    x = Input((6, 6, 1))
    model = Model(x, layers.Resizing(3, 3, antialias=True, name="small")(x))
    assert receptive_field(model, "small").box(1, 0) == (1, 0, 5, 3)
    check_by_perturbation(model, "small", (6, 6, 1))


@pytest.mark.parametrize("kind", ["flatten", "global", "dense after flatten"])
def test_units_without_a_map_see_what_all_places_saw(kind):
    inputs = Input((9, 9, 1))
    x = layers.Conv2D(2, 3, strides=3, name="conv")(inputs[:, 1:, :-2, :])  # rows 1 to 6 and columns 0 to 5
    x = layers.GlobalAveragePooling2D(name="end")(x) if kind == "global" else layers.Flatten(name="flat")(x)
    if kind != "global":
        x = layers.Dense(3, name="end")(x)
    model = Model(inputs, x)
    field = receptive_field(model, "end")
    assert (field.size, field.output_size) == (None, None)
    assert field.box() == (1, 0, 7, 6)
    check_by_perturbation(model, "end", (9, 9, 1), units=1)


def test_squeeze_and_excitation_sees_everything_everywhere():
    inputs = Input((8, 8, 2))
    x = layers.Conv2D(4, 3, padding="same", name="conv")(inputs)
    s = layers.Dense(4, activation="sigmoid")(layers.GlobalAveragePooling2D()(x))
    x = layers.Multiply(name="scaled")([x, layers.Reshape((1, 1, 4))(s)])
    field = receptive_field(Model(inputs, x), "scaled")
    assert field.output_size == (8, 8)
    assert field.box(0, 0) == (0, 0, 8, 8)
    assert field.size is None


PUBLISHED = [  # google-research/receptive_field: size, stride, padding
    ("alexnet", {}, "conv5", 163, 16, 64),
    ("alexnet", {}, "pool5", 195, 32, 64),
    ("vgg16", {}, "pool5", 212, 32, 90),
]


@pytest.mark.parametrize(("name", "options", "layer", "size", "stride", "padding"), PUBLISHED)
def test_published_values(name, options, layer, size, stride, padding):
    with graph.without_weights():
        field = receptive_field(models.MODELS.get(name)(**options), layer)
    assert (field.size, field.stride, field.offset) == ((size,) * 2, (stride,) * 2, (-padding,) * 2)


def test_published_resnet_50():
    """483/32/239 is TF-Slim's: strides at the end of a stage, and a stem pool that pads at the end only."""
    x = inputs = Input((224, 224, 1))
    x = layers.Conv2D(1, 7, 2)(layers.ZeroPadding2D(3)(x))
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    for units, last in ((3, 2), (4, 2), (6, 2), (3, 1)):
        for unit in range(units):
            stride = last if unit == units - 1 else 1
            y = layers.Conv2D(1, 3, stride)(layers.ZeroPadding2D(1)(layers.Conv2D(1, 1)(x)))
            x = layers.Add()([layers.MaxPooling2D(1, stride)(x), layers.Conv2D(1, 1)(y)])
    field = receptive_field(Model(inputs, layers.ReLU(name="end")(x)), "end")
    assert (field.size, field.stride, field.offset) == ((483, 483), (32, 32), (-239, -239))
    with graph.without_weights():
        ours = receptive_field(models.resnet50(stride_in_3x3=False), "layer4_2_relu")
    assert (ours.size, ours.stride, ours.offset) == ((483, 483), (32, 32), (-241, -241))  # torch's pool pads 1 before


@pytest.mark.parametrize(("depth", "side"), [(1, 3), (2, 5), (3, 7)])
def test_stacked_3x3_convolutions(depth, side):
    """VGG's argument: two see 5x5, three see 7x7, with 27 instead of 49 weights per pair of channels."""
    stack = [layers.Conv2D(1, 3, use_bias=False, name=f"conv{i}") for i in range(1, depth + 1)]
    model = Sequential([Input((15, 15, 1)), *stack])
    assert receptive_field(model, f"conv{depth}").size == (side, side)
    assert model.count_params() == 9 * depth
    if depth == 3:
        single = Sequential([Input((15, 15, 1)), layers.Conv2D(1, 7, use_bias=False, name="conv")])
        assert receptive_field(single, "conv").size == (7, 7)
        assert (model.count_params(), single.count_params()) == (27, 49)


def test_by_pencil_with_padding_stride_and_clipping():
    conv, pool = layers.Conv2D(1, 3, 2, "same", name="conv"), layers.MaxPooling2D(2, name="pool")
    model = Sequential([Input((8, 8, 1)), conv, pool])
    # Same padding of an even side with stride 2 pads nothing before and 1 after: unit i sees 2i .. 2i + 2.
    field = receptive_field(model, "conv")
    assert (field.size, field.stride, field.offset) == ((3, 3), (2, 2), (0, 0))
    assert field.box(0, 1) == (0, 2, 3, 5)
    assert field.box(3, 3) == (6, 6, 8, 8)
    field = receptive_field(model, "pool")
    assert (field.size, field.stride, field.offset) == ((5, 5), (4, 4), (0, 0))
    assert field.box(1, 0) == (4, 0, 8, 5)


def test_a_unit_that_sees_padding_only_has_an_empty_box():
    model = Sequential([Input((4, 4, 1)), layers.ZeroPadding2D(3), layers.Conv2D(1, 2, name="conv")])
    field = receptive_field(model, "conv")
    assert field.box(0, 5) == (0, 0, 0, 0)
    assert field.box(2, 2) == (0, 0, 1, 1)


def test_skips_of_unequal_stride_have_boxes_but_no_stride():
    inputs = Input((8, 8, 1))
    a = layers.MaxPooling2D(2, name="half")(inputs)
    model = Model(inputs, layers.Add(name="sum")([a, inputs[:, :4, :4]]))
    field = receptive_field(model, "sum")
    assert (field.size, field.stride, field.offset) == (None, None, None)
    assert field.box(3, 3) == (3, 3, 8, 8)  # 6..7 through the pool, 3 past it


def test_nested_and_shared_layers():
    block = Sequential([Input((8, 8, 1)), layers.Conv2D(1, 3, padding="same", name="conv")], name="block")
    inputs = Input((8, 8, 1))
    model = Model(inputs, block(block(inputs)))
    assert receptive_field(model, "block/conv").size == receptive_field(model, "conv").size == (3, 3)
    assert receptive_field(model, "block/conv#2").size == (5, 5)


def test_errors():
    with graph.without_weights():
        model = models.cifar_net()
    with pytest.raises(UsageError, match=r"'cifar_net' has no layer 'conv5'. Did you mean 'conv\d'"):
        receptive_field(model, "conv5")
    with pytest.raises(UsageError, match=r"no unit \(32, 0\): it has 32 rows and 32 columns"):
        receptive_field(model, "conv1").box(32, 0)
    with pytest.raises(UsageError, match="is not built"):
        receptive_field(Sequential([layers.Conv2D(1, 3)]), "conv")
    free = Model(x := Input((None, None, 3)), layers.Conv2D(1, 3, name="conv")(x), name="free")
    with pytest.raises(UsageError, match=r"'free' takes images of any size.*input_shape=\(height, width, 3\)"):
        receptive_field(free, "conv")
    assert receptive_field(free, "conv", input_shape=(9, 9, 3)).output_size == (7, 7)
    two = Model([a := Input((4, 4, 1), name="a"), b := Input((4, 4, 1), name="b")], layers.Add(name="sum")([a, b]))
    with pytest.raises(UsageError, match=r"2 image inputs \(a, b\)"):
        receptive_field(two, "sum")
    assert receptive_field(two, "sum", input_name="b").box(1, 2) == (1, 2, 2, 3)
    odd = Model(x := Input((4, 4, 1)), layers.Lambda(lambda t: ops.cumsum(t, 1), name="odd")(x))
    with pytest.raises(UsageError, match=r"'odd' \(Lambda\) reaches is not known"):
        receptive_field(odd, "odd")


def test_the_model_stays_as_it_was():
    model = models.lenet5()
    before = keras.saving.serialize_keras_object(model), [w.copy() for w in model.get_weights()]
    receptive_field(model, "s4", input_shape=(32, 32, 1))
    assert keras.saving.serialize_keras_object(model) == before[0]
    for old, new in zip(before[1], model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_layer_that_sees_no_image():
    image, numbers = Input((8, 8, 3), name="image"), Input((4,), name="numbers")
    parts = [layers.Flatten()(layers.Conv2D(2, 3)(image)), layers.Dense(5, name="of numbers")(numbers)]
    model = Model([image, numbers], layers.Concatenate(name="all")(parts), name="two")
    assert receptive_field(model, "all").box() == (0, 0, 8, 8)
    with pytest.raises(UsageError, match="'of numbers' of model 'two' sees nothing of the image"):
        receptive_field(model, "of numbers")


def test_channels_first_are_refused_before_a_convolution_too():
    x = Input((3, 32, 32))
    later = layers.Conv2D(2, 3, data_format="channels_first", name="conv")
    model = Model(x, later(layers.ReLU(name="relu")(x)), name="first")
    with pytest.raises(UsageError, match="'first' has its channels first"):
        receptive_field(model, "relu")


@keras.saving.register_keras_serializable("test_receptive_field")
class Noisy(layers.Layer):
    """A custom layer that changes images in training, then has a convolution."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(2, 3, padding="same")

    def call(self, x, training=None):
        if training:
            x = x + keras.random.normal((8, 8, 3))
        return self.conv(ops.relu(x))


@pytest.mark.parametrize("name", [kind.__name__ for kind in AUGMENTATIONS])
def test_augmentation_inside_a_network_is_nothing_outside_training(name, augmentation):
    y = augmentation(name, 8, 8)(x := Input((8, 8, 3)))
    model = Model(x, layers.Conv2D(4, 3, name="conv")(y))
    field = receptive_field(model, "conv")
    assert field.size == (3, 3)
    assert field.box(1, 2) == (1, 2, 4, 5)


def test_a_custom_layer_made_of_known_parts_is_opened_as_in_inference():
    y = layers.Conv2D(4, 3, name="conv")(Noisy(name="noisy")(x := Input((8, 8, 3))))
    assert receptive_field(Model(x, y), "conv").size == (5, 5)
    check_by_perturbation(Model(x, y), "conv", (8, 8, 3))


def test_squeeze_and_excitation_sees_everything():
    x = Input((8, 8, 3))
    maps = layers.Conv2D(4, 3, padding="same", name="conv")(x)
    squeezed = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(maps)
    model = Model(x, layers.Multiply(name="excited")([maps, layers.Conv2D(4, 1)(squeezed)]))
    for name in ("squeeze", "excited"):
        assert receptive_field(model, name).box(0, 0) == (0, 0, 8, 8)
    assert receptive_field(model, "conv").box(0, 0) == (0, 0, 2, 2)


def test_a_backbone_for_any_size():
    inner = Input((None, None, 3))
    backbone = Model(inner, layers.Conv2D(4, 3, strides=2, name="conv")(inner), name="backbone")
    x = Input((9, 9, 3))
    field = receptive_field(Model(x, layers.ReLU()(backbone(x))), "backbone/conv")
    assert (field.output_size, field.box(1, 2)) == ((4, 4), (2, 4, 5, 7))
