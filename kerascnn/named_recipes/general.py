"""Recipes for any data: the default, a fast one, one that starts from a trained network, one for the digits."""

from kerascnn.recipes import RECIPES, Recipe

register = RECIPES.register


@register()
def default():
    """Adam at 0.001 for 20 epochs: what a run starts from where no other recipe is named."""
    return Recipe()


@register()
def fast():
    """For any folder of images: AdamW in one cycle up to 0.002, smoothed labels, flips and crops, cifar_net.

    Measured once (seed 0): the network cifar_net on 200 images a class of CIFAR-10 as JPEG (1,800 trained on, 200 held
    out, 2,000 tested), 20 epochs on 2 busy cores (AMD EPYC, Keras 3.15.1, TensorFlow 2.21.0, bfloat16): 58.2% (95%
    interval 56.0 to 60.3) in 160 s, where `default` gave 53.7% (51.5 to 55.9) in 188 s; the first half lags behind, as
    the rate is high there. One seed; how much each part gives was not measured, and nothing was searched. A moving
    average was left out: the rate falls to 0, which averages too. For images that mirroring changes, such as digits,
    type --augment crop.
    """
    return Recipe(
        model="cifar_net",
        optimizer="adamw",
        learning_rate=2e-3,
        weight_decay=0.05,
        schedule="one_cycle",
        label_smoothing=0.1,
        clip_norm=1.0,
        augment=("flip", "crop"),
        monitor="val_accuracy",
    )


@register()
def photos():
    """For any folder of images: what `kerascnn train photos/` starts from. Muon, one cycle, smoothed labels, cutout.

    The image size, the batch size, the epochs, the learning rate and the class weights are chosen by what the folder
    holds (`kerascnn.recipe_for`). Measured once (seed 0): 71.60% (95% interval 69.58 to 73.53) of 2,000 test images of
    CIFAR-10 from 200 training images of each class, and 50.80% (48.61 to 52.99) from 30 of each. For images that
    mirroring changes, such as digits, type --augment translate.
    """
    return Recipe(
        model="airbench94",
        model_options={"logit_scale": 0.45},
        epochs=40,
        batch_size=256,
        optimizer="muon",
        momentum=0.8,
        learning_rate=0.12,
        norm_bias_rate=800.0,
        weight_decay=0.13,
        schedule="one_cycle",
        label_smoothing=0.2,
        augment=("flip", "translate", "cutout"),
        test_flip=True,
        keep="last",
    )


@register()
def transfer():
    """Fine-tuning of a network from a .keras file: AdamW in one cycle up to 0.0003 for 5 epochs, with flips.

    `kerascnn train photos/ --from network.keras` starts from it. The new head begins as a logistic regression on the
    lent layers' features, so that few epochs are enough. `--train-last 1` trains the head alone: with SqueezeNet's
    ImageNet weights, 87.30% (85.83 to 88.64) of the 2,158 test images of six kinds of scenes, after one epoch at
    128x128 pixels and two minutes of one core's time; `zfnet-scenes`, from scratch, has 85.87%.
    """
    return Recipe(
        optimizer="adamw",
        learning_rate=3e-4,
        weight_decay=0.05,
        schedule="one_cycle",
        epochs=5,
        augment=("flip",),
        clip_norm=1.0,
        monitor="val_accuracy",
    )


@register()
def digits():
    """LeNet-5 on scikit-learn's digits, what `kerascnn train` does without arguments: 98% to 99%."""
    return Recipe(
        augment=("crop",),
        epochs=40,
        batch_size=32,
        optimizer="adamw",
        weight_decay=0.01,
        learning_rate=3e-3,
        schedule="cosine",
    )
