"""Shared by the commands: a clean terminal, tables, JSON, and the format of an accuracy."""

import contextlib
import contextvars
import json
import math
import os
import re
import shutil
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kerascnn import runs
from kerascnn.errors import UsageError
from kerascnn.models import APPLICATION, FILES, MODELS
from kerascnn.text_table import text_table
from kerascnn.using.exported import is_exported

# Function that returns {parameter: option} for the command that was typed; set by kerascnn.cli.
TYPED = contextvars.ContextVar("TYPED", default=dict)
WORDS = contextvars.ContextVar("WORDS", default=())  # what was typed after `kerascnn`; set by kerascnn.cli, too
Subject = Annotated[
    str,
    Parameter(
        help='a run (its folder, its name under saved_models, or "last"), a .keras or .h5 file (kerascnn adopt), '
        "applications:NAME, or a network's name"
    ),
]
Json = Annotated[bool, Parameter(negative="", help="print JSON instead of text")]
BACKENDS = ("tensorflow", "jax", "torch")
Flag = Annotated[bool, Parameter(negative="")]


@contextlib.contextmanager
def computing(to_stderr=False):
    """Within this block the terminal stays clean; yields what says lines, and the NativeLog.

    Ctrl-C leaves at once, until `let_interrupts_through`: an exception that arises while native libraries are being
    imported may be swallowed, or abort the process.
    """
    from kerascnn.native_log import native_log

    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend not in BACKENDS:
        raise UsageError(f"KERAS_BACKEND={backend!r} is not allowed. Allowed: {', '.join(BACKENDS)}.")

    with native_log() as log:

        def leave(number, frame):
            log.terminal.write("kerascnn: interrupted; nothing was written\n")
            log.terminal.flush()
            os._exit(128 + number)

        in_main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGINT, leave) if in_main else None
        try:
            yield lambda line: print(said(line), file=sys.stderr if to_stderr else sys.stdout, flush=True), log
        finally:
            if in_main:
                signal.signal(signal.SIGINT, before)


def check_split_name(split):
    """Raise a UsageError for what is typed as --split and names none; None is any."""
    if split not in (None, "train", "validation", "test"):
        raise UsageError(f"--split {split!r} is not allowed. Allowed: train, validation, test.")


def check_split(split, data):
    """Raise a UsageError if data lack the split of that name; None is any."""
    if split is not None and split not in data.splits:
        raise UsageError(f"{data.name} has no split {split!r}; it has {', '.join(data.splits)}.")


def check_subject(name):
    """Raise, before Keras is imported, if nothing that a command can look at has that name."""
    if name.startswith(APPLICATION) or name in MODELS:
        return
    if is_exported(name):
        raise UsageError(
            f"{name} is an exported network, which only kerascnn predict takes. Name its run or model file."
        )
    if name.endswith(FILES):
        if not Path(name).expanduser().exists():
            raise UsageError(f"There is no file {name}.")
        return
    runs.find(name)


def in_options(text, options):
    """What the library says of its parameters, in the shell's words: "top=0" is "--top 0", "strict=True" is "--strict".

    Args:
        text: a message of the library.
        options: {parameter: option}; a parameter that is not among them stays as it is. An option may end with the
            name of what it sets and "=".
    """
    if not options:
        return text
    names = "|".join(map(re.escape, options))
    return re.sub(
        rf"(?<![\w./-])({names})=(True\b)?",
        lambda match: options[match[1]] + ("" if match[2] or options[match[1]].endswith("=") else " "),
        text,
    )


def said(line):
    """A line that the library says, with its parameters as options of the command that was typed; a Path as it is."""
    return in_options(line, TYPED.get()()) if isinstance(line, str) and "=" in line else line


@contextlib.contextmanager
def naming(**options):
    """Within this block errors of the library name the options that differ from its parameters: k="--top".

    Parameters that are called as their options are translated for every command (`kerascnn.cli`).
    """
    try:
        yield
    except UsageError as error:
        raise UsageError(in_options(str(error), options)) from None


@contextlib.contextmanager
def saying_warnings(say):
    """Within this block warnings are kept back; those meant for users are said when it ends, each once."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        yield
    for message in dict.fromkeys(str(w.message) for w in told if issubclass(w.category, UserWarning)):
        say(message)


def let_interrupts_through():
    """From here on Ctrl-C is a KeyboardInterrupt again, so that what is being written is tidied up."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def print_json(value):
    print(json_text(value))


def json_text(value):
    """A value as JSON, with null for NaN; names of files may hold bytes that are not UTF-8."""
    return json.dumps(_finite(value), indent=2, ensure_ascii=False, default=_plain).encode("utf-8", "replace").decode()


def _finite(value):
    """The value with None for each NaN and infinite number, which JSON does not have."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(number):
    """NumPy's number as Python's; None for pandas' NA, which says that something is not known."""
    return number.item() if hasattr(number, "item") else None


def print_table(header, rows, align=""):
    """Print a `text_table`; on a terminal, cells that are too long for its lines are folded."""
    print(text_table(header, rows, align, shutil.get_terminal_size().columns if sys.stdout.isatty() else None))


def print_facts(json, registry, header, row, align=""):
    """Print the facts of a registry's names as JSON, or as a table with row(name, facts) for each."""
    facts = {name: registry.facts(name) for name in registry.names()}
    if json:
        print_json(facts)
    else:
        print_table(header, [row(name, of_name) for name, of_name in facts.items()], align)


def one_line(text):
    """Text that a terminal shows in one line: control characters, and bytes that are not UTF-8, become "?"."""
    plain = text.encode("utf-8", "replace").decode()
    return "".join(character if character.isprintable() else "?" for character in plain)


def fraction(result, name):
    low, high = result[f"{name}_interval"]
    return f"{100 * result[name]:.2f}% (95% interval {100 * low:.2f} to {100 * high:.2f})"
