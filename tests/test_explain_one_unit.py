"""A classifier with one sigmoid unit has two classes: z speaks for class 1, -z for class 0."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from kerascnn import datasets, explain
from kerascnn.errors import UsageError
from kerascnn.explain import evaluate
from kerascnn.explain.answers import class_probabilities
from kerascnn.training.evaluate import evaluate_split

IMAGES = np.random.default_rng(3).normal(size=(6, 8, 8, 1)).astype("float32")


def unit(z):
    return layers.Dense(1, name="unit")(layers.GlobalAveragePooling2D()(z))


ENDS = {
    "sigmoid": lambda x: layers.Dense(1, activation="sigmoid", name="unit")(layers.GlobalAveragePooling2D()(x)),
    "activation": lambda x: layers.Activation("sigmoid")(unit(x)),
    "operation": lambda x: ops.sigmoid(unit(x)),
    "float32": lambda x: layers.Activation("sigmoid", dtype="float32")(layers.Dropout(0.5)(unit(x))),
    "reshaped": lambda x: layers.Flatten()(layers.Conv2D(1, 5, activation="sigmoid", name="unit")(x)),
    "flat": lambda x: layers.Reshape(())(ops.sigmoid(unit(x))),
    "logits": unit,
}


def one_unit(end):
    """The model and the same with its unit's z as its only output."""
    inputs = keras.Input((8, 8, 1))
    x = layers.MaxPooling2D(2, strides=1)(layers.Conv2D(4, 3, activation="relu", name="conv")(inputs))
    model = keras.Model(inputs, ENDS[end](x), name=end)
    rng = np.random.default_rng(8)
    model.set_weights([rng.normal(scale=0.5, size=w.shape) for w in model.get_weights()])
    if end == "logits":
        model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    bias = model.get_layer("unit").bias
    bias.assign(bias - np.median(scores_of(model)))  # both classes occur
    return model


def scores_of(model):
    """z of every image."""
    probabilities = np.reshape(model.predict(IMAGES, verbose=0), -1).astype("float64")
    return probabilities if model.name == "logits" else np.log(probabilities / (1 - probabilities))


@pytest.mark.parametrize("end", ENDS)
def test_both_classes_of_one_unit(end):
    model = one_unit(end)
    second = explain.saliency(model, IMAGES, 1)
    np.testing.assert_allclose(explain.saliency(model, IMAGES, 0), -second, atol=1e-6)
    top = scores_of(model) > 0
    assert 0 < top.sum() < len(top)
    expected = np.where(top[:, None, None, None], second, -second)
    np.testing.assert_allclose(explain.saliency(model, IMAGES), expected, atol=1e-6)
    numeric = IMAGES[:1].repeat(3, 0)
    numeric[1, 4, 4, 0] += 1e-2
    numeric[2, 4, 4, 0] -= 1e-2
    scores = explain.occlusion_scores(model, numeric, patch=1, stride=8, fill=numeric[0, 0, 0])[:, 0, 0]
    np.testing.assert_allclose((scores[1] - scores[2]) / 2e-2, [-second[0, 4, 4, 0], second[0, 4, 4, 0]], atol=2e-3)
    with pytest.raises(UsageError, match="has no class 2: it has 2 classes, 0 to 1"):
        explain.saliency(model, IMAGES, 2)


@pytest.mark.parametrize("end", ["sigmoid", "activation", "logits"])
def test_every_method_gives_class_0_what_speaks_against_class_1(end):
    model = one_unit(end)
    few = {"integrated_gradients": {"steps": 2}, "smoothgrad": {"samples": 2}}
    for method in ("saliency", "gradient_x_input", "lrp", *few):
        maps = [explain.maps(method, model, IMAGES, target, **few.get(method, {})) for target in (0, 1)]
        np.testing.assert_allclose(maps[0], -maps[1], atol=1e-5, err_msg=method)
    grad_cam = [explain.grad_cam(model, IMAGES, target, rectify=False) for target in (0, 1)]
    np.testing.assert_allclose(grad_cam[0], -grad_cam[1], atol=1e-5)
    hidden = [explain.maps("occlusion", model, IMAGES, target) for target in (0, 1)]
    np.testing.assert_allclose(hidden[0], -hidden[1], atol=1e-5)
    assert list(explain.coverage(model)["rule"]) == ["relu", "max_pool"] + ["sigmoid"] * (end != "logits")


@pytest.mark.parametrize("end", ["sigmoid", "activation", "logits"])
def test_occlusion_and_curves_read_both_probabilities(end):
    model, z = one_unit(end), scores_of(one_unit(end))
    table = explain.occlusion_scores(model, IMAGES, patch=8, stride=8, fill=IMAGES[0, 0, 0])
    np.testing.assert_allclose(table[..., 0], -table[..., 1], atol=1e-6)
    chances = 1 / (1 + np.exp(-z))
    for target, expected in ((0, 1 - chances), (1, chances)):
        curve = evaluate.deletion_curve(model, IMAGES, [target] * 6, np.abs(IMAGES[..., 0]), steps=2)
        np.testing.assert_allclose(curve[:, 0], expected, rtol=1e-4)
    trio = explain.occlusion_trio(model, IMAGES, [1] * 6, patch=4, stride=4)
    assert set(trio["label"].ravel()) <= {0, 1}
    table = evaluate.randomisation(model, IMAGES, [0, 1, 0, 1, 0, 1])
    assert table["layer"].tolist() == ["unit", "conv"]
    np.testing.assert_allclose(
        class_probabilities(model, model.predict(IMAGES, verbose=0)), np.stack([1 - chances, chances], 1), rtol=1e-4
    )


@pytest.mark.parametrize("end", ["sigmoid", "logits"])
def test_evaluation_of_one_unit(end):
    model = one_unit(end)
    labels = (scores_of(model) > 0).astype(int)
    labels[0] = 1 - labels[0]
    evaluation = evaluate_split(model, datasets.Split(IMAGES, labels), lambda images: images, ["no", "yes"])
    assert evaluation.accuracy == pytest.approx(5 / 6)
    chance = 1 / (1 + np.exp(-scores_of(model)))
    expected = -np.log(np.where(labels == 1, chance, 1 - chance)).mean()
    assert evaluation.loss == pytest.approx(expected, rel=1e-4)
    assert evaluation.confusion.to_numpy().sum() == 6


def test_a_single_unit_that_is_no_score_has_one_target():
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, unit(layers.Conv2D(2, 3)(inputs)), name="age")
    assert explain.saliency(model, IMAGES, 0).shape == IMAGES.shape
    np.testing.assert_allclose(explain.saliency(model, IMAGES), explain.saliency(model, IMAGES, 0), atol=1e-6)
    with pytest.raises(UsageError, match=r"'age' has one unit without a sigmoid.*target is 0.*from_logits=True"):
        explain.saliency(model, IMAGES, 1)


@pytest.mark.parametrize("end", ["sigmoid", "activation", "operation", "flat"])
def test_a_unit_among_several_outputs_has_both_classes(end):
    alone = one_unit(end)
    others = layers.Dense(3, activation="softmax", name="others")(layers.Flatten()(alone.inputs[0]))
    model = keras.Model(alone.inputs[0], [others, alone.outputs[0]])
    name = model.output_names[1]
    for target in (0, 1, None):
        expected = explain.saliency(alone, IMAGES, target)
        np.testing.assert_allclose(explain.saliency(model, IMAGES, {name: target}), expected, atol=1e-6)
    table = explain.maps("occlusion", model, IMAGES, {name: 0}), explain.maps("occlusion", alone, IMAGES, 0)
    np.testing.assert_allclose(*table, atol=1e-6)
    kernel, bias = (ops.convert_to_numpy(w) for w in model.get_layer("others").weights)
    powers = np.exp(0.5 * kernel.sum(0) + bias)  # of an image that is 0.5 everywhere
    hidden = {"patch": 8, "stride": 8, "fill": 0.5, "convention": "probability"}
    probability = explain.maps("occlusion", model, IMAGES, {"others": 1}, **hidden)
    np.testing.assert_allclose(np.reshape(probability, (6, -1))[:, 0], powers[1] / powers.sum(), rtol=1e-4)


def test_an_output_that_is_the_score_itself_is_a_number_though_another_is_its_sigmoid():
    alone = one_unit("activation")
    score = alone.get_layer("unit").output
    model = keras.Model(alone.inputs[0], [score, alone.outputs[0]])
    number, chance = model.output_names
    expected = explain.saliency(alone, IMAGES, 1)
    np.testing.assert_allclose(explain.saliency(model, IMAGES, {number: 0}), expected, atol=1e-6)
    np.testing.assert_allclose(explain.saliency(model, IMAGES, {chance: 0}), -expected, atol=1e-6)
    with pytest.raises(UsageError, match="its only target is 0"):
        explain.saliency(model, IMAGES, {number: 1})
