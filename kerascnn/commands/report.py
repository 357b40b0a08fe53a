"""`kerascnn report` and `compare`: a page for a run or a model file, and a page for several runs side by side."""

from pathlib import Path
from typing import Literal

from kerascnn import runs
from kerascnn.commands.terminal import Subject, check_subject, computing
from kerascnn.errors import UsageError, command
from kerascnn.explain import EXPLANATIONS
from kerascnn.models import APPLICATION, FILES, MODELS


def report(
    run: Subject,
    data: str | None = None,
    /,
    *,
    look: str | None = None,
    axis: Literal["images"] | None = None,
    out: Path | None = None,
):
    """Write a report: one HTML file with results, mistakes, curves, a map of the images, the network and the settings.

    Parameters
    ----------
    data
        a data set's name, or a folder of class folders; needed for a model file; for a run, images other than its own
    look
        what to draw over the images: a method of explain [default: grad_cam]
    axis
        images: draw a run's curves over the training images that the network had seen [default: over epochs, or over
        steps where --eval-every is set]
    out
        the HTML file [default: report.html in the run, or in a folder named after the model]
    """
    check_subject(run)
    _check_page(out)
    if look is not None:
        EXPLANATIONS.facts(look)  # raises for an unknown one
    if data is None and _is_no_run(run):
        raise UsageError(
            f"{run} is not a run, so it has no images of its own. "
            f"Type: {command('report', run)} FOLDER_OF_CLASS_FOLDERS"
        )
    if axis is not None and (data is not None or _is_no_run(run)):
        raise UsageError(
            f"--axis {axis} goes with a run's own report, which has curves. Leave it out, or leave out DATA."
        )
    with computing() as (say, _):
        from kerascnn.pages import making

        if data is not None:
            say(making.of_model(run, data, look=look, out=out))
            return
        folder = Path(run).parent if run.endswith("best.keras") else run
        page, lacks = making.of_run(folder, look=look, out=out, axis=axis)
        say(page)
        if lacks:
            say(lacks)


def _is_no_run(name):
    if name.endswith(FILES):
        return not (Path(name).name == "best.keras" and (Path(name).parent / "run.json").exists())
    return name.startswith(APPLICATION) or (name in MODELS and not runs.is_run(name))


def compare(*run: str, axis: Literal["images"] | None = None, out: Path = Path("compare.html")):
    """Compare runs side by side on one page: results, a paired test, curves, and the settings that differ.

    Parameters
    ----------
    run
        two or more runs: their folders, or names under saved_models
    axis
        images: draw the curves over the training images that each network had seen [default: over epochs or steps, or
        over images if some runs count epochs and others steps]
    out
        the HTML file
    """
    folders = [runs.find(name) for name in run]
    _check_page(out)
    from kerascnn.pages import compare as page

    print(page.write(folders, out, axis))


def _check_page(out):
    if out is not None and (out.is_dir() or out.suffix != ".html"):
        raise UsageError(f"{out} is not the name of an .html file; nothing was written. Type --out FILE.html")
