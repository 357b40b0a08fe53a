"""Are features better over several scales? (Simonyan and Zisserman 2014, appendix B and tables 11 and 12)

Dense layers are applied as convolutions to images of several sizes, the features are averaged over places and mirror
images and scaled to length 1, and a linear support vector machine is trained on those of one scale, on the mean over
the scales, or on all of them stacked. The paper finds that the mean is as good as stacking on PASCAL VOC, and that
stacking is better on Caltech-101 and -256. It does not fine-tune; here the network may be fine-tuned on the training
images first, and both are compared.
"""

import functools

import numpy as np
import pandas
from sklearn.svm import LinearSVC

from kerascnn.datasets.resize import sides_of
from kerascnn.errors import UsageError
from kerascnn.experiments import register
from kerascnn.experiments.asked import some
from kerascnn.experiments.classifiers import (
    COLUMNS,
    accuracy_panel,
    chance,
    check_folds,
    draw_accuracies,
    draw_chance,
    judged,
)
from kerascnn.experiments.invariance import usual_layers
from kerascnn.experiments.kept import Kept
from kerascnn.experiments.outcome import Outcome, mean_interval, told_interval
from kerascnn.experiments.softmax_head import trained, with_softmax
from kerascnn.layers import give_weights
from kerascnn.plots import BLUE, ORANGE
from kerascnn.progress import Progress
from kerascnn.using.features import aggregated, check_sizes, scale_features

PLAIN, TUNED = "as it is", "fine-tuned"
STRENGTHS = (0.1, 1.0, 10.0, 100.0)
FOLDS = 3


@register(source="Simonyan and Zisserman 2014, appendix B")
def multiscale(
    model,
    images,
    labels,
    test_images,
    test_labels,
    layer=None,
    *,
    fine_tune=0,
    learning_rate=1e-4,
    train_batch=32,
    flip=True,
    strengths=STRENGTHS,
    batch_size=32,
    seed=0,
    keep=None,
    say=None,
):
    """Accuracy of a linear SVM on features of one scale, on their mean over several, and on all of them stacked.

    Args:
        model: keras.Model with one image input; its weights stay as they are.
        images, test_images: {scale: (N, H, W, C)}, the same images at each scale, as the model takes them but of its
            own size or larger; arrays, or anything of that length that gives them for slices and arrays of numbers.
        labels, test_labels: int (N,), the classes of these data, from 0.
        layer: a layer's name; None: the last layer before the scores.
        fine_tune: steps for which a copy of the network is trained on crops and mirror images of the training images of
            the smallest scale, with a new softmax after the layer; 0: it is not.
        learning_rate: Adam's learning rate at the start of the fine-tuning; it falls to 0 along a cosine.
        train_batch: images per step of the fine-tuning.
        flip: True takes the mean over each image and its mirror image.
        strengths: values of C of the SVM; cross-validation on the training images in 3 folds chooses one.
        batch_size: images of the model's own size computed at once; the result does not depend on it.
        seed: seed of the fine-tuning, the folds and the solver.
        keep: folder in which what was measured is saved, so that a stopped experiment continues; None: none.
        say: called with lines of progress.
    Returns:
        Outcome. Table: network ("as it is", "fine-tuned"), scales, aggregate ("one", "mean", "stack"), features (how
        many), strength (the chosen C), validation (mean accuracy over the folds), accuracy (of the test images), low
        and high (its 95% Wilson interval), images. Arrays: "<network>/<scales>/<aggregate>": bool (N,), which test
        images are classified correctly.
    Raises:
        UsageError: the layer is unknown, gives the class probabilities or comes after one that works at one size only,
            a scale is smaller than the network's own size, or a class has fewer training images than folds.
    """
    labels, test_labels = np.asarray(labels), np.asarray(test_labels)
    layer = usual_layers(model)[-1] if layer is None else layer
    _check(model, images, labels, test_images, test_labels, fine_tune)
    settings = model, images, labels, test_images, test_labels, layer, flip, batch_size, fine_tune, learning_rate
    every = choices(list(images))
    count = bool(fine_tune) + (1 + bool(fine_tune)) * (2 * len(images) + len(every))
    progress = Progress("part", count, say)
    kept = Kept(keep, *settings, train_batch, strengths, seed, progress=progress)
    networks = {PLAIN: model}
    rows, arrays = [], {}
    if fine_tune:
        options = fine_tune, train_batch, learning_rate, seed
        networks[TUNED] = _fine_tuned(model, layer, images, labels, *options, kept)
    for network, each in networks.items():
        options = {"flip": flip, "batch_size": batch_size}
        train = _features(each, images, layer, kept, f"{network}, training images", options)
        test = _features(each, test_images, layer, kept, f"{network}, test images", options)
        for chosen, aggregate in every:
            name = ",".join(map(str, chosen))

            def data(chosen=chosen, aggregate=aggregate, train=train, test=test):
                given, others = (aggregated([each[s] for s in chosen], aggregate) for each in (train, test))
                return given, labels, others, test_labels

            machine = LinearSVC(dual="auto", max_iter=20_000, random_state=seed)
            choice = machine, data, strengths, FOLDS, seed
            numbers, correct = judged(kept, f"{network}, scales {name}, {aggregate}", *choice)
            arrays[f"{network}/{name}/{aggregate}"] = correct
            rows.append((network, name, aggregate, *numbers))
    table = pandas.DataFrame(rows, columns=["network", "scales", "aggregate", *COLUMNS])
    level = chance(labels, test_labels)
    title = f"{model.name}: a linear SVM on the features of {layer}"
    return Outcome("multiscale", table, _findings(table, arrays), lambda: _figure(table, level, title), arrays)


def choices(scales):
    """What is compared: each scale alone, and all of them together, as pairs of scales and aggregate."""
    together = [(scales, "mean"), (scales, "stack")] if len(scales) > 1 else []
    return [([scale], "one") for scale in scales] + together


def _fine_tuned(model, layer, images, labels, steps, train_batch, learning_rate, seed, kept):
    """A copy of the network, trained on the images of the smallest scale."""
    smallest = min(images.values(), key=lambda each: np.prod(np.shape(each[:1])[1:3]))
    sides = zip(model.input_shape[1:3], np.shape(smallest[:1])[1:3], strict=True)
    height, width = (side or size for side, size in sides)
    network = with_softmax(model, layer, int(labels.max()) + 1, seed, fresh=False)
    rows = np.arange(len(labels))
    views = functools.partial(_cut, height, width)

    def weights():
        trained(network, smallest, labels, rows, steps, train_batch, learning_rate, seed, views)
        return {str(number): array for number, array in enumerate(network.get_weights())}

    told = f"fine-tuned in {steps} steps of {min(train_batch, len(labels))} images"
    weights_of = kept.measure("fine-tuned weights", weights, lambda _: told)
    give_weights(network, [weights_of[str(number)] for number in range(len(weights_of))])
    return network


def _cut(height, width, images, rng):
    """A random part of that size of each image, mirrored or not."""
    tops = rng.integers(0, images.shape[1] - height + 1, len(images))
    lefts = rng.integers(0, images.shape[2] - width + 1, len(images))
    parts = [
        image[top : top + height, left : left + width] for image, top, left in zip(images, tops, lefts, strict=True)
    ]
    steps = rng.choice([-1, 1], len(images))
    return np.stack([part[:, ::step] for part, step in zip(parts, steps, strict=True)])


def _features(network, images, layer, kept, name, options):
    """{scale: features} of a network; `name` says which."""
    return {
        scale: kept.measure(
            f"{name} at {scale}",
            lambda scale=scale, each=each: scale_features(network, {scale: each}, layer, **options)[scale],
            lambda values, scale=scale: f"{name} at {scale}: {values.shape[0]} images, {values.shape[1]} features",
        )
        for scale, each in images.items()
    }


def _check(model, images, labels, test_images, test_labels, fine_tune):
    if not images or list(images) != list(test_images):
        raise UsageError("images and test_images must hold the same scales, one or more.")
    for what, given, of_them in (("images", images, labels), ("test_images", test_images, test_labels)):
        for scale, each in given.items():
            if not len(each) or len(each) != len(of_them):
                raise UsageError(
                    f"{what} holds {len(each)} images at scale {scale}, and there are {len(of_them)} labels for them."
                )
    check_sizes(model, images)
    if fine_tune < 0:
        raise UsageError(f"fine_tune={fine_tune} is not allowed: give a number of steps, or 0 for no fine-tuning.")
    check_folds(labels, FOLDS)


def _told(better, worse, correct, other):
    """One sentence: how much more often one choice is right than another, with the interval over the images."""
    mean, low, high = (100 * value for value in mean_interval(correct.astype(float) - other))
    verdict = "more often" if low > 0 else "less often" if high < 0 else "not measurably more or less often"
    return (
        f"{better} is right {verdict} than {worse}: {correct.mean():.1%} against {other.mean():.1%} of the test "
        f"images, {mean:+.1f} points {told_interval(low, high, len(correct), form='{:+.1f}')}."
    )


def _findings(table, arrays):
    """Whether several scales are better than the best one, stacking than the mean, and fine-tuning than none. Which
    single scale is best, cross-validation on the training images says."""
    said = []
    for network, rows in table.groupby("network", sort=False):
        correct = {
            (row.scales, row.aggregate): arrays[f"{network}/{row.scales}/{row.aggregate}"] for row in rows.itertuples()
        }
        single = rows[rows["aggregate"] == "one"]
        best = single.loc[single["validation"].idxmax(), "scales"]
        every = ",".join(single["scales"])
        if len(single) > 1:
            one, mean, stack = correct[best, "one"], correct[every, "mean"], correct[every, "stack"]
            said.append(_told(f"Network {network}: the mean of {every}", f"scale {best} alone", mean, one))
            said.append(_told(f"Network {network}: stacking them", "their mean", stack, mean))
    if TUNED in set(table["network"]):
        plain = table[table["network"] == PLAIN]
        row = plain.loc[plain["validation"].idxmax()]
        key = f"{row['scales']}/{row['aggregate']}"
        what = f"(scales {row['scales']}, {row['aggregate']})"
        tuned, same = arrays[f"{TUNED}/{key}"], arrays[f"{PLAIN}/{key}"]
        said.append(_told(f"The fine-tuned network {what}", "the network as it is", tuned, same))
    if not said:
        said.append(
            f"A linear SVM is right for {table['accuracy'].iloc[0]:.1%} of the {table['images'].iloc[0]:,} test images."
        )
    return tuple(said)


def _figure(table, level, title):
    names = list(dict.fromkeys(zip(table["scales"], table["aggregate"], strict=True)))
    title = f"{title}\n{table['images'].iloc[0]:,} test images, 95% intervals"
    xlabel = "scale (side of the image, pixels), or all of them together"
    figure, axes = accuracy_panel(max(5.0, 0.9 * len(names) + 2), title, xlabel=xlabel)
    for number, (network, colour) in enumerate(((PLAIN, BLUE), (TUNED, ORANGE))):
        rows = table[table["network"] == network]
        if len(rows):
            places = np.arange(len(rows)) + 0.12 * number
            draw_accuracies(axes, places, rows, color=colour, linestyle="none", label=network)
    draw_chance(axes, level)
    axes.set_xticks(range(len(names)), [scales if aggregate == "one" else aggregate for scales, aggregate in names])
    axes.legend(frameon=False, fontsize="small")
    return figure


def command(
    asked,
    *,
    layer: str | None = None,
    scales: str | None = None,
    fine_tune: int = 0,
    learning_rate: float = 1e-4,
    images: int = 1000,
    seed: int = 0,
):
    """Compare features of one scale, their mean over several scales, and all of them stacked, by a linear SVM.

    Parameters
    ----------
    layer
        a layer's name [default: the last layer before the scores]
    scales
        sides that images are resized to, pixels, separated by commas [default: the network's own, and 1.25 and 1.5
        times as much]
    fine_tune
        steps for which a copy of the network is trained on these images first, to compare with the network as it is
    learning_rate
        of the fine-tuning
    images
        largest number of images to use from the training split, and from the test split
    seed
        seed of every random choice
    """
    asked.need_labels("classifiers need")
    size = asked.classifier.preprocessing.image_size[0]
    sides = sides_of(scales) or [size, round(size * 1.25), round(size * 1.5)]
    train, test = {}, {}
    for side in sides:
        other = asked.at(side)
        (train[side], labels), (test[side], test_labels) = (
            (other.prepared(part), part.labels) for part in (some(split, images, seed) for split in other.both(seed))
        )
    keep = asked.kept("multiscale")
    options = {"fine_tune": fine_tune, "learning_rate": learning_rate, "seed": seed, "keep": keep, "say": asked.say}
    return multiscale(asked.model, train, labels, test, test_labels, layer, **options)
