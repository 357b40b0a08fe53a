"""The COMP576 report's recurrent networks on MNIST, an image read row by row."""

from kerascnn.recipes import Recipe
from tuning import register


@register()
def recurrent(hp):
    """RNN, LSTM or GRU on rows of MNIST: cell, hidden units, learning rate, batch size."""
    return Recipe(
        model=hp.Choice("cell", ["rnn", "lstm", "gru"]),
        data="mnist",
        model_options={"hidden_units": hp.Int("hidden_units", 50, 250, step=50, default=100)},
        learning_rate=hp.Float("learning_rate", 1e-4, 1e-2, sampling="log", default=1e-3),
        batch_size=hp.Choice("batch_size", [50, 100, 200], default=100),
    )
