"""Make a report from a run's folder and its data, or from any model file with images to test it on."""

from pathlib import Path

from kerascnn import runs, using
from kerascnn.errors import DataError, UsageError, command
from kerascnn.pages import extras, report
from kerascnn.recipes import Recipe
from kerascnn.training import record
from kerascnn.using.evaluation import evaluated
from kerascnn.using.run_data import data_of


def of_run(run, *, look=None, out=None, axis=None):
    """Write the page of a run; if its folder lacks the extras that need the network and the data, make them first.

    Args:
        run: a Run, its folder, its name or "last".
        look: name of a method of `kerascnn.explain`; None: Grad-CAM, or what the folder has.
        out: the HTML file; None: report.html in the run.
        axis: as of `kerascnn.pages.report.report`.
    Returns:
        (the path of the page, a sentence on what it lacks or "").
    """
    run = runs.as_run(run)
    lacks = ""
    if run.status == "finished" and (look is not None or extras.read(run) is None):
        try:
            _gather(run, look or extras.LOOK)
        except (DataError, UsageError, OSError) as error:
            lacks = f"The page shows only what the folder holds: {error}"
    return report.write(run, out, axis), lacks


def _gather(run, look):
    classifier, data = using.subject(run), data_of(run)
    recipe = Recipe.from_dict(run.read("recipe"))
    measured = record.evaluation(run, str(data.source)) or evaluated(classifier)[1]
    if len(measured.labels) != len(data.test):
        return
    extras.gather(
        run,
        classifier,
        measured,
        data.test.images,
        train=data.train,
        recipe=recipe,
        validation=data.validation,
        look=look,
    )


def of_model(named, data, *, look=None, out=None):
    """Write the page of any classifier on labelled images, and its tables, into a folder named after the classifier.

    Args:
        named: whatever `kerascnn.using.subject` takes.
        data: a data set's name, or a folder.
        look, out: as for `of_run`; out None: report.html in that folder.
    Returns:
        The path of the page.
    """
    classifier = using.subject(named)
    split, measured, loaded = evaluated(classifier, data)
    folder = runs.Run(Path(classifier.folder) / "report")
    runs.check_writable(folder.folder)
    folder.write("recipe", {"model": classifier.name, "data": str(data)})
    described = {"name": loaded.name, "source": str(loaded.source), "class_names": list(classifier.labels)}
    notes = [*classifier.notes, *loaded.notes]
    folder.write("data", {**described, "notes": notes, "skipped": loaded.skipped})
    again = command("report", named if isinstance(named, (str, Path)) else classifier.name, data)
    state = {"status": "evaluated", "command": again, "parameters": classifier.model.count_params()}
    folder.write("run", {**state, "result": measured.to_dict()})
    record.keep(folder, measured, split.images)
    extras.gather(folder, classifier, measured, split.images, look=look or extras.LOOK)
    return report.write(folder, out)
