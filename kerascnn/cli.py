"""The command line: parse, call, print. Keras is imported only by commands that compute."""

import functools
import os
import sys
import types
import typing
import warnings

from cyclopts import App, CycloptsError

from kerascnn import __version__
from kerascnn.commands import (
    adopt,
    anatomy,
    course,
    experiment,
    explain,
    features,
    launch,
    listings,
    merge,
    microscope,
    over_ray,
    pack,
    report,
    scan,
    serve,
    study,
    train,
    tune,
    using,
)
from kerascnn.commands.terminal import TYPED, WORDS, in_options
from kerascnn.datasets.decoding import MAX_MEGAPIXELS, max_megapixels
from kerascnn.errors import DataError, HostLost, Stopped, TrainingFailed, UsageError, disk_full

OURS = UsageError | DataError | TrainingFailed | HostLost  # which name parameters

app = App(
    name="kerascnn",
    version=__version__,
    help="Build, train and look inside the classic convolutional networks, on Keras 3.",
    help_epilogue="Start with: kerascnn train. With --debug, any command shows the traceback of an error. With "
    "--max-megapixels N, any command reads images of up to N million pixels [default: 178].",
    help_format="plaintext",
    result_action="return_value",
)
app.register_install_completion_command(help="Make TAB complete kerascnn's commands and options in this shell.")
for command in (
    *(train.train, train.lr_find, train.batch_find, launch.launch),
    *map(over_ray.over_ray, (using.predict, using.evaluate, scan.scan, features.features, microscope.microscope)),
    *(using.export, using.suspects, using.doctor, adopt.adopt, serve.serve),
    *(explain.explain, explain.activations, merge.merge),
    *(anatomy.table, anatomy.receptive_field, anatomy.cost, anatomy.draw),
    *(tune.tune, tune.tune_worker, tune.tune_status, tune.tune_report),
    *(report.report, report.compare, study.study, course.course, experiment.app),
):
    app.command(command)
for name, command in {
    "ensemble": experiment.command_of("ensemble"),
    "experiments": experiment.list_experiments,
    "studies": study.list_studies,
    "runs": using.list_runs,
    "formats": using.list_formats,
    "models": listings.list_models,
    "datasets": listings.list_datasets,
    "recipes": listings.list_recipes,
    "searches": tune.list_searches,
}.items():
    app.command(command, name=name)
data_app = App(name="data", help="Look at data before training on it, or pack it.")
data_app.command(listings.check)
data_app.command(pack.pack)
app.command(data_app)


def run_command(argv: typing.Sequence[str]) -> int:
    """Run one command line; returns the exit code: 0 ok, 1 failed, 2 usage, 75 another host of a training is gone,
    130 interrupted, 143 terminated.

    With --debug among the arguments, errors are raised instead of explained; --max-megapixels sets the limit of images.
    """
    arguments = [argument for argument in argv if argument != "--debug"]
    debug = len(arguments) < len(argv)
    before = os.environ.get(MAX_MEGAPIXELS)
    typed, words = TYPED.set(functools.cache(lambda: _options(arguments))), WORDS.set(arguments)
    try:
        _take_max_megapixels(arguments)
        app(arguments, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("kerascnn: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if debug:
            raise
        return _explained(error, TYPED.get()() if isinstance(error, OURS) else {})
    finally:
        TYPED.reset(typed)
        WORDS.reset(words)
        if before is None:
            os.environ.pop(MAX_MEGAPIXELS, None)
        else:
            os.environ[MAX_MEGAPIXELS] = before
    return 0


def _take_max_megapixels(arguments):
    """Move --max-megapixels N, or =N, from the arguments to the environment, where workers find it, too."""
    option = "--max-megapixels"
    place = next((i for i, argument in enumerate(arguments) if argument.partition("=")[0] == option), None)
    if place is None:
        return
    value = arguments.pop(place).partition("=")[2] or (arguments.pop(place) if place < len(arguments) else "''")
    os.environ[MAX_MEGAPIXELS] = value
    max_megapixels()


def main():
    """The program `kerascnn`."""
    for stream in (sys.stdout, sys.stderr):  # names of files may be any bytes, and terminals may know few characters
        stream.reconfigure(errors="backslashreplace")
    warnings.filterwarnings("ignore", module=r"PIL\.")  # about odd tags of files whose pixels are whole
    code = run_command(sys.argv[1:])
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # native libraries say their goodbyes here
    if code and "h5py" in sys.modules:  # a file that the disk had no room for cannot be closed: HDF5 would crash
        os._exit(code)
    sys.exit(code)


def _options(arguments):
    """{parameter: option} of the command that was typed."""
    apps = app.parse_commands(arguments)[1]
    options = {MAX_MEGAPIXELS: "--max-megapixels"}
    if apps[-1].default_command is None:
        return options
    for argument in apps[-1].assemble_argument_collection():
        names = [name for name in argument.names if name.startswith("--") and not name.startswith("--no-")]
        if names:
            options[argument.field_info.name] = names[-1]
    if "model_options" in options:
        options.setdefault("skip", "--model-options skip=")  # of a network's builder
    return options


def _explained(error, options=types.MappingProxyType({})):
    """Print an error in one line, with parameters of the library as options; returns the exit code."""
    code, text = 1, str(error)
    if isinstance(error, OURS):
        text = in_options(text, options)
    if isinstance(error, CycloptsError | UsageError):
        code = 2
        if isinstance(error, CycloptsError):
            text += f" List the options: {' '.join(['kerascnn', *(error.command_chain or ())])} --help"
    elif disk_full(error):
        text = disk_full(error)
    elif isinstance(error, OSError):
        name = error.filename2 or error.filename  # the second one is what a file should have become
        text = f"{error.strerror or error}" + (f": {name}" if name else "")
    elif isinstance(error, Stopped):
        code = 128 + error.signal_number
    elif isinstance(error, HostLost):
        code = os.EX_TEMPFAIL
    elif not isinstance(error, DataError | TrainingFailed):
        text = f"{type(error).__name__}: {error}. This was not foreseen; add --debug to see where it happened."
    print(f"kerascnn: {text}", file=sys.stderr)
    return code
