import dataclasses
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

import kerascnn
from kerascnn import explain
from kerascnn.commands.explain import _class_outputs, _classes
from kerascnn.commands.photographs import AT_A_TIME, photographs, stacked
from kerascnn.explain import Neuron


@pytest.fixture
def photo(trained):
    return trained.folder.parent / "photos" / "grass" / "0.png"


def prepared(run, path):
    pixels = kerascnn.datasets.image_files.read_image(path, (16, 16), 3)
    return kerascnn.using.preprocessing(run)(pixels[None])


def test_the_numbers_beside_the_picture_are_the_librarys(call, trained, photo, tmp_path):
    code, out, err = call("explain", trained.folder, photo, "--method", "saliency", "--class", "tomato", "--out", "x")
    assert (code, out, err) == (0, "x/0-saliency-tomato.png\n", "")
    numbers = np.load(tmp_path / "x" / "0-saliency-tomato.npz")
    image = prepared(trained, photo)
    expected = explain.saliency(kerascnn.load(trained), image, 2)
    np.testing.assert_allclose(numbers["saliency"], expected[0], atol=1e-6)
    np.testing.assert_array_equal(numbers["image"], image[0])
    with Image.open(tmp_path / "x" / "0-saliency-tomato.png") as sheet:
        assert sheet.width > 400


def test_one_neuron_and_the_strongest_channels(call, trained, photo, tmp_path):
    model, image = kerascnn.load(trained), prepared(trained, photo)
    arguments = ["explain", trained.folder, photo, "--method", "deconvnet", "--layer", "c3", "--out", "x"]
    assert call(*arguments, "--neuron", "5,1,1")[0] == 0
    numbers = np.load(tmp_path / "x" / "0-deconvnet-c3-5-1-1.npz")
    expected = explain.deconvnet(model, image, Neuron("c3", 5, 1, 1))
    np.testing.assert_allclose(numbers["c3_5_at_1,1"], expected[0], atol=1e-6)
    assert call(*arguments, "--top", "2")[0] == 0
    peaks = explain.activations(model, image, "c3")[0].max((0, 1))
    names = sorted(set(np.load(tmp_path / "x" / "0-deconvnet-c3.npz").files) - {"image"})
    assert names == sorted(f"c3_{channel}" for channel in np.argsort(-peaks, kind="stable")[:2])


def test_a_list_of_channels(call, trained, photo, tmp_path):
    """--neuron 5,1,1 is a place, --channels 5,1,1 are channels."""
    model, image = kerascnn.load(trained), prepared(trained, photo)
    arguments = ["explain", trained.folder, photo, "--method", "deconvnet", "--out", "x"]
    assert call(*arguments, "--layer", "c3", "--channels", "5, 1,1")[0] == 0
    numbers = np.load(tmp_path / "x" / "0-deconvnet-c3-channels-5-1.npz")
    assert set(numbers.files) == {"image", "c3_5", "c3_1"}
    for channel in (5, 1):
        expected = explain.deconvnet(model, image, Neuron("c3", channel))
        np.testing.assert_allclose(numbers[f"c3_{channel}"], expected[0], atol=1e-6)
    for more, message in (
        (["--layer", "c3", "--channels", "5;1"], "'5;1' is not a list of channels. Type for example --channels 9,82"),
        (["--layer", "c3", "--channels", "99"], "Layer 'c3' has no channel 99: it has 16, 0 to 15"),
        (["--channels", "5"], "--channels 5 needs --layer NAME"),
        (["--layer", "c3", "--channels", "5", "--neuron", "2"], "--neuron 2 and --channels 5 both say what"),
    ):
        code, _, err = call(*arguments, *more)
        assert code == 2
        assert message in err


def test_all_methods_on_one_sheet_in_the_run(call, trained, photo):
    code, _, err = call("explain", trained.folder, photo, "--method", "all")
    assert (code, err) == (0, "")
    numbers = np.load(trained / "explain" / "0-all.npz")
    assert set(numbers.files) == {"image", *explain.EXPLANATIONS.names()}
    assert {numbers[name].shape[:2] for name in numbers.files} == {(16, 16)}


def test_grad_cam_takes_a_layer(call, trained, photo, tmp_path):
    arguments = ["explain", trained.folder, photo, "--out", "x", "--method"]
    for more in (["grad_cam", "--layer", "c1"], ["grad_cam", "--layer", "c3"], ["occlusion", "--patch", "4"]):
        assert call(*arguments, *more)[0] == 0
    for patch in (4, 8):
        assert call(*arguments, "occlusion", "--layer", "c3", "--channels", "2", "--patch", patch)[0] == 0
    assert np.load(tmp_path / "x" / "0-grad_cam-c1.npz")["grad_cam"].shape == (16, 16)
    assert sorted(p.stem for p in (tmp_path / "x").glob("*.png")) == [
        *("0-grad_cam-c1", "0-grad_cam-c3", "0-occlusion-c3-channels-2-patch4", "0-occlusion-c3-channels-2-patch8"),
        "0-occlusion-patch4",
    ]


def test_layers_without_a_rule_take_the_fallback(call, tmp_path):
    run = kerascnn.train(model="lstm", epochs=1, out=tmp_path / "run", say=lambda line: None)
    image = sorted((run / "samples").glob("*.png"))[0]
    code, _, err = call("explain", run.folder, image, "--method", "lrp", "--class", "3")
    assert code == 2
    assert "layer 'lstm'" in err
    assert 'give --fallback "autodiff"' in err
    code, out, _ = call("explain", run.folder, image, "--method", "saliency", "--class", "3", "--out", "z")
    assert (code, out.count("\n")) == (0, 1)
    arguments = ["explain", run.folder, image, "--fallback", "autodiff"]
    assert call(*arguments, "--method", "saliency", "--class", "3", "--out", "x")[0] == 0
    size = kerascnn.using.preprocessing(run).image_size
    pixels = kerascnn.datasets.image_files.read_image(image, size, 1)
    x = kerascnn.using.preprocessing(run)(pixels[None])
    with pytest.warns(UserWarning, match="automatic differentiation serves it"):
        expected = explain.saliency(kerascnn.load(run), x, 3, fallback="autodiff")
    values = np.load(next((tmp_path / "x").glob("*.npz")))["saliency"]
    np.testing.assert_allclose(values, expected[0], atol=1e-6)
    assert call("explain", run.folder, image, "--method", "occlusion", "--class", "3", "--out", "y")[0] == 0
    values = np.load(next((tmp_path / "y").glob("*.npz")))["occlusion"]
    expected = explain.maps("occlusion", kerascnn.load(run), x, 3)
    np.testing.assert_allclose(values, expected[0], atol=1e-6)
    powers = np.exp(explain.occlusion_scores(kerascnn.load(run), x, patch=2, stride=2)[0, 1, 3])
    hidden = x.copy()
    hidden[:, 2:4, 6:8] = x.mean()
    np.testing.assert_allclose(powers / powers.sum(), kerascnn.load(run).predict(hidden, verbose=0)[0], atol=1e-5)
    code, _, err = call(*arguments)
    assert code == 2
    assert "type --method grad_cam or gradient_x_input or integrated_gradients or layer_cam" in err


def test_networks_without_rectifiers_and_empty_maps_are_told_once(call, trained, tmp_path):
    run = tmp_path / "smooth"
    shutil.copytree(trained.folder, run)
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(2, 3, activation="silu", name="conv")(inputs)
    outputs = keras.layers.Dense(3, activation="softmax", name="fc")(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, outputs, name="smooth")
    model.save(run / "best.keras")
    photos = [trained.folder.parent / "photos" / "grass" / f"{i}.png" for i in (0, 1)]
    code, out, err = call("explain", run, *photos, "--out", "x")
    assert (code, err) == (0, "")
    caution = "guided_backprop equals the plain gradient here: model 'smooth' has no rectifier (ReLU)."
    assert out.splitlines() == ["x/0-guided_backprop.png", "x/1-guided_backprop.png", caution]
    model.get_layer("conv").kernel.assign(np.zeros((3, 3, 3, 2)))
    model.save(run / "best.keras")
    code, out, err = call("explain", run, *photos, "--method", "saliency", "--out", "y")
    assert (code, err) == (0, "")
    assert [line[:44] for line in out.splitlines()[2:]] == [
        *("0.png: saliency: the map is zero everywhere:", "1.png: saliency: the map is zero everywhere:"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "No image was named"),
        (["IMAGE", "--method", "guided"], "Did you mean 'guided_backprop'"),
        (["IMAGE", "--layer", "c9"], "has no layer 'c9'"),
        (["IMAGE", "--neuron", "3"], "--neuron 3 needs --layer"),
        (["IMAGE", "--layer", "c3", "--neuron", "a"], "'a' is not CHANNEL or CHANNEL,ROW,COLUMN"),
        (["IMAGE", "--layer", "c3", "--neuron", "99"], "99"),
        (["IMAGE", "--class", "tomatoe"], "Did you mean 'tomato'"),
        (["IMAGE", "--class", "3"], "Unknown class '3'"),
        (["IMAGE", "--top", "0"], "--top 0 is not allowed"),
        (["IMAGE", "--method", "occlusion", "--patch", "99"], "99"),
        (["IMAGE", "--patch", "4"], "--patch 4 goes with --method occlusion or all"),
        (["nowhere.png"], "There is no image 'nowhere.png'"),
        (["IMAGE", "--method", "all", "--layer", "c3"], "--method all explains classes, so --layer c3 has no place"),
        (["IMAGE", "--layer", "c3", "--class", "tomato"], "Type one of them"),
    ],
)
def test_what_is_typed_wrong_gets_one_line_and_exit_2(call, trained, photo, arguments, message):
    code, out, err = call("explain", trained.folder, *[photo if a == "IMAGE" else a for a in arguments])
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_activations_of_every_kind_of_layer(call, trained, photo, tmp_path):
    code, out, err = call("activations", trained.folder, photo, "--out", "a")
    assert (code, out, err) == (0, "a/0-*.png\n", "")
    model = kerascnn.load(trained)
    names = [layer.name for layer in model.layers if layer.name[0] in "csfo" and layer.name not in ("flatten",)]
    values = explain.activations(model, prepared(trained, photo))
    drawn = sorted(path.stem.removeprefix("0-") for path in (tmp_path / "a").glob("*.png"))
    assert {"input", "c1", "c3"} < set(drawn) <= {"input", *names}
    for name in set(drawn) - {"input"}:
        np.testing.assert_allclose(np.load(tmp_path / "a" / f"0-{name}.npz")["values"], values[name][0], atol=1e-6)
    numbers = np.load(tmp_path / "a" / "0-input.npz")
    np.testing.assert_array_equal(numbers["image"], kerascnn.using.preprocessing(trained)(numbers["pixels"][None])[0])
    assert call("activations", trained.folder, photo, "--layers", "c9")[0] == 2
    assert "No image was named" in call("activations", trained.folder)[2]


def test_images_of_one_name_in_several_folders_get_names_of_their_own(call, trained, tmp_path):
    photos = trained.folder.parent / "photos"
    paths = [photos / "grass" / "0.png", photos / "tomato" / "0.png", photos / "tomato" / "1.png"]
    code, out, _ = call("explain", trained.folder, *paths, "--method", "saliency", "--out", "x")
    assert code == 0
    assert out.split() == ["x/grass-0.png-saliency.png", "x/tomato-0.png-saliency.png", "x/1-saliency.png"]
    for path, name in zip(paths, ("grass-0.png", "tomato-0.png", "1"), strict=True):
        numbers = np.load(tmp_path / "x" / f"{name}-saliency.npz")
        np.testing.assert_array_equal(numbers["image"], prepared(trained, path)[0])
    assert call("activations", trained.folder, *paths, "--layers", "c1", "--out", "a")[0] == 0
    assert sorted(path.name for path in (tmp_path / "a").glob("*-c1.npz")) == [
        *("1-c1.npz", "grass-0.png-c1.npz", "tomato-0.png-c1.npz"),
    ]


def test_images_of_one_name_in_several_calls_keep_their_files(call, trained, tmp_path):
    photos = trained.folder.parent / "photos"
    for folder, name in [("grass", "0"), ("tomato", "0-2"), ("grass", "0")]:
        path = photos / folder / "0.png"
        end = "saliency" + ("-2" if name == "0-2" else "")
        assert call("explain", trained.folder, path, "--method", "saliency", "--out", "x")[1] == f"x/0-{end}.png\n"
        np.testing.assert_array_equal(np.load(tmp_path / "x" / f"0-{end}.npz")["image"], prepared(trained, path)[0])
        assert call("activations", trained.folder, path, "--layers", "c1", "--out", "a")[1] == f"a/{name}-*.png\n"
        np.testing.assert_array_equal(
            np.load(tmp_path / "a" / f"{name}-input.npz")["image"], prepared(trained, path)[0]
        )
    assert len(list((tmp_path / "x").iterdir())) == 4
    assert len(list((tmp_path / "a").iterdir())) == 8


@pytest.fixture
def wide(trained, tmp_path):
    """A photograph of 300x500 pixels in a folder called after a class."""
    path = tmp_path / "shots" / "grass" / "wide.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 500, 3), np.uint8)).save(path)
    return path


def test_a_photograph_is_drawn_as_it_is_with_the_frame_that_the_network_saw(trained, wide):
    preprocessing = kerascnn.using.preprocessing(trained)
    ((photograph,),) = photographs([str(wide)], preprocessing)
    with Image.open(wide) as image:
        np.testing.assert_array_equal(photograph.drawn, np.asarray(image))
    assert photograph.frame == (0, 100, 300, 300)
    assert photograph.seen().shape == (300, 300, 3)
    assert photograph.true_class(["blue sky", "grass"]) == "grass"
    assert photograph.true_class(["blue sky"]) is None
    cropped = dataclasses.replace(preprocessing, resize_to=(24, 24), image_size=(16, 16))
    ((photograph,),) = photographs([str(wide)], cropped)  # the network sees 16 of 24 pixels of the square in the middle
    assert photograph.frame == pytest.approx((50, 150, 200, 200))


def test_a_large_photograph_is_drawn_smaller(trained, tmp_path):
    path = tmp_path / "large.png"
    Image.fromarray(np.zeros((1200, 2400, 3), np.uint8)).save(path)
    ((photograph,),) = photographs([str(path)], kerascnn.using.preprocessing(trained))
    assert photograph.drawn.shape == (450, 900, 3)
    assert photograph.frame == (0, 225, 450, 450)


def test_an_explanation_names_class_probability_and_true_class(trained, wide):
    preprocessing, labels = kerascnn.using.preprocessing(trained), trained.read("labels")
    model = kerascnn.load(trained)
    (few,) = photographs([str(wide)], preprocessing)
    x = preprocessing(stacked(few))
    for method in ("saliency", "grad_cam", "all"):
        ((figure, _),) = _classes(model, few, x, method, None, labels, [], {})
        answer = model.predict(x, verbose=0)[0]
        title = figure.get_suptitle()
        assert f"class {labels[answer.argmax()]!r}, probability {answer.max():.3f}; true class 'grass'" in title
        assert "lenet5, wide.png" in title
        words = [ax.get_xlabel() + ax.get_ylabel() for ax in figure.axes]
        assert any(sign in word for word in words for sign in ("limit", "±", "heat map"))


def test_images_are_read_a_few_at_a_time_and_a_broken_one_keeps_no_other_from_being_drawn(call, trained, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(AT_A_TIME + 2):
        Image.fromarray(np.full((16, 16, 3), 10 * number, np.uint8)).save(folder / f"{number:02d}.png")
    (folder / "03.png").write_bytes(b"no image")
    few = photographs([str(folder)], kerascnn.using.preprocessing(trained))
    assert [len(next(few)), len(next(few))] == [AT_A_TIME - 1, 2]
    code, out, err = call("explain", trained.folder, folder, "--method", "grad_cam", "--out", "x")
    assert (code, len(out.splitlines())) == (1, AT_A_TIME + 1)
    assert "03.png" in err
    shown = [folder / f"{number:02d}.png" for number in (2, 3, 4)]
    code, out, err = call("activations", trained.folder, *shown, "--layers", "c1", "--out", "a")
    assert (code, len(out.splitlines())) == (1, 2)
    assert "03.png" in err


def test_the_last_layers_units_are_the_classes(trained):
    model = kerascnn.load(trained)
    ends = _class_outputs(model)
    assert list(ends.values()) == ["scores of the classes, before the softmax", "probabilities of the classes"]
    scores, chances = (explain.activations(model, np.zeros((1, 16, 16, 3), "float32"), name) for name in ends)
    np.testing.assert_allclose(np.exp(scores) / np.exp(scores).sum(), chances, rtol=1e-5)
