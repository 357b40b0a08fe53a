"""What the commands share: a clean terminal, tables, JSON, and how an accuracy is written."""

import contextlib
import json
import sys
from typing import Annotated

from cyclopts import Parameter

RunName = Annotated[str, Parameter(help='a run: its folder, its name under saved_models, or "last"')]
Json = Annotated[bool, Parameter(negative="", help="print JSON instead of text")]
Flag = Annotated[bool, Parameter(negative="")]


@contextlib.contextmanager
def computing(to_stderr=False):
    """Within this block the terminal stays clean; yields what says lines, and the NativeLog."""
    from kerascnn.native_log import native_log

    with native_log() as log:
        yield lambda line: print(line, file=sys.stderr if to_stderr else sys.stdout, flush=True), log


def print_json(value):
    print(json.dumps(value, indent=2, ensure_ascii=False, default=lambda number: number.item()))  # NumPy's


def print_table(header, rows, align=""):
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


def fraction(result, name):
    low, high = result[f"{name}_interval"]
    return f"{100 * result[name]:.2f}% (95% interval {100 * low:.2f} to {100 * high:.2f})"
