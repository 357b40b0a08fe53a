"""How well linear classifiers can tell the classes from each layer (Zeiler and Fergus 2013, section 5.3 and table 7).

The network stays as it is; a linear support vector machine and a softmax classifier are trained on the features of each
layer. The paper uses Caltech-101 and -256, and every feature of a layer. Here maps are averaged to a few places first,
so that early layers with their large maps can be compared with late ones in little memory.
"""

import functools
import itertools
import tempfile

import numpy as np
import pandas
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from kerascnn.dataset_scan.scanned_layers import scanned_layers
from kerascnn.errors import UsageError, counted, unknown
from kerascnn.experiments import register
from kerascnn.experiments.asked import layer_names, some
from kerascnn.experiments.classifiers import (
    COLUMNS,
    accuracy_panel,
    chance,
    check_folds,
    check_numbers,
    draw_accuracies,
    draw_chance,
    judged,
)
from kerascnn.experiments.invariance import hidden_layers
from kerascnn.experiments.kept import Kept, blocks
from kerascnn.experiments.outcome import Outcome, mean_interval, told_interval
from kerascnn.explain.recorded import activations
from kerascnn.explain.subjects import opaque_step
from kerascnn.network.plan import make_plan
from kerascnn.plots import BLUE, ORANGE
from kerascnn.processes import available_memory
from kerascnn.progress import Progress
from kerascnn.using.features import feature_names

CLASSIFIERS = {
    "svm": lambda seed: LinearSVC(dual="auto", max_iter=5000, random_state=seed),
    "softmax": lambda seed: LogisticRegression(max_iter=2000, tol=1e-3, random_state=seed),
}
COPIES = 4  # of a layer's features at once: scaled, split for cross-validation, in float64
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)


@register(source="Zeiler and Fergus 2013, table 7")
def probes(
    model,
    images,
    labels,
    test_images,
    test_labels,
    layers,
    *,
    places=2,
    classifiers=("svm", "softmax"),
    strengths=STRENGTHS,
    folds=3,
    batch_size=64,
    seed=0,
    keep=None,
    say=None,
):
    """Accuracy of linear classifiers on the features of each layer.

    One pass over the images gives the features of all layers. They are stored in files, and only one layer at a time is
    in memory. Each feature is scaled to mean 0 and standard deviation 1 over the training images.

    Args:
        model: keras.Model with one image input; its weights stay as they are.
        images, test_images: float (N, H, W, C) as the model takes them, or anything of that length that gives such
            arrays for slices.
        labels, test_labels: int (N,).
        layers: names of layers, in the order of the figure.
        places: maps are averaged to at most this many rows and columns.
        classifiers: of "svm" (linear, squared hinge loss) and "softmax" (logistic regression).
        strengths: values of C, the inverse of the regularisation; cross-validation on the training images chooses one.
        folds: number of folds of this cross-validation.
        batch_size: images computed at once; the result does not depend on it.
        seed: seed of the folds and the solvers.
        keep: folder in which features and results are saved, so that a stopped experiment continues; None: the features
            are stored in a temporary folder.
        say: called with lines of progress.
    Returns:
        Outcome. Table: layer, features (how many), classifier, strength (the chosen C), validation (mean accuracy
        over the folds), accuracy (of the test images), low and high (its 95% Wilson interval), images. Arrays:
        "<layer>/<classifier>": bool (N,), which test images are classified correctly.
    Raises:
        UsageError: a layer or classifier is unknown, a layer gives the class probabilities, the numbers of labels and
            images differ, or a class has fewer training images than folds.
    """
    names = feature_names(make_plan(model, opaque_step), layers)
    labels, test_labels = np.asarray(labels), np.asarray(test_labels)
    _check(images, labels, test_images, test_labels, classifiers, places, folds)
    rows, arrays = [], {}
    with tempfile.TemporaryDirectory(prefix="kerascnn-probes-") as folder:
        folder = folder if keep is None else keep
        train = pooled_features(model, images, names, places, batch_size, folder, say)
        test = pooled_features(model, test_images, names, places, batch_size, folder, say)
        progress = Progress("classifier", len(names) * len(classifiers), say)
        settings = model, images, labels, test_images, test_labels, places, strengths, folds, seed
        kept = Kept(keep, *settings, progress=progress)
        for name in names:
            here = functools.lru_cache(1)(lambda name=name: (train(name), labels, test(name), test_labels))
            for kind in classifiers:
                choice = scaled(kind, seed), here, strengths, folds, seed
                (size, *numbers), arrays[f"{name}/{kind}"] = judged(kept, f"{name}, {kind}", *choice)
                rows.append((name, size, kind, *numbers))
    table = pandas.DataFrame(rows, columns=["layer", "features", "classifier", *COLUMNS[1:]])
    level = chance(labels, test_labels)
    return Outcome("probes", table, _findings(names, arrays), lambda: _figure(table, level, model.name), arrays)


def pooled_features(model, images, names, places, batch_size, folder, say=None):
    """Function (layer) -> float32 (N, features) of several layers from one pass over images.

    They are stored in a folder, in files of 256 images each; what is there already is not computed again.
    """
    parts = blocks(len(images), 256)
    progress = Progress(f"{counted(len(images), 'image')}, block", len(parts), say)
    kept = Kept(folder, model, images, names, places, progress=progress)

    def of_block(part):
        features_of = {name: [] for name in names}
        for start in range(part.start, part.stop, batch_size):
            batch = np.asarray(images[start : min(start + batch_size, part.stop)], "float32")
            for name, maps in activations(model, batch, names, batch_size=batch_size).items():
                features_of[name].append(pooled(maps, places).reshape(len(batch), -1))
        return {name: np.concatenate(features) for name, features in features_of.items()}

    for part in parts:
        sizes = kept.measure(f"features {part.start}", lambda part=part: of_block(part))
        for name in names:
            _check_memory(name, sizes[name].shape[1], len(images), places)

    def features(name):
        return np.concatenate([kept.saved(f"features {part.start}", name) for part in parts])

    return features


def _check_memory(name, size, count, places):
    """Raise a UsageError if what the classifiers make of so many features of `count` images does not fit in memory."""
    needed, free = COPIES * 4 * size * count, available_memory()
    if needed > free:
        fewer = f", or places={places // 2}" if places > 1 else ""
        raise UsageError(
            f"{size:,} features at {name} of {counted(count, 'image')} need about {needed / 2**30:.1f} GB with what "
            f"the classifiers make of them, and {free / 2**30:.1f} GB are free. Give fewer images{fewer}."
        )


def pooled(maps, places):
    """Maps (N, rows, columns, C), averaged to at most `places` rows and columns of nearly equal parts."""
    if maps.ndim != 4:
        return maps
    for axis in (1, 2):
        size = maps.shape[axis]
        edges = np.linspace(0, size, min(places, size) + 1).astype(int)
        sums = np.add.reduceat(maps, edges[:-1], axis)
        shape = [1] * 4
        shape[axis] = -1
        maps = sums / np.diff(edges).reshape(shape)
    return maps


def every_layer(model):
    """Names of every convolution, as the next layer sees it, and of every dense layer before the scores."""
    plan = make_plan(model, opaque_step)
    deep, dense = hidden_layers(plan)
    names = [each.output for each in scanned_layers(model) if each.layer in deep] if deep else []
    order = list(plan.layers)
    return sorted({*names, *dense}, key=lambda name: order.index(name.partition("#")[0]))


def scaled(kind, seed):
    """A linear classifier of scikit-learn, "svm" or "softmax", behind a scaling of its features."""
    return make_pipeline(StandardScaler(), CLASSIFIERS[kind](seed))


def _check(images, labels, test_images, test_labels, classifiers, places, folds):
    for kind in classifiers:
        if kind not in CLASSIFIERS:
            raise unknown("classifier", kind, CLASSIFIERS)
    check_numbers(images, labels, test_images, test_labels)
    if places < 1 or folds < 2:
        raise UsageError(f"places={places}, folds={folds} is not allowed: at least 1 place and 2 folds are needed.")
    check_folds(labels, folds)


def _findings(names, arrays):
    """Whether the last layer tells more than the first, and which layer tells most, for each classifier."""
    sentences = []
    for kind in dict.fromkeys(key.rpartition("/")[2] for key in arrays):
        correct = [arrays[f"{name}/{kind}"].astype(float) for name in names]
        accuracies = [values.mean() for values in correct]
        best = int(np.argmax(accuracies))
        sentences.append(f"{kind}: the best layer is {names[best]}, with {accuracies[best]:.1%} of the test images.")
        if len(names) > 1:
            mean, low, high = mean_interval(correct[-1] - correct[0])
            verdict = "rises" if low > 0 else "falls" if high < 0 else "does not measurably change"
            drops = sum(after < before for before, after in itertools.pairwise(accuracies))
            steps = f"with {drops or 'no'} of {len(names) - 1} steps downwards"
            sentences.append(
                f"{kind}: accuracy {verdict} from {names[0]} to {names[-1]}: by {100 * mean:+.1f} points "
                f"{told_interval(100 * low, 100 * high, len(correct[0]), form='{:+.1f}')}, {steps}."
            )
    return tuple(sentences)


def _figure(table, level, model):
    names = list(dict.fromkeys(table["layer"]))
    title = f"{model}: classifiers on the features of each layer\n{table['images'].iloc[0]} test images, 95% intervals"
    figure, axes = accuracy_panel(max(5.0, 0.75 * len(names) + 2), title)
    for number, (kind, colour) in enumerate(zip(CLASSIFIERS, (BLUE, ORANGE), strict=True)):
        rows = table[table["classifier"] == kind]
        if len(rows):
            places = np.array([names.index(name) for name in rows["layer"]]) + 0.08 * number
            label = {"svm": "linear SVM", "softmax": "softmax"}[kind]
            draw_accuracies(axes, places, rows, color=colour, label=label)
    draw_chance(axes, level)
    turned = {"rotation": 45, "ha": "right"} if len(names) > 5 else {}
    axes.set_xticks(range(len(names)), names, **turned)
    axes.legend(frameon=False, fontsize="small")
    return figure


def command(asked, *, layers: str | None = None, places: int = 2, images: int = 1000, seed: int = 0):
    """Measure how well linear classifiers can tell the classes from the features of each layer.

    Parameters
    ----------
    layers
        names of layers, separated by commas [default: every convolution and every hidden dense layer]
    places
        maps are averaged to at most this many rows and columns
    images
        largest number of images to use from the training split, and from the test split
    seed
        seed for the choice of images and for the cross-validation
    """
    asked.need_labels("classifiers need")
    train, test = (some(split, images, seed) for split in asked.both(seed))
    chosen = layer_names(layers) or every_layer(asked.model)
    given = asked.prepared(train), train.labels, asked.prepared(test), test.labels
    options = {"places": places, "seed": seed, "keep": asked.kept("probes"), "say": asked.say}
    return probes(asked.model, *given, chosen, **options)
