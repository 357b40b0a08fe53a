"""The command line: parse, call, print. Keras is imported only by commands that compute."""

import contextlib
import dataclasses
import json
import os
import sys
import tomllib
import typing
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from kerascnn import __version__, runs
from kerascnn.datasets import DATASETS
from kerascnn.errors import DataError, UsageError
from kerascnn.models import MODELS
from kerascnn.recipes import FIELDS, RECIPES, Recipe, read_config

app = App(
    name="kerascnn",
    version=__version__,
    help="Build, train and look inside the classic convolutional networks, on Keras 3.",
    help_epilogue="Start with: kerascnn train. With --debug, any command shows the traceback of an error.",
    help_format="plaintext",
    result_action="return_value",
)
app.register_install_completion_command(help="Make TAB complete kerascnn's commands and options in this shell.")
data_app = App(name="data", help="Look at data before training on it.")
app.command(data_app)

RunName = Annotated[str, Parameter(help='a run: its folder, its name under saved_models, or "last"')]
Json = Annotated[bool, Parameter(negative="", help="print JSON instead of text")]


def _option(spec):
    """A recipe field as an option of `train`: (name, type, default None)."""
    doc = spec.metadata["doc"]
    allowed, default = spec.metadata["choices"], getattr(Recipe(), spec.name)
    named = [str(choice) for choice in allowed or () if choice is not None]
    if named and not all(choice in doc for choice in named):
        doc += f" ({', '.join(named)})"
    shown = "" if default in (None, (), {}) else f" [default: {default}]"
    kind = spec.type
    if spec.name in ("augment", "model_options"):
        kind = tuple[str, ...]
        more = {"consume_multiple": True, "negative": ""}
    else:
        more = {} if spec.name == "batch_norm" else {"negative": ""}
    if spec.name == "model_options":
        doc += ": NAME=VALUE"
    kind = Annotated[kind | None, Parameter(help=doc + shown, show_default=False, **more)]
    return spec.name, kind, dataclasses.field(default=None)


Fields = dataclasses.make_dataclass(
    "Fields", [_option(spec) for spec in FIELDS.values() if spec.name != "data"], kw_only=True
)
Fields.__module__ = __name__  # cyclopts takes classes of the module `types` for built-in ones


def _typed(fields):
    """The recipe fields that were typed, as a dict."""
    typed = {name: value for name, value in vars(fields).items() if value is not None}
    if "model_options" in typed:
        typed["model_options"] = dict(map(_assignment, typed["model_options"]))
    return typed


def _assignment(text):
    """NAME=VALUE as (name, value); the value is a TOML value, or else text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--model-options {text!r} is not NAME=VALUE. Type for example: --model-options variant=1998")
    with contextlib.suppress(tomllib.TOMLDecodeError):
        return name.replace("-", "_"), tomllib.loads(f"value = {value}")["value"]
    return name.replace("-", "_"), value


@app.command
def train(
    data: str | None = None,
    /,
    *,
    recipe: str | None = None,
    config: Path | None = None,
    out: Path | None = None,
    resume: str | None = None,
    strict: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
    fields: Annotated[Fields, Parameter(name="*")] = Fields(),  # noqa: B008 (frozen by never being written)
):
    """Train a network, evaluate it on held-out test images and export it.

    Without arguments: LeNet-5 on scikit-learn's handwritten digits.

    Parameters
    ----------
    data
        name of a data set (kerascnn datasets), or a folder of class folders, or a file [default: digits]
    recipe
        named settings to start from (kerascnn recipes); options replace their fields
    config
        TOML file with recipe fields, such as: epochs = 20
    out
        folder for the run, new or empty [default: saved_models/<date>-<model>-<data>]
    resume
        run to continue exactly: its folder, its name or "last"
    strict
        stop at the first image that cannot be read, instead of leaving it out
    """
    typed = _typed(fields) | ({"data": data} if data else {})
    settings = read_config(config) if config else {}
    if resume and out:
        raise UsageError(f"--resume {resume} goes on in its own folder, so --out {out} cannot be typed with it.")
    if resume:
        asked = None
        if recipe or config:
            asked = (RECIPES.get(recipe)() if recipe else Recipe()).replace(**settings)
    else:
        asked = (
            RECIPES.get(recipe or ("digits" if data in (None, "digits") else "default"))()
            .replace(**settings)
            .replace(**typed)
        )
        typed = {}
        MODELS.facts(asked.model)
        if out:
            runs.check_new(out)
    with _computing(json) as (say, log):
        from kerascnn.saved_model import export
        from kerascnn.training.train import train as train_run

        run = train_run(
            asked,
            out=out,
            resume=resume,
            strict=strict,
            say=say,
            on_run=lambda run: log.move(run / "native.log"),
            **typed,
        )
        try:
            difference = export(run)
            exported = f"{run / 'export' / 'saved_model'}  (reloaded; probabilities differ by at most {difference:.1g})"
        except DataError as error:
            exported = f"not written: {error}"
        summary = run.read("run")
        result = summary["result"]
        if json:
            _print_json({"run": str(run.folder), **summary})
            return
        say("")
        say(f"Test accuracy  {_fraction(result, 'accuracy')} of {result['images']:,} images never trained on")
        if result["top5"] is not None:
            say(f"Test top-5     {_fraction(result, 'top5')}")
        say(f"Run            {run.folder}")
        say(f"SavedModel     {exported}")
        memory = summary["peak_memory_bytes"] / 2**30
        say(f"Time           {summary['seconds']:.0f} s, at most {memory:.1f} GiB of memory")
        say("Next           " + "\n               ".join(_next_commands(run)))


def _next_commands(run):
    return [
        f"kerascnn predict last {run / 'samples'}",
        "kerascnn evaluate last",
        "kerascnn train FOLDER_OF_CLASS_FOLDERS --model cifar_net",
    ]


def _fraction(result, name):
    low, high = result[f"{name}_interval"]
    return f"{100 * result[name]:.2f}% (95% interval {100 * low:.2f} to {100 * high:.2f})"


@app.command
def predict(
    run: RunName,
    /,
    *images: str,
    top: int = 5,
    json: Json = False,
    csv: Annotated[bool, Parameter(negative="")] = False,
):
    """Print the most probable classes of images.

    Parameters
    ----------
    images
        files, folders or patterns
    top
        classes to print for each image
    csv
        print CSV instead of text
    """
    if not images:
        raise UsageError(f"No image was named. Type: kerascnn predict {run} IMAGE...")
    runs.find(run)
    with _computing(json or csv) as (_say, _log):
        from kerascnn import inference

        table = inference.predict(run, images, top=top)
        if json:
            _print_json(table.to_dict("records"))
        elif csv:
            print(table.to_csv(index=False), end="")
        else:
            for image, best in table.groupby("image", sort=False):
                print(image)
                rows = [
                    (str(r.index), f"{r.probability:.7f}", r.label)
                    for r in best.drop(columns="image").itertuples(False)
                ]
                _print_table(("index", "probability", "label"), rows, "rr")
                print()
        broken = table.attrs["broken"]
        if broken:
            listed = "; ".join(f"{name}: {reason}" for name, reason in broken[:5])
            raise DataError(f"{len(broken)} of the files could not be read: {listed}")


@app.command
def evaluate(
    run: RunName,
    data: str | None = None,
    /,
    *,
    json: Json = False,
    strict: Annotated[bool, Parameter(negative="")] = False,
):
    """Print loss, top-1 and top-5 with their intervals, a table per class and the confusion matrix.

    Parameters
    ----------
    data
        name of a data set or a path, with the run's classes [default: the run's own test images]
    strict
        stop at the first image that cannot be read, instead of leaving it out
    """
    runs.find(run)
    with _computing(json) as (_say, _log):
        from kerascnn import inference

        measured = inference.evaluate(run, data, strict=strict)
        if json:
            per_class, confusion = measured.per_class.to_dict("records"), measured.confusion.to_numpy().tolist()
            _print_json({**measured.to_dict(), "per_class": per_class, "confusion": confusion})
            return
        result = measured.to_dict()
        print(f"images    {measured.images:,}")
        print(f"loss      {measured.loss:.4f}")
        print(f"top-1     {_fraction(result, 'accuracy')}")
        if measured.top5 is not None:
            print(f"top-5     {_fraction(result, 'top5')}")
        print()
        rows = [
            (str(r[0]), f"{r.images:,}", f"{r.precision:.3f}", f"{r.recall:.3f}", f"{r.f1:.3f}")
            for r in measured.per_class.itertuples(False)
        ]
        _print_table(("class", "images", "precision", "recall", "F1"), rows, "lrrrr")
        print("\nConfusion (rows true, columns predicted)")
        names = list(measured.confusion.columns)
        rows = [(name, *map(str, row)) for name, row in zip(names, measured.confusion.to_numpy().tolist(), strict=True)]
        _print_table(("", *names), rows, "l" + "r" * len(names))


@data_app.command
def check(
    data: str,
    /,
    *,
    json: Json = False,
    image_size: int | None = None,
    channels: int | None = None,
    validation: float = 0.1,
    test: float = 0.15,
    seed: int = 0,
):
    """Print counts per class, sizes, colours, broken and duplicate files, and what training would do.

    Parameters
    ----------
    data
        name of a data set, a folder or a file
    image_size
        side that images would be brought to, pixels
    channels
        1 for grey, 3 for colour
    validation
        fraction or number of training images that would be held out
    test
        likewise for the test split, where the data has none
    seed
        seed of the splits
    """
    from kerascnn.datasets import check as checking

    report = checking.check(data, image_size=image_size, channels=channels, validation=validation, test=test, seed=seed)
    if json:
        _print_json(report.to_dict())
    else:
        print("\n".join(checking.lines(report)))


@app.command(name="runs")
def list_runs(folder: Path | None = None, /, *, json: Json = False):
    """List the runs, oldest first.

    Parameters
    ----------
    folder
        where they are [default: saved_models]
    """
    found = []
    for run in runs.found(folder):
        with contextlib.suppress(DataError):
            recipe = run.read("recipe")
            state = {**run.read("run"), "status": run.status}
            found.append({"run": run.folder.name, "model": recipe["model"], "data": recipe["data"], **state})
    if json:
        _print_json(found)
        return
    if not found:
        print(f"No runs in {folder or runs.ROOT}/. Make one: kerascnn train")
        return
    rows = []
    for item in found:
        result = item.get("result") or {}
        accuracy = f"{100 * result['accuracy']:.2f}%" if result else ""
        minutes = f"{item['seconds'] / 60:.1f}" if "seconds" in item else ""
        rows.append((item["run"], item.get("status", ""), item["model"], str(item["data"]), accuracy, minutes))
    _print_table(("run", "status", "model", "data", "test accuracy", "minutes"), rows, "llllrr")


@app.command(name="models")
def list_models(*, json: Json = False):
    """List the networks: source, input and parameters."""
    facts = {name: MODELS.facts(name) for name in MODELS.names()}
    if json:
        _print_json(facts)
        return
    rows = [
        (n, "x".join(map(str, f["input_shape"])), str(f["num_classes"]), f"{f['parameters']:,}", f["source"])
        for n, f in facts.items()
    ]
    _print_table(("model", "input", "classes", "parameters", "source"), rows, "llrr")


@app.command(name="datasets")
def list_datasets(*, json: Json = False):
    """List the data sets that have names; a path to a folder or file works as well."""
    facts = {name: DATASETS.facts(name) for name in DATASETS.names()}
    if json:
        _print_json(facts)
    else:
        _print_table(("data", "what it is"), [(n, f["description"]) for n, f in facts.items()])


@app.command(name="recipes")
def list_recipes(*, json: Json = False):
    """List the named recipes."""
    if json:
        _print_json({name: {**RECIPES.facts(name), **RECIPES.get(name)().to_dict()} for name in RECIPES.names()})
    else:
        _print_table(("recipe", "what it is"), [(n, RECIPES.facts(n)["doc"]) for n in RECIPES.names()])


@app.command
def doctor(*, json: Json = False):
    """Print versions, backend, devices and precision, and whether all is well."""
    with _computing(json):
        from kerascnn import backends, inference, saved_model  # noqa: F401 (import everything that training needs)

        backend = backends.backend()
        report = {
            "kerascnn": __version__,
            **backends.versions(),
            "backend": backend,
            "devices": backends.devices(),
            "processor": backends.processor(),
            "precision": backends.fastest_precision(),
            "saved_model": backend == "tensorflow" or saved_model.tensorflow_installed(),
        }
        report["verdict"] = (
            f"All is well: {backend} trains in {report['precision']} on {', '.join(report['devices'])}."
            if report["saved_model"]
            else f"{backend} trains, but TensorFlow is missing, so no SavedModel is exported: pip install tensorflow"
        )
    if json:
        _print_json(report)
        return
    for name, value in report.items():
        print(f"{name:12} {', '.join(value) if isinstance(value, list) else value}")


@contextlib.contextmanager
def _computing(to_stderr):
    """Within this block the terminal stays clean; yields what says lines, and the NativeLog."""
    from kerascnn.native_log import native_log

    with native_log() as log:
        yield lambda line: print(line, file=sys.stderr if to_stderr else sys.stdout, flush=True), log


def _print_json(value):
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _print_table(header, rows, align=""):
    """Print rows of text; `align` holds l or r for each column, and l for those that it does not reach."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name, side in zip(header, align.ljust(len(header), "l"), strict=True):
        table.add_column(name, justify="left" if side == "l" else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = 1000  # lines that are read by programs do not wrap
    console.print(table)


def run_command(argv: typing.Sequence[str]) -> int:
    """Run one command line; returns the exit code: 0 ok, 1 failed, 2 usage, 130 interrupted, 143 terminated.

    With --debug among the arguments, errors are raised instead of explained.
    """
    arguments = [argument for argument in argv if argument != "--debug"]
    try:
        app(arguments, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("kerascnn: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if len(arguments) < len(argv):
            raise
        return _explained(error)
    return 0


def main():
    """The program `kerascnn`."""
    code = run_command(sys.argv[1:])
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # native libraries say their goodbyes here
    sys.exit(code)


def _explained(error):
    """Print an error in one line; returns the exit code."""
    code, text = 1, str(error)
    if isinstance(error, CycloptsError | UsageError):
        code = 2
        text += "" if isinstance(error, UsageError) else " List the options: kerascnn --help"
    elif isinstance(error, OSError):
        text = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
    elif type(error).__name__ == "Stopped":
        code = 128 + error.signal_number
    elif not isinstance(error, DataError) and type(error).__name__ != "TrainingFailed":
        text = f"{type(error).__name__}: {error}. This was not foreseen; add --debug to see where it happened."
    print(f"kerascnn: {text}", file=sys.stderr)
    return code
