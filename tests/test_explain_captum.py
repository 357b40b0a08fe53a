"""Agreement with Captum on torch twins that have the same weights (skipped without torch and captum)."""

import keras
import numpy as np
import pytest

torch = pytest.importorskip("torch")
attr = pytest.importorskip("captum.attr")

from torch_twin import Twin  # noqa: E402  needs torch

from kerascnn import explain  # noqa: E402
from kerascnn.errors import UsageError  # noqa: E402
from kerascnn.models import MODELS  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # captum's notes about its hooks

# name: (builder arguments, the layer for Grad-CAM, patch and stride for occlusion)
SUBJECTS = {
    "cifar_net": ({"batch_norm": True}, "conv4", (8, 4)),
    "tdt_model1": ({}, None, (8, 4)),
    "zfnet_miniplaces": ({}, "conv5", (32, 16)),
    "vgg11": ({"input_shape": (64, 64, 3), "num_classes": 10}, None, (32, 16)),
    "resnet18": ({"input_shape": (64, 64, 3), "num_classes": 10}, None, (32, 16)),
}
SLOW = {"vgg11", "resnet18", "tdt_model1"}
IMAGES, ON_A_TIE = 4, 1


@pytest.fixture(scope="module", params=[pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in SUBJECTS])
def pair(request):
    """(model, twin, images, classes, Grad-CAM layer, patch, stride); every weight and statistic is random."""
    keras.utils.set_random_seed(7)
    arguments, layer, (patch, stride) = SUBJECTS[request.param]
    model, rng = MODELS.get(request.param)(**arguments), np.random.default_rng(7)
    for variable in model.weights:
        if "seed" in variable.path:
            continue
        if "variance" in variable.path or "gamma" in variable.path:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif len(variable.shape) == 1:
            variable.assign(rng.normal(scale=0.1, size=variable.shape))
    images = rng.normal(size=(IMAGES, *model.input_shape[1:])).astype("float32")
    layer = layer or [n for n, kind in explain_kinds(model).items() if kind == "Conv2D"][-1]
    return model, Twin(model), images, np.array([1, 3, 5, 0]), layer, patch, stride


def explain_kinds(model):
    return {layer.name: type(layer).__name__ for layer in model.layers}


def close(values, expected, scale=0.0):
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-5 * max(np.abs(expected).max(), scale))


def close_but_for_ties(values, expected):
    """Equal within rounding, but for an image with a number so near zero before a ReLU that the rounding of each
    framework, and of each processor, decides whether it is let through; there one unit of thousands differs."""
    limits = np.abs(expected).max((1, 2, 3))
    apart = np.abs(values - expected).max((1, 2, 3)) / limits
    assert (apart > 1e-5).sum() <= ON_A_TIE, apart
    assert apart.max() < 0.1


def channels_first(images):
    return torch.tensor(images.transpose(0, 3, 1, 2).copy())


WALKS = [("saliency", "Saliency"), ("deconvnet", "Deconvolution"), ("guided_backprop", "GuidedBackprop")]


@pytest.mark.parametrize(("method", "name"), WALKS)
def test_walks(pair, method, name):
    model, twin, images, classes, *_ = pair
    options = {"abs": False} if name == "Saliency" else {}
    expected = getattr(attr, name)(twin).attribute(
        channels_first(images).requires_grad_(), target=torch.tensor(classes), **options
    )
    values = explain.EXPLANATIONS.get(method)(model, images, classes)
    close_but_for_ties(values, expected.detach().numpy().transpose(0, 2, 3, 1))


def test_grad_cam(pair):
    model, twin, images, classes, layer, *_ = pair
    expected = attr.LayerGradCam(twin, twin.layer(layer)).attribute(channels_first(images), torch.tensor(classes))
    values = explain.grad_cam(model, images, classes, layer=layer, rectify=False)
    close(values, expected.detach().numpy()[:, 0])


def test_occlusion(pair):
    model, twin, images, classes, _, patch, stride = pair
    expected = attr.Occlusion(twin).attribute(
        channels_first(images),
        (3, patch, patch),
        (3, stride, stride),
        0,
        target=torch.tensor(classes),
        perturbations_per_eval=9,
    )
    options = {"patch": patch, "stride": stride, "fill": 0}
    values = explain.occlusion(model, images, classes, convention="captum", **options)
    # The map is a difference of scores, each rounded in float32: it cannot be better than the scores are.
    scores = explain.occlusion_scores(model, images, **options)
    close(values, expected.detach().numpy()[:, 0], np.abs(scores).max())


def two_layers(height, width):
    """(model, the same as a torch function of channels-first images): flatten, tanh layer, three scores."""
    rng, inputs = np.random.default_rng(4), keras.Input((height, width, 2))
    hidden = keras.layers.Dense(5, activation="tanh")(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3)(hidden))
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    first, bias, second, end = map(torch.tensor, model.get_weights())

    def function(x):
        return torch.tanh(x.permute(0, 2, 3, 1).reshape(len(x), -1) @ first + bias) @ second + end

    return model, function


# (height, width), patch, stride: squares that fit and that do not, strides that differ by axis, patches as large as an
# axis of the image
OCCLUSIONS = [
    *(((7, 9), (p, p), (s, s)) for p in (2, 3, 7) for s in range(1, p + 1)),
    ((8, 5), (3, 2), (2, 1)),
    ((8, 5), (4, 3), (3, 2)),
    ((8, 5), (5, 5), (4, 5)),
    ((8, 5), (3, 5), (2, 9)),
    ((8, 5), (8, 2), (9, 2)),
    ((6, 6), 4, 3),
    ((6, 7), 3, (2, 3)),
]


def test_occlusion_has_captums_windows_and_averages_at_every_size():
    rng, subjects = np.random.default_rng(6), {}
    for size, patch, stride in OCCLUSIONS:
        model, function = subjects.setdefault(size, two_layers(*size))
        images = rng.normal(size=(2, *size, 2)).astype("float32")
        fill = images.mean((1, 2))
        sides = [(2, *(v if isinstance(v, tuple) else (v, v))) for v in (patch, stride)]
        expected = attr.Occlusion(function).attribute(
            channels_first(images),
            *sides,
            torch.tensor(fill[:, :, None, None]).expand(2, 2, *size),
            target=torch.tensor([0, 2]),
        )
        values = explain.occlusion(model, images, [0, 2], patch=patch, stride=stride, convention="captum")
        np.testing.assert_allclose(values, expected.numpy()[:, 0], atol=1e-5, err_msg=f"{size} {patch} {stride}")


@pytest.mark.parametrize(("patch", "stride"), [(2, 3), ((2, 3), (3, 3)), ((3, 2), (1, 4))])
def test_strides_that_captum_refuses(patch, stride):
    model, function = two_layers(6, 6)
    images = np.zeros((1, 6, 6, 2), "float32")
    sides = [(2, *(v if isinstance(v, tuple) else (v, v))) for v in (patch, stride)]
    with pytest.raises(AssertionError, match="Stride dimension"):
        attr.Occlusion(function).attribute(channels_first(images), *sides, target=0)
    with pytest.raises(UsageError, match=r"A stride of \d pixels is larger than the patch of 2"):
        explain.occlusion(model, images, 0, patch=patch, stride=stride, convention="captum")
    assert explain.occlusion(model, images, 0, patch=patch, stride=stride, convention="drop").ndim == 3
