"""The named recipes: the sources' own settings, and ours. This module never imports Keras.

A recipe is a function decorated with `@register(...)` that returns a `Recipe`; its docstring says where the settings
come from and what they gave. `chosen=` names the fields, and the builder's arguments, that the source does not print,
so that we had to choose them.
"""

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
    the rate is high there. One seed; which part gives how much was not measured, and nothing was searched. A moving
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


@register(source="CS7011 report 2017", chosen=("optimizer", "augment", "epochs", "rate_factor", "normalize"))
def cs7011():
    """The CS7011 report's best settings for its 6.2M network: patience 5, dropout 0.5, rate 0.001 (Task III): 83.0%.

    `kerascnn train cifar10-jpeg --recipe cs7011`: 82.96% of the test images (three seeds: 82.75, 83.41, 82.72) in two
    and a half hours on one core of an AMD EPYC, in one and a half on two, beside other work. The rate falls after 43
    epochs with one seed, after 47 and 55 with another, not yet after 60 with the third. Dropout follows the
    convolutional blocks alone, as in the report's Task I; after the dense layers, too (`--model-options
    dense_dropout=0.5`), it gave 82.22% (one seed), and with `--epochs 150` on an NVIDIA H200 with JAX 83.72%, where it
    ends. The report prints about 88%, of the original images, and no number of epochs.
    """
    return Recipe(
        model="cifar_net",
        model_options={"dense_dropout": 0.0},
        data="cifar10",
        dropout=0.5,
        augment=("flip", "crop"),
        epochs=60,
        batch_size=100,
        rate_patience=5,
        min_delta=1e-4,  # which Keras' callback has by itself, and the report did not change
    )


@register("cifar-net-88")
def cifar_net_88():
    """The CS7011 report's network, its 6,216,114 parameters unchanged: the report's 88% in a quarter of an hour.

    Of the original images it has 91.62% (one seed, 91.06 to 92.15); of JPEG copies, by `kerascnn train cifar10-jpeg
    --recipe cifar-net-88`, 88.83% (three seeds: 88.61, 88.87, 89.02) in 13.2 minutes on 2 cores. Batch normalisation
    stands before each ReLU in training and is folded into the weights before it afterwards.
    """
    return Recipe(
        model="cifar_net",
        data="cifar10",
        validation=5000,
        fold_norm=True,
        fast_start=True,
        epochs=9,
        batch_size=1024,
        optimizer="muon",
        momentum=0.8,
        learning_rate=0.12,
        norm_bias_rate=50.0,
        weight_decay=0.03,
        schedule="one_cycle",
        label_smoothing=0.2,
        augment=("flip", "translate"),
        test_flip=True,
        test_shift=True,
        monitor="val_accuracy",
    )


@register("cifar-net-best")
def cifar_net_best():
    """The CS7011 report's network, its 6,216,114 parameters unchanged, as far as we got: 90.00% in 40 epochs.

    `kerascnn train cifar10-jpeg --recipe cifar-net-best`: 90.00% of the test images (three seeds: 89.90, 89.92, 90.18)
    in 0.9 minutes on an NVIDIA H200 with JAX, three runs beside one another; not run on 2 cores, where 30 epochs of
    earlier settings took 42.5 minutes. The settings are those of `cifar-net-88` with crops and cutout; what else was
    tried stands in docs/results.md.
    """
    return cifar_net_88().replace(augment=("flip", "crop", "cutout"), epochs=40)


@register(
    "cifar-94",
    source="Jordan 2024",
    chosen=(
        "model_options",
        "batch_size",
        "epochs",
        "learning_rate",
        "momentum",
        "norm_bias_rate",
        "schedule",
        "weight_decay",
        "validation",
    ),
)
def cifar_94():
    """The network with which CIFAR-10 is learnt fastest, by Muon in 0.355 PFLOP: 93.94%.

    Of the original images it has 93.94% (95% interval 93.46 to 94.39; one seed, 45,000 training images, 25 minutes on 2
    cores). On JPEG copies (quality 75, half the colour resolution) `kerascnn train cifar10-jpeg --recipe cifar-94` gave
    90.63% of the test images (95% interval 90.04 to 91.19; one seed) in 26.3 minutes on 2
    cores; on an NVIDIA H200 with JAX 90.80% (three seeds: 90.97, 90.80, 90.62), its eleven epochs in 7 to 9 seconds and
    the whole command in 18 to 21 once the programs are compiled. It ends at 97% of the training images. The source's
    94% are those of the original images, 50,000 of them. The last layer's outputs are multiplied with more than the
    source's 1/9, so that it keeps up with the others at Muon's rate.
    """
    return cifar_net_88().replace(
        model="airbench94",
        model_options={"logit_scale": 0.45},
        fold_norm=False,
        fast_start=False,
        epochs=11,
        norm_bias_rate=800.0,
        weight_decay=0.13,
    )


@register(source="CS280 report 2017", chosen=("optimizer", "learning_rate", "epochs", "augment"))
def miniplaces():
    """The CS280 report's ZF Net on MiniPlaces: mean subtraction, 96x96 crops of 128x128, a look every 2,500 steps."""
    return Recipe(
        model="zfnet_miniplaces",
        data="miniplaces",
        resize_to=128,
        normalize="mean",
        augment=("flip",),
        batch_size=256,
        eval_every=2500,
    )


@register(
    "zfnet-scenes",
    source="CS280 report 2017",
    chosen=(
        "optimizer",
        "learning_rate",
        "weight_decay",
        "schedule",
        "batch_size",
        "epochs",
        "augment",
        "label_smoothing",
        "clip_norm",
        "normalize",
        "test_flip",
    ),
)
def zfnet_scenes():
    """The CS280 report's ZF Net from scratch on a folder of some thousand scenes: 96x96 crops of 128x128, AdamW.

    On 7,867 photographs of six scenes it gave 85.87% of 2,158 test images (95% interval 84.33 to 87.27; one seed), in
    18 minutes on 2 cores, partly beside another training.
    """
    return fast().replace(
        model="zfnet_miniplaces",
        resize_to=128,
        augment=("flip",),
        epochs=30,
        learning_rate=1e-3,
        test_flip=True,
    )


def _comp576(optimizer, learning_rate, batch_size, steps, keep_rate):
    """A trial of the COMP 576 report: LeNet on grey CIFAR-10 at 28x28, pixels from 0 to 1, evaluated 50 times."""
    return Recipe(
        model="lenet_grey",
        data="cifar10",
        image_size=28,
        channels=1,
        normalize="none",
        optimizer=optimizer,
        momentum=0.0,
        learning_rate=learning_rate,
        batch_size=batch_size,
        steps=steps,
        eval_every=steps // 50,
        dropout=round(1 - keep_rate, 2),
    )


@register("comp576-1", source="COMP 576 report 2017", chosen=("image_size", "normalize", "eval_every"))
def comp576_1():
    """Trial 1 of the COMP 576 report: Adam 0.0001, batches of 100, 10,000 steps, keep rate 0.8: 64.04%.

    `kerascnn train cifar10-jpeg --recipe comp576-1`, one seed (95% interval 63.09 to 64.97), 15 minutes on one core
    beside another training.
    """
    return _comp576("adam", 1e-4, 100, 10_000, 0.8)


@register("comp576-2", source="COMP 576 report 2017", chosen=("image_size", "normalize", "eval_every"))
def comp576_2():
    """Trial 2 of the COMP 576 report: Adam 0.0001, batches of 100, 10,000 steps, keep rate 0.6: 64.06%.

    `kerascnn train cifar10-jpeg --recipe comp576-2`, one seed (95% interval 63.11 to 64.99), 13 minutes on one core
    beside another training.
    """
    return _comp576("adam", 1e-4, 100, 10_000, 0.6)


@register("comp576-3", source="COMP 576 report 2017", chosen=("image_size", "normalize", "eval_every"))
def comp576_3():
    """Trial 3 of the COMP 576 report: Adam 0.0001, batches of 100, 8,000 steps, keep rate 0.6: 62.78%.

    The report's summary has keep rate 0.4 for this trial.

    `kerascnn train cifar10-jpeg --recipe comp576-3`, one seed (95% interval 61.83 to 63.72), 9 minutes on one core
    beside another training.
    """
    return _comp576("adam", 1e-4, 100, 8_000, 0.6)


@register("comp576-4", source="COMP 576 report 2017", chosen=("image_size", "normalize", "eval_every"))
def comp576_4():
    """Trial 4 of the COMP 576 report: Adam 0.0001, batches of 500, 8,000 steps, keep rate 0.4: 66.22%.

    `kerascnn train cifar10-jpeg --recipe comp576-4`, one seed (95% interval 65.29 to 67.14), 33 minutes on one core
    beside another training.
    """
    return _comp576("adam", 1e-4, 500, 8_000, 0.4)


@register("comp576-5", source="COMP 576 report 2017", chosen=("image_size", "normalize", "momentum", "eval_every"))
def comp576_5():
    """Trial 5 of the COMP 576 report: gradient descent 0.01, batches of 500, 8,000 steps, keep rate 0.6: 52.49%.

    `kerascnn train cifar10-jpeg --recipe comp576-5`, one seed (95% interval 51.51 to 53.47), 34 minutes on one core
    beside another training; the validation loss was still falling.
    """
    return _comp576("sgd", 0.01, 500, 8_000, 0.6)


@register("comp576-6", source="COMP 576 report 2017", chosen=("image_size", "normalize", "momentum", "eval_every"))
def comp576_6():
    """Trial 6 of the COMP 576 report: gradient descent 0.05, batches of 100, 8,000 steps, keep rate 0.6: 64.15%.

    `kerascnn train cifar10-jpeg --recipe comp576-6`, one seed (95% interval 63.20 to 65.08), 9 minutes on one core
    beside another training.
    """
    return _comp576("sgd", 0.05, 100, 8_000, 0.6)


@register("comp576-7", source="COMP 576 report 2017", chosen=("image_size", "normalize", "momentum", "eval_every"))
def comp576_7():
    """Trial 7 of the COMP 576 report: RMSprop 0.0025, batches of 200, 5,000 steps, keep rate 0.5: 63.38%.

    `kerascnn train cifar10-jpeg --recipe comp576-7`, one seed (95% interval 62.43 to 64.32), 9 minutes on one core
    beside another training; the least validation loss comes after 1,800 steps.
    """
    return _comp576("rmsprop", 0.0025, 200, 5_000, 0.5)


@register("comp576-8", source="COMP 576 report 2017", chosen=("image_size", "normalize", "momentum", "eval_every"))
def comp576_8():
    """Trial 8 of the COMP 576 report: RMSprop 0.0005, batches of 500, 20,000 steps, keep rate 0.4: 67.74%.

    `kerascnn train cifar10-jpeg --recipe comp576-8`, one seed (95% interval 66.82 to 68.65), 79 minutes on one core
    beside another training; the least validation loss comes after 3,200 steps, and in the end 99% of the training
    images are learnt.
    """
    return _comp576("rmsprop", 0.0005, 500, 20_000, 0.4)


@register("mnist-rnn", source="COMP 576 report 2017", chosen=("normalize", "eval_every"))
def mnist_rnn():
    """The COMP 576 report's RNN on rows of MNIST: Adam 0.001, batches of 100, 50,000 steps, keep rate 0.6: 97.93%.

    `kerascnn train mnist --recipe mnist-rnn`, one seed, 8 minutes on 2 cores beside another training.
    """
    return Recipe(
        model="rnn",
        data="mnist",
        normalize="none",
        batch_size=100,
        steps=50_000,
        eval_every=1_000,
        dropout=0.4,
        monitor="val_accuracy",
    )


@register("mnist-rnn-best")
def mnist_rnn_best():
    """The COMP 576 report's RNN on rows of MNIST with its settings, but the rate falls to 0 along a cosine: 98.04%.

    `kerascnn train mnist --recipe mnist-rnn-best`, one seed (95% interval 97.75 to 98.29), 24 minutes on 2 cores beside
    other work (8 CPU minutes); at the report's constant rate it gave 97.93%.
    """
    return mnist_rnn().replace(schedule="cosine")


@register("mnist-lstm", source="COMP 576 report 2017", chosen=("normalize", "eval_every"))
def mnist_lstm():
    """The COMP 576 report's LSTM on rows of MNIST: as its RNN; 98.96%.

    `kerascnn train mnist --recipe mnist-lstm`, one seed, 26 minutes on 2 cores beside another training.
    """
    return mnist_rnn().replace(model="lstm")


@register("mnist-gru", source="COMP 576 report 2017", chosen=("normalize", "eval_every"))
def mnist_gru():
    """The COMP 576 report's GRU on rows of MNIST: as its RNN, with batches of 200; 98.87%.

    `kerascnn train mnist --recipe mnist-gru`, one seed, 61 minutes on one core beside another training.
    """
    return mnist_rnn().replace(model="gru", batch_size=200)


def _tdt4265(model):
    """A network of the TDT4265 report: Adam 0.001, batches of 64, ten epochs, best weights by validation loss."""
    return Recipe(model=model, data="cifar10", batch_size=64, epochs=10, learning_rate=1e-3, monitor="val_loss")


@register(
    "tdt4265-lenet", source="TDT4265 report 2019", chosen=("optimizer", "learning_rate", "batch_size", "normalize")
)
def tdt4265_lenet():
    """The TDT4265 report's LeNet: Adam 0.001, batches of 64, ten epochs; it prints 71.49%, ours gave 72.26%.

    `kerascnn train cifar10 --recipe tdt4265-lenet`, one seed (71.37 to 73.13), 13 minutes on 2 cores beside other work.
    """
    return _tdt4265("tdt_lenet")


@register("tdt4265-model1", source="TDT4265 report 2019", chosen=("kernel_size", "batch_size", "normalize"))
def tdt4265_model1():
    """The TDT4265 report's Model 1: Adam 0.001, batches of 64, ten epochs; it prints 77.92%, ours gave 76.69%.

    `kerascnn train cifar10-jpeg --recipe tdt4265-model1`, one seed, 43 minutes on 2 cores beside another training.
    """
    return _tdt4265("tdt_model1")


@register("tdt4265-model2", source="TDT4265 report 2019", chosen=("normalize",))
def tdt4265_model2():
    """The TDT4265 report's Model 2: Adam 0.001, batches of 64, ten epochs; it prints 75.28%, ours gave 75.42%.

    `kerascnn train cifar10 --recipe tdt4265-model2`, one seed (74.56 to 76.25), 14 minutes on 2 cores.
    """
    return _tdt4265("tdt_model2")


@register("tdt4265-resnet18", source="TDT4265 report 2019", chosen=("epochs", "normalize"))
def tdt4265_resnet18():
    """The TDT4265 report's transfer: ImageNet's ResNet-18, the last five layers trained by Adam at 0.0005."""
    return Recipe(
        model="resnet18",
        model_options={"weights": "imagenet", "skip": ["fc"]},
        data="cifar10",
        train_last=5,
        batch_size=64,
        epochs=10,
        learning_rate=5e-4,
    )


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
