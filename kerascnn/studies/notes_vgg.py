"""Notes on AlexNet, VGG and visualising (2020): what they say of VGG, counted; appendix B on our own network."""

import numpy as np

from kerascnn import anatomy
from kerascnn.models import MODELS
from kerascnn.studies import register
from kerascnn.studies.comp576_zeiler_fergus import network_rows
from kerascnn.studies.frame.listings import of_layers
from kerascnn.studies.frame.looks import asked
from kerascnn.studies.frame.study import Claim, Computed, Listing, Picture, Study, accuracy, exact

# column of table 1: (our network, parameters in millions as the paper's table 2 prints them, weight layers)
COLUMNS = {
    "A": ("vgg11", 133, 11),
    "A-LRN": ("vgg11_lrn", 133, 11),
    "B": ("vgg13", 133, 13),
    "C": ("vgg16c", 134, 16),
    "D": ("vgg16", 138, 16),
    "E": ("vgg19", 144, 19),
}
PAPER = "Simonyan and Zisserman"


# Appendix B: (name of ours, what it is)
FEATURES = (
    ("one", "features of fc2 at the network's own scale"),
    ("mean", "the mean of these features over three scales"),
    ("stack", "these features at three scales, stacked"),
    ("gradients", "hand-crafted features: histograms of gradients"),
)
CALTECH = {  # table 11, column D, which stacks its scales there
    "published": 0.918,
    "half": 0.0005,
    "printed": "91.8 ± 1.0%",
    "protocol": "the paper: Caltech-101",
    "cannot": "another network on other images",
}
MARGIN = 0.05  # accuracy by which a margin is large


def _values():
    """Every number that the notes and the paper print."""
    values = []
    for column, (_, millions, _) in COLUMNS.items():
        printed = {"half": 0.5e6, "printed": f"{millions} million", "unit": "parameters", "where": f"{PAPER}, table 2"}
        what = f"parameters of column {column}"
        values.append(exact("columns", what, f"{column} parameters", 1e6 * millions, **printed))
    values += [
        exact("columns", f"weight layers of column {column}", f"{column} layers", depth, where=f"{PAPER}, table 1")
        for column, (_, _, depth) in COLUMNS.items()
    ]
    values += [
        exact("stacks", what, name, number, unit=unit, where="Architecture")
        for what, name, number, unit in (
            ("field of two 3x3 layers, side", "field of 2", 5, "pixels"),
            ("field of three 3x3 layers, side", "field of 3", 7, "pixels"),
            ("weights of three 3x3 filters, one channel", "weights of 3", 27, "weights"),
            ("weights of a 7x7 filter, one channel", "weights of 7x7", 49, "weights"),
        )
    ]
    values += [
        accuracy(
            "appendix B",
            f"support vector machine on {what}",
            name,
            where="table 11" if name == "stack" else "appendix B",
            **(CALTECH if name == "stack" else {}),
        )
        for name, what in FEATURES
    ]
    return tuple(values)


def _columns(place):
    import pandas
    from keras import layers

    rows, numbers = [], {}
    for column, (name, millions, _) in COLUMNS.items():
        facts = MODELS.facts(name)
        model = MODELS.get(name)()
        table = anatomy.layer_table(model)
        weighted = table[table["type"].isin(["Conv2D", "Dense"])]
        numbers[f"{column} parameters"] = model.count_params()
        numbers[f"{column} layers"] = len(weighted)
        kernels = [layer.kernel_size[0] for layer in model.layers if isinstance(layer, layers.Conv2D)]
        numbers[f"{column} 1x1"] = kernels.count(1)
        dense = weighted.loc[weighted["type"] == "Dense", "parameters"].sum()
        rows.append(
            {
                "column": column,
                "network": name,
                "weight layers": len(weighted),
                "1x1 convolutions": kernels.count(1),
                "parameters": f"{model.count_params():,}",
                "of these dense": f"{dense:,}",
                "printed": f"{millions} million",
                "work per image, G macs": f"{table['macs'].sum() / 1e9:.2f}",
            }
        )
        place.say(f"{column}: {model.count_params():,} parameters ({facts['published']} printed)")
        if column == "D":
            of_layers(table).to_csv(place.folder / "layers.csv", index=False)
        del model
    pandas.DataFrame(rows).to_csv(place.folder / "columns.csv", index=False)
    return numbers


def _stack(sizes, channels=1):
    """A model of convolutions of these sizes, without biases."""
    import keras

    inputs = x = keras.Input((32, 32, channels))
    for number, size in enumerate(sizes, start=1):
        x = keras.layers.Conv2D(channels, size, padding="same", use_bias=False, name=f"conv{number}")(x)
    return keras.Model(inputs, x)


def _stacks(place):
    import pandas

    stacks = {"1": [3], "2": [3, 3], "3": [3, 3, 3], "5x5": [5], "7x7": [7]}
    rows, numbers = [], {}
    for name, sizes in stacks.items():
        model = _stack(sizes)
        field = anatomy.receptive_field(model, f"conv{len(sizes)}").size[0]
        numbers |= {f"field of {name}": field, f"weights of {name}": model.count_params()}
        wide = _stack(sizes, 512).count_params()
        words = " + ".join(f"{size}x{size}" for size in sizes)
        rows.append(
            {
                "filters": words,
                "sees, pixels": f"{field}x{field}",
                "weights, one channel": model.count_params(),
                "weights, 512 channels": f"{wide:,}",
                "rectifiers": len(sizes),
            }
        )
    pandas.DataFrame(rows).to_csv(place.folder / "stacks.csv", index=False)
    return numbers


def _sizes(place):
    """Differences between the class scores of one network's dense layers as convolutions and as they are."""
    from kerascnn.models.vgg import as_convolutions, vgg16

    model = vgg16((32, 32, 3), 10, dense_units=64)
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    same = as_convolutions(model, (32, 32, 3))
    larger = as_convolutions(model, (64, 96, 3))
    wide = np.random.default_rng(1).normal(size=(2, 64, 96, 3)).astype("float32")
    difference = np.abs(model.predict_on_batch(images) - same.predict_on_batch(images)).max()
    answers = larger.predict_on_batch(wide)
    return {
        "difference": float(difference),
        "weights": int(larger.count_params() == model.count_params()),
        "sums": float(np.abs(answers.sum(1) - 1).max()),
    }


def gradients(images, cell=8, bins=9):
    """Histograms of gradient directions (Dalal and Triggs 2005), float (N, cells x bins), each image's of length 1.

    Args:
        images: (N, H, W, C).
        cell: side of the squares that have a histogram each, pixels; what is left at the border is not used.
        bins: directions from 0 to 180 degrees.
    """
    grey = np.asarray(images, "float32").mean(-1)
    down, right = np.gradient(grey, axis=(1, 2))
    chosen = (np.arctan2(down, right) % np.pi * bins / np.pi).astype(int) % bins
    weights = np.hypot(down, right)[..., None] * np.eye(bins, dtype="float32")[chosen]
    rows, columns = (side // cell for side in grey.shape[1:])
    cells = weights[:, : rows * cell, : columns * cell].reshape(len(grey), rows, cell, columns, cell, bins)
    flat = cells.sum((2, 4)).reshape(len(grey), -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)


def _appendix_b(place):
    """For each test image of other data whether a linear classifier on the network's features is right (1) or not."""
    from kerascnn.experiments.asked import some
    from kerascnn.experiments.multiscale import STRENGTHS, command, svm

    of, count = asked(place, "network", place.other), 100 if place.quick else 1000
    outcome = command(of, images=count)
    outcome.save(place.folder)
    table = outcome.table
    right = {
        row.aggregate: outcome.arrays[f"{row.network}/{row.scales}/{row.aggregate}"].astype(int).tolist()
        for row in table.iloc[::-1].itertuples()  # of the scales alone the first, the network's own, stays
    }
    train, test = (some(split, count, seed=0) for split in of.both(0))
    machine = svm(gradients(train.images[:]), train.labels, STRENGTHS, 0)
    by_gradients = machine.predict(gradients(test.images[:])) == np.asarray(test.labels)
    for sentence in outcome.findings:
        place.say(sentence)
    return {**right, "gradients": by_gradients.astype(int).tolist()}


def _generalise(results):
    ours, crafted = (results.mean("appendix B", name) for name in ("stack", "gradients"))
    return ours - crafted >= MARGIN, (
        f"A support vector machine is right for {ours:.1%} of other images by the network's features and for "
        f"{crafted:.1%} by histograms of gradients; {100 * MARGIN:.0f} points count as a large margin."
    )


def _fewer(results):
    small, large = results.mean("stacks", "weights of 3"), results.mean("stacks", "weights of 7x7")
    return small < large, f"{small:.0f} weights against {large:.0f}, {1 - small / large:.0%} fewer."


def _same_depth(results):
    depth = [results.mean("columns", f"{column} layers") for column in "CD"]
    ones = [results.mean("columns", f"{column} 1x1") for column in "CD"]
    holds = depth == [16, 16] and ones[0] > 0 == ones[1]
    return holds, f"C has {depth[0]:.0f} and D {depth[1]:.0f} weight layers; {ones[0]:.0f} and {ones[1]:.0f} are 1x1."


def _other_sizes(results):
    difference, same = results.mean("sizes", "difference"), results.mean("sizes", "weights")
    close = f"the same to within {difference:.1g}" if difference else "exactly the same"
    return difference < 1e-5 and same == 1, (
        f"Column D for 32x32 images, its dense layers made convolutions: the answers are {close}, and the same weights "
        "answer images of 64x96."
    )


CLAIMS = (
    Claim("Three 3x3 layers have fewer parameters than a 7x7 filter: 27 < 49", "Architecture", _fewer, counts=True),
    Claim(
        "Models C and D both have 16 layers; C has 1x1 convolutions while D has 3x3",
        "Results",
        _same_depth,
        counts=True,
    ),
    Claim(
        "You can take estimated weights from one image size and use them for another",
        "Training",
        _other_sizes,
        counts=True,
    ),
    Claim(
        "Deep representations generalise well to other data, far better than hand-crafted ones",
        "Appendix B",
        _generalise,
    ),
)


@register("notes-vgg", source="Notes on AlexNet, VGG and visualising CNNs, 2020")
def notes_vgg():
    """VGG counted: parameters of A to E, 5x5 and 7x7 fields, 27 against 49 weights; appendix B on our own network."""
    network, _ = network_rows()
    return Study(
        name="notes-vgg",
        title="VGG, counted, and its appendix B",
        source="Notes on AlexNet, VGG and visualising CNNs, 28 February 2020; K. Simonyan and A. Zisserman, Very deep "
        "convolutional networks for large-scale image recognition, 2014",
        about="What the notes say of VGG that can be counted: the parameters of the paper's columns A to E, what "
        "stacks of 3x3 filters see and how many weights they have. Then appendix B on a network of our own: a linear "
        "classifier on its features of images that it was not trained for.",
        rows=(
            Computed(name="stacks", compute=_stacks, note="one, two and three 3x3 layers, and one of 5x5 and 7x7"),
            Computed(name="columns", compute=_columns, note="every column of table 1, built and counted"),
            Computed(name="sizes", compute=_sizes, note="column D on images of other sizes"),
            network,
            Computed(name="appendix B", compute=_appendix_b, needs=("network",), note="features on other data"),
        ),
        values=_values(),
        claims=CLAIMS,
        figures=(
            Picture(
                "appendix-b",
                "A support vector machine on features of several scales",
                "appendix B",
                file="multiscale.png",
                where="appendix B",
                wide=True,
            ),
        ),
        listings=(
            Listing("The columns", "columns", "columns.csv", "tables 1 and 2"),
            Listing("The layers of column D", "columns", "layers.csv", "table 1"),
            Listing("Stacks of filters", "stacks", "stacks.csv", "Architecture"),
        ),
        slips=(
            "The notes call the small filters' advantage 27 < 49 for one channel; with c channels in and out it is "
            "27c² against 49c², as the paper has it: the ratio is the same.",
        ),
        other="miniplaces",
        chosen=(
            "Appendix B: cifar_net, trained on CIFAR-10 by the recipe cifar-net-88; 1,000 images of other data; three "
            "scales of 1, 1.25 and 1.5 times its own size; histograms of 9 directions in cells of 8x8 pixels.",
        ),
        differences=(
            "The paper prints millions, to which ours round; the exact counts are ours and are not compared.",
            "Errors on ImageNet, and features learnt on it, are not here: appendix B has a small network's.",
        ),
    )
