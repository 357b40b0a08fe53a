"""The report of a run: what it says equals its tables, names are text, and what a folder lacks is left out."""

import base64
import io
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas
import pytest

from kerascnn import runs
from kerascnn.cli import app
from kerascnn.commands.train import Fields, asked_recipe
from kerascnn.errors import DataError, UsageError
from kerascnn.pages import charts, compare, report
from kerascnn.recipes import RECIPES, Recipe
from kerascnn.training import measures, record
from kerascnn.training.evaluate import score

NAMES = ("</script><b>cat", "NA", "1")
LABELS = np.array([0, 0, 0, 1, 1, 2])
PROBABILITIES = np.array(
    [[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.2, 0.5, 0.3], [0.9, 0.05, 0.05], [0.3, 0.3, 0.4]]
)
FILES = tuple(f"{i}<i>&.png" for i in range(6))


@pytest.fixture
def run(tmp_path):
    """A finished run of six test images: images 2 and 4 are mistakes, 4 the more confident one."""
    run = runs.Run(tmp_path / "first")
    run.folder.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), "uint8")
    run.write("recipe", Recipe(data="photos", augment=("flip",), epochs=3).to_dict())
    run.write("data", {"name": "photos", "source": "photos", "class_names": NAMES, "notes": ["A <note>."]})
    result = {"accuracy": 4 / 6, "accuracy_interval": [0.3, 0.9], "images": 6, "best_epoch": 1, "epochs": 2}
    run.write("run", {"status": "finished", "result": result, "parameters": 1234})
    (run / "metrics.csv").write_text("epoch,accuracy,loss,val_loss\n0,0.5,2.0,2.5\n1,0.75,1.0,3.0\n")
    record.keep(run, score(np.log(PROBABILITIES), LABELS, NAMES, FILES), images)
    return run


def embedded(page):
    return json.loads(re.search(r'<script type="application/json" id="images">(.*?)</script>', page, re.DOTALL)[1])


def test_what_it_says_equals_its_tables(run):
    page = report.report(run)
    assert "66.67%" in page
    assert "95% interval 30.00 to 90.00, 6 test images" in page
    command = re.search("<pre>(.*?)</pre>", page)[1]
    assert re.sub("<.*?>", "", command) == "kerascnn train photos --recipe default --augment flip --epochs 3"
    assert 'aria-label="1 of NA predicted as &lt;/script&gt;&lt;b&gt;cat">1</button>' in page
    images = embedded(page)
    assert sorted(map(int, images)) == list(range(6))
    file, label, predicted, top, picture, look = images["4"]
    assert (file, label, predicted) == ("4<i>&.png", "NA", NAMES[0])
    assert top == [[NAMES[0], 0.9], ["NA", 0.05], ["1", 0.05]]
    assert picture.startswith("data:image/webp;base64,")
    assert look == ""
    assert re.findall(r'data-rows="([\d ]+)"', page) == ["4 2", "5 3 1 0"]
    tables = dict(re.findall(r'download="([\w.]+)" href="data:text/csv;base64,([^"]+)"', page))
    table = pandas.read_csv(io.BytesIO(base64.b64decode(tables["per_class.csv"])), keep_default_na=False)
    assert list(table["class"]) == list(NAMES)
    error = measures.calibration(PROBABILITIES, LABELS)[1]
    assert f"Expected calibration error {100 * error:.2f} points" in page


def test_names_are_text_and_the_page_loads_nothing(run):
    page = report.report(run)
    assert "<b>cat" not in page
    assert "<i>&" not in page.replace("4<i>&", "")
    assert "A &lt;note&gt;." in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "http" not in page


def test_made_twice_it_is_the_same(run, tmp_path):
    assert report.report(run) == report.report(run)
    assert report.write(run, tmp_path / "elsewhere.html").read_text(encoding="utf-8") == report.report(run)


def test_a_run_that_failed_has_its_page(tmp_path):
    failed = runs.Run(tmp_path / "bad")
    failed.folder.mkdir()
    failed.write("recipe", Recipe().to_dict())
    failed.write("run", {"status": "failed", "reason": "TrainingFailed: the loss became <NaN>"})
    page = report.report(failed)
    assert "The run was failed" not in page
    assert "The run failed: TrainingFailed: the loss became &lt;NaN&gt;" in page
    assert "confusion" not in re.sub(r"<style>.*?</style>|<script>.*?</script>", "", page, flags=re.DOTALL)
    (failed / "metrics.csv").write_text("epoch,loss\n0,2.0\n")
    assert "<h2>Training</h2>" in report.report(failed)


def test_a_line_is_where_its_numbers_are():
    chart = charts.lines({"a": ([0, 10], [0, 1]), "b": ([0, 5, 10], [1, float("nan"), 1])}, "x", "y", y_range=(0, 1))
    left, right, top, bottom = charts.LEFT, charts.WIDTH - charts.RIGHT, charts.TOP, charts.HEIGHT - charts.BOTTOM
    assert f'class="line c0" d="M{left},{bottom}L{right},{top}"' in chart.replace(".0", "")
    assert f'class="line c1" d="M{left},{top}M{right},{top}"' in chart.replace(".0", "")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (1, 9, [2, 4, 6, 8]),
        (-3, 22, [0, 5, 10, 15, 20]),
        (0.97, 1, [0.97, 0.98, 0.99, 1]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert charts.ticks(low, high) == pytest.approx(expected)


def test_epochs_are_marked_by_whole_numbers():
    assert charts.ticks(1, 3, whole=True) == [1, 2, 3]
    assert charts.ticks(0.5, 1.5, whole=True) == [1]
    assert charts.ticks(-3, 22, whole=True) == [0, 5, 10, 15, 20]


def test_large_numbers_are_readable_and_stay_within_the_chart():
    chart = charts.lines({"a": ([0, 400_000], [0, 1])}, "images", "accuracy", counts=True)
    assert f'<text x="{charts.WIDTH}" y="274" text-anchor="end">400,000</text>' in chart
    assert 'text-anchor="middle">300,000</text>' in chart


def test_mcnemar_by_counting_coins():
    """Five images differ, all in favour of the first: two sides of (1/2)**5."""
    first, second = np.array([True] * 8 + [False] * 2), np.array([True] * 3 + [False] * 7)
    assert compare.mcnemar(first, second) == (5, 0, pytest.approx(2 / 32))
    assert compare.mcnemar(first, first) == (0, 0, 1.0)


def test_runs_side_by_side(run, tmp_path):
    shutil.copytree(run.folder, tmp_path / "second")
    second = runs.Run(tmp_path / "second")
    second.write("recipe", Recipe(data="photos", augment=("flip",), epochs=5).to_dict())
    table = pandas.read_csv(second / "evaluation" / "predictions.csv", keep_default_na=False)
    table["correct"] = [True] * 6
    table.to_csv(second / "evaluation" / "predictions.csv", index=False)
    page = compare.compare([run, second])
    assert '<td>epochs</td><td class="text">3</td><td class="text">5</td>' in page
    assert "<td>augment</td>" not in page
    assert "<td>6</td><td>0</td><td>2</td><td>0.5</td>" in page
    assert re.findall("<h3>(.*?)</h3>", page)[1:] == ["Validation loss", "Training accuracy", "Training loss"]
    second.write("recipe", second.read("recipe") | {"eval_every": 100})
    assert "cannot share an axis" in compare.compare([run, second])  # how many training images there are is not known
    for each in (run, second):
        each.write("data", each.read("data") | {"splits": {"train": {"images": 10}}})
    page = compare.compare([run, second])
    assert "Some runs count epochs and others steps" in page
    assert "training images seen</text>" in page
    with pytest.raises(UsageError, match="Two or more different"):
        compare.compare([run, run])
    table["file"] = table["file"] + "x"
    table.to_csv(second / "evaluation" / "predictions.csv", index=False)
    assert "tested on different images" in compare.compare([run, second])


@pytest.mark.parametrize(
    ("table", "recipe", "unit", "x", "seen"),
    [
        ("epoch,loss\n0,3\n1,2\n", {}, "epochs", [1, 2], [10, 20]),
        ("step,loss\n2,3\n4,2\n6,1\n", {}, "steps", [2, 4, 6], [8, 14, 20]),  # 4, 4 and 2 images a pass
        ("epoch,loss\n0,3\n1,2\n", {"eval_every": 2}, "steps", [2, 4], [8, 14]),  # an older run
    ],
)
def test_images_that_a_network_had_seen_by_counting(table, recipe, unit, x, seen, run):
    """Ten training images in batches of four."""
    run.write("data", {"splits": {"train": {"images": 10}}})
    run.write("recipe", {"batch_size": 4, **recipe})
    (run / "metrics.csv").write_text(table)
    for axis, expected in ((None, (unit, x)), ("images", ("training images seen", seen))):
        counted, metrics = report.metrics_of(run, axis)
        assert (counted, metrics["x"].tolist()) == expected
    run.write("data", {})
    with pytest.raises(DataError, match=r"metrics\.csv cannot be read"):
        report.metrics_of(run, "images")


def test_names_that_are_not_utf8(run):
    run.write("data", run.read("data") | {"source": os.fsdecode(b"ph\xf6tos"), "notes": [os.fsdecode(b"b\xe9")]})
    path = report.write(run)
    assert r"b\udce9" in path.read_text(encoding="utf-8")


def test_classes_called_as_columns_are(tmp_path):
    """The tables have columns of these names themselves."""
    names = ("true", "label", "file", "true.1")
    folder = runs.Run(tmp_path)
    labels = np.array([0, 1, 2, 3])
    probabilities = np.array([[4, 1, 1, 1], [4, 1, 1, 1], [1, 1, 4, 1], [1, 1, 1, 4]]) / 7
    record.keep(folder, score(np.log(probabilities), labels, names), np.zeros((4, 2, 2, 3), "uint8"))
    confusion = record.read(folder)["confusion"]
    assert list(confusion.columns) == ["true", *names]
    assert list(confusion.iloc[:, 0]) == list(names)
    assert confusion.iloc[:, 1:].to_numpy().tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(data="photos", learning_rate=0.00123456789, augment=("flip", "crop"), nesterov=True, seed=3),
        Recipe(data="photos", model="lenet5", model_options={"variant": "1998"}),
        RECIPES.get("photos")().replace(data="photos", image_size=64, epochs=7),
        RECIPES.get("photos")().replace(data="photos", augment=()),
        RECIPES.get("digits")(),
        RECIPES.get("digits")().replace(epochs=20),
        Recipe(data="digits"),
    ],
)
def test_what_is_to_be_typed_gives_the_same_recipe(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    typed = ["train", *report._arguments(json.loads(json.dumps(recipe.to_dict())))]
    _, bound, _ = app.parse_args(typed, print_error=False, exit_on_error=False)
    given = bound.arguments
    assert asked_recipe(given.get("data"), given.get("recipe"), None, given.get("fields", Fields())) == recipe


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ({"best_epoch": 3, "kept_epoch": 3}, None),
        ({"best_epoch": 3}, None),  # of an older version
        ({"best_epoch": 3, "kept_epoch": 7}, "of epoch 7, the last"),
        ({"best_epoch": 1, "kept_epoch": 4, "best_step": 250, "kept_step": 1_000}, "of step 1,000, the last"),
    ],
)
def test_weights_that_are_not_the_best_ones_are_named(result, told):
    assert report._kept(result) == told


def test_runs_of_the_same_name_are_told_apart(run, tmp_path):
    folders = [tmp_path / place / "runs" / "first" for place in ("a", "b")]
    for folder in folders:
        shutil.copytree(run.folder, folder)
    assert compare._names([runs.Run(folder) for folder in folders]) == ["a/runs/first", "b/runs/first"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (
            "run.json",
            '{"status": "finished", "result": {"accuracy": "much", "accuracy_interval": [0, 1]}}',
        ),
        ("run.json", '{"status": "finished", "result": {"accuracy": 0.5}}'),
        ("data.json", '{"name": "photos", "splits": 3}'),
        ("metrics.csv", "epoch,loss\nfirst,low\n"),
        ("evaluation/predictions.csv", "file,label\na.png,cat\n"),
        ("evaluation/calibration.csv", "low,high\n0,1\n"),
    ],
)
def test_a_damaged_file_of_a_run_is_said_to_be(run, tmp_path, file, text):
    (run / file).write_text(text)
    with pytest.raises(DataError, match="first"):
        report.report(run)
    shutil.copytree(run.folder, tmp_path / "second")
    with pytest.raises(DataError, match="first"):
        compare.compare([run, tmp_path / "second"])


def test_a_pipe_instead_of_metrics_is_named(run):
    (run / "metrics.csv").unlink()
    os.mkfifo(run / "metrics.csv")
    with pytest.raises(DataError, match=r"metrics\.csv is a named pipe"):
        report.report(run)


def test_a_table_with_other_columns_is_named(run):
    (run / record.FOLDER / "pairs.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"first is damaged"):
        report.report(run)


def test_few_points_are_marked():
    few, many = charts.lines({"a": ([1], [2])}, "x", "y"), charts.lines({"a": (range(11), range(11))}, "x", "y")
    assert re.search(r'class="line dot c0" d="M[\d.]+,[\d.]+h0.1"', few)
    assert "dot" not in many


def test_curves_count_steps_and_show_the_loss_without_label_smoothing(tmp_path):
    """As a table does that has the same numbers as loss; the test split's line where it was watched."""
    pages = []
    for name, table in {
        "smoothed": "step,loss,nll,test_loss,test_nll,val_loss,val_nll\n5,3,2,3.5,2.5,3,2.2\n10,2,1,2,1.5,2,1.2\n",
        "plain": "step,loss,test_loss,val_loss\n5,2,2.5,2.2\n10,1,1.5,1.2\n",
        "by epochs": "epoch,loss,test_loss,val_loss\n4,2,2.5,2.2\n9,1,1.5,1.2\n",
    }.items():
        run = runs.Run(tmp_path / name)
        run.write("recipe", Recipe().to_dict())
        run.write("run", {"status": "finished"})
        (run / "metrics.csv").write_text(table)
        page = report.report(run)
        pages.append(page[page.index("<h3>Loss</h3>") : page.index("</figure>")])
    assert pages[0] == pages[1]
    assert pages[2] == pages[1].replace("steps", "epochs")
    assert pages[0].count('class="key') == 3


def test_ten_classes_have_ten_colours_in_light_and_dark():
    style = (Path(charts.__file__).parent / "templates" / "style.css").read_text()
    defined = re.findall(r"(--c\d+): (#\w{6});", style)
    names = {charts.colour(number, 10) for number in range(10)}
    assert names == {f"var({name})" for name, _ in defined}
    assert len(names) == 10
    assert len({colour for _, colour in defined}) == len(defined) == 20
    assert charts.colour(10, 11).startswith("hsl(")
