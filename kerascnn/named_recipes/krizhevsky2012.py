"""AlexNet as Krizhevsky, Sutskever and Hinton trained it (2012)."""

from kerascnn.recipes import RECIPES, Recipe

register = RECIPES.register


@register("alexnet-2012", source="Krizhevsky et al. 2012", chosen=("data", "rate_patience", "validation"))
def alexnet_2012():
    """AlexNet's own: SGD 0.01 with plain momentum 0.9, batches of 128, L2 0.0005, crops, flips, colour noise.

    It is tested with ten views of each image, as the paper's.
    """
    return Recipe(
        model="alexnet",
        model_options={"initialization": "2012"},
        data="miniplaces",
        resize_to=256,
        normalize="mean",
        augment=("flip", "pca"),
        optimizer="sgd",
        learning_rate=0.01,
        momentum=0.9,
        nesterov=False,
        l2=0.0005,
        test_views="ten",
        batch_size=128,
        epochs=90,
        rate_patience=5,
        monitor="val_accuracy",
    )
