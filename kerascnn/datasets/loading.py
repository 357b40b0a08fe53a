"""From a name or a path to an `ImageData` to train on: find the reader, make the missing splits, settle the size.

The reader (one file of this folder) says what there is: arrays, or `ImageFiles` not yet decoded. Everything that is the
same for all data is done here, once.
"""

import dataclasses
import importlib
import inspect
import os
from pathlib import Path

import numpy as np

from kerascnn.datasets import DATASETS
from kerascnn.datasets.balance import balance
from kerascnn.datasets.decoding import probe
from kerascnn.datasets.hold_out import hold_out
from kerascnn.datasets.image_data import Split
from kerascnn.datasets.image_files import ImageFiles, Mixed, decode_all, survey
from kerascnn.datasets.picture import remarked
from kerascnn.datasets.resize import ResizedImages, as_size, resize_batch
from kerascnn.errors import DataError, UsageError, counted, nearest, unknown
from kerascnn.files import check_regular
from kerascnn.processes import available_memory

COMMON = ("image_size", "channels", "seed", "training")  # options that a data set's function may do without
LARGEST_GUESS = 224  # pixels; images of many sizes are never brought to more than this unless it is asked for


def check_channels(channels):
    """Raise a UsageError for a number of channels that images cannot be brought to."""
    if channels not in (None, 1, 3):
        raise UsageError(f"channels must be 1 (grey) or 3 (RGB), not {channels!r}.")


def load(
    data,
    *,
    image_size=None,
    channels=None,
    validation=0.1,
    test=0.15,
    seed=0,
    strict=False,
    memory_limit=None,
    training=True,
    **options,
):
    """Labelled images from a registered name ("mnist") or a path, in train, validation and test splits.

    Args:
        data: a name in `DATASETS`, or the path of a folder of class folders, of MNIST, CIFAR or MiniPlaces files, or
            of an .npz file.
        image_size: an int or (height, width), pixels: every image is cropped centrally to that shape and resized (see
            `kerascnn.datasets.resize`); None keeps the images' own size if they agree, and notes a choice if not.
        channels: 1 (grey) or 3 (RGB); None keeps the data's own, 3 unless every image is grey.
        validation, test: what to hold out of the training images where the source has no such split: a fraction below
            1 or a count, both of all images that the source offers for training; 0 for no such split. Stratified.
        seed: a whole number; the same one gives the same splits.
        strict: raise DataError at a broken image file, instead of leaving it out and listing it in `skipped`.
        memory_limit: bytes that the decoded images may take. Above it they stay on disk and are decoded when indexed.
            None: a quarter of the memory that is available.
        training: False takes data that cannot be trained on, too: one class, no training images (`train` is then None),
            or images without labels (which are then -1, and there are no class names).
        options: the data set's own: `count=` of "shapes"; `classes="leaves"` of a folder, which makes every folder that
            holds images a class; `classes="present"` of an .npz file, where only labels that occur become classes.
    Returns:
        ImageData; every choice made on the way is a sentence in its `notes`, and what may not be meant one in `doubts`.
    Raises:
        UsageError: an unknown name or option, a path that does not exist, an impossible split.
        DataError: files that do not hold what they should.
    """
    size = as_size(image_size)
    check_channels(channels)
    source_data = read(data, image_size=size, channels=channels, seed=seed, training=training, **options)
    parts = {"validation": validation, "test": test, "seed": seed}
    how = {"size": size, "channels": channels, "strict": strict, "memory_limit": memory_limit}
    loaded = settle(hold_out(source_data, **parts), **how)
    if len(loaded.skipped) > len(source_data.skipped):
        readable = without(source_data, loaded.skipped)
        if loaded.splits.keys() != source_data.splits.keys():  # the splits are made of what can be read
            loaded = settle(hold_out(readable, **parts), **how)
    return loaded.replace(doubts=loaded.doubts + imbalance(loaded)) if training else loaded


def imbalance(data):
    """(a sentence,) if the training images are spread unevenly over the classes, else ()."""
    spread = balance(data.train.labels, len(data.class_names))
    return (spread.sentence(data.class_names),) if spread.uneven else ()


# Finding the reader


def read(data, **options):
    """What the data set's own file makes of `data` (a registered name or a path), before any split or size is chosen.

    An option that the data set's function does not take is an error, except the common ones and those left at None.
    """
    name, path = resolve(data)
    function = DATASETS.get(name)
    allowed = [p for p in inspect.signature(function).parameters if p != "path"]
    for option in options:
        if option not in (*allowed, *COMMON) and options[option] is not None:
            raise unknown(f"option of the data set {name!r}", option, allowed)
    taken = {k: v for k, v in options.items() if k in allowed and v is not None}
    try:
        source_data = function(path, **taken)
    except OSError as error:
        raise DataError(f"Cannot read {error.filename or os.fspath(data)}: {error.strerror or error}.") from error
    if path is None and Path(name).exists():
        beside = f"{name!r} is the data set of that name; for the folder here called {name}, type ./{name}."
        source_data = source_data.replace(notes=(beside, *source_data.notes))
    return source_data


def resolve(data):
    """(name of the data set, path or None) for a registered name or a path of the user's."""
    if not isinstance(data, (str, os.PathLike)) or not os.fspath(data).strip():
        raise UsageError(
            f"data must be the name of a data set or a path, not {data!r}. List the names: {DATASETS.hint}"
        )
    text = os.fspath(data)
    if isinstance(data, str) and data in DATASETS:
        if DATASETS.facts(data)["needs_path"]:
            raise UsageError(f"The data set {data!r} is read from a path: type the path itself instead of {data!r}.")
        return data, None
    path = Path(text).expanduser()
    if not path.exists():
        beside = [folder.name for folder in Path().iterdir() if folder.is_dir()]
        if _looks_like_a_path(data) or (nearest(text, beside) and not nearest(text, DATASETS.names())):
            raise _no_such_path(text, path)
        raise unknown("data set", text, DATASETS.names(), f"{DATASETS.hint}; or give the path of a folder")
    if not path.is_dir():
        check_regular(path)
    for module in sorted({DATASETS.get(name).__module__ for name in DATASETS.names()}, key=_general_last):
        recognises = getattr(importlib.import_module(module), "recognises", None)
        name = recognises(path) if recognises else None
        if name:
            return name, path
    raise DataError(
        f"{text} is not a data set that can be read here: give a folder of class folders with images, a folder of "
        "MNIST, CIFAR or MiniPlaces files, a cifar-10-python.tar.gz or the like, or an .npz file. Unpack other "
        "archives first."
    )


def _general_last(module):
    return module.endswith(".image_folder"), module  # any folder can be one, so it is asked last


def _looks_like_a_path(data):
    return isinstance(data, os.PathLike) or "/" in data or data[:1] in ("~", ".") or bool(Path(data).suffix)


def _no_such_path(text, path):
    home = path.parent if str(path.parent) else Path()
    guesses = nearest(path.name, [p.name for p in home.iterdir()]) if home.is_dir() else []
    hint = f" Did you mean {' or '.join(str(home / g) for g in guesses)}?" if guesses else ""
    where = "" if home.is_dir() else f" There is no folder {home} either."
    return UsageError(
        f"There is no folder or file {text!r}.{hint}{where} Give the path of a data folder, or one of the names "
        f"{', '.join(DATASETS.names())}."
    )


# Size, channels, memory


def settle(data, *, size=None, channels=None, strict=False, memory_limit=None):
    """The same data with every image at one size and number of channels: in memory where that fits, else on demand.

    Args:
        data: ImageData as its reader made it.
        size: (height, width), or None: the images' own if they agree; else a square of the median shorter side, at most
            224 pixels; a note says so.
        channels: 1, 3 or None: 3 unless every image is grey.
        strict: raise DataError for a broken file instead of leaving it out.
        memory_limit: bytes that the decoded images may take; None: a quarter of the memory that is available now.
    """
    limit = default_limit() if memory_limit is None else memory_limit
    if not isinstance(next(iter(data.splits.values())).images, ImageFiles):
        return _settle_arrays(data, size, channels, limit)
    return _settle_files(data, size, channels, strict, limit)


def _settle_arrays(data, size, channels, limit):
    height, width, stored_channels = data.image_shape
    size, channels = size or (height, width), channels or stored_channels
    total = sum(len(s) for s in data.splits.values()) * size[0] * size[1] * channels
    changed, notes = (*size, channels) != data.image_shape, []
    if changed and size != (height, width):
        notes.append(f"The {height}x{width} images are resized to {size[0]}x{size[1]}.")
    if changed and channels != stored_channels:
        notes.append("Grey images are repeated in three channels." if channels == 3 else "Colours are turned to grey.")
    streamed = changed and total > limit
    if streamed:
        notes.append(_streaming(total, limit, "resized"))
    splits = {}
    for name, split in data.splits.items():
        images = split.images
        if changed:
            images = ResizedImages(images, size, channels) if streamed else resize_batch(images, size, channels)
        masks = split.masks
        if masks is not None and masks.shape[1:] != size:
            masks = resize_batch(masks[..., None].astype(np.uint8) * 255, size)[..., 0] >= 128
        splits[name] = dataclasses.replace(split, images=images, masks=masks)
    return data.replace(notes=data.notes + tuple(notes), **splits)


def _settle_files(data, size, channels, strict, limit):
    total = sum(len(s) for s in data.splits.values())
    guess = _first_shape(data)
    if guess is not None and total * _bytes(size or guess[:2], channels or guess[2]) <= limit:
        try:  # as if all were like the first; the first that is not ends the attempt
            guessed = {"same_size": size is None, "all_grey": channels is None and guess[2] == 1, "strict": strict}
            return _decoded(data, size or guess[:2], channels or guess[2], **guessed)
        except Mixed:
            pass
        complete = False
    else:
        complete = guess is not None  # these will most likely stay files
    surveys = {name: survey(s.images, strict=strict, complete=complete) for name, s in data.splits.items()}
    size, channels, notes, in_memory = plan(data, surveys, size, channels, limit)
    data = data.replace(notes=data.notes + notes)
    if in_memory:
        return _decoded(data, size, channels, strict=strict)
    if not complete:
        surveys = {name: survey(s.images, strict=strict, complete=True) for name, s in data.splits.items()}
    return _on_demand(data, size, channels, surveys)


def plan(data, surveys, size, channels, limit):
    """What training does with surveyed files: (size, channels, notes, whether they are decoded into memory).

    Args:
        data: ImageData of ImageFiles.
        surveys: {split: what `survey` says of it}.
        size, channels, limit: as for `settle`, but a number of bytes for the limit.
    """
    sizes = np.concatenate([s for s, _, _ in surveys.values()])
    good, notes = sizes.all(axis=1), []
    if not good.any():
        broken = [(data.splits[n].images.name(row), why) for n in surveys for row, why in surveys[n][2].items()]
        raise _nothing_readable(data, broken)
    if size is None:
        size, note = choose_size(sizes[good])
        notes += [note] if note else []
    if channels is None:
        channels = 1 if np.concatenate([g for _, g, _ in surveys.values()])[good].all() else 3
    need = len(sizes) * _bytes(size, channels)
    if need > limit:
        notes.append(_streaming(need, limit, "decoded"))
    return size, channels, tuple(notes), need <= limit


def _bytes(size, channels):
    return size[0] * size[1] * channels


def _streaming(need, limit, verb):
    return (
        f"The images would take {need / 1e9:.2g} GB in memory, more than the limit of {limit / 1e9:.2g} GB, "
        f"so each is {verb} when it is needed."
    )


def _first_shape(data):
    """(height, width, channels) of the first readable image among the first few, or None."""
    images = next(iter(data.splits.values())).images
    for row in range(min(5, len(images))):
        try:
            (height, width), grey = probe(images.file(row))
        except Exception:  # a broken file; it is counted when all are visited
            continue
        return height, width, 1 if grey else 3
    return None


def _decoded(data, size, channels, **how):
    """Every split as an array, without its broken files."""
    splits, broken, remarks = {}, {}, []
    for name, split in data.splits.items():
        files = split.images.at(size, channels)
        images, rows, broken[name] = decode_all(files, **how)
        splits[name] = _with(split, images, rows)
        remarks += files.remarks.values()
    data = data.replace(notes=(*data.notes, *remarked(remarks)))
    return _without_broken(data, splits, broken)


def _on_demand(data, size, channels, surveys):
    """Every split as ImageFiles, without the files that are broken as far as headers and end marks tell."""
    splits, broken = {}, {name: reasons for name, (_, _, reasons) in surveys.items()}
    for name, split in data.splits.items():
        rows = np.array([row for row in range(len(split)) if row not in broken[name]], int)
        splits[name] = _with(split, split.images.at(size, channels).take(rows), rows)
    return _without_broken(data, splits, broken)


def _with(split, images, rows):
    """The rows of a split, with images that have been made from those rows."""
    files = tuple(split.files[row] for row in rows) if split.files else ()
    return Split(images, split.labels[rows], files, None if split.masks is None else split.masks[rows])


def _without_broken(data, splits, broken):
    skipped = tuple(
        (data.splits[name].images.name(row), reason)
        for name, rows in broken.items()
        for row, reason in sorted(rows.items())
    )
    if not any(len(split) for split in splits.values()):
        raise _nothing_readable(data, skipped)
    return data.replace(skipped=data.skipped + skipped, **splits)


def without(data, skipped):
    """The data as their reader made them, less `skipped` files; DataError if that leaves a split or class empty."""
    names, splits = {file for file, _ in skipped}, {}
    example = f"The first: {skipped[0][0]} ({skipped[0][1]})."
    for name, split in data.splits.items():
        splits[name] = split.take(np.array([i for i, file in enumerate(split.files) if file not in names], int))
        if not len(splits[name]):
            raise DataError(f"{data.source}: none of the {counted(len(split), f'{name} image')} can be read. {example}")
    absent = []
    if data.train is not None and data.class_names:
        absent = [data.class_names[c] for c in np.setdiff1d(data.train.labels, splits["train"].labels)]
    if absent:
        raise DataError(
            f"{data.source}: no training image of {', '.join(map(repr, absent))} can be read, so it cannot be learned. "
            f"{example} Repair the files or remove the class."
        )
    return data.replace(skipped=skipped, **splits)


def _nothing_readable(data, skipped):
    file, reason = min(skipped)
    return DataError(
        f"{data.source}: none of the {counted(len(skipped), 'image')} can be read. The first: {file} ({reason})."
    )


def choose_size(sizes):
    """((height, width), note or None) for images of these heights and widths, int (N, 2)."""
    distinct = np.unique(sizes, axis=0)
    if len(distinct) == 1:
        return tuple(int(n) for n in distinct[0]), None
    side = min(LARGEST_GUESS, int(np.median(sizes.min(axis=1))))
    low, high = distinct[np.argmin(distinct.prod(axis=1))], distinct[np.argmax(distinct.prod(axis=1))]
    note = (
        f"The images come in {len(distinct)} sizes, from {low[0]}x{low[1]} to {high[0]}x{high[1]} (height x width): "
        f"all are cropped and resized to {side}x{side}; choose another with image_size=PIXELS."
    )
    return (side, side), note


def default_limit():
    """Bytes that decoded images may take when nobody says otherwise: a quarter of the memory that is available now."""
    return available_memory() // 4
