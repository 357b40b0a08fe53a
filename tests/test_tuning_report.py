import base64
import html
import io
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tuning import ranking
from tuning.page import figures, report

RATE = {"kind": "float", "low": 1e-5, "high": 1e-1, "log": True}
DROPOUT = {"kind": "float", "low": 0.0, "high": 0.7, "log": False}
PATIENCE = {"kind": "int", "low": 2, "high": 10, "log": False}
OPTIMIZER = {"kind": "choice", "values": ["adam", "sgd", "rmsprop"]}
BATCH_NORM = {"kind": "boolean", "values": [True, False]}
UNITS = {"kind": "int", "low": 16, "high": 512, "log": True}
BATCH_SIZE = {"kind": "choice", "values": [16, 32]}
THREE = {"learning_rate": RATE, "dropout": DROPOUT, "optimizer": OPTIMIZER}
SIX = {**THREE, "patience": PATIENCE, "batch_norm": BATCH_NORM, "units": UNITS}
EIGHT = {**SIX, "momentum": DROPOUT, "batch_size": BATCH_SIZE}


def search_of(hyperparameters, **changed):
    asked = {"name": "cifar_net", "data": "cifar10", "tuner": "random", "objective": "val_accuracy", "direction": "max"}
    budget = {"trials": 30, "epochs": 4, "seed": 0, "stop_early": "median"}
    state = {"state": "running", "reason": "", "winner": None}
    return {**asked, **budget, **state, "hyperparameters": hyperparameters, **changed}


def value_of(entry, rng):
    if entry["kind"] in ("choice", "boolean"):
        return entry["values"][rng.integers(len(entry["values"]))]
    if entry["log"]:
        number = np.exp(rng.uniform(np.log(entry["low"]), np.log(entry["high"])))
    else:
        number = rng.uniform(entry["low"], entry["high"])
    return int(number) if entry["kind"] == "int" else number


def trials(hyperparameters, statuses, score=lambda row: 0.3 + row["dropout"] / 2, seed=0):
    """A made-up search: results and curves of one trial for each status, four epochs each, a minute apart."""
    rng = np.random.default_rng(seed)
    rows, points = [], []
    for number, status in enumerate(statuses, 1):
        row = {"trial": number, **{name: value_of(entry, rng) for name, entry in hyperparameters.items()}}
        best, began = float(score(row)), status != "waiting"
        with_score = status not in ("failed", "waiting")
        row |= {"status": status, "score": best if with_score else np.nan, "run": f"tuned/{number}", "reason": ""}
        row |= {"best_epoch": 4 if with_score else np.nan, "epochs": 4 * began, "seconds": 60.0 * began}
        row |= {"started": 60.0 * number, "ended": np.nan if status in ("running", "waiting") else 60.0 * (number + 1)}
        rows.append(row)
        points += [{"trial": number, "epoch": e, "value": best * e / 4} for e in range(1, 5) if began]
    return pd.DataFrame(rows), pd.DataFrame(points)


def rendered(hyperparameters, statuses, score=lambda row: 0.3 + row["dropout"] / 2, **changed):
    results, curves = trials(hyperparameters, statuses, score)
    return report.page(results, curves, search_of(hyperparameters, **changed))


def words(page):
    """The text of a page that a reader sees."""
    page = re.sub(r"<style>.*?</style>", "", page, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def images(page):
    return re.findall(r'<img src="data:image/png;base64,[A-Za-z0-9+/=]+" width="(\d+)" alt="([^"]+)">', page)


def test_the_page_needs_no_keras():
    code = "import sys, tuning.page.report; print(sorted({'keras', 'tensorflow', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ranking


@pytest.mark.parametrize("direction", ["max", "min"])
@pytest.mark.parametrize(
    ("planted", "score"),
    [
        ("learning_rate", lambda row: -abs(np.log10(row["learning_rate"]) + 3)),
        ("optimizer", lambda row: {"adam": 1.0, "sgd": 0.0, "rmsprop": 0.5}[row["optimizer"]]),
        ("batch_norm", lambda row: float(row["batch_norm"])),
    ],
)
def test_importance_finds_what_alone_decides_the_score(planted, score, direction):
    results, _ = trials(EIGHT, ["completed"] * 40, score)
    shares = ranking.importance_and_fit(results, EIGHT, direction)[0]
    assert shares.index[0] == planted
    assert set(shares.index) == set(EIGHT)
    assert shares.iloc[0] > 0.8
    assert shares.is_monotonic_decreasing
    np.testing.assert_allclose(shares.sum(), 1, rtol=1e-12)


def test_importance_is_the_same_twice_and_ignores_failed_trials():
    results, _ = trials(EIGHT, ["completed"] * 12 + ["failed", "running"])
    first = ranking.importance_and_fit(results, EIGHT, "max")[0]
    pd.testing.assert_series_equal(first, ranking.importance_and_fit(results, EIGHT, "max")[0])
    pd.testing.assert_series_equal(first, ranking.importance_and_fit(results.head(12), EIGHT, "max")[0])


def test_one_diverged_loss_does_not_decide_the_importance():
    """Without the fence the one score of 1e9 is the whole variance, whatever its trial's values."""
    results, _ = trials(EIGHT, ["completed"] * 40)
    results.loc[(results["dropout"] - 0.35).abs().idxmin(), "score"] = 1e9
    shares, r2 = ranking.importance_and_fit(results, EIGHT, "min")
    assert shares.index[0] == "dropout"
    assert shares.iloc[0] > 0.5
    assert r2 > 0


def test_an_inactive_hyperparameter_takes_part():
    results, _ = trials(EIGHT, ["completed"] * 40)
    results["momentum"] = results["momentum"].where(results["optimizer"] == "sgd")
    results["units"] = np.nan
    results["batch_size"] = None
    shares = ranking.importance_and_fit(results, EIGHT, "max")[0]
    assert shares.index[0] == "dropout"
    assert shares["units"] == shares["batch_size"] == 0


@pytest.mark.parametrize(("number", "score"), [(7, lambda row: row["dropout"]), (20, lambda row: 0.5)])
def test_importance_is_unknown_with_few_trials_or_equal_scores(number, score):
    results, _ = trials(EIGHT, ["completed"] * number, score)
    assert ranking.importance_and_fit(results, EIGHT, "max")[0].isna().all()


def test_the_best_so_far_by_hand():
    results = pd.DataFrame(
        [
            (1, "completed", 0.5, 40.0),
            (2, "pruned", 0.3, 10.0),
            (3, "failed", np.nan, 15.0),
            (4, "completed", 0.4, 30.0),
            (5, "completed", 0.2, 20.0),
            (6, "running", 0.9, np.nan),
            (7, "completed", np.inf, 50.0),
        ],
        columns=["trial", "status", "score", "ended"],
    )
    line = ranking.best_so_far(results, "max")
    assert line["trial"].tolist() == [2, 5, 4, 1]
    assert line["ended"].tolist() == [10, 20, 30, 40]
    assert line["best"].tolist() == [0.3, 0.3, 0.4, 0.5]
    assert ranking.best_so_far(results, "min")["best"].tolist() == [0.3, 0.2, 0.2, 0.2]
    drawn = figures.over_time(results, "loss", "min").axes[0].lines[0]
    assert drawn.get_xdata().tolist() == [10, 20, 30, 40, 50]
    assert drawn.get_ydata().tolist() == [0.3, 0.2, 0.2, 0.2, 0.2]


def test_trials_are_ranked_best_first_and_failures_last():
    statuses = ["failed", "waiting", "running", "pruned", "completed", "stopped", "completed"]
    scores = [np.nan, np.nan, 0.99, 0.2, 0.6, 0.4, np.nan]
    results = pd.DataFrame({"trial": range(1, 8), "status": statuses, "score": scores})
    assert ranking.ranked(results, "max")["trial"].tolist() == [5, 6, 4, 7, 3, 2, 1]
    assert ranking.ranked(results, "min")["trial"].tolist() == [4, 6, 5, 7, 3, 2, 1]


def test_the_fence_is_tukeys():
    scores = [1.0, 2.0, 3.0, 4.0, 100.0]  # quartiles 2 and 4
    assert ranking.fence(scores, "min") == 4 + 1.5 * 2
    assert ranking.fence(scores, "max") == 1.0
    assert ranking.fence([0.1, 0.9, 0.9, 0.9, 0.9], "max") == 0.1


# figures


def test_values_lie_where_they_should_on_an_axis():
    scale = figures.Scale.of(RATE, pd.Series([1e-5, 1e-3, 1e-1, np.nan]))
    np.testing.assert_allclose(scale.places(pd.Series([1e-5, 1e-3, 1e-1, np.nan])), [0, 0.5, 1, np.nan], atol=1e-12)
    places, labels = scale.ticks()
    assert labels == ("1e-05", "0.0001", "0.001", "0.01", "0.1")
    np.testing.assert_allclose(places, [0, 0.25, 0.5, 0.75, 1], atol=1e-12)


def test_categories_are_even_and_spread_by_a_fifth_of_a_step():
    column = pd.Series(["adam", "sgd", "rmsprop", None] * 50)
    scale = figures.Scale.of(OPTIMIZER, column)
    places, labels = scale.ticks()
    np.testing.assert_allclose(places, [1 / 6, 3 / 6, 5 / 6])
    assert labels == ("adam", "sgd", "rmsprop")
    off = scale.places(column).reshape(50, 4) - [1 / 6, 3 / 6, 5 / 6, 0]
    assert np.abs(off[:, :3]).max() <= 0.2 / 3
    assert np.abs(off[:, :3]).max() > 0.15 / 3
    assert np.isnan(off[:, 3]).all()
    np.testing.assert_array_equal(scale.places(column), scale.places(column))


def test_few_whole_numbers_are_steps_too():
    places, labels = figures.Scale.of(PATIENCE, pd.Series([2, 10])).ticks()
    assert labels == ("2", "4", "6", "8", "10")
    np.testing.assert_allclose(places, (np.array([2, 4, 6, 8, 10]) - 1.5) / 9)


@pytest.mark.parametrize("entry", [{**PATIENCE, "low": 3, "high": 3}, {**DROPOUT, "high": 0.0}, {**RATE, "high": 1e-5}])
def test_one_value_lies_in_the_middle(entry):
    scale = figures.Scale.of(entry, pd.Series([entry["low"]]))
    np.testing.assert_allclose(scale.place([entry["low"]]), [0.5])
    assert len(scale.ticks()[1]) == 1


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_legends_name_what_is_drawn():
    results, curves = trials(EIGHT, ["completed", "completed", "pruned", "failed", "stopped", "running"])
    assert legend(figures.each_hyperparameter(results, EIGHT, "val_accuracy", "max")) == [
        *("completed", "pruned", "stopped", "best trial"),
    ]
    assert legend(figures.over_time(results, "val_accuracy", "max")) == [
        *("best so far", "completed", "pruned", "stopped", "failed (no score)"),
    ]
    best = ranking.ranked(results, "max")["trial"].head(3)
    assert legend(figures.learning_curves(curves, results, "val_accuracy", "max")) == [
        *(f"trial {trial}" for trial in best),
        *("other trials", "pruned here", "failed here"),
    ]


@pytest.mark.parametrize("direction", ["max", "min"])
def test_the_best_trial_is_the_darkest_and_thickest_line(direction):
    results, _ = trials(EIGHT, ["completed"] * 10)
    axes = figures.parallel_coordinates(results, EIGHT, "val_accuracy", direction).axes[0]
    lines = [line for line in axes.lines if len(line.get_xdata()) == len(EIGHT) + 1]
    assert len(lines) == 10
    darkness = [1 - np.mean(line.get_color()[:3]) for line in lines]
    assert np.argmax(darkness) == np.argmax([line.get_linewidth() for line in lines]) == 9
    best = results["score"].idxmax() if direction == "max" else results["score"].idxmin()
    assert lines[9].get_ydata()[0] == pytest.approx((np.log10(results.loc[best, "learning_rate"]) + 5) / 4)


def test_a_diverged_loss_leaves_the_curves_readable():
    results, curves = trials(THREE, ["completed"] * 12)
    curves.loc[curves["trial"] == 3, "value"] = [1e3, 1e9, 1e18, np.inf]
    axes = figures.learning_curves(curves, results, "val_loss", "min").axes[0]
    assert axes.get_ylim()[1] < 10
    assert "Curves that leave the top went beyond" in report.page(results, curves, search_of(THREE, direction="min"))


# the page

MIXED = ["completed"] * 8 + ["pruned"] * 3 + ["failed", "running", "waiting"]


def test_a_whole_search():
    results, curves = trials(EIGHT, MIXED)
    best = ranking.ranked(results, "max").iloc[0]
    winner = {"trial": 2, "score": 0.61, "test_accuracy": 0.597, "run": "tuned/2", "recipe": "tuned/the winner.toml"}
    page = report.page(results, curves, search_of(EIGHT, winner=winner, state="finished"))
    text = words(page)
    assert "Search cifar_net" in text
    assert "30 asked: 8 completed, 3 pruned, 1 running, 1 waiting, 1 failed" in text
    assert "Winner: trial 2 val_accuracy 0.6100 test accuracy 0.5970" in text
    assert "kerascnn train --config 'tuned/the winner.toml'" in text
    assert "at most 4 a trial, 52 trained in all" in text
    assert f"trial {best['trial']} with val_accuracy {best['score']:.4f} at epoch 4" in text
    assert len(images(page)) == 5
    rows = re.findall(r"<tr>\s*<td>(\d+)</td>", page)
    assert rows == [str(trial) for trial in ranking.ranked(results, "max")["trial"]]


def test_a_tuner_that_makes_its_own_number_of_trials():
    text = words(report.page(*trials(THREE, MIXED), search_of(THREE, trials=None, tuner="hyperband")))
    assert "Trials 8 completed, 3 pruned, 1 running, 1 waiting, 1 failed" in text


def test_the_page_is_the_same_twice():
    assert rendered(THREE, MIXED) == rendered(THREE, MIXED)


def test_the_page_loads_nothing():
    page = rendered(THREE, MIXED)
    page = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    for word in ("http", "//", "<script", "<link", "@import", "url("):
        assert word not in page


def test_no_trials():
    for results, curves in (trials(THREE, []), (pd.DataFrame(columns=report.COLUMNS), pd.DataFrame())):
        page = report.page(results, curves, search_of(THREE))
        assert "30 asked: none begun" in page
        assert "No trial has begun yet." in page
        assert "no trial has ended" in page
        assert "there are 0" in page
        assert not images(page)


def test_only_running_trials():
    page = rendered(THREE, ["running", "running"])
    assert "2 running" in page
    assert page.count("No trial has ended with a score yet.") == 3
    assert [alt.split(":")[0] for _, alt in images(page)] == ["Line plot"]


@pytest.mark.parametrize("status", ["completed", "pruned", "stopped"])
def test_one_trial(status):
    page = rendered(THREE, [status])
    assert "Best so far: trial 1" in words(page)
    assert "1 trial," in page
    assert "Importance needs at least 8 trials that ended with a score; there are 1." in page
    assert len(images(page)) == 4


def test_all_failed():
    results, curves = trials(THREE, ["failed"] * 3)
    results["reason"] = "out of memory " + 40 * "very " + "long"
    page = report.page(results, curves.iloc[:0], search_of(THREE, state="stopped", reason="3 of 3 trials failed"))
    assert "stopped: 3 of 3 trials failed" in page
    assert words(page).count("out of memory " + 40 * "very " + "long") == 3
    assert "No trial has finished an epoch yet." in page
    assert not images(page)


@pytest.mark.parametrize("entry", [RATE, DROPOUT, PATIENCE, OPTIMIZER, BATCH_NORM, UNITS])
def test_one_hyperparameter(entry):
    page = rendered({"the_one": entry}, ["completed"] * 9 + ["pruned"], lambda row: float(len(str(row["the_one"]))))
    assert len(images(page)) >= 4
    assert "<th>the_one</th>" in page


def test_300_trials():
    page = rendered(THREE, ["completed", "pruned", "failed"] * 100)
    assert "100 completed, 100 pruned, 100 failed" in page
    assert len(re.findall(r"<tr>\s*<td>", page)) == 300
    assert "200 trials, one line each" in page
    assert len(page) < 2e6


def test_inactive_hyperparameters():
    results, curves = trials(EIGHT, ["completed"] * 12)
    results["momentum"] = results["momentum"].where(results["trial"] > 6)
    results["optimizer"] = results["optimizer"].where(results["trial"] > 3, None)
    results["patience"] = results["patience"].where(results["trial"] != 1)
    page = report.page(results.drop(columns="units"), curves, search_of(EIGHT))
    assert page.count("<td>-</td>") == 6 + 3 + 1 + 12
    assert "<td>2.0</td>" not in page
    assert "A dash marks a hyperparameter that the trial does not use." in page
    assert "A trial is left out where it does not use the hyperparameter." in page
    figure = figures.parallel_coordinates(results, EIGHT, "val_accuracy", "max")
    assert [text.get_text() for text in figure.axes[0].texts].count("inactive") == 3


@pytest.mark.parametrize("direction", ["max", "min"])
def test_constant_scores(direction):
    page = rendered(THREE, ["completed"] * 12, lambda row: 0.1, direction=direction)
    assert "The scores of 12 trials differ too little" in page
    assert len(images(page)) == 4


def test_the_lowest_loss_is_the_best():
    page = rendered(
        THREE, ["completed"] * 12, lambda row: 10 ** (6 * row["dropout"]), direction="min", objective="val_loss"
    )
    results, _ = trials(THREE, ["completed"] * 12)
    assert f"Best so far: trial {results['trial'][results['dropout'].idxmin()]} " in words(page)
    assert "val_loss, lower is better" in page


def test_few_trials_are_called_a_hint():
    one = {"batch_norm": BATCH_NORM}
    assert "take it as a hint at most" in rendered(one, ["completed"] * 12, lambda row: float(row["batch_norm"]))
    page = rendered(one, ["completed"] * 40, lambda row: float(row["batch_norm"]))
    assert "R² = 1.00" in page
    assert "hint" not in page


def test_strange_words_are_escaped():
    odd = '<script>alert("1")</script> & $x_{$ \\ %'
    hyperparameters = {"dropout": DROPOUT, odd: {"kind": "choice", "values": [odd, "b$a$"]}}
    results, curves = trials(hyperparameters, ["completed"] * 9 + ["failed"])
    results["reason"] = odd
    results["run"] = odd
    texts = dict.fromkeys(("name", "data", "objective", "reason"), odd)
    winner = {"trial": 1, "score": 0.5, "test_accuracy": None, "run": odd, "recipe": odd}
    page = report.page(results, curves, search_of(hyperparameters, **texts, winner=winner))
    assert "<script" not in page
    assert words(page).count(odd) > 20
    assert len(images(page)) == 5


def test_figures_are_twice_as_dense_as_they_are_wide():
    page = rendered({"dropout": DROPOUT}, ["completed"] * 9)
    sources = re.findall(r'base64,([^"]+)" width="(\d+)"', page)
    for source, width in sources:
        image = Image.open(io.BytesIO(base64.b64decode(source)))
        assert abs(image.width - 2 * int(width)) <= 1
        assert image.convert("RGB").getpixel((1, 1)) == (255, 255, 255)
