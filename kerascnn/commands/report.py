"""`kerascnn report` and `compare`: the page of a run, and of several side by side."""

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
    _check_page(out)
    from kerascnn.pages import report as page

    print(page.write(folder, out))


def compare(*run: str, out: Path = Path("compare.html")):
    """Set runs side by side on one page: results, a paired test, curves, and the settings that differ.

    Parameters
    ----------
    run
        two or more runs: their folders, or names under saved_models
    out
        the HTML file
    """
    folders = [runs.find(name) for name in run]
    _check_page(out)
    from kerascnn.pages import compare as page

    print(page.write(folders, out))


def _check_page(out):
    if out is not None and (out.is_dir() or out.suffix != ".html"):
        raise UsageError(f"{out} is not the name of an .html file; nothing was written. Type --out FILE.html")
