"""Check a data set before training on it: counts, sizes, colours, broken and duplicate images, what training will do.

`check` reads every image once and changes nothing. For JPEG files it also collects libjpeg's warnings. Two images are
duplicates if their pixels are identical once they are decoded and upright; the report also says whether the files are
identical to the last byte. Near duplicates are copies of a picture that were resized, re-encoded, mirrored or slightly
cropped (`kerascnn.datasets.near_duplicates`). Validation or test images that also occur in training are a leak: they
make the accuracy look better than it is.
"""

import hashlib
import itertools
from dataclasses import asdict, dataclass

import numpy as np

from kerascnn.datasets.balance import CURE, balance
from kerascnn.datasets.decoding import opened
from kerascnn.datasets.hold_out import hold_out
from kerascnn.datasets.image_data import Split
from kerascnn.datasets.image_files import ImageFiles, survey, visit_files
from kerascnn.datasets.jpeg_damage import damage
from kerascnn.datasets.loading import check_channels, default_limit, imbalance, plan, read, settle, without
from kerascnn.datasets.near_duplicates import MOST, SIDE, SMALLEST, near_pairs, thumbnail
from kerascnn.datasets.picture import remarked
from kerascnn.datasets.preprocessing import pixel_sums
from kerascnn.datasets.resize import as_size
from kerascnn.errors import counted


@dataclass(frozen=True)
class Report:
    """The findings, as plain values that JSON can hold.

    Attributes:
        name, source, class_names: as in ImageData.
        counts: {split: {class name: number of images}}, as training would split them, broken files not counted.
        sizes: ((height, width, number of images), ...), most frequent first; the sizes of the images as they are.
        mean, std: one number per channel, for the training pixels at the size that training uses, from 0 to 1.
        broken: ((file, reason), ...).
        damaged: ((file, libjpeg's warning), ...) for JPEG files that are decoded with partly wrong pixels.
        duplicates: groups of images with the same pixels; each group is a dict of "images" (names), "splits" and
            "classes" (one of each an image), and "same_bytes".
        near: pairs of images that are nearly, but not exactly, the same; each is a dict of "images", "splits" and
            "classes" (one of each an image), "similarity" (0.8 to 1) and "mirrored"; None if they were not searched
            for, because there are too many images or all are too small.
        leaks: {"train/test": n, ...}: how many images of the second split also occur in the first.
        conflicts: number of duplicate groups whose images have different classes.
        balance: {"commonest", "rarest": class names, "most", "fewest": their training images, "baseline": accuracy of
            always predicting the most frequent class, as a fraction of the training images}.
        image_shape: (height, width, channels) that images are resized to.
        memory_bytes: memory that the decoded images take at that shape.
        in_memory: False if the images would be decoded on demand instead.
        notes: what was done while reading: ignored folders, splits made, sizes chosen.
        problems: sentences about what should be fixed before training.
    """

    name: str
    source: str
    class_names: tuple
    counts: dict
    sizes: tuple
    mean: tuple
    std: tuple
    broken: tuple
    damaged: tuple
    duplicates: tuple
    near: tuple | None
    leaks: dict
    conflicts: int
    balance: dict
    image_shape: tuple
    memory_bytes: int
    in_memory: bool
    notes: tuple
    problems: tuple

    def to_dict(self):
        """The same as a dict of plain values."""
        return asdict(self)


def check_data(
    data,
    *,
    image_size=None,
    channels=None,
    validation=0.1,
    test=0.15,
    seed=0,
    strict=False,
    memory_limit=None,
    **options,
):
    """Read every image of a data set once and return a Report. The arguments are those of `kerascnn.datasets.load`.

    Broken files are reported, not raised, unless `strict`; a data set that cannot be loaded at all raises as in `load`.
    """
    size = as_size(image_size)
    check_channels(channels)
    source_data = read(data, image_size=size, channels=channels, seed=seed, **options)
    limit = default_limit() if memory_limit is None else memory_limit
    visit = _visit_files if isinstance(source_data.train.images, ImageFiles) else _visit_arrays
    seen = visit(source_data, size, channels, strict, limit)
    if not seen.good["train"].any():
        without(source_data, source_data.skipped + seen.broken)  # raises as `load` does
    data = hold_out(_rows(source_data, seen.good), validation=validation, test=test, seed=seed)
    counts = _counts(data)
    digests = {name: _of_split(seen.digests, source_data, name, split) for name, split in data.splits.items()}
    file_digests = {name: _of_split(seen.file_digests, source_data, name, split) for name, split in data.splits.items()}
    duplicates = _duplicates(data, digests, file_digests)
    small = {name: _of_split(seen.small, source_data, name, split) for name, split in data.splits.items()}
    near = _near(data, small, digests)
    leaks = _leaks(digests)
    spread = balance(data.train.labels, len(data.class_names))
    mean, std = _moments(seen.sums[:, data.train.images].sum(axis=1), len(data.train) * seen.shape[0] * seen.shape[1])
    conflicts = sum(len(set(group["classes"])) > 1 for group in duplicates)
    return Report(
        name=source_data.name,
        source=source_data.source,
        class_names=tuple(source_data.class_names),
        counts=counts,
        sizes=_commonest_sizes(seen.sizes),
        mean=mean,
        std=std,
        broken=source_data.skipped + seen.broken,
        damaged=seen.damaged,
        duplicates=tuple(duplicates),
        near=near,
        leaks=leaks,
        conflicts=conflicts,
        balance=_named(spread, data.class_names),
        image_shape=seen.shape,
        memory_bytes=sum(sum(by_class.values()) for by_class in counts.values()) * int(np.prod(seen.shape)),
        in_memory=seen.in_memory,
        notes=data.notes + seen.notes,
        problems=(
            *_problems(counts, seen.broken, leaks, conflicts),
            *_nearly_leaked(near),
            *_of_pixels(seen),
            *data.doubts,
            *(f"{sentence} {CURE}" for sentence in imbalance(data)),
        ),
    )


def _counts(data):
    """{split: {class: how many images}}."""
    return {
        split_name: {
            class_name: int((split.labels == label).sum()) for label, class_name in enumerate(data.class_names)
        }
        for split_name, split in data.splits.items()
    }


def _commonest_sizes(sizes):
    """((height, width, how many), ...), most frequent first."""
    distinct, times = np.unique(sizes, axis=0, return_counts=True)
    order = np.argsort(-times, kind="stable")
    return tuple((int(h), int(w), int(n)) for (h, w), n in zip(distinct[order], times[order], strict=True))


def _named(spread, class_names):
    """How evenly the classes are filled, with their names."""
    names = {"commonest": class_names[spread.commonest], "rarest": class_names[spread.rarest]}
    return asdict(spread) | names


@dataclass(frozen=True)
class _Seen:
    """What a visit to every image gives; {split: ...} are the source's own splits, one value an image."""

    good: dict  # {split: bool (N,)}, which images could be read
    digests: dict  # {split: [hash of the pixels]}
    file_digests: dict  # {split: [hash of the file's bytes]}; of the pixels where there are no files
    sizes: np.ndarray  # int (n, 2) of all good images
    broken: tuple
    small: dict  # {split: [grey thumbnail, or None]}
    sums: np.ndarray  # float (2, N, C), of the training images' pixels and of their squares
    shape: tuple
    in_memory: bool
    notes: tuple
    damaged: tuple = ()
    remarks: tuple = ()


def _rows(data, good):
    """The same data less what could not be read, with the number of its row in the place of each image."""
    splits = {
        name: Split(rows, split.labels[rows], tuple(split.files[row] for row in rows) if split.files else ())
        for name, split in data.splits.items()
        for rows in [np.flatnonzero(good[name])]
    }
    return data.replace(**splits)


def _of_split(values, source_data, name, split):
    """Those of the values (one a row of each source split) that belong to a split, perhaps one made of train."""
    source = values[name if name in source_data.splits else "train"]
    return [source[row] for row in split.images]


def _digest(contents):
    digest = hashlib.blake2b(digest_size=16)
    for content in contents:
        digest.update(content)
    return digest.digest()


def _visit_files(data, size, channels, strict, limit):
    surveys = {name: survey(split.images, strict=strict) for name, split in data.splits.items()}
    size, channels, notes, in_memory = plan(data, surveys, size, channels, limit)
    looked = tuple(n * max(1, -(-SIDE // min(size))) for n in size)  # in which near duplicates can be told
    sums = np.zeros((2, len(data.train), channels))
    good, digests, file_digests, small, broken, damaged, remarks = {}, {}, {}, {}, [], [], []
    for name, split in data.splits.items():
        damages, (of_pixels, of_files, thumbnails) = {}, ([None] * len(split) for _ in range(3))

        def work(row, split=split, name=name, how=(damages, of_pixels, of_files, thumbnails)):
            damages, of_pixels, of_files, thumbnails = how
            with opened(split.images.file(row)) as picture:
                of_pixels[row] = _digest(itertools.chain([repr(picture.size).encode()], picture.rows()))
                picture.mode = {1: "L", 3: "RGB"}[channels]
                pixels = picture.pixels(size)
                if name == "train":
                    sums[:, row] = pixel_sums(pixels)
                if min(picture.size) >= SMALLEST:  # however small training makes it
                    thumbnails[row] = thumbnail(pixels if looked == size else picture.pixels(looked))
                if picture.remarks:
                    remarks.append(picture.remarks)
            content = split.images.content(row)
            of_files[row] = _digest([content])
            damages[row] = damage(content) if content[:2] == b"\xff\xd8" else None

        reasons = visit_files(split.images, work, int(np.median(surveys[name][0].prod(axis=1))), strict)
        good[name] = np.array([row not in reasons for row in range(len(split))])
        digests[name], file_digests[name], small[name] = of_pixels, of_files, thumbnails
        broken += [(split.files[row], reason) for row, reason in sorted(reasons.items())]
        damaged += [(split.files[row], warning) for row, warning in sorted(damages.items()) if warning]
    sizes = np.concatenate([surveys[name][0][good[name]] for name in data.splits])
    return _Seen(
        good, digests, file_digests, sizes, tuple(broken), small, sums, (*size, channels), in_memory, notes,
        tuple(damaged), tuple(remarked(remarks)),
    )  # fmt: skip


def _visit_arrays(data, size, channels, strict, limit):
    digests = {
        name: [_digest([np.ascontiguousarray(image)]) for image in split.images] for name, split in data.splits.items()
    }
    settled = settle(data, size=size, channels=channels, memory_limit=limit)
    images = settled.train.images
    total = sum(len(split) for split in data.splits.values())
    return _Seen(
        good={name: np.ones(len(split), bool) for name, split in data.splits.items()},
        digests=digests,
        file_digests=digests,
        sizes=np.tile(data.image_shape[:2], (total, 1)),
        broken=(),
        small={name: [thumbnail(image) for image in split.images] for name, split in data.splits.items()},
        sums=np.stack([pixel_sums(image) for image in images], axis=1),
        shape=tuple(int(n) for n in settled.image_shape),
        in_memory=isinstance(images, np.ndarray),
        notes=settled.notes[len(data.notes) :],
    )


def _moments(sums, count):
    """(mean, std) from 0 to 1, a tuple of one number a channel each; of `count` pixels."""
    mean = sums[0] / max(count, 1)
    std = np.sqrt(np.maximum(sums[1] / max(count, 1) - mean**2, 0))
    return tuple(float(m) / 255 for m in mean), tuple(float(s) / 255 for s in std)


def _duplicates(data, digests, file_digests):
    """The groups of images with the same pixels, in order of their first image."""
    places = {}
    for name, split_digests in digests.items():
        for row, digest in enumerate(split_digests):
            places.setdefault(digest, []).append((name, row))
    return [
        _told(data, group) | {"same_bytes": len({file_digests[name][row] for name, row in group}) == 1}
        for group in places.values()
        if len(group) > 1
    ]


def _near(data, thumbnails, digests):
    """The pairs of images that are nearly the same, or None if they cannot be searched for: there are too many
    images, or all are too small."""
    places = [
        (name, row) for name, small in thumbnails.items() for row, picture in enumerate(small) if picture is not None
    ]
    if not 0 < len(places) <= MOST:
        return None
    pairs = []
    for first, second, similarity, mirrored in near_pairs([thumbnails[name][row] for name, row in places]):
        pair = places[first], places[second]
        if digests[pair[0][0]][pair[0][1]] == digests[pair[1][0]][pair[1][1]]:
            continue
        pairs.append(_told(data, pair) | {"similarity": similarity, "mirrored": mirrored})
    return tuple(pairs)


def _told(data, places):
    """What a report says of images, (name of the split, row) each."""
    return {
        "images": [_called(data, *place) for place in places],
        "splits": [name for name, _ in places],
        "classes": [data.class_names[data.splits[name].labels[row]] for name, row in places],
    }


def _called(data, name, row):
    split = data.splits[name]
    return split.files[row] if split.files else f"{name}[{row}]"


def _nearly_leaked(near):
    """A sentence on near duplicates in two splits, and one on those with two classes."""
    if not near:
        return
    across = [pair for pair in near if len(set(pair["splits"])) > 1]
    if across:
        are = counted(len(across), "pair of nearly equal images is", "pairs of nearly equal images are")
        yield f"{are} in two splits. Look at them: images that are tested may have been seen in training."
    apart = [pair for pair in near if len(set(pair["classes"])) > 1]
    if apart:
        have = counted(len(apart), "pair of nearly equal images has", "pairs of nearly equal images have")
        yield f"{have} different classes."


def _leaks(digests):
    """{"train/validation": n, ...} for each pair of splits: images of the second whose pixels occur in the first."""
    leaks = {}
    for first, second in itertools.combinations(digests, 2):
        known = set(digests[first])
        leaks[f"{first}/{second}"] = sum(digest in known for digest in digests[second])
    return leaks


def _problems(counts, broken, leaks, conflicts):
    if broken:
        out = "file is broken; training leaves it out.", "files are broken; training leaves them out."
        yield counted(len(broken), *out)
    for split, by_class in counts.items():
        empty = [name for name, n in by_class.items() if not n]
        if empty:
            names = ", ".join(empty[:8]) + (" ..." if len(empty) > 8 else "")
            yield f"The {split} split has no readable image of {names}."
    for pair, number in leaks.items():
        if number:
            first, second = pair.split("/")
            also = counted(number, f"{second} image also occurs", f"{second} images also occur")
            yield f"{also} in {first}: the {second} accuracy will look too good."
    if conflicts:
        yield f"{counted(conflicts, 'image occurs', 'images occur')} more than once with different classes."


def _of_pixels(seen):
    if seen.damaged:
        yield (
            f"{counted(len(seen.damaged), 'JPEG file is', 'JPEG files are')} damaged inside: parts of the "
            "pixels are wrong, and training uses them as they are. Replace or remove them."
        )
    yield from seen.remarks
