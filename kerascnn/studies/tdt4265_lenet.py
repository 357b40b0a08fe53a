"""TDT4265 assignment 2, task 1 (M. Madsen and S. A. Bergum, 2019): LeNet on CIFAR-10."""

from kerascnn import anatomy
from kerascnn.models import MODELS
from kerascnn.recipes import RECIPES
from kerascnn.studies import register
from kerascnn.studies.frame.listings import of_layers
from kerascnn.studies.frame.results import best, last, on_train, when_best
from kerascnn.studies.frame.study import Claim, Computed, Lines, Listing, Study, Training, Value

ROW = "lenet"
SUM = 390_400  # equation 6
# (layer, number of the equation, weights with biases that it prints)
EQUATIONS = (("conv1", 1, 2432), ("conv2", 2, 51_264), ("conv3", 3, 204_928), ("fc1", 4, 131_136), ("fc2", 5, 640))


def accuracy(row, what, measure, published, split, **more):
    """A Value that is an accuracy of four printed places."""
    words = {"half": 0.5e-4, "unit": "accuracy", "better": "higher", **more}
    return Value(row=row, what=what, measure=measure, published=published, split=split, **words)


def loss(row, what, measure, published, split, **more):
    """A Value that is a loss of four printed places."""
    words = {"half": 0.5e-4, "unit": "nats", "better": "lower", **more}
    return Value(row=row, what=what, measure=measure, published=published, split=split, **words)


def curves(row, quantity):
    """The function that gives a row's training, validation and test curves of "loss" or "accuracy"."""
    parts = {"training": "", "validation": "val_", "test": "test_"}
    return lambda results: {name: results.curve(row, prefix + quantity) for name, prefix in parts.items()}


def _values():
    final = {"protocol": "after ten epochs", "where": "table 1"}
    counts = tuple(
        Value(
            row="parameters",
            what=f"weights and biases of {layer}",
            measure=layer,
            published=printed,
            unit="parameters",
            where=f"equation {number}",
            better="exact",
            cannot="the equation leaves out the biases" if layer == "fc2" else "",
        )
        for layer, number, printed in EQUATIONS
    )
    return (
        accuracy(ROW, "training accuracy", on_train("accuracy"), 0.9233, "train", **final),
        accuracy(ROW, "validation accuracy", last("val_accuracy"), 0.7092, "validation", **final),
        accuracy(ROW, "test accuracy", last("test_accuracy"), 0.7149, "test", **final),
        loss(ROW, "lowest validation loss", best("val_loss"), 0.8024, "validation", where="1.1 a"),
        Value(
            row=ROW,
            what="epoch of the lowest validation loss",
            measure=when_best("val_loss"),
            published=6,
            unit="epoch",
            where="1.1 a",
        ),
        *counts,
        Value(
            row="parameters",
            what="sum as the equations print their terms",
            measure="printed sum",
            published=SUM,
            unit="parameters",
            where="equation 6",
            better="exact",
        ),
        Value(
            row="parameters",
            what="parameters of the network, all biases counted",
            measure="all",
            published=SUM,
            unit="parameters",
            where="equation 6",
            better="exact",
            cannot="the printed sum has slips: see there",
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


CLAIMS = (
    Claim(
        text="The lowest validation loss comes before the last epoch: the network then overfits",
        where="1.1 a and figure 1",
        test=_overfits,
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
        ),
        values=_values(),
        claims=CLAIMS,
        figures=(
            Lines(
                name="loss",
                title="Loss",
                series=curves(ROW, "loss"),
                x_label="epochs",
                y_label="loss (nats)",
                where="figure 1",
            ),
            Lines(
                name="accuracy",
                title="Accuracy",
                series=curves(ROW, "accuracy"),
                x_label="epochs",
                y_label="accuracy (fraction)",
                where="figure 2",
            ),
        ),
        listings=(Listing(title="The layers", row="parameters", file="layers.csv", where="1.1 c"),),
        slips=(
            "The left side of equation 4, (H x W + 1) x C x D, would be 139,264; the number that it prints, 131,136, "
            "is right: (4 x 4 x 128 + 1) x 64.",
            "Equation 5 leaves out the ten biases of the last layer: 640 in place of 650.",
            "Equation 6 is the sum of the five lines, 390,400; with all biases the network has 390,410.",
        ),
        chosen=(
            "Optimizer (Adam), learning rate (0.001), batch size (64): section 1 prints none; these are section 2's.",
            "Pixels minus the training mean, divided by the standard deviation.",
            "10% of the training images are held out for validation.",
        ),
        differences=(
            "The training curves are means over each epoch, while the weights change; the training accuracy of the "
            "table is measured afterwards, on 10,000 of the training images.",
        ),
        seeds=3,
    )
