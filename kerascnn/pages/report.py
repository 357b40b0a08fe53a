"""The report of a run as one HTML file, from its run folder alone: it can be made again years later.

Whatever a folder lacks is left out of the page, so a run that failed also has a page.
"""

import base64
import contextlib
import json

import jinja2
import pandas

from kerascnn import runs
from kerascnn.datasets import DATASETS
from kerascnn.errors import DataError, UsageError, command, counted
from kerascnn.files import check_regular
from kerascnn.pages import charts, extra_sections, extras
from kerascnn.recipes import RECIPES, Recipe
from kerascnn.training import pictures, record
from kerascnn.training.suited import CHOSEN

TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("kerascnn.pages"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
)
MOST_CELLS = 30  # classes of a confusion matrix that is a table; beyond that its largest cells are listed
ENDED = {
    "failed": "The run failed",
    "finished": "The test images were not used",
    "interrupted": "The run was interrupted",
    "running": "The run is still running",
}


def write(run, out=None, axis=None):
    """Write report.html into a run's folder, or elsewhere; returns its path; arguments as of `report`."""
    run = runs.as_run(run)
    path = run / "report.html" if out is None else out
    runs.write_text(path, report(run, axis))
    return path


def report(run, axis=None):
    """The report of a run as one HTML text that loads nothing from anywhere.

    Args:
        axis: "images" draws the curves over the training images that the network had seen; None: over epochs, or steps
            where `eval_every` is set.
    Raises:
        DataError: the folder is not a run, or is damaged.
    """
    run = runs.as_run(run)
    with whole(run):
        return _rendered(run, axis)


@contextlib.contextmanager
def whole(run):
    """Within this block, a file of a run with unexpected contents raises a DataError."""
    try:
        yield
    except (DataError, UsageError):
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, jinja2.UndefinedError) as error:
        raise DataError(f"A file in {run.folder} is damaged, so it has no page: {error}.") from error


def _rendered(run, axis):
    state, recipe = run.read("run"), run.read("recipe")
    trained = "command" not in state  # a model file's report says what makes it again
    data = run.read("data") if (run / "data.json").exists() else {}
    result = state.get("result") or {}
    tables = record.read(run)
    predictions = tables.get("predictions")
    return TEMPLATES.get_template("report.html").render(
        title=f"{recipe.get('model', '')} on {data.get('name', recipe.get('data', ''))}",
        run=run.folder.name if trained else recipe.get("model"),
        status=run.status,
        reason=state.get("reason"),
        ended=ENDED.get(run.status, f"The run is {run.status}"),
        headline=_headline(result),
        facts=_facts(run, state, recipe, data, result),
        again=command("train", *_arguments(recipe)) if trained else state["command"],
        curves=_curves(run, axis),
        per_class=_rows(tables.get("per_class")),
        confusion=_confusion(tables.get("confusion")),
        pairs=_rows(tables.get("pairs")),
        calibration=_calibration(tables.get("calibration")),
        ranking=_ranking(tables.get("curves")),
        mistakes=[] if predictions is None else extras.shown(predictions, False),
        unsure=[] if predictions is None else extras.shown(predictions, True),
        images=_images(run, predictions),
        settings=_settings(recipe) if trained else [],
        notes=[*data.get("notes", ()), *data.get("doubts", ())],
        skipped=data.get("skipped", ()),
        downloads=_downloads(run),
        **extra_sections.sections(run, tables),
    )


def _headline(result):
    if "accuracy" not in result:
        return None
    low, high = result["accuracy_interval"]
    return {
        "accuracy": f"{100 * result['accuracy']:.2f}%",
        "interval": f"95% interval {100 * low:.2f} to {100 * high:.2f}, {counted(result['images'], 'test image')}",
    }


def _facts(run, state, recipe, data, result):
    """The settings and the results, as (name, text) pairs."""
    counts = {name: split.get("images") for name, split in data.get("splits", {}).items() if isinstance(split, dict)}
    facts = [
        ("Model", f"{recipe.get('model')}, {state['parameters']:,} parameters" if "parameters" in state else None),
        ("Data", data.get("source", recipe.get("data"))),
        ("Images", ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or None),
        ("Classes", f"{len(data['class_names'])}" if "class_names" in data else None),
        ("Test loss", f"{result['loss']:.4f} nats" if "loss" in result else None),
        ("Top-5", f"{100 * result['top5']:.2f}%" if result.get("top5") is not None else None),
        ("Training accuracy", _on_training(result)),
        ("Balanced accuracy", _percent(result.get("balanced_accuracy"))),
        ("Macro F1", f"{result['macro_f1']:.4f}" if "macro_f1" in result else None),
        ("Commonest class", _baseline(result)),
        ("Best step" if "best_step" in result else "Best epoch", best_of(result)),
        ("Weights", _kept(result)),
        ("Test images", "watched during training, only for the curves" if result.get("test_watched") else None),
        ("Began", str(state.get("started", "")).replace("T", " ") or None),
        ("Time", f"{state['seconds'] / 60:.1f} minutes" if "seconds" in state else None),
        ("Memory", f"{state['peak_memory_bytes'] / 1e9:.2f} GB at most" if "peak_memory_bytes" in state else None),
        ("Machine", ", ".join(filter(None, [state.get("processor"), *state.get("device", ())])) or None),
        ("Precision", state.get("precision")),
        ("Seed", state.get("seed")),
        ("Versions", ", ".join(f"{name} {number}" for name, number in state.get("versions", {}).items()) or None),
        ("Folder", str(run.folder)),
    ]
    return [(name, text) for name, text in facts if text is not None]


def _kept(result):
    """Whose weights the result is of, where they are not the best ones."""
    unit = "step" if "kept_step" in result else "epoch"
    if result.get(f"kept_{unit}") in (None, result.get(f"best_{unit}")):
        return None
    return f"of {unit} {result[f'kept_{unit}']:,}, the last"


def best_of(result):
    """The epoch or step that is best by the monitored quantity, and the total number; None if it is not known."""
    if "best_step" in result:
        return f"{result['best_step']:,} of {result['steps']:,}"
    return f"{result['best_epoch']} of {result['epochs']}" if "best_epoch" in result else None


def _percent(fraction):
    return None if fraction is None else f"{100 * fraction:.2f}%"


def _on_training(result):
    """How many of the training images are right as they are."""
    if "train" not in result:
        return None
    images = counted(result["train"]["images"], "image")
    return f"{_percent(result['train']['accuracy'])} of {images}, without augmentation and dropout"


def _baseline(result):
    if "baseline_accuracy" not in result:
        return None
    return f"always predicting {result['baseline_class']!r} gives {_percent(result['baseline_accuracy'])}"


def _arguments(recipe):
    """The arguments that make `kerascnn train` use this recipe again."""
    data = str(recipe.get("data", ""))
    yield data
    name, usual = _nearest(recipe, data)
    if name:
        yield from ("--recipe", name)
    for name, value in recipe.items():
        if name == "data" or value == usual.get(name, ...):
            continue
        option = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            yield option if value else option.replace("--", "--no-", 1)
        elif isinstance(value, list):
            yield from (option, *map(str, value))
        elif isinstance(value, dict):
            yield from (option, *(f"{key}={json.dumps(item)}" for key, item in value.items()))
        else:
            whole = isinstance(value, float) and value.is_integer()
            yield from (option, str(int(value) if whole else value))


def _nearest(recipe, data):
    """(name of the recipe to type, or None; the fields that need not be typed) for the fewest options."""
    usual = {name: RECIPES.get(name)().to_dict() for name in ("digits", "default", "photos")}
    for name in CHOSEN:  # by what is in the folder
        del usual["photos"][name]
    kept = {None: usual["digits" if data == "digits" else "default"], "default": usual["default"]}
    if data not in DATASETS:  # without a recipe, train would choose what suits a folder
        kept = {"default": usual["default"], "photos": usual["photos"]}

    def cost(name):
        changed = [field for field, value in recipe.items() if field != "data" and value != kept[name].get(field, ...)]
        emptied = [field for field in changed if recipe[field] in (None, [], {}) and kept[name].get(field, ...)]
        return len(emptied), len(changed)  # no option empties a field

    name = min(kept, key=cost)
    return name, kept[name]


def metrics_of(run, axis=None):
    """("epochs" or "steps" or "training images seen", which the x axis counts; metrics.csv with a column x of them);
    empty where there is none.

    Args:
        axis: "images" counts the training images that the network had seen, again in each pass.
    Raises:
        DataError: the table is damaged, or the run does not say how many training images it had.
    """
    path = run / "metrics.csv"
    if path.exists():
        check_regular(path)  # a named pipe has no bytes either, and would block below
    if not path.exists() or not path.stat().st_size:
        return "", pandas.DataFrame()
    try:
        metrics, recipe = pandas.read_csv(path), run.read("recipe")
        period = recipe.get("eval_every") or 0
        by_step = bool(period) or "step" in metrics
        x = metrics["step"] if "step" in metrics else (metrics["epoch"] + 1) * (period or 1)
        if axis == "images":
            images, batch = run.read("data")["splits"]["train"]["images"], recipe["batch_size"]
            steps = -(-images // batch)  # of a pass, the last of which takes what is left
            passes = x // steps * images + x % steps * batch if by_step else x * images
            return "training images seen", metrics.assign(x=passes)
        return ("steps" if by_step else "epochs"), metrics.assign(x=x)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _curves(run, axis):
    """Loss, without label smoothing where that is known, and accuracy during training, as (title, chart)."""
    unit, metrics = metrics_of(run, axis)
    named = {"": "training", "val_": "validation", "test_": "test"}
    charted = []
    shown = (("loss", "loss (nats)"), ("accuracy", "accuracy"), ("top5", "top-5 accuracy"))
    for quantity, y_label in shown:
        column = "nll" if quantity == "loss" and "nll" in metrics else quantity
        series = {
            name: (metrics["x"], metrics[f"{prefix}{column}"])
            for prefix, name in named.items()
            if f"{prefix}{column}" in metrics
        }
        if series:
            title = "Top-5 accuracy" if quantity == "top5" else quantity.capitalize()
            charted.append((title, charts.lines(series, unit, y_label, counts=True)))
    return charted


def _rows(table):
    """A table's rows as dicts, or None."""
    return None if table is None or table.empty else table.to_dict("records")


def _confusion(table):
    """{"names", "rows": [(true, total, [counts])]} for a matrix that can be shown as a table, or None."""
    if table is None or len(table) > MOST_CELLS:
        return None
    names = list(table.columns[1:])
    counts = table.iloc[:, 1:].to_numpy().tolist()
    return {"names": names, "rows": [(names[i], sum(row), row) for i, row in enumerate(counts)]}


def _calibration(table):
    if table is None or table.empty:
        return None
    chart = charts.bars(
        table["low"],
        table["high"],
        table["accuracy"],
        "probability of the answer",
        "share of correct answers",
        x_range=(0, 1),
        diagonal=True,
    )
    return {"chart": chart, "error": f"{100 * table['expected_calibration_error'][0]:.2f}"}


def _ranking(table):
    """ROC and precision-recall curves, as (title, chart)."""
    if table is None or table.empty:
        return []
    labels = {
        "roc": ("ROC curves", "false positive rate", "true positive rate"),
        "pr": ("Precision and recall", "recall", "precision"),
    }
    charted = []
    for curve, (title, x_label, y_label) in labels.items():
        part = table[table["curve"] == curve]
        series = {str(name): (rows["x"], rows["y"]) for name, rows in part.groupby("class", sort=False)}
        chart = charts.lines(series, x_label, y_label, y_range=(0, 1), diagonal=curve == "roc")
        charted.append((title, chart))
    return charted


def _images(run, predictions):
    """What the page's script needs to know about each pictured image, as JSON that is safe in a script element."""
    if predictions is None:
        return "{}"
    pictured, looks, shown = pictures.read(run), pictures.read(run, "looks"), {}
    ranks = [column.removeprefix("label_") for column in predictions.columns if column.startswith("label_")]
    wanted = {*pictured, *extras.shown(predictions, False), *extras.shown(predictions, True)}
    for row in sorted(wanted):
        image = predictions.loc[row]
        top = [[str(image[f"label_{rank}"]), round(float(image[f"probability_{rank}"]), 4)] for rank in ranks]
        known = [str(image["file"]), str(image["label"]), str(image["predicted"]), top]
        shown[row] = [*known, pictured.get(row, ""), looks.get(row, "")]
    return extra_sections.as_json(shown)


def _settings(recipe):
    """(field, value, differs from the usual one) of the recipe."""
    usual = Recipe().to_dict()
    return [(name, json.dumps(value, ensure_ascii=False), value != usual.get(name)) for name, value in recipe.items()]


def _downloads(run):
    """(name, data URI) of the tables behind the page, except the long one with all images."""
    files = []
    for path in [run / "metrics.csv", *sorted((run / record.FOLDER).glob("*.csv"))]:
        if path.exists() and path.stem not in ("predictions", "curves"):
            content = base64.b64encode(path.read_bytes()).decode()
            files.append((path.name, f"data:text/csv;base64,{content}"))
    return files
