"""Computed rows that are experiments on the network of a training row: pictures and tables in the row's folder, numbers
for the study. In a quick run each looks at a few images."""

import numpy as np
import pandas

from kerascnn import plots
from kerascnn.experiments.asked import Asked, some
from kerascnn.studies.frame.study import NotRun

CHANGES = ("translation", "scale", "rotation")
COUNTS = (15, 30, 60)  # training images of each class
DEPTHS = range(1, 7)  # layers of cifar_net that are looked at, from the first
CHANNELS = 6  # of each layer in a figure
FEW = 20  # images of a quick run
EPOCHS = (1, 2, 3, 5, 7, 9)  # after which a network that is trained again is looked at


def asked(place, row, data=None):
    """The network of a row's first run with its data, or with others, as the experiments take them."""
    given = Asked([place.run(row).folder], data, place.folder, place.say)
    given.classifier.model  # noqa: B018 (a run that cannot be read is reported here)
    return given


def features(place, row="network"):
    """Numbers "specific N": for each channel of layer N the share of its nine strongest images that are of their most
    frequent class. Figures layer-N.png with patches and deconvnet projections."""
    from kerascnn.dataset_scan import explained, scan, sheets
    from kerascnn.experiments.probes import every_layer

    of = asked(place, row)
    prepared, names = of.classifier.preprocessing, every_layer(of.model)
    images = of.some(FEW if place.quick else 10_000, seed=0)
    known = {"class_names": of.loaded.class_names, "preprocessing": prepared}
    result = scan(of.model, images, names, 9, **known)
    numbers, rows = {}, []
    for depth, layer in enumerate(result.layers, start=1):
        top = result.top(layer)
        alike = top.groupby("channel")["label"].agg(lambda labels: labels.value_counts().iloc[0] / len(labels))
        numbers[f"specific {depth}"] = alike.round(4).tolist()
        rows.append({"layer": layer, "channels": len(alike), "of one class": f"{alike.mean():.0%}"})
        channels = sheets.default_channels(result, layer, 1 if place.quick else CHANNELS)
        maps = explained.patch_maps(result, of.model, layer, channels, methods=("deconvnet",), preprocessing=prepared)
        sheet = sheets.patch_sheet(result, layer, channels, maps=maps, ranks=slice(0, 9))
        plots.save(sheet, top[top["channel"].isin(channels)], place.folder / f"layer-{depth}.png")
        place.say(f"{layer}: {alike.mean():.0%} of a channel's nine strongest images are of one class")
    pandas.DataFrame(rows).to_csv(place.folder / "layers.csv", index=False)
    return numbers


def evolution(place, row="network"):
    """Numbers "settled N": the epoch from which layer N stays nearer to its end than half of the way. Figure
    evolution.png."""
    from kerascnn.experiments.evolution import command

    of = asked(place, row)
    epochs, images = ((1, 2), FEW) if place.quick else (EPOCHS, 500)
    most = max(2, round(max(epochs) * place.length))
    shown = ",".join(str(epoch) for epoch in epochs if epoch <= most)
    outcome = command(of, epochs=shown, channels=1 if place.quick else 2, images=images)
    outcome.save(place.folder)
    settled = outcome.tables["settled"]
    settled.to_csv(place.folder / "settled.csv", index=False)
    return {f"settled {depth}": int(epoch) for depth, epoch in enumerate(settled["epochs"], start=1)}


def invariance(place, row="network"):
    """For each change of the images, a number an image: "CHANGE first" and "CHANGE top", the mean relative distance of
    the features of the first convolution and of the last hidden layer; "CHANGE least first" and "... top", the same for
    the smallest change; "CHANGE straight", how much of the distance at the top a straight line explains; "CHANGE
    probability" and "CHANGE unchanged", of the class, over all changes and without one. Figures
    invariance-CHANGE.png."""
    from kerascnn.experiments.invariance import CHANGES as OF
    from kerascnn.experiments.invariance import invariance as measured
    from kerascnn.experiments.invariance import linearity

    of = asked(place, row)
    x, labels = of.test(FEW if place.quick else 200, seed=0)
    numbers = {}
    for change in CHANGES:
        outcome = measured(of.model, x, labels, change=change)
        outcome.save(place.folder)
        relative, amounts = outcome.arrays["relative"], outcome.arrays["amounts"]
        none = OF[change][1]
        moved = np.abs(np.log(amounts) if change == "scale" else amounts - none)
        least = int(np.where(moved > 1e-6, moved, np.inf).argmin())
        for name, layer in (("first", 0), ("top", -1)):
            numbers[f"{change} {name}"] = relative[layer].mean(0)
            numbers[f"{change} least {name}"] = relative[layer, least]
        numbers[f"{change} probability"] = outcome.arrays["probability"].mean(0)
        numbers[f"{change} unchanged"] = outcome.arrays["probability"][np.abs(amounts - none).argmin()]
        if change != "rotation":
            straight = linearity(relative[-1], amounts, change)
            numbers[f"{change} straight"] = straight[np.isfinite(straight)]
        for sentence in outcome.findings:
            place.say(sentence)
    return {name: np.round(values, 5).tolist() for name, values in numbers.items()}


def occlusion(place, row="network"):
    """Numbers "falls": for each image the rank correlation of the strongest map's activity with the hidden share of its
    projection; "changes": for each image whether its answer depends on where the square is (1) or not. Figure
    occlusion-trio.png."""
    from kerascnn.experiments.occlusion_trio import command, correlation

    outcome = command(asked(place, row), images=3 if place.quick else 30, others=FEW if place.quick else 1000)
    outcome.save(place.folder)
    falls = [correlation(*pair) for pair in zip(outcome.arrays["covered"], outcome.arrays["activity"], strict=True)]
    changes = [float(len(np.unique(label)) > 1) for label in outcome.arrays["label"]]
    return {"falls": [round(float(value), 5) for value in falls if np.isfinite(value)], "changes": changes}


def correspondence(place, parts, side, row="network"):
    """Numbers "PART deep" and "PART top": the distance at the last convolution and at the last hidden layer of the
    signs of differences between images in which the part is hidden; with " below" how far that is below random places,
    and with " error" the standard error of this. Figure correspondence.png.

    Args:
        parts: {stem of a test image's file: {part: (x, y)}}, pixels.
        side: of the squares that are hidden, pixels.
    """
    from kerascnn.experiments.correspondence import RANDOM
    from kerascnn.experiments.correspondence import correspondence as measured
    from kerascnn.experiments.invariance import usual_layers

    of = asked(place, row)
    split = of.split
    stems = {file.rpartition("/")[2].rpartition(".")[0]: number for number, file in enumerate(split.files)}
    size = of.classifier.preprocessing.image_size
    if place.quick:
        chosen, parts = np.arange(len(parts)), {name: {"middle": (size[1] // 2, size[0] // 2)} for name in parts}
    elif set(parts) <= set(stems):
        chosen = np.array([stems[name] for name in parts])
    else:
        raise NotRun("the parts are marked in test images of CIFAR-10 that these data do not have")
    side = min(side, min(size) // 2)
    boxes = {}
    for part in next(iter(parts.values())):
        places = np.array([of_image[part][::-1] for of_image in parts.values()])
        corners = np.clip(places - side // 2, 0, np.array(size) - side)
        boxes[part] = np.hstack([corners, corners + side])
    layers = usual_layers(of.model, first=False)
    outcome = measured(of.model, of.prepared(split.take(np.sort(chosen)))[:], _in_order(boxes, chosen), layers)
    outcome.save(place.folder)
    numbers = {}
    for line in outcome.table.itertuples():
        name = f"{line.part} {dict(zip(layers, ('deep', 'top'), strict=False))[line.layer]}"
        numbers |= {name: line.distance, f"{name} below": line.below_random, f"{name} error": line.below_error}
    numbers["images"] = len(chosen)
    for sentence in outcome.findings:
        place.say(sentence)
    return {name.replace(RANDOM, "random"): float(value) for name, value in numbers.items()}


def _in_order(boxes, chosen):
    """The boxes of images in the order of their numbers."""
    order = np.argsort(chosen)
    return {part: of_part[order] for part, of_part in boxes.items()}


def probes(place, data=None, row="network"):
    """Numbers "svm N" and "softmax N": for each test image whether a linear classifier on layer N is right (1) or not.
    Figure probes.png.

    Args:
        data: images other than the row's; None: the row's own.
    """
    from kerascnn.experiments.probes import every_layer
    from kerascnn.experiments.probes import probes as measured

    of = asked(place, row, data)
    train, test = (some(split, 60 if place.quick else 1000, seed=0) for split in of.both(0))
    names = every_layer(of.model)
    given = of.prepared(train), train.labels, of.prepared(test), test.labels
    less = {"places": 1, "strengths": (1e-2,), "folds": 2, "classifiers": ("svm",)} if place.quick else {}
    outcome = measured(of.model, *given, names, **less, say=place.say)
    outcome.save(place.folder)
    table = outcome.table[["layer", "features", "classifier", "accuracy", "low", "high", "images"]]
    table.round(4).to_csv(place.folder / "accuracies.csv", index=False)
    right = {name: outcome.arrays[name].astype(int).tolist() for name in outcome.arrays}
    kinds = dict.fromkeys(table["classifier"])
    return {f"{kind} {depth}": right[f"{name}/{kind}"] for kind in kinds for depth, name in enumerate(names, start=1)}


def generalisation(place, row="network"):
    """Numbers "frozen N" and "scratch N": the accuracy on the study's other data with N training images of each class,
    a number a draw; "crossing": images at which training from scratch catches up, where it does. Figure
    generalisation.png."""
    from kerascnn.experiments.generalisation import command

    of = asked(place, row, place.other)
    counts, less = (COUNTS, {"steps": 300, "repeats": 3, "images": 1000})
    if place.quick:
        counts, less = (3, 6), {"steps": 2, "repeats": 1, "images": FEW}
    outcome = command(of, counts=",".join(map(str, counts)), **less)
    outcome.save(place.folder)
    frozen, scratch = np.round(outcome.arrays["accuracy"], 5)
    numbers = {f"frozen {count}": frozen[number].tolist() for number, count in enumerate(counts)}
    numbers |= {f"scratch {count}": scratch[number].tolist() for number, count in enumerate(counts)}
    crossing = float(outcome.arrays["crossing"])
    return numbers | ({"crossing": crossing} if np.isfinite(crossing) else {})
