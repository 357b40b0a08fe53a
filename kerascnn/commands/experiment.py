"""`kerascnn experiment`: the experiments of the papers on a run's network, each with its table, figure and verdict."""

import dataclasses
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
        print_table(
            ("experiment", "what it is", "source"),
            [(name.replace("_", "-"), f["doc"], f["source"]) for name, f in facts.items()],
        )


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


@app.command
def probes(
    run: Subject,
    data: Data = None,
    /,
    *,
    layers: Layers = None,
    places: int = 2,
    images: int = 1000,
    seed: int = 0,
    out: Out = None,
):
    """Measure how much of the classes linear classifiers read off each layer.

    Parameters
    ----------
    layers
        names of layers, separated by commas [default: every convolution and every hidden dense layer]
    places
        maps are averaged to at most this many rows and columns
    images
        at most how many images of the training split are used, and as many of the test split
    seed
        of the choice of images and of the cross-validation
    """
    check_subject(run)
    with computing() as (say, _):
        from kerascnn.experiments.probes import every_layer
        from kerascnn.experiments.probes import probes as measure

        classifier, loaded, folder = _opened(run, data, out)
        if not loaded.class_names:
            raise UsageError("These images have no labels, which classifiers need. Give a folder of class folders.")
        model, prepared = classifier.model, classifier.preprocessing
        train, test = (_some(split, images, seed) for split in _both_splits(loaded, seed))
        names = every_layer(model) if layers is None else [name.strip() for name in layers.split(",")]
        given = (Prepared(train.images, prepared), train.labels, Prepared(test.images, prepared), test.labels)
        _saved(measure(model, *given, names, places=places, seed=seed, say=say), folder, say)


@app.command
def unit_ablation(
    run: Subject,
    data: Data = None,
    /,
    *,
    layer: Annotated[str | None, Parameter(help="a layer's name [default: the deepest convolution]")] = None,
    fill: Literal["zero", "mean"] = "zero",
    images: int = 1000,
    seed: int = 0,
    out: Out = None,
):
    """Measure which channels of a layer matter, by switching each off.

    Parameters
    ----------
    fill
        what a channel that is off becomes: zero, or its mean over all images
    images
        how many test images are looked at
    seed
        of the choice of images
    """
    check_subject(run)
    with computing() as (say, _):
        model, x, labels, _, folder = _asked(run, data, images, seed, out)
        from kerascnn.experiments.unit_ablation import unit_ablation as measure

        if labels is None:
            raise UsageError("These images have no labels, which the loss needs. Give a folder of class folders.")
        _saved(measure(model, x, labels, layer, fill=fill), folder, say)


@app.command
def nearest(
    run: Subject,
    data: Data = None,
    /,
    *,
    layer: Annotated[str | None, Parameter(help="a layer's name [default: the last layer before the scores]")] = None,
    top: int = 6,
    metric: Literal["euclidean", "cosine"] = "euclidean",
    images: int = 100,
    seed: int = 0,
    out: Out = None,
):
    """Find the training images that a network finds most like test images.

    Parameters
    ----------
    top
        how many neighbours of each image
    metric
        how distance is measured between the features of two images
    images
        how many test images are looked at; five of them are drawn
    seed
        of the choice of images
    """
    check_subject(run)
    with computing() as (say, _):
        from kerascnn.experiments.invariance import usual_layers
        from kerascnn.experiments.nearest import nearest as measure

        classifier, loaded, folder = _opened(run, data, out)
        model, prepared = classifier.model, classifier.preprocessing
        train, test = _both_splits(loaded, seed)
        test = _some(test, images, seed)
        known = {"files": train.files or None}
        if loaded.class_names:
            known |= {"query_labels": test.labels, "labels": train.labels, "class_names": loaded.class_names}
        given = prepared(test.images[:]), Prepared(train.images, prepared), layer or usual_layers(model)[-1]
        _saved(measure(model, *given, top=top, metric=metric, **known), folder, say)


@app.command
def ensemble(
    *runs: Subject,
    data: Annotated[
        str | None, Parameter(help="a data set's name or a folder [default: the first run's test images]")
    ] = None,
    images: int = 10_000,
    seed: int = 0,
    out: Out = None,
):
    """Measure how much better several networks answer together.

    Parameters
    ----------
    runs
        two or more runs or model files with the same classes
    images
        at most how many test images are looked at
    seed
        of the choice of images
    """
    if len(runs) < 2:
        raise UsageError(f"An ensemble has two or more networks; {len(runs)} given. Type RUN RUN ...")
    for run in runs:
        check_subject(run)
    with computing() as (say, _):
        from kerascnn.experiments.ensemble import ensemble as measure

        answers, first = {}, None
        for number, run in enumerate(runs):
            member = _member(run, data, images, seed)
            first = first or member
            _check_together(member, first)
            order = [member.classes.index(name) for name in first.classes]
            name = f"{member.name} ({number + 1})" if member.name in answers else member.name
            answers[name] = member.answers[:, order]
            say(f"{name}: {(answers[name].argmax(1) != first.labels).mean():.2%} errors")
        _saved(measure(answers, first.labels), out or first.folder / "experiments", say)


@dataclasses.dataclass(frozen=True, eq=False)
class _Member:
    """A network of an ensemble and what it answers: `truth` are the files and classes of the images."""

    name: str
    folder: Path
    classes: list
    answers: object
    labels: object
    truth: list


def _member(run, data, images, seed):
    """The _Member of a run, on some of its own test images or of other data."""
    import numpy as np

    from kerascnn.explain.answers import class_probabilities
    from kerascnn.using.class_names import class_indices

    classifier, loaded, _ = _opened(run, data, None)
    if not loaded.class_names:
        raise UsageError("These images have no labels, which errors need. Give a folder of class folders.")
    split = _some(loaded.test or loaded.train or loaded.validation, images, seed)
    labels = class_indices(loaded.class_names, classifier.labels, str(data or loaded.source))[split.labels]
    given = Prepared(split.images, classifier.preprocessing)
    parts = [classifier.model.predict_on_batch(given[start : start + 64]) for start in range(0, len(split), 64)]
    answers = np.asarray(class_probabilities(classifier.model, np.concatenate(parts)))
    truth = [split.files, [loaded.class_names[label] for label in split.labels]]
    return _Member(Path(str(run)).name, classifier.folder, list(classifier.labels), answers, labels, truth)


def _check_together(member, first):
    """Raise a UsageError if two networks cannot answer together, or one may have been trained on the test images."""
    if sorted(member.classes) != sorted(first.classes):
        raise UsageError(f"{member.name} knows other classes than {first.name}, so the two cannot answer together.")
    if member.truth != first.truth:
        raise UsageError(
            f"{member.name} has other test images than {first.name}, and may have been trained on these. Name images "
            "that none of them has seen: --data FOLDER"
        )


def _asked(run, data, images, seed, out):
    """(model, images as it takes them, labels, file names, folder) of some test images; with `images` None the images
    are a function of the rows that are wanted."""
    from kerascnn.using.class_names import class_indices

    classifier, loaded, folder = _opened(run, data, out)
    model, prepared = classifier.model, classifier.preprocessing
    split = loaded.test or loaded.train or loaded.validation
    if images is None:
        return model, lambda rows: prepared(split.images[rows]), split.labels, split.files, folder
    split = _some(split, images, seed)
    labels = None
    if loaded.class_names:
        labels = class_indices(loaded.class_names, classifier.labels, str(data or loaded.source))[split.labels]
    return model, prepared(split.images[:]), labels, split.files, folder


def _opened(run, data, out):
    """(classifier, its data, folder for results)."""
    from kerascnn import using
    from kerascnn.using.classifier import subject

    classifier = subject(run)
    return classifier, using.data_of(classifier, data), out or classifier.folder / "experiments"


def _some(split, images, seed):
    """At most so many images of a split, drawn at random, in their order."""
    import numpy as np

    if images < 1:
        raise UsageError(f"--images {images} is not allowed: it must be at least 1.")
    return split.take(np.sort(np.random.default_rng(seed).permutation(len(split))[:images]))


def _both_splits(loaded, seed):
    """The training and test images of data; where there is one split only, a quarter of it is for the test."""
    import numpy as np
    from sklearn.model_selection import train_test_split

    train, test = loaded.train, loaded.test or loaded.validation
    if train and test:
        return train, test
    one = train or test
    try:
        parts = train_test_split(np.arange(len(one)), test_size=0.25, stratify=one.labels, random_state=seed)
    except ValueError as error:
        raise UsageError(f"These images cannot be split into training and test images: {error}") from None
    return [one.take(np.sort(rows)) for rows in parts]


class Prepared:
    """Images as the network takes them, a slice at a time."""

    def __init__(self, images, preprocessing):
        self.images, self.preprocessing = images, preprocessing

    def __len__(self):
        return len(self.images)

    def __getitem__(self, part):
        return self.preprocessing(self.images[part])


def _saved(result, folder, say):
    path = result.save(folder)
    for finding in result.findings:
        say(finding)
    say(f"{path}, with its numbers and verdict beside it; the list of experiments: {command('experiments')}")
