"""What a report shows beyond its tables: map, looks, suspected labels, filters, network; of runs and of files."""

import base64
import io
import json
import re
import shutil

import numpy as np
import pandas
import pytest
from PIL import Image

import kerascnn
from kerascnn import explain, runs
from kerascnn.errors import UsageError
from kerascnn.explain.sheets import blended
from kerascnn.pages import charts, extras, making, report
from kerascnn.training import measures, pictures, record


@pytest.fixture(scope="module")
def photos(trained):
    return trained.folder.parent / "photos"


@pytest.fixture(scope="module")
def model_report(trained, photos, tmp_path_factory):
    """The report folder of the network in trained's best.keras, as a file of its own, on all photographs."""
    folder = tmp_path_factory.mktemp("model")
    shutil.copy(trained / "best.keras", folder / "mine.keras")
    prepared = trained.read("data")["preprocessing"]
    classifier = kerascnn.adopt(
        folder / "mine.keras",
        labels=trained.read("labels"),
        preprocess=(prepared["mean"], prepared["std"]),
        folder=folder / "mine",
    )
    page = making.of_model(classifier, photos)
    return runs.Run(folder / "mine" / "report"), page, classifier


def test_any_model_has_a_report(model_report, photos):
    folder, page, _ = model_report
    text = page.read_text(encoding="utf-8")
    assert page == folder / "report.html"
    assert folder.read("run")["result"]["images"] == 72
    assert extras.read(folder) == {"look": "grad_cam", "notes": []}
    for heading in ("The images as the network groups them", "The network", "Filters of the first convolution"):
        assert heading in text
    assert "The whole recipe" not in text
    assert f"kerascnn report mine {photos}" in text.replace("&#39;", "")
    assert not re.search(r'(src|href)="(?!data:)', text)


def test_the_map_has_a_place_and_a_small_picture_of_each_image(model_report):
    folder = model_report[0]
    places = record.read(folder)["map"]
    assert places["image"].tolist() == list(range(72))
    assert places[["x", "y"]].to_numpy().min() == 0
    assert places[["x", "y"]].to_numpy().max() == 1
    sheet = np.asarray(Image.open(folder / "evaluation" / "map.webp"))
    assert sheet.shape == (3 * extras.THUMBNAIL, extras.ACROSS * extras.THUMBNAIL, 3)
    labels = record.read(folder)["predictions"]["label"]
    colours = {"blue sky": 2, "grass": 1, "tomato": 0}  # the channel that is brightest
    for number in (0, 30, 71):
        top, left = number // extras.ACROSS * extras.THUMBNAIL, number % extras.ACROSS * extras.THUMBNAIL
        tile = sheet[top : top + extras.THUMBNAIL, left : left + extras.THUMBNAIL]
        assert tile.mean((0, 1)).argmax() == colours[labels[number]]
    page = model_report[1].read_text(encoding="utf-8")
    assert page.count("data-point=") == 72
    points = json.loads(re.search(r'id="points">(.*?)</script>', page)[1])
    assert [point[0] for point in points] == labels.tolist()


def test_what_is_alike_lies_together_and_the_same_each_time():
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(centre, 1, (20, 8)) for centre in (0, 30, 60)])
    places = extras.embedded(features)
    np.testing.assert_array_equal(places, extras.embedded(features))
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1) + 9 * np.eye(60)
    np.testing.assert_array_equal(distances.argmin(1) // 20, np.arange(60) // 20)
    assert np.isfinite(extras.embedded(np.ones((12, 1)))).all()


def test_looks_lie_over_what_the_network_saw(model_report, photos):
    folder, _, classifier = model_report
    predictions = record.read(folder)["predictions"]
    row = (extras.shown(predictions, False) or extras.shown(predictions, True))[0]
    file = predictions["file"][row]
    data = kerascnn.datasets.load(photos, image_size=16, channels=3, validation=0, test=0)
    pixels = data.train.images[[list(data.train.files).index(file)]]
    values = explain.maps("grad_cam", classifier.model, classifier.preprocessing(pixels))
    drawn = blended(pixels[0], values[0], signed=False)
    head, _, encoded = pictures.read(folder, "looks")[row].partition(",")
    assert head == "data:image/webp;base64"
    shown, expected = (_pixels(content) for content in (base64.b64decode(encoded), pictures._webp(drawn)))
    assert np.abs(shown - expected).max() <= 3  # of 255: in a batch of others a map may round otherwise


def _pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def test_a_map_blended_over_an_image_is_clear_where_it_is_zero():
    image = np.full((2, 2, 3), 100, "uint8")
    drawn = blended(image, np.array([[0.0, 1.0], [-1.0, 0.0]]))
    assert drawn[0, 0].tolist() == drawn[1, 1].tolist() == [100, 100, 100]
    assert drawn[0, 1].argmax() == 0  # red speaks for
    assert drawn[1, 0].argmax() == 2  # blue against
    heat = blended(image, np.array([[0.0, 1.0], [0.5, 0.0]]), signed=False)
    assert heat[0, 0].tolist() == [100, 100, 100]
    assert heat[0, 1].tolist() != [100, 100, 100]


def test_suspects_by_hand(monkeypatch):
    monkeypatch.setattr(measures, "FEWEST", 100)  # too few for confident learning
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.95, 0.05], [0.6, 0.4]])
    table = measures.suspects(np.log(probabilities), [0, 0, 1, 1], ("a", "NA"), ("0.png", "1.png", "2.png", "3.png"))
    assert table["image"].tolist() == [2, 1, 3]
    assert table["file"].tolist() == ["2.png", "1.png", "3.png"]
    assert table["suggested"].tolist() == ["a", "NA", "a"]
    np.testing.assert_allclose(table["confidence"], [0.05, 0.2, 0.4])
    assert table["suspected"].all()


def test_confident_learning_finds_what_was_mislabelled():
    pytest.importorskip("cleanlab", reason="needs cleanlab (the extra labels)")
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 600)
    scores = rng.normal(0, 1, (600, 3)) + 4 * np.eye(3)[true]
    given = true.copy()
    changed = rng.choice(600, 30, replace=False)
    given[changed] = (given[changed] + 1) % 3
    logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    table = measures.suspects(logs, given, ("a", "b", "c"))
    suspected = set(table["image"][table["suspected"]])
    assert len(suspected & set(changed)) >= 25
    assert len(suspected - set(changed)) <= 15
    top = set(table["image"][:30])
    assert len(top & set(changed)) >= 25


def test_a_run_has_its_extras_once_and_the_page_is_made_again_without_data(trained, tmp_path):
    shutil.copytree(trained.folder, tmp_path / "run")
    run = runs.Run(tmp_path / "run")
    page, lacks = making.of_run(run)
    assert lacks == ""
    assert "Images as training saw them" in page.read_text(encoding="utf-8")
    assert "it takes 12 images or more" in extras.read(run)["notes"][0]
    before = page.read_text(encoding="utf-8")
    run.write("recipe", run.read("recipe") | {"data": str(tmp_path / "gone")})
    page, lacks = making.of_run(run)
    assert lacks == ""
    assert page.read_text(encoding="utf-8").split("<h2>")[2:-1] == before.split("<h2>")[2:-1]
    page, lacks = making.of_run(run, look="saliency")
    assert "The page shows only what the folder holds" in lacks


def test_a_run_that_trains_on_keeps_nothing_of_the_test_of_its_earlier_weights(trained, tmp_path):
    run = runs.Run(shutil.copytree(trained.folder, tmp_path / "run"))
    making.of_run(run)
    assert {"layers", "predictions"} <= record.read(run).keys()
    kerascnn.train(resume=run, epochs=7, say=lambda line: None)
    assert extras.read(run) is None
    assert "predictions" in record.read(run)
    assert "layers" not in record.read(run)
    assert making.of_run(run)[1] == ""
    assert extras.read(run)["look"] == "grad_cam"
    kerascnn.train(resume=run, epochs=8, test=False, say=lambda line: None)
    assert record.read(run) == {}


def test_training_is_shown_as_the_first_batch(trained, photos, tmp_path):
    shutil.copytree(trained.folder, tmp_path / "run")
    run = runs.Run(tmp_path / "run")
    making.of_run(run)
    sheet = np.asarray(Image.open(run / "evaluation" / "training.webp").convert("RGB"), float)
    side = pictures.LARGEST_SIDE
    assert sheet.shape == (side, 8 * side, 3)  # the batch of eight
    tiles = sheet.reshape(side, 8, side, 3).mean((0, 2))
    assert (np.sort(tiles, 1)[:, -1] > 120).all()  # each has its class's colour


def test_a_point_of_the_map_is_where_its_numbers_are():
    chart = charts.scatter([0, 1], [0, 0.5], [0, 1], [False, True], 12)
    assert f'data-point="0" data-group="0" cx="8.0" cy="{charts.MAP - 8:.1f}"' in chart
    assert 'class="spot ring" style="--spot:hsl(30 65% var(--spot-light))" data-point="1"' in chart
    assert f'cx="{charts.MAP - 8:.1f}" cy="{charts.MAP / 2:.1f}"' in chart


def test_bad_input_is_named(call, trained, tmp_path):
    shutil.copy(trained / "best.keras", tmp_path / "mine.keras")
    code, _, err = call("report", "mine.keras")
    assert code == 2
    assert "mine.keras is not a run, so it has no images of its own." in err
    code, _, err = call("report", str(trained.folder), "--look", "grad_can")
    assert code == 2
    assert "grad_cam" in err
    with pytest.raises(UsageError, match="no run"):
        making.of_run(tmp_path / "nothing")
    assert not list(tmp_path.glob("*/report"))


def test_names_are_text_in_the_sections(model_report):
    folder = runs.Run(model_report[0].folder.parent / "hostile")
    shutil.copytree(model_report[0].folder, folder.folder)
    for name in ("predictions", "suspects", "per_class"):
        path = folder / "evaluation" / f"{name}.csv"
        path.write_text(path.read_text().replace("tomato", "</script><img src=x>"))
    table = pandas.DataFrame(
        {"image": [0], "file": ["<b>.png"], "split": ["test"], "label": ["<i>"], "suggested": ["</script>"]}
    ).assign(confidence=0.01, suspected=True)
    table.to_csv(folder / "evaluation" / "suspects.csv", index=False)
    page = report.report(folder)
    assert "<img src=x>" not in page
    assert "perhaps &lt;/script&gt;?" in page
