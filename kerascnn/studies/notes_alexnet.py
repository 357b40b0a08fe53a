"""Notes on AlexNet, VGG and visualising (2020): what they list of AlexNet (Krizhevsky et al. 2012), made again."""

import math

import numpy as np
import pandas
from matplotlib.figure import Figure

from kerascnn import anatomy, plots
from kerascnn.experiments.outcome import mean_interval
from kerascnn.models import MODELS
from kerascnn.recipes import RECIPES
from kerascnn.studies import register
from kerascnn.studies.frame.listings import of_layers
from kerascnn.studies.frame.looks import asked
from kerascnn.studies.frame.results import Y_LABELS, of_rows, on_test, those_run
from kerascnn.studies.frame.study import (
    Claim,
    Computed,
    Lines,
    Listing,
    NotRun,
    Picture,
    Study,
    Training,
    Value,
    accuracy,
    exact,
)

# Section 3.5 and figure 2: neurons of each layer
NEURONS = {
    "conv1": 253_440,
    "conv2": 186_624,
    "conv3": 64_896,
    "conv4": 64_896,
    "conv5": 43_264,
    "fc6": 4096,
    "fc7": 4096,
    "fc8": 1000,
}
# Section 3.5: filters, (number, side, side, channels that each sees)
FILTERS = {
    "conv1": (96, 11, 11, 3),
    "conv2": (256, 5, 5, 48),
    "conv3": (384, 3, 3, 256),
    "conv4": (384, 3, 3, 192),
    "conv5": (256, 3, 3, 192),
}
WITH, NO_NORM, APART = "alexnet", "without normalisation", "pools apart"
VARIANTS = {
    WITH: ({}, "response normalisation and overlapping pools, as in the paper"),
    NO_NORM: ({"response_norm": False}, "without response normalisation"),
    APART: ({"pool_size": 2}, "pools of 2x2, which do not overlap; the maps have the same sizes"),
}
# Gains in top-1 accuracy that sections 3.3 and 3.4 print
GAINS = {NO_NORM: ("response normalisation", 0.014, "3.3"), APART: ("overlapping pools", 0.004, "3.4")}
STARTS = ("from scratch", "pre-trained", "extra, removed", "extra, stays")  # of the pre-training
OTHERS = "other images, a smaller network"
SHOWN = 8  # test images with their probabilities


def _values():
    counts = [
        exact("layers", f"neurons of {layer}", f"{layer} neurons", count, unit="neurons", where="section 3.5")
        for layer, count in NEURONS.items()
    ]
    for layer, (number, *shape) in FILTERS.items():
        what = f"weights of {layer}: {number} filters of {'x'.join(map(str, shape))}"
        count = number * math.prod(shape)
        counts.append(exact("layers", what, f"{layer} weights", count, unit="weights", where="section 3.5"))
    sums = [
        exact("layers", what, what, published, half=half, printed=printed, unit=unit, where="abstract")
        for what, published, half, printed, unit in (
            ("parameters", 60e6, 5e6, "60 million", "parameters"),
            ("neurons", 650_000, 5000, "650,000", "neurons"),
            ("layers with weights", 8, 0, "", ""),
        )
    ]
    return (*counts, *sums, *_trained_values())


def _trained_values():
    """The values of rows that need trainings."""
    shared = {"unit": "accuracy", "split": "test", "cannot": OTHERS, "half": 0.0005}
    table_1 = {"published": 0.625, "printed": "62.5% (as 37.5% errors)", "protocol": "the paper: top-1 on ILSVRC-2010"}
    accuracies = [
        accuracy(row, "accuracy", on_test(), where="table 1", **shared, **(table_1 if row == WITH else {}))
        for row in VARIANTS
    ]
    gains = [
        Value("gains", f"gain by {what}", what, gain, where=f"section {where}", **shared)
        for what, gain, where in GAINS.values()
    ]
    errors = [
        Value(row, what, measure, error, where=where, better="lower", **shared)
        for row, what, measure, error, where in (
            ("ensemble", "error of a network alone, mean", "alone", 0.407, "table 2: 1 CNN, top-1"),
            ("ensemble", "error of all together", "together", 0.381, "table 2: 5 CNNs, top-1"),
            ("pre-training", f"error {STARTS[0]}", STARTS[0], 0.407, "table 2: 1 CNN, top-1"),
            ("pre-training", "error with a sixth convolution, pre-trained", STARTS[3], 0.390, "table 2: 1 CNN*, top-1"),
        )
    ]
    nearest = Value(
        "nearest",
        "share of the six nearest training images that are of the image's class, fc7",
        "same",
        where="figure 4, right, without numbers",
    )
    return (*accuracies, *gains, *errors, nearest)


def _layers(place):
    model = MODELS.get("alexnet")()
    table = anatomy.layer_table(model)
    of_layers(table).to_csv(place.folder / "layers.csv", index=False)
    outputs = {f"{layer} neurons": math.prod(model.get_layer(layer).output.shape[1:]) for layer in NEURONS}
    weights = {f"{layer} weights": math.prod(model.get_layer(layer).kernel.shape) for layer in FILTERS}
    counts = {"parameters": model.count_params(), "neurons": sum(outputs.values()), "layers with weights": len(outputs)}
    return {**outputs, **weights, **counts}


def _gains(place):
    """By how much the accuracy of the network as it is exceeds that of each variant, seed by seed."""
    accuracies = {
        row: {run.folder.name: run.read("run")["result"]["accuracy"] for run in place.runs(row)} for row in VARIANTS
    }
    ours = accuracies[WITH]
    return {
        what: [round(ours[seed] - without, 5) for seed, without in accuracies[row].items() if seed in ours]
        for row, (what, _, _) in GAINS.items()
    }


def _probabilities(place):
    """Test images with their five most probable classes, as figure 4's left part."""
    of = asked(place, WITH)
    rows = np.unique(np.linspace(0, len(of.split) - 1, SHOWN).astype(int))
    few = of.split.take(rows)
    answers, names, truth = _answers(of, few), of.classifier.labels, of.labels(few)
    order = np.argsort(-answers, axis=1, kind="stable")[:, :5]
    table = pandas.DataFrame(
        {
            "image": np.repeat(rows, order.shape[1]),
            "true class": [names[label] for label in np.repeat(truth, order.shape[1])],
            "class": [names[number] for number in order.ravel()],
            "probability": np.take_along_axis(answers, order, 1).ravel().round(4),
        }
    )
    plots.save(_drawn(few.images[:], answers, order, names, truth), table, place.folder / "probabilities.png")
    return {"right": (order[:, 0] == truth).astype(int).tolist()}


def _answers(of, split):
    """float (N, classes): the class probabilities of a split's images by the network of an Asked."""
    from kerascnn.explain.answers import class_probabilities

    given = of.prepared(split)
    parts = [of.model.predict_on_batch(given[first : first + 64]) for first in range(0, len(split), 64)]
    return np.asarray(class_probabilities(of.model, np.concatenate(parts)))


def _drawn(images, answers, order, names, truth):
    """The matplotlib Figure: image, true class, bars of the most probable classes, the true one in another colour."""
    columns = 4
    lines = math.ceil(len(images) / columns)
    figure = Figure(figsize=(2.4 * columns, 3.6 * lines), layout="constrained")
    axes = figure.subplots(2 * lines, columns, squeeze=False, height_ratios=(3, 2) * lines)
    for ax in axes.ravel():
        ax.set_axis_off()
    for number, (image, answer, classes, label) in enumerate(zip(images, answers, order, truth, strict=True)):
        line, column = divmod(number, columns)
        above, below = axes[2 * line, column], axes[2 * line + 1, column]
        above.imshow(np.squeeze(image), cmap="gray", interpolation="nearest")
        above.set_title(plots.shortened(str(names[label]), 22), fontsize="medium")
        below.set_axis_on()
        colours = [plots.ORANGE if each == label else plots.BLUE for each in classes]
        below.barh(range(len(classes)), answer[classes], color=colours)
        below.set_yticks(range(len(classes)), [plots.shortened(str(names[each]), 14) for each in classes], fontsize=7)
        below.invert_yaxis()
        below.set_xlim(0, 1)
        below.tick_params(axis="x", labelsize=7)
        below.set_xlabel("probability", fontsize=7)
    figure.suptitle("The five most probable classes; orange: the true one", fontsize="medium")
    return figure


def _nearest(place):
    from kerascnn.experiments.nearest import command

    outcome = command(asked(place, WITH), images=5 if place.quick else 100)
    outcome.save(place.folder)
    same = outcome.table.groupby("query")["same"].mean()
    chance = pandas.Series(asked(place, WITH).loaded.train.labels).value_counts(normalize=True).iloc[0]
    return {"same": same.round(4).tolist(), "chance": float(chance)}


def _ensemble(place):
    """Every network that was trained, alone and together."""
    from kerascnn.experiments.asked import Asked
    from kerascnn.experiments.ensemble import ensemble

    answers = {}
    for row, runs in those_run(VARIANTS, place.runs).items():
        for run in runs:
            of = Asked([run.folder], None, place.folder, place.say)
            answers[f"{row}, {run.folder.name.replace('-', ' ')}"] = _answers(of, of.split)
    if len(answers) < 2:
        raise NotRun("an ensemble needs two trained networks")
    outcome = ensemble(answers, of.labels(of.split))
    outcome.save(place.folder)
    table, mistakes = outcome.table, outcome.arrays["mistakes"]
    table.assign(members=[plots.shortened(name, 60) for name in table["members"]]).round(4).to_csv(
        place.folder / "members.csv", index=False
    )
    alone = table[table["count"] == 1]["error"]
    return {
        "alone": alone.round(5).tolist(),
        "together": float(table["error"].iloc[-1]),
        "networks": len(mistakes),
    }


def _pretraining(place):
    """Pre-training on every second class, with and without a sixth convolution behind pool5."""
    from kerascnn.experiments.pretraining import pretraining
    from kerascnn.recipes import Recipe

    recipe = Recipe.from_dict(place.run(WITH).read("recipe"))
    outcome = pretraining(recipe, place.folder / "runs", "pool5", seeds=(0,), say=place.say)
    outcome.save(place.folder)
    errors = {row.start: float(row.test_error) for row in outcome.table.itertuples()}
    return {**errors, "images": int(outcome.table["test_images"].iloc[0])}


def _gain(row):
    """The test of a claim: is the network as it is more accurate than without what the row leaves out?"""

    def test(results):
        _, low, high, told = results.difference(WITH, row, on_test())
        return None if low <= 0 <= high else low > 0, f"Test accuracy {told}."

    return test


def _together(results):
    """Whether all networks together make fewer errors than one, by the interval of the networks' mean."""
    together, alone = results.mean("ensemble", "together"), results.sample("ensemble", "alone")
    mean, low, high = mean_interval(alone)
    told = f"{len(alone)} networks together: {together:.2%} errors; one alone: {mean:.2%} (95% interval of the mean "
    told += f"{low:.2%} to {high:.2%}), the best of them {min(alone):.2%}."
    return None if low <= together <= high else together < low, told


def _sixth(results):
    errors = {start: results.mean("pre-training", start) for start in STARTS}
    told = ", ".join(f"{start} {error:.2%}" for start, error in errors.items())
    extra, scratch, images = errors[STARTS[3]], errors[STARTS[0]], results.mean("pre-training", "images")
    reach = 1.96 * math.sqrt((extra * (1 - extra) + scratch * (1 - scratch)) / images)  # of two shares of the images
    told = (
        f"Test errors on half of the classes, {images:,.0f} images: {told}; differences below {100 * reach:.2f} points "
    )
    return None if abs(extra - scratch) <= reach else extra < scratch, f"{told}may be chance."


def _alike(results):
    same, chance = results.mean("nearest", "same"), results.mean("nearest", "chance")
    told = f"{same:.0%} of the six nearest images are of the image's class; at most {chance:.0%} by chance."
    return same > chance, told


CLAIMS = (
    Claim("Response normalisation helps (the next paper does not find that)", "Architecture", _gain(NO_NORM)),
    Claim("Overlapping pooling helps", "Architecture", _gain(APART)),
    Claim("An ensemble is better", "Results", _together),
    Claim("Pre-training with a sixth convolution lowers the error", "Results", _sixth),
    Claim("The nearest training images show the same thing", "Qualitative evaluations", _alike),
)


def _figures():
    return (
        Picture(
            "probabilities",
            "Test images and their most probable classes",
            "probabilities",
            where="figure 4, left",
            wide=True,
        ),
        Picture(
            "nearest",
            "Test images and the training images nearest to them at fc7",
            "nearest",
            where="figure 4, right",
            wide=True,
        ),
        Picture("ensemble", "Networks alone and together", "ensemble", where="table 2", wide=True),
        Picture(
            "pre-training", "Pre-training on other classes", "pre-training", file="pretraining.png", where="section 6"
        ),
        Lines(
            "variants",
            "Validation accuracy of the variants",
            of_rows(VARIANTS, "val_accuracy"),
            Y_LABELS["accuracy"],
            where="sections 3.3 and 3.4",
        ),
    )


@register("notes-alexnet", source="Notes on AlexNet, VGG and visualising CNNs, 2020")
def notes_alexnet():
    """AlexNet counted; response normalisation or not, overlapping pools or not, figure 4, ensemble, pre-training."""
    recipe = RECIPES.get("zfnet-scenes")().replace(model="alexnet", data="miniplaces", image_size=99, epochs=10)
    trainings = tuple(
        Training(name=name, recipe=recipe.replace(model_options={"dense_units": 1024, **changes}), note=note)
        for name, (changes, note) in VARIANTS.items()
    )
    return Study(
        name="notes-alexnet",
        title="AlexNet: its layers counted, its choices tried",
        source="Notes on AlexNet, VGG and visualising CNNs, 28 February 2020; A. Krizhevsky, I. Sutskever and G. E. "
        "Hinton, ImageNet classification with deep convolutional neural networks, 2012",
        about="What the notes list of AlexNet. Its layers are counted; a smaller form is trained on scenes with and "
        "without response normalisation and with pools that do not overlap; its answers and nearest images are shown; "
        "the networks answer together; and a sixth convolution is pre-trained on other classes.",
        rows=(
            Computed(name="layers", compute=_layers, note="the network of section 3.5, counted"),
            *trainings,
            Computed(name="gains", compute=_gains, needs=tuple(VARIANTS), note="sections 3.3 and 3.4"),
            Computed(name="probabilities", compute=_probabilities, needs=(WITH,), note="figure 4, left"),
            Computed(name="nearest", compute=_nearest, needs=(WITH,), note="figure 4, right"),
            Computed(name="ensemble", compute=_ensemble, needs=tuple(VARIANTS), note="all networks that were trained"),
            Computed(
                name="pre-training", compute=_pretraining, needs=(WITH,), note="section 6, on half of the classes"
            ),
        ),
        values=_values(),
        claims=CLAIMS,
        figures=_figures(),
        listings=(
            Listing("The layers", "layers", "layers.csv", "section 3.5"),
            Listing("Networks alone and together", "ensemble", "members.csv", "table 2"),
        ),
        seeds=2,
        slips=(
            "Section 3.5 prints 253,440 neurons for the first layer. With its 55x55 maps there are 290,400; 253,440 is "
            "55x48x96.",
            "The sum of the layers is 659,272 neurons with that, and 622,312 as printed; the abstract says 650,000.",
            "The input is said to be 224x224, of which 11x11 filters 4 apart make no 55x55 maps: it is 227x227.",
        ),
        chosen=(
            "Scenes of 99x99 pixels, so that pools of 2 and of 3 give maps of one size; dense layers of 1,024; the "
            "recipe of zfnet-scenes for ten epochs, two seeds.",
            "The ensemble has all networks of this study; the paper's five differ in their seeds alone.",
            "Pre-training: every second class of the same images; the paper has all of ImageNet.",
        ),
        differences=(
            "ImageNet is not here, so that errors are shown and not compared.",
            "The notes print 16.6% errors with a sixth convolution, which is top-5; the paper's top-1 error, 39.0%, "
            "stands beside ours.",
            "Where MiniPlaces is not there, --data takes other scenes.",
        ),
    )
