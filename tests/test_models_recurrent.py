"""The recurrent networks: counts by pencil, and the order in which an image is read."""

import numpy as np
import pytest

from kerascnn import models
from kerascnn.errors import UsageError


@pytest.mark.parametrize("hidden", [1, 50, 500])
def test_counts_by_pencil(hidden):
    gate, last = hidden * (28 + hidden + 1), (hidden + 1) * 10
    assert models.rnn(hidden_units=hidden).count_params() == gate + last
    assert models.lstm(hidden_units=hidden).count_params() == 4 * gate + last
    assert models.gru(hidden_units=hidden).count_params() == 3 * gate + last


def test_rows_are_time_steps():
    """With no recurrence left, the state is that of the last row alone."""
    model = models.rnn((4, 3, 2), 5, hidden_units=6)
    kernel, _, bias = model.get_layer("rnn").get_weights()
    model.get_layer("rnn").set_weights([kernel, np.zeros((6, 6)), bias])
    image = np.random.default_rng(0).normal(size=(1, 4, 3, 2)).astype("float32")
    changed = image.copy()
    changed[:, :-1] += 1
    np.testing.assert_array_equal(model.predict_on_batch(changed), model.predict_on_batch(image))
    changed[:, -1] += 1
    assert (model.predict_on_batch(changed) != model.predict_on_batch(image)).any()


@pytest.mark.parametrize("bad", [0, -3, 2.5])
def test_a_number_of_hidden_units_that_is_none(bad):
    with pytest.raises(UsageError, match="'lstm': hidden_units must be a whole number above 0"):
        models.lstm(hidden_units=bad)


def test_open_sizes_are_refused():
    with pytest.raises(UsageError, match="reads an image row by row"):
        models.gru((None, 28, 1))
