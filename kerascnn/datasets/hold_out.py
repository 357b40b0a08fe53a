"""Test and validation splits for data that come without: stratified, and decided by the seed."""

import numpy as np

from kerascnn.errors import UsageError, counted


def hold_out(data, *, validation, test, seed):
    """The same data with test and validation splits taken from the training images where the source has none.

    Both amounts are fractions (below 1) of the images that the source offers for training, or counts; 0 makes no split.
    The draw is stratified, and depends on `seed` and on the order of the images only.
    """
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or seed < 0:
        raise UsageError(f"The seed must be a whole number from 0 up, not {seed!r}.")
    if data.train is None:
        return data
    total = len(data.train)
    wanted = {
        "test": 0 if data.test is not None else amount("test", test, total),
        "validation": 0 if data.validation is not None else amount("validation", validation, total),
    }
    if sum(wanted.values()) >= total:
        raise UsageError(
            f"test={test} and validation={validation} would hold out {sum(wanted.values()):,} of the "
            f"{counted(total, 'training image')} and leave none to train on: hold out less."
        )
    train, held_out, notes = np.arange(total), {}, []
    for stream, (name, count) in enumerate(wanted.items(), 1):
        if count:
            keep, held = stratified(data.train.labels[train], count, (seed, stream))
            if not len(held):
                raise UsageError(
                    f"No class of {data.source} has an image to spare for {name}: each keeps one to be trained on. Add "
                    f"images{', or a folder test' if name == 'test' else ''}."
                )
            held_out[name], train = train[held], train[keep]
            notes.append(
                f"{len(held):,} of the {total:,} training images {'was' if len(held) == 1 else 'were'} held out for "
                f"{name}, each class in proportion, seed {seed}."
            )
    if not held_out:
        return data
    splits = {name: data.train.take(index) for name, index in held_out.items()}
    return data.replace(train=data.train.take(train), notes=data.notes + tuple(notes), **splits)


def amount(name, value, total):
    """A fraction below 1 or a count as a count of `total` images, at least 1 unless it is 0."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number or not 0 <= value < float("inf") or (value >= 1 and value != int(value)):
        raise UsageError(
            f"{name} must be a fraction of the training images below 1, or a count, not {value!r}: "
            "for example 0.1 or 500."
        )
    if value == 0:
        return 0
    return int(value) if value >= 1 else max(1, int(total * value + 0.5))


def stratified(labels, count, seed):
    """(rows to keep, rows held out), both ascending, with each class held out in proportion.

    Each class gives count * its share, rounded down; what is missing comes one by one from the classes with the largest
    remainders (of equals, the lower label). A class always keeps one image; if that leaves too few, others give more.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    share = count * sizes / sizes.sum()
    takes = np.minimum(np.floor(share).astype(int), sizes - 1)
    while takes.sum() < min(count, (sizes - 1).sum()):
        open_ = takes < sizes - 1
        takes[np.argmax(np.where(open_, share - takes, -np.inf))] += 1
    rng = np.random.default_rng(seed)
    held = np.concatenate(
        [rng.permutation(np.flatnonzero(labels == c))[:n] for c, n in zip(classes, takes, strict=True)]
    )
    held = np.sort(held).astype(int)
    return np.setdiff1d(np.arange(len(labels)), held), held
