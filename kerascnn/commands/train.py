"""`kerascnn train`: every field of a recipe is an option."""

import contextlib
import dataclasses
import os
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from kerascnn import runs
from kerascnn.callbacks import LOOKS
from kerascnn.commands.terminal import (
    Flag,
    Json,
    computing,
    fraction,
    let_interrupts_through,
    naming,
    print_json,
    print_table,
)
from kerascnn.datasets import DATASETS
from kerascnn.errors import DataError, UsageError, command, counted, disk_full
from kerascnn.hosts import check_hosts
from kerascnn.models import facts, is_file
from kerascnn.recipes import FIELDS, RECIPES, Recipe, read_config

Watch = Annotated[
    str | None,
    Parameter(
        help=f"callbacks that watch the training, separated by commas: {', '.join(LOOKS.names())}; they write to the "
        "run's watch/"
    ),
]


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
        more = {} if spec.name in ("batch_norm", "nesterov") else {"negative": ""}
    if spec.name == "start_from":
        more["name"] = ("--start-from", "--from")
    if spec.name == "model_options":
        doc += ": NAME=VALUE"
    kind = Annotated[kind | None, Parameter(help=doc + shown, show_default=False, **more)]
    return spec.name, kind, dataclasses.field(default=None)


def make_fields(name, leave_out):
    """A dataclass whose fields are recipe fields as options, but for some; each is None until it is typed."""
    options = [_option(spec) for spec in FIELDS.values() if spec.name not in leave_out]
    fields = dataclasses.make_dataclass(name, options, kw_only=True)
    fields.__module__ = __name__  # cyclopts takes classes of the module `types` for built-in ones
    return fields


SMALLEST = 32  # pixels; the recipe photos takes no smaller images

# Options that leave `kerascnn train photos/` to choose how to train.
SUITED = frozenset(FIELDS) - {
    *("model", "model_options", "optimizer", "learning_rate", "momentum", "nesterov", "weight_decay", "l2"),
    *("schedule", "warmup_epochs", "rate_patience", "rate_factor", "start_from", "fold_norm", "fast_start"),
    *("batch_norm", "norm_bias_rate", "normalize"),
}

Fields = make_fields("Fields", leave_out=("data",))


def typed_fields(fields):
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
    with contextlib.suppress(tomllib.TOMLDecodeError, RecursionError):
        return name.replace("-", "_"), tomllib.loads(f"value = {value}")["value"]
    return name.replace("-", "_"), value


def asked_recipe(data, recipe, config, fields):
    """The recipe that a command line asks for: a named one, then the config file's fields, then the typed ones.

    Where nothing says how to train on a folder or file of the user's, it is one that suits the images.
    """
    return _asked(data, recipe, config, fields)[0]


def _asked(data, recipe, config, fields):
    """(the recipe that is asked for, True if the size of its images was chosen for them)."""
    typed = typed_fields(fields) | ({"data": data} if data is not None else {})
    settings = read_config(config) if config is not None else {}
    chosen = typed.get("data", settings.get("data", "digits"))
    lent = typed.get("start_from", settings.get("start_from", ""))
    whole = is_file(lent) and recipe in (None, "transfer") and "model" not in settings | typed
    if whole:  # the network in the file itself is to be trained on, not one of ours that has some layers of its names
        typed |= {"model": lent, "start_from": ""}
    from kerascnn.datasets.loading import resolve

    if recipe is None:
        recipe = "transfer" if whole else "digits" if chosen == "digits" else "default"
        given = settings | typed
        small = (given.get("image_size") or SMALLEST) < SMALLEST
        if recipe == "default" and given.keys() <= SUITED and not small and resolve(chosen)[1] is not None:
            recipe = "photos"
    asked = RECIPES.get(recipe)().replace(**(settings | typed))
    facts(asked.model)
    resolve(asked.data)
    with contextlib.suppress(DataError):  # which is raised again where the data are read
        given = settings | typed | {"data": asked.data}
        if recipe == "photos":
            from kerascnn.training.suited import recipe_for

            return recipe_for(**given), "image_size" not in given
        if whole:
            from kerascnn.training.suited import fitted

            return fitted(asked, given), False
    return asked, False


def _check_picture(out):
    if out.suffix.lower() != ".png":
        raise UsageError(f"--out {out} is not a PNG file. Type for example --out {out.with_suffix('.png')}")
    numbers = out.with_suffix(".csv")
    if numbers.exists() and not out.exists():
        raise UsageError(f"--out {out} would replace {numbers}, which is not of such a curve. Type another name.")


def lr_find(
    data: str | None = None,
    /,
    *,
    recipe: str | None = None,
    config: Path | None = None,
    low: float = 1e-6,
    high: float = 10.0,
    find_steps: int = 200,
    out: Path = Path("lr-find.png"),
    fields: Annotated[Fields, Parameter(name="*")] = Fields(),  # noqa: B008 (frozen by never being written)
):
    """Find a learning rate from the loss while the rate rises, in a short training run that is thrown away.

    The suggestion is half a decade below the largest rate at which the smoothed loss is at its minimum, with a
    tolerance of 2% of its total fall. The first and last tenth of the steps do not count, and neither do the steps
    after the loss has diverged.

    Parameters
    ----------
    data, recipe, config
        as for train
    low
        first learning rate
    high
        last learning rate
    find_steps
        training steps
    out
        PNG file for the curve; its numbers (CSV) are saved next to it
    """
    asked = asked_recipe(data, recipe, config, fields)
    _check_picture(out)
    with computing() as (say, _):
        from kerascnn import plots
        from kerascnn.training.finders import BELOW, lr_find

        with naming(steps="--find-steps"):
            table, suggested = lr_find(asked, low=low, high=high, steps=find_steps)
        title = f"{asked.model} on {asked.data}, {asked.optimizer}, batches of {asked.batch_size}"
        plots.save(plots.rate_range(table, suggested, title), table, out)
        least = f"{BELOW * suggested:.2g}, the largest rate at which the smoothed loss is least"
        say(f"Learning rate {suggested:.2g}: half a decade below {least}")
        say(f"Curve         {out}")
        say(f"Type          --learning-rate {suggested:.2g}")


def batch_find(
    data: str | None = None,
    /,
    *,
    recipe: str | None = None,
    config: Path | None = None,
    seconds: float = 5.0,
    out: Path = Path("batch-find.png"),
    fields: Annotated[Fields, Parameter(name="*")] = Fields(),  # noqa: B008 (frozen by never being written)
):
    """Find a batch size: the smallest that trains at 95% of the speed of the fastest one.

    Parameters
    ----------
    data, recipe, config
        as for train
    seconds
        how long to time each size
    out
        PNG file for the curve; its numbers (CSV) are saved next to it
    """
    asked = asked_recipe(data, recipe, config, fields)
    _check_picture(out)
    with computing() as (say, _):
        from kerascnn import plots
        from kerascnn.training.finders import batch_find

        table, suggested = batch_find(asked, seconds=seconds)
        title = f"{asked.model} on {asked.data}, {asked.optimizer}"
        plots.save(plots.batch_range(table, suggested, title), table, out)
        rows = zip(table["batch_size"], table["images_per_second"], table["memory_bytes"] / 2**20, strict=True)
        header = ("batch size", "images/s", "memory, MiB")
        print_table(header, [(str(b), f"{speed:,.0f}", f"{memory:,.0f}") for b, speed, memory in rows], "rrr")
        fastest = table["images_per_second"].max()
        say(f"\nBatch size {suggested}: the smallest within 5% of {fastest:,.0f} images per second")
        say(f"Curve      {out}")
        say(f"Type       --batch-size {suggested}")


def train(
    data: str | None = None,
    /,
    *,
    recipe: str | None = None,
    config: Path | None = None,
    out: Path | None = None,
    resume: str | None = None,
    watch: Watch = None,
    devices: int | Literal["all"] | None = None,
    hosts: str | None = None,
    minutes: float | None = None,
    checkpoint_minutes: float = 10.0,
    keep_checkpoints: Flag = False,
    strict: Flag = False,
    json: Json = False,
    fields: Annotated[Fields, Parameter(name="*")] = Fields(),  # noqa: B008 (frozen by never being written)
):
    """Train a network, evaluate it on held-out test images and export it.

    Without arguments, it trains LeNet-5 on scikit-learn's handwritten digits with the recipe digits. For your own
    images it starts from the recipe photos and chooses image size, batch size, epochs and class weights by what the
    folder holds. With --model, an optimizer or a learning rate, and for named data sets, it starts from the recipe
    default, whose values are the defaults below; --recipe starts from another recipe.

    Parameters
    ----------
    data
        name of a data set (kerascnn datasets), a folder of class folders, or a file [default: digits]
    recipe
        named settings to start from (kerascnn recipes); options replace their fields
    config
        TOML file with recipe fields, such as: epochs = 20
    out
        folder for the run, new or empty [default: saved_models/<date>-<model>-<data>]
    resume
        run to continue exactly where it stopped: its folder, its name or "last"
    devices
        how many devices of this machine share each batch, a number or all; needs KERAS_BACKEND=jax [default: 1]
    hosts
        auto shares each batch among the hosts that Slurm, Open MPI, Kubernetes or a TPU pod started with this
        command; needs KERAS_BACKEND=jax. Typed again with the same --out, it resumes from the last checkpoint
    minutes
        how long the whole run may take, instead of --epochs: some steps are timed, and the run trains for as many
        epochs as fit. Where the image size is chosen for you, images of 64 pixels become 32 if only a few epochs fit
    checkpoint_minutes
        minutes between checkpoints within an epoch; there is always one at the end of an epoch
    keep_checkpoints
        keep the last two checkpoints when the run has finished; otherwise one is kept, for more --epochs, or none with
        a schedule
    strict
        stop at the first image that cannot be read, instead of leaving it out
    """
    looks = None if watch is None else [name.strip() for name in watch.split(",")]
    for name in looks or ():
        LOOKS.facts(name)  # raises for an unknown one
    typed = typed_fields(fields) | ({"data": data} if data is not None else {})
    settings = read_config(config) if config is not None else {}
    for name in ("epochs", "steps"):
        if minutes is not None and name in typed:
            raise UsageError(f"--minutes {minutes:g} and --{name} {typed[name]} cannot both be typed. Type one.")
    if resume is not None and out is not None:
        raise UsageError(f"--resume {resume} continues in its own folder, so --out {out} cannot be typed with it.")
    if resume is not None:
        asked, free = None if recipe is None else RECIPES.get(recipe)(), False
        typed = settings | typed
    else:
        (asked, free), typed = _asked(data, recipe, config, fields), {}
        if out is not None and hosts is None:
            runs.check_new(out)
    check_hosts(hosts, os.environ.get("KERAS_BACKEND", "tensorflow"))
    with computing(json) as (say, log):
        from kerascnn.training.train import train as train_run

        def begun(run):
            log.move(run / "native.log")
            let_interrupts_through()

        run = train_run(
            asked,
            out=out,
            resume=resume,
            strict=strict,
            watch=looks,
            devices=devices,
            hosts=hosts,
            minutes=minutes,
            smaller=_smaller(asked, free, minutes),
            checkpoint_minutes=checkpoint_minutes,
            keep_checkpoints=keep_checkpoints,
            say=say,
            on_run=begun,
            **typed,
        )
        if run is None:  # on a host that is not the first
            return
        exported, page = _exported(run), _reported(run)
        if json:
            print_json({"run": str(run.folder), **run.read("run")})
        else:
            _summarise(run, exported, page, say)


def _smaller(asked, free, minutes):
    """The size of images to which a short time may go down: None if their size was typed or is small already."""
    return SMALLEST if free and minutes is not None and asked.image_size > SMALLEST else None


def _exported(run):
    """Where the SavedModel is, or why it was not written: the run is finished, whatever goes wrong with it."""
    from kerascnn.using.exporting import export

    try:
        exported = export(run, fresh=False)
    except Exception as error:
        reason = disk_full(error) or (str(error) or type(error).__name__).splitlines()[0]
        return f"not written: {reason}  (again: {command('export', run.folder)})"
    return f"{exported.path}  (reloaded; probabilities differ by at most {exported.difference:.1g})"


def _reported(run):
    """Where the page is, or why it was not written."""
    from kerascnn.pages import making

    try:
        page, lacks = making.of_run(run)
        return f"{page}  ({lacks})" if lacks else page
    except Exception as error:
        return f"not written: {error}  (again: {command('report', run.folder)})"


def _summarise(run, exported, page, say):
    """Say what came out, where it is, and what can be typed next."""
    summary = run.read("run")
    result = summary["result"]
    say("")
    say(f"Test accuracy  {fraction(result, 'accuracy')} of {counted(result['images'], 'test image')}")
    if result["top5"] is not None:
        say(f"Test top-5     {fraction(result, 'top5')}")
    if result.get("test_watched"):
        say("               the test images were watched (--test-curve); they decided nothing")
    if "train" in result:
        seen = counted(result["train"]["images"], "training image")
        say(f"Training       {100 * result['train']['accuracy']:.2f}% of {seen}, without augmentation and dropout")
    if _uneven(run):
        always = f"always answering {result['baseline_class']!r} gives {100 * result['baseline_accuracy']:.2f}%"
        say(f"Balanced       {100 * result['balanced_accuracy']:.2f}%, the mean recall of the classes; {always}")
    say(f"Run            {run.folder}")
    say(f"Report         {page}")
    say(f"SavedModel     {exported}")
    states = list((run / "checkpoint").glob("state-*.npz"))
    if states:
        size = sum(path.stat().st_size for path in states) / 1e6
        length = "--steps" if run.read("recipe")["steps"] else "--epochs"
        longer = command("train", "--resume", run.folder, length, "N")
        say(f"Checkpoint     {size:,.1f} MB, to train longer: {longer}")
    memory = summary["peak_memory_bytes"] / 2**30
    say(f"Time           {summary['seconds']:.0f} s, at most {memory:.1f} GiB of memory")
    say("Next           " + "\n               ".join(_next_commands(run, run.read("recipe"))))


def _uneven(run):
    """True if one class has many more test images than another."""
    import numpy as np

    from kerascnn.datasets.balance import balance

    counts = run.read("data")["splits"]["test"]["per_class"]
    return balance(np.repeat(np.arange(len(counts)), counts), len(counts)).uneven


def _next_commands(run, recipe):
    name = "last" if run.folder.parent.resolve() == runs.ROOT.resolve() else run.folder
    commands = [command("predict", name, run / "samples"), command("evaluate", name)]
    if recipe["data"] in DATASETS:
        commands.append("kerascnn train FOLDER_OF_CLASS_FOLDERS --model cifar_net")
    return commands
