"""`kerascnn launch`: several processes on this machine train one network, as hosts would."""

import importlib.util
import os
import shlex
import sys
from typing import Annotated

from cyclopts import App, Parameter

from kerascnn import runs
from kerascnn.commands.train import Fields, asked_recipe, train
from kerascnn.errors import UsageError
from kerascnn.hosts import check_hosts


def launch(
    *arguments: Annotated[str, Parameter(allow_leading_hyphen=True)],
    processes: int,
    restarts: int = 3,
):
    """Train with several processes on this machine, which share each batch as hosts would: launch ... train ...

    This starts "kerascnn train ... --hosts auto" once per process, each on its share of the processors, and sets what
    they need to find each other. If one dies, all resume from the last checkpoint. Ctrl-C saves and stops. On several
    machines, the cluster starts the processes instead (docs/many-machines.md).

    Parameters
    ----------
    arguments
        train and its options, after those of launch
    processes
        how many processes
    restarts
        how often to restart all after one has died
    """
    for name, value, least in (("--processes", processes, 1), ("--restarts", restarts, 0)):
        if value < least:
            raise UsageError(f"{name} {value} is not allowed: it must be {least} or more.")
    if not arguments or arguments[0] != "train":
        typed = f", not {arguments[0]!r}" if arguments else ""
        raise UsageError(f"launch starts train{typed}. Type for example: kerascnn launch --processes 2 train digits")
    check_hosts("auto", os.environ.get("KERAS_BACKEND", "jax"))
    if importlib.util.find_spec("jax") is None:
        raise UsageError("launch needs JAX. Install it: pip install 'kerascnn[jax]'")
    from kerascnn.launching import Launch

    out = _new_folder(arguments[1:], processes)
    more = [] if out is None else ["--out", str(out)]
    again = "the same command" if out is None else f"the same command with --out {shlex.quote(str(out))}"
    code = Launch([*arguments, *more, "--hosts", "auto"], processes, restarts, _say, again).run()
    if out is not None and not any(out.iterdir()):
        out.rmdir()
    if code:
        sys.exit(code)


def _say(line):
    print(line, file=sys.stderr)  # the output is that of the first process, which may be JSON


def _new_folder(arguments, processes):
    """The folder of a new run if none was typed; else None.

    Raises:
        UsageError: the options are not those of train.
    """
    app = App(name="train", result_action="return_value")
    app.default(train)
    _, bound, _ = app.parse_args(arguments, exit_on_error=False, print_error=False)
    typed = bound.arguments
    if typed.get("hosts") is not None:
        raise UsageError("launch sets --hosts itself. Leave it out.")
    if typed.get("resume") is not None:
        return None
    options = {name: typed.get(name) for name in ("data", "recipe", "config")}
    recipe = asked_recipe(**options, fields=typed.get("fields", Fields()))
    check_share(recipe.batch_size, processes)
    if typed.get("out") is not None:
        return None
    return runs.create(None, model=recipe.model, data=recipe.data).folder


def check_share(batch_size, processes):
    """Raise a UsageError if a batch cannot be shared out evenly."""
    if batch_size % processes:
        near = max(processes, batch_size - batch_size % processes)
        raise UsageError(
            f"--batch-size {batch_size} cannot be shared out evenly among {processes} processes. Type "
            f"--batch-size {near}, or another multiple of {processes}."
        )
