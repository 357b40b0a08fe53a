"""Does a network learn better after it was pre-trained on other classes? (Krizhevsky et al. 2012, section 6)

The paper pre-trains a network with a sixth convolution behind the last pooling on all of ImageNet (Fall 2011), and
fine-tunes it on the 1,000 classes of ILSVRC-2012. Here half of the classes of a data set are used for pre-training,
with and without the extra convolution, and the other half for fine-tuning, in which that convolution is removed or
stays. The same network trained from scratch on the other half is the comparison. Without an extra convolution this is
plain transfer: what the recipe freezes is frozen in fine-tuning alone.
"""

import hashlib

import numpy as np
import pandas

from kerascnn.callbacks.watching import spread
from kerascnn.errors import UsageError, counted
from kerascnn.experiments import register
from kerascnn.experiments.architecture import asked_recipe, error_panel, errors_of, input_shape, run_of
from kerascnn.experiments.generalisation import drawn
from kerascnn.experiments.outcome import Outcome, mean_interval, told_interval
from kerascnn.models import is_file
from kerascnn.plots import BLUE
from kerascnn.progress import Progress
from kerascnn.runs import replacing
from kerascnn.training.build import network
from kerascnn.training.prepare import anchored
from kerascnn.training.reading import load_data
from kerascnn.training.transfer import frozen_layers

STARTS = ("from scratch", "pre-trained", "extra, removed", "extra, stays")


@register(source="Krizhevsky, Sutskever and Hinton 2012, section 6")
def pretraining(recipe, folder, extra=None, *, count=None, rate=1.0, seeds=(0, 1, 2), say=None):
    """Errors on half of the classes of a network from scratch, and of networks pre-trained on the other half.

    Every second class of the data, starting with the first, is for pre-training.

    Args:
        recipe: Recipe of all trainings; its seed is replaced. Its `freeze` and `train_last` apply to fine-tuning.
        folder: Path; the data of the two halves and the training runs are below it. Finished runs there are not
            repeated, and one that was stopped continues.
        extra: name of the layer behind which the pre-trained network has one more convolution, such as "pool5"
            (`kerascnn.models.variants`); None: there is no such convolution, and the first two starts remain.
        count: training images of each class for fine-tuning and training from scratch; None: all of them.
        rate: the learning rate of fine-tuning, divided by that of the recipe.
        seeds: seeds of the training runs and of the choice of `count` images.
        say: called with lines of progress.
    Returns:
        Outcome. Table: start ("from scratch", "pre-trained", "extra, removed", "extra, stays"), parameters,
        train_error, test_error (means over the seeds), low and high (95% interval of the mean test error by Student's
        t), seeds, test_images. Arrays: "errors" (starts, seeds, 3): training, validation and test error.
    Raises:
        UsageError: there are fewer than four classes, a class has fewer images than asked for, the layer is unknown or
            gives no maps, or the folder holds runs of another recipe.
    """
    say = say or (lambda line: None)
    if not seeds or not 0 < rate < float("inf"):
        raise UsageError(f"{seeds=}, {rate=} is not allowed: one or more seeds and a rate above 0 are needed.")
    if is_file(recipe.model):
        raise UsageError(f"model={recipe.model!r} is trained already. Give the name of a network (kerascnn models).")
    options = {name: value for name, value in recipe.model_options.items() if name not in ("weights", "skip")}
    tuning = anchored(recipe.replace(start_from="", model_options=options))
    recipe = tuning.replace(freeze="", train_last=0)
    with_extra = {**options, "extra": extra} if extra else options
    data = load_data(recipe)
    _check(data, count, recipe.batch_size)
    for options in (recipe.model_options, with_extra):  # told before anything is trained
        built = network(recipe.replace(model_options=options), input_shape(recipe, data), len(data.class_names))
        frozen_layers(built, tuning.freeze, tuning.train_last)
    halves, tests = _halves(data, folder, count, seeds)
    starts = STARTS if extra else STARTS[:2]
    errors, parameters = np.zeros((len(starts), len(seeds), 3)), [0] * len(starts)
    progress = Progress("training", (6 if extra else 3) * len(seeds), say)
    for column, seed in enumerate(seeds):
        first = recipe.replace(data=str(halves["first"]), classes=None, seed=seed)
        second = {"data": str(halves[seed]), "classes": None, "seed": seed}
        tuned = tuning.replace(**second, learning_rate=recipe.learning_rate * rate)

        def run(name, of, seed=seed):
            told = f"{name}, seed {seed}"
            trained, worked = run_of(anchored(of), folder / f"{name}-seed{seed}", say, told)
            progress.step(f"{told}: test errors {errors_of(trained)[2]:.2%}", worked=worked)
            return trained

        plain = run("pre-training", first)
        sixth = run("pre-training-extra", first.replace(model_options=with_extra)) if extra else None
        runs = [
            run("from-scratch", recipe.replace(**second)),
            run("fine-tuning", tuned.replace(start_from=str(plain.folder))),
        ]
        if sixth:
            removed = tuned.replace(start_from=str(sixth.folder))
            runs += [
                run("fine-tuning-extra-removed", removed),
                run("fine-tuning-extra-stays", removed.replace(model_options=with_extra)),
            ]
        errors[:, column] = [errors_of(each) for each in runs]
        parameters = [each.read("run")["parameters"] for each in runs]
    table = _table(parameters, errors, tests)
    few = "all" if count is None else count
    spread = f"mean with its 95% interval over {counted(len(seeds), 'seed')}" if len(seeds) > 1 else "one seed"
    title = f"{recipe.model}: {few} training images of each class\n{spread}, {tests:,} test images"
    return Outcome("pretraining", table, _findings(errors, extra), lambda: _figure(table, title), {"errors": errors})


def _halves(data, folder, count, seeds):
    """({"first": Path, seed: Path ...} of .npz files, number of test images): the classes for pre-training, and the
    others with the training images drawn with each seed."""
    classes = np.arange(len(data.class_names))
    folder = folder / f"data-{_digest(data)}"
    paths = {"first": folder / "classes-first.npz"}
    _write(paths["first"], data, classes[::2])
    for seed in seeds:
        paths[seed] = folder / f"classes-second-{count or 'all'}-{seed}.npz"
        _write(paths[seed], data, classes[1::2], count, seed)
    return paths, int(np.isin(data.test.labels, classes[1::2]).sum())


def _digest(data):
    """Eight letters that tell data apart: by shape, classes, labels, and 64 images of each split."""
    digest = hashlib.blake2b(repr((data.image_shape, data.class_names)).encode(), digest_size=4)
    for split in data.splits.values():
        digest.update(split.labels.tobytes())
        digest.update(spread(split, 64).images[:].tobytes())
    return digest.hexdigest()


def _check(data, count, batch_size):
    """Raise a UsageError if there are too few classes or training images."""
    number = len(data.class_names)
    if number < 4:
        raise UsageError(f"{number} classes cannot be halved: four or more are needed, two for each half.")
    sizes = np.bincount(data.train.labels, minlength=number)[1::2]
    if count is not None and not 1 <= count <= sizes.min():
        raise UsageError(
            f"count={count} is not allowed: one of the classes has {sizes.min()} training images. Give 1 to "
            f"{sizes.min()}."
        )
    images = int(sizes.sum()) if count is None else count * len(sizes)
    if batch_size > images:
        raise UsageError(
            f"The {images} training images of {len(sizes)} classes are fewer than a batch of {batch_size}. Give more "
            "images of each class, or a recipe with smaller batches."
        )


def _write(path, data, classes, count=None, seed=0):
    """Write the images of some classes as an .npz file, if it is not there."""
    if path.exists():
        return
    arrays = {"class_names": np.array([data.class_names[number] for number in classes])}
    for name, key in (("train", "train"), ("validation", "val"), ("test", "test")):
        split = data.splits.get(name)
        if split is None:
            continue
        rows = np.flatnonzero(np.isin(split.labels, classes))
        labels = np.searchsorted(classes, split.labels[rows])
        if name == "train":
            chosen = drawn(labels, count, np.random.default_rng(seed))
            rows, labels = rows[chosen], labels[chosen]
        arrays |= {f"x_{key}": split.images[rows], f"y_{key}": labels}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def _table(parameters, errors, tests):
    rows = []
    for start, number, values in zip(STARTS[: len(errors)], parameters, errors, strict=True):
        interval = mean_interval(values[:, 2])
        rows.append((start, number, values[:, 0].mean(), *interval, len(values), tests))
    return pandas.DataFrame(
        rows, columns=["start", "parameters", "train_error", "test_error", "low", "high", "seeds", "test_images"]
    )


def _findings(errors, extra):
    """Each way of pre-training against the one that it should be better than."""
    tests, seeds = errors[:, :, 2], errors.shape[1]
    said = []
    removed = f"Pre-trained with one more convolution behind {extra}, which is then removed, it"
    for better, worse, what, than in (
        (1, 0, "Pre-trained on the other classes, the network", "from scratch"),
        (2, 1, removed, "pre-trained as it is"),
        (3, 1, "If that convolution stays, it", "pre-trained as it is"),
    )[: len(errors) - 1]:
        mean, low, high = 100 * np.array(mean_interval(tests[better] - tests[worse]))
        verdict = "more" if low > 0 else "fewer" if high < 0 else "not measurably more or fewer"
        verdict = f": {verdict}" if seeds > 1 else ""
        said.append(
            f"{what} makes {tests[better].mean():.2%} test errors, against {tests[worse].mean():.2%} {than}, "
            f"{mean:+.2f} points {told_interval(low, high, seeds, 'seed')}{verdict}."
        )
    return tuple(said)


def _figure(table, title):
    figure, axes = error_panel(7, 3.2, title)
    reach = 100 * np.maximum([table["test_error"] - table["low"], table["high"] - table["test_error"]], 0)
    axes.barh(range(len(table)), 100 * table["test_error"], 0.6, xerr=reach, color=BLUE, error_kw={"capsize": 3})
    axes.set_yticks(range(len(table)), [f"{row.start}\n{row.parameters:,} parameters" for row in table.itertuples()])
    axes.set_xlim(left=0)
    axes.set_xlabel("errors on the test images of half of the classes")
    return figure


def command(
    asked,
    *,
    extra: str | None = None,
    count: int | None = None,
    rate: float = 1.0,
    seeds: int = 3,
    epochs: int | None = None,
):
    """Pre-train a network on half of the classes and fine-tune it on the others; with --extra, also a network with one
    more convolution.

    Parameters
    ----------
    run
        a run, whose recipe trains every network, or a network's name
    extra
        layer behind which a further pre-trained network has one more convolution, such as pool5 [default: none, plain
        transfer]
    count
        training images of each class for fine-tuning [default: all]
    rate
        learning rate of fine-tuning, divided by that of the recipe
    seeds
        how many times to train each network, each with its own seed
    epochs
        epochs of each training run [default: the recipe's]
    """
    recipe = asked_recipe(asked, "pretraining", epochs, seeds)
    options = {"count": count, "rate": rate, "seeds": range(seeds), "say": asked.say}
    return pretraining(recipe, asked.out / "pretraining", extra, **options)
