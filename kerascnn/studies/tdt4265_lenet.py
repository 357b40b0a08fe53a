"""TDT4265 assignment 2, task 1 (M. Madsen and S. A. Bergum, 2019): LeNet on CIFAR-10."""

from kerascnn import anatomy
from kerascnn.models import MODELS
from kerascnn.recipes import RECIPES
from kerascnn.studies import register
from kerascnn.studies.frame.listings import of_layers
from kerascnn.studies.frame.results import Y_LABELS, best, last, of_parts, on_train, when_best
from kerascnn.studies.frame.study import (
    OURS,
    Claim,
    Computed,
    Lines,
    Listing,
    Study,
    Training,
    Value,
    accuracy,
    exact,
    loss,
)

ROW, SGD = "lenet", "lenet with SGD"
BY_SGD = {"optimizer": "sgd", "learning_rate": 0.01, "momentum": 0.0}
TABLE_1 = {  # what the report prints after ten epochs
    "training": (on_train("accuracy"), 0.9233),
    "validation": (last("val_accuracy"), 0.7092),
    "test": (last("test_accuracy"), 0.7149),
}
SPLITS = {"training": "train", "validation": "validation", "test": "test"}
SUM = 390_400  # equation 6
HALF = 0.5e-4  # of the last of four printed places
# (layer, number of the equation, weights with biases that it prints)
EQUATIONS = (("conv1", 1, 2432), ("conv2", 2, 51_264), ("conv3", 3, 204_928), ("fc1", 4, 131_136), ("fc2", 5, 640))


def _values():
    final = {"half": HALF, "protocol": "after ten epochs", "where": "table 1"}
    validation = {"split": "validation", "half": HALF, "where": "1.1 a"}
    sums = {"unit": "parameters", "where": "equation 6"}
    counts = tuple(
        exact(
            "parameters",
            f"weights and biases of {layer}",
            layer,
            printed,
            unit="parameters",
            where=f"equation {number}",
            cannot="the equation leaves out the biases" if layer == "fc2" else "",
        )
        for layer, number, printed in EQUATIONS
    )
    return (
        *(accuracy(ROW, f"{part} accuracy", *TABLE_1[part], split=split, **final) for part, split in SPLITS.items()),
        *(
            accuracy(SGD, f"{part} accuracy", TABLE_1[part][0], split=split, protocol="after ten epochs", where=OURS)
            for part, split in SPLITS.items()
        ),
        loss(ROW, "lowest validation loss", best("val_loss"), 0.8024, **validation),
        Value(ROW, "epoch of the lowest validation loss", when_best("val_loss"), 6, unit="epoch", where="1.1 a"),
        *counts,
        exact("parameters", "sum as the equations print their terms", "printed sum", SUM, **sums),
        exact(
            "parameters",
            "parameters of the network, all biases counted",
            "all",
            SUM,
            cannot="equation 5 leaves out ten biases, and so does the printed sum",
            **sums,
        ),
    )


def _parameters(place):
    model = MODELS.get("tdt_lenet")()
    table = anatomy.layer_table(model)
    of_layers(table).to_csv(place.folder / "layers.csv", index=False)
    counts = {row.layer: int(row.parameters) for row in table.itertuples()}
    numbers = {layer: counts[layer] for layer, _, _ in EQUATIONS}
    return {**numbers, "all": model.count_params(), "printed sum": sum(printed for _, _, printed in EQUATIONS)}


def _overfits(results):
    """Whether the validation loss rises after its least value while the training loss falls."""
    _, training, *_ = results.curve(ROW, "loss")
    _, validation, *_ = results.curve(ROW, "val_loss")
    place = int(validation.argmin())
    told = f"Training loss {training[place]:.3f} at epoch {place + 1} and {training[-1]:.3f} at the end; validation "
    told += f"loss {validation[place]:.3f} and {validation[-1]:.3f} (means over the seeds)."
    return bool(training[-1] < training[place] and validation[-1] > validation[place]), told


def _adam(results):
    """Which optimizer's accuracies lie nearer to table 1, of which the report does not say how it was trained."""
    elsewhere, away, told = results.on_other_images(ROW), {}, []
    if elsewhere:
        return None, f"The report's numbers do not count here: {elsewhere}."
    for row in (ROW, SGD):
        ours = {part: results.mean(row, measure) for part, (measure, _) in TABLE_1.items()}
        away[row] = sum(abs(ours[part] - printed) for part, (_, printed) in TABLE_1.items())
        told.append(f"{row} {', '.join(f'{part} {value:.2%}' for part, value in ours.items())}")
    return away[ROW] < away[SGD], f"{'; '.join(told)}. Sums of differences: {away[ROW]:.3f} and {away[SGD]:.3f}."


CLAIMS = (
    Claim(
        "The lowest validation loss comes before the last epoch: the network then overfits",
        "1.1 a and figure 1",
        _overfits,
    ),
)


@register("tdt4265-lenet", source="TDT4265 report 2019, task 1")
def tdt4265_lenet():
    """LeNet on CIFAR-10 for ten epochs: table 1, figures 1 and 2, and the sum of its parameters."""
    recipe = RECIPES.get("tdt4265-lenet")().replace(test_curve=True, keep="last")
    return Study(
        name="tdt4265-lenet",
        title="TDT4265, task 1: LeNet on CIFAR-10",
        source="M. Madsen and S. A. Bergum, TDT4265 A2, 28 February 2019, section 1",
        about="A LeNet of three 5x5 convolutions is trained on CIFAR-10 for ten epochs. The report prints its final "
        "accuracies, its lowest validation loss, two figures, and how many parameters it has.",
        rows=(
            Computed(name="parameters", compute=_parameters, note="the network, counted"),
            Training(name=ROW, recipe=recipe, note="weights of the last epoch, as the report's table 1"),
            Training(name=SGD, recipe=recipe.replace(**BY_SGD), note="the same with SGD"),
        ),
        values=_values(),
        claims=CLAIMS,
        questions=(Claim("Is table 1 nearer to a training with Adam than with SGD?", "", _adam),),
        figures=(
            Lines("loss", "Loss", of_parts(ROW, "loss"), Y_LABELS["loss"], where="figure 1"),
            Lines("accuracy", "Accuracy", of_parts(ROW, "accuracy"), Y_LABELS["accuracy"], where="figure 2"),
        ),
        listings=(Listing("The layers", "parameters", "layers.csv", "1.1 c"),),
        slips=(
            "The left side of equation 4, (H x W + 1) x C x D, would be 139,264; the number that it prints, 131,136, "
            "is right: (4 x 4 x 128 + 1) x 64.",
            "Equation 5 leaves out the ten biases of the last layer: 640 in place of 650.",
            "Equation 6 is the sum of the five lines, 390,400; with all biases the network has 390,410.",
        ),
        chosen=(
            "Optimizer (Adam), learning rate (0.001), batch size (64): section 1 prints none; these are section 2's. "
            "The row with SGD (0.01, no momentum) says which is nearer to table 1.",
            "Pixels minus the training mean, divided by the standard deviation.",
            "10% of the training images are held out for validation.",
        ),
        differences=(
            "The training curves are means over each epoch, while the weights change; the training accuracy of the "
            "table is measured afterwards, on 10,000 of the training images.",
        ),
        seeds=3,
    )
