"""The ranges of the COMP576 report's eight trials of LeNet-5 on grey CIFAR-10."""

from kerascnn.recipes import RECIPES
from tuning import register


@register()
def lenet_grey(hp):
    """LeNet-5 on grey CIFAR-10 within the eight COMP576 trials: optimizer, learning rate, batch size, keep rate."""
    return RECIPES.get("comp576-1")().replace(
        eval_every=0,
        optimizer=hp.Choice("optimizer", ["adam", "sgd", "rmsprop"]),
        learning_rate=hp.Float("learning_rate", 1e-4, 5e-2, sampling="log", default=1e-4),
        batch_size=hp.Choice("batch_size", [100, 200, 500]),
        dropout=round(1 - hp.Float("keep_rate", 0.4, 0.8, default=0.8), 6),
    )
