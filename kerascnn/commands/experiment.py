"""`kerascnn experiment`: the experiments of the papers on a run's network, each with its table, figure and verdict."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from kerascnn.commands.terminal import Json, Subject, check_subject, computing, print_json, print_table
from kerascnn.errors import UsageError, command
from kerascnn.experiments import EXPERIMENTS

app = App(name="experiment", help="Experiments of the papers on a run's network.")
Data = Annotated[str | None, Parameter(help="a data set's name, a folder or a file [default: the run's test images]")]
Layers = Annotated[str | None, Parameter(help="names of layers, separated by commas")]
Out = Annotated[Path | None, Parameter(help="folder for figure, numbers and verdict [default: in the run]")]


def list_experiments(*, json: Json = False):
    """List the experiments."""
    facts = {name: EXPERIMENTS.facts(name) for name in EXPERIMENTS.names()}
    if json:
        print_json(facts)
    else:
        print_table(("experiment", "what it is", "source"), [(n, f["doc"], f["source"]) for n, f in facts.items()])


@app.command
def invariance(
    run: Subject,
    data: Data = None,
    /,
    *,
    change: Literal[
        "translation", "horizontal", "scale", "rotation", "brightness", "contrast", "blur", "noise"
    ] = "translation",
    amounts: Annotated[tuple[float, ...], Parameter(consume_multiple=True, negative="")] = (),
    layers: Layers = None,
    fill: Literal["zeros", "mirror", "mean"] = "zeros",
    images: int = 100,
    seed: int = 0,
    out: Out = None,
):
    """Measure how far layers' features move as images are moved, scaled, turned or spoilt.

    Parameters
    ----------
    change
        what is done to the images
    amounts
        how much, in the change's own unit: pixels, times as large, degrees, standard deviations
    fill
        what comes in over the border
    images
        how many test images are looked at
    seed
        of the choice of images and of the noise
    """
    check_subject(run)
    with computing() as (say, _):
        model, x, labels, _, folder = _asked(run, data, images, seed, out)
        from kerascnn.experiments.invariance import invariance as measure

        names = None if layers is None else [name.strip() for name in layers.split(",")]
        result = measure(model, x, labels, change=change, amounts=amounts or None, layers=names, fill=fill, seed=seed)
        _saved(result, folder, say)


@app.command
def correspondence(
    run: Subject,
    data: Data = None,
    /,
    *,
    boxes: Path,
    layers: Layers = None,
    repeats: int = 10,
    seed: int = 0,
    out: Out = None,
):
    """Measure whether a network treats the same part of images alike, wherever it is.

    Parameters
    ----------
    boxes
        CSV file with columns file, part, top, left, bottom, right: pixels of the image as the network sees it
    layers
        names of layers, separated by commas [default: the last convolution and the last layer before the scores]
    repeats
        how often random places are hidden, to compare with
    seed
        of the random places
    """
    if not boxes.is_file():
        raise UsageError(f"There is no file {boxes}. Its columns are file, part, top, left, bottom, right.")
    check_subject(run)
    with computing() as (say, _):
        model, x, _, files, folder = _asked(run, data, None, seed, out)
        from kerascnn.experiments.correspondence import correspondence as measure
        from kerascnn.experiments.correspondence import read_boxes
        from kerascnn.experiments.invariance import usual_layers

        rows, parts = read_boxes(boxes, files)
        names = usual_layers(model)[1:] if layers is None else [name.strip() for name in layers.split(",")]
        _saved(measure(model, x(rows), parts, names, repeats=repeats, seed=seed), folder, say)


def _asked(run, data, images, seed, out):
    """(model, images as it takes them, labels, file names, folder) of some test images; with `images` None the images
    are a function of the rows that are wanted."""
    import numpy as np

    from kerascnn import using
    from kerascnn.using.class_names import class_indices
    from kerascnn.using.classifier import subject

    classifier = subject(run)
    model, prepared, folder = classifier.model, classifier.preprocessing, classifier.folder
    loaded = using.data_of(classifier, data)
    split = loaded.test or loaded.train or loaded.validation
    if images is None:
        return (
            model,
            lambda rows: prepared(split.images[rows]),
            split.labels,
            split.files,
            out or folder / "experiments",
        )
    if images < 1:
        raise UsageError(f"--images {images} is not allowed: it must be at least 1.")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(split))[:images])
    split = split.take(chosen)
    labels = None
    if loaded.class_names:
        labels = class_indices(loaded.class_names, classifier.labels, str(data or loaded.source))[split.labels]
    return model, prepared(split.images[:]), labels, split.files, out or folder / "experiments"


def _saved(result, folder, say):
    path = result.save(folder)
    for finding in result.findings:
        say(finding)
    say(f"{path}, with its numbers and verdict beside it; the list of experiments: {command('experiments')}")
