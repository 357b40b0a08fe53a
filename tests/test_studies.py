"""The runner and the page, on a small study; and what must hold of every study."""

import dataclasses
import json
import signal
import subprocess
import sys

import pandas
import pytest

from kerascnn.errors import DataError, Stopped, TrainingFailed, UsageError
from kerascnn.recipes import Recipe
from kerascnn.studies import STUDIES
from kerascnn.studies.frame import page, running
from kerascnn.studies.frame.results import Place, Results, best, last, on_test, when_best, when_first
from kerascnn.studies.frame.running import _readable, run_study
from kerascnn.studies.frame.study import (
    Claim,
    Computed,
    Lines,
    Listing,
    NotRun,
    Picture,
    Study,
    Training,
    Value,
    abridged,
    as_printed,
    shortened,
    shown,
)
from kerascnn.studies.frame.verdicts import INCOMPARABLE, NOT_RUN, REPRODUCED

ALL = STUDIES.names()  # before this file adds its own
SMALL = Recipe(model="lenet5", steps=4, eval_every=2, batch_size=16)


def _sheet(place):
    pandas.DataFrame({"a|b": ["<x>"]}).to_csv(place.folder / "sheet.csv", index=False)
    return {"answer": 42, "times": [1.0, 2.0, 3.0]}


def _broken(place):
    raise OSError("no such thing")


def _needy(place):
    return {"epochs": place.run("small").read("run")["result"]["epochs"]}


def _never(results):
    raise NotRun("no result")


@STUDIES.register("toy", source="nobody")
def toy():
    """Nothing much."""
    return Study(
        name="toy",
        title="A toy",
        source="Nobody, 2020",
        about="Nothing.",
        rows=(
            Computed(name="sheet", compute=_sheet),
            Computed(name="broken", compute=_broken),
            Training(name="small", recipe=SMALL),
            Training(name="absent", recipe=SMALL.replace(data="no-such-folder")),
            Computed(name="needy", compute=_needy, needs=("small",)),
        ),
        values=(
            Value(row="sheet", what="the answer", measure="answer", published=42, better="exact"),
            Value(row="sheet", what="how long", measure="times", published=2.5, unit="times"),
            Value(row="small", what="accuracy", measure=on_test("accuracy"), published=0.0, unit="accuracy"),
            Value(row="small", what="accuracy", measure=on_test("accuracy"), unit="accuracy", better="higher"),
            Value(row="absent", what="accuracy", measure=on_test("accuracy"), published=0.5, unit="accuracy"),
            Value(row="broken", what="nothing", measure="nothing", published=1),
        ),
        claims=(
            Claim(text="Two evaluations", where="", test=lambda r: (len(r.curve("small", "loss")[0]) == 2, "two")),
            Claim(text="Never", where="", test=_never),
            Claim(text="Counts", where="", test=lambda r: (r.mean("sheet", "answer") > 41, "42"), counts=True),
        ),
        figures=(
            Lines(
                name="loss",
                title="Loss",
                series=lambda r: {"small": r.curve("small", "loss")},
                x_label="steps",
                y_label="loss (nats)",
            ),
            Picture(name="none", title="No picture", row="sheet", file="none.png"),
        ),
        listings=(Listing(title="The sheet", row="sheet", file="sheet.csv"),),
        slips=("A slip <of> the source.",),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The toy, run once with the digits in place of the missing folder."""
    out = tmp_path_factory.mktemp("studies") / "toy"
    run_study("toy", out=out, rows=("sheet", "broken", "needy"), say=lambda line: None)
    return out


def results_of(folder, **options):
    known = json.loads((folder / "study.json").read_text())
    return Results(toy(), folder, known["seeds"], failures=known["failures"], **options)


def test_rows_become_run_folders_and_computed_results(folder):
    results = results_of(folder)
    assert results.mean("sheet", "answer") == 42
    assert results.mean("needy", "epochs") == 2
    assert results.trained("small")[0].state["status"] == "finished"
    assert results.failures == {"broken": "OSError: no such thing"}


def test_each_value_is_compared(folder):
    results = results_of(folder)
    compared = [results.compare(value) for value in toy().values]
    assert [each.verdict for each in compared[:2]] == [REPRODUCED, REPRODUCED]
    assert (compared[1].low, compared[1].high) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-6)
    assert compared[3].verdict == INCOMPARABLE
    assert compared[3].low < compared[3].ours < compared[3].high  # of the test images
    assert (compared[4].verdict, compared[4].why) == (NOT_RUN, "not run")
    assert (compared[5].verdict, compared[5].why) == (NOT_RUN, "OSError: no such thing")


def test_claims_are_judged_and_what_was_not_run_is_not(folder):
    judged = [results_of(folder).judge(claim) for claim in toy().claims]
    assert [each.verdict for each in judged] == [REPRODUCED, NOT_RUN, REPRODUCED]
    assert judged[1].finding == "no result"


def test_a_quick_run_judges_counts_alone(folder):
    quick = results_of(folder, quick=True)
    compared = [quick.compare(value) for value in toy().values]
    assert [each.verdict for each in compared] == [REPRODUCED, *[NOT_RUN] * 5]
    assert [quick.judge(claim).verdict for claim in toy().claims] == [NOT_RUN, NOT_RUN, REPRODUCED]


def test_the_page_shows_verdicts_failures_figures_and_tables(folder):
    html, text = ((folder / name).read_text() for name in ("study.html", "README.md"))
    for shown_in in (html, text):
        assert "OSError: no such thing" in shown_in
        assert "not drawn" in shown_in or "not run" in shown_in
        assert "A toy" in shown_in
    assert "&lt;of&gt;" in html
    assert "&lt;x&gt;" in html
    assert "a\\|b" in text
    assert "![Loss](figures/loss.png)" in text
    assert (folder / "figures" / "loss.png").stat().st_size > 1000
    numbers = pandas.read_csv(folder / "table.csv")
    assert numbers.loc[0, ["published", "ours", "difference"]].tolist() == [42, 42, 0]
    told = json.loads((folder / "results.json").read_text())
    assert (told["values"][0]["published"], told["values"][0]["ours"]) == (42, 42)
    assert told["claims"][0] == {"claim": "Two evaluations", "verdict": REPRODUCED, "finding": "two"}


def test_the_command_fails_by_the_rows_that_are_asked_for_alone(folder, capsys):
    from kerascnn.cli import run_command

    assert run_command(["study", "toy", "--out", str(folder), "--rows", "sheet"]) == 0  # another had failed before
    assert run_command(["study", "toy", "--out", str(folder), "--rows", "sheet", "broken"]) == 1
    assert "1 row failed; the page shows which and why. The first: OSError: no such thing" in capsys.readouterr().err


def test_what_has_finished_is_not_run_again(folder):
    said = []
    written = (folder / "rows" / "small" / "seed-0" / "best.keras").stat().st_mtime_ns
    run_study("toy", out=folder, rows=("sheet", "needy"), say=said.append)
    assert said == []
    assert (folder / "rows" / "small" / "seed-0" / "best.keras").stat().st_mtime_ns == written


def test_a_row_is_computed_again_when_there_are_more_trainings(folder):
    """Of two seeds, one was there when the row was computed."""
    path = folder / "rows" / "needy" / "result.json"
    had = json.loads(path.read_text())
    assert had["read"] == ["small/seed-0"]
    path.write_text(json.dumps(had | {"read": [], "numbers": {"epochs": 7}}))
    run_study("toy", out=folder, rows=("needy",), say=lambda line: None)
    assert json.loads(path.read_text())["numbers"] == {"epochs": 2}


def test_a_row_is_computed_again_when_more_is_asked_of_it(folder, tmp_path):
    """A result of a version that did not ask for the times is computed once more, and then no more."""
    out, said = tmp_path / "older", []
    out.mkdir()
    (out / "study.json").write_bytes((folder / "study.json").read_bytes())
    (out / "rows" / "sheet").mkdir(parents=True)
    result = out / "rows" / "sheet" / "result.json"
    result.write_text(json.dumps({"numbers": {"the": 1}, "seconds": 1}))
    for _ in range(2):
        results = run_study("toy", out=out, rows=("sheet",), say=said.append)
    assert results.mean("sheet", "answer") == 42
    assert said == ["sheet"]


def test_a_failure_that_is_not_the_data_s_is_not_held_against_other_rows(folder):
    assert _readable(SMALL)
    assert not _readable(SMALL.replace(data=str(folder / "absent")))


def test_missing_data_is_told_and_the_other_rows_stay(folder):
    results = run_study("toy", out=folder, rows=("absent",), say=lambda line: None)
    assert "no-such-folder" in results.failures["absent/seed-0"]
    assert "no-such-folder" in (folder / "study.html").read_text()
    assert results.mean("sheet", "answer") == 42


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"quick": True}, "holds a study with quick=False, and this one has quick=True"),
        ({"data": "digits"}, "holds a study with data=None"),
        ({"rows": ("smal",)}, r"rows=smal is not a row of 'toy'\. Its rows: sheet, broken, small"),
        ({"seeds": 0}, "seeds=0 is not allowed"),
        ({"workers": 0}, "workers=0 is not allowed"),
        ({"length": 0}, "length=0 is not allowed: it must be above 0 and at most 1"),
        ({"length": 1.5}, "length=1.5 is not allowed"),
        ({"length": 0.5}, "holds a study with length=1.0, and this one has length=0.5"),
        ({"length": 0.5, "quick": True}, "length=0.5 and quick=True cannot both be given"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_changes(folder, changes, match):
    before = (folder / "study.json").read_bytes()
    with pytest.raises(UsageError, match=match):
        run_study("toy", out=folder, say=lambda line: None, **changes)
    assert (folder / "study.json").read_bytes() == before


def test_other_folders_and_versions_are_refused(folder, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty and holds no study"):
        run_study("toy", out=tmp_path)
    older = tmp_path / "older"
    older.mkdir()
    (older / "study.json").write_text((folder / "study.json").read_text().replace('"version": 1', '"version": 0'))
    with pytest.raises(UsageError, match="version=0, and this one has version=1"):
        run_study("toy", out=older)
    with pytest.raises(UsageError, match=r"Unknown study 'tyo'\. Did you mean 'toy'"):
        run_study("tyo")


def test_a_part_of_a_training_is_shown_and_not_compared(tmp_path):
    """Half of four steps, in two evaluations; counts are judged, and a folder of a version without lengths fits."""
    results = run_study("toy", length=0.5, out=tmp_path / "half", rows=("sheet", "needy"), say=lambda line: None)
    assert list(results.curve("small", "loss")[0]) == [1, 2]
    told = [results.compare(value) for value in toy().values[1:3]]
    assert [(each.verdict, each.why) for each in told] == [
        (REPRODUCED, "in our interval"),
        (INCOMPARABLE, "after 2 of 4 steps"),
    ]
    judged = [results.judge(claim) for claim in toy().claims]
    assert [each.verdict for each in judged] == [INCOMPARABLE, NOT_RUN, REPRODUCED]
    assert judged[0].finding == "After about 0.5 of the training: two"
    text = (tmp_path / "half" / "README.md").read_text()
    assert text.startswith("# A toy (about 0.5 of each training: no verdicts on it)")
    assert "2 steps" in text
    assert f"kerascnn study toy --length 0.5 --out {tmp_path / 'half'}" in text
    assert running.page.usual_folder("toy", False, 0.5).name == "study-toy-0.5"


def test_a_folder_of_a_version_without_lengths_is_whole(folder, tmp_path):
    older = tmp_path / "older"
    older.mkdir()
    known = json.loads((folder / "study.json").read_text())
    del known["length"]
    (older / "study.json").write_text(json.dumps(known))
    run_study("toy", out=older, rows=("sheet",), say=lambda line: None)
    assert json.loads((older / "study.json").read_text())["length"] == 1
    with pytest.raises(UsageError, match=r"holds a study with length=1\.0"):
        run_study("toy", out=older, length=0.1)


def test_a_length_of_a_study_that_trains_nothing(tmp_path):
    with pytest.raises(UsageError, match=r"cs280-vgg-cost trains nothing: leave length=0\.1 out"):
        run_study("cs280-vgg-cost", length=0.1, out=tmp_path / "study")


def test_an_abridged_recipe_by_hand():
    """20 epochs at 0.1 are 2; 50,000 steps evaluated every 1,000 are 5,000 every 100; 20 periods of 2,500 steps are 20
    of 250; nothing falls to 0."""
    assert abridged(Recipe(epochs=20, schedule="cosine", warmup_epochs=2.0), 0.1).to_dict() == (
        Recipe(epochs=2, schedule="cosine", warmup_epochs=0.2).to_dict()
    )
    steps = abridged(Recipe(steps=50_000, eval_every=1000), 0.1)
    assert (steps.steps, steps.eval_every) == (5000, 100)
    periods = abridged(Recipe(epochs=20, eval_every=2500), 0.1)
    assert (periods.epochs, periods.eval_every) == (20, 250)
    assert abridged(Recipe(epochs=3), 0.01).epochs == 1
    patient = abridged(Recipe(epochs=60, rate_patience=5), 0.1)
    assert (patient.epochs, patient.rate_patience) == (6, 1)
    assert abridged(Recipe(epochs=3), 1.0) == Recipe(epochs=3)


def test_a_stopped_study_goes_on_and_ends_the_same(folder, tmp_path):
    """It is stopped after the first of two evaluations; the curves are then those of the run that was not."""

    def say(line):
        if line.startswith("Epoch 1") or "step 2" in line.lower():
            signal.raise_signal(signal.SIGTERM)

    out = tmp_path / "again"
    said = []
    with pytest.raises(Stopped, match="Resume with: kerascnn study toy --out"):
        run_study("toy", out=out, rows=("small",), say=lambda line: (said.append(line), say(line)))
    assert NOT_RUN in (out / "README.md").read_text()
    run_study("toy", out=out, rows=("small",), say=lambda line: None)
    first, second = (path / "rows" / "small" / "seed-0" / "metrics.csv" for path in (folder, out))
    assert first.read_text() == second.read_text()


def test_a_training_that_was_killed_before_its_first_checkpoint_begins_again(tmp_path):
    folder = tmp_path / "seed-0"
    (folder / "checkpoint").mkdir(parents=True)
    (folder / "recipe.json").write_text("{}")
    assert not running._begun(folder)
    assert not folder.exists()
    (folder / "checkpoint").mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    (folder / "checkpoint" / "state-00000-0000001.npz").write_text("")
    assert running._begun(folder)
    assert (folder / "run.json").exists()


def test_a_training_by_another_recipe_is_not_taken_for_the_rows(folder):
    faster = Training(name="small", recipe=SMALL.replace(learning_rate=0.5))
    study = dataclasses.replace(toy(), rows=(faster,), values=(), claims=(), figures=(), listings=())
    reason = running.train_row(Results(study, folder, 1), "small", 0, print)
    assert "holds a training with another learning_rate" in reason


def test_a_run_from_elsewhere_stands_for_a_row(folder, tmp_path):
    elsewhere, said = folder / "rows" / "small" / "seed-0", []
    given = {"rows": ("needy",), "run": {"small": elsewhere}, "say": said.append}
    results = run_study("toy", out=tmp_path / "b", **given)
    assert results.mean("needy", "epochs") == 2
    assert said == [f"small: {elsewhere} serves as its first training", "needy"]
    copied = tmp_path / "b" / "rows" / "small" / "seed-0"
    assert (copied / "best.keras").read_bytes() == (elsewhere / "best.keras").read_bytes()
    assert not (copied / "checkpoint").exists()
    run_study("toy", out=tmp_path / "b", **given)
    assert len(said) == 3  # nothing is done twice
    assert "small has its first training already, so" in said[2]


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ("sheet", r"run=sheet is not a trained row of 'toy'\. Its trained rows: small, absent"),
        ("absent", "was trained with another data than absent is"),
    ],
)
def test_a_run_that_cannot_stand_for_a_row(folder, tmp_path, row, match):
    elsewhere = folder / "rows" / "small" / "seed-0"
    with pytest.raises(UsageError, match=match):
        run_study("toy", out=tmp_path / "b", rows=("needy",), run={row: elsewhere}, say=lambda line: None)


def test_a_run_that_has_not_finished_cannot_stand_for_a_row(folder, tmp_path):
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "recipe.json").write_bytes((folder / "rows" / "small" / "seed-0" / "recipe.json").read_bytes())
    with pytest.raises(UsageError, match="begun has not finished, so it cannot be used for small"):
        run_study("toy", out=tmp_path / "b", run={"small": begun}, say=lambda line: None)


@pytest.mark.parametrize(
    ("options", "data"),
    [({}, "miniplaces"), ({"other": "shapes"}, "shapes"), ({"quick": True}, "digits")],
)
def test_rows_of_other_data(tmp_path, options, data):
    row = Training(name="small", recipe=SMALL.replace(data="miniplaces"), other=True)
    study = dataclasses.replace(toy(), rows=(row,), values=(), claims=(), figures=(), listings=(), other="miniplaces")
    results = Results(study, tmp_path, 1, data="cifar10", **options)
    assert results.recipe("small", 3).data == data
    assert Place(results, "small", print).other == data


def test_other_data_of_a_study_that_has_none(tmp_path):
    with pytest.raises(UsageError, match="toy has no second data set: leave other_data=digits out"):
        run_study("toy", out=tmp_path / "b", other_data="digits")


class _Run:
    """A run with the metrics of four epochs."""

    metrics = pandas.DataFrame({"epoch": range(4), "val_accuracy": [0.1, 0.5, 0.4, 0.5], "val_loss": [3.0, 1, 2, 1.5]})


def test_what_is_read_from_metrics():
    steps = type("Steps", (), {"metrics": _Run.metrics.assign(step=[10, 20, 30, 40])})
    assert best("val_accuracy").get(_Run) == 0.5
    assert best("val_loss").get(_Run) == 1
    assert last("val_loss").get(_Run) == 1.5
    assert when_best("val_loss").get(_Run) == 2
    assert when_best("val_accuracy").get(steps) == 20
    assert when_first("val_accuracy", 0.4).get(_Run) == 2
    assert when_first("val_accuracy", 0.4).get(steps) == 20
    assert pandas.isna(when_first("val_accuracy", 0.9).get(steps))


def test_numbers_are_shown_with_their_units():
    assert shown(0.7149, "accuracy") == "71.49%"
    assert shown(6216114, "parameters") == "6,216,114"
    assert shown(None, "nats") == ""
    assert shown(float("nan"), "step") == "never"
    assert page._signed(-0.0109, "accuracy") == "-1.09 points"


@pytest.mark.parametrize(
    ("number", "half", "unit", "text"),
    [
        (0.46, 0.005, "accuracy", "46%"),
        (0.9233, 0.00005, "accuracy", "92.33%"),
        (1.989, 0.0005, "nats", "1.989"),
        (2.49, 0.005, "nats", "2.49"),
        (6, 0, "epoch", "6"),
        (None, 0, "nats", "not printed"),
    ],
)
def test_published_numbers_have_the_places_of_the_source(number, half, unit, text):
    value = Value(row="small", what="x", measure=last("loss"), published=number, half=half, unit=unit)
    assert as_printed(value) == text


def test_a_failure_is_one_line():
    assert running.reason_of(DataError("gone")) == "gone"
    assert running.reason_of(TrainingFailed("NaN")) == "NaN"
    assert running.reason_of(KeyError("a\nb")) == "KeyError: 'a\\nb'"


def test_a_study_that_contradicts_itself_is_refused():
    row = Training(name="a", recipe=SMALL)
    words = {"name": "x", "title": "x", "source": "x", "about": "x"}
    with pytest.raises(ValueError, match="two rows of one name"):
        Study(**words, rows=(row, row), values=())
    with pytest.raises(ValueError, match="no row, unit or direction"):
        Study(**words, rows=(row,), values=(Value(row="b", what="", measure=last("loss")),))
    with pytest.raises(ValueError, match="as the other kind"):
        Study(**words, rows=(row,), values=(Value(row="a", what="", measure="number"),))


# --- every study ---


@pytest.mark.parametrize("name", ALL)
def test_the_published_values_are_sane(name):
    study = STUDIES.get(name)()
    assert study.name == name
    assert study.values
    for value in study.values:
        if value.unit == "accuracy" and value.published is not None:
            assert 0 < value.published < 1, value
            assert value.split in ("train", "validation", "test"), value
        assert value.published is None or value.published > 0, value
        assert value.where, value
        assert value.half >= 0, value
    assert all(claim.text and claim.where for claim in study.claims)
    names = [figure.name for figure in study.figures]
    assert len(set(names)) == len(names)
    trained = {row.name for row in study.rows if isinstance(row, Training)}
    for row in study.rows:
        assert set(getattr(row, "needs", ())) <= trained
    for shown_of in (*study.figures, *study.listings):
        assert getattr(shown_of, "row", study.rows[0].name) in [row.name for row in study.rows]


@pytest.mark.parametrize("name", ALL)
def test_nothing_run_is_told_everywhere(name, tmp_path):
    """The page of an empty folder: every value and claim is "not run", and nothing raises."""
    study = STUDIES.get(name)()
    tmp_path.joinpath("rows").mkdir()
    results = Results(study, tmp_path, 1)
    path = page.write(results)
    assert path.read_text().startswith("<!doctype html>")
    counts = page.verdicts(results)
    assert counts[NOT_RUN] == sum(counts.values()) > 0


def test_a_rows_length_is_in_what_is_counted():
    """20 evaluations of 25 steps are 500 steps."""
    assert page._settings(Recipe(epochs=20, eval_every=25)).endswith("batches of 64, 500 steps")
    assert page._settings(Recipe(steps=40, eval_every=10)).endswith("batches of 64, 40 steps")
    assert page._settings(Recipe(epochs=20)).endswith("batches of 64, 20 epochs")


def test_a_quick_recipe_needs_no_data():
    recipe = shortened(Recipe(data="cifar10", model="resnet18", model_options={"weights": "imagenet", "skip": ["fc"]}))
    assert (recipe.data, recipe.steps, recipe.model_options) == ("digits", 4, {})
    assert shortened(Recipe(validation=5000)).validation == 0.1


LISTED = """
import contextlib, io, sys
from kerascnn.cli import run_command
with contextlib.redirect_stdout(io.StringIO()) as text:
    assert run_command(["studies"]) == 0
assert run_command(["study", "notes-vg"]) == 2
assert "keras" not in sys.modules
print(text.getvalue())
"""


def test_listing_and_typos_are_answered_without_keras():
    done = subprocess.run([sys.executable, "-c", LISTED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "notes-vgg" in done.stdout
    assert "Did you mean 'notes-vgg'" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_a_row_of_every_study_runs_quickly(name, tmp_path):
    """The first with values that is trained, or that of the first value."""
    study = STUDIES.get(name)()
    valued = [value.row for value in study.values]
    row = next((row for row in valued if isinstance(study.row(row), Training)), valued[0])
    results = run_study(name, quick=True, out=tmp_path / "study", rows=(row,), say=lambda line: None)
    assert results.failures == {}
    values = [value for value in results.study.values if value.row == row]
    assert values
    assert any(results.compare(value).ours is not None for value in values)  # of the smallest networks
    assert "a quick run" in (tmp_path / "study" / "README.md").read_text().partition("\n")[0]


@pytest.mark.slow
def test_every_page_fits_a_phone_and_a_sheet_of_paper(folder, browser, tmp_path):
    """Values stand as cards on 360 pixels, each cell beside its column's name; in print no table is wider than A4."""
    paths = {"toy": folder / "study.html"}
    for name in ALL:
        (tmp_path / name / "rows").mkdir(parents=True)
        paths[name] = page.write(Results(STUDIES.get(name)(), tmp_path / name, 1))
    context, said = browser.new_context(viewport={"width": 360, "height": 740}), []
    tab = context.new_page()
    tab.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: said.append(str(error)))
    for name, path in paths.items():
        tab.set_viewport_size({"width": 360, "height": 740})
        tab.emulate_media(media="screen")
        tab.goto(path.as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= 360, name
        first = tab.locator(".values tbody td").first
        assert first.evaluate("cell => getComputedStyle(cell, '::before').content") == '"row"'
        tab.set_viewport_size({"width": 718, "height": 1000})  # A4 less its margins
        tab.emulate_media(media="print")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 718, name
    assert said == []
    context.close()
