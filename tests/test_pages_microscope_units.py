"""The microscope's unit pages: images made for units, and how units looked through training."""

import base64
import io
import json
import re

import keras
import numpy as np
import pytest
from PIL import Image
from scan_networks import network, whole_images
from test_pages_microscope import build, contents, data, scaled

from kerascnn import explain
from kerascnn.callbacks import FeatureEvolution, FilterEvolution
from kerascnn.explain.optimised import feature_images
from kerascnn.pages.microscope import features
from kerascnn.pages.microscope.recorded import recorded


@pytest.fixture(scope="module")
def quick():
    """Twenty steps of optimisation, and two units at once, so that a layer has several groups."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "STEPS", 20)
        patch.setattr(features, "AT_ONCE", 2)
        yield


@pytest.fixture(scope="module")
def site(tmp_path_factory, quick):
    folder = tmp_path_factory.mktemp("features") / "site"
    build(folder, layers="conv1,softmax", maps=0, feature_images=True)
    return folder


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"), float)


def test_a_units_image_is_the_one_made_for_it_alone(site):
    model, x = network(), scaled(data().test.images)
    low, high = x.min((0, 1, 2)), x.max((0, 1, 2))
    for address, unit, target in (("conv1", 1, explain.Neuron("conv1", 1)), ("softmax", 2, 2)):
        alone, scores = feature_images(model, [target], steps=20, low=low, high=high)
        shown = pixels(site / f"units/{address}/{unit:04d}-feature.webp")
        np.testing.assert_allclose(shown, 255 * (alone[0] - low) / (high - low), atol=3)
        assert scores[-1, 0] > scores[0, 0]
        page = (site / f"units/{address}/{unit:04d}.html").read_text()
        largest = float(re.search(r"largest activation is ([^;]+);", page)[1].replace(",", ""))
        value = explain.activations(model, alone, address)[0, ..., unit].max()
        assert largest == pytest.approx(value, rel=0.02)


def test_the_image_stands_after_the_patches_and_before_the_statistics(site):
    page = (site / "units/conv1/0001.html").read_text()
    order = ["<h2>Strongest</h2>", "<h2>When its", "<h2>What excites", "<h2>An image made", "<h2>Activity"]
    places = [page.index(heading) for heading in order]
    assert places == sorted(places)


def test_a_build_without_the_stage_keeps_the_images_and_another_makes_only_what_is_missing(site):
    before = contents(site)
    said = []
    build(site, layers="conv1,softmax", maps=0, say=said.append)
    assert said[-1] == "0 files changed"
    first, last = (site / f"units/conv1/{unit:04d}-feature.webp" for unit in (0, 3))
    first.write_bytes(b"of a group that is done")
    last.unlink()
    build(site, layers="conv1,softmax", maps=0, feature_images=True)
    assert first.read_bytes() == b"of a group that is done"
    assert last.read_bytes() == before["units/conv1/0003-feature.webp"]
    first.write_bytes(before["units/conv1/0000-feature.webp"])


def test_a_network_of_any_size_has_a_site_without_such_images(tmp_path, quick):
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(2, 3, activation="relu", name="c")(inputs)
    ends = keras.layers.Dense(3, activation="softmax", name="e")(keras.layers.GlobalAveragePooling2D(name="g")(x))
    said = []
    build(tmp_path / "open", keras.Model(inputs, ends, name="open"), maps=0, feature_images=True, say=said.append)
    assert any("no feature images of c: Feature visualisation needs one image input of fixed size" in s for s in said)
    assert "An image made" not in (tmp_path / "open/units/c/0000.html").read_text()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(network after two epochs, the folder of its looks)."""
    watch = tmp_path_factory.mktemp("looks") / "watch"
    model, (images, labels) = network(), whole_images(16)
    model.compile("sgd", "sparse_categorical_crossentropy")
    looks = [
        FilterEvolution("conv1", folder=watch),
        FeatureEvolution(images, "conv2 (after relu)", channels=(4, 1), epochs=(1, 2), folder=watch),
    ]
    model.fit(images / 100, labels, epochs=2, batch_size=8, callbacks=looks, verbose=0)
    return model, watch


def tiles(page, name):
    row = page.partition(f'<th scope="row">{name}</th>')[2].partition("</tr>")[0]
    contents = [base64.b64decode(text) for text in re.findall(r"base64,([^\"]+)", row)]
    return [np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), float) for content in contents], row


@pytest.mark.filterwarnings("ignore::kerascnn.explain.caveats.EmptyMap")
def test_the_page_shows_what_the_run_recorded(trained, tmp_path):
    model, watch = trained
    build(tmp_path / "site", model, maps=0, watch=watch)
    page = (tmp_path / "site/units/conv1/0002.html").read_text()
    drawn, _ = tiles(page, "filter")
    kept = [np.load(watch / f"filter-evolution/{at:07d}.npz")["filters"][2] for at in (0, 1, 2)]
    limit = max(np.abs(each).max() for each in kept)
    assert len(drawn) == 3
    for tile, filters in zip(drawn, kept, strict=True):
        np.testing.assert_allclose(tile[::21, ::21], 255 * (0.5 + 0.5 * filters / limit), atol=1)
    assert re.findall(r'<th class="text">(\d)</th>', page.partition("Through training")[2]) == ["0", "1", "2"]
    page = (tmp_path / "site/units/conv2/0001.html").read_text()
    drawn, row = tiles(page, "strongest patch")
    values = [np.load(watch / f"features/{at:07d}.npz")["value"][1] for at in (1, 2)]
    assert len(drawn) == 2
    assert re.findall(r"<br>([^<]+)<", row) == [f"{value:.4g}" for value in values]
    assert len(tiles(page, "its deconvnet image")[0]) == 2
    for address in ("conv2/0000", "softmax/0000"):
        assert "Through training" not in (tmp_path / f"site/units/{address}.html").read_text()


def test_damaged_looks_are_left_out(tmp_path):
    for name, text in (("a", "{"), ("b", "[]"), ("c", json.dumps({"layers": ["conv1"]}))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "look.json").write_text(text)
    (tmp_path / "c" / "0000001.npz").write_bytes(b"no archive")
    assert recorded(tmp_path, []) == {}
    assert recorded(None, []) == {}
    assert recorded(tmp_path / "nothing", []) == {}
