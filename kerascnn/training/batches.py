"""The batches of an epoch, each a function of (seed, epoch, step) alone: any one can be made again after a kill."""

import keras
import numpy as np

from kerascnn.training.augment import augment


class Batches(keras.utils.PyDataset):
    """Training batches: (float32 (B, H, W, C), int64 (B,)), shuffled across the whole split in every epoch.

    Args:
        split: a `Split`; its images may be an array or `ImageFiles` that are decoded as they are needed.
        preprocessing: the run's Preprocessing.
        batch_size: images a step; the last step of an epoch takes what is left.
        augmentations: names of random changes (the recipe's `augment`).
        seed: seed of the order and of the random changes.

    Attributes:
        epoch: the epoch whose batches come, set before it begins.
        start: steps of that epoch that are left out because a resumed run has done them.
    """

    def __init__(self, split, preprocessing, batch_size, *, augmentations=(), seed=0):
        super().__init__(workers=1)
        self.split, self.preprocessing, self.batch_size = split, preprocessing, batch_size
        self.augmentations, self.seed = augmentations, seed
        self.epoch, self.start = 0, 0
        self._order = None, None

    @property
    def steps(self):
        """Steps of a whole epoch."""
        return -(-len(self.split) // self.batch_size)

    def __len__(self):
        return self.steps - self.start

    def order(self):
        """The order in which this epoch visits the images."""
        if self._order[0] != self.epoch:
            self._order = self.epoch, np.random.default_rng([self.seed, self.epoch]).permutation(len(self.split))
        return self._order[1]

    def __getitem__(self, step):
        step += self.start
        index = self.order()[step * self.batch_size : (step + 1) * self.batch_size]
        rng = np.random.default_rng([self.seed, self.epoch, step])
        images = augment(self.split.images[index], rng, self.augmentations, self.preprocessing.image_size)
        return self.preprocessing.scale(images), self.split.labels[index]


class InOrder(keras.utils.PyDataset):
    """A split in its own order, unchanged: (float32 (B, H, W, C), int64 (B,)), for evaluation."""

    def __init__(self, split, preprocessing, batch_size):
        super().__init__(workers=1)
        self.split, self.preprocessing, self.batch_size = split, preprocessing, batch_size

    def __len__(self):
        return -(-len(self.split) // self.batch_size)

    def __getitem__(self, step):
        part = slice(step * self.batch_size, (step + 1) * self.batch_size)
        return self.preprocessing(self.split.images[part]), self.split.labels[part]
