"""The model card of an exported network, in Markdown (after Mitchell et al. 2019, "Model cards for model reporting"):
data, recipe, metrics with their intervals, how the file agrees with the network, limits, hash."""

import datetime
import hashlib
import re
from pathlib import Path

from kerascnn import __version__
from kerascnn.recipes import Recipe
from kerascnn.using.formats import FORMATS

# The fields of a recipe that it always tells
ALWAYS = ("model", "data", "optimizer", "learning_rate", "batch_size", "epochs", "seed")
MOST_CLASSES = 50  # that are named
FEW = 1000  # test images, below which the card says that the accuracy is known roughly


def size_and_hash(path):
    """(bytes, sha256) of a file; of a folder, of its files: each one's name, a zero byte, its length, its content."""
    path = Path(path)
    if path.is_file():
        content = path.read_bytes()
        return len(content), hashlib.sha256(content).hexdigest()
    digest, total = hashlib.sha256(), 0
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        content = file.read_bytes()
        total += len(content)
        digest.update(file.relative_to(path).as_posix().encode() + b"\0" + str(len(content)).encode() + b"\0" + content)
    return total, digest.hexdigest()


def text(classifier, exported):
    """The card of what `export` made of a Classifier."""
    parts = [_head(classifier, exported), _use(classifier, exported), _data(classifier), _recipe(classifier)]
    parts += [_metrics(classifier, exported), _limits(classifier, exported)]
    return "\n\n".join(parts) + "\n"


def _plain(value):
    """Text in one line that Markdown takes as it is."""
    line = " ".join(str(value).split())
    return re.sub(r"([\\`*_|<\[#])", r"\\\1", line)


def _table(header, rows):
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(_plain(cell) if cell != "---" else cell for cell in line) + " |" for line in lines
    )


def _head(classifier, exported):
    rows = [("format", f"{exported.format}: {FORMATS.facts(exported.format)['doc']}"), ("file", exported.path.name)]
    rows += [("size", f"{exported.num_bytes:,} bytes"), ("SHA-256", exported.sha256)]
    rows += [("parameters", f"{classifier.model.count_params():,}")]
    rows += [("written", f"{datetime.date.today()} by kerascnn {__version__}")]
    return f"# Model card: {_plain(classifier.name)}\n\n{_table(('what', 'value'), rows)}"


def _use(classifier, exported):
    prepared, labels = classifier.preprocessing, classifier.labels
    (height, width), (h, w) = prepared.resize_to, prepared.image_size
    colours = "grey" if prepared.channels == 1 else "RGB"
    takes = FORMATS.facts(exported.format)["takes"]
    if not takes:
        inside = "Cropping to the centre and scaling are" if (height, width) != (h, w) else "Scaling is"
        size = (
            f"Input: uint8 {colours} pixels, {height}x{width}. The caller cuts the largest centred part of that shape "
            "from an image and resizes it, bilinear with antialiasing (Pillow's BILINEAR); "
            f"`kerascnn predict {exported.path.name} IMAGE` does that. {inside} in the file."
        )
    else:
        size = f"Input: {takes}; all preprocessing is inside. The network sees {colours} images of {h}x{w} pixels."
    names = ", ".join(map(_plain, labels[:MOST_CLASSES])) + (", ..." if len(labels) > MOST_CLASSES else "")
    return f"## Use\n\n{size}\n\nOutput: probabilities of {len(labels):,} classes, in this order: {names}."


def _data(classifier):
    if classifier.run is None:
        return "## Data\n\nNot known: the network came as a model file."
    data = classifier.run.read("data")
    lines = [f"Trained on {_plain(data.get('name', ''))} ({_plain(data.get('source', ''))})."]
    rows = [(name, f"{split['images']:,}") for name, split in data.get("splits", {}).items()]
    if rows:
        lines.append(_table(("split", "images"), rows))
    lines += [f"- {_plain(note)}" for note in data.get("notes", ())]
    return "## Data\n\n" + "\n\n".join(lines)


def _recipe(classifier):
    if classifier.run is None:
        return "## Recipe\n\nNot known."
    asked, usual = classifier.run.read("recipe"), Recipe().to_dict()
    told = [(field, value) for field, value in asked.items() if field in ALWAYS or value != usual.get(field)]
    return f"## Recipe\n\n{_table(('setting', 'value'), told)}\n\nAll other settings are the package's usual ones."


def _metrics(classifier, exported):
    lines = ["## Metrics"]
    result = (classifier.run.read("run").get("result") or {}) if classifier.run else {}
    if "accuracy" in result:
        rows = [(word, _with_interval(result, field)) for field, word in (("accuracy", "top-1"), ("top5", "top-5"))]
        rows += [("balanced accuracy", _percent(result.get("balanced_accuracy")))]
        rows += [("macro F1", _number(result.get("macro_f1"))), ("loss, nats", _number(result.get("loss")))]
        always = _percent(result.get("baseline_accuracy"))
        rows += [(f"always answering {result.get('baseline_class')}", always)]
        lines += [f"Of the network in Keras, on {result['images']:,} test images that it was not trained on:"]
        lines += [_table(("measure", "value"), [row for row in rows if row[1]])]
    else:
        lines += ["No test of the network is known."]
    lines += [f"This file, loaded again and compared with the network in Keras: {exported.agreement}."]
    return "\n\n".join(lines)


def _with_interval(result, field):
    low_high = result.get(f"{field}_interval")
    if not low_high:
        return _percent(result.get(field))
    return f"{_percent(result[field])} (95% interval {100 * low_high[0]:.2f} to {100 * low_high[1]:.2f})"


def _percent(value):
    return "" if value is None else f"{100 * value:.2f}%"


def _number(value):
    return "" if value is None else f"{value:.4f}"


def _limits(classifier, exported):
    """What a reader should not expect of it."""
    lines = ["An image of anything else is given one of these classes, too: there is no answer for none of them."]
    lines += ["A probability is not a promise; it was not calibrated after training."]
    result = (classifier.run.read("run").get("result") or {}) if classifier.run else {}
    if "accuracy" in result:
        lines += ["The figures hold for images like the test images; on others it may be right less often."]
        if result["images"] < FEW:
            lines += [f"{result['images']:,} test images tell the accuracy roughly: see its interval."]
        if result.get("test_watched"):
            lines += ["The test images were watched during training, so the figures may flatter it."]
    if not FORMATS.facts(exported.format)["exact"]:
        lines += ["It computes in 8 bits, so it answers a little differently from the network in Keras."]
    lines += [_plain(note) for note in classifier.notes]
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)
