"""What an exported file carries besides the network: labels and preprocessing, as JSON."""

import json

from kerascnn import __version__
from kerascnn.datasets.preprocessing import Preprocessing
from kerascnn.errors import DataError
from kerascnn.files import json_value

KEY = "kerascnn.json"  # the name of the entry that holds it


def as_json(classifier, **more):
    """The text that a file of a Classifier carries; `more` are fields of the format."""
    carried = {
        "kerascnn": __version__,
        "name": classifier.name,
        "labels": list(classifier.labels),
        "preprocessing": classifier.preprocessing.to_dict(),
    }
    return json.dumps({**carried, **more}, ensure_ascii=False, indent=1)


def read(text, path):
    """The fields of `as_json`'s text.

    Raises:
        DataError: they are not what a file of ours carries.
    """
    fields = json_value(text, f"{path}: {KEY}")
    labels = fields.get("labels") if isinstance(fields, dict) else None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise DataError(f"{path} is damaged: the labels inside are not a list of names.")
    if not isinstance(fields.get("preprocessing"), dict):
        raise DataError(f"{path} is damaged: it holds no preprocessing.")
    return fields


def described(text, path):
    """(labels, Preprocessing) in `as_json`'s text."""
    fields = read(text, path)
    return tuple(fields["labels"]), Preprocessing.from_dict(fields["preprocessing"])


def not_ours(path):
    """The DataError for a file that carries nothing."""
    return DataError(
        f"{path} carries no labels and no preprocessing: it was not written by kerascnn export, or is torn."
    )
