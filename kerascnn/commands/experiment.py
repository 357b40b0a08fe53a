"""`kerascnn experiment NAME`: a command for each registered experiment.

Its options are the keyword arguments of the function `command` in the experiment's file. They are read from the source
text, so that help and messages about typos appear before Keras is imported.
"""

import ast
import inspect
import sys
from pathlib import Path
from typing import Annotated, Literal, get_origin

from cyclopts import App, Parameter

from kerascnn.commands.terminal import (
    Json,
    Subject,
    check_subject,
    computing,
    let_interrupts_through,
    print_facts,
)
from kerascnn.datasets import DATASETS
from kerascnn.errors import UsageError, command
from kerascnn.experiments import EXPERIMENTS

app = App(name="experiment", help="Repeat experiments of the papers with a run's network.")
Data = Annotated[str | None, Parameter(help="a data set's name, a folder or a file [default: the run's test images]")]
SEVERAL = "two or more runs or model files, then the data, unless they are the runs' own test images"
Out = Annotated[Path | None, Parameter(help="folder for the figure, the numbers and the verdict [default: in the run]")]
WORDS = {"Literal": Literal, "Path": Path}  # what annotations of `command` may be made of, besides Python's own
USUAL = '''
def command(asked, *, images: int = 100, seed: int = 0):
    """
    Parameters
    ----------
    images
        how many test images to use
    seed
        seed for the choice of images
    """
'''


def list_experiments(*, json: Json = False):
    """List the experiments."""
    header = ("experiment", "what it is", "source")
    print_facts(json, EXPERIMENTS, header, lambda name, f: (name.replace("_", "-"), f["doc"], f["source"]))


def command_of(name):
    """The command of an experiment as cyclopts takes it: a function with its signature and help."""
    facts = EXPERIMENTS.facts(name)
    node = _command(EXPERIMENTS.file(name).read_text(encoding="utf-8")) or _command(USUAL)
    several = facts.get("several", False)
    kinds = inspect.Parameter
    if several:
        given = [kinds("runs", kinds.VAR_POSITIONAL, annotation=Annotated[str, Parameter(help=SEVERAL)])]
        data = kinds("data", kinds.KEYWORD_ONLY, default=None, annotation=Data)
    else:
        given = [kinds("run", kinds.POSITIONAL_ONLY, annotation=Subject)]
        data = kinds("data", kinds.POSITIONAL_ONLY, default=None, annotation=Data)
    out = kinds("out", kinds.KEYWORD_ONLY, default=None, annotation=Out)
    signature = inspect.Signature([*given, data, *_options(node.args), out])

    def function(*arguments, **options):
        bound = signature.bind(*arguments, **options)
        bound.apply_defaults()
        values = dict(bound.arguments)
        runs, data = values.pop("runs") if several else (values.pop("run"),), values.pop("data")
        if several and data is None:
            runs, data = _data_last(runs)
        _perform(name, facts, runs, data, values.pop("out"), values)

    function.__name__ = name
    function.__signature__ = signature
    function.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    doc = inspect.cleandoc(ast.get_docstring(node) or "")
    function.__doc__ = f"{facts['doc']}\n\n{doc}" if doc.startswith("Parameters") else doc or facts["doc"]
    return function


def _data_last(runs):
    """(runs, data): the last of several names is the data if it is not a network and may be data."""
    *others, last = runs or ("",)
    try:
        check_subject(last)
    except UsageError:
        if others and (last in DATASETS or Path(last).expanduser().exists()):
            return tuple(others), last
    return runs, None


def _command(text):
    """The syntax tree of the function `command` in a source text, or None."""
    start = text.find("\ndef command(")
    return None if start < 0 else ast.parse(text[start:]).body[0]


def _options(arguments):
    """The keyword arguments of a function's syntax tree, as inspect has them."""
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        kind = eval(compile(ast.Expression(argument.annotation), argument.arg, "eval"), dict(WORDS))
        if get_origin(kind) is tuple:
            kind = Annotated[kind, Parameter(consume_multiple=True, negative="")]
        elif kind is bool:
            kind = Annotated[kind, Parameter(negative="")]
        given = inspect.Parameter.empty if default is None else ast.literal_eval(default)
        yield inspect.Parameter(argument.arg, inspect.Parameter.KEYWORD_ONLY, default=given, annotation=kind)


def _perform(name, facts, runs, data, out, options):
    """Open what was named, do the experiment, and save and say what came out."""
    if facts.get("several") and len(runs) < 2:
        raise UsageError(f"An {name} has two or more networks; {len(runs)} given. Type RUN RUN ...")
    for run in runs:
        check_subject(run)
    with computing() as (say, _):
        from kerascnn.experiments.asked import Asked, usual

        experiment = EXPERIMENTS.get(name)
        let_interrupts_through()
        asked = Asked(runs, data, out, say)
        result = getattr(sys.modules[experiment.__module__], "command", usual(experiment))(asked, **options)
        path = result.save(asked.folder)
        for finding in result.findings:
            say(finding)
        say(f"{path}, with its numbers and verdict next to it; list of experiments: {command('experiments')}")


for _name in EXPERIMENTS.names():
    app.command(command_of(_name), name=_name.replace("_", "-"))
