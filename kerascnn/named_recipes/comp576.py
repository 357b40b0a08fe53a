"""The settings of the COMP 576 report (2017): eight trials on CIFAR-10, and recurrent networks on MNIST."""

from kerascnn.recipes import RECIPES, Recipe

register = RECIPES.register


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
    """Trial 1 of the COMP 576 report: Adam 0.0001, batches of 100, 10,000 steps, keep rate 0.8: 64.66%.

    `kerascnn train cifar10 --recipe comp576-1`, one seed (95% interval 63.72 to 65.59), 20 minutes on one core beside
    another training.
    """
    return _comp576("adam", 1e-4, 100, 10_000, 0.8)


@register("comp576-2", source="COMP 576 report 2017", chosen=("image_size", "normalize", "eval_every"))
def comp576_2():
    """Trial 2 of the COMP 576 report: Adam 0.0001, batches of 100, 10,000 steps, keep rate 0.6: 64.21%.

    `kerascnn train cifar10 --recipe comp576-2`, one seed (95% interval 63.27 to 65.14), 17 minutes on one core beside
    another training.
    """
    return _comp576("adam", 1e-4, 100, 10_000, 0.6)


@register("comp576-3", source="COMP 576 report 2017", chosen=("image_size", "normalize", "eval_every"))
def comp576_3():
    """Trial 3 of the COMP 576 report: Adam 0.0001, batches of 100, 8,000 steps, keep rate 0.6: 63.04%.

    The report's summary has keep rate 0.4 for this trial.

    `kerascnn train cifar10 --recipe comp576-3`, one seed (95% interval 62.09 to 63.98), 24 minutes on one core beside
    another training.
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
    """Trial 5 of the COMP 576 report: gradient descent 0.01, batches of 500, 8,000 steps, keep rate 0.6: 51.91%.

    `kerascnn train cifar10 --recipe comp576-5`, one seed (95% interval 50.93 to 52.89), 36 minutes on one core beside
    another training; the validation loss was still falling.
    """
    return _comp576("sgd", 0.01, 500, 8_000, 0.6)


@register("comp576-6", source="COMP 576 report 2017", chosen=("image_size", "normalize", "momentum", "eval_every"))
def comp576_6():
    """Trial 6 of the COMP 576 report: gradient descent 0.05, batches of 100, 8,000 steps, keep rate 0.6: 63.55%.

    `kerascnn train cifar10 --recipe comp576-6`, one seed (95% interval 62.60 to 64.49), 22 minutes on one core beside
    another training.
    """
    return _comp576("sgd", 0.05, 100, 8_000, 0.6)


@register("comp576-7", source="COMP 576 report 2017", chosen=("image_size", "normalize", "momentum", "eval_every"))
def comp576_7():
    """Trial 7 of the COMP 576 report: RMSprop 0.0025, batches of 200, 5,000 steps, keep rate 0.5: 65.89%.

    `kerascnn train cifar10 --recipe comp576-7`, one seed (95% interval 64.95 to 66.81), 20 minutes on one core beside
    another training; the lowest validation loss comes after 2,200 steps.
    """
    return _comp576("rmsprop", 0.0025, 200, 5_000, 0.5)


@register("comp576-8", source="COMP 576 report 2017", chosen=("image_size", "normalize", "momentum", "eval_every"))
def comp576_8():
    """Trial 8 of the COMP 576 report: RMSprop 0.0005, batches of 500, 20,000 steps, keep rate 0.4: 67.51%.

    `kerascnn train cifar10 --recipe comp576-8`, one seed (95% interval 66.59 to 68.42), 82 minutes on one core beside
    another training; the lowest validation loss comes after 3,200 steps, and in the end 99% of the training images are
    learnt.
    """
    return _comp576("rmsprop", 0.0005, 500, 20_000, 0.4)


@register("mnist-rnn", source="COMP 576 report 2017", chosen=("normalize", "eval_every", "monitor"))
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


@register("mnist-lstm", source="COMP 576 report 2017", chosen=("normalize", "eval_every", "monitor"))
def mnist_lstm():
    """The COMP 576 report's LSTM on rows of MNIST: as its RNN; 98.96%.

    `kerascnn train mnist --recipe mnist-lstm`, one seed, 26 minutes on 2 cores beside another training.
    """
    return mnist_rnn().replace(model="lstm")


@register("mnist-gru", source="COMP 576 report 2017", chosen=("normalize", "eval_every", "monitor"))
def mnist_gru():
    """The COMP 576 report's GRU on rows of MNIST: as its RNN, with batches of 200; 98.87%.

    `kerascnn train mnist --recipe mnist-gru`, one seed, 61 minutes on one core beside another training.
    """
    return mnist_rnn().replace(model="gru", batch_size=200)
