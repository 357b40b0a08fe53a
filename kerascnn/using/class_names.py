"""Class names as a user gives them for a network, and the output of the network for each class of a data set."""

import collections
import re
import unicodedata
from pathlib import Path

import numpy as np

from kerascnn.errors import UsageError
from kerascnn.files import read_json, read_text


def class_names(labels, num_classes, notes):
    """num_classes different class names."""
    if labels is None:
        notes.append("No class names were given: classes are numbers.")
        return tuple(map(str, range(num_classes)))
    source = ""
    if isinstance(labels, (str, Path)):
        source = f" in {labels}"
        path = Path(labels).expanduser()
        if not path.is_file():
            raise UsageError(f"There is no file of labels {path}.")
        labels = (
            read_json(path) if path.suffix == ".json" else [*filter(None, read_text(path, "utf-8-sig").splitlines())]
        )
    if isinstance(labels, dict):
        indices = {int(index): name for index, name in labels.items() if re.fullmatch(r"\d+", str(index))}
        if sorted(indices) != list(range(len(labels))):
            raise UsageError(f"The labels{source} are not numbered from 0 to {len(labels) - 1}.")
        labels = [indices[i] for i in range(len(indices))]
    if len(labels) != num_classes:
        raise UsageError(f"There are {len(labels)} labels{source}, but the network has {num_classes} classes.")
    return unique(labels)


def unique(names):
    """The names; a name that occurs twice also gets its number (ImageNet has two cranes)."""
    names, different = [str(name if not isinstance(name, list) else name[-1]) for name in names], []
    for i, name in enumerate(names):
        while name in different or (name != names[i] and name in names):
            name += f" ({i})"
        different.append(name)
    return tuple(different)


def class_indices(class_names, labels, source):
    """int (num_classes of the data,): the output for each class of a data set, by name.

    A class folder may spell a label with underscores, in another case, or after its WordNet number (n02391049_zebra).
    If several labels are spelled alike (ImageNet has two cranes), and the data have classes for all of them, these are
    matched in order.

    Raises:
        UsageError: a class is not among the labels, or could be one of several; it says what matches and what does not.
    """
    exact = {unicodedata.normalize("NFC", name): i for i, name in enumerate(labels)}
    plain = {}
    for i, name in enumerate(labels):
        plain.setdefault(_plain(name), []).append(i)
    indices, taken = [], {exact[name] for name in class_names if name in exact}
    others = collections.Counter(_plain(name) for name in class_names if name not in exact)
    left = {name: [i for i in alike if i not in taken] for name, alike in plain.items()}
    for name in class_names:
        alike = plain.get(_plain(name), [])
        place = exact.get(name)
        if place is None and len(alike) > 1 and others[_plain(name)] != len(left[_plain(name)]):
            known = " or ".join(repr(labels[i]) for i in alike)
            raise UsageError(
                f"{source} has the class {name!r}, and the network has {len(alike)} of that name. Rename the class to "
                f"{known}."
            )
        if place is None and alike:
            place = alike[0] if len(alike) == 1 else next(i for i in alike if i not in taken)
            taken.add(place)
        indices.append(place)
    foreign = [name for name, index in zip(class_names, indices, strict=True) if index is None]
    if foreign:
        raise UsageError(
            f"{source} has classes that the network does not know: {', '.join(foreign[:5])}"
            f"{', ...' if len(foreign) > 5 else ''} ({len(class_names) - len(foreign)} of {len(class_names)} match). "
            f"It knows {', '.join(labels[:10])}{', ...' if len(labels) > 10 else ''}."
        )
    return np.array(indices)


def _plain(name):
    name = re.sub(r"^n\d{8}[ _-]| \(\d+\)$", "", unicodedata.normalize("NFC", name))
    return name.replace("_", " ").casefold()
