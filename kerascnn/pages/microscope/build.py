"""`kerascnn.microscope`: build the site, stage by stage; a build that was killed continues where it stopped."""

import hashlib
import json

import numpy as np

from kerascnn import __version__
from kerascnn.dataset_scan.scanning import checksum
from kerascnn.dataset_scan.sources import Arrays
from kerascnn.errors import UsageError, counted, whole
from kerascnn.pages.microscope import features, pictures
from kerascnn.pages.microscope import looks as looks_of
from kerascnn.pages.microscope.book import LayerFacts
from kerascnn.pages.microscope.collect import collect
from kerascnn.pages.microscope.layers import all_layers, matching
from kerascnn.pages.microscope.maps import AT_ONCE, METHODS, Walker
from kerascnn.pages.microscope.pages import Drawn, Pages
from kerascnn.pages.microscope.recorded import recorded
from kerascnn.pages.microscope.site import DATA, FORMAT, MANIFEST, STATE, Site
from kerascnn.pages.microscope.subject import opened
from kerascnn.progress import Bell

OF_A_CLASS = 12  # images of each class that have a page, besides those in patches


def microscope(
    model,
    data=None,
    *,
    layers="all",
    images=None,
    out="microscope",
    labels=None,
    split=None,
    class_names=None,
    preprocessing=None,
    top=9,
    maps=3,
    looks=10,
    feature_images=False,
    watch=None,
    batch_size=32,
    say=None,
):
    """Build a static site with a page for every unit of a network: what excites it, if it is dead, and its connections.

    The pages open from the disk and load nothing from elsewhere. After a kill, the same call continues where it
    stopped. A call into an existing site rewrites only what has changed: more images, a new labels.csv, another layer.
    Addresses such as units/conv4/0053.html never change.

    Args:
        model: keras.Model with one image input, or what the commands take: a run, an adopted file, "applications:NAME".
        data: images float (N, H, W, C) as the model takes them, a Split or an ImageData; if the model is what the
            commands take, also a data set's name or a folder; None: the data that a run was trained on.
        layers: "all" convolutions and dense layers, or names, patterns and ranges, such as "conv*,conv2..conv4,fc1".
        images: how many images of the data to use, evenly spread; None: all.
        out: folder of the site, new, empty or with this network's site.
        labels: int (N,), the classes of the images in an array.
        split: which split of an ImageData; None: test, or a split that exists.
        class_names: names of the labels; an ImageData has its own.
        preprocessing: function applied to images before the model, like a run's `Preprocessing`.
        top: patches shown for each unit.
        maps: for how many of these patches guided backpropagation and deconvnet are drawn; 0: none.
        looks: for how many images every explanation method is drawn, with its scores, and the maps of every layer: the
            first of each class in turn; 0: none.
        feature_images: True makes an image for each unit that excites it, by optimisation, which takes long; those of
            earlier builds stay.
        watch: folder of what callbacks of this training kept (`kerascnn.callbacks`); None: the run's watch/.
        batch_size: images computed at once.
        say: called with sentences about the progress.
    Returns:
        pathlib.Path of index.html.
    Raises:
        UsageError: there is no convolution, a pattern matches nothing, there are too few images, or the folder holds
            something else.
    """
    say = say or (lambda line: None)
    subject = opened(
        model,
        data,
        labels=labels,
        split=split,
        class_names=class_names,
        preprocessing=preprocessing,
        images=images,
        watch=watch,
    )
    _check(subject, top, maps, looks)
    everything, chosen = all_layers(subject.model), matching(subject.model, layers)
    site = Site(out)
    before = site.open({"model": subject.model.name, "weights": checksum(subject.model.weights)})
    _begin(site, subject)
    addresses = {*before.get("layers", ()), *(each.address for each in chosen)}
    chosen = [each for each in everything if each.address in addresses]
    site.put_json(MANIFEST, described(subject, chosen))
    unit_labels, doubts = site.labels(everything)
    for doubt in doubts:
        say(doubt)
    collected = collect(subject, chosen, site, batch_size=batch_size, say=say)
    facts = [LayerFacts(each, collected, len(subject.class_names), top) for each in chosen]
    looked = looks_of.chosen(subject, looks)
    shown = _pictured(site, subject, facts, looked)
    drawn = Drawn(
        _maps(site, subject, facts, maps, say),
        features.optimised(site, subject, facts, feature_images, say),
        looks_of.activated(site, subject, facts, looked, say),
        looks_of.explained(site, subject, looked, say),
        recorded(subject.watch, chosen),
    )
    say("pages")
    Pages(site, subject, facts, collected, unit_labels, shown, everything, drawn).write()
    say(f"{counted(site.written, 'file')} changed")
    return site.folder / "index.html"


def _check(subject, top, maps, looks):
    for name, value, least in (("top", top, 1), ("maps", maps, 0), ("looks", looks, 0)):
        whole(name, value, least)
    if top > len(subject):
        raise UsageError(
            f"top={top} is larger than the data: there are {counted(len(subject), 'image')}. "
            f"Type top={len(subject)} or less, or give more images."
        )
    if maps > top:
        raise UsageError(f"maps={maps} is larger than top={top}: maps are drawn of the patches shown.")


def _begin(site, subject):
    """Remove what an earlier build with other images left behind."""
    told = told_apart(subject)
    if site.read_state(DATA, None) != told:
        for path in site.state.glob("*") if site.state.is_dir() else ():
            path.unlink()
        for path in (*(site.folder / "images").glob("*"), *site.folder.glob("units/*/*-feature.webp")):
            path.unlink()
        site.put_json(f"{STATE}/{DATA}", told)


def told_apart(subject):
    """What state/data.json says of the images, so that other ones are told apart."""
    source = Arrays(subject.images, subject.labels)
    key = hashlib.sha256()
    key.update(json.dumps([len(subject), subject.class_names, subject.files]).encode("utf-8", "surrogateescape"))
    key.update(source.fingerprint(subject.preprocessing).encode())
    return {"data": key.hexdigest()}


def described(subject, chosen):
    """The manifest of a site with some layers."""
    return {
        "format": FORMAT,
        "kerascnn": __version__,
        "model": subject.model.name,
        "weights": checksum(subject.model.weights),
        "layers": [each.address for each in chosen],
        "data": subject.data_name,
        "split": subject.split,
        "images": len(subject),
    }


def _pictured(site, subject, facts, looked):
    """Write the whole images that pages show, those `looked` at among them; returns their numbers, sorted."""
    shown = set(looked)
    for layer in facts:
        for unit in range(layer.units):
            shown.update(patch.image for patch in (*layer.top_patches(unit), *layer.lower_patches(unit)))
    for number in range(len(subject.class_names)):
        shown.update(np.flatnonzero(subject.labels == number)[:OF_A_CLASS].tolist())
    shown = sorted(shown)
    there = {path.name for path in (site.folder / "images").glob("*.webp")}
    missing = [number for number in shown if image_name(number) not in there]
    for number, picture in _pictures(subject, missing):
        site.put(f"images/{image_name(number)}", pictures.whole(picture))
    return shown


def _pictures(subject, numbers):
    """(number, picture uint8 (H, W, 3)) of images, of which a few are read at a time."""
    for first in range(0, len(numbers), 64):
        some = numbers[first : first + 64]
        for number, pixels in zip(some, subject.pixels(some), strict=True):
            yield number, pictures.picture(pixels)


def image_name(number):
    """The name of an image's file and page, without what follows the number."""
    return f"{number:06d}.webp"


def _maps(site, subject, facts, count, say):
    """Write the sheets of maps of all units and the sheets of layers; returns {address: why there are none, or ""}."""
    bell, told = Bell(), {}
    for layer in facts:
        address = layer.each.address
        _layer_sheet(site, subject, layer)
        try:
            walker = Walker(subject, layer.each, layer.geometry) if count else None
            told[address] = "" if count else "None were asked for."
        except UsageError as error:
            walker, told[address] = None, str(error)
        if walker is not None:
            _layer_maps(site, layer, walker, count, lambda line: say(line) if bell.rings() else None)
    return told


def _layer_sheet(site, subject, layer):
    leaders = layer.leaders
    key = hashlib.sha256(leaders.image[:, :4].tobytes() + leaders.place[:, :4].tobytes()).hexdigest()
    name, address = f"layers/{layer.each.address}.webp", layer.each.address
    state = site.read_state("sheets.json", {})
    if state.get(address) == key and (site.folder / name).exists():
        return
    wanted = sorted(set(leaders.image[:, :4].ravel().tolist()) - {-1})
    of_image = dict(_pictures(subject, wanted))
    site.put(name, pictures.layer_sheet(layer.geometry, leaders, of_image.__getitem__))
    site.put_json(f"{STATE}/sheets.json", {**state, address: key})


def _layer_maps(site, layer, walker, count, say):
    """Write the sheets of maps of one layer, in groups of units that are the same in every build."""
    address, state = layer.each.address, f"maps-{layer.each.address}.json"
    done = site.read_state(state, {})
    group = max(1, AT_ONCE // count)
    settled = False
    for first in range(0, layer.units, group):
        units = range(first, min(first + group, layer.units))
        patches = {unit: layer.top_patches(unit)[:count] for unit in units}
        key = hashlib.sha256(repr([[(p.image, p.place) for p in patches[unit]] for unit in units]).encode()).hexdigest()
        names = {unit: f"units/{address}/{unit:04d}.webp" for unit in units if patches[unit]}
        if done.get(str(first)) == key and all((site.folder / name).exists() for name in names.values()):
            continue
        rows = [(p.image, p.place, unit) for unit in units for p in patches[unit]]
        if not settled and rows:
            walker.settle(*zip(*_some(layer), strict=True))
            settled = True
        all_maps = {method: [] for method in METHODS}
        for start in range(0, len(rows), AT_ONCE):
            part = walker(*zip(*rows[start : start + AT_ONCE], strict=True))
            for method in METHODS:
                all_maps[method] += part[method]
        for unit, name in names.items():
            number = [i for i, row in enumerate(rows) if row[2] == unit]
            maps = {method: [all_maps[method][i] for i in number] for method in METHODS}
            site.put(name, pictures.map_sheet(layer.geometry, maps, [rows[i][1] for i in number]))
        done[str(first)] = key
        site.put_json(f"{STATE}/{state}", done)
        say(f"maps of {address}: {units[-1] + 1:,} of {counted(layer.units, 'unit')}")


def _some(layer):
    """(image, place, unit) of neurons spread over a layer, on which windows are tried."""

    def neurons(units, most=None):
        return [(p.image, p.place, unit) for unit in units for p in layer.top_patches(unit)[:most]]

    step = max(1, layer.units // AT_ONCE)
    return (neurons(range(0, layer.units, step), 1) or neurons(range(layer.units)))[:AT_ONCE]
