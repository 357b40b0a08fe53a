"""Every explanation method on some images, with numbers that tell how far to trust each map; and the layers' maps.

For each image: how the probability of its most probable class falls and rises as pixels go and come, the most important
first (deletion and insertion, Petsiuk et al. 2018), and how much the map resembles that of the same network with random
weights (Adebayo et al. 2018). The methods are those of the registry. Images are computed in groups that are the same in
every build, so that a build that was killed ends like any other.
"""

import hashlib
import itertools
import warnings

import numpy as np
from matplotlib import colormaps

from kerascnn.errors import UsageError
from kerascnn.explain import EXPLANATIONS
from kerascnn.explain.answers import class_answers
from kerascnn.explain.by_name import maps
from kerascnn.explain.caveats import cautions
from kerascnn.explain.evaluate import deletion_and_insertion, importance, importance_of, likeness, random_twin
from kerascnn.explain.sheets import blended, is_signed, one_value_per_pixel, range_of
from kerascnn.explain.subjects import check_images, opaque_step
from kerascnn.explain.walk import Task, run
from kerascnn.network.plan import make_plan
from kerascnn.pages.microscope import pictures
from kerascnn.pages.microscope.site import STATE
from kerascnn.plots import HEAT
from kerascnn.progress import Bell

GROUP = 4  # images computed together
SIDE = 128  # pixels of a tile, at most
BEST, TILE = 8, 48  # units of a layer whose maps are shown, and pixels of a map
RANDOM = "random"  # the row of scores of maps without meaning


def chosen(subject, count):
    """Numbers of the images that are explained, sorted: the first of each class in turn; without classes, an even
    sample."""
    known = [np.flatnonzero(subject.labels == number).tolist() for number in range(len(subject.class_names))]
    known = [numbers for numbers in known if numbers]
    if not known:
        return np.unique(np.linspace(0, len(subject) - 1, min(count, len(subject))).round().astype(int)).tolist()
    turns = (number for rank in itertools.count() for numbers in known for number in numbers[rank : rank + 1])
    return sorted(itertools.islice(turns, min(count, sum(map(len, known)))))


def explained(site, subject, numbers, say):
    """Write images/NUMBER-looks.webp for each image; returns {image: [what its page tells of each method]}.

    Args:
        site, subject: see those modules.
        numbers: of the images.
        say: called with sentences.
    """
    reason = _why_not(subject.model)
    if reason or not numbers:
        if numbers:
            say(f"no explanations: {reason}")
        return {}
    methods, twin = list(EXPLANATIONS.names()), []
    told = {}

    def rows_of(some):
        if not twin:
            twin.append(_twin(subject.model))
        return _explained(site, subject, twin[0], some, methods)

    for rows in _in_groups(site, "looks", numbers, (methods, SIDE), rows_of, say):
        told |= rows
    return told


def activated(site, subject, facts, numbers, say):
    """Write images/NUMBER-maps.webp for each image: the maps of the units that come closest to their own largest
    activation; returns {image: [(address, [unit, ...])]} of the layers that have maps.

    Args:
        facts: LayerFacts.
    """
    facts = [layer for layer in facts if layer.geometry.rows * layer.geometry.cols > 1]
    told = {}
    if not facts or not numbers:
        return told
    key = [(layer.each.address, hashlib.sha256(layer.leaders.value[:, 0].tobytes()).hexdigest()) for layer in facts]
    for rows in _in_groups(site, "maps", numbers, key, lambda some: _activated(site, subject, facts, some), say):
        told |= rows
    return told


def _in_groups(site, kind, numbers, key, rows_of, say):
    """{image: rows} of one group of images after another; what an earlier build has made is not made again."""
    state, bell = f"images-{kind}.json", Bell()
    known, kept = site.read_state(state, {}), {}
    for first in range(0, len(numbers), GROUP):
        some = numbers[first : first + GROUP]
        name = hashlib.sha256(repr((some, key)).encode()).hexdigest()
        there = all((site.folder / f"images/{number:06d}-{kind}.webp").exists() for number in some)
        if name in known and there:
            kept[name] = known[name]
        else:
            kept[name] = {str(number): rows for number, rows in rows_of(some).items()}
            site.put_json(f"{STATE}/{state}", {**known, **kept})
            if bell.rings():
                say(f"{kind} of images: {first + len(some)} of {len(numbers)}")
        yield {int(number): rows for number, rows in kept[name].items()}
    site.put_json(f"{STATE}/{state}", kept)


def _why_not(model):
    """Why images of a model cannot be explained, or ""."""
    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(model.output_shape) != 2:
        return f"model {model.name!r} is no classifier with one input and one output."
    return ""


def _twin(model):
    """The model with random weights; None for one that cannot be built again, such as with layers of the user's own."""
    try:
        return random_twin(model)
    except Exception:  # whatever the user's own from_config raises
        return None


def _padded(x):
    return np.concatenate([x, np.repeat(x[-1:], GROUP - len(x), 0)])


def _explained(site, subject, twin, some, methods):
    """{image: [row of each method]} of a group, whose sheets are written."""
    x = _padded(subject.prepared(some))
    target = class_answers(subject.model, x)[0]
    maps_of, rows = {}, {number: [] for number in some}
    for method in methods:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of maps that are zero, which the page tells
                maps_of[method], scores = _scored(subject.model, twin, x, target, method)
        except UsageError as error:
            for lines in rows.values():
                lines.append({"method": method, "why": str(error)})
            continue
        facts = EXPLANATIONS.facts(method)
        told = {"source": facts.get("source", ""), "fails": bool(facts.get("fails_randomisation", False))}
        told["cautions"] = cautions(method, subject.model)
        for place, lines in enumerate(rows.values()):
            flat = one_value_per_pixel(maps_of[method][place])
            numbers = {name: round(float(values[place]), 4) for name, values in scores.items()}
            words = range_of(flat, is_signed(method, flat))
            lines.append({"method": method, **told, **numbers, "range": words, "column": len(maps_of) - 1})
    noise = np.stack([np.random.default_rng([0, number]).random(x.shape[1:3]) for number in some])
    areas = deletion_and_insertion(subject.model, x, target, _padded(noise))
    for place, (number, lines) in enumerate(rows.items()):
        lines.append({"method": RANDOM, **{name: round(float(area[place]), 4) for name, area in areas.items()}})
        picture = pictures.picture(subject.pixels([number])[0])
        sheet, tile = _sheet(picture, {method: each[place] for method, each in maps_of.items()})
        lines[-1] |= {"target": int(target[place]), "tile": tile}
        site.put(f"images/{number:06d}-looks.webp", sheet)
    return rows


def _scored(model, twin, x, target, method):
    """(maps of the images, {score: (N,)})."""
    values = maps(method, model, x, target)
    importances = importance_of(values)
    scores = deletion_and_insertion(model, x, target, importances)
    if twin is not None:
        scores["spearman"], scores["ssim"] = likeness(importances, importance(method, twin, x, target))
    return values, scores


def _sheet(picture, maps_of):
    """(WebP bytes, (width, height) of a tile): a column for each method, the map alone above the map on the image."""
    height, width = picture.shape[:2]
    share = min(1.0, SIDE / max(height, width))
    size = max(1, round(height * share)), max(1, round(width * share))
    columns = []
    for method, values in maps_of.items():
        flat = one_value_per_pixel(values)
        signed = is_signed(method, flat)
        alone = pictures.map_colours(values) if signed else colormaps[HEAT](flat / (flat.max() or 1.0))[..., :3]
        over = blended(pictures.fitted(picture / 255, *flat.shape), flat, signed=signed) / 255
        columns.append(np.concatenate([pictures.fitted(view, *size) for view in (alone, over)]))
    if not columns:
        columns = [np.full((2 * size[0], size[1], 3), pictures.GREY, "uint8")]
    sheet = np.concatenate(columns, 1)
    return pictures.webp(sheet, lossless=max(size) <= pictures.SMALL // 2, quality=80), [size[1], size[0]]


def _activated(site, subject, facts, some):
    """{image: [(address, [unit, ...])]} of a group, whose sheets are written."""
    plan = make_plan(subject.model, opaque_step)
    arrays = check_images(subject.model, plan, _padded(subject.prepared(some)))
    values = tuple(layer.each.scanned.value for layer in facts)
    activations = run(plan, Task(plan.steps, plan.inputs, values), arrays, [])[0]
    told = {}
    for place, number in enumerate(some):
        lines = []
        for layer, each in zip(facts, activations, strict=True):
            largest = layer.leaders.value[:, 0]
            share = np.where(largest > 0, each[place].max((0, 1)) / np.where(largest > 0, largest, 1), 0)
            order = np.argsort(-np.round(share, 6), kind="stable")[:BEST]
            lines.append((layer.each.address, [int(unit) for unit in order if share[unit] > 0]))
        sheet = np.full((len(facts) * TILE, BEST * TILE, 3), pictures.GREY, "uint8")
        for line, (layer, each, (_, units)) in enumerate(zip(facts, activations, lines, strict=True)):
            for column, unit in enumerate(units):
                shown = np.clip(each[place][..., unit] / layer.leaders.value[unit, 0], 0, 1)
                view = pictures.fitted(np.repeat(shown[..., None], 3, -1), TILE, TILE)
                sheet[line * TILE : (line + 1) * TILE, column * TILE : (column + 1) * TILE] = view
        site.put(f"images/{number:06d}-maps.webp", pictures.webp(sheet, quality=80))
        told[number] = lines
    return told
