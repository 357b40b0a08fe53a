"""What the CS7011 report searched by hand for its 6.2M network, patience, dropout and learning rate, and more."""

from kerascnn.recipes import Recipe
from tuning import register


@register()
def cifar_net(hp):
    """The CS7011 network: patience, dropout, learning rate, batch size, optimizer, batch norm, augmentation, decay."""
    augmented = hp.Boolean("augment", default=True)
    return Recipe(
        model="cifar_net",
        data="cifar10",
        rate_patience=hp.Int("rate_patience", 2, 10, default=5),
        dropout=hp.Float("dropout", 0.0, 0.7, default=0.5),
        learning_rate=hp.Float("learning_rate", 1e-5, 1e-1, sampling="log", default=1e-3),
        batch_size=hp.Choice("batch_size", [50, 100, 200], default=100),
        optimizer=hp.Choice("optimizer", ["adamw", "sgd", "rmsprop"], default="adamw"),
        batch_norm=hp.Boolean("batch_norm", default=False),
        augment=("flip", "crop") if augmented else (),
        weight_decay=hp.Float("weight_decay", 1e-5, 1e-1, sampling="log", default=1e-3),
    )
