"""How units looked through training: the filters and the strongest patches that callbacks kept (kerascnn.callbacks)."""

import dataclasses
import json
from pathlib import Path

import numpy as np

from kerascnn.dataset_scan.sheets import enlarged, map_colours, natural
from kerascnn.errors import DataError
from kerascnn.files import read_arrays
from kerascnn.pages.microscope.pictures import embedded, fitted

MOMENTS = 8  # shown, evenly chosen, the first and the last among them
SIDE = 64  # pixels of a tile


@dataclasses.dataclass(frozen=True)
class Strip:
    """One look at a unit at several moments.

    Attributes:
        name: what is shown, such as "filter".
        counts: "epochs" or "steps".
        moments: numbers of epochs (steps).
        tiles: a picture for each, as data: addresses.
        values: the activation at each, or ().
    """

    name: str
    counts: str
    moments: tuple
    tiles: tuple
    values: tuple = ()


def recorded(watch, layers):
    """{(address, unit): [Strip, ...]} of what a folder of looks holds about the layers of a site.

    Args:
        watch: the folder, such as watch/ of a run; None or a folder without looks gives {}.
        layers: SiteLayers.
    """
    by_unit = {}
    for path in sorted(Path(watch).glob("*/look.json")) if watch else ():
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            looks = _looks(path.parent) if isinstance(about, dict) else {}
        except (OSError, ValueError, DataError):
            continue  # damaged, or written by something else
        if not looks:
            continue
        (name, *_) = about.get("layers") or [""]
        each = next((each for each in layers if name in (each.layer, each.name, each.scanned.output)), None)
        if each is None:
            continue
        for unit, strips in _strips(about, looks).items():
            if unit < each.scanned.channels:
                by_name = by_unit.setdefault((each.address, unit), {})
                for strip in strips:
                    if strip.name not in by_name or len(strip.moments) > len(by_name[strip.name].moments):
                        by_name[strip.name] = strip
    return {key: list(strips.values()) for key, strips in by_unit.items()}


def _looks(folder):
    """{number: arrays} of at most MOMENTS looks, the oldest first."""
    paths = sorted(path for path in folder.glob("*.npz") if path.stem.isdecimal())
    index = np.unique(np.linspace(0, len(paths) - 1, min(MOMENTS, len(paths))).round().astype(int)) if paths else ()
    return {int(paths[i].stem): read_arrays(paths[i]) for i in index}


def _strips(about, looks):
    """{unit: [Strip, ...]} of the looks of one folder."""
    counts, moments, arrays = about.get("unit", "epochs"), tuple(looks), list(looks.values())
    if all("filters" in each for each in arrays):
        filters = np.stack([each["filters"] for each in arrays], 1)  # (units, moments, h, w, channels)
        if filters.shape[2:4] == (1, 1):
            return {}
        return {unit: [Strip("filter", counts, moments, _filters(kernels))] for unit, kernels in enumerate(filters)}
    if not all({"patches", "inside", "deconvnet", "value"} <= set(each) for each in arrays):
        return {}
    strips = {}
    for row, unit in enumerate(about.get("channels", ())):
        values = tuple(float(each["value"][row]) for each in arrays)
        patches_of = [(each["patches"][row], each["inside"][row], each["deconvnet"][row]) for each in arrays]
        patches = tuple(embedded(enlarged(natural(patch, inside), inside)) for patch, inside, _ in patches_of)
        backs = tuple(embedded(enlarged(map_colours(back), inside)) for _, inside, back in patches_of)
        strips[unit] = [
            Strip("strongest patch", counts, moments, patches, values),
            Strip("its deconvnet image", counts, moments, backs),
        ]
    return strips


def _filters(filters):
    """Tiles of one filter (moments, h, w, channels): grey at zero, on one scale; of many channels the mean."""
    shown = filters if filters.shape[-1] == 3 else filters.mean(-1, keepdims=True)
    shown = 0.5 + 0.5 * shown / (np.abs(shown).max() or 1.0)
    height, width = shown.shape[1:3]
    size = max(height, SIDE // height * height), max(width, SIDE // width * width)
    return tuple(embedded(fitted(np.broadcast_to(each, (height, width, 3)), *size)) for each in shown)
