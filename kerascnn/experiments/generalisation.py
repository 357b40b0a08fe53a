"""Are the features of a trained network useful on other data? (Zeiler and Fergus 2013, section 5.2 and tables 4 to 6)

A softmax classifier is trained on the features of a layer, which stay as they are, with few and with more images of
each class. The same network, with fresh weights, is trained only on the same images. The paper applies a network
trained on ImageNet to Caltech-101, Caltech-256 and PASCAL. The result here also gives the number of images at which
training from scratch catches up.
"""

import functools
import tempfile

import numpy as np
import pandas
from matplotlib.ticker import NullFormatter

from kerascnn.errors import UsageError, counted
from kerascnn.experiments import register
from kerascnn.experiments.asked import some
from kerascnn.experiments.classifiers import accuracy_panel, chance, check_numbers, draw_chance, fitted
from kerascnn.experiments.invariance import usual_layers
from kerascnn.experiments.kept import Kept
from kerascnn.experiments.outcome import Outcome, mean_interval, told_interval
from kerascnn.experiments.probes import pooled_features, scaled
from kerascnn.experiments.softmax_head import predicted, trained, with_softmax
from kerascnn.explain.subjects import opaque_step
from kerascnn.network.plan import make_plan
from kerascnn.plots import BLUE, ORANGE
from kerascnn.progress import Progress
from kerascnn.training.evaluate import interval
from kerascnn.using.features import feature_place

FROZEN, SCRATCH = "frozen features", "from scratch"
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
FOLDS = 3


@register(source="Zeiler and Fergus 2013, tables 4 to 6")
def generalisation(
    model,
    images,
    labels,
    test_images,
    test_labels,
    layer=None,
    *,
    counts=(15, 30, 60, None),
    repeats=3,
    steps=500,
    train_batch=32,
    learning_rate=1e-3,
    batch_size=64,
    seed=0,
    keep=None,
    say=None,
):
    """Accuracy on other data of a softmax classifier on frozen features, and of the same network trained from scratch.

    Args:
        model: keras.Model with one image input; its weights stay as they are.
        images, test_images: float (N, H, W, C) as the model takes them, or anything of that length that gives such
            arrays for slices and for arrays of numbers.
        labels, test_labels: int (N,), the classes of these data, from 0.
        layer: a layer's name; maps are averaged over their places. None: the last layer before the scores.
        counts: training images of each class; None: all of them.
        repeats: how often images are drawn and a classifier is trained for each count.
        steps: steps of training from scratch, with Adam, whose learning rate falls to 0 along a cosine.
        train_batch: images per step, or all images if there are fewer.
        learning_rate: learning rate at the start.
        batch_size: images whose features are computed at once; the result does not depend on it.
        seed: seed of the draws, the weights and the cross-validation that chooses the regularisation of the softmax
            classifier.
        keep: folder in which features and measurements are saved, so that a stopped experiment continues; None: none.
        say: called with lines of progress.
    Returns:
        Outcome. Table: images_per_class, method ("frozen features", "from scratch"), accuracy (mean over the repeats),
        low and high (its 95% interval: over the repeats by Student's t; where there is one, or all images are taken,
        over the test images by Wilson), repeats, test_images. Arrays: "accuracy" (methods, counts, repeats), "counts"
        (mean images per class), "crossing" (images per class, or nan).
    Raises:
        UsageError: a class has fewer images than asked for, or the layer is unknown.
    """
    labels, test_labels = np.asarray(labels), np.asarray(test_labels)
    layer = usual_layers(model)[-1] if layer is None else layer
    feature_place(make_plan(model, opaque_step), layer)
    _check(images, labels, test_images, test_labels, counts, repeats, steps)
    counts = sorted(counts, key=lambda count: len(labels) if count is None else count)
    with tempfile.TemporaryDirectory(prefix="kerascnn-generalisation-") as folder:
        folder = folder if keep is None else keep
        options = [layer], 1, batch_size, folder, say
        needed = np.unique(np.concatenate([drawn(labels, *draw) for draw in _draws(counts, repeats, seed)]))
        features = pooled_features(model, Taken(images, needed), *options)(layer)
        test = pooled_features(model, test_images, *options)(layer)
    progress = Progress("training", 2 * len(counts) * repeats, say)
    settings = model, images, labels, test_images, test_labels, layer, steps, train_batch, learning_rate, seed
    kept = Kept(keep, *settings, progress=progress)
    accuracy = np.zeros((2, len(counts), repeats))
    for place, count in enumerate(counts):
        for repeat in range(repeats):
            rows = drawn(labels, count, np.random.default_rng([seed, repeat]))

            def by_features(rows=rows, count=count, place=place, repeat=repeat):
                if count is None and repeat:  # all images, as in the first draw
                    return accuracy[0, place, 0]
                of_rows = features[np.searchsorted(needed, rows)]
                chosen = fitted(scaled("softmax", seed), of_rows, labels[rows], STRENGTHS, FOLDS, seed)
                return (chosen.predict(test) == test_labels).mean()

            def by_training(rows=rows, repeat=repeat):
                fresh = with_softmax(model, layer, int(labels.max()) + 1, [seed, repeat])
                trained(fresh, images, labels, rows, steps, train_batch, learning_rate, [seed, repeat])
                return (predicted(fresh, test_images, batch_size) == test_labels).mean()

            for method, function in enumerate((by_features, by_training)):
                name = f"{(FROZEN, SCRATCH)[method]}, {count or 'all'} images a class, draw {repeat + 1}"
                tell = functools.partial("{}: {:.1%}".format, name)
                accuracy[method, place, repeat] = kept.measure(name, function, tell)
    sizes = np.array([len(drawn(labels, n, np.random.default_rng(0))) / len(np.unique(labels)) for n in counts])
    table = _table(accuracy, sizes, len(test_labels), counts)
    cross = crossing(sizes, *accuracy.mean(2))
    arrays = {"accuracy": accuracy, "counts": sizes, "crossing": np.array(cross)}
    level = chance(labels, test_labels)
    title = f"{model.name}: features of {layer} on other data"
    said = _findings(accuracy, sizes, cross, steps)
    return Outcome("generalisation", table, said, lambda: _figure(table, cross, level, title), arrays)


class Taken:
    """Some of the images, a slice at a time."""

    def __init__(self, images, rows):
        self.images, self.rows = images, rows
        self.origin = rows, images

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, part):
        return self.images[self.rows[part]]


def _draws(counts, repeats, seed):
    """(images of each class, random generator) of every draw."""
    return [(count, np.random.default_rng([seed, repeat])) for count in counts for repeat in range(repeats)]


def drawn(labels, count, rng):
    """Rows of `count` images of each class, drawn at random, in their original order; all rows if it is None."""
    if count is None:
        return np.arange(len(labels))
    return np.sort(np.concatenate([rng.permutation(np.flatnonzero(labels == c))[:count] for c in np.unique(labels)]))


def crossing(sizes, frozen, scratch):
    """Images per class at which training from scratch reaches the frozen features, on a logarithmic scale; the smallest
    size if it is ahead from the start, nan if it never catches up."""
    ahead = np.asarray(scratch) - np.asarray(frozen)
    if ahead[0] >= 0:
        return float(sizes[0])
    for place in range(1, len(sizes)):
        if ahead[place] >= 0:
            share = -ahead[place - 1] / (ahead[place] - ahead[place - 1])
            low, high = np.log(sizes[place - 1]), np.log(sizes[place])
            return float(np.exp(low + share * (high - low)))
    return float("nan")


def _check(images, labels, test_images, test_labels, counts, repeats, steps):
    check_numbers(images, labels, test_images, test_labels)
    if not counts or repeats < 1 or steps < 1:
        raise UsageError(f"{counts=}, {repeats=}, {steps=} is not allowed: one or more of each are needed.")
    classes, sizes = np.unique(labels, return_counts=True)
    least = classes[sizes.argmin()]
    for count in counts:
        if count is not None and not FOLDS <= count <= sizes.min():
            raise UsageError(
                f"counts={count} is not allowed: class {least} has {counted(int(sizes.min()), 'training image')}, and "
                f"the cross-validation needs {FOLDS}. Give counts from {FOLDS} to {sizes.min()}, or all."
            )
    if sizes.min() < FOLDS or len(classes) < 2:
        raise UsageError(f"Class {least} has {sizes.min()} training images; two classes with {FOLDS} each are needed.")


def _table(accuracy, sizes, tests, counts):
    rows = []
    for method, of_method in zip((FROZEN, SCRATCH), accuracy, strict=True):
        for size, values, count in zip(sizes, of_method, counts, strict=True):
            mean, low, high = mean_interval(values)
            if len(values) == 1 or (count is None and method == FROZEN):  # nothing is drawn: over the test images
                low, high = interval(round(mean * tests), tests)
            rows.append((size, method, mean, low, high, len(values), tests))
    columns = ["images_per_class", "method", "accuracy", "low", "high", "repeats", "test_images"]
    return pandas.DataFrame(rows, columns=columns)


def _findings(accuracy, sizes, cross, steps):
    said = []
    for place, size in enumerate(sizes):
        mean, low, high = mean_interval(accuracy[0, place] - accuracy[1, place])
        repeats = accuracy.shape[2]
        verdict = "more" if low > 0 else "less" if high < 0 else "not measurably other"
        verdict = "" if repeats == 1 else f"; {verdict} than training from scratch"
        interval = told_interval(100 * low, 100 * high, repeats, "draw", "{:+.1f}")
        said.append(
            f"{round(size, 1):g} images a class: frozen features {accuracy[0, place].mean():.1%}, from scratch "
            f"{accuracy[1, place].mean():.1%}: {100 * mean:+.1f} points {interval}{verdict}."
        )
    scratch = f"Training from scratch, {counted(steps, 'step')} long,"
    if np.isnan(cross):
        said.append(f"{scratch} does not catch up with the features by {round(sizes[-1], 1):g} images a class.")
    elif cross == sizes[0]:
        said.append(f"{scratch} is already ahead with {round(cross, 1):g} images a class.")
    else:
        said.append(f"{scratch} catches up with the features at about {cross:.0f} images a class.")
    return tuple(said)


def _figure(table, cross, level, title):
    repeats, tests = table["repeats"].iloc[0], table["test_images"].iloc[0]
    over = f"mean of {repeats} draws with its 95% band" if repeats > 1 else "one draw with the test images' 95% band"
    title = f"{title}\n{over}, {tests:,} test images"
    figure, axes = accuracy_panel(6.2, title, xlabel="training images of each class", xscale="log")
    for method, colour in ((FROZEN, BLUE), (SCRATCH, ORANGE)):
        rows = table[table["method"] == method].sort_values("images_per_class")
        axes.fill_between(
            rows["images_per_class"], rows["low"].clip(0), rows["high"].clip(upper=1), color=colour, alpha=0.2
        )
        axes.plot(rows["images_per_class"], rows["accuracy"], color=colour, marker="o", label=method)
    draw_chance(axes, level)
    if np.isfinite(cross):
        axes.axvline(cross, color="0.5", linestyle=":", linewidth=1, label=f"crossing, about {cross:.0f} images")
    sizes = sorted(set(table["images_per_class"]))
    axes.set_xticks(sizes, [f"{size:.0f}" for size in sizes])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False, fontsize="small")
    return figure


def command(
    asked,
    *,
    layer: str | None = None,
    counts: str = "15,30,60,all",
    repeats: int = 3,
    steps: int = 500,
    learning_rate: float = 1e-3,
    images: int = 1000,
    seed: int = 0,
):
    """Compare frozen features with training from scratch on other data, for several numbers of images per class.

    Parameters
    ----------
    layer
        a layer's name [default: the last layer before the scores]
    counts
        numbers of training images of each class, separated by commas; all means all images
    repeats
        how often to draw images and train for each count
    steps
        of training from scratch
    learning_rate
        of training from scratch
    images
        largest number of test images to use
    seed
        seed of every random choice
    """
    asked.need_labels("both trainings need")
    words = list(dict.fromkeys(word.strip() for word in counts.split(",")))
    if not all(word == "all" or word.isdecimal() for word in words):
        raise UsageError(f"counts={counts} is not allowed: give numbers separated by commas, such as 15,30,60,all.")
    train, test = asked.both(seed)
    test = some(test, images, seed)
    given = asked.prepared(train), train.labels, asked.prepared(test), test.labels
    options = {"repeats": repeats, "steps": steps, "learning_rate": learning_rate, "seed": seed}
    options |= {"keep": asked.kept("generalisation"), "say": asked.say}
    counts = [None if word == "all" else int(word) for word in words]
    return generalisation(asked.model, *given, layer, counts=counts, **options)
