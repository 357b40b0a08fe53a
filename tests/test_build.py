import keras
import numpy as np
import pytest
from keras import layers

from kerascnn.errors import UsageError
from kerascnn.layers import whitening_filters
from kerascnn.recipes import OPTIMIZERS, Recipe
from kerascnn.training.build import compile_model, network, start_fast

SHAPE = (16, 16, 1)


def compiled(steps_per_epoch=10, **fields):
    recipe = Recipe(**fields)
    model = network(recipe, SHAPE, 4)
    compile_model(model, recipe, recipe.steps or recipe.epochs * steps_per_epoch, steps_per_epoch)
    return model


def test_options_reach_the_builder():
    names = [layer.name for layer in network(Recipe(dropout=0.5), SHAPE, 4).layers]
    assert "f6_dropout" in names
    old = network(Recipe(model_options={"variant": "1998"}), SHAPE, 4)
    assert isinstance(old.get_layer("s2"), keras.layers.AveragePooling2D)
    with pytest.raises(UsageError, match=r"Unknown option of model 'lenet5': 'num_classes'"):
        network(Recipe(model_options={"num_classes": 3}), SHAPE, 4)


def test_precision_is_the_networks_and_not_the_sessions():
    model = network(Recipe(), SHAPE, 4, "mixed_bfloat16")
    assert model.get_layer("c1").compute_dtype == "bfloat16"
    assert model.output.dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_get_the_recipes_numbers(name):
    optimizer = compiled(optimizer=name, learning_rate=0.25, weight_decay=0.125, clip_norm=2.0).optimizer
    assert type(optimizer).__name__.lower() == name
    assert float(optimizer.learning_rate) == 0.25
    assert optimizer.weight_decay == 0.125
    assert optimizer.global_clipnorm == 2.0
    assert getattr(optimizer, "momentum", None) == {"sgd": 0.9, "rmsprop": 0.9, "muon": 0.9}.get(name)
    assert getattr(optimizer, "nesterov", None) == {"sgd": True, "muon": True}.get(name)


@pytest.mark.parametrize(("nesterov", "after_two_steps"), [(False, -1 - 1.9), (True, -1.9 - 2.71)])
def test_plain_momentum_and_nesterovs_by_pencil(nesterov, after_two_steps):
    """Gradient 1, rate 1, momentum 0.9: the velocity is -1, then -1.9; Nesterov's step is 0.9 velocity - 1."""
    optimizer = compiled(optimizer="sgd", learning_rate=1.0, momentum=0.9, nesterov=nesterov).optimizer
    optimizer = type(optimizer).from_config(optimizer.get_config())
    weight = keras.Variable(0.0)
    for _ in range(2):
        optimizer.apply([keras.ops.ones(())], [weight])
    assert float(weight.numpy()) == pytest.approx(after_two_steps, abs=1e-6)


@pytest.mark.parametrize(("precision", "products"), [("float32", "float32"), ("mixed_bfloat16", "bfloat16")])
def test_muon_turns_all_kernels_but_the_heads(precision, products):
    recipe = Recipe(optimizer="muon", weight_decay=0.125)
    model = network(recipe, SHAPE, 4, precision)
    compile_model(model, recipe, 10, 10)
    assert model.optimizer.kernels == {"c1/kernel", "c3/kernel", "c5/kernel", "f6/kernel"}
    assert model.optimizer.product_dtype == products
    recurrent = network(Recipe(model="lstm"), (28, 28, 1), 10)
    compile_model(recurrent, recipe, 10, 10)
    assert {path.rpartition("/")[2] for path in recurrent.optimizer.kernels} == {"kernel", "recurrent_kernel"}


def test_biases_of_normalisations_learn_at_their_own_rate():
    """One step of gradient descent without momentum moves each weight by its rate times its gradient."""
    moved = []
    for factor in (1.0, 8.0):
        keras.utils.set_random_seed(0)
        recipe = Recipe(model="cifar_net", batch_norm=True, optimizer="sgd", momentum=0.0, norm_bias_rate=factor)
        model = network(recipe, (8, 8, 1), 4)
        compile_model(model, recipe, 10, 10)
        before = {v.path: keras.ops.convert_to_numpy(v) for v in model.trainable_variables}
        model.train_on_batch(np.random.default_rng(0).normal(size=(16, 8, 8, 1)).astype("float32"), np.arange(16) % 4)
        moved.append({v.path: keras.ops.convert_to_numpy(v) - before[v.path] for v in model.trainable_variables})
    learnt = {path: step for path, step in moved[0].items() if abs(step).max() > 1e-7}  # biases before them do not
    assert sum(path.endswith("beta") for path in learnt) == 5
    for path, step in learnt.items():
        expected = (8 if path.endswith("beta") else 1) * step
        np.testing.assert_allclose(moved[1][path], expected, atol=1e-3 * abs(expected).max())


def test_a_rate_for_biases_of_normalisations_that_are_not_there_is_refused():
    with pytest.raises(UsageError, match="norm_bias_rate=64 has nothing to act on: lenet5 is trained without batch"):
        compiled(norm_bias_rate=64.0)


def test_cosine_with_warm_up_by_pencil():
    rate = compiled(10, optimizer="sgd", schedule="cosine", epochs=5, warmup_epochs=1, learning_rate=0.5).optimizer
    schedule = rate._learning_rate
    np.testing.assert_allclose(float(schedule(0)), 0, atol=1e-7)
    np.testing.assert_allclose(float(schedule(5)), 0.25, rtol=1e-6)
    np.testing.assert_allclose(float(schedule(10)), 0.5, rtol=1e-6)
    np.testing.assert_allclose(float(schedule(30)), 0.25, rtol=1e-6)
    np.testing.assert_allclose(float(schedule(50)), 0, atol=1e-7)
    with pytest.raises(UsageError, match=r"warmup_epochs=5 leaves nothing of 50 steps.* It must be below 5\."):
        compiled(schedule="cosine", epochs=5, warmup_epochs=5)
    with pytest.raises(UsageError, match=r"leaves nothing of 25 steps, of which an epoch has 20\. .* below 1\.25\."):
        compiled(20, schedule="cosine", steps=25, warmup_epochs=2)
    with pytest.raises(UsageError, match="warmup_epochs=3 has nothing to act on: the schedule is 'constant'"):
        compiled(warmup_epochs=3)


def test_label_smoothing_by_pencil():
    """With smoothing s and K classes the target of the true class is 1 - s + s/K, of the others s/K."""
    images = np.random.default_rng(0).random((6, *SHAPE), "float32")
    labels = np.array([0, 1, 2, 3, 0, 1])
    plain, smooth = compiled(), compiled(label_smoothing=0.2)
    smooth.set_weights(plain.get_weights())
    log = np.log(plain.predict(images, verbose=0))
    targets = np.full((6, 4), 0.05)
    targets[np.arange(6), labels] += 0.8
    np.testing.assert_allclose(smooth.test_on_batch(images, labels)[0], -(targets * log).sum(1).mean(), rtol=1e-5)
    np.testing.assert_allclose(plain.test_on_batch(images, labels)[0], -log[np.arange(6), labels].mean(), rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixed", [(), ("mixup",)])
def test_losses_of_confident_mistakes_are_exact(smoothing, mixed):
    """Probabilities down to e-40, which Keras takes for 1e-7 where it sees them alone."""
    recipe = Recipe(label_smoothing=smoothing, augment=mixed)
    model = keras.Sequential([keras.Input((4,)), layers.Softmax()])
    compile_model(model, recipe, 10, 10, nll=smoothing > 0)
    scores = np.array([[40, 0, 0, 1], [2, 30, 1, 0], [0, 0, 20, 0]], "float32")
    labels = np.array([1, 1, 3])
    measured = model.evaluate(scores, np.eye(4)[labels] if mixed else labels, verbose=0, return_dict=True)
    logs = scores - np.logaddexp.reduce(scores.astype("float64"), 1)[:, None]
    true = np.eye(4)[labels]
    np.testing.assert_allclose(
        measured["loss"], -((true * (1 - smoothing) + smoothing / 4) * logs).sum(1).mean(), rtol=1e-5
    )
    assert ("nll" in measured) == (smoothing > 0)
    if smoothing:
        np.testing.assert_allclose(measured["nll"], -(true * logs).sum(1).mean(), rtol=1e-5)


def test_one_cycle_by_pencil():
    """100 steps: up from a 25th to the rate in 30, a cosine down to 0 in the other 70."""
    schedule = compiled(10, schedule="one_cycle", epochs=10, learning_rate=0.5).optimizer._learning_rate
    expected = {0: 0.02, 15: 0.26, 30: 0.5, 65: 0.25, 100: 0}
    np.testing.assert_allclose([float(schedule(step)) for step in expected], list(expected.values()), atol=1e-6)


@pytest.mark.parametrize(
    ("optimizer", "decayed"),
    [("sgd", lambda kernel: kernel * (1 - 0.1 * 0.5)), ("adam", lambda kernel: kernel - 0.1 * np.sign(kernel))],
)
def test_l2_is_in_the_gradient_of_kernels_alone_and_not_in_the_loss(optimizer, decayed):
    """Black images: only the last bias has a gradient of its own, and the loss is ln 4 before a step is made."""
    images, labels = np.zeros((4, *SHAPE), "float32"), np.zeros(4, int)
    model = compiled(optimizer=optimizer, momentum=0.0, learning_rate=0.1, l2=0.5, dropout=0.0)
    before = {v.path: np.array(v) for v in model.trainable_variables}
    np.testing.assert_allclose(model.test_on_batch(images, labels)[0], np.log(4), rtol=1e-6)
    model.train_on_batch(images, labels)
    last = model.trainable_variables[-1].path
    for variable in model.trainable_variables:
        old, new = before[variable.path], np.array(variable)
        if variable.name == "kernel":
            clear = abs(old) > 0.01  # where Adam's epsilon is nothing beside the gradient
            np.testing.assert_allclose(new[clear], decayed(old)[clear], atol=1e-4)
        elif variable.path != last:
            np.testing.assert_array_equal(new, old)


def test_l2_comes_after_the_gradient_is_clipped():
    images, labels = np.random.default_rng(0).random((4, *SHAPE), "float32"), np.zeros(4, int)
    settings = {"optimizer": "sgd", "momentum": 0.0, "learning_rate": 1.0, "clip_norm": 1e-3, "dropout": 0.0}
    steps = []
    for l2 in (0.0, 0.5):
        keras.utils.set_random_seed(0)
        model = compiled(l2=l2, **settings)
        kernel, bias = model.trainable_variables[-2:]
        bias.assign(np.arange(4))
        before = [np.array(kernel), np.array(bias)]
        model.train_on_batch(images, labels)
        steps.append([np.array(kernel) - before[0], np.array(bias) - before[1]])
    np.testing.assert_allclose(steps[1][0] - steps[0][0], -0.5 * before[0], atol=1e-6)
    np.testing.assert_allclose(steps[1][1], steps[0][1], atol=1e-6)


def test_the_moving_average_has_the_recipes_momentum():
    optimizer = compiled(ema=0.99).optimizer
    assert optimizer.use_ema
    assert optimizer.ema_momentum == 0.99


def test_a_fast_start_whitens_patches_and_passes_channels_on():
    images = np.random.default_rng(0).normal(size=(40, 12, 12, 2)).astype("float32")
    images[:, 1:] += images[:, :-1]  # rows depend on each other: patches are not white
    inputs = keras.Input((12, 12, 2))
    x = layers.Conv2D(40, 3, name="first")(inputs)
    x = layers.Conv2D(6, 3, padding="same", name="second")(layers.ReLU()(x))
    model = keras.Model(inputs, layers.Dense(2, name="head")(layers.Flatten()(x)))
    before = {layer.name: layer.get_weights() for layer in model.layers}
    start_fast(model, images)
    responses = keras.Model(inputs, model.get_layer("first").output).predict(images, verbose=0).reshape(-1, 40)
    np.testing.assert_allclose(np.cov(responses[:, :18].T), np.eye(18), atol=0.01)  # 18 components of 3x3x2 pixels
    np.testing.assert_allclose(responses[:, 18:36], -responses[:, :18], atol=1e-5)
    first, second = (model.get_layer(name).get_weights()[0] for name in ("first", "second"))
    assert (np.diff(np.linalg.norm(first[..., :18].reshape(18, 18), axis=0)) > 0).all()  # the largest variance first
    np.testing.assert_array_equal(first[..., 36:], before["first"][0][..., 36:])
    passed_on = np.zeros((3, 3, 40, 6))
    passed_on[1, 1, range(6), range(6)] = 1
    np.testing.assert_array_equal(second, passed_on)
    np.testing.assert_array_equal(model.get_layer("head").get_weights()[0], before["head"][0])


def test_a_fast_start_needs_a_convolution_first():
    inputs = keras.Input((4, 4, 1))
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(inputs)), name="flat")
    with pytest.raises(UsageError, match=r"first layer of 'flat' is not an ordinary convolution\. Leave it out"):
        start_fast(model, np.zeros((2, 4, 4, 1), "float32"))
    wide = keras.Sequential([keras.Input((4, 4, 1)), layers.Conv2D(2, 7, padding="same", name="wide")])
    with pytest.raises(UsageError, match="images of at least 7x7 pixels, as the filters of 'wide'; these have 4x4"):
        start_fast(wide, np.zeros((2, 4, 4, 1), "float32"))


def test_whitening_looks_at_a_thousand_places_of_a_large_image():
    images = np.random.default_rng(0).normal(size=(3, 100, 70, 1)).astype("float32")
    patches = np.stack([images[:, y : y + 2, x : x + 2] for y in range(0, 99, 3) for x in range(0, 69, 3)])
    variances = np.linalg.eigvalsh(np.cov(patches.reshape(-1, 4).T, ddof=0))[::-1]
    filters = whitening_filters(images, (2, 2), epsilon=0)
    np.testing.assert_allclose(np.linalg.norm(filters.reshape(4, 4), axis=0), variances**-0.5, rtol=1e-9)
