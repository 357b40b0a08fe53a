"""What `kerascnn experiment NAME RUN DATA` names: a network, images in the form that it takes, and a results folder.

An experiment's file may hold a function `command(asked, *, ...)` that gives its Outcome; its keyword arguments become
the options of the command (`kerascnn.commands.experiment`). Without one, `usual` is the command.
"""

import functools
import inspect
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

from kerascnn import using
from kerascnn.errors import UsageError
from kerascnn.using.class_names import class_indices
from kerascnn.using.classifier import subject
from kerascnn.using.run_data import known_data


class Asked:
    """The arguments of a command.

    Args:
        runs: one or several names of networks (`kerascnn.using.classifier.subject`).
        data: a data set's name or a path; None, or the name of the run's own data: they are split as the run's are.
        out: folder for the results; None: the run's `experiments`.
        say: called with lines of progress.
        side: side of squares that the images are resized to, pixels, and from which nothing is cut off; None: the size
            that the network takes.
    """

    def __init__(self, runs, data=None, out=None, say=print, side=None):
        self.runs, self.data, self.out, self.say, self.side = tuple(runs), data, out, say, side

    @functools.cached_property
    def classifier(self):
        """The Classifier that is named, or the first of several."""
        return subject(self.runs[0])

    @property
    def model(self):
        return self.classifier.model

    @functools.cached_property
    def loaded(self):
        """The ImageData."""
        run = self.classifier.run
        known = run and known_data(run, self.data, side=self.side)
        return known or using.data_of(self.classifier, self.data, side=self.side)

    @property
    def folder(self):
        """Where the results go."""
        return self.out or self.classifier.folder / "experiments"

    def kept(self, name):
        """Where the measurements of an experiment are saved as they are made (`kerascnn.experiments.kept`)."""
        return Path(self.folder) / "kept" / name

    @property
    def split(self):
        """The test images, or the images that there are."""
        return self.loaded.test or self.loaded.train or self.loaded.validation

    def each(self):
        """An Asked for each of several runs, on the same data."""
        return [Asked([run], self.data, self.out, self.say) for run in self.runs]

    def prepared(self, split):
        """The images of a split as the network takes them, a slice at a time."""
        prepared = self.classifier.preprocessing
        return Prepared(split.images, prepared if self.side is None else prepared.scale)

    def at(self, side):
        """An Asked for the same network, and the same images as squares of this many pixels."""
        other = Asked(self.runs, self.data, self.out, self.say, side)
        other.classifier = self.classifier
        return other

    def some(self, images, seed):
        """At most this many test images, as a split."""
        return some(self.split, images, seed)

    def test(self, images, seed):
        """(float (N, H, W, C) as the network takes them, labels int (N,) or None) of some test images."""
        split = self.some(images, seed)
        return self.prepared(split)[:], self.labels(split)

    def labels(self, split):
        """int (N,): the classes of a split, as the network numbers them; None where the images have no labels."""
        if not self.loaded.class_names:
            return None
        source = str(self.data or self.loaded.source)
        return class_indices(self.loaded.class_names, self.classifier.labels, source)[split.labels]

    def labels_if_known(self, split):
        """As `labels`; None, and a line that says so, where the network does not know the classes of the images."""
        try:
            return self.labels(split)
        except UsageError:
            self.say("The network does not know the classes of these images: the class that it predicts is followed")
            return None

    def both(self, seed):
        """The training and the test split; if there is only one split, a quarter of it is the test split."""
        train, test = self.loaded.train, self.loaded.test or self.loaded.validation
        if train and test:
            return train, test
        one = train or test
        try:
            parts = train_test_split(np.arange(len(one)), test_size=0.25, stratify=one.labels, random_state=seed)
        except ValueError as error:
            raise UsageError(f"These images cannot be split into training and test images: {error}") from None
        return [one.take(np.sort(rows)) for rows in parts]

    def need_labels(self, what):
        """Raise a UsageError if the images have no labels; `what` says what needs them."""
        if not self.loaded.class_names:
            raise UsageError(f"These images have no labels, which {what}. Give a folder of class folders.")


def some(split, images, seed):
    """At most this many images of a split, drawn at random, in their original order."""
    if images < 1:
        raise UsageError(f"images={images} is not allowed: it must be at least 1.")
    return split.take(np.sort(np.random.default_rng(seed).permutation(len(split))[:images]))


def layer_names(layers):
    """The names in text like "conv1, conv4", or None."""
    return None if layers is None else [name.strip() for name in layers.split(",")]


def usual(function):
    """The `command` of an experiment that has none: it takes some test images, and their labels if it takes labels."""

    def command(asked, *, images=100, seed=0):
        x, labels = asked.test(images, seed)
        given = (x, labels) if "labels" in inspect.signature(function).parameters else (x,)
        return function(asked.model, *given)

    return command


class Prepared:
    """Images as the network takes them, a slice at a time; `origin` are those that were prepared."""

    def __init__(self, images, preprocessing):
        self.images, self.preprocessing = images, preprocessing
        self.origin = (images,)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, part):
        return self.preprocessing(self.images[part])
