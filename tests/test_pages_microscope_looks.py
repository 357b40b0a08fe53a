"""The microscope's image pages: every method with the scores of that image, and the maps of every layer."""

import html
import re

import numpy as np
import pytest
from PIL import Image
from scan_networks import network
from test_pages_microscope import NAMES, Links, build, contents, data, scaled

from kerascnn import explain
from kerascnn.explain import evaluate
from kerascnn.explain.sheets import blended
from kerascnn.pages.microscope import looks
from kerascnn.pages.microscope.pictures import picture


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("looks") / "site"
    build(folder, looks=3)
    return folder


class Labelled:
    def __init__(self, labels, class_names):
        self.labels, self.class_names = np.array(labels), class_names

    def __len__(self):
        return len(self.labels)


def test_the_images_explained_are_the_first_of_each_class_in_turn():
    few = Labelled([0, 0, 0, 2, 2, 1, -1], ("a", "b", "c"))
    assert looks.chosen(few, 1) == [0]
    assert looks.chosen(few, 3) == [0, 3, 5]
    assert looks.chosen(few, 5) == [0, 1, 3, 4, 5]
    assert looks.chosen(few, 100) == [0, 1, 2, 3, 4, 5]
    assert looks.chosen(few, 0) == []
    assert looks.chosen(Labelled([-1] * 9, ()), 3) == [0, 4, 8]


def explained_pages(site):
    pages = {int(path.stem): path.read_text() for path in sorted((site / "images").glob("*.html"))}
    return {number: page for number, page in pages.items() if "depends on</h2>" in page}


def cards(page):
    """{method: {score: text}} of an image's page."""
    cards_of = {}
    for card in page.partition('<ul class="looks">')[2].partition("</ul>")[0].split("<li>")[1:]:
        name = re.search(r"<h3>([^<]+)</h3>", card)[1].replace(" ", "_")
        cards_of[name] = dict(re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd>", card)) | {"text": card}
    return cards_of


@pytest.mark.filterwarnings("ignore::kerascnn.explain.caveats.EmptyMap")
def test_every_method_stands_on_the_page_with_its_scores_on_this_image(site):
    model, few, pages = network(), data(), explained_pages(site)
    labels = few.test.labels.tolist()
    assert sorted(pages) == sorted(labels.index(number) for number in range(3))
    number, page = next(iter(pages.items()))
    x = scaled(few.test.images[[number]])
    top = model.predict(x, verbose=0).argmax(1)
    assert "depends on</h2>" in page
    assert html.escape(NAMES[top[0]]).replace("&quot;", "&#34;") in page.partition("What the answer ")[2][:80]
    shown = cards(page)
    assert list(shown) == list(explain.EXPLANATIONS.names())
    for method in ("saliency", "guided_backprop", "grad_cam"):
        importance = evaluate.importance(method, model, x, top)
        for name in ("deletion", "insertion"):
            curve = evaluate.deletion_curve(model, x, top, importance, insertion=name == "insertion")
            assert float(shown[method][name]) == pytest.approx(curve.mean(), abs=6e-4)
        last = evaluate.randomisation(model, x, top, methods=[method]).iloc[-1]
        told = [float(word) for word in shown[method]["random weights"].split(", ")]
        assert told == pytest.approx([last["spearman"], last["ssim"]], abs=0.011)
        assert ("known to fail" in shown[method]["text"]) == (method == "guided_backprop")


def test_the_sheet_has_each_map_over_the_image(site):
    model, few = network(), data()
    number = next(iter(explained_pages(site)))
    x = scaled(few.test.images[[number]])
    sheet = np.asarray(Image.open(site / f"images/{number:06d}-looks.webp").convert("RGB"))
    names = list(explain.EXPLANATIONS.names())
    assert sheet.shape == (16, 8 * len(names), 3)
    column = names.index("saliency")
    values = explain.saliency(model, x, model.predict(x, verbose=0).argmax(1))[0].sum(-1)
    expected = blended(picture(few.test.images[number]), values)
    drawn = sheet[8:, 8 * column : 8 * column + 8]
    assert np.abs(drawn.astype(int) - expected).max() <= 2


def test_the_maps_of_a_layer_are_those_of_its_strongest_units_in_this_image(site):
    model, few = network(), data()
    number, page = next(iter(explained_pages(site).items()))
    largest = explain.activations(model, scaled(few.test.images), "conv1").max((0, 1, 2))
    maps = explain.activations(model, scaled(few.test.images[[number]]), "conv1")[0]
    share = np.where(largest > 0, maps.max((0, 1)) / np.where(largest > 0, largest, 1), 0)
    order = [unit for unit in np.argsort(-share.round(6), kind="stable") if share[unit] > 0]
    table = page.partition("<h2>Activations")[2].partition("</table>")[0]
    assert list(map(int, re.findall(r"units/conv1/(\d+)\.html", table))) == order
    sheet = np.asarray(Image.open(site / f"images/{number:06d}-maps.webp").convert("L"), float)
    tile = sheet[: looks.TILE, : looks.TILE].reshape(8, 6, 8, 6).mean((1, 3))
    np.testing.assert_allclose(tile, 255 * np.clip(maps[..., order[0]] / largest[order[0]], 0, 1), atol=25)


def test_every_link_and_picture_of_an_image_page_is_there(site):
    for page in (site / "images").glob("*.html"):
        for link in Links(page.read_text()).addresses:
            assert link.startswith("#") or (page.parent / link.partition("#")[0]).is_file(), link


@pytest.mark.slow
def test_more_images_later_end_as_all_at_once_and_then_nothing_is_written(site, tmp_path):
    build(tmp_path / "grown", looks=2)
    assert len(explained_pages(tmp_path / "grown")) == 2
    build(tmp_path / "grown", looks=3)
    assert contents(tmp_path / "grown") == contents(site)
    said = []
    build(tmp_path / "grown", looks=3, say=said.append)
    assert said[-1] == "0 files changed"
    build(tmp_path / "grown", looks=0)
    assert not list((tmp_path / "grown/images").glob("*-looks.webp"))


def test_a_network_without_probabilities_has_pages_without_explanations(tmp_path):
    import keras

    whole = network()
    maps_only = keras.Model(whole.inputs, whole.get_layer("relu2").output, name="maps_only")
    said = []
    build(tmp_path / "site", maps_only, looks=2, maps=0, say=said.append)
    assert any("no explanations: model 'maps_only' is no classifier" in line for line in said)
    assert explained_pages(tmp_path / "site") == {}
