"""Claims and numbers of studies, worked out by hand from results that are written into a study's folder."""

import json
import os

import numpy as np
import pandas
import pytest

from kerascnn import backends
from kerascnn.callbacks import LOOKS
from kerascnn.datasets import load
from kerascnn.studies import STUDIES
from kerascnn.studies.comp576_recurrent import SIZES
from kerascnn.studies.cs280_vgg_cost import FULL, USED, in_a_process, networks, training_memory
from kerascnn.studies.frame import page
from kerascnn.studies.frame.results import NotRun, Results
from kerascnn.studies.frame.verdicts import INCOMPARABLE, NOT_REPRODUCED, NOT_RUN, REPRODUCED
from kerascnn.studies.notes_vgg import gradients
from tests.study_folders import computed, judged, trained


def memory_of(whole, stride=900):
    """Numbers of a memory row, MB."""
    names = {"alexnet": 100, "vgg11": 800, "vgg16": whole, "vgg16, one dense layer less": 950}
    names |= {"vgg16, no hidden dense layer": 900, "VGG's first layer on AlexNet's rest": stride}
    names["the same with AlexNet's stride"] = 110
    return {f"{name} at {FULL}": size for name, size in names.items()} | {f"vgg16 at {USED}": 550}


def test_claims_on_memory_hold_by_prediction_and_by_measurement(tmp_path):
    computed(tmp_path, "memory", memory_of(1000))
    dense, stride, batch = ("fully connected", "first layer's stride", "Only a smaller batch")
    for words in (dense, stride, batch):
        assert judged("cs280-vgg-cost", tmp_path, words).verdict == REPRODUCED
    assert "no hidden dense layer 10.0% less" in judged("cs280-vgg-cost", tmp_path, dense).finding
    assert "Measured" not in judged("cs280-vgg-cost", tmp_path, stride).finding
    computed(tmp_path, "measured", memory_of(2000, stride=250))
    assert judged("cs280-vgg-cost", tmp_path, dense).verdict == NOT_REPRODUCED  # 55% less by measurement
    assert judged("cs280-vgg-cost", tmp_path, stride).verdict == NOT_REPRODUCED  # 2.5 times
    found = judged("cs280-vgg-cost", tmp_path, batch)
    assert found.verdict == REPRODUCED
    assert "Measured: half the batch saves 72%" in found.finding


@pytest.mark.slow
def test_measured_memory_holds_the_weights_and_is_near_the_prediction():
    from kerascnn.anatomy import cost

    memory = cost(networks()["alexnet"](), 32, "float32", "sgd_momentum")
    predicted, grown, who = in_a_process(training_memory, "alexnet", 32)
    assert predicted == memory.training_bytes
    if grown is None:
        pytest.skip(who)
    assert grown > memory.weight_bytes + memory.optimizer_bytes
    if "allocator" in who:
        assert grown == pytest.approx(predicted, rel=0.35)


def test_a_killed_process_is_told():
    assert in_a_process(os.abort)[2].startswith("the process was killed")


def test_peak_memory_counts_what_is_held():
    import keras

    before, who = backends.peak_memory()
    held = 2 * keras.ops.ones((8_000_000,), "float32")  # a product, as a constant may be NumPy's memory
    after, _ = backends.peak_memory()
    assert after >= before >= 0
    assert after >= 4 * held.shape[0]
    assert "allocator" in who or who == "resident memory of the process"


def test_histograms_of_gradients_by_hand():
    """Brightness that rises from left to right has all its gradients in the first direction, from top to bottom in the
    middle one; a flat image has none."""
    ramp = np.tile(np.arange(16.0), (16, 1))
    across, down, flat = gradients(np.stack([ramp, ramp.T, 0 * ramp])[..., None]).reshape(3, 4, 9)
    np.testing.assert_allclose(across, [[0.5, *[0] * 8]] * 4)
    np.testing.assert_allclose(down, [[*[0] * 4, 0.5, *[0] * 4]] * 4)
    assert not flat.any()


@pytest.mark.parametrize(("network", "verdict"), [(0.9, REPRODUCED), (0.52, NOT_REPRODUCED)])
def test_features_must_be_better_by_a_margin(tmp_path, network, verdict):
    computed(tmp_path, "appendix B", {"stack": [network], "gradients": [0.5]})
    assert judged("notes-vgg", tmp_path, "generalise well").verdict == verdict


@pytest.mark.parametrize(
    ("degrees", "verdict"),
    [
        ({10: 88, 11: 178, 12: 45}, REPRODUCED),  # counted from 1
        ({10: 45, 11: 90, 12: 3}, REPRODUCED),  # counted from 0
        ({10: 0, 11: 90, 12: 45}, NOT_REPRODUCED),
    ],
)
def test_named_filters_may_be_counted_from_0_or_1(tmp_path, degrees, verdict):
    computed(tmp_path, "pictures", {f"direction {number}": angle for number, angle in degrees.items()})
    assert judged("tdt4265-transfer", tmp_path, "Filter 11").verdict == verdict


def test_the_biggest_gain_is_the_largest_of_all(tmp_path):
    best = {"model 1": 0.80, "model 2": 0.76, "SGD": 0.70, "no BN": 0.74, "dropout 0": 0.75}
    for row, accuracy in best.items():
        trained(tmp_path, row, {"val_accuracy": [0.1, accuracy], "val_loss": [1.0, 0.5]}, images=50_000)
    found = judged("tdt4265-models", tmp_path, "biggest gain")
    assert found.verdict == REPRODUCED
    assert "Adam +6.00, batch normalisation +2.00, dropout +1.00, model 1's architecture +4.00" in found.finding
    for sgd, verdict in ((0.75, NOT_REPRODUCED), (0.715, INCOMPARABLE)):  # less than Adam's gain, and about as much
        trained(tmp_path, "SGD", {"val_accuracy": [0.1, sgd], "val_loss": [1.0, 0.5]}, images=50_000)
        assert judged("tdt4265-models", tmp_path, "biggest gain").verdict == verdict


@pytest.mark.parametrize(("strided", "verdict"), [(0.765, REPRODUCED), (0.742, INCOMPARABLE), (0.7, NOT_REPRODUCED)])
def test_comparable_is_within_two_points_with_the_interval(tmp_path, strided, verdict):
    for row, accuracy in {"model 2": 0.76, "strided": strided}.items():
        trained(tmp_path, row, {"val_accuracy": [0.1, accuracy]}, images=10_000)
    assert judged("tdt4265-models", tmp_path, "are comparable").verdict == verdict


@pytest.mark.parametrize(("gru", "verdict"), [(0.97, REPRODUCED), (0.90, NOT_REPRODUCED)])
def test_100_nodes_are_best_if_they_are_of_two_kinds(tmp_path, gru, verdict):
    for kind, sizes in SIZES.items():
        for size in sizes:
            best = {"rnn": 0.95 if size == 100 else 0.9, "lstm": 0.9 + size / 10_000}.get(kind, 0.93)
            trained(tmp_path, f"{kind} {size}", {"test_accuracy": [0.1, gru if (kind, size) == ("gru", 100) else best]})
    assert judged("comp576-recurrent", tmp_path, "100 is currently the best size").verdict == verdict


@pytest.mark.parametrize(("without", "verdict"), [(0.50, REPRODUCED), (0.74, INCOMPARABLE), (0.99, NOT_REPRODUCED)])
def test_a_change_within_its_interval_is_neither_gain_nor_loss(tmp_path, without, verdict):
    for row, accuracy in {"model 2": 0.76, "dropout 0": without}.items():
        trained(tmp_path, row, {"val_accuracy": [0.1, accuracy]})
    found = judged("tdt4265-models", tmp_path, "10% dropout pushed")
    assert (found.verdict, "1 seed)" in found.finding) == (verdict, True)


def test_the_mean_is_of_the_seeds_that_reached_the_figure(tmp_path):
    computed(tmp_path, "memory", {"a": [1, None, 3], "b": [None], "c": []})
    results = Results(STUDIES.get("cs280-vgg-cost")(), tmp_path, 1)
    assert results.mean("memory", "a") == 2
    assert np.isnan(results.mean("memory", "b"))
    with pytest.raises(NotRun, match="gives no 'c'"):
        results.mean("memory", "c")


def test_who_never_got_there_is_the_slowest(tmp_path):
    """Without BN no seed reaches 65%; with it one does in epoch 2."""
    trained(tmp_path, "model 2", {"val_accuracy": [0.5, 0.7]})
    trained(tmp_path, "no BN", {"val_accuracy": [0.5, 0.6]})
    told = judged("tdt4265-models", tmp_path, "converge much faster")
    assert told.verdict == REPRODUCED
    assert "right after epoch 2 with it, never without" in told.finding


def test_questions_are_no_claims_of_the_source(tmp_path):
    """One reading reaches 88%; the page answers yes, and counts no verdict for it."""
    study = STUDIES.get("cs7011")()
    for row, right in (("best", 0.8), ("150 epochs", 0.89)):
        trained(tmp_path, row, {"val_accuracy": [right]}, result={"accuracy": right})
    (question,) = study.questions
    results = Results(study, tmp_path, 1)
    assert results.judge(question).finding == "Test accuracy 80.00% (best); with one change: 150 epochs 89.00%."
    html, told = page.write(results).read_text(), page.as_json(results)
    (asked,) = told["questions"]
    assert (asked["question"], asked["answer"]) == (question.text, "yes")
    assert question.text not in [claim["claim"] for claim in told["claims"]]
    for text in (html, (tmp_path / "README.md").read_text()):
        assert question.text in text.partition("Further questions")[2]
    assert page.verdicts(results)[REPRODUCED] == 0
    trained(tmp_path, "150 epochs", {"val_accuracy": [0.8]}, result={"accuracy": 0.81})
    assert results.judge(question).verdict == NOT_RUN  # other readings might


def test_verdicts_are_of_the_data_of_the_source(tmp_path):
    study = STUDIES.get("tdt4265-lenet")()
    value = next(each for each in study.values if each.what == "test accuracy")
    run = trained(tmp_path, value.row, {"test_accuracy": [0.99]}, result={"accuracy": 0.99})
    splits = {"train": {"images": 10}, "test": {"images": 10}}
    names = {"cifar10": REPRODUCED, "cifar-10-jpeg": REPRODUCED, "cifar100": INCOMPARABLE, "mnist": INCOMPARABLE}
    for name, verdict in names.items():
        (run / "data.json").write_text(json.dumps({"name": name, "splits": splits}))
        assert Results(study, tmp_path, 1).compare(value).verdict == verdict
    assert "on mnist, not on cifar10" in Results(study, tmp_path, 1).compare(value).why
    of_all = {"name": "mine", "class_names": list("abcdefghij")}
    of_all["splits"] = {"train": {"images": 50_000}, "test": {"images": 10_000}}  # a folder of all of them
    (run / "data.json").write_text(json.dumps(of_all))
    assert Results(study, tmp_path, 1).compare(value).verdict == REPRODUCED


def test_seconds_of_an_epoch(tmp_path):
    """2,000 steps of 100 of 1,000 images, 200 epochs, in 50 seconds."""
    run = trained(tmp_path, "rnn 50", {"test_accuracy": [0.5]}, seconds=50, parameters=7, result={"steps": 2000})
    (run / "recipe.json").write_text('{"batch_size": 100}')
    study = STUDIES.get("comp576-recurrent")()
    values = {value.what: value for value in study.values if value.row == "rnn 50"}
    results = Results(study, tmp_path, 1)
    assert results.compare(values["seconds an epoch"]).ours == pytest.approx(0.25)
    assert results.compare(values["parameters"]).ours == 7


def test_numbers_that_the_source_does_not_print_are_a_table(tmp_path):
    trained(
        tmp_path,
        "rnn 50",
        {"test_accuracy": [0.5, 0.98], "step": [10, 20]},
        parameters=7,
        seconds=1,
        result={"steps": 20},
    )
    (tmp_path / "rows" / "rnn-50" / "seed-0" / "recipe.json").write_text('{"batch_size": 100}')
    results = Results(STUDIES.get("comp576-recurrent")(), tmp_path, 1)
    html = page.write(results).read_text()
    text = (tmp_path / "README.md").read_text()
    assert "## Published and ours" not in text
    assert "<h2>Published and ours</h2>" not in html
    lines = text.partition(page.ALONE)[2].splitlines()
    header = "| row | best test accuracy, test | test accuracy at the end, test | steps to 97% of the test images |"
    assert lines[2].startswith(header)
    assert lines[4].startswith("| rnn 50 | 98.00%")
    assert "| 20 |" in lines[4]
    table = pandas.read_csv(tmp_path / "table.csv")
    assert len(table) == len(results.study.values)
    assert set(table["verdict"]) == {INCOMPARABLE, NOT_RUN}


def test_all_test_images_are_looked_at():
    data = load("digits")
    (look,) = LOOKS.get("activations-all")(data, lambda images: images)
    assert len(look.images) == len(data.test)
