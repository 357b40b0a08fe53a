import threading

import keras
import numpy as np
import pytest

from kerascnn import backends
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
        batches = Batches(split, AS_IS, 23, seed=seed, epochs=3)
        batches.epoch = epoch
        return tuple(batches[0][1])

    assert labels(0, 0) == labels(0, 0)
    assert len({labels(seed, epoch) for seed in range(3) for epoch in range(3)}) == 9


def test_any_batch_can_be_made_alone_and_from_a_later_start(split):
    whole = Batches(split, AS_IS, 4, augmentations=("flip", "crop"), seed=9, epochs=9)
    whole.epoch = 6
    late = Batches(split, AS_IS, 4, augmentations=("flip", "crop"), seed=9, epochs=9)
    late.epoch, late.start = 6, 2
    assert len(late) == len(whole) - 2
    for i in range(len(late)):
        np.testing.assert_array_equal(late[i][0], whole[i + 2][0])
        np.testing.assert_array_equal(late[i][1], whole[i + 2][1])


def test_evaluation_keeps_the_order(split):
    labels = np.concatenate([labels for _, labels in read(InOrder(split, AS_IS, 7))])
    np.testing.assert_array_equal(labels, split.labels)


def test_epochs_of_so_many_steps_go_through_the_same_passes(split):
    """23 images in batches of 5 make passes of 5 steps; epochs of 3 steps and 11 steps in all cut them elsewhere."""
    passes = Batches(split, AS_IS, 5, augmentations=("flip",), seed=2, epochs=3)
    whole = []
    for passes.epoch in range(3):
        whole += read(passes)
    cut = Batches(split, AS_IS, 5, augmentations=("flip",), seed=2, period=3, total=11)
    assert (cut.epochs, cut.whole_epochs) == (4, 3)
    batches, lengths = [], []
    for cut.epoch in range(4):
        batches += read(cut)
        lengths.append(len(cut))
    assert lengths == [3, 3, 3, 2]
    for (images, labels), (a, b) in zip(whole, batches, strict=False):
        np.testing.assert_array_equal(images, a)
        np.testing.assert_array_equal(labels, b)


def test_two_passes_in_a_row_show_both_sides_of_every_image():
    images = np.tile(np.arange(4, dtype="uint8")[:, None], (400, 4, 1, 1))
    batches = Batches(Split(images, np.arange(400)), AS_IS, 150, augmentations=("flip",), seed=3, epochs=4)
    mirrored = np.zeros((4, 400), bool)
    for batches.epoch in range(4):
        for x, y in read(batches):
            mirrored[batches.epoch, y] = x[:, 0, 0, 0] == 3
    np.testing.assert_array_equal(mirrored, [mirrored[0], ~mirrored[0], mirrored[0], ~mirrored[0]])
    assert 160 < mirrored[0].sum() < 240  # 400 fair coins: four standard deviations are 40


def test_balanced_weights_make_every_class_count_the_same():
    labels = np.array([0] * 6 + [1] * 2 + [3] * 4)
    split = Split(np.zeros((12, 4, 4, 1), "uint8"), labels)
    parts = read(Batches(split, AS_IS, 5, num_classes=5, balanced=True))
    y, w = (np.concatenate([part[i] for part in parts]) for i in (1, 2))
    sums = [w[y == c].sum() for c in range(5)]
    np.testing.assert_allclose(sums, [4, 4, 0, 4, 0])
    np.testing.assert_allclose(w.mean(), 1, rtol=1e-6)


def test_mixup_balances_every_class_s_share():
    """Class c's part of the loss has the factor weight * target[c]; mixed, these are the shares times class weights."""
    labels = np.array([0] * 900 + [1] * 100)
    split = Split(np.repeat(labels[:, None, None, None], 4, 1).repeat(4, 2).astype("uint8"), labels)
    batches = Batches(split, AS_IS, 1000, augmentations=("mixup",), num_classes=2, balanced=True, epochs=40)
    factors = np.zeros(2)
    for batches.epoch in range(40):
        images, targets, weights = batches[0]
        np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)
        share = images[:, 0, 0, 0]  # of class 1
        np.testing.assert_allclose(weights * targets[:, 1], 5 * share, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(weights * targets[:, 0], (1 - share) / 1.8, rtol=1e-5, atol=1e-6)
        factors += (weights[:, None] * targets).sum(0)
    np.testing.assert_allclose(factors, 40 * 500, rtol=0.02)  # drawn shares; 14,000 and 6,000 unbalanced


def test_mixup_gives_soft_labels(split):
    batches = Batches(split, AS_IS, 23, augmentations=("mixup",), num_classes=23, seed=1)
    images, targets = batches[0]
    np.testing.assert_allclose(targets @ np.arange(23), images[:, 0, 0, 0], rtol=1e-5)
    labels = InOrder(split, AS_IS, 23, one_hot=23)[0][1]
    np.testing.assert_array_equal(labels, np.eye(23))


def test_every_batch_is_a_multiple_where_devices_share_it(split):
    batches = Batches(split, AS_IS, 8, multiple=4, epochs=30)
    visited = []
    for batches.epoch in range(30):
        parts = read(batches)
        assert [len(labels) for _, labels in parts] == [8, 8, 4]
        visited.append(np.concatenate([labels for _, labels in parts]))
        assert len(set(visited[-1])) == 20
    assert len({frozenset(labels) for labels in visited}) > 20  # others are left out in each pass
    assert [len(labels) for _, labels in read(InOrder(split, AS_IS, 12, multiple=4))] == [12, 8]


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize(
    "augmentations", [(), ("flip", "crop", "cutout"), ("translate", "colour", "pca"), ("crop", "mixup")], ids="-".join
)
def test_the_parts_of_the_hosts_are_the_batch_of_one(augmentations, balanced):
    """Bit by bit, whatever is drawn: also in the second pass, whose last batch is shorter."""
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (21, 16, 16, 3), np.uint8), draw.integers(3, size=21)
    colours = Preprocessing((16, 16), (16, 16), 3, (0.4,) * 3, (0.3,) * 3)
    options = {"augmentations": augmentations, "num_classes": 3, "balanced": balanced, "multiple": 4, "epochs": 2}

    def batches_of(rank, hosts):
        batches = Batches(Split(images, labels), colours, 8, share=(rank, hosts), **options)
        batches.epoch = 1
        return read(batches)

    whole, parts = batches_of(0, 1), [batches_of(rank, 4) for rank in range(4)]
    assert [len(step[0]) for step in whole] == [8, 8, 4]
    for step, batch in enumerate(whole):
        for place, array in enumerate(batch):
            joined = np.concatenate([part[step][place] for part in parts])
            np.testing.assert_array_equal(joined, array)
            assert joined.dtype == array.dtype


def test_the_parts_of_the_hosts_are_the_whole_split_in_its_order(split):
    parts = [read(InOrder(split, AS_IS, 12, multiple=4, share=(rank, 4))) for rank in range(4)]
    assert [[list(labels) for _, labels in part] for part in parts][1] == [[3, 4, 5], [14, 15]]
    joined = np.concatenate([part[step][1] for step in range(2) for part in parts])
    np.testing.assert_array_equal(joined, np.arange(20))


def test_pca_noise_is_of_the_training_set_s_colours_whatever_the_batch():
    """Red changes in the data and other colours do not: so does the noise, in a batch of one image, each time alike."""
    images = np.full((64, 4, 4, 3), 100, "uint8")
    images[::2, ..., 0] = 250
    colours = Preprocessing((4, 4), (4, 4), 3, (0.0,) * 3, (1 / 255,) * 3)
    batches = Batches(Split(images, np.arange(64)), colours, 1, augmentations=("pca",))
    moved = np.concatenate([x - images[y] for x, y in read(batches)])
    assert moved[..., 0].std() > 1
    np.testing.assert_allclose(moved[..., 1:], 0, atol=1e-4)
    again = Batches(Split(images, np.arange(64)), colours, 1, augmentations=("pca",))
    np.testing.assert_array_equal(batches[40][0], again[40][0])


@pytest.mark.skipif(backends.backend() != "tensorflow", reason="other backends read the batches themselves")
def test_a_stream_gives_every_pass_its_own_batches_and_is_not_tuned_as_it_runs(split):
    batches = Batches(split, AS_IS, 5, augmentations=("flip",), seed=1, epochs=3, num_classes=23, balanced=True)
    batches.start = 1
    stream = backends.stream(batches)
    assert int(stream.cardinality()) == 4
    assert stream.options().autotune.enabled is False  # on one core its thread sleeps between two passes
    passes = []
    for epoch in range(2):
        batches.epoch = epoch
        streamed = [[array.numpy() for array in batch] for batch in stream]
        assert [len(labels) for _, labels, _ in streamed] == [5, 5, 5, 3]
        for mine, theirs in zip(streamed, read(batches), strict=True):
            for a, b in zip(mine, theirs, strict=True):
                assert a.dtype == b.dtype
                np.testing.assert_array_equal(a, b)
        passes.append(np.concatenate([labels for _, labels, _ in streamed]).tolist())
    assert passes[0] != passes[1]


def test_threads_make_the_next_batches_of_each_pass_and_change_nothing(split):
    batches = Batches(split, AS_IS, 3, augmentations=("flip",), seed=1, epochs=3, num_classes=23, balanced=True)
    batches.start = 1
    ahead = backends.Ahead(batches, threads=3)
    passes = []
    for epoch in (1, 2, 2):
        ahead[0]  # a look at the first batch of the epoch before, as fit takes one
        batches.epoch = epoch
        all_batches = [ahead[step] for step in range(len(ahead))]
        assert [len(labels) for _, labels, _ in all_batches] == [3, 3, 3, 3, 3, 3, 2]
        for mine, theirs in zip(all_batches, read(batches), strict=True):
            for a, b in zip(mine, theirs, strict=True):
                np.testing.assert_array_equal(a, b)
        passes.append(np.concatenate([labels for _, labels, _ in all_batches]).tolist())
    assert passes[0] != passes[1] == passes[2]


class Counted(keras.utils.PyDataset):
    """Ten batches, of which the sixth cannot be read; it keeps which were asked for."""

    def __init__(self):
        super().__init__()
        self.asked, self.fifth = [], threading.Event()

    def __len__(self):
        return 10

    def __getitem__(self, step):
        self.asked.append(step)
        if step == 4:
            self.fifth.set()
        if step == 5:
            raise OSError("the sixth")
        return step


def test_so_many_batches_are_made_ahead_and_errors_come_when_it_is_their_turn():
    batches = Counted()
    ahead = backends.Ahead(batches, threads=4)
    assert ahead[0] == 0
    assert batches.fifth.wait(60)  # nobody asked for it yet
    assert sorted(batches.asked) == [0, 1, 2, 3, 4]
    assert [ahead[step] for step in range(1, 5)] == [1, 2, 3, 4]
    with pytest.raises(OSError, match="the sixth"):
        ahead[5]
    assert [ahead[step] for step in range(6, 10)] == [6, 7, 8, 9]
    assert sorted(batches.asked) == list(range(10))  # each once
