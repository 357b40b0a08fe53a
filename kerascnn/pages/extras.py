"""The parts of a report that need the network and the images, kept in the run folder next to the tables.

    map.csv, map.webp    a map of the test images by the similarity of their features, and small pictures of them
    looks.npz            what the answers depend on, drawn over the pictured mistakes and correct answers
    suspects.csv, .npz   images whose label the network finds least likely
    training.webp        training images as the network sees them, changed at random
    filters.png          filters of the first convolution
    layers.csv, network.svg   the table and the picture of the network

With these files, the page can be made again without the network and the images. Parts that cannot be made are left out,
and a sentence in extras.json says why.
"""

import io
import json
import warnings

import numpy as np
import pandas
from PIL import Image

from kerascnn import runs
from kerascnn.errors import DataError, UsageError
from kerascnn.plots import mosaic
from kerascnn.training import measures, pictures
from kerascnn.training.record import FOLDER

LOOK = "grad_cam"
MOST_MAPPED = 1500  # images of the map: t-SNE of so many takes seconds
FEWEST_MAPPED = 12
FEW = 500  # images whose map one thread makes faster
THUMBNAIL, ACROSS = 48, 30  # pixels of a small picture, and how many stand in a row
MOST_CARDS = 24  # mistakes, hits and suspects with a picture each
TRAINING_SHOWN = 24
MOST_FILTERS = 256
TILE = 28  # pixels of a filter on the page, at least
EXTRAS = f"{FOLDER}/extras.json"


def gather(run, classifier, evaluation, images, *, train=None, recipe=None, validation=None, look=LOOK):
    """Write the files listed above into a run folder, next to those of `kerascnn.training.record.keep`.

    Args:
        run: a Run.
        classifier: the Classifier that was evaluated.
        evaluation: its Evaluation.
        images: uint8 (N, H, W, C), those that were evaluated, an array or `ImageFiles`.
        train, recipe: the Split trained on and the Recipe, for pictures of what training saw; or None.
        validation: another Split that was not trained on, whose labels are also checked; or None.
        look: name of a method of `kerascnn.explain`.
    """
    notes = []
    predictions = evaluation.predictions
    for what, make in {
        "the map of the images": lambda: _map(run, classifier, predictions, images),
        f"{look} of the images": lambda: _looks(run, classifier, predictions, images, look),
        "the suspected labels": lambda: _suspects(run, classifier, evaluation, images, validation),
        "images as training saw them": lambda: _training(run, classifier, train, recipe),
        "the first filters": lambda: _filters(run, classifier),
        "the picture of the network": lambda: _network(run, classifier),
    }.items():
        try:
            make()
        except (DataError, UsageError) as error:
            notes.append(f"Left out is {what}: {error}")
    runs.write_json(run / EXTRAS, {"look": look, "notes": notes})


def _inputs(classifier, images, rows, at_once=64):
    """The network's inputs of `rows` of the images, a few at a time."""
    for start in range(0, len(rows), at_once):
        yield classifier.preprocessing(images[rows[start : start + at_once]])


# --- the map of the images ---


def _map(run, classifier, predictions, images):
    from kerascnn.experiments.invariance import usual_layers
    from kerascnn.explain import activations

    count = len(predictions)
    if count < FEWEST_MAPPED:
        raise UsageError(f"it takes {FEWEST_MAPPED} images or more, and these are {count}.")
    rows = np.unique(np.linspace(0, count - 1, min(MOST_MAPPED, count)).round().astype(int))
    layer = usual_layers(classifier.model)[-1]
    features = [activations(classifier.model, x, layer) for x in _inputs(classifier, images, rows)]
    features = np.concatenate([f.reshape(len(f), -1, f.shape[-1]).mean(1) for f in features])
    places = embedded(features)
    table = pandas.DataFrame({"image": rows, "x": places[:, 0], "y": places[:, 1]})
    runs.write_table(run / FOLDER / "map.csv", table.round(4))
    sheet = Image.new("RGB", (ACROSS * THUMBNAIL, -(-len(rows) // ACROSS) * THUMBNAIL), "white")
    for number, row in enumerate(rows):
        place = number % ACROSS * THUMBNAIL, number // ACROSS * THUMBNAIL
        sheet.paste(_as_picture(images[int(row)]).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX), place)
    _save(sheet, run / FOLDER / "map.webp")


def embedded(features, seed=0):
    """Places (N, 2), each axis from 0 to 1, of features (N, D): their 50 principal components by t-SNE (van der Maaten
    and Hinton 2008), both from scikit-learn; or by UMAP if `umap-learn` is installed."""
    from sklearn.decomposition import PCA

    features = np.asarray(features, "float64")
    features = features - features.mean(0)
    if not features.any():
        return np.full((len(features), 2), 0.5)
    features /= features.std()
    main = PCA(min(50, *features.shape), random_state=seed).fit_transform(features)
    places = _neighbours(main, seed)
    low, high = places.min(0), places.max(0)
    return (places - low) / np.where(high > low, high - low, 1)


def _neighbours(features, seed):
    start = features[:, :2] if features.shape[1] > 1 else np.pad(features, ((0, 0), (0, 1)))
    start = (start / (start.std(0)[0] or 1)).astype("float32")
    try:
        from umap import UMAP
    except ImportError:
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits

        nearby = min(30.0, (len(features) - 1) / 3)
        method = TSNE(perplexity=nearby, init=1e-4 * start, random_state=seed)
        with threadpool_limits(1 if len(features) < FEW else None):  # threads wait for each other longer than they work
            return method.fit_transform(features)
    nearby = min(15, len(features) - 1)
    return UMAP(n_neighbors=nearby, init=10 * start, random_state=seed, n_jobs=1).fit_transform(features)


# --- looks at some of the images ---


def shown(predictions, correct):
    """The rows of a table of predictions that a page shows first: the most confident mistakes, or the least certain
    correct answers."""
    part = predictions[predictions["correct"] == correct].sort_values("margin", kind="stable")
    return [int(row) for row in part.index[:MOST_CARDS]]


def _looks(run, classifier, predictions, images, look):
    from kerascnn.explain import EXPLANATIONS, maps
    from kerascnn.explain.caveats import EmptyMap
    from kerascnn.explain.sheets import blended, is_signed, one_value_per_pixel

    EXPLANATIONS.facts(look)
    rows, drawn = np.array(shown(predictions, False) + shown(predictions, True), int), {}
    for start in range(0, len(rows), 8):
        some = rows[start : start + 8]
        pixels = classifier.preprocessing.crop(images[some])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EmptyMap)  # an empty map is seen to be empty
            values = maps(look, classifier.model, classifier.preprocessing.scale(pixels))
        for row, image, value in zip(some, pixels, values, strict=True):
            flat = one_value_per_pixel(value)
            drawn[int(row)] = blended(image, flat, signed=is_signed(look, flat))
    pictures.keep(run, list(drawn), drawn, "looks")


# --- suspected labels ---


def _suspects(run, classifier, evaluation, images, validation):
    from kerascnn.training.evaluate import evaluate_split

    names = list(evaluation.per_class["class"])
    parts = [measures.suspects(evaluation.log_probabilities, evaluation.labels, names, evaluation.files)]
    sources = {"test": images}
    if validation is not None and len(validation):
        other = evaluate_split(classifier.model, validation, classifier.preprocessing, names)
        parts.append(measures.suspects(other.log_probabilities, other.labels, names, other.files, split="validation"))
        sources["validation"] = validation.images
    table = pandas.concat(parts, ignore_index=True).sort_values("confidence", kind="stable", ignore_index=True)
    runs.write_table(run / FOLDER / "suspects.csv", table)
    few = table.head(MOST_CARDS)
    drawn = {place: sources[row.split][int(row.image)] for place, row in enumerate(few.itertuples())}
    pictures.keep(run, list(drawn), drawn, "suspects")


# --- training, filters, network ---


def _training(run, classifier, train, recipe):
    if train is None or recipe is None:
        return
    from kerascnn.training.batches import Batches

    prepared = classifier.preprocessing
    batches = Batches(
        train,
        prepared,
        min(recipe.batch_size, len(train)),
        augmentations=recipe.augment,
        seed=recipe.seed,
        num_classes=len(classifier.labels),
    )
    inputs = batches[0][0][:TRAINING_SHOWN]
    if prepared.bgr:
        inputs = inputs[..., ::-1]
    pixels = np.clip(255 * (inputs * np.asarray(prepared.std) + np.asarray(prepared.mean)), 0, 255).round()
    side = pictures.LARGEST_SIDE
    sheet = Image.new("RGB", (8 * side, -(-len(pixels) // 8) * side), "white")
    for number, image in enumerate(pixels.astype("uint8")):
        sheet.paste(_enlarged(image, side), (number % 8 * side, number // 8 * side))
    _save(sheet, run / FOLDER / "training.webp")


def _filters(run, classifier):
    from kerascnn.callbacks.filters import filters_of, scaled

    filters = filters_of(classifier.model)[:MOST_FILTERS]
    if filters.shape[-1] not in (1, 3):
        raise UsageError(f"they have {filters.shape[-1]} input channels, which are not colours.")
    larger = max(1, -(-TILE // max(filters.shape[1:3])))
    tiles = scaled(filters).repeat(larger, 1).repeat(larger, 2)
    image = mosaic(tiles, min(16, len(tiles)), 1.0, 1)
    _save(_as_picture((255 * image).round().astype("uint8")), run / FOLDER / "filters.png")


def _network(run, classifier):
    from kerascnn.anatomy import drawing, layer_table

    table = layer_table(classifier.model)
    table = table[["layer", "type", "output_shape", "parameters", "macs", "rf_size"]]
    runs.write_table(run / FOLDER / "layers.csv", table)
    runs.write_text(run / FOLDER / "network.svg", drawing(classifier.model))


# --- pictures ---


def _as_picture(pixels):
    return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels).convert("RGB")


def _enlarged(pixels, side):
    """An image enlarged to fit a square of `side` pixels; small images are enlarged pixel by pixel."""
    picture = _as_picture(pixels)
    factor = side / max(picture.size)
    size = tuple(max(1, round(factor * length)) for length in picture.size)
    return picture.resize(size, Image.Resampling.NEAREST if factor > 1 else Image.Resampling.LANCZOS)


def _save(picture, path):
    file = io.BytesIO()
    picture.save(file, path.suffix[1:], **({"quality": 80, "method": 4} if path.suffix == ".webp" else {}))
    with runs.replacing(path) as temporary:
        temporary.write_bytes(file.getvalue())


def read(run):
    """{"look": name, "notes": [...]} that `gather` wrote into a run folder; None if it wrote nothing."""
    path = run / EXTRAS
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
