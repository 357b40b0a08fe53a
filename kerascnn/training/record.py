"""What a run keeps of its test, in evaluation/: tables for the report and for anyone else, and pictures.

predictions.csv   a row an image (`measures.by_image`)
per_class.csv     images, precision, recall, F1, area under the ROC curve, average precision
confusion.csv     rows true, columns predicted
pairs.csv         the classes taken for which others most often
calibration.csv   how often it is right when it is so sure
curves.csv        ROC and precision-recall curves of up to twenty classes
pictures.npz      small pictures of the images that a report shows
"""

import numpy as np
import pandas
from sklearn.metrics import precision_recall_curve, roc_curve

from kerascnn import runs
from kerascnn.files import check_regular
from kerascnn.training import measures, pictures

FOLDER = "evaluation"
MOST_CLASSES = 20  # with curves of their own
MOST_POINTS = 200  # of a curve


def keep(run, evaluation, log_probabilities, split, class_names):
    """Write evaluation/ of a run.

    Args:
        evaluation: the Evaluation of a split.
        log_probabilities: (N, num_classes), nats, from which it came.
        split: the Split, whose images the pictures are made of.
    """
    probabilities = np.exp(log_probabilities)
    predictions = measures.by_image(log_probabilities, split.labels, class_names, split.files)
    calibration, error = measures.calibration(probabilities, split.labels)
    per_class = evaluation.per_class.merge(measures.ranking(probabilities, split.labels, class_names), on="class")
    tables = {
        "predictions": predictions,
        "per_class": per_class,
        "confusion": evaluation.confusion.rename_axis("true").reset_index(),
        "pairs": measures.confused_pairs(evaluation.confusion),
        "calibration": calibration.assign(expected_calibration_error=error),
    }
    if len(class_names) <= MOST_CLASSES:
        tables["curves"] = curves(probabilities, split.labels, class_names)
    for name, table in tables.items():
        with runs.replacing(run / FOLDER / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
    pictures.keep(run, pictures.chosen(predictions), split.images)


def curves(probabilities, labels, class_names):
    """ROC and precision-recall curves, one class against the rest.

    Returns:
        DataFrame with columns class, curve ("roc" or "pr"), x, y: false and true positive rate, or recall and
        precision; classes without images, or with all of them, are left out.
    """
    parts = []
    for number, name in enumerate(class_names):
        positive, score = labels == number, probabilities[:, number]
        if not positive.any() or positive.all():
            continue
        false_positives, true_positives, _ = roc_curve(positive, score)
        precision, recall, _ = precision_recall_curve(positive, score)
        for curve, x, y in (("roc", false_positives, true_positives), ("pr", recall, precision)):
            few = np.unique(np.linspace(0, len(x) - 1, MOST_POINTS).round().astype(int))
            parts.append(pandas.DataFrame({"class": name, "curve": curve, "x": x[few], "y": y[few]}))
    empty = pandas.DataFrame(columns=["class", "curve", "x", "y"])
    return pandas.concat(parts, ignore_index=True) if parts else empty


def read(run):
    """{name: DataFrame} of what `keep` wrote into a run folder; empty where it wrote nothing."""
    return {path.stem: _read(path) for path in sorted((run / FOLDER).glob("*.csv"))}


def _read(path):
    """A table whose names stay text, also where a class is called "1" or "NA"."""
    check_regular(path)
    columns = pandas.read_csv(path, nrows=0).columns
    names = [
        c for c in columns if c in ("file", "split", "label", "predicted", "class", "true") or c.startswith("label_")
    ]
    numbers = {column: [""] for column in columns if column not in names}
    return pandas.read_csv(path, dtype=dict.fromkeys(names, str), keep_default_na=False, na_values=numbers)
