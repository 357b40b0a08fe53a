"""What a run keeps from its test, in evaluation/: tables for the report and for other uses, and pictures.

predictions.csv a row per image (`measures.by_image`)
per_class.csv     images, precision, recall, F1, area under the ROC curve, average precision
confusion.csv     rows true, columns predicted
pairs.csv the classes that are confused most often
calibration.csv how often it is right at each level of confidence
curves.csv        ROC and precision-recall curves of up to twenty classes
answers.npz       log probabilities and labels, if these take at most 50 MB
pictures.npz      small pictures of the images that a report shows

`kerascnn.pages.extras` adds more files to the folder.
"""

import shutil
from pathlib import Path

import numpy as np
import pandas
from sklearn.metrics import precision_recall_curve, roc_curve

from kerascnn import runs
from kerascnn.datasets.shard_index import is_packed, pack_at
from kerascnn.errors import DataError, counted
from kerascnn.files import check_regular, read_arrays
from kerascnn.training import measures, pictures
from kerascnn.training.evaluate import score

FOLDER = "evaluation"
TEXTS = {"file", "split", "label", "predicted", "suggested", "class", "true"}  # columns
TEXTS |= {"layer", "type", "output_shape", "rf_size"}
MOST_CLASSES = 20  # with curves of their own
MOST_POINTS = 200  # of a curve
MOST_ANSWERS = 50e6  # bytes of log probabilities that are kept


def clear(run):
    """Delete evaluation/ of a run: what it says of other weights, or of other images."""
    if (run / FOLDER).exists():
        shutil.rmtree(run / FOLDER)


def keep(run, evaluation, images):
    """Write evaluation/ of a run, in place of an earlier one.

    Args:
        evaluation: the Evaluation of its test split.
        images: uint8 (N, H, W, C), from which the pictures are made.
    """
    clear(run)
    predictions, (calibration, error) = evaluation.predictions, evaluation.calibration
    names = list(evaluation.per_class["class"])
    tables = {
        "predictions": predictions,
        "per_class": evaluation.per_class.merge(evaluation.ranking, on="class"),
        "confusion": _with_names(evaluation.confusion),
        "pairs": measures.confused_pairs(evaluation.confusion),
        "calibration": calibration.assign(expected_calibration_error=error),
    }
    if len(names) <= MOST_CLASSES:
        tables["curves"] = curves(np.exp(evaluation.log_probabilities), evaluation.labels, names)
    for name, table in tables.items():
        runs.write_table(run / FOLDER / f"{name}.csv", table)
    pictures.keep(run, pictures.chosen(predictions), images)
    answers = evaluation.log_probabilities.astype("float32")
    if answers.nbytes <= MOST_ANSWERS:
        with runs.replacing(run / FOLDER / "answers.npz") as temporary:
            np.savez_compressed(temporary, log_probabilities=answers, labels=evaluation.labels)


def evaluation(run, source=""):
    """The Evaluation that `keep` wrote into a run folder; None if its answers were not kept.

    Args:
        source: the folder that the images are in.
    """
    path = run / FOLDER / "answers.npz"
    if not path.exists():
        return None
    arrays, tables = read_arrays(path), read(run)
    names, files = tables["per_class"]["class"], tables["predictions"]["file"]
    return score(arrays["log_probabilities"], arrays["labels"], tuple(names), tuple(files), source)


def copy_wrong(evaluation, folder):
    """Copy the image files of an Evaluation's mistakes into a folder, most confident first; returns a sentence.

    Raises:
        DataError: the images are not files.
    """
    if not evaluation.files:
        raise DataError("The images come from no files of their own, so they cannot be copied.")
    table = evaluation.predictions
    table = table[~table["correct"]].sort_values("margin", kind="stable")
    folder.mkdir(parents=True, exist_ok=True)
    packed = pack_at(evaluation.source) if is_packed(evaluation.source) else None
    for place, row in enumerate(table.itertuples(), 1):
        source = Path(evaluation.source) / row.file
        name = f"{place:05d}-{runs.plain(row.label)}-as-{runs.plain(row.predicted)}-{runs.plain(source.stem)[-60:]}"
        target = folder / f"{name}{source.suffix}"
        if packed:
            target.write_bytes(packed.content(packed.rows[row.file]))
        else:
            shutil.copyfile(source, target)
    return f"{counted(len(table), 'image')} copied to {folder}"


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
    """{name: DataFrame} of what `keep` wrote into a run folder; empty if it wrote nothing."""
    return {path.stem: _read(path) for path in sorted((run / FOLDER).glob("*.csv"))}


def _with_names(confusion):
    """A confusion matrix with its classes in a first column "true"; a class may be called so, too."""
    table = confusion.reset_index(drop=True)
    table.insert(0, "true", confusion.index, allow_duplicates=True)
    return table


def _read(path):
    """A table whose names stay text, also where a class is called "1" or "NA", or as a column is."""
    check_regular(path)
    if path.stem == "confusion":  # its columns are classes
        cells = pandas.read_csv(path, header=None, dtype=str, keep_default_na=False)
        table = cells.iloc[1:, 1:].astype(int).set_axis(cells.iloc[0, 1:], axis=1).reset_index(drop=True)
        return pandas.concat([cells.iloc[1:, :1].set_axis(["true"], axis=1).reset_index(drop=True), table], axis=1)
    columns = pandas.read_csv(path, nrows=0).columns
    names = [column for column in columns if column in TEXTS or column.startswith("label_")]
    numbers = {column: [""] for column in columns if column not in names}
    return pandas.read_csv(path, dtype=dict.fromkeys(names, str), keep_default_na=False, na_values=numbers)
