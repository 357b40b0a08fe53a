"""Notes on AlexNet, VGG and visualising (2020): figures and tables of Zeiler and Fergus 2013 on our own network."""

import functools

import numpy as np

from kerascnn import plots
from kerascnn.recipes import RECIPES
from kerascnn.studies import comp576_zeiler_fergus as items
from kerascnn.studies import register
from kerascnn.studies.comp576_zeiler_fergus import DEPTHS, LAYERS
from kerascnn.studies.frame import looks
from kerascnn.studies.frame.results import on_test
from kerascnn.studies.frame.study import Claim, Computed, Listing, Measure, Picture, Study, Training, Value, accuracy

# Table 1, the mean change of sign: {part: (layer 5, its deviation, layer 7, its deviation)}
TABLE_1 = {
    "right eye": (0.067, 0.007, 0.069, 0.015),
    "left eye": (0.069, 0.007, 0.068, 0.013),
    "nose": (0.079, 0.017, 0.069, 0.011),
    "random": (0.107, 0.017, 0.073, 0.014),
}
# Table 3, top-1 errors of ImageNet 2012's validation images: {our row: (what the paper leaves out, error)}
TABLE_3 = {
    "whole": ("nothing: AlexNet as they trained it", 0.405),
    "without fc2": ("layer 7", 0.400),
    "without fc1, fc2": ("layers 6, 7", 0.448),
    "without conv2, conv3": ("layers 3, 4", 0.454),
    "without all four": ("layers 3, 4, 6, 7", 0.713),
}
# Table 4, accuracies on Caltech-101: {images of each class: (not pre-trained, pre-trained)}
TABLE_4 = {15: (0.228, 0.838), 30: (0.465, 0.865)}
# Table 7, support vector machines on Caltech-101, 30 images of each class: {the paper's layer: accuracy}
TABLE_7 = {1: 0.448, 2: 0.662, 3: 0.723, 4: 0.766, 5: 0.862, 7: 0.855}
SCENES = {"alexnet": "alexnet_miniplaces", "zfnet": "zfnet_miniplaces"}  # row: network of figure 6
OTHER_NETWORK = "another network on other images"
CALTECH = {"half": 0.0005, "protocol": "the paper: Caltech-101", "cannot": OTHER_NETWORK, "where": "table 4"}
LINE = 0.9  # share of the variation that a straight line explains where the distance is nearly linear
WHERE = {
    "features": "figure 2",
    "evolution": "figure 4",
    "invariance": "figure 5",
    "filters": "figure 6",
    "occlusion": "figure 7",
    "correspondence": "table 1",
    "ablation": "table 3",
    "generalisation": "table 4",
    "probes": "table 7",
}


def _table_1():
    return [
        Value(
            "correspondence",
            f"signs that differ where {'random places are' if part == 'random' else f'the {part} is'} hidden, "
            f"{ours} (the paper: layer {layer})",
            f"{part} {name}",
            numbers[place],
            half=0.0005,
            printed=f"{numbers[place]} ± {numbers[place + 1]}",
            better="lower",
            where="table 1",
            cannot=f"{OTHER_NETWORK}: ten dogs of 32x32 pixels",
        )
        for place, name, ours, layer in ((0, "deep", "conv4", 5), (2, "top", "fc2", 7))
        for part, numbers in TABLE_1.items()
    ]


def _table_3():
    error = Measure(lambda run: 1 - run.result["accuracy"], lambda run: run.images("test"))
    return [
        Value(
            row,
            f"top-1 error, {row} (the paper leaves out {what})",
            error,
            published,
            half=0.0005,
            unit="accuracy",
            split="test",
            protocol="the paper: validation images of ImageNet",
            better="lower",
            where="table 3",
            cannot=OTHER_NETWORK,
        )
        for row, (what, published) in TABLE_3.items()
    ]


def _table_4():
    words = {"scratch": "trained from scratch", "frozen": "features of the trained network"}
    return [
        accuracy("generalisation", f"{words[name]}, {count} images of each class", f"{name} {count}", number, **CALTECH)
        for count, numbers in TABLE_4.items()
        for name, number in zip(words, numbers, strict=True)
    ]


def _table_7():
    papers = dict(zip(DEPTHS, (1, 2, 3, 5, None, 7), strict=True))
    values = []
    for row, images in (("probes", "its own kind of images"), ("probes on others", "other images")):
        for depth, layer in papers.items():
            what, beside = f"support vector machine on {LAYERS[depth]}, {images}", layer and row == "probes"
            printed = {**CALTECH, "published": TABLE_7[layer]} if beside else {}
            what += f" (the paper: layer {layer})" if beside else ""
            values.append(accuracy(row, what, f"svm {depth}", **{**printed, "where": "table 7"}))
    return values


def _values():
    scenes = [
        accuracy(row, f"accuracy of {network}", on_test(), where="figure 6, without numbers")
        for row, network in SCENES.items()
    ]
    straight = [
        Value(
            "invariance",
            f"share of the distance at fc2 that a straight line explains, {change}",
            f"{change} straight",
            where="figure 5, 'quasi-linear' without a number",
        )
        for change in ("translation", "scale")
    ]
    return (
        accuracy("network", "accuracy of the network that is looked at", on_test(), where="ours alone"),
        *straight,
        *_table_1(),
        *_table_3(),
        *_table_4(),
        *_table_7(),
        *scenes,
    )


def _filters(place):
    """The first layer's filters of both networks, and how their energy is spread over frequencies."""
    from kerascnn import using
    from kerascnn.callbacks.filters import filter_sheet, filters_of, measured

    numbers = {}
    for row in SCENES:
        model = using.subject(place.run(row)).model
        filters = filters_of(model, "conv1")
        table = measured(filters)
        plots.save(filter_sheet(filters, f"conv1 of {model.name}", "each"), table, place.folder / f"{row}.png")
        numbers[f"{row} middle"] = [round(float(share), 5) for share in middle(filters)]
    return numbers


def middle(filters):
    """The share of each filter's energy, without its mean, at middle frequencies: an eighth to a quarter of a cycle a
    pixel, float64 (n,).

    Args:
        filters: float (n, h, w, channels).
    """
    filters = np.asarray(filters, "float64")
    energy = (np.abs(np.fft.fft2(filters, axes=(1, 2))) ** 2).sum(-1)
    rows, columns = (np.fft.fftfreq(size) for size in filters.shape[1:3])
    frequency = np.hypot(rows[:, None], columns[None])
    total = energy[:, frequency > 0].sum(1)
    chosen = energy[:, (frequency >= 1 / 8) & (frequency <= 1 / 4)].sum(1)
    return np.divide(chosen, total, out=np.zeros_like(total), where=total > 0)


def _nearly_straight(results):
    shares = {change: results.mean("invariance", f"{change} straight") for change in ("translation", "scale")}
    told = ", ".join(f"{change} {share:.0%}" for change, share in shares.items())
    return min(shares.values()) > LINE, (
        f"Of the variation of the distance at fc2 a straight line explains: {told}; {LINE:.0%} counts as nearly linear."
    )


def _dense_cost_little(results):
    more = items.rises(results)
    rise = more[items.NO_DENSE]
    return rise < 0.05, f"{100 * rise:+.1f} points of test errors; 5, a little more than in the paper, count as slight."


def _middle_cost_little(results):
    rise = items.rises(results)[items.NO_MIDDLE]
    return rise < 0.05, f"{100 * rise:+.1f} points of test errors; 5, as in the paper, count as small."


def _middle_frequencies(results):
    shares = {row: results.mean("filters", f"{row} middle") for row in SCENES}
    return shares["zfnet"] > shares["alexnet"], (
        f"Energy of conv1's filters at middle frequencies (8 to 4 pixels a cycle): {shares['zfnet']:.0%} (7x7, stride "
        f"2) and {shares['alexnet']:.0%} (11x11, stride 4)."
    )


def _smaller_is_better(results):
    ours, other = (results.mean(row, on_test()) for row in ("zfnet", "alexnet"))
    return ours > other, f"Test accuracy: {ours:.1%} (7x7, stride 2) and {other:.1%} (11x11, stride 4)."


CLAIMS = (
    Claim("Higher layers are more class specific", "figure 2", items.more_specific),
    Claim("Feature activations in later layers stabilise later in training", "figure 4", items.upper_settle_later),
    Claim(
        "Small transformations change the first layer's features dramatically, the top layer's less",
        "figure 5",
        items.small_changes,
    ),
    Claim("The top layer's features are quasi-linear in translation and scaling", "figure 5", _nearly_straight),
    Claim(
        "The output is stable to translation and scaling, but not invariant to rotation",
        "figure 5",
        items.stable_output,
    ),
    Claim(
        "A smaller first layer with a smaller stride covers middle frequencies better", "figure 6", _middle_frequencies
    ),
    Claim("Changes made after looking at the features were helpful", "figure 6", _smaller_is_better),
    Claim("Hiding what a feature map projects to lowers its activity", "figure 7", items.falls_where_hidden),
    Claim(
        "At layer 5, hiding eyes or nose changes features more alike than hiding random places",
        "table 1",
        items.parts_alike,
    ),
    Claim("Leaving out the dense layers costs little", "table 3", _dense_cost_little),
    Claim("Leaving out two middle convolutions costs little", "table 3", _middle_cost_little),
    Claim("Leaving out both costs much: depth matters", "table 3", items.both_needed),
    Claim("Transfer learning works: features beat training from scratch", "table 4", items.features_help),
    Claim("Support vector machines are more accurate the higher the layer", "table 7", items.deeper_is_better),
    Claim("So they are on other images", "table 7", functools.partial(items.deeper_is_better, row="probes on others")),
)


def _figures():
    first, *rest = items.pictures(WHERE)
    filters = tuple(
        Picture(
            f"filters-{row}",
            f"First-layer filters of {network}, each on its own scale",
            "filters",
            file=f"{row}.png",
            where="figure 6",
        )
        for row, network in SCENES.items()
    )
    return (first, *rest, *filters, items.ablation("table 3"))


@register("notes-zeiler-fergus", source="Notes on AlexNet, VGG and visualising CNNs, 2020")
def notes_zeiler_fergus():
    """Figures 2, 4, 5, 6, 7 and tables 1, 3, 4, 7 of Zeiler and Fergus on our own network, claims with numbers."""
    network, variants = items.network_rows()
    recipe = RECIPES.get("zfnet-scenes")().replace(data="miniplaces", epochs=10)
    scenes = tuple(
        Training(name=row, recipe=recipe.replace(model=model), other=True, note=f"figure 6: {note}")
        for (row, model), note in zip(SCENES.items(), ("11x11, stride 4 first", "7x7, stride 2 first"), strict=True)
    )
    return Study(
        name="notes-zeiler-fergus",
        title="Zeiler and Fergus's figures and tables on our own network",
        source="Notes on AlexNet, VGG and visualising CNNs, 28 February 2020; M. D. Zeiler and R. Fergus, Visualizing "
        "and understanding convolutional networks, 2013",
        about="What the notes list of the paper: its figures, made of a network of our own that sees images of 32x32 "
        "pixels, its tables beside ours, and its conclusions as claims. The paper's network was trained on ImageNet, "
        "which is not here, so that its numbers are shown but not compared.",
        rows=(
            network,
            *variants,
            *scenes,
            *items.look_rows(WHERE),
            Computed(
                name="probes on others",
                compute=lambda place: looks.probes(place, data=place.other),
                needs=("network",),
                note="table 7, on images that the network was not trained for, as in the paper",
            ),
            Computed(name="filters", compute=_filters, needs=tuple(SCENES), note="figure 6"),
        ),
        values=_values(),
        claims=CLAIMS,
        figures=_figures(),
        listings=(
            *items.listings(WHERE),
            Listing("Linear classifiers on each layer, other images", "probes on others", "accuracies.csv", "table 7"),
        ),
        other="miniplaces",
        chosen=(
            *items.CHOSEN,
            "The paper's layers 3 and 4 are taken for conv2 and conv3, its layers 6 and 7 for fc1 and fc2.",
            "Figure 6: the networks of the CS 280 report on scenes, ten epochs, the recipe of zfnet-scenes.",
        ),
        differences=(
            "Table 1's eyes are named as we see them; the paper does not say whose left and right it means.",
            "Table 7's classifiers get maps averaged to 2x2 places; the paper's get whole layers.",
            "Figure 8 and tables 5 and 6 need data sets that are not here.",
        ),
    )
