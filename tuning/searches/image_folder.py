"""A search for anyone's folder of images: small and large networks, and how hard to train them."""

from kerascnn.recipes import Recipe
from tuning import register


@register()
def image_folder(hp):
    """Any data: network, learning rate, weight decay, label smoothing and augmentation under AdamW."""
    return Recipe(
        model=hp.Choice("model", ["cifar_net", "tdt_model1", "tdt_model2"]),
        optimizer="adamw",
        schedule="cosine",
        learning_rate=hp.Float("learning_rate", 1e-4, 1e-2, sampling="log", default=1e-3),
        weight_decay=hp.Float("weight_decay", 1e-4, 1e-1, sampling="log", default=1e-2),
        label_smoothing=hp.Float("label_smoothing", 0.0, 0.2, step=0.05),
        augment=hp.Choice("augment", ["none", "flip", "flip crop", "flip crop cutout"], default="flip crop")
        .replace("none", "")
        .split(),
    )
