"""`kerascnn report`: the page of a run."""

from pathlib import Path

from kerascnn import runs
from kerascnn.commands.terminal import RunName
from kerascnn.errors import UsageError


def report(run: RunName, /, *, out: Path | None = None):
    """Write the report of a run: one HTML file with curves, confusion, mistakes and settings, from its folder alone.

    Parameters
    ----------
    out
        the HTML file [default: report.html in the run]
    """
    folder = runs.find(run)
    if out is not None and (out.is_dir() or out.suffix != ".html"):
        raise UsageError(f"{out} is not the name of an .html file; nothing was written. Type --out FILE.html")
    from kerascnn.pages import report as page

    print(page.write(folder, out))
