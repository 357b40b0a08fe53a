"""Several networks that answer together by the mean of their probabilities (Krizhevsky et al. 2012, table 2).

An ensemble helps to the extent that its members make different mistakes, so the table also gives the correlation of
their mistakes.
"""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pandas
from matplotlib.figure import Figure

from kerascnn.errors import UsageError
from kerascnn.experiments import register
from kerascnn.experiments.kept import Kept, blocks
from kerascnn.experiments.outcome import Outcome, mean_interval, told_interval
from kerascnn.explain.answers import outputs_as_probabilities
from kerascnn.plots import BLUE, ORANGE, SHARES, shortened
from kerascnn.progress import Progress
from kerascnn.training.evaluate import interval
from kerascnn.using.ensemble_export import export_ensemble


@register(source="Krizhevsky, Sutskever and Hinton 2012, table 2", several=True)
def ensemble(probabilities, labels):
    """The error of each network, and of the mean of the first two, three ... networks' probabilities.

    Args:
        probabilities: {name: float (N, num_classes)} of two or more networks for the same images and classes.
        labels: int (N,), the true classes.
    Returns:
        Outcome. Table: members (a name, or the names of those that answer together), count (number of members), error
        (share of images), low and high (its 95% Wilson interval), loss (mean negative log-likelihood), images. Table
        "correlation" of the mistakes of two networks; nan if one of them makes none. Arrays: "mistakes" bool
        (members, N) and "correlation" (members, members).
    Raises:
        UsageError: there are fewer than two networks, shapes differ, rows do not sum to 1, or a label is not one of the
            classes.
    """
    names = list(probabilities)
    stacked, labels = _checked(probabilities, labels)
    mistakes = stacked.argmax(2) != labels
    alone = [_row(name, 1, answers, labels) for name, answers in zip(names, stacked, strict=True)]
    together = [
        _row(" + ".join(names[:count]), count, stacked[:count].mean(0), labels) for count in range(2, len(names) + 1)
    ]
    columns = ["members", "count", "error", "low", "high", "loss", "images"]
    table = pandas.DataFrame(alone + together, columns=columns)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.corrcoef(mistakes.astype("float64"))
    arrays = {"mistakes": mistakes, "correlation": correlation}
    said = _findings(names, mistakes, stacked.mean(0).argmax(1) != labels, correlation)
    tables = {"correlation": pandas.DataFrame(correlation, names, names).rename_axis("network").reset_index()}
    return Outcome("ensemble", table, said, lambda: _figure(names, table, correlation), arrays, tables)


def _checked(probabilities, labels):
    if len(probabilities) < 2:
        raise UsageError(f"An ensemble has two or more networks; {len(probabilities)} given.")
    labels = np.asarray(labels)
    shapes = {name: np.shape(answers) for name, answers in probabilities.items()}
    first = next(iter(shapes.values()))
    for name, shape in shapes.items():
        if len(shape) != 2 or shape != first or shape[0] != len(labels):
            raise UsageError(
                f"The probabilities of {name!r} have the shape {shape}; ({len(labels)}, {first[-1]}) is needed, a row "
                "for each image and a column for each class."
            )
    if labels.min() < 0 or labels.max() >= first[1]:
        raise UsageError(f"labels from {labels.min()} to {labels.max()} are not allowed: there are {first[1]} classes.")
    stacked = np.array([np.asarray(answers, "float64") for answers in probabilities.values()])
    for name, answers in zip(probabilities, stacked, strict=True):
        if not np.allclose(answers.sum(1), 1, atol=1e-2) or answers.min() < 0:
            raise UsageError(
                f"The answers of {name!r} are not probabilities: values must be 0 or more, and each row must sum to 1."
            )
    return stacked, labels


def _row(name, count, answers, labels):
    wrong = answers.argmax(1) != labels
    loss = -np.log(np.maximum(answers[np.arange(len(labels)), labels], 1e-30)).mean()
    return (name, count, wrong.mean(), *interval(wrong.sum(), len(labels)), loss, len(labels))


def _findings(names, mistakes, together, correlation):
    errors = mistakes.mean(1)
    best = int(errors.argmin())
    mean, low, high = mean_interval(mistakes[best].astype(float) - together)
    verdict = "better than" if low > 0 else "worse than" if high < 0 else "not measurably different from"
    pairs = correlation[np.triu_indices(len(names), 1)]
    known = pairs[np.isfinite(pairs)]
    related = f" The mistakes of two networks correlate by {known.mean():.2f} on average." if len(known) else ""
    return (
        f"Together the {len(names)} networks are {verdict} the best of them, {names[best]}: {together.mean():.2%} "
        f"against {errors[best]:.2%} errors, {100 * mean:.2f} points fewer "
        f"{told_interval(100 * low, 100 * high, len(together), form='{:.2f}')}.{related}",
    )


def _figure(names, table, correlation):
    figure = Figure(figsize=(6 + 0.9 * len(names), 4.2), layout="constrained")
    errors, pairs = figure.subplots(1, 2)
    alone, together = table[: len(names)], table[len(names) :]
    for rows, places, colour, label in (
        (alone, np.arange(len(names)) + 1, BLUE, "each network alone"),
        (together, together["count"] + 0.12, ORANGE, "the first networks together"),
    ):
        reach = [100 * (rows["error"] - rows["low"]), 100 * (rows["high"] - rows["error"])]
        style = {"marker": "o", "capsize": 3, "linestyle": "none" if rows is alone else "-"}
        errors.errorbar(places, 100 * rows["error"], reach, color=colour, label=label, **style)
    errors.set_xticks(range(1, len(names) + 1))
    errors.set(xlabel="number of the network, or of networks together", ylabel="errors, % of test images")
    errors.set_xlim(0.6, len(names) + 0.4)
    errors.set_ylim(bottom=0)
    errors.grid(alpha=0.25)
    errors.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.2))
    pairs.imshow(correlation, cmap=SHARES, vmin=0, vmax=1)
    labels = [f"{number}  {shortened(name, 28)}" for number, name in enumerate(names, 1)]
    pairs.set_xticks(range(len(names)), range(1, len(names) + 1))
    pairs.set_yticks(range(len(names)), labels, fontsize="small")
    for row in range(len(names)):
        for column in range(len(names)):
            value = correlation[row, column]
            colour = "white" if value > 0.6 else "black"
            pairs.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize="small")
    pairs.set_title("correlation of mistakes", fontsize="medium")
    figure.suptitle(f"{len(names)} networks, {table['images'].iloc[0]:,} test images, 95% intervals", fontsize="medium")
    return figure


def command(asked, *, images: int = 10_000, export: Path | None = None, seed: int = 0):
    """Measure how much better several networks do together than alone.

    Parameters
    ----------
    runs
        two or more runs or model files with the same classes
    images
        largest number of test images to use
    export
        new folder for a SavedModel of all networks together, which answers by the mean of their probabilities
    seed
        seed for the choice of images
    """
    answers, every = {}, asked.each()
    members = [_member(each, images, seed) for each in every]
    first = members[0]
    for member in members:
        _check_together(member, first)
    progress = Progress("network", len(every), asked.say)
    for number, member in enumerate(members):
        order = [member.classes.index(name) for name in first.classes]
        name = f"{member.name} ({number + 1})" if member.name in answers else member.name
        answers[name] = member.answers(asked.kept("ensemble"))[:, order]
        wrong = (answers[name].argmax(1) != first.labels).mean()
        progress.step(f"{name}: {wrong:.2%} errors")
    result = ensemble(answers, first.labels)
    if export is not None:
        difference = export_ensemble([each.classifier for each in every], export)
        asked.say(
            f"{export}: SavedModel of {len(every)} networks; loaded again, it differs by at most {difference:.1e}"
        )
    return result


@dataclasses.dataclass(frozen=True, eq=False)
class _Member:
    """A network of an ensemble, and its images: `truth` are their files and classes, `pixels` the shape and the digest
    of images that have no files."""

    name: str
    classes: list
    model: object
    images: object
    labels: object
    truth: list
    pixels: tuple | None

    def answers(self, keep):
        """Class probabilities (N, classes), saved in a folder as they are measured."""

        def answered():
            batches = [self.images[part] for part in blocks(len(self.images), 64)]
            scores = np.concatenate([np.asarray(self.model.predict_on_batch(batch)) for batch in batches])
            return outputs_as_probabilities(self.model, scores)

        return Kept(keep, self.model, self.images).measure("answers", answered)


def _member(asked, images, seed):
    """The _Member of a run, on some of its own test images or of other data."""
    asked.need_labels("errors need")
    split = asked.some(images, seed)
    truth = [split.files, [asked.loaded.class_names[label] for label in split.labels]]
    pixels = None if split.files else (split.images.shape, hashlib.blake2b(split.images[:].tobytes()).digest())
    name, classes = Path(str(asked.runs[0])).name, list(asked.classifier.labels)
    member = _Member(name, classes, asked.model, asked.prepared(split), asked.labels(split), truth, pixels)
    del asked.loaded  # the other images, of each network's own data
    return member


def _check_together(member, first):
    """Raise a UsageError if two networks cannot answer together, or one may have been trained on the test images."""
    if sorted(member.classes) != sorted(first.classes):
        other = sorted(set(member.classes) ^ set(first.classes))
        named = ", ".join(map(repr, other[:5])) + (" ..." if len(other) > 5 else "")
        raise UsageError(
            f"{member.name} has other classes than {first.name}, so the two cannot answer together: only one of them "
            f"has {named}. Name networks with the same classes."
        )
    other = None not in (member.pixels, first.pixels) and member.pixels != first.pixels
    if member.truth != first.truth or (other and member.pixels[0] == first.pixels[0]):
        raise UsageError(
            f"{member.name} has other test images than {first.name}, and may have been trained on these. Name images "
            "that none of them has seen: data=FOLDER"
        )
