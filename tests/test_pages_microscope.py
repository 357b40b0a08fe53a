"""The microscope: its numbers are the scan's, links resolve, names are text, a killed build ends like any other."""

import html
import json
import re
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from html.parser import HTMLParser
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from scan_networks import network, whole_images

import kerascnn
from kerascnn import explain
from kerascnn.cli import app
from kerascnn.datasets.image_data import ImageData, Split
from kerascnn.errors import DataError, UsageError, disk_full
from kerascnn.pages.microscope import book, maps, relations
from kerascnn.pages.microscope import layers as site_layers
from kerascnn.pages.microscope.collect import passed, scanned
from kerascnn.pages.microscope.subject import opened

NAMES = ("<script>alert(1)</script>", "NA & co", "third")
COUNT = 40
TESTS = str(Path(__file__).parent)


def data(count=COUNT, names=NAMES):
    images, labels = whole_images(count, seed=3)
    files = tuple(f"{names[label]}/{number}<i>.png".replace("/script", "") for number, label in enumerate(labels))
    return ImageData("few", "few", names, None, test=Split(images.astype("uint8") * 100, labels, files))


def scaled(images):
    return images.astype("float32") / 100


def build(folder, model=None, few=None, **options):
    settings = {"preprocessing": scaled, "out": folder, "maps": 2, "top": 4, "looks": 0, **options}
    keras.backend.clear_session()  # so that layers without a name get the same one each time
    return kerascnn.microscope(model or network(), data() if few is None else few, **settings)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("microscope") / "site"
    build(folder)
    return folder


def contents(folder):
    """{name: bytes} of a site, without the passes' own state."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).parts[0] != "state"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


class Links(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.addresses, self.tags = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("href", "src")]


def test_the_numbers_of_a_unit_are_the_scans(site):
    few = data()
    result = kerascnn.scan(
        network(), few, ["conv1", "conv2 (after relu)"], 4, split="test", preprocessing=scaled, class_names=NAMES
    )
    for layer, address in (("conv1", "conv1"), ("conv2 (after relu)", "conv2")):
        stats, top = result.stats(layer), result.top(layer)
        index = result.selectivity(layer)["index"]
        for unit in range(len(stats)):
            page = (site / f"units/{address}/{unit:04d}.html").read_text()
            shown = dict(re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd>", page))
            row = stats.iloc[unit]
            assert shown["Mean"] == f"{row['mean']:.4g}"
            assert shown["Standard deviation"] == f"{row['std']:.4g}"
            assert shown["Largest"] == f"{row['max']:.4g}"
            share = row["zeros"]
            assert shown["Exactly 0"] == f"{100 * share:.{0 if share in (0, 1) else 1}f}% of all places"
            rows = top[(top["channel"] == unit) & (top["value"] != 0)]
            strongest = page.partition("<h2>Strongest</h2>")[2].partition("<h2>")[0]
            assert re.findall(r"<b>([^<]+)</b>", strongest) == [f"{value:.4g}" for value in rows["value"]]
            assert re.findall(r'images/(\d+)\.html"', strongest) == [f"{image:06d}" for image in rows["image"]]
            places = re.findall(r"row (\d+), column (\d+)", strongest)
            expected = [(str(r), str(c)) for r, c in zip(rows["row"], rows["col"], strict=True)]
            assert places == (expected if layer == "conv1" else [])  # conv2 has one place
            if not np.isnan(index[unit]):
                assert f"Selectivity index {index[unit]:.4g} " in page


def test_the_outline_is_the_receptive_field(site):
    result = kerascnn.scan(network(), data(), ["conv1"], 4, split="test", preprocessing=scaled, class_names=NAMES)
    boxes, top = result.boxes("conv1"), result.top("conv1")
    rows = boxes[(boxes["channel"] == 2) & (top["value"] != 0)]
    page = (site / "units/conv1/0002.html").read_text().partition("<h2>When")[0]
    drawn = re.findall(r'<rect x="(\d+)" y="(\d+)" width="(\d+)" height="(\d+)"/>', page)
    expected = [(r.left, r.top, r.right - r.left, r.bottom - r.top) for r in rows.itertuples()]
    assert [tuple(map(int, row)) for row in drawn] == expected


def test_every_link_resolves_and_nothing_comes_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 4 + 5 + 3 + 3
    seen = set()
    for page in pages:
        for link in Links(page.read_text()).addresses:
            assert not re.match(r"https?:|//|/", link), link
            if link.startswith(("data:", "#")):
                continue
            target = (page.parent / link.partition("#")[0]).resolve()
            assert target.is_file(), f"{page.relative_to(site)} links to {link}"
            seen.add(target)
    unreached = {page.resolve() for page in pages} - seen
    assert unreached == {(site / "404.html").resolve()}
    for text in [*(site / "assets").glob("*"), *pages]:
        assert not re.search(r"fetch\(|https?://(?!www\.w3\.org)|type=.module", text.read_text())


def test_names_are_text(site):
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert "<script>alert" not in text
        assert Links(text).tags.count("script") == 2
        assert "<i>.png" not in text
    assert "&lt;i&gt;.png" in (site / "classes/0000.html").read_text()
    assert html.escape(NAMES[0]) in (site / "classes/0000.html").read_text().replace("&#39;", "&#x27;")
    index = (site / "assets/search.js").read_text()
    assert json.loads(index.removeprefix("window.SITE = ").rstrip(";\n"))["classes"] == list(NAMES)


def test_built_twice_it_is_byte_identical_and_nothing_is_written(site, tmp_path):
    again = tmp_path / "again"
    build(again)
    assert contents(again) == contents(site)
    before = {path: path.stat().st_mtime_ns for path in again.rglob("*") if path.is_file()}
    said = []
    build(again, say=said.append)
    assert {path: path.stat().st_mtime_ns for path in again.rglob("*") if path.is_file()} == before
    assert said[-1] == "0 files changed"


def test_layers_one_by_one_end_as_all_at_once(site, tmp_path):
    build(tmp_path / "parts", layers="conv2")
    assert not (tmp_path / "parts/layers/conv1.html").exists()
    assert "2 more layers" in (tmp_path / "parts/index.html").read_text()
    build(tmp_path / "parts", layers="conv1,softmax")
    assert contents(tmp_path / "parts") == contents(site)


def test_other_images_keep_addresses_and_leave_no_old_ones(site, tmp_path):
    build(tmp_path / "grown", images=12)
    small = set(contents(tmp_path / "grown"))
    build(tmp_path / "grown")
    assert contents(tmp_path / "grown") == contents(site)
    assert {name for name in small if name.startswith("units/") and name.endswith("html")} <= set(contents(site))


def test_labels_are_imported_and_reach_page_and_search(site, tmp_path):
    shutil.copytree(site, tmp_path / "named")
    table = tmp_path / "named/labels.csv"
    assert table.read_text() == "layer,unit,label,note\n"
    table.write_text(
        'layer,unit,label,note\nconv1,2,"<b>edge</b>, left",why\nconv2 (after relu),0,,only a note\nconv9,1,x,\n'
    )
    said = []
    build(tmp_path / "named", say=said.append)
    page = (tmp_path / "named/units/conv1/0002.html").read_text()
    assert "conv1 unit 2: &lt;b&gt;edge&lt;/b&gt;, left" in page
    assert 'value="why"' in page
    assert "only a note" in (tmp_path / "named/units/conv2/0000.html").read_text()
    assert '"<b>edge</b>, left"' in (tmp_path / "named/assets/search.js").read_text()
    assert any("line 4: there is no unit '1' of layer 'conv9'" in line for line in said)
    changed = {name for name, new in contents(tmp_path / "named").items() if new != contents(site).get(name)}
    assert "units/conv1/0002.webp" not in changed
    table.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="has the columns a, b; layer, unit, label, note are needed"):
        build(tmp_path / "named")


@pytest.mark.filterwarnings("ignore::kerascnn.explain.caveats.EmptyMap")
def test_the_maps_are_those_of_explain():
    """Windows of the image and one pass forward for both walks change nothing, at borders either."""
    keras.utils.set_random_seed(5)
    inputs = keras.Input((33, 29, 3))
    x = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu", name="a")(inputs)
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="pool")(x)
    x = layers.Conv2D(5, 3, padding="same", activation="relu", name="b")(x)
    out = layers.Dense(3, activation="softmax", name="end")(layers.GlobalAveragePooling2D(name="mean")(x))
    model = keras.Model(inputs, out, name="windows")
    images = np.random.default_rng(0).normal(size=(8, 33, 29, 3)).astype("float32")
    result = kerascnn.scan(model, images, ["a", "b"], 8)
    subject = opened(model, images)
    both = {each.address: each for each in site_layers.all_layers(model)}
    for name in ("a", "b"):
        geometry = result._record.layers[name].geometry
        walker = maps.Walker(subject, both[name], geometry)
        rows, cols = geometry.rows - 1, geometry.cols - 1
        where = [(0, 0), (0, cols), (rows, 0), (rows, cols), (rows // 2, cols // 2), (1, cols - 1), (rows - 2, 3)]
        where = [(image, row, col, (image + row) % 5) for image in (0, 5, 6) for row, col in where]
        places = [row * geometry.cols + col for _, row, col, _ in where]
        some = [image for image, *_ in where], places, [unit for *_, unit in where]
        walker.settle(*some)
        assert walker._window is not None
        cuts = walker(*some)
        targets = [explain.Neuron(name, unit, row, col) for _, row, col, unit in where]
        for method in maps.METHODS:
            expected = explain.EXPLANATIONS.get(method)(model, images[some[0]], targets)
            for place, cut, whole in zip(places, cuts[method], expected, strict=True):
                np.testing.assert_allclose(cut, geometry.cut(whole, place), rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore::kerascnn.explain.caveats.EmptyMap")
def test_the_maps_of_a_single_unit_speak_for_class_1():
    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 8, 3))
    x = layers.Flatten(name="flat")(layers.Conv2D(4, 3, activation="relu", name="conv")(inputs))
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid", name="end")(x), name="two_classes")
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    result = kerascnn.scan(model, images, ["end"], 4)
    (each,) = [each for each in site_layers.all_layers(model) if each.layer == "end"]
    walker = maps.Walker(opened(model, images), each, result._record.layers["end"].geometry)
    cuts = walker([0, 1, 2], [0, 0, 0], [0, 0, 0])
    for method in maps.METHODS:
        expected = explain.EXPLANATIONS.get(method)(model, images[:3], 1)
        np.testing.assert_allclose(np.stack(cuts[method]), expected, rtol=1e-4, atol=1e-6)


def test_a_model_with_two_outputs_gives_no_class_probabilities(tmp_path):
    inputs = keras.Input((8, 8, 3))
    x = layers.Flatten(name="flat")(layers.Conv2D(2, 3, name="conv")(inputs))
    model = keras.Model(inputs, [layers.Dense(4, name="box")(x), layers.Dense(3, name="label")(x)], name="two")
    found = passed(opened(model, data()), site_layers.matching(model, "conv"), np.arange(2), tmp_path, 16, None)
    assert "probabilities" not in found


def test_a_layer_that_windows_would_change_is_walked_whole():
    inputs = keras.Input((32, 32, 1))
    x = layers.Conv2D(2, 3, padding="same", activation="relu", name="a")(inputs)
    x = layers.LayerNormalization(axis=(1, 2, 3), name="norm")(x)
    x = layers.Conv2D(2, 3, padding="same", activation="relu", name="b")(x)
    model = keras.Model(inputs, layers.Dense(2, name="end")(layers.Flatten(name="flat")(x)), name="whole")
    images = np.random.default_rng(0).normal(size=(4, 32, 32, 1)).astype("float32")
    result = kerascnn.scan(model, images, ["b"], 4)
    (each,) = [each for each in site_layers.all_layers(model) if each.layer == "b"]
    walker = maps.Walker(opened(model, images), each, result._record.layers["b"].geometry)
    rows = result.top("b")
    places = (rows["row"] * 32 + rows["col"]).tolist()
    walker.settle(rows["image"].tolist(), places, rows["channel"].tolist())
    assert walker._window is None


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("deepest", ["conv2"]), ("conv*,softmax", ["conv1", "conv2", "softmax"]), ("conv1..conv2", ["conv1", "conv2"])],
)
def test_layers_are_named_as_everywhere(pattern, expected):
    assert [each.address for each in site_layers.matching(network(), pattern)] == expected


def test_a_layer_of_a_nested_model_is_named_by_its_end_and_a_shared_one_by_its_call():
    inputs = keras.Input((8, 8, 3))
    block = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(3, 3, padding="same", name="inner")], name="block")
    ends = layers.Dense(2, name="end")(layers.GlobalAveragePooling2D(name="mean")(block(block(inputs))))
    model = keras.Model(inputs, ends, name="nested")
    assert [each.layer for each in site_layers.matching(model, "inner#2")] == ["block/inner#2"]
    assert [each.layer for each in site_layers.matching(model, "block/*")] == ["block/inner#1", "block/inner#2"]


def test_nearest_units_are_numpys_correlations():
    heights = {"a": np.random.default_rng(0).random((30, 4)), "b": np.random.default_rng(1).random((30, 3))}
    heights["a"][:, 1] = 0.5  # never changes
    heights["b"][:, 2] = 3 * heights["a"][:, 0] + 1
    nearest = relations.most_alike(heights, n=3)
    assert nearest["a"][1] == []
    assert nearest["a"][0][0] == (1.0, "b", 2)
    everything = np.concatenate([heights["a"][:, [0, 2, 3]], heights["b"]], 1)
    r = np.corrcoef(everything, rowvar=False)
    others = [("a", 0), ("a", 2), ("a", 3), ("b", 0), ("b", 1), ("b", 2)]
    best = sorted((n for n in range(6) if n != 1), key=lambda n: -r[1, n])[:3]
    named = {others[n]: r[1, n] for n in range(6)}  # ("a", 0) and ("b", 2) tie
    assert [value for value, *_ in nearest["a"][2]] == pytest.approx(
        [named[tuple(u)] for _, *u in nearest["a"][2]], abs=1e-5
    )
    assert [value for value, *_ in nearest["a"][2]] == pytest.approx([r[1, n] for n in best], abs=1e-5)


def test_the_map_puts_units_that_go_together_together():
    rng = np.random.default_rng(0)
    one, two = rng.random((50, 1)), rng.random((50, 1))
    noise = 0.01 * rng.random((50, 9))
    places = relations.unit_map(
        np.concatenate([np.repeat(one, 4, 1), np.repeat(two, 4, 1), 0 * one], 1) + [*[1] * 8, 0] * noise
    )
    assert np.isnan(places[8]).all()
    within = np.linalg.norm(places[:4] - places[0], axis=1).max()
    between = np.linalg.norm(places[:4] - places[4:8], axis=1).min()
    assert between > 5 * within
    assert np.nanmax(np.abs(places)) == pytest.approx(1)


def test_weights_lead_through_pooling_joining_and_flattening():
    inputs = keras.Input((4, 4, 1))
    a = layers.Conv2D(2, 1, activation="relu", name="a")(inputs)
    b = layers.Conv2D(3, 1, activation="relu", name="b")(inputs)
    x = layers.MaxPooling2D(2, name="pool")(layers.Concatenate(name="join")([a, b]))
    end = layers.Dense(2, name="end")(layers.Flatten(name="flat")(x))
    model = keras.Model(inputs, end, name="joined")
    kernel = np.zeros((4, 5, 2), "float32")
    kernel[0, 3, 1], kernel[2, 3, 1] = 3, -4  # b's unit 1, at two places
    kernel[1, 0, 1] = 1  # a's unit 0
    model.get_layer("end").set_weights([kernel.reshape(20, 2), np.zeros(2)])
    wiring = relations.Wiring(model, site_layers.all_layers(model))
    assert wiring.into("end", 1)[:2] == [(-1.0, 5.0, "b", 1), (1.0, 1.0, "a", 0)]
    assert wiring.out_of("b")[1][0] == (-1.0, 5.0, "end", 1)
    assert wiring.filters(site_layers.all_layers(model)[0]).shape == (1, 1, 1, 2)


def test_lower_patches_are_other_images_of_falling_activity(site):
    page = (site / "units/conv2/0001.html").read_text()
    strongest, lower = page.partition("<h2>When")[::2]
    lower = lower.partition("<h2>What")[0]
    images = [
        re.findall(r'images/(\d+)\.html"', part.partition("<h2>Strongest")[2] or part) for part in (strongest, lower)
    ]
    assert len(images[0]) == len(images[1]) == 4
    assert not set(images[0]) & set(images[1])
    values = [float(value) for value in re.findall(r"<b>([^<]+)</b>", lower)]
    assert values == sorted(values, reverse=True)
    assert values[0] <= min(float(v) for v in re.findall(r"<b>([^<]+)</b>", strongest))
    model, few = network(), data()
    tap = keras.Model(model.inputs, model.get_layer("relu2").output)
    height = tap.predict(scaled(few.test.images), verbose=0).max((1, 2))[:, 1]
    assert values == pytest.approx([height[int(image)] for image in images[1]], rel=1e-3)


def test_the_profile_counts_the_strongest_by_class(site):
    few = data()
    result = kerascnn.scan(network(), few, ["conv1"], COUNT, split="test", preprocessing=scaled, class_names=NAMES)
    top = result.top("conv1").query("channel == 0 and value > 0")
    by_class = result.stats("conv1", by_class=True).query("channel == 0").set_index("class")["mean"]
    page = (site / "units/conv1/0000.html").read_text().partition("<h2>Classes")[2].partition("</table>")[0]
    rows = re.findall(r"<a href=[^>]+>([^<]+)</a></td><td>([^<]+)</td><td>(\d+)</td>", page)
    assert len(rows) == 3
    for name, mean, share in rows:
        name = html.unescape(name)
        assert mean == f"{by_class[name]:.4g}"
        assert int(share) == (top["label"] == name).sum()


def test_histogram_holds_the_sample_and_its_zeros(site):
    result = kerascnn.scan(network(), data(), ["conv1"], 4, split="test", preprocessing=scaled, class_names=NAMES)
    counts, _ = result.histogram("conv1")

    class Known:
        height, place, sample = {"conv1": np.zeros((1, 4))}, {"conv1": np.zeros((1, 4), int)}, np.zeros(1, int)

    Known.result = result
    (each,) = [each for each in site_layers.all_layers(network()) if each.layer == "conv1"]
    facts = book.LayerFacts(each, Known, 3, 4)
    bars, low, high, zeros = facts.histogram(0)
    assert zeros == pytest.approx(counts[0][counts.shape[1] // 2] / counts[0].sum())
    assert bars.max() == 1
    assert low == 0
    assert high >= result.stats("conv1")["q99"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": "cnov*"}, r"Model 'small' has no layer 'cnov\*'. Did you mean 'conv[12]' or 'conv[12]'"),
        ({"layers": "conv1,fc7"}, "has no layer 'fc7'"),
        ({"layers": "pool*"}, r"layers='pool\*' names no convolution or dense layer of model 'small'. Those are conv1"),
        (
            {"top": COUNT + 1},
            f"top={COUNT + 1} is larger than the data: there are {COUNT} images. Type top={COUNT} or less",
        ),
        ({"images": 3}, "top=4 is larger than the data: there are 3 images"),
        ({"images": 0}, "images=0 is not allowed"),
        ({"maps": 5}, "maps=5 is larger than top=4"),
        ({"looks": -1}, "looks=-1 is not allowed"),
        ({"top": True}, "top=True is not allowed"),
    ],
)
def test_what_is_not_allowed_is_said(tmp_path, change, message):
    with pytest.raises(UsageError, match=message):
        build(tmp_path / "none", **change)
    assert not (tmp_path / "none/index.html").exists()


def test_a_model_without_convolutions_is_refused(tmp_path):
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, layers.Dense(3, name="end")(layers.Flatten(name="flat")(inputs)), name="flat_net")
    with pytest.raises(UsageError, match="'flat_net' has no convolution, and a microscope shows what convolutions see"):
        build(tmp_path / "none", model)


def test_a_stream_is_refused(tmp_path):
    batches = [(whole_images(4)[0], whole_images(4)[1])]

    class Once(keras.utils.PyDataset):
        def __len__(self):
            return 1

        def __getitem__(self, number):
            return batches[number]

    with pytest.raises(UsageError, match="reads images more than once"):
        kerascnn.microscope(network(), Once(), out=tmp_path / "none")


def test_a_folder_of_something_else_stays_as_it_is(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"is not a microscope: it holds 1 other file, such as 'mine.txt'"):
        build(folder)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_a_site_of_another_network_or_version_is_refused(site, tmp_path):
    before = contents(site)
    with pytest.raises(UsageError, match=r"microscope of another network: weights is .* there and .* here"):
        build(site, network(seed=1))
    assert contents(site) == before
    shutil.copytree(site, tmp_path / "old")
    manifest = json.loads((tmp_path / "old/microscope.json").read_text())
    (tmp_path / "old/microscope.json").write_text(json.dumps({**manifest, "format": 99, "kerascnn": "9.9"}))
    with pytest.raises(UsageError, match=r"was built by kerascnn 9\.9 in format 99"):
        build(tmp_path / "old")


def test_on_a_full_disk_it_names_the_file_and_continues_when_there_is_room(site, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (100, 2500):  # bytes that a file may have
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(OSError) as raised:  # noqa: PT011 (the words are the system's)
                build(tmp_path / "site")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert disk_full(raised.value).startswith("File too large")
    assert not (tmp_path / "site/state/writing").exists()
    build(tmp_path / "site")
    assert contents(tmp_path / "site") == contents(site)


def test_images_without_labels_have_a_site_without_classes(tmp_path):
    build(tmp_path / "site", few=whole_images(10)[0], preprocessing=None, layers="conv2")
    page = (tmp_path / "site/units/conv2/0001.html").read_text()
    assert "<h2>Classes" not in page
    assert (
        "image 0" in (tmp_path / "site/images/000000.html").read_text()
        or not (tmp_path / "site/images/000000.html").exists()
    )
    assert not (tmp_path / "site/classes").exists()


@pytest.mark.parametrize(("units", "expected"), [(3, [0.9523, 0.0474, 0.0003]), (1, [0.9933, 0.0067])])
def test_scores_are_shown_as_probabilities(tmp_path, units, expected):
    inputs = keras.Input((8, 8, 3))
    x = layers.Flatten(name="flat")(layers.Conv2D(2, 3, name="conv")(inputs))
    model = keras.Model(inputs, layers.Dense(units, name="scores")(x), name="scorer")
    scores = [5, -3, 2] if units == 3 else [-5]
    model.set_weights([*(0 * w for w in model.get_weights()[:-1]), np.array(scores)])
    found = passed(opened(model, data()), site_layers.all_layers(model), np.arange(2), tmp_path, 16, None)
    np.testing.assert_array_equal(found["classes"], np.tile([0, 2, 1] if units == 3 else [0, 1], (COUNT, 1)))
    np.testing.assert_allclose(found["probabilities"], np.tile(expected, (COUNT, 1)), atol=5e-5)


def test_layers_that_another_scan_left_are_scanned_again(tmp_path):
    subject, both = opened(network(), data(), preprocessing=scaled), site_layers.all_layers(network())
    kerascnn.scan(subject.model, subject.images, "conv1", 2, preprocessing=scaled, out=tmp_path / "scan.npz")
    found = scanned(subject, both, tmp_path, 16, lambda line: None)
    assert found.layers == [each.name for each in both]
    assert found.manifest["k"] == COUNT


def test_the_command_parses_and_says_what_is_wrong(capsys):
    app.parse_args(["microscope", "last", "photos", "--layers", "conv*", "--images", "100", "--out", "there"])
    from kerascnn.cli import run_command

    assert run_command(["microscope", "lenet5", "digits", "--split", "tset"]) == 2
    assert "--split 'tset' is not allowed" in capsys.readouterr().err


KILLED = """
    import sys, os, keras
    sys.path.insert(0, {tests!r})
    from kerascnn.pages.microscope import site
    from test_pages_microscope import build
    put, count = site.Site.put, 0

    def counting(self, name, content):
        global count
        done = put(self, name, content)
        count += done
        if count == {after}:
            os.kill(os.getpid(), 9)
        return done

    site.Site.put = counting
    build({folder!r})
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_the_same(site, tmp_path):
    """After the third, the twentieth ... file; one folder is killed again and again until it is whole."""
    folder, kills = tmp_path / "killed", 0
    for after in (1, 3, 8, 20, 45):
        text = textwrap.dedent(KILLED).format(tests=TESTS, after=after, folder=str(folder))
        done = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, check=False)
        kills += done.returncode == -signal.SIGKILL
    assert kills >= 4
    build(folder)
    assert contents(folder) == contents(site)
