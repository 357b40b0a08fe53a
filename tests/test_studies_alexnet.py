"""The counts of AlexNet's study, by hand, and its rows that need trainings in a quick run."""

import pytest

from kerascnn.studies import STUDIES
from kerascnn.studies.frame.results import Results
from kerascnn.studies.frame.running import run_study
from kerascnn.studies.frame.verdicts import INCOMPARABLE, NOT_REPRODUCED, REPRODUCED
from kerascnn.studies.notes_alexnet import FILTERS, NEURONS, VARIANTS
from tests.study_folders import computed, trained


def test_what_the_paper_prints_follows_from_its_maps():
    """Figure 2's maps are 55, 27, 13, 13 and 13 wide; only the first layer's neurons are not as many as theirs."""
    maps = {"conv1": 55, "conv2": 27, "conv3": 13, "conv4": 13, "conv5": 13}
    wrong = [layer for layer, side in maps.items() if side**2 * FILTERS[layer][0] != NEURONS[layer]]
    assert wrong == ["conv1"]
    assert NEURONS["conv1"] == 55 * 48 * 96
    assert sum(NEURONS.values()) == 622_312


def test_the_network_is_counted(tmp_path):
    results = run_study("notes-alexnet", rows=("layers",), out=tmp_path / "study", say=lambda line: None)
    compared = {value.what: results.compare(value) for value in results.study.values if value.row == "layers"}
    assert compared["neurons of conv1"].verdict == NOT_REPRODUCED
    assert compared["neurons of conv1"].ours == 290_400
    assert compared["neurons"].ours == 659_272
    wrong = {what for what, each in compared.items() if each.verdict != REPRODUCED}
    assert wrong == {"neurons of conv1", "neurons"}


def test_claims_by_hand(tmp_path):
    """Of 100 test images 90, 60 and 85 are right, so 30 points are a gain and 5 are not. Of three networks alone
    the mean error is 20%, 17.5 to 22.5."""
    right = {"alexnet": 0.9, "without normalisation": 0.6, "pools apart": 0.85}
    for row, accuracy in right.items():
        trained(tmp_path, row, {"val_accuracy": [0.5]}, result={"accuracy": accuracy})
    computed(tmp_path, "ensemble", {"together": 0.1, "alone": [0.19, 0.2, 0.21]})
    computed(tmp_path, "nearest", {"same": [1, 0.5], "chance": 0.2})
    starts = {"from scratch": 0.2, "pre-trained": 0.2, "extra, removed": 0.2, "extra, stays": 0.1, "images": 400}
    computed(tmp_path, "pre-training", starts)
    results = Results(STUDIES.get("notes-alexnet")(), tmp_path, 2)
    judged = [results.judge(claim) for claim in results.study.claims]
    assert [each.verdict for each in judged] == [REPRODUCED, INCOMPARABLE, REPRODUCED, REPRODUCED, REPRODUCED]
    # 1.96 times the root of (0.9 x 0.1 + 0.6 x 0.4) / 100
    assert "+30.00 points (95% interval +18.74 to +41.26, 1 seed)" in judged[0].finding
    assert judged[2].finding == (
        "3 networks together: 10.00% errors; one alone: 20.00% (95% interval of the mean 17.52% to 22.48%), the best "
        "of them 19.00%."
    )
    # 1.96 times the root of (0.1 x 0.9 + 0.2 x 0.8) / 400 is 4.90 points; of 40 images it is 15.5
    assert judged[3].finding.endswith("differences below 4.90 points may be chance.")
    computed(tmp_path, "pre-training", starts | {"images": 40})
    assert results.judge(results.study.claims[3]).verdict == INCOMPARABLE
    computed(tmp_path, "ensemble", {"together": 0.18, "alone": [0.19, 0.2, 0.21]})
    assert results.judge(results.study.claims[2]).verdict == INCOMPARABLE
    computed(tmp_path, "ensemble", {"together": 0.23, "alone": [0.19, 0.2, 0.21]})
    assert results.judge(results.study.claims[2]).verdict == NOT_REPRODUCED


@pytest.mark.slow
def test_the_trained_networks_answer(tmp_path):
    rows = ("gains", "probabilities", "nearest", "ensemble")
    results = run_study("notes-alexnet", quick=True, out=tmp_path / "study", rows=rows, say=lambda line: None)
    assert results.failures == {}
    for shown in (*results.study.figures, *results.study.listings):
        if getattr(shown, "row", None) in rows:
            assert results.file(shown.row, shown.file).stat().st_size > 20
    assert results.mean("ensemble", "networks") == len(VARIANTS)
    counts = [run.read("run")["parameters"] for row in VARIANTS for run in [results.trained(row)[0].run]]
    assert len(set(counts)) == 1  # neither change has weights
