"""The batches of training, each a function of (seed, step) alone: any one can be made again after a kill, and a host
can make its part of it."""

import keras
import numpy as np

from kerascnn.training.augment import augment, colour_components, mixup


class Batches(keras.utils.PyDataset):
    """Training batches: (float32 (B, H, W, C), int64 (B,)), shuffled across the whole split in every pass.

    With mixup the labels are float32 (B, num_classes); with class weights a third array, float32 (B,), follows.

    Args:
        split: a `Split`; its images may be an array or `ImageFiles` that are decoded as they are needed.
        preprocessing: the run's Preprocessing.
        batch_size: images a step; the last step of a pass takes what is left.
        augmentations: names of random changes (the recipe's `augment`).
        seed: seed of the order and of the random changes.
        num_classes: number of classes, for mixup and class weights.
        epochs: epochs of the training.
        period: steps of an epoch, after which the network is evaluated; 0: a pass over the split.
        total: steps of the training; 0: `epochs` times the period.
        balanced: True weighs every image by the inverse frequency of its class.
        multiple: every batch has a multiple of so many images, as devices that share it need; up to `multiple` - 1
            images are left out of a pass, others in each.
        share: (number of this host from 0, number of hosts): only its part of each batch is made; with mixup,
            which blends images from all parts, from the whole batch. `multiple` is a multiple of the number of hosts.

    Attributes:
        epoch: the epoch whose batches come, set before it begins.
        start: steps of that epoch that are left out because a resumed run has done them.
        epochs, period, total: as above, numbers now.
    """

    def __init__(
        self,
        split,
        preprocessing,
        batch_size,
        *,
        augmentations=(),
        seed=0,
        num_classes=0,
        epochs=1,
        period=0,
        total=0,
        balanced=False,
        multiple=1,
        share=(0, 1),
    ):
        super().__init__(workers=1)
        self.split, self.preprocessing, self.batch_size = split, preprocessing, batch_size
        self.augmentations, self.seed, self.num_classes = augmentations, seed, num_classes
        self.share = share
        self.multiple, self.pass_images = multiple, len(split) - len(split) % multiple
        self.pass_steps = -(-self.pass_images // batch_size)
        self.period = period or self.pass_steps
        self.total = total or epochs * self.period
        self.epochs = -(-self.total // self.period)
        # In every other pass each image is mirrored, so that any two in a row show both of its sides (Jordan 2024,
        # arXiv:2404.00498, section 3.6)
        self.first_mirrored = (
            np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,))).random(len(split)) < 0.5
        )
        self.components = colour_components(split.images) if "pca" in augmentations else None
        self.weights = None
        if balanced:
            counts = np.bincount(split.labels, minlength=num_classes)
            self.weights = (len(split) / (np.count_nonzero(counts) * np.maximum(counts, 1))).astype("float32")
        self.epoch, self.start = 0, 0
        self._order = None, None

    @property
    def steps(self):
        """Steps of the whole present epoch; the last one may be shorter than the others."""
        return min(self.period, self.total - self.epoch * self.period)

    @property
    def whole_epochs(self):
        """Epochs of `period` steps; the last one may have fewer."""
        return self.total // self.period

    def __len__(self):
        return self.steps - self.start

    def order(self, number):
        """The order in which a pass visits the images."""
        known, order = self._order  # at once, as another thread may be changing it
        if known != number:
            order = np.random.default_rng([self.seed, number]).permutation(len(self.split))[: self.pass_images]
            self._order = number, order
        return order

    def __getitem__(self, step):
        number, step = divmod(self.epoch * self.period + self.start + step, self.pass_steps)
        index = self.order(number)[step * self.batch_size : (step + 1) * self.batch_size]
        part = part_of(len(index), self.share)
        if "mixup" in self.augmentations:
            whole = self._batch(index, slice(None), number, step)
            return tuple(array[part] for array in whole)
        return self._batch(index, part, number, step)

    def _batch(self, index, part, number, step):
        """A part of the batch whose images have these numbers: step `step` of pass `number`."""
        # NumPy ignores the 0 of step 0, so its stream is that of the order; published runs have these numbers
        rng = np.random.default_rng([self.seed, number, step])
        batch, index = (len(index), part), index[part]
        images = augment(
            self.split.images[index],
            rng,
            self.augmentations,
            self.preprocessing.image_size,
            mirrored=self.first_mirrored[index] ^ (number % 2 == 1),
            components=self.components,
            batch=batch,
        )
        images, labels = self.preprocessing.scale(images), self.split.labels[index]
        if "mixup" in self.augmentations:
            images, labels = mixup(images, np.eye(self.num_classes, dtype="float32")[labels], rng)
            if self.weights is None:
                return images, labels
            labels = labels * self.weights  # each class's share of an image counts with the weight of that class
            weights = labels.sum(-1)
            return images, labels / weights[:, None], weights
        return (images, labels) if self.weights is None else (images, labels, self.weights[labels])


def part_of(count, share):
    """The slice of a batch of `count` images that a host makes.

    Args:
        share: (number of the host from 0, number of hosts, which divides `count`).
    """
    rank, hosts = share
    size = count // hosts
    return slice(rank * size, (rank + 1) * size)


class InOrder(keras.utils.PyDataset):
    """A split in its own order, unchanged, for evaluation: (float32 (B, H, W, C), int64 (B,)).

    Args:
        one_hot: number of classes for labels float32 (B, num_classes); 0: numbers.
        multiple: every batch has a multiple of so many images; up to `multiple` - 1 at the end are left out.
        place: where larger images are cut, as of `Preprocessing.crop`; None: at their centre.
        share: as of `Batches`.
    """

    def __init__(self, split, preprocessing, batch_size, one_hot=0, multiple=1, place=None, share=(0, 1)):
        super().__init__(workers=1)
        self.split, self.preprocessing, self.batch_size, self.one_hot = split, preprocessing, batch_size, one_hot
        self.images = len(split) - len(split) % multiple
        self.cut = {} if place is None else {"place": place}
        self.share = share

    def __len__(self):
        return -(-self.images // self.batch_size)

    def __getitem__(self, step):
        first = step * self.batch_size
        part = part_of(min(self.batch_size, self.images - first), self.share)
        part = slice(first + part.start, first + part.stop)
        labels = self.split.labels[part]
        if self.one_hot:
            labels = np.eye(self.one_hot, dtype="float32")[labels]
        return self.preprocessing(self.split.images[part], **self.cut), labels
