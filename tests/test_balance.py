"""The balance of labels, by pencil."""

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier

from kerascnn.datasets.balance import Balance, balance


def test_by_pencil():
    assert balance(np.array([1, 1, 2, 2]), 3) == Balance(commonest=1, rarest=1, most=2, fewest=2, baseline=0.5)
    assert balance(np.array([2] * 6 + [0] * 3 + [3]), 5) == Balance(
        commonest=2, rarest=3, most=6, fewest=1, baseline=0.6
    )


def test_the_baseline_is_scikit_learns_dummy():
    labels = np.random.default_rng(0).choice(4, 200, p=[0.1, 0.6, 0.1, 0.2])
    dummy = DummyClassifier().fit(labels[:, None], labels)
    assert balance(labels, 4).baseline == dummy.score(labels[:, None], labels)


@pytest.mark.parametrize(
    ("counts", "uneven"), [((4, 1), True), ((7, 2), False), ((5, 5, 5), False), ((40, 9, 0), True)]
)
def test_four_times_as_many_images_are_uneven(counts, uneven):
    assert balance(np.repeat(np.arange(len(counts)), counts), len(counts)).uneven is uneven


def test_the_sentence_names_both_classes_and_the_baseline():
    text = balance(np.repeat([0, 1], [2000, 12]), 2).sentence(("cat", "dog"))
    assert text == (
        "The classes are unbalanced: 'cat' has 2,000 training images, 'dog' 12. Always answering 'cat' would be right "
        "for 99.4% of them, so look at balanced accuracy and macro F1 too."
    )
