"""The counts of AlexNet's study, by hand, and its rows that need trainings in a quick run."""

import json

import pytest

from kerascnn.studies import STUDIES
from kerascnn.studies.frame.results import Results
from kerascnn.studies.frame.running import run_study
from kerascnn.studies.frame.verdicts import NOT_REPRODUCED, REPRODUCED
from kerascnn.studies.notes_alexnet import FILTERS, NEURONS, VARIANTS


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
    numbers = {
        "gains": {"response normalisation": [0.02, -0.01], "overlapping pools": [-0.001]},
        "ensemble": {"together": 0.1, "best": 0.12, "networks": 3},
        "nearest": {"same": [1, 0.5], "chance": 0.2},
    }
    for row, of_row in numbers.items():
        (tmp_path / "rows" / row).mkdir(parents=True)
        (tmp_path / "rows" / row / "result.json").write_text(json.dumps({"numbers": of_row, "seconds": 1}))
    results = Results(STUDIES.get("notes-alexnet")(), tmp_path, 2)
    judged = [results.judge(claim) for claim in results.study.claims]
    assert [each.verdict for each in judged] == [REPRODUCED, NOT_REPRODUCED, REPRODUCED, "not run", REPRODUCED]
    assert judged[0].finding.endswith("a number a seed: +2.00, -1.00.")
    assert judged[2].finding == "3 networks together: 10.00% errors; the best of them: 12.00%."


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
