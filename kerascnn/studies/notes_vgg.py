"""Notes on AlexNet, VGG and visualising (2020): what they say of VGG, counted."""

from kerascnn import anatomy
from kerascnn.models import MODELS
from kerascnn.studies import register
from kerascnn.studies.frame.listings import of_layers
from kerascnn.studies.frame.study import Claim, Computed, Listing, Study, exact

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
    import numpy as np

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
)


@register("notes-vgg", source="Notes on AlexNet, VGG and visualising CNNs, 2020")
def notes_vgg():
    """VGG counted: parameters of A to E, 5x5 and 7x7 fields of small filters, 27 against 49 weights."""
    return Study(
        name="notes-vgg",
        title="VGG, counted",
        source="Notes on AlexNet, VGG and visualising CNNs, 28 February 2020; K. Simonyan and A. Zisserman, Very deep "
        "convolutional networks for large-scale image recognition, 2014",
        about="What the notes say of VGG that can be counted: the parameters of the paper's columns A to E, what "
        "stacks of 3x3 filters see and how many weights they have. Nothing is trained, so there is nothing to average.",
        rows=(
            Computed(name="stacks", compute=_stacks, note="one, two and three 3x3 layers, and one of 5x5 and 7x7"),
            Computed(name="columns", compute=_columns, note="every column of table 1, built and counted"),
            Computed(name="sizes", compute=_sizes, note="column D on images of other sizes"),
        ),
        values=_values(),
        claims=CLAIMS,
        listings=(
            Listing("The columns", "columns", "columns.csv", "tables 1 and 2"),
            Listing("The layers of column D", "columns", "layers.csv", "table 1"),
            Listing("Stacks of filters", "stacks", "stacks.csv", "Architecture"),
        ),
        slips=(
            "The notes call the small filters' advantage 27 < 49 for one channel; with c channels in and out it is "
            "27c² against 49c², as the paper has it: the ratio is the same.",
        ),
        differences=(
            "The paper prints millions, to which ours round; the exact counts are ours and are not compared.",
            "What the notes list beside it (errors on ImageNet, appendix B) needs ImageNet, which is not here.",
        ),
    )
