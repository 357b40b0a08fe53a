"""Which layers a microscope shows, and the permanent addresses of their pages."""

import dataclasses
import warnings

from kerascnn import runs
from kerascnn.dataset_scan.scanned_layers import ScannedLayer, scanned_layers
from kerascnn.errors import UsageError
from kerascnn.explain.subjects import opaque_step
from kerascnn.network.find import call_names, find_all
from kerascnn.network.plan import make_plan

ALL = "all"


@dataclasses.dataclass(frozen=True)
class SiteLayer:
    """One layer of the site.

    Attributes:
        address: the name of its folder and page, which never changes: "conv4", "block1-conv2".
        scanned: the ScannedLayer whose channels are the units.
    """

    address: str
    scanned: ScannedLayer

    @property
    def name(self):
        """Its name in the scan, such as "conv4 (after relu)"."""
        return self.scanned.name

    @property
    def layer(self):
        """The layer's own path, such as "conv4"."""
        return self.scanned.layer


def all_layers(model):
    """The SiteLayers of all convolutions and dense layers, each as the next layer sees it; for the last one, the
    scores.

    Raises:
        UsageError: the model has no convolution.
    """
    plan = make_plan(model, opaque_step)
    if not any("Conv" in kind for kind in plan.kinds.values()):
        raise UsageError(
            f"Model {model.name!r} has no convolution, and a microscope shows what convolutions see. Its layers are "
            f"{', '.join(plan.layers)}."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        by_value = {each.value: each for each in scanned_layers(model)}
    dense = call_names(plan, [path for path, kind in plan.kinds.items() if kind == "Dense"])
    for name in dense:
        (before,) = scanned_layers(model, [name])
        (after,) = scanned_layers(model, [f"{name} (after all)"])
        chosen = before if after.value in plan.outputs else after
        by_value.setdefault(chosen.value, chosen)
    taken, layers = set(), []
    for each in sorted(by_value.values(), key=lambda each: each.value):
        layers.append(SiteLayer(_address(each.layer, taken), each))
    return layers


def _address(path, taken):
    """A name for a folder that no other layer has, even if upper and lower case are not distinguished."""
    plain = runs.plain(path.replace("/", "-"))
    name, number = plain, 1
    while name.lower() in taken:
        number += 1
        name = f"{plain}.{number}"
    taken.add(name.lower())
    return name


def matching(model, pattern=ALL):
    """The SiteLayers that a pattern names.

    Args:
        pattern: "all", or what `kerascnn.network.find` takes: names, patterns and ranges, separated by commas.
    Raises:
        UsageError: a name or pattern means no layer, or no layer with units.
    """
    layers = all_layers(model)
    if pattern in (None, ALL):
        return layers
    plan = make_plan(model, opaque_step)
    named = set()
    for place in find_all(plan, pattern):  # a name that means one layer stays as it is, such as "deepest"
        call = place.name.partition("#")[2]
        named.add(f"{place.path}#{call}" if call and len(plan.layers[place.path]) > 1 else place.path)
    chosen = [each for each in layers if each.layer in named]
    if not chosen:
        raise UsageError(
            f"layers={pattern!r} names no convolution or dense layer of model {model.name!r}. Those are "
            f"{', '.join(each.layer for each in layers)}."
        )
    return chosen
