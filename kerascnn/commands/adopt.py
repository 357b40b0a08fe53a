"""`kerascnn adopt`: state once what a model file does not hold, so that every command can use the file."""

import contextlib
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kerascnn.commands.terminal import Flag, computing, print_table
from kerascnn.errors import UsageError, command


def adopt(
    file: Path,
    /,
    *,
    labels: str | None = None,
    preprocess: str | None = None,
    resize: int | None = None,
    crop: int | None = None,
    from_logits: Flag = False,
    try_: Annotated[str | None, Parameter(name="--try")] = None,
    custom_objects: Path | None = None,
):
    """State what a .keras or .h5 file does not hold: class names and preprocessing. They are stored next to the file.

    Afterwards predict, evaluate, explain, activations, scan and others take the file in place of a run.

    Parameters
    ----------
    labels
        file with the class names: a JSON list, a JSON table {number: name}, or a text file with one name per line
    preprocess
        which pixel values the network expects: 0-255, 0-1, -1-1, torch, imagenet-mean, caffe, or MEAN,STD on the 0-to-1
        scale (one number each, or one per channel, means first) [default: 0-255 if the network itself begins with
        scaling]
    resize
        side that images are resized to before the crop, pixels [default: the crop's]
    crop
        side of the square that is cut from the centre, pixels [default: the network's input]
    from_logits
        the network ends with scores: add a softmax
    try_
        folder of class folders, named after the labels: print how often the network is right with each preprocessing,
        and write nothing
    custom_objects
        your own Python file that defines the network's custom layers; it is run
    """
    options = {"labels": labels, "resize": resize, "crop": crop, "from_logits": from_logits}
    scaling = _scaling(preprocess)
    with computing() as (say, _), _in_options():
        from kerascnn.using import classifier as adopting

        if custom_objects is not None:
            adopting.import_custom_objects(custom_objects)
        if try_ is not None:
            table = adopting.tried(file, try_, **options)
            rows = [(r.preprocess, f"{r.images:,}", f"{100 * r.accuracy:.1f}%") for r in table.itertuples(False)]
            print_table(("preprocess", "images", "top-1"), rows, "lrr")
            say(f"Next: {command('adopt', file, '--preprocess', table['preprocess'][0])} with the same options")
            return
        classifier, written = adopting.keep(file, preprocess=scaling, **options)
        prepared = classifier.preprocessing
        (tall, wide), (height, width) = prepared.resize_to, prepared.image_size
        say(f"{classifier.name}: {len(classifier.labels):,} classes, {classifier.model.count_params():,} parameters")
        say(f"Images are brought to {tall}x{wide}, then {height}x{width} are cut from the centre")
        for note in classifier.notes:
            say(note)
        say(f"{written}\nNext: {command('predict', file)} IMAGE...")


def _scaling(text):
    """A name, or "MEAN,STD" as numbers."""
    if text is None or "," not in text:
        return text
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 6):
        raise UsageError(
            f"--preprocess {text!r} is not allowed: type a name, or MEAN,STD as 2 or 6 numbers, such as 0.5,0.5"
        )
    half = len(numbers) // 2
    return tuple(numbers[:half]), tuple(numbers[half:])


@contextlib.contextmanager
def _in_options():
    """Within this block errors that name parameters of the library name the options instead."""
    try:
        yield
    except UsageError as error:
        text = str(error).replace("(mean, std)", "MEAN,STD")
        text = text.replace("Give preprocess, ", "Type --preprocess with ")
        text = text.replace("Leave crop out", "Leave --crop out")
        raise UsageError(text) from None
