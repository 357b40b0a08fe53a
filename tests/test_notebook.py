"""What a notebook shows of a name that stands alone in a cell."""

import json
import re

import numpy as np
import pytest
from matplotlib.figure import Figure

import kerascnn
import tuning
from kerascnn import dataset_scan, notebook, using
from kerascnn.datasets.image_data import ImageData, Split
from kerascnn.experiments.outcome import Outcome
from tuning.store import Store


def pictures(html):
    return html.count("data:image/png;base64,")


def test_names_are_text():
    shown = notebook.card(
        "<b>", [("<i>", "</table>"), ("left out", None)], [notebook.picture(np.zeros((2, 2, 3), "uint8"), '"><script>')]
    )
    assert "<i>" not in shown
    assert "<script>" not in shown
    assert "&lt;/table&gt;" in shown
    assert "left out" not in shown
    assert shown.count("</table>") == 1


def test_any_range_becomes_bytes():
    assert notebook.as_bytes(np.array([-1.0, 0, 1])).tolist() == [0, 128, 255]
    assert notebook.as_bytes(np.zeros(2)).tolist() == [0, 0]
    assert notebook.as_bytes(np.array([7], "uint8")).tolist() == [7]


def test_images_show_one_of_each_class():
    images = np.zeros((5, 4, 4, 1), "uint8")
    data = ImageData("mine", "here", ("a", "<b>"), Split(images, np.array([1, 0, 0, 1, 1])))
    shown = data._repr_html_()
    assert pictures(shown) == 2
    assert "5 images" in shown
    assert "4x4x1" in shown
    assert "&lt;b&gt;" in shown


def test_a_run_its_classifier_and_its_evaluation(trained):
    accuracy = f"{100 * trained.read('run')['result']['accuracy']:.2f}%"
    shown = trained._repr_html_()
    assert accuracy in shown
    assert pictures(shown) == 2
    assert "blue sky, grass, tomato" in using.subject(trained)._repr_html_()
    measured = kerascnn.evaluate(trained)._repr_html_()
    assert accuracy in measured
    assert pictures(measured) == 1
    assert "<td" in measured
    assert not re.search("<style|<script|class=", shown + measured)


def test_a_run_that_is_damaged_shows_why(tmp_path):
    shown = kerascnn.Run(tmp_path)._repr_html_()
    assert "damaged" in shown
    assert "it has no recipe.json" in shown


@pytest.mark.parametrize("patches", [True, False])
def test_a_scan_shows_the_strongest_patches(trained, patches, tmp_path):
    classifier, data = using.subject(trained), using.data_of(trained)
    result = kerascnn.scan(classifier.model, data, "c1", top=2, split="test", preprocessing=classifier.preprocessing)
    result.save(tmp_path / "scan.npz", patches=patches)
    shown = dataset_scan.load(tmp_path / "scan.npz")._repr_html_()
    assert "6 channels" in shown
    assert (pictures(shown) > 0) is patches


def test_an_experiment_shows_what_it_found():
    shown = Outcome("mine", None, ("It is <so>.",), Figure, {})._repr_html_()
    assert "It is &lt;so&gt;." in shown
    assert pictures(shown) == 1


def test_a_search_shows_its_best_trial_and_its_picture(tmp_path):
    told = {"name": "mine", "data": "<digits>", "objective": "val_accuracy", "direction": "max"}
    (tmp_path / "search.json").write_text(json.dumps({**told, "hyperparameters": {"rate": {}, "<cell>": {}}}))
    store = Store(tmp_path)
    with store.writing():
        store.put_fact("began", 100.0)
        for trial in range(12):
            store.add_trial(trial, {"rate": 0.5 + trial, "<cell>": "<lstm>"}, {}, 101.0)
            store.set_trial(trial, status="completed", score=trial / 100, best_epoch=1, ended=105.0 + trial)
    table = tuning.results(tmp_path)
    shown = table._repr_html_()
    assert "Search mine" in shown
    assert "&lt;digits&gt;" in shown
    assert "trial 11, val_accuracy 0.1100" in shown
    assert "11.5" in shown
    assert [int(n) for n in re.findall(r"<td>(\d+)</td>\s*<td>completed", shown)] == list(range(11, 1, -1))
    assert "<p>2 more trials" in shown
    assert pictures(shown) == 1
    assert "<lstm>" not in shown
    assert not re.search("<style|<script", shown)
    assert "data:image" not in table[["trial", "score"]]._repr_html_()
    with store.writing():
        for trial in range(12):
            store.set_trial(trial, status="running", score=None)
    assert pictures(tuning.results(tmp_path)._repr_html_()) == 0
    store.close()
