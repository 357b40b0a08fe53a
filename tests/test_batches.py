import numpy as np
import pytest

from kerascnn.datasets.image_data import Split
from kerascnn.datasets.preprocessing import Preprocessing
from kerascnn.training.batches import Batches, InOrder

AS_IS = Preprocessing((4, 4), (4, 4), 1, (0.0,), (1 / 255,))  # pixels stay what they are


@pytest.fixture
def split():
    labels = np.arange(23)
    return Split(np.broadcast_to(labels[:, None, None, None], (23, 4, 4, 1)).astype("uint8"), labels)


def read(batches):
    return [batches[i] for i in range(len(batches))]


def test_an_epoch_visits_every_image_once_with_its_label(split):
    batches = Batches(split, AS_IS, 5)
    parts = read(batches)
    assert [len(labels) for _, labels in parts] == [5, 5, 5, 5, 3]
    images = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    np.testing.assert_array_equal(images[:, 0, 0, 0], labels)
    assert sorted(labels) == list(range(23))
    assert list(labels) != list(range(23))


def test_epochs_and_seeds_differ_and_repeat(split):
    def labels(seed, epoch):
        batches = Batches(split, AS_IS, 23, seed=seed)
        batches.epoch = epoch
        return tuple(batches[0][1])

    assert labels(0, 0) == labels(0, 0)
    assert len({labels(seed, epoch) for seed in range(3) for epoch in range(3)}) == 9


def test_any_batch_can_be_made_alone_and_from_a_later_start(split):
    whole = Batches(split, AS_IS, 4, augmentations=("flip", "crop"), seed=9)
    whole.epoch = 6
    late = Batches(split, AS_IS, 4, augmentations=("flip", "crop"), seed=9)
    late.epoch, late.start = 6, 2
    assert len(late) == len(whole) - 2
    for i in range(len(late)):
        np.testing.assert_array_equal(late[i][0], whole[i + 2][0])
        np.testing.assert_array_equal(late[i][1], whole[i + 2][1])


def test_evaluation_keeps_the_order(split):
    labels = np.concatenate([labels for _, labels in read(InOrder(split, AS_IS, 7))])
    np.testing.assert_array_equal(labels, split.labels)
