"""COMP 576 homework 2, section 1.3 (P. Tang, 2017): its summary of Zeiler and Fergus 2013, tried on cifar_net."""

import functools

import numpy as np

from kerascnn.recipes import RECIPES
from kerascnn.studies import register
from kerascnn.studies.frame import looks
from kerascnn.studies.frame.looks import CHANGES, COUNTS, DEPTHS
from kerascnn.studies.frame.results import Y_LABELS, above_zero, all_hold, of_rows, on_test
from kerascnn.studies.frame.study import Claim, Computed, Lines, Listing, Picture, Study, Training, Value, accuracy
from kerascnn.training.evaluate import interval

# Row: (layers that are left out, what that is)
WITHOUT = {
    "whole": ("", "the network as it is, trained as long as the others"),
    "without fc2": ("fc2", "one hidden dense layer left"),
    "without fc1, fc2": ("fc1,fc2", "no hidden dense layer"),
    "without conv2, conv3": ("conv2,conv3", "the two middle convolutions"),
    "without all four": ("conv2,conv3,fc1,fc2", "both"),
}
WHOLE, NO_DENSE, NO_MIDDLE, NEITHER = "whole", "without fc1, fc2", "without conv2, conv3", "without all four"
LITTLE = 0.05  # of the test images
STABLE = 0.8  # of the probability of the unchanged images, on average over the changes
LAYERS = dict(zip(DEPTHS, ("conv1", "conv2", "conv3", "conv4", "fc1", "fc2"), strict=True))
CONVOLUTIONS = 4
# Eyes, from left to right as we see them, and nose of dogs of CIFAR-10's test images, (column, row) in pixels
DOGS = {
    stem: {"left eye": left, "right eye": right, "nose": nose}
    for stem, left, right, nose in (
        ("blenheim_spaniel_s_001110", (13, 11), (23, 11), (19, 15)),
        ("chihuahua_s_001006", (12, 13), (21, 13), (17, 21)),
        ("lapdog_s_001911", (10, 12), (20, 12), (15, 18)),
        ("maltese_dog_s_001090", (12, 14), (19, 17), (14, 21)),
        ("maltese_s_001906", (13, 14), (19, 14), (15, 17)),
        ("maltese_s_002170", (15, 11), (20, 12), (18, 16)),
        ("pekingese_s_001636", (12, 11), (21, 11), (16, 14)),
        ("puppy_s_000009", (14, 9), (18, 9), (16, 14)),
        ("puppy_s_000354", (10, 9), (23, 9), (18, 28)),
        ("puppy_s_002465", (12, 13), (20, 14), (15, 22)),
    )
}
PARTS = ("left eye", "right eye", "nose")
SIDE = 6  # of the squares that hide a part, pixels


def network_rows():
    """The network, and its variants without some layers, trained for fewer epochs."""
    recipe = RECIPES.get("cifar-net-88")().replace(data="cifar10")
    variants = tuple(
        Training(
            name=name,
            recipe=recipe.replace(epochs=3, model_options={"without": gone} if gone else {}),
            note=note,
        )
        for name, (gone, note) in WITHOUT.items()
    )
    return Training(name="network", recipe=recipe, note="what is looked at"), variants


def look_rows(notes):
    """The computed rows of both studies; `notes` are the places in the source."""
    functions = {
        "features": looks.features,
        "evolution": looks.evolution,
        "invariance": looks.invariance,
        "occlusion": looks.occlusion,
        "correspondence": functools.partial(looks.correspondence, parts=DOGS, side=SIDE),
        "probes": looks.probes,
        "generalisation": looks.generalisation,
    }
    return tuple(
        Computed(name=name, compute=function, needs=("network",), note=notes[name])
        for name, function in functions.items()
    )


def _values():
    ablated = [accuracy(name, "test accuracy", on_test(), where="Experiments") for name in WITHOUT]
    of_last = {
        "published": 45,
        "half": 5,
        "printed": "40-50 epochs",
        "cannot": "the paper's network, data and rate, which never ends its training",
    }
    settled = []
    for depth in range(1, CONVOLUTIONS + 1):
        what = f"epoch from which {LAYERS[depth]} stays nearer its end than halfway"
        more = {"unit": "epoch", "where": WHERE["evolution"]} | (of_last if depth == CONVOLUTIONS else {})
        settled.append(Value("evolution", what, f"settled {depth}", **more))
    alike = "share of a channel's nine strongest images of one class"
    specific = [
        Value("features", f"{alike}, {LAYERS[depth]}", f"specific {depth}", where=WHERE["features"]) for depth in DEPTHS
    ]
    apart = "relative distance under"
    moved = [
        Value("invariance", f"{apart} {change}, {layer}", f"{change} {name}", where=WHERE["invariance"])
        for change in CHANGES
        for name, layer in (("first", "conv1"), ("top", "fc2"))
    ]
    svm = [
        accuracy("probes", f"support vector machine on {LAYERS[depth]}", f"svm {depth}", where="Feature analysis")
        for depth in DEPTHS
    ]
    return (
        accuracy("network", "accuracy of the network that is looked at", on_test(), where="1.3, none printed"),
        *specific,
        *settled,
        *moved,
        *svm,
        *ablated,
    )


# What the claims of this study and of notes-zeiler-fergus measure: (True, False or None; a sentence).


def more_specific(results):
    """Do the nine strongest images of a channel agree more in their class, the deeper its layer?"""
    shares = [results.mean("features", f"specific {depth}") for depth in DEPTHS]
    told = ", ".join(f"{LAYERS[depth]} {share:.0%}" for depth, share in zip(DEPTHS, shares, strict=True))
    return bool(np.all(np.diff(shares) > 0)), f"Of a channel's nine strongest images, of one class: {told}."


def upper_settle_later(results):
    """Does each convolution settle no earlier than the one below it, and the last later than the first?"""
    epochs = [results.mean("evolution", f"settled {depth}") for depth in range(1, CONVOLUTIONS + 1)]
    told = ", ".join(f"{LAYERS[depth]} {epoch:g}" for depth, epoch in enumerate(epochs, start=1))
    holds = all(np.diff(epochs) >= 0) and epochs[-1] > epochs[0]
    return bool(holds), f"Epoch from which a layer stays nearer its end than halfway: {told}."


def small_changes(results):
    """Do the least translation and scaling move the first layer more than the top one?"""
    told, holds = [], []
    for change, least in (("translation", "2 pixels"), ("scale", "the least step")):
        first, top = (results.mean("invariance", f"{change} least {name}") for name in ("first", "top"))
        holds.append(first > top)
        told.append(f"{change} by {least} moves conv1's features by {first:.0%} of their length, fc2's by {top:.0%}")
    return all(holds), f"{'; '.join(told)}.".capitalize()


def stable_output(results):
    """Does the class keep most of its probability under translation and scaling, and more than under rotation?"""
    kept = {change: results.mean("invariance", f"{change} probability") for change in CHANGES}
    unchanged = results.mean("invariance", "translation unchanged")
    told = ", ".join(f"{change} {value:.2f}" for change, value in kept.items())
    holds = min(kept["translation"], kept["scale"]) > max(kept["rotation"], STABLE * unchanged)
    return holds, f"Mean probability of the class: {told}; unchanged {unchanged:.2f}, of which {STABLE:.0%} is stable."


def falls_where_hidden(results):
    """Does the strongest map's activity fall where its projection is hidden?"""
    values = results.sample("occlusion", "falls")
    changes = results.mean("occlusion", "changes")
    return float(np.mean(values)) < 0, (
        f"Rank correlation of the activity with the hidden share of its projection: {np.mean(values):+.2f} over "
        f"{len(values)} images; in {changes:.0%} of them the answer depends on where the square is."
    )


def depends_on_place(results):
    """Does the answer to most images depend on where the square is, by more than chance?"""
    values = results.sample("occlusion", "changes")
    low, high = interval(round(sum(values)), len(values))
    told = f"In {np.mean(values):.0%} of {len(values)} images (95% interval {low:.0%} to {high:.0%}) the answer depends"
    return above_zero(low - 0.5, high - 0.5), f"{told} on where the square is; half counts."


def parts_alike(results, layer="deep"):
    """Is each part treated more alike than random places? None where two standard errors allow either."""
    below = {
        part: [results.mean("correspondence", f"{part} {layer}{end}") for end in (" below", " error")] for part in PARTS
    }
    told = ", ".join(f"{part} {value:+.3f} +- {error:.3f}" for part, (value, error) in below.items())
    signs = [above_zero(value - 2 * error, value + 2 * error) for value, error in below.values()]
    return all_hold(signs), f"Below random places, in {results.mean('correspondence', 'images'):.0f} dogs: {told}."


def rises(results):
    """{row of WITHOUT but the whole: by how much its test errors are above those of the whole}."""
    whole = results.mean(WHOLE, on_test())
    return {name: whole - results.mean(name, on_test()) for name in WITHOUT if name != WHOLE}


def both_needed(results, little=np.inf):
    """Does leaving out both cost more than the two alone together, and each alone less than `little` of the images?"""
    more = rises(results)
    told = ", ".join(f"{name} {100 * value:+.1f}" for name, value in more.items())
    alone = more[NO_DENSE], more[NO_MIDDLE]
    holds = more[NEITHER] > sum(alone) and max(alone) < little
    return holds, f"Points of test errors more than the whole network: {told}."


def can_go(results):
    """Does one of both cost little, and both together more than the two alone?"""
    return both_needed(results, LITTLE)


def features_help(results):
    """Are frozen features better than training from scratch for every number of images?"""
    told, holds = [], []
    for count in COUNTS:
        frozen, scratch = (results.mean("generalisation", f"{name} {count}") for name in ("frozen", "scratch"))
        holds.append(frozen > scratch)
        told.append(f"{count} images a class {frozen:.1%} and {scratch:.1%}")
    return all(holds), f"Frozen features and training from scratch: {', '.join(told)}."


def deeper_is_better(results, row="probes"):
    """Does a support vector machine do better on each layer than on the one below?"""
    right = [results.mean(row, f"svm {depth}") for depth in DEPTHS]
    told = ", ".join(f"{LAYERS[depth]} {share:.1%}" for depth, share in zip(DEPTHS, right, strict=True))
    return bool(np.all(np.diff(right) > 0)), f"{told}."


CLAIMS = (
    Claim("Deeper layers are more class specific", "Feature visualization", more_specific),
    Claim("Lower layers converge early, upper layers late", "Feature evolution", upper_settle_later),
    Claim(
        "Small transformations affect the first layer dramatically, later ones less",
        "Feature invariance",
        small_changes,
    ),
    Claim(
        "The output is stable to translation (the paper: and scaling), not to rotation",
        "Feature invariance",
        stable_output,
    ),
    Claim("Classification is sensitive to what is hidden: location matters", "Occlusion sensitivity", depends_on_place),
    Claim("The model establishes correspondence of features between images", "Correspondence analysis", parts_alike),
    Claim("Dense layers or middle convolutions can go, but not both at the same time", "Experiments", can_go),
    Claim("Features do better on other data than training from scratch", "Experiments", features_help),
    Claim("A support vector machine is more accurate on deeper layers", "Feature analysis", deeper_is_better),
)


def pictures(where):
    """The figures of both studies' computed rows; `where` names the place in the source by row."""
    layers = tuple(
        Picture(
            f"layer-{depth}",
            f"Features of {name}: the nine strongest patches and their deconvnet projections",
            "features",
            where=where["features"],
            wide=True,
        )
        for depth, name in LAYERS.items()
    )
    turned = tuple(
        Picture(f"invariance-{change}", f"Features under {change}", "invariance", where=where["invariance"], wide=True)
        for change in CHANGES
    )
    others = tuple(
        Picture(row, title, row, file=f"{file}.png", where=where[row], wide=wide)
        for row, file, title, wide in (
            ("occlusion", "occlusion-trio", "A square hidden at every place", True),
            ("correspondence", "correspondence", "Parts hidden in ten dogs", False),
            ("probes", "probes", "Linear classifiers on each layer", False),
            ("generalisation", "generalisation", "Features on other data", False),
        )
    )
    evolution = Picture("evolution", "Features through training", "evolution", where=where["evolution"], wide=True)
    return (*layers, evolution, *turned, *others)


def ablation(where):
    """The curves of the variants' training."""
    return Lines(
        "without",
        "Validation accuracy without some layers",
        lambda results: {name: curve[:2] for name, curve in of_rows(WITHOUT, "val_accuracy")(results).items()},
        Y_LABELS["accuracy"],
        where=where,
    )


def listings(where):
    """The tables of both studies' computed rows."""
    return (
        Listing("How specific layers are", "features", "layers.csv", where["features"]),
        Listing("When layers settle", "evolution", "settled.csv", where["evolution"]),
        Listing("Linear classifiers on each layer", "probes", "accuracies.csv", where["probes"]),
    )


CHOSEN = (
    "The network: cifar_net, trained on CIFAR-10 by the recipe cifar-net-88; variants without layers for three epochs.",
    f"The dogs: ten of CIFAR-10's test images in which we clicked eyes and nose; squares of {SIDE} pixels.",
    "A layer has settled when its features stay nearer to those at the end than half of their first distance.",
    "Transformations: up to 8 pixels, factors of 1/1.8 to 1.8, whole turns in steps of 30 degrees; 200 test images.",
)
WHERE = {
    "features": "Feature visualization",
    "evolution": "Feature evolution",
    "invariance": "Feature invariance",
    "occlusion": "Occlusion sensitivity",
    "correspondence": "Correspondence analysis",
    "probes": "Feature analysis",
    "generalisation": "Experiments",
}


@register("comp576-zeiler-fergus", source="COMP 576 report 2017, section 1.3")
def comp576_zeiler_fergus():
    """The summary of Zeiler and Fergus, tried on our own network: features, evolution, invariance, parts, ablation."""
    network, variants = network_rows()
    return Study(
        name="comp576-zeiler-fergus",
        title="COMP 576: what Zeiler and Fergus saw, on our own network",
        source="P. Tang, COMP 576 homework 2, section 1.3, October 2017",
        about="The report sums up Zeiler and Fergus (2013) without running anything. Here each item of the summary is "
        "tried on a network of our own, which is small and sees images of 32x32 pixels.",
        rows=(network, *variants, *look_rows(WHERE)),
        values=_values(),
        claims=CLAIMS,
        figures=(*pictures(WHERE), ablation("Experiments")),
        listings=listings(WHERE),
        other="miniplaces",
        chosen=CHOSEN,
        differences=(
            "The report prints two numbers of its own: the epochs after which layers converge, and that errors were "
            "nearly halved. Both are of the paper's network on ImageNet.",
            "The first layer's filters, which the summary calls architecture selection, are in notes-zeiler-fergus.",
        ),
    )
