"""TDT4265 assignment 2, task 3 (M. Madsen and S. A. Bergum, 2019): ResNet-18 with its last five layers trained."""

import math

import numpy as np
from matplotlib.figure import Figure

from kerascnn import plots
from kerascnn.recipes import RECIPES
from kerascnn.runs import Run
from kerascnn.studies import register
from kerascnn.studies.cs7011 import named
from kerascnn.studies.frame.results import Y_LABELS, best, last, of_parts, when_best
from kerascnn.studies.frame.study import (
    OURS,
    Claim,
    Computed,
    Lines,
    Listing,
    Picture,
    Study,
    Training,
    Value,
    accuracy,
    loss,
)

RESNET, MODEL_1, FIVE = "resnet18", "model 1", "five classes"
STARTS = ("from scratch", "pre-trained")
LIKE_ZEBRA = ("zebra", "horse")  # the first that is a class of the data is shown
SHOWN = 64  # maps of a layer
NEAR = 22.5  # degrees within which a filter has a direction
LINES_OF = {"horizontal": 11, "vertical": 12}  # lines on which a filter is said to activate: its number
COLOURS = {"each": 10, "red": 11, "green": 12, "blue": 13}  # view of the first layer's weights: figure


def _values():
    figure = {"where": "figures 5 to 7, without numbers"}
    ours = [accuracy(FIVE, f"accuracy on five classes, {start}", start, where=OURS) for start in STARTS]
    return (
        *(
            value
            for row in (RESNET, MODEL_1)
            for value in (
                accuracy(row, "best validation accuracy", best("val_accuracy"), split="validation", **figure),
                loss(row, "lowest validation loss", best("val_loss"), **figure),
                Value(row, "epoch of the lowest validation loss", when_best("val_loss"), unit="epoch", **figure),
                loss(row, "training loss at the end", last("loss"), **figure),
            )
        ),
        *ours,
    )


def _five_classes(place):
    """ResNet-18 pre-trained on every second class of the data, its last five layers then trained on the other classes,
    and trained on these from scratch, all by model 1's batches and epochs."""
    from kerascnn.experiments.pretraining import pretraining

    known = place.recipe(MODEL_1, 0)
    options = {"model": RESNET, "model_options": {}, "image_size": 32, "test_curve": False, "keep": "best"}
    wanted = RECIPES.get("tdt4265-resnet18")()
    recipe = known.replace(**options, learning_rate=wanted.learning_rate, train_last=wanted.train_last)
    outcome = pretraining(recipe, place.folder / "runs", seeds=(0,), say=place.say)
    outcome.save(place.folder)
    _draw(Run(place.folder / "runs" / "fine-tuning-seed0"), place.folder)
    right = {row.start: 1 - float(row.test_error) for row in outcome.table.itertuples()}
    return {**right, "images": int(outcome.table["test_images"].iloc[0])}


def _pictures(place):
    """Feature maps of the first and the last convolution for a test image, and the first layer's weights."""
    weights = _draw(place.run(RESNET), place.folder)
    few = weights[["filter", "orientation"]][: max(LINES_OF.values()) + 1]
    return {"filters": len(weights)} | {f"direction {row.filter}": float(row.orientation) for row in few.itertuples()}


def _draw(run, folder):
    """Draw the feature maps and the weights of a run's network; returns the table of its first filters (`named`)."""
    import keras
    import pandas

    from kerascnn import using
    from kerascnn.callbacks.filters import filter_sheet, filters_of
    from kerascnn.explain.activation_sheets import activation_grid
    from kerascnn.network.find import convolutions, layers_in

    classifier, data = using.subject(run), using.data_of(run)
    model = classifier.model
    one = data.test.take(_like_zebra(data))
    image, name = classifier.preprocessing(one.images[:]), data.class_names[int(one.labels[0])]
    names = convolutions(layers_in(model))
    ends = {"first": names[0], "last": names[-1]}
    outputs = [model.get_layer(name).output for name in ends.values()]
    for (word, layer), maps in zip(
        ends.items(), keras.Model(model.inputs[0], outputs).predict_on_batch(image), strict=True
    ):
        shown = np.asarray(maps[0], "float32")[..., :SHOWN]
        count = maps.shape[-1]
        title = f"{layer} of resnet18, {count} maps" + (f", the first {SHOWN} shown" if count > SHOWN else "")
        numbers = pandas.DataFrame(
            {"channel": range(shown.shape[-1]), "mean": shown.mean((0, 1)), "max": shown.max((0, 1))}
        )
        plots.save(activation_grid(shown, title, columns=8), numbers, folder / f"{word}.png")
    filters = filters_of(model, names[0])
    weights = named(filters)
    weights.round({"norm": 3, "coherence": 2, "orientation": 0, "mean_share": 2}).to_csv(
        folder / "patterns.csv", index=False
    )
    plots.save(_drawn(one.images[0], name), pandas.DataFrame({"class": [name]}), folder / "image.png")
    for view in COLOURS:
        plots.save(filter_sheet(filters, f"{names[0]} of resnet18", view), weights, folder / f"{view}.png")
    return weights


def _like_zebra(data):
    """[row] of the first test image of the class that looks most like the report's zebra."""
    for name in LIKE_ZEBRA:
        if name in data.class_names:
            return np.flatnonzero(np.asarray(data.test.labels) == list(data.class_names).index(name))[:1]
    return np.arange(1)


def _drawn(image, name):
    """The matplotlib Figure of one image."""
    figure = Figure(figsize=(3.2, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.imshow(np.squeeze(image), cmap="gray", interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(f"class {plots.shortened(str(name))}", fontsize="medium")
    return figure


def _directed(results):
    """Whether the two filters vary across the lines that the report names, counted from 0 or from 1."""
    numbers = sorted({number - first for number in LINES_OF.values() for first in (0, 1)})
    across = {number: results.mean("pictures", f"direction {number}") for number in numbers}

    def near(degrees, wanted):
        return abs((degrees - wanted + 90) % 180 - 90) <= NEAR

    holds = [
        near(across[LINES_OF["horizontal"] - first], 90) and near(across[LINES_OF["vertical"] - first], 0)
        for first in (0, 1)
    ]
    told = ", ".join(f"{number}: {degrees:.0f}" for number, degrees in across.items())
    return any(holds), f"Degrees in which the weights vary (0: left to right), filters counted from 0: {told}."


def _at_first(results, column):
    return tuple(float(results.curve(row, column)[1][0]) for row in (RESNET, MODEL_1))


def _faster(results):
    ours, other = _at_first(results, "loss")
    return ours < other, f"Training loss after the first epoch: {ours:.3f} (ResNet-18) and {other:.3f} (model 1)."


def _lower(results):
    ours, other = (results.mean(row, best("val_loss")) for row in (RESNET, MODEL_1))
    return ours < other, f"Lowest validation loss: {ours:.4f} (ResNet-18) and {other:.4f} (model 1)."


def _better(results):
    ours, other = (results.mean(row, best("val_accuracy")) for row in (RESNET, MODEL_1))
    return ours > other, f"Best validation accuracy: {ours:.2%} (ResNet-18) and {other:.2%} (model 1)."


def _transfers(results):
    """Whether pre-training gains more than two shares of the test images differ by chance."""
    scratch, transferred = (results.mean(FIVE, start) for start in STARTS)
    spread = transferred * (1 - transferred) + scratch * (1 - scratch)
    reach = 1.96 * math.sqrt(spread / results.mean(FIVE, "images"))
    told = f"{transferred:.2%} of the test images of five classes are right after pre-training on the five others (the "
    told += (
        f"last five layers trained), and {scratch:.2%} from scratch; differences below {100 * reach:.2f} points may "
    )
    holds = None if abs(transferred - scratch) <= reach else transferred > scratch
    return holds, f"{told}be chance."


CLAIMS = (
    Claim("ResNet learns much faster", "3.4 d", _faster),
    Claim("ResNet converges to a lower validation loss", "3.4 d", _lower),
    Claim("Generally it performs much better", "3.4 d", _better),
    Claim("Filter 11 activates on horizontal lines, filter 12 on vertical lines", "3.5 e", _directed),
)


def _figures():
    figures = []
    for quantity, where in (("accuracy", "figure 5"), ("loss", "figure 6")):
        title = f"{quantity.capitalize()} of ResNet-18"
        series = of_parts(RESNET, quantity)
        figures.append(Lines(f"resnet-{quantity}", title, series, Y_LABELS[quantity], where=where))
    both = Lines(
        "both",
        "Losses of ResNet-18 and model 1",
        lambda results: {
            f"{row}, {word}": results.curve(row, column)
            for row in (RESNET, MODEL_1)
            for word, column in (("training", "loss"), ("validation", "val_loss"))
        },
        Y_LABELS["loss"],
        where="figure 7",
    )
    maps = [
        Picture(f"maps-{word}", title, "pictures", file=f"{word}.png", where=where, wide=True)
        for word, title, where in (
            ("first", "Feature maps of the first convolution", "figure 8"),
            ("last", "Feature maps of the last convolution", "figure 9"),
        )
    ]
    weights = [
        Picture(
            f"weights-{view}",
            f"Weights of the first convolution{'' if view == 'each' else f', {view} only'}",
            "pictures",
            file=f"{view}.png",
            where=f"figure {number}",
        )
        for view, number in COLOURS.items()
    ]
    five = [
        Picture(f"five-{name}", f"{title}, of the network pre-trained on five classes", FIVE, file=file, wide=wide)
        for name, title, file, wide in (
            ("errors", "Errors on five classes", "pretraining.png", False),
            ("first", "Feature maps of the first convolution", "first.png", True),
            ("last", "Feature maps of the last convolution", "last.png", True),
            ("weights", "Weights of the first convolution", "each.png", False),
            *(
                (f"weights-{view}", f"Weights of the first convolution, {view} only", f"{view}.png", False)
                for view in COLOURS
                if view != "each"
            ),
        )
    ]
    five.append(Picture("five-image", "The image that the network of five classes is shown", FIVE, file="image.png"))
    image = Picture("image", "The image that the network is shown", "pictures", where="figure 14")
    return (*figures, both, *maps, *weights, image, *five)


@register("tdt4265-transfer", source="TDT4265 report 2019, task 3")
def tdt4265_transfer():
    """ResNet-18 from ImageNet with its last five layers trained, against model 1; its maps and weights."""
    small = {"image_size": 64}
    resnet = RECIPES.get("tdt4265-resnet18")().replace(test_curve=True, keep="last")
    model_1 = RECIPES.get("tdt4265-model1")().replace(test_curve=True, keep="last")
    return Study(
        name="tdt4265-transfer",
        title="TDT4265, task 3: transfer with ResNet-18",
        source="M. Madsen and S. A. Bergum, TDT4265 A2, 28 February 2019, section 3",
        about="A ResNet-18 with ImageNet's weights is trained in its last five layers on CIFAR-10 and compared with "
        "the report's own model 1. The maps of its first and last convolution and its first weights are drawn.",
        rows=(
            Training(name=RESNET, recipe=resnet, quick=small, note="figures 5 to 7; needs ImageNet's weights"),
            Training(name=MODEL_1, recipe=model_1, note="figure 7"),
            Computed(name="pictures", compute=_pictures, needs=(RESNET,), note="figures 8 to 14"),
            Computed(name=FIVE, compute=_five_classes, note="transfer without ImageNet's weights; ours"),
        ),
        values=_values(),
        claims=CLAIMS,
        questions=(Claim("Does pre-training on five other classes help, too?", "", _transfers),),
        figures=_figures(),
        listings=(
            Listing("How the first convolution's filters are directed", "pictures", "patterns.csv", "3.5 e, 3.7 g"),
            Listing("The same, of the network pre-trained on five classes", FIVE, "patterns.csv"),
        ),
        chosen=(
            "Ten epochs; pixels minus the training mean, divided by the standard deviation.",
            "Images are enlarged to 224x224; the report does not say at which size the network saw them.",
            "The row of five classes shows transfer where ImageNet's weights are not at hand: ResNet-18 as it is for "
            "ImageNet, images of 32x32, every second class of the data for pre-training and the others for transfer.",
            "Our figures number filters from 0; the report does not say whether it counts from 0 or from 1, so that "
            "either may make its sentence on filters 11 and 12 right.",
        ),
        differences=(
            "The maps are those of the first test image of a horse: the report's zebra (figure 14) is not in CIFAR-10.",
        ),
    )
