"""CS 280 homework 2, part 3 (M. Traverse, 2017): ZF Net on MiniPlaces, and the walk of one image through it."""

import math

import numpy as np
import pandas
from matplotlib.figure import Figure

from kerascnn import anatomy, plots
from kerascnn.models import MODELS
from kerascnn.recipes import RECIPES
from kerascnn.studies import register
from kerascnn.studies.frame.listings import of_layers
from kerascnn.studies.frame.results import Y_LABELS, above_zero, of_parts, of_rows, on_test, on_train
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
    loss,
)

# Figure 1 in Caffe's order: outputs (channels, rows, columns) and weights (filters, channels / groups, rows, columns)
BLOBS = {
    "conv1": (96, 45, 45),
    "pool1": (96, 22, 22),
    "conv2": (256, 11, 11),
    "pool2": (256, 5, 5),
    "conv3": (384, 5, 5),
    "conv4": (384, 5, 5),
    "conv5": (256, 5, 5),
    "pool5": (256, 2, 2),
    "fc6": (1024,),
    "fc7": (1024,),
    "fc8": (100,),
}
WEIGHTS = {
    "conv1": (96, 3, 7, 7),
    "conv2": (256, 48, 5, 5),
    "conv3": (384, 256, 3, 3),
    "conv4": (384, 192, 3, 3),
    "conv5": (256, 192, 3, 3),
    "fc6": (1024, 1024),
    "fc7": (1024, 1024),
    "fc8": (100, 1024),
}
# Section 2's five most probable classes of an abbey
RESPONSES = (
    ("abbey", 0.2679885),
    ("monastery/outdoor", 0.184772),
    ("church/outdoor", 0.17860141),
    ("palace", 0.17546929),
    ("courtyard", 0.077413633),
)
LOW, STRONG = 0.1, 0.5  # of the largest activation: below is low, above is strong


def other_images(row):
    """The function that says why a row's accuracy cannot be compared: it was trained on other images, or ""."""

    def reason(results):
        try:
            data = results.trained(row)[0].run.read("data")
        except NotRun:
            return ""
        same = data["name"] == "miniplaces"
        return "" if same else f"on other images: {data['name']}, {len(data['class_names'])} classes"

    return reason


def _values():
    numbers = []
    parts = {"train": (on_train, 0.46, 0.76, 1.989), "test": (on_test, 0.37, 0.66, 2.49)}
    names = {"train": "training", "test": "MiniPlaces' own validation"}
    for split, (measured, top1, top5, nats) in parts.items():
        shared = {"split": split, "where": "1.1.1", "cannot": other_images("zfnet")}
        half = 0.0005 if nats == 1.989 else 0.005
        numbers += [
            accuracy("zfnet", f"top-1, {names[split]} images", measured("accuracy"), top1, half=0.005, **shared),
            accuracy("zfnet", f"top-5, {names[split]} images", measured("top5"), top5, half=0.005, **shared),
            loss("zfnet", f"loss, {names[split]} images", measured("loss"), nats, half=half, **shared),
        ]
    competition = "top-1 in the competition, beside ours on MiniPlaces' own validation images"
    never = "the labels of the competition's images were never published"
    numbers.append(accuracy("zfnet", competition, on_test("accuracy"), 0.36, half=0.005, where="1.1.1", cannot=never))
    alexnet = [
        kind("alexnet", f"{what}, {names[split]} images", measured(name), split=split, where="1.1, not printed")
        for split, (measured, *_) in parts.items()
        for kind, what, name in ((accuracy, "top-1", "accuracy"), (accuracy, "top-5", "top5"), (loss, "loss", "loss"))
    ]
    counts = []
    for unit, measure, shapes in (("neurons", "outputs", BLOBS), ("weights", "weights", WEIGHTS)):
        for layer, shape in shapes.items():
            what = f"{unit} of {layer} ({'x'.join(map(str, shape))})"
            counts.append(exact("shapes", what, f"{layer} {measure}", math.prod(shape), unit=unit, where="figure 1"))
    shapes = [
        exact("shapes", f"{what} of the figure's shape", f"equal {what}", len(shapes), where="figure 1")
        for what, shapes in (("layers whose output is", BLOBS), ("layers whose weights are", WEIGHTS))
    ]
    responses = [
        Value(
            "walk",
            f"probability of the class in place {place}",
            f"place {place}",
            probability,
            printed=f"{probability} ({label})",
            where="section 2, the top 5 responses",
            cannot="of another image",
        )
        for place, (label, probability) in enumerate(RESPONSES, start=1)
    ]
    return (*numbers, *alexnet, *shapes, *counts, *responses)


def _shapes(place):
    model = MODELS.get("zfnet_miniplaces")()
    of_layers(anatomy.layer_table(model)).to_csv(place.folder / "layers.csv", index=False)
    outputs = {layer: _as_caffe(model.get_layer(layer).output.shape[1:]) for layer in BLOBS}
    weights = {layer: _as_caffe(model.get_layer(layer).kernel.shape) for layer in WEIGHTS}
    numbers = {"equal layers whose output is": sum(outputs[layer] == shape for layer, shape in BLOBS.items())}
    numbers["equal layers whose weights are"] = sum(weights[layer] == shape for layer, shape in WEIGHTS.items())
    numbers |= {f"{layer} outputs": math.prod(shape) for layer, shape in outputs.items()}
    return numbers | {f"{layer} weights": math.prod(shape) for layer, shape in weights.items()}


def _as_caffe(shape):
    """A shape of Keras in Caffe's order: an output's channels first, weights' filters and then channels first."""
    last = {1: 0, 2: 2, 3: 1, 4: 2}[len(shape)]  # how many axes go to the front, the last one first
    front, rest = shape[len(shape) - last :][::-1], shape[: len(shape) - last]
    return (*front, *rest)


def _walk(place):
    """One test image on its way through the network, as one figure."""
    import keras

    from kerascnn import using
    from kerascnn.callbacks.filters import filters_of

    run = place.run("zfnet")
    classifier, data = using.subject(run), using.data_of(run)
    model, prepared = classifier.model, classifier.preprocessing
    few = data.test.take(np.arange(min(64, len(data.test))))
    images = prepared(few.images[:])
    answers = model.predict_on_batch(images)
    right = np.flatnonzero(answers.argmax(1) == few.labels)
    chosen = int(right[0]) if len(right) else 0
    image, probabilities = images[chosen], answers[chosen]
    layers = [model.get_layer(name).output for name in ("conv1", "pool5", "fc6")]
    seen = keras.Model(model.inputs[0], layers).predict_on_batch(image[None])
    conv1, pool5, fc6 = (np.asarray(each[0], "float32") for each in seen)
    top = np.argsort(-probabilities, kind="stable")[:5]
    labels = [classifier.labels[number] for number in top]
    table = pandas.DataFrame({"index": top, "probability": probabilities[top].round(4), "label": labels})
    table.to_csv(place.folder / "top5.csv", index=False)
    drawn = _drawn(image, conv1, filters_of(model, "conv1"), pool5, fc6, table, classifier.labels[few.labels[chosen]])
    plots.save(drawn, pandas.DataFrame({"unit": range(len(fc6)), "fc6": fc6}), place.folder / "walk.png")
    grids = pool5.max((0, 1))
    return {
        "low": float((fc6 <= LOW * fc6.max()).mean()),
        "strong": float((grids > STRONG * grids.max()).mean()),
        "sum": float(probabilities.sum()),
        **{f"place {place}": float(probabilities[number]) for place, number in enumerate(top, start=1)},
    }


def _scaled(tiles):
    low, high = tiles.min(), tiles.max()
    return (tiles - low) / (high - low if high > low else 1)


def _each(tiles):
    """Tiles (n, h, w, ...), each from its least to its largest number."""
    return np.stack([_scaled(tile) for tile in tiles])


def _drawn(image, conv1, filters, pool5, fc6, table, label):
    """The matplotlib Figure of the walk, in the report's order."""
    figure = Figure(figsize=(9, 12), layout="constrained")
    axes = figure.subplot_mosaic("aaabbb;cccddd;eeffgg", height_ratios=(3, 3, 2))
    filters = filters if filters.shape[-1] == 3 else filters.mean(-1)
    grids = np.moveaxis(pool5, -1, 0)
    pictures = {
        "a": (_scaled(image), f"the image, the mean subtracted: {plots.shortened(label)}"),
        "b": (plots.mosaic(_each(np.moveaxis(conv1, -1, 0)), 12), "conv1's output, each map on its own scale"),
        "c": (plots.mosaic(_each(filters), 12), "conv1's filters, each on its own scale"),
        "d": (plots.mosaic(_scaled(grids), 16), f"pool5, grids of {grids.shape[1]}x{grids.shape[2]}, one scale"),
    }
    for place, (picture, title) in pictures.items():
        axes[place].imshow(picture, cmap="gray", interpolation="nearest")
        axes[place].set_title(title, fontsize="medium")
        axes[place].set_axis_off()
    axes["e"].plot(fc6, color=plots.BLUE, linewidth=0.6)
    axes["e"].set(xlabel="unit of fc6", ylabel="activation")
    axes["f"].hist(fc6, 30, color=plots.BLUE)
    axes["f"].set(xlabel="activation of fc6", ylabel="units")
    axes["g"].barh(range(len(table)), table["probability"], color=plots.BLUE)
    axes["g"].set_yticks(range(len(table)), [plots.shortened(str(name), 18) for name in table["label"]])
    axes["g"].invert_yaxis()
    axes["g"].set_xlabel("probability of the first five")
    return figure


def _few_strong(results):
    share = results.mean("walk", "strong")
    return (
        share < 0.25,
        f"{share:.0%} of pool5's grids exceed half of the largest activation; below a quarter is a few.",
    )


def _low(results):
    share = results.mean("walk", "low")
    return share > 0.5, f"{share:.0%} of fc6's units are at or below a tenth of the largest activation."


def _zf_better(results):
    _, low, high, told = results.difference("zfnet", "alexnet", on_test("accuracy"))
    return above_zero(low, high), f"Top-1 of the test images {told}."


CLAIMS = (
    Claim("ZF Net's changes improve on AlexNet (which the report set out to see)", "1.1", _zf_better),
    Claim("Only a few of pool5's grids activate strongly", "2", _few_strong),
    Claim("The majority of fc6's neurons activate close to zero", "2", _low),
)


def _curves(quantity, title):
    words = {"x_label": "steps", "where": "1.1, evaluated every 2,500 steps"}
    return Lines(f"zfnet-{quantity}", title, of_parts("zfnet", quantity), Y_LABELS[quantity], **words)


@register("cs280-miniplaces", source="CS 280 report 2017")
def cs280_miniplaces():
    """ZF Net on MiniPlaces (or other scenes) beside AlexNet, figure 1's shapes, and the walk of one image."""
    recipe = RECIPES.get("miniplaces")().replace(test_curve=True, top5=True)
    return Study(
        name="cs280-miniplaces",
        title="CS 280: ZF Net on MiniPlaces, and the walk of one image",
        source="M. Traverse, CS 280 MiniPlaces HW2 part 3, 13 March 2017",
        about="AlexNet and its form after Zeiler and Fergus are trained on MiniPlaces' hundred kinds of places. The "
        "shapes of figure 1 are compared, and one image is followed through the network as in section 2.",
        rows=(
            Computed(name="shapes", compute=_shapes, note="the network of figure 1, counted"),
            Training(name="zfnet", recipe=recipe, note="section 1.1"),
            Training(
                name="alexnet", recipe=recipe.replace(model="alexnet_miniplaces"), note="what it is compared with"
            ),
            Computed(name="walk", compute=_walk, needs=("zfnet",), note="section 2, on a test image"),
        ),
        values=_values(),
        claims=CLAIMS,
        figures=(
            _curves("loss", "Loss of ZF Net"),
            _curves("accuracy", "Top-1 accuracy of ZF Net"),
            Lines(
                "both-accuracy",
                "Top-1 accuracy of ZF Net and AlexNet on the test images",
                of_rows(("zfnet", "alexnet"), "test_accuracy"),
                Y_LABELS["accuracy"],
                x_label="steps",
                where="1.1, the comparison",
            ),
            Picture("walk", "The walk of one image", "walk", where="section 2", wide=True),
        ),
        listings=(
            Listing("The five most probable classes", "walk", "top5.csv", "section 2"),
            Listing("The layers", "shapes", "layers.csv", "figure 1"),
        ),
        slips=(
            "Section 2 calls the first layer 3x3 with stride 2; section 1.1 and figure 1's weights have 7x7.",
            "The filters are said to be expanded from 192 to 256 and 384; the next sentence says that the given "
            "AlexNet already had them.",
        ),
        chosen=(
            "Optimizer (Adam), learning rate (0.001), epochs (20 evaluations of 2,500 steps), augmentation (flips).",
            "Weights are chosen by 10% of the training images; MiniPlaces' own validation images are the test split, "
            "as the labels of its test images were never published.",
        ),
        differences=("Where MiniPlaces is not there, --data takes other scenes; accuracies are then not compared.",),
    )
