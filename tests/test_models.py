"""What every registered network must do; what is special to one source is in that file's own test."""

import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import kerascnn.models as models
from kerascnn.errors import UsageError
from kerascnn.models import MODELS
from kerascnn.network import graph

# Few units in wide layers, and small images where the docstring has no smallest size.
SMALL = {
    "airbench95": {"input_shape": (25, 25, 3), "widths": (24, 32, 32)},
    "airbench96": {"input_shape": (25, 25, 3), "widths": (24, 32, 32)},
    "alexnet": {"dense_units": 32},
    "zfnet": {"dense_units": 32},
    **{name: {"input_shape": (32, 32, 3)} for name in ("resnet18", "resnet34", "resnet50")},
    **{name: {"input_shape": (8, 8, 1), "hidden_units": 16} for name in ("rnn", "lstm", "gru")},
    **{
        name: {"input_shape": (32, 32, 3), "dense_units": 32}
        for name in ("vgg11", "vgg11_lrn", "vgg13", "vgg16", "vgg16c", "vgg19")
    },
}
HEAVY = {
    "airbench95",
    "airbench96",
    "alexnet",
    "alexnet_miniplaces",
    "resnet18",
    "resnet34",
    "resnet50",
    "zfnet",
    "zfnet_miniplaces",
}
HEAVY |= {name for name in SMALL if name.startswith("vgg")}
EVERY = [pytest.param(name, marks=pytest.mark.slow if name in HEAVY else ()) for name in MODELS.names()]


def smallest(name):
    """Options of the network `name` at the smallest size that its docstring tells."""
    side = re.search(r"at least (\d+)x\1 pixels", MODELS.get(name).__doc__)
    size = {"input_shape": (int(side[1]), int(side[1]), MODELS.facts(name)["input_shape"][2])} if side else {}
    return size | SMALL.get(name, {})


def small(name, num_classes=4, **options):
    """The network `name` at its smallest, without dropout."""
    model = MODELS.get(name)(num_classes=num_classes, **smallest(name), **options)
    for layer in model.layers:
        if isinstance(layer, (layers.Dropout, layers.SpatialDropout2D)):
            layer.rate = 0.0
    return model


def batch_for(model, n, num_classes=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, *model.input_shape[1:])).astype("float32"), np.arange(n) % num_classes


@pytest.mark.parametrize("name", MODELS.names())
def test_exact_counts_and_shapes_as_registered(name):
    facts = MODELS.facts(name)
    with graph.without_weights():
        model = MODELS.get(name)()
    assert model.count_params() == facts["parameters"]
    trainable = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    assert trainable == facts.get("trainable", facts["parameters"])
    assert model.input_shape == (None, *facts["input_shape"])
    assert model.output_shape == (None, facts["num_classes"])
    assert model.name == name
    assert facts["source"]
    assert facts["doc"]


@pytest.mark.parametrize("name", MODELS.names())
def test_names_are_lower_case_and_no_layer_goes_without_one(name):
    with graph.without_weights():
        model = MODELS.get(name)()
    for layer in model.layers:
        assert layer.name == layer.name.lower()
        # Keras' own names: conv2d, conv2d_1, batch_normalization_12 ...
        assert not re.fullmatch(r"(conv2d|dense|[a-z]+_[a-z]+2d|batch_normalization|re_lu)(_\d+)?", layer.name)


@pytest.mark.parametrize("name", MODELS.names())
def test_the_smallest_size_is_the_documented_one(name):
    side, _, channels = smallest(name)["input_shape"]
    if name in ("rnn", "lstm", "gru") or name.startswith("resnet"):
        assert "at least" not in MODELS.get(name).__doc__
        return
    with pytest.raises(UsageError, match=f"smallest square it takes is {side}x{side}"):
        MODELS.get(name)((side - 1, side - 1, channels))
    with graph.without_weights():
        assert MODELS.get(name)((side, side, channels)).input_shape == (None, side, side, channels)


@pytest.mark.parametrize("name", MODELS.names())
def test_a_builder_is_found_as_an_attribute_again_and_again(name):
    assert getattr(models, name) is getattr(models, name) is MODELS.get(name)
    assert name in dir(models)


def test_no_file_has_a_models_name():
    """Python would put the module in the place of the function `kerascnn.models.<name>`."""
    files = {file.stem for file in Path(models.__file__).parent.glob("*.py")}
    assert not files & set(MODELS.names())


@pytest.mark.parametrize("name", EVERY)
def test_probabilities_in_float32_under_mixed_precision(name):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small(name)
    finally:
        keras.config.set_dtype_policy("float32")
    out = model.predict_on_batch(batch_for(model, 2)[0])
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("name", EVERY)
def test_saved_and_loaded_it_answers_the_same(name, tmp_path):
    model = small(name)
    images = batch_for(model, 3)[0]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict_on_batch(images), model.predict_on_batch(images))
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]


@pytest.mark.parametrize("name", EVERY)
def test_gradient_reaches_every_weight(name):
    model = small(name)
    images, labels = batch_for(model, 8)
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    before = [np.array(variable) for variable in model.trainable_variables]
    for _ in range(2):
        model.train_on_batch(images, labels)
    idle = _biases_under_batch_norm(model)
    assert len(before) == len(model.trainable_variables) > 0
    for variable, old in zip(model.trainable_variables, before, strict=True):
        assert np.isfinite(np.array(variable)).all(), variable.path
        assert variable.path in idle or (np.array(variable) != old).any(), f"{variable.path} did not move"


def _biases_under_batch_norm(model):
    """Paths of biases that batch normalisation subtracts again: their gradient is 0 by arithmetic."""
    producer, paths = {}, set()
    for node in graph.flatten(model).nodes:
        before = producer.get(node.inputs[0])
        if isinstance(node.operation, layers.BatchNormalization) and getattr(before, "bias", None) is not None:
            paths.add(before.bias.path)
        producer.update(dict.fromkeys(node.outputs, node.operation))
    return paths


LONG_TO_LEARN = {"cifar_net", "airbench94", "tdt_model1"}  # a quarter of a minute each
# Their blocks are those of vgg11, resnet18 and resnet50, which learn; they take minutes.
ONLY_LARGER = {"vgg13", "vgg16", "vgg16c", "vgg19", "resnet34"}
LEARNERS = [
    pytest.param(name, marks=pytest.mark.slow if name in {*HEAVY, *LONG_TO_LEARN} else ())
    for name in MODELS.names()
    if name not in ONLY_LARGER
]


@pytest.mark.parametrize("name", LEARNERS)
def test_learns_32_images_by_heart(name):
    keras.utils.set_random_seed(1)
    model = small(name)
    images, labels = batch_for(model, 32)
    rate = 1e-3 if name not in HEAVY else 2e-4
    if name.startswith("vgg"):
        # Glorot's weights halve the signal's power at every ReLU; He's keep it, and 16 layers learn in 100 steps.
        rate = 5e-5
        for layer in model.layers:
            if layer.weights:
                layer.kernel.assign(layer.kernel * 2**0.5)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    for _ in range(1000):
        if model.train_on_batch(images, labels) < 0.1:
            break
    # Batch normalisation's averages need a few more batches before the network answers alone as it does in training.
    for _ in range(12 if any(isinstance(x, layers.BatchNormalization) for x in model.layers) else 0):
        if (model.predict_on_batch(images).argmax(1) == labels).all():
            break
        for _ in range(10):
            model.train_on_batch(images, labels)
    predicted = model.predict_on_batch(images).argmax(1)
    assert (predicted == labels).mean() == 1


ANSWERS = """
import sys
import numpy as np
from kerascnn.models import MODELS
from tests.test_models import batch_for, small
answers = {}
for name in MODELS.names():
    model = small(name)
    rng = np.random.default_rng(7)
    for variable in model.weights:
        if variable.dtype == "float32":
            if variable.name == "kernel":
                value = rng.normal(size=variable.shape) * (2 / np.prod(variable.shape[:-1])) ** 0.5
            else:
                value = rng.uniform(0.5, 1.5, size=variable.shape)
            variable.assign(value.astype("float32"))
    answers[name] = model.predict_on_batch(batch_for(model, 2)[0])
np.savez(sys.argv[1], **answers)
"""


def answers_of(backend, folder):
    """What every network answers to the same images with this backend, by the network's name."""
    command = [sys.executable, "-c", ANSWERS, str(folder / f"{backend}.npz")]
    environment = {**os.environ, "KERAS_BACKEND": backend}
    subprocess.run(command, env=environment, check=True, cwd=Path(__file__).parents[1], capture_output=True)
    return dict(np.load(folder / f"{backend}.npz"))


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    return answers_of("tensorflow", tmp_path_factory.mktemp("answers"))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_backends_agree(backend, answers, tmp_path):
    """With the same weights (drawn by NumPy from one seed) each network gives the same probabilities to 1e-5."""
    pytest.importorskip(backend)
    others = answers_of(backend, tmp_path)
    assert set(others) == set(MODELS.names())
    for name, expected in answers.items():
        assert expected.std() > 0, name
        np.testing.assert_allclose(others[name], expected, atol=1e-5, err_msg=name)
