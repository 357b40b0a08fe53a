"""How the features of all layers develop during training (Zeiler and Fergus 2013, section 4 and figure 4).

The paper shows, for a few feature maps of each layer, the strongest patch and its deconvnet projection at eight epochs,
and says that lower layers converge within a few epochs and upper layers only after many. This is also measured here:
how far each layer's features still are from those at the end.
"""

import re

import numpy as np
import pandas
from matplotlib.figure import Figure

from kerascnn import runs
from kerascnn.callbacks.watching import spread
from kerascnn.dataset_scan.explained import patch_maps
from kerascnn.dataset_scan.scanned_layers import scanned_layers
from kerascnn.dataset_scan.scanning import scan
from kerascnn.dataset_scan.sheets import enlarged, natural
from kerascnn.errors import UsageError, counted, unknown
from kerascnn.experiments import register
from kerascnn.experiments.architecture import input_shape, with_epochs
from kerascnn.experiments.asked import layer_names
from kerascnn.experiments.kept import Kept, blocks
from kerascnn.experiments.kept_epochs import KeptEpochs, loaded, networks
from kerascnn.experiments.outcome import Outcome, mean_interval, told_interval
from kerascnn.explain.recorded import activations
from kerascnn.explain.sheets import map_colours
from kerascnn.explain.subjects import opaque_step
from kerascnn.network.plan import make_plan
from kerascnn.plots import BLUE, GREEN, ORANGE, PURPLE, RED
from kerascnn.progress import Progress
from kerascnn.recipes import Recipe
from kerascnn.training.build import network, without_weights
from kerascnn.training.prepare import anchored
from kerascnn.training.train import train
from kerascnn.using.features import check_feature

COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, "0.4")
EPOCHS = (1, 2, 5, 10, 20, 40, 60, 80)
GAP = 4  # pixels between cells


@register(source="Zeiler and Fergus 2013, figure 4")
def evolution(models, images, layers=None, *, channels=2, batch_size=64, keep=None, say=None):
    """The strongest patches of feature maps of all layers through training, and when each layer settles.

    Args:
        models: {epochs done: keras.Model, or a function without arguments that gives one}, three or more; include 0
            (the untrained network) if it is known.
        images: float (N, H, W, C) as the models take them, the images searched.
        layers: names of layers; None: what the next layer sees of every convolution.
        channels: how many channels of each layer are drawn, evenly spread over those above 0 at the end; or
            {name of a layer: numbers of channels}, of which layers that are not named have none drawn.
        batch_size: images computed at once; the result does not depend on it.
        keep: folder in which what was measured is saved, so that a stopped experiment continues; None: none.
        say: called with a line for each epoch.
    Returns:
        Outcome. Table: layer, epochs, distance (mean over the images of the Euclidean distance of the features to those
        at the end, relative to their length there), share (of the distance at the first of the epochs), low and high
        (its 95% interval), images. Tables: "settled" (layer, epochs: the first from which the share stays below a
        half) and "patches" (layer, channel, epochs, image, value). Arrays: "<layer>/distance" (epochs, N).
    Raises:
        UsageError: there are fewer than three epochs, or a layer or channel is unknown or gives class probabilities.
    """
    if len(models) < 3:
        raise UsageError(f"models holds {counted(len(models), 'epoch')}; three or more are needed to see a course.")
    order = sorted(models)
    last = loaded(models[order[-1]])
    chosen, plan = scanned_layers(last, layers), make_plan(last, opaque_step)
    for each in chosen:
        check_feature(plan, each.name, each.value)
    names, channels = [each.name for each in chosen], _numbers(channels, chosen)
    result = scan(last, images, names, 1, batch_size=batch_size)
    drawn = {name: _channels(result, name, channels) for name in names}
    patches = {name: {} for name in names}
    progress = Progress("network", len(order), say)
    measured = []
    for epochs in order:
        model = last if epochs == order[-1] else loaded(models[epochs])
        kept = Kept(keep, model, last, images, names, list(drawn.items()), batch_size, progress=progress)

        def of_epoch(model=model):
            here = result if model is last else scan(model, images, names, 1, batch_size=batch_size)
            values = _distances(model, last, images, chosen, batch_size)
            for name in names:
                values |= _packed(name, _patches(here, model, name, drawn[name]))
            return values

        def tell(values, epochs=epochs):
            told = ", ".join(f"{name} {values[f'{name}/distance'].mean():.2f}" for name in names)
            return f"epoch {epochs}: distances {told}"

        measured.append(kept.measure(f"epoch {epochs}", of_epoch, tell))
        for name in names:
            patches[name][epochs] = _unpacked(name, drawn[name], measured[-1])
    distance = {name: np.array([values[f"{name}/distance"] for values in measured]) for name in names}
    table = _table(order, distance)
    settled = {name: settles(order, table[table["layer"] == name]["share"].to_numpy()) for name in names}
    tables = {
        "settled": pandas.DataFrame({"layer": names, "epochs": list(settled.values())}),
        "patches": _patch_table(patches, drawn),
    }
    title = f"{last.name}: strongest patch and its deconvnet projection through training"
    arrays = {f"{name}/distance": values for name, values in distance.items()}
    said = _findings(order, settled, distance)
    return Outcome("evolution", table, said, lambda: _figure(patches, drawn, table, title), arrays, tables)


def settles(order, share):
    """The first of the epochs from which the share of the distance stays below a half."""
    above = np.flatnonzero(np.asarray(share) >= 0.5)
    return int(order[0] if not len(above) else order[min(above[-1] + 1, len(order) - 1)])


def _features(model, images, chosen, batch_size):
    """{name: float32 (N, features)} of the layers that are looked at."""
    outputs = {each.name: each.output for each in chosen}
    maps = activations(model, images, list(dict.fromkeys(outputs.values())), batch_size=batch_size)
    return {name: maps[output].reshape(len(images), -1) for name, output in outputs.items()}


def _distances(model, last, images, chosen, batch_size):
    """{"<layer>/distance": (N,)}: the distance of features to those at the end, relative to the mean length there.

    Only the features of a batch of images are in memory at a time.
    """
    apart, length = ({each.name: [] for each in chosen} for _ in range(2))
    for part in blocks(len(images), batch_size):
        final = _features(last, images[part], chosen, batch_size)
        now = final if model is last else _features(model, images[part], chosen, batch_size)
        for name, features in final.items():
            apart[name].append(np.linalg.norm(now[name] - features, axis=1))
            length[name].append(np.linalg.norm(features, axis=1))
    return {
        f"{name}/distance": np.concatenate(apart[name]) / max(float(np.concatenate(length[name]).mean()), 1e-12)
        for name in apart
    }


def _packed(name, patches):
    """{"<layer>/<channel>/<number>": array} of `_patches`, as they are saved."""
    return {
        f"{name}/{channel}/{number}": np.asarray(array)
        for channel, arrays in patches.items()
        for number, array in enumerate(arrays)
    }


def _unpacked(name, channels, values):
    """What `_packed` was made from."""
    return {channel: tuple(values[f"{name}/{channel}/{number}"] for number in range(5)) for channel in channels}


def _numbers(channels, chosen):
    """How many channels, as it is; or {name of a scanned layer: numbers of channels} with their layers' own names."""
    if not isinstance(channels, dict):
        return channels
    numbers = {}
    for name, wanted in channels.items():
        each = next((each for key in ("name", "layer") for each in chosen if getattr(each, key) == name), None)
        if each is None:
            raise unknown("layer of channels", name, [each.name for each in chosen])
        for number in wanted:
            if not 0 <= number < each.channels:
                raise UsageError(
                    f"channels={number} is not allowed: {each.name} has {counted(each.channels, 'channel')}, 0 to "
                    f"{each.channels - 1}."
                )
        numbers[each.name] = list(wanted)
    return numbers


def _channels(result, name, channels):
    if isinstance(channels, dict):
        return list(channels.get(name, ()))
    top = result.top(name)
    alive = top[top["value"] > 0]["channel"].to_numpy()
    places = np.linspace(0, len(alive) - 1, min(channels, len(alive))).round().astype(int)
    return [int(channel) for channel in alive[np.unique(places)]]


def _patches(result, model, name, channels):
    """{channel: (patch, what of it lies inside the image, projection, image, value)}."""
    maps = patch_maps(result, model, name, channels, methods=("deconvnet",))["deconvnet"]
    top = result.top(name).set_index("channel")
    return {
        channel: (
            result.patches(name, channel)[0],
            result.inside(name, channel)[0],
            maps[channel][0],
            int(top.loc[channel, "image"]),
            float(top.loc[channel, "value"]),
        )
        for channel in channels
    }


def _table(order, distance):
    rows = []
    for name, values in distance.items():
        whole = max(float(values[0].mean()), 1e-12)
        for epochs, of_images in zip(order, values, strict=True):
            share = mean_interval(of_images / whole)
            rows.append((name, epochs, of_images.mean(), *share, len(of_images)))
    return pandas.DataFrame(rows, columns=["layer", "epochs", "distance", "share", "low", "high", "images"])


def _patch_table(patches, drawn):
    rows = [
        (name, channel, epochs, *(value.item() for value in of_epochs[channel][3:]))
        for name, by_epochs in patches.items()
        for epochs, of_epochs in by_epochs.items()
        for channel in drawn[name]
    ]
    return pandas.DataFrame(rows, columns=["layer", "channel", "epochs", "image", "value"])


def _findings(order, settled, distance):
    start = "those of the untrained network" if order[0] == 0 else f"at epoch {order[0]}"
    said = [
        f"{name} settles by epoch {epochs}: from there on its features are less than half as far from those at the end "
        f"as {start}."
        if epochs < order[-1]
        else f"{name} does not settle before the last epoch, {epochs}: until then its features are at least half as "
        f"far from those at the end as {start}."
        for name, epochs in settled.items()
    ]
    names = list(settled)
    if len(names) > 1:
        # The area under the share of the distance, of each image: the smaller, the earlier a layer settles
        first, final = (distance[n] / max(float(distance[n][0].mean()), 1e-12) for n in (names[0], names[-1]))
        mean, low, high = mean_interval((final - first).mean(0))
        verdict = "later than" if low > 0 else "earlier than" if high < 0 else "not measurably later or earlier than"
        told = "as in the paper" if low > 0 else "unlike in the paper" if high < 0 else "which settles nothing"
        said.append(
            f"{names[-1]} settles {verdict} {names[0]}, {told}: mean difference of the remaining distance {mean:+.3f} "
            f"{told_interval(low, high, distance[names[0]].shape[1], form='{:+.3f}')}."
        )
    return tuple(said)


def _figure(patches, drawn, table, title):
    """A block for each layer, a row for each channel, patch and projection for each epoch; below, the distances."""
    names = [name for name in patches if drawn[name]]
    heights = [0.62 * len(drawn[name]) + 0.1 for name in names]
    columns = len(next(iter(patches.values())))
    figure = Figure(figsize=(max(6.5, 1.15 * columns + 1), sum(heights) + 3.4), layout="constrained")
    axes = figure.subplots(len(names) + 1, 1, squeeze=False, height_ratios=[*heights, 2.6])[:, 0]
    for number, (ax, name) in enumerate(zip(axes, names, strict=False)):
        rows = [[_cell(*of[channel][:3]) for of in patches[name].values()] for channel in drawn[name]]
        sheet = np.concatenate([np.concatenate(row, 1) for row in rows])
        ax.imshow(sheet, interpolation="nearest")
        height, width = rows[0][0].shape[:2]
        ax.set_yticks([(row + 0.5) * height for row in range(len(rows))], drawn[name], fontsize=7)
        places = [(column + 0.5) * width for column in range(columns)]
        ax.set_xticks(places, [f"epoch {n}" for n in patches[name]] if number == 0 else [""] * columns, fontsize=8)
        ax.xaxis.tick_top()
        ax.tick_params(length=0)
        ax.set_ylabel(name.replace(" (", "\n("), fontsize=8)
        ax.spines[:].set_visible(False)
    curve = axes[-1]
    for number, name in enumerate(patches):
        rows = table[table["layer"] == name]
        colour = COLOURS[number % len(COLOURS)]
        places = np.arange(len(rows))
        style = ("-", "--", ":")[number // len(COLOURS) % 3]
        curve.fill_between(places, rows["low"], rows["high"], color=colour, alpha=0.15, linewidth=0)
        curve.plot(places, rows["share"], style, color=colour, marker="o", markersize=3, label=name)
    curve.axhline(0.5, color="0.5", linestyle="--", linewidth=1)
    curve.set_xticks(np.arange(columns), sorted(set(table["epochs"])))
    curve.set(xlabel="epochs done", ylabel="remaining distance\nto the last features", ylim=(0, None))
    curve.grid(alpha=0.25)
    curve.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    count = table["images"].iloc[0]
    figure.suptitle(
        f"{title}\n{count} images searched; stripes: beyond the image's border; 95% bands", fontsize="medium"
    )
    return figure


def _cell(patch, inside, projection):
    """A patch and its projection side by side, with a white border."""
    cells = [enlarged(natural(patch, inside), inside), enlarged(map_colours(projection), inside)]
    framed = [np.pad(cell[..., :3], ((1, 1), (1, 1), (0, 0)), constant_values=0.6) for cell in cells]
    return np.pad(np.concatenate(framed, 1), ((GAP, GAP), (GAP, GAP), (0, 0)), constant_values=1.0)


def command(
    asked,
    *,
    epochs: str | None = None,
    layers: str | None = None,
    channels: str = "2",
    images: int = 1000,
):
    """Train a run's network again, and see how the features of all layers develop and when each layer settles.

    Parameters
    ----------
    epochs
        epochs after which to look, separated by commas, in addition to before the training [default:
        1,2,5,10,20,40,60,80 and the last]
    layers
        names of layers, separated by commas [default: every convolution]
    channels
        how many channels of each layer are drawn; or which, such as "conv1:3,9;conv4:72"
    images
        largest number of training images to search
    """
    run = runs.find(str(asked.runs[0]))
    recipe = Recipe.from_dict(run.read("recipe"))
    if asked.data is not None:
        raise UsageError("evolution looks at the training images of the run; leave the data out.")
    period = recipe.eval_every or -(-len(asked.loaded.train) // recipe.batch_size)
    last = -(-recipe.steps // period) if recipe.steps else recipe.epochs
    wanted, drawn = _epochs(epochs, last), typed_channels(channels)
    recipe = with_epochs(recipe.replace(stop_patience=0), max(wanted), len(asked.loaded.train))
    asked.out = asked.out or run.folder / "experiments"
    folder = asked.out / "evolution"
    options = {"callbacks": [KeptEpochs(folder / "epochs", wanted)], "test": False, "say": asked.say}
    if len({0, *wanted}) < 3:
        raise UsageError(
            f"epochs={','.join(map(str, wanted))} is not enough: a course has two epochs or more after the untrained "
            "network. Name a run of more epochs, or give epochs=1,2."
        )
    _checked_layers(recipe, asked, layer_names(layers), drawn)
    length = {"epochs": recipe.epochs, "steps": recipe.steps}
    if not (folder / "recipe.json").exists():
        train(recipe, out=folder, **options)
    elif Recipe.from_dict(runs.as_run(folder).read("recipe")).replace(**length) != anchored(recipe):
        raise UsageError(
            f"{folder} holds a training by another recipe. Give another folder for this experiment: out=FOLDER"
        )
    elif runs.as_run(folder).read("run").get("status") != "finished":
        train(resume=folder, **options)
    models = networks(folder / "epochs")
    missing = set(wanted) - set(models)
    if missing:
        raise UsageError(
            f"{folder} was trained without looking at epoch {min(missing)}; there are {', '.join(map(str, models))}. "
            "Give another folder for this experiment: out=FOLDER"
        )
    split = spread(asked.loaded.train, images)
    given = {n: load for n, load in models.items() if n in (0, *wanted)}
    options = {"channels": drawn, "keep": asked.kept("evolution"), "say": asked.say}
    return evolution(given, asked.prepared(split)[:], layer_names(layers), **options)


def _checked_layers(recipe, asked, layers, channels):
    """Raise the UsageError of `evolution` for unknown layers and channels before a network is trained for them."""
    model = network(without_weights(recipe), input_shape(recipe, asked.loaded), len(asked.loaded.class_names))
    chosen, plan = scanned_layers(model, layers), make_plan(model, opaque_step)
    for each in chosen:
        check_feature(plan, each.name, each.value)
    _numbers(channels, chosen)


def typed_channels(text):
    """ "2" as 2, and "conv1:3,9;conv4:72" as {"conv1": [3, 9], "conv4": [72]}."""
    if re.fullmatch("[0-9]+", text):
        return int(text)
    parts = [part.rpartition(":") for part in text.split(";")]
    if not all(re.fullmatch(r"\s*[0-9]+(\s*,\s*[0-9]+)*\s*", numbers) and name for name, _, numbers in parts):
        raise UsageError(f"channels={text!r} is not allowed: give how many, or which, such as 'conv1:3,9;conv4:72'.")
    channels = {}
    for name, _, numbers in parts:
        channels.setdefault(name.strip(), []).extend(int(number) for number in numbers.split(","))
    return channels


def _epochs(text, last):
    """The epochs in text like "1,2,5", or the usual ones and the recipe's last."""
    if text is None:
        return [*(n for n in EPOCHS if n < last), last]
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words) or len(set(words)) < 2:
        raise UsageError(f"epochs={text} is not allowed: give two or more different epochs, such as 1,2,5,10.")
    return sorted({int(word) for word in words})
