"""Claims of the two studies of Zeiler and Fergus on numbers by hand, and the looks at a network in a quick run."""

import json

import numpy as np
import pytest

from kerascnn.studies import STUDIES
from kerascnn.studies.comp576_zeiler_fergus import DOGS, PARTS, WITHOUT
from kerascnn.studies.frame.results import Results
from kerascnn.studies.frame.running import run_study
from kerascnn.studies.frame.verdicts import INCOMPARABLE, NOT_REPRODUCED, REPRODUCED
from kerascnn.studies.notes_zeiler_fergus import TABLE_1, TABLE_3, TABLE_7, middle

NAMES = ("comp576-zeiler-fergus", "notes-zeiler-fergus")


def judged(study, folder, numbers, accuracies=()):
    """{text of a claim: Judged} of a folder with these numbers of computed rows and accuracies of trained ones."""
    for row, of_row in numbers.items():
        path = folder / "rows" / row / "result.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"numbers": of_row, "seconds": 1}))
    results = Results(STUDIES.get(study)(), folder, 1)
    for row, accuracy in dict(accuracies).items():
        path = results.folder_of(row, 0) / "run.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"status": "finished", "result": {"accuracy": accuracy}}))
    return {claim.text: results.judge(claim) for claim in results.study.claims}


def test_what_rises_with_the_layer(tmp_path):
    specific = {f"specific {depth}": [0.1 * depth, 0.1 * depth] for depth in range(1, 7)}
    right = {f"svm {depth}": [1] * depth + [0] * (10 - depth) for depth in range(1, 7)}
    right["svm 5"] = right["svm 4"]
    told = judged(NAMES[0], tmp_path, {"features": specific, "probes": right})
    assert told["Deeper layers are more class specific"].verdict == REPRODUCED
    assert "conv1 10%, conv2 20%" in told["Deeper layers are more class specific"].finding
    svm = told["A support vector machine is more accurate on deeper layers"]
    assert (svm.verdict, svm.finding) == (
        NOT_REPRODUCED,
        "conv1 10.0%, conv2 20.0%, conv3 30.0%, conv4 40.0%, fc1 40.0%, fc2 60.0%.",
    )


@pytest.mark.parametrize(
    ("epochs", "verdict"),
    [((1, 2, 2, 5), REPRODUCED), ((1, 1, 1, 1), NOT_REPRODUCED), ((1, 3, 2, 5), NOT_REPRODUCED)],
)
def test_upper_layers_settle_later(tmp_path, epochs, verdict):
    settled = {f"settled {depth}": epoch for depth, epoch in enumerate(epochs, start=1)}
    told = judged(NAMES[0], tmp_path, {"evolution": settled})
    assert told["Lower layers converge early, upper layers late"].verdict == verdict


def test_invariance_and_occlusion(tmp_path):
    moved = {"translation least first": 0.9, "translation least top": 0.2, "scale least first": 0.1}
    moved |= {"scale least top": 0.3, "translation straight": [0.95, 0.97], "scale straight": 0.91}
    moved |= {"translation probability": 0.8, "scale probability": 0.7, "rotation probability": 0.4}
    moved |= {"translation unchanged": 0.85}
    told = judged(NAMES[1], tmp_path, {"invariance": moved, "occlusion": {"falls": [-0.3, 0.1], "changes": [1, 0]}})
    verdicts = {text[:24]: each.verdict for text, each in told.items()}
    assert verdicts["Small transformations ch"] == NOT_REPRODUCED  # scaling moves the top layer more
    assert verdicts["The top layer's features"] == REPRODUCED
    assert verdicts["The output is stable to "] == REPRODUCED
    moved["translation unchanged"] = 0.9  # of which 0.7 is less than four fifths
    told_then = judged(NAMES[1], tmp_path / "less", {"invariance": moved})
    (stable,) = [each.verdict for text, each in told_then.items() if text.startswith("The output is stable to ")]
    assert stable == NOT_REPRODUCED
    falls = next(each for text, each in told.items() if text.startswith("Hiding what"))
    assert falls.verdict == REPRODUCED
    assert "-0.10 over 2 images; in 50% of them" in falls.finding


def test_parts_are_alike_beyond_two_standard_errors(tmp_path):
    below = {f"{part} deep below": 0.02 for part in PARTS} | {f"{part} deep error": 0.009 for part in PARTS}
    told = judged(NAMES[0], tmp_path / "a", {"correspondence": {**below, "images": 10}})
    assert told["The model establishes correspondence of features between images"].verdict == REPRODUCED
    less = {**below, "nose deep error": 0.011, "images": 10}
    told = judged(NAMES[0], tmp_path / "b", {"correspondence": less})
    assert told["The model establishes correspondence of features between images"].verdict == INCOMPARABLE
    told = judged(NAMES[0], tmp_path / "c", {"correspondence": {**below, "nose deep below": -0.02, "images": 10}})
    assert told["The model establishes correspondence of features between images"].verdict == NOT_REPRODUCED


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [([1] * 18 + [0] * 2, REPRODUCED), ([1] * 12 + [0] * 8, INCOMPARABLE), ([0] * 20, NOT_REPRODUCED)],
)
def test_most_answers_must_depend_on_the_place(tmp_path, changes, verdict):
    told = judged(NAMES[0], tmp_path, {"occlusion": {"falls": [-0.3] * 20, "changes": changes}})
    assert told["Classification is sensitive to what is hidden: location matters"].verdict == verdict


def test_leaving_out_both_costs_more_than_the_two_alone(tmp_path):
    """Errors rise by 2 and 6 points alone: 9 together are more than 8, 7 are not."""
    accuracies = dict(zip(WITHOUT, (0.8, 0.79, 0.78, 0.74, 0.71), strict=True))
    told = judged(NAMES[1], tmp_path / "a", {}, accuracies)
    verdicts = [told[text].verdict for text in told if text.startswith("Leaving out")]
    assert verdicts == [REPRODUCED, NOT_REPRODUCED, REPRODUCED]
    told = judged(NAMES[1], tmp_path / "b", {}, {**accuracies, "without all four": 0.73})
    assert told["Leaving out both costs much: depth matters"].verdict == NOT_REPRODUCED
    claim = "Dense layers or middle convolutions can go, but not both at the same time"
    assert judged(NAMES[0], tmp_path / "c", {}, accuracies)[claim].verdict == NOT_REPRODUCED  # 6 points are not little
    little = dict(zip(WITHOUT, (0.8, 0.79, 0.78, 0.76, 0.71), strict=True))
    assert judged(NAMES[0], tmp_path / "d", {}, little)[claim].verdict == REPRODUCED


def test_published_numbers_are_shown_and_not_compared(tmp_path):
    """Their errors are of another network on other images; ours stands beside them."""
    judged(NAMES[1], tmp_path, {}, {"whole": 0.9})
    results = Results(STUDIES.get(NAMES[1])(), tmp_path, 1)
    runs = tmp_path / "rows" / "whole" / "seed-0"
    (runs / "data.json").write_text(json.dumps({"splits": {"test": {"images": 1000}}}))
    value = next(value for value in results.study.values if value.row == "whole")
    compared = results.compare(value)
    assert (compared.verdict, compared.why) == (INCOMPARABLE, "another network on other images")
    assert compared.ours == pytest.approx(0.1)
    assert compared.difference == pytest.approx(0.1 - 0.405)


def test_the_tables_are_as_printed():
    """Only without all four layers are there more errors than right answers; random places differ most."""
    assert [row for row, (_, error) in TABLE_3.items() if error > 0.5] == ["without all four"]
    assert (
        max(TABLE_1, key=lambda part: TABLE_1[part][0]) == max(TABLE_1, key=lambda part: TABLE_1[part][2]) == "random"
    )
    assert sorted(TABLE_7, key=TABLE_7.get) == [1, 2, 3, 4, 7, 5]


def test_parts_lie_in_the_image():
    assert len(DOGS) == 10
    for parts in DOGS.values():
        assert tuple(parts) == PARTS
        assert np.all((np.array(list(parts.values())) >= 0) & (np.array(list(parts.values())) < 32))
        assert parts["left eye"][0] < parts["nose"][0] < parts["right eye"][0]


def test_energy_at_middle_frequencies():
    """A wave of 8 pixels is middle, a chequerboard is not; of both in one filter, half is. A constant has none."""
    x = np.arange(8)
    wave = np.tile(np.cos(2 * np.pi * x / 8), (8, 1)) * np.sqrt(2)
    board = np.where((x[:, None] + x) % 2, 1.0, -1.0)
    filters = np.stack([wave, board, wave + board, np.ones((8, 8))])[..., None]
    np.testing.assert_allclose(middle(filters), [1, 0, 0.5, 0], atol=1e-12)


@pytest.mark.slow
def test_the_looks_at_a_network_run_quickly(tmp_path):
    """All but the evolution, which trains again, and those that need it; no figure or table is missing."""
    rows = ("features", "invariance", "occlusion", "correspondence", "probes", "generalisation")
    results = run_study(NAMES[0], quick=True, out=tmp_path / "study", rows=rows, say=lambda line: None)
    assert results.failures == {}
    for shown in (*results.study.figures, *results.study.listings):
        if getattr(shown, "row", None) in rows:
            assert results.file(shown.row, shown.file).stat().st_size > 20
    values = [value for value in results.study.values if value.row in rows]
    assert all(results.compare(value).ours is not None for value in values)
    told = results.sample("features", "specific 1")
    assert len(told) == 64
    assert min(told) >= 1 / 9 - 1e-3
