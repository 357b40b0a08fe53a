"""Commands that use runs: predict, evaluate, suspects, export and runs; and `kerascnn doctor`."""

import itertools
import sys
from csv import writer
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kerascnn import __version__, runs
from kerascnn.commands.sharding import check_absent, merge_hint, shard_file
from kerascnn.commands.terminal import (
    Flag,
    Json,
    Subject,
    check_subject,
    computing,
    fraction,
    let_interrupts_through,
    naming,
    one_line,
    print_json,
    print_table,
)
from kerascnn.errors import DataError, UsageError, command, counted
from kerascnn.shards import parse_shard
from kerascnn.using import exported
from kerascnn.using.formats import FORMATS, check_installed, missing

Out = Annotated[Path | None, Parameter(name=["--out", "-o"])]
Format = Annotated[str, Parameter(help=f"{', '.join(FORMATS.names())} (kerascnn formats)")]
PREDICTED = ("image", "rank", "index", "probability", "label")  # the columns of predictions
MOST_COLUMNS = 100  # of a confusion matrix that is printed


def predict(
    run: Subject,
    /,
    *images: str,
    top: int = 5,
    evaluate: Flag = False,
    json: Json = False,
    csv: Flag = False,
    shard: str | None = None,
    out: Out = None,
):
    """Print the most probable classes of images.

    Parameters
    ----------
    images
        files, folders or patterns
    top
        classes to print for each image
    evaluate
        also evaluate the answers, as kerascnn evaluate does; IMAGES is one folder of class folders
    csv
        print CSV instead of text
    shard
        predict only this part of the images, such as 3/16, and write a file; kerascnn merge combines all parts
    out
        .npz file for the shard [default: such as predict-03-of-16.npz]
    """
    if not images:
        raise UsageError(f"No image was named. Type: {command('predict', run)} IMAGE...")
    if evaluate and (csv or len(images) > 1 or not Path(images[0]).is_dir()):
        raise UsageError("--evaluate takes one folder of class folders, and goes with text or --json, not with --csv.")
    part, out = _part("predict", shard, out, {"--evaluate": evaluate, "--json": json, "--csv": csv})
    measured, without_keras = None, exported.is_exported(run)
    if without_keras and evaluate:
        raise UsageError(f"--evaluate takes a run or a model file; {run} is an exported network.")
    if not without_keras:
        check_subject(run)
    with computing(json or csv) as (say, _log):
        if part:
            from kerascnn.using.answer_shards import predict_shard

            broken = predict_shard(run, images, part, out, top=top)
            say(merge_hint(out, part))
            if broken:
                say(f"{counted(len(broken), 'file')} could not be read; kerascnn merge lists them.")
            return
        if without_keras:
            rows, broken = exported.predict(run, images, top=top)
        else:
            from kerascnn import using

            measured = using.evaluate(run, images[0]) if evaluate else None
            table = using.predict(run, images, top=top)
            rows, broken = list(table.itertuples(index=False, name=None)), table.attrs["broken"]
        if json:
            predictions = as_table(rows)
            print_json({"predictions": predictions, "evaluation": as_json(measured)} if evaluate else predictions)
        elif csv:
            write_rows(rows, sys.stdout)
        else:
            _print_predictions(rows)
            if evaluate:
                print_evaluation(measured)
        check_read(broken)


def _part(what, shard, out, others):
    """((i, n) or None, the file that is written) of what was typed as --shard and --out.

    Args:
        others: {option that a shard does not take: what was typed}.
    """
    if shard is None:
        if out is not None:
            raise UsageError(f"--out {out} is for the file of a shard. Add --shard, such as --shard 1/16.")
        return None, None
    part = parse_shard(shard)
    typed = [option for option, value in others.items() if value]
    if typed:
        raise UsageError(
            f"{typed[0]} goes with a whole result, which kerascnn merge makes of all shards. Leave out {typed[0]} or "
            "--shard."
        )
    out = out or Path(shard_file(what, part))
    if out.suffix != ".npz":
        raise UsageError(f"--out {out} is not allowed for a shard: the name must end with .npz.")
    return part, check_absent(out)


def write_rows(rows, file):
    """Write predictions to an open file, as CSV."""
    writer(file, lineterminator="\n").writerows([PREDICTED, *rows])


def check_read(broken):
    """Raise a DataError if some files, (name, reason), could not be read."""
    if broken:
        listed = "; ".join(f"{name}: {reason}" for name, reason in broken[:5])
        raise DataError(f"{len(broken):,} of the files could not be read: {listed}")


def as_table(rows):
    """Predictions as JSON has them."""
    return [dict(zip(PREDICTED, row, strict=True)) for row in rows]


def _print_predictions(rows):
    for image, best in itertools.groupby(rows, key=lambda row: row[0]):
        print(image)
        told = [(str(index), f"{probability:.7f}", label) for _, _, index, probability, label in best]
        print_table(("index", "probability", "label"), told, "rr")
        print()


def evaluate(
    run: Subject,
    data: str | None = None,
    /,
    *,
    predictions: Path | None = None,
    wrong: Path | None = None,
    json: Json = False,
    strict: Flag = False,
    shard: str | None = None,
    out: Out = None,
):
    """Print the loss, top-1 and top-5 with their intervals, a table of the classes and the confusion matrix.

    The loss is the mean negative log likelihood in nats. Balanced accuracy and macro F1 count every class the same,
    however few images it has. The baseline is the accuracy of always predicting the most frequent class.

    Parameters
    ----------
    data
        name of a data set or a path, with the run's classes; its test images are used, or all images if it has no test
        split [default: the run's own test images; a model file has none, so name the data]
    predictions
        CSV file to write, with a row for each image: its class, the five most probable ones, loss, margin
    wrong
        folder for copies of the images that were classified wrongly, most confident mistakes first
    strict
        stop at the first image that cannot be read, instead of leaving it out
    shard
        compute only this part of the images, such as 3/16, and write a file; kerascnn merge combines all parts
    out
        .npz file for the shard [default: such as evaluate-03-of-16.npz]
    """
    part, out = _part("evaluate", shard, out, {"--predictions": predictions, "--wrong": wrong, "--json": json})
    check_subject(run)
    _check_targets(predictions, wrong)
    with computing(json) as (say, _log):
        if part:
            from kerascnn.using.answer_shards import evaluate_shard

            evaluate_shard(run, data, part, out, strict=strict)
            say(merge_hint(out, part))
            return
        from kerascnn import using
        from kerascnn.training import record

        measured = using.evaluate(run, data, strict=strict)
        if predictions is not None:
            runs.write_table(predictions, measured.predictions)
        if wrong is not None:
            say(record.copy_wrong(measured, wrong))
        if json:
            print_json(as_json(measured))
        else:
            print_evaluation(measured)


def suspects(
    run: Subject,
    data: str | None = None,
    /,
    *,
    cross: int | None = None,
    top: int = 20,
    out: Path | None = None,
    json: Json = False,
):
    """List the images whose label the network finds least likely; label errors are among them.

    For a run, these are its validation and test images, which it was not trained on. If the package cleanlab is
    installed, confident learning decides which labels are suspected; without it, every mistake is suspected.

    Parameters
    ----------
    data
        a data set's name or a folder of class folders that the network was not trained on [default: the run's own]
    cross
        train the run's recipe on this many folds, so that every image is judged; the same command continues a stopped
        one
    top
        how many to print
    out
        CSV file for all of them [default: suspects.csv in the run, or here]
    """
    check_subject(run)
    if cross is not None and data is not None:
        raise UsageError(f"--cross {cross} trains on the run's own data, so {data} cannot be typed with it.")
    if top < 1:
        raise UsageError(f"--top {top} is not allowed: it must be 1 or more.")
    if out is not None and (out.is_dir() or out.suffix != ".csv"):
        raise UsageError(f"--out {out} is not the name of a .csv file.")
    with computing(json) as (say, _log), naming(folds="--cross"):
        from kerascnn import using

        let_interrupts_through()
        crossed = cross is not None
        table = using.cross_suspects(runs.find(run), cross, say=say) if crossed else using.suspects(run, data)
        classifier = using.subject(run)
        path = out or (classifier.run / "suspects.csv" if classifier.run and data is None else Path("suspects.csv"))
        runs.write_table(path, table)
        if json:
            print_json(table.head(top).to_dict("records"))
            return
        rows = [
            (
                one_line(str(row.file)),
                row.split,
                row.label,
                row.suggested,
                f"{row.confidence:.4f}",
                "yes" * row.suspected,
            )
            for row in table.head(top).itertuples(index=False)
        ]
        print_table(("image", "split", "label", "suggested", "probability of the label", "suspected"), rows, "llllrl")
        say(f"\n{int(table['suspected'].sum()):,} suspected labels; all of them in {path}")


def as_json(measured):
    """What JSON holds of an Evaluation: its numbers and its tables."""
    from kerascnn.training.measures import confused_pairs

    per_class, pairs = measured.per_class.merge(measured.ranking, on="class"), confused_pairs(measured.confusion)
    tables = {"per_class": per_class.to_dict("records"), "confused_pairs": pairs.to_dict("records")}
    tables["confusion"] = measured.confusion.to_numpy().tolist()
    return {**measured.to_dict(), "calibration_error": measured.calibration[1], **tables}


def print_evaluation(measured):
    """Print an Evaluation as text."""
    from kerascnn.training.measures import confused_pairs

    result = measured.to_dict()
    print(f"images    {measured.images:,}")
    print(f"loss      {measured.loss:.4f}")
    print(f"top-1     {fraction(result, 'accuracy')}")
    if measured.top5 is not None:
        print(f"top-5     {fraction(result, 'top5')}")
    print(f"balanced  {100 * measured.balanced_accuracy:.2f}% (mean recall of the classes)")
    print(f"macro F1  {measured.macro_f1:.3f}")
    always = f"(always answering {measured.baseline_class!r})"
    print(f"baseline  {100 * measured.baseline_accuracy:.2f}% {always}")
    print(f"ECE       {100 * measured.calibration[1]:.2f} points (expected calibration error)")
    if measured.imbalance:
        print(f"\n{measured.imbalance}")
    print()
    rows = [
        (str(row[0]), f"{row[1]:,}", *("-" if number != number else f"{number:.3f}" for number in row[2:]))
        for row in measured.per_class.merge(measured.ranking, on="class").itertuples(False)
    ]
    print_table(("class", "images", "precision", "recall", "F1", "ROC area", "avg. precision"), rows, "lrrrrrr")
    pairs = confused_pairs(measured.confusion)
    if len(pairs):
        print("\nMost confused classes")
        rows = [(r.true, r.predicted, f"{r.images:,}", f"{100 * r.share:.1f}%") for r in pairs.itertuples(False)]
        print_table(("true", "predicted", "images", "share"), rows, "llrr")
    names = list(measured.confusion.columns)
    if len(names) > MOST_COLUMNS:
        print(f"\nThe confusion matrix of {len(names):,} classes is too wide to print; --json has it.")
        return
    print("\nConfusion (rows true, columns predicted)")
    rows = [(name, *map(str, row)) for name, row in zip(names, measured.confusion.to_numpy().tolist(), strict=True)]
    print_table(("", *names), rows, "l" + "r" * len(names))


def _check_targets(predictions, wrong):
    """Raise before hours of work if what was typed cannot be written to."""
    if predictions is not None and (predictions.is_dir() or predictions.suffix != ".csv"):
        raise UsageError(f"--predictions {predictions} is not the name of a .csv file.")
    if wrong is not None and wrong.exists() and (not wrong.is_dir() or any(wrong.iterdir())):
        raise UsageError(f"--wrong {wrong} is not a new or empty folder, so nothing is copied there.")


def export(
    run: Subject,
    /,
    *,
    format: Format = "saved-model",
    data: str | None = None,
):
    """Write a network for use outside Python, load the file in a fresh process and compare it with the Keras model.

    Preprocessing and labels are inside; a model card (Markdown) is written beside it.

    Parameters
    ----------
    data
        a data set's name or a folder, with images to compare and, for litert-int8, to calibrate on [default: the run's
        own; of a model file, images of noise are compared]
    """
    title = FORMATS.facts(format)["title"]
    check_installed(format)
    check_subject(run)
    with computing() as (say, _):
        from kerascnn.using.exporting import export as write

        let_interrupts_through()
        result = write(run, format, data=data)
        say(f"{result.path}  (reloaded in a fresh process; {result.agreement})")
        say(f"{result.card}  (model card)")
        if FORMATS.facts(format)["suffix"]:
            say(f"{title} needs no TensorFlow: {command('predict', result.path)} IMAGE...")


def list_formats(*, json: Json = False):
    """List the formats that networks are exported in."""
    facts = {name: {**FORMATS.facts(name), "missing": missing(name)} for name in FORMATS.names()}
    if json:
        print_json(facts)
        return
    rows = [
        (n, f["file"], f["doc"], f"pip install 'kerascnn[{f['extra']}]'" if f["missing"] else "yes")
        for n, f in facts.items()
    ]
    print_table(("format", "written as", "what it is", "installed"), rows)


def list_runs(folder: Path | None = None, /, *, json: Json = False):
    """List the runs, oldest first.

    Parameters
    ----------
    folder
        folder that holds the runs [default: saved_models]
    """
    if folder is not None and not folder.is_dir():
        raise UsageError(f"There is no folder {folder}. Type the folder that holds the runs.")
    summaries = [run.summary() for run in runs.all_under(folder)]
    if json:
        print_json(summaries)
        return
    if not summaries:
        print(f"No runs in {folder or runs.ROOT}/. Make one: kerascnn train")
        return
    rows = []
    for item in summaries:
        result = item.get("result") or {}
        accuracy = f"{100 * result['accuracy']:.2f}%" if "accuracy" in result else ""
        minutes = f"{item['seconds'] / 60:.1f}" if "seconds" in item else ""
        rows.append((item["run"], item.get("status") or "", item["model"], item["data"], accuracy, minutes))
    rows = [tuple(one_line(cell) for cell in row) for row in rows]
    print_table(("run", "status", "model", "data", "test accuracy", "minutes"), rows, "llllrr")
    for item in summaries:
        if item.get("status") == "damaged" and item.get("reason"):
            print(one_line(f"{item['run']}: {item['reason']}"))


def doctor(*, json: Json = False):
    """Print versions, backend, devices and precision, and whether all is well."""
    with computing(json):
        from kerascnn import backends
        from kerascnn.using import evaluation, exporting  # noqa: F401 (import everything that training needs)

        backend = backends.backend()
        report = {
            "kerascnn": __version__,
            **backends.versions(),
            "backend": backend,
            "devices": backends.devices(),
            "processor": backends.processor(),
            "precision": backends.fastest_precision(),
            "saved_model": backend == "tensorflow" or exporting.tensorflow_installed(),
        }
        report["verdict"] = (
            f"All is well: {backend} trains in {report['precision']} on {', '.join(report['devices'])}."
            if report["saved_model"]
            else f"{backend} trains, but TensorFlow is missing, so no SavedModel is exported: pip install tensorflow"
        )
    if json:
        print_json(report)
        return
    for name, value in report.items():
        print(f"{name:12} {', '.join(value) if isinstance(value, list) else value}")
