"""What a pass has found so far, as arrays that one NPZ file holds: the state of a scan and its result alike."""

import dataclasses
import io
import json

import numpy as np
from PIL import Image

from kerascnn.dataset_scan.geometry import Geometry
from kerascnn.dataset_scan.leaders import Leaders
from kerascnn.dataset_scan.statistics import OCTAVES, Statistics
from kerascnn.errors import DataError
from kerascnn.files import read_arrays
from kerascnn.runs import replacing

EXACT = 64  # pixels; patches of layers whose fields are at most so high keep every pixel


def _has_picture(pixels):
    return pixels.dtype == np.uint8 and pixels.shape[-1] in (1, 3) and min(pixels.shape) > 0


def _webp(pixels):
    """A patch as the bytes of a WebP picture, uint8 (n,)."""
    file = io.BytesIO()
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
    picture.save(file, "webp", quality=80, method=2)
    return np.frombuffer(file.getvalue(), "uint8")


def _unpacked(content, shape):
    """The patch (h, w, channels) of `_webp`."""
    with Image.open(io.BytesIO(content.tobytes())) as picture:
        return np.asarray(picture.convert("RGB" if shape[-1] == 3 else "L")).reshape(shape)


@dataclasses.dataclass(eq=False)
class Found:
    """What was found in one layer.

    Attributes:
        geometry, leaders, statistics: see those classes.
        patches: {(image, place): pixels} of the leaders, where images cannot be read again or were saved.
    """

    geometry: Geometry
    leaders: Leaders
    statistics: Statistics
    patches: dict

    def forget(self):
        """Drop the patches that no leader shows any more."""
        alive = set(zip(self.leaders.image.ravel().tolist(), self.leaders.place.ravel().tolist(), strict=True))
        for key in [key for key in self.patches if key not in alive]:
            del self.patches[key]

    def to_arrays(self, small=False):
        """{name: array}; with `small` large uint8 patches as WebP, which changes their pixels a little."""
        keys = sorted(self.patches)
        pixels = [self.patches[key] for key in keys]
        geometry = self.geometry
        coded = small and pixels and all(_has_picture(p) for p in pixels) and max(p.shape[0] for p in pixels) > EXACT
        held = [_webp(p) if coded else p.ravel() for p in pixels]
        return {
            **{f"leaders/{name}": getattr(self.leaders, name) for name in (*Leaders.FIELDS, "per_image")},
            **{f"statistics/{name}": getattr(self.statistics, name) for name in Statistics.FIELDS},
            "geometry/map": np.array([geometry.rows, geometry.cols, *geometry.size]),
            "geometry/boxes": geometry.boxes,
            "geometry/starts": geometry.starts,
            "patches/keys": np.array(keys, "int64").reshape(-1, 2),
            "patches/shapes": np.array([p.shape for p in pixels], "int64").reshape(-1, 3),
            "patches/pixels": np.concatenate(held) if held else np.zeros(0, "uint8"),
            **({"patches/ends": np.cumsum([len(p) for p in held])} if coded else {}),
        }

    @classmethod
    def from_arrays(cls, arrays):
        rows, cols, *size = map(int, arrays["geometry/map"])
        geometry = Geometry(rows, cols, arrays["geometry/boxes"], arrays["geometry/starts"], tuple(size))
        leaders = Leaders(*arrays["leaders/value"].shape, int(arrays["leaders/per_image"]))
        for name in Leaders.FIELDS:
            setattr(leaders, name, arrays[f"leaders/{name}"])
        statistics = Statistics.__new__(Statistics)
        arrays.setdefault("statistics/octaves", np.array(OCTAVES))  # files of before they could widen
        for name in Statistics.FIELDS:
            setattr(statistics, name, arrays[f"statistics/{name}"])
        shapes = arrays["patches/shapes"]
        ends = arrays.get("patches/ends", np.cumsum(shapes.prod(1)))
        parts = np.split(arrays["patches/pixels"], ends[:-1]) if len(shapes) else []
        if "patches/ends" in arrays:
            parts = [_unpacked(part, shape) for part, shape in zip(parts, shapes.tolist(), strict=True)]
        patches = {
            tuple(key): part.reshape(shape)
            for key, part, shape in zip(arrays["patches/keys"].tolist(), parts, shapes.tolist(), strict=True)
        }
        return cls(geometry, leaders, statistics, patches)


@dataclasses.dataclass(eq=False)
class Record:
    """What was asked, how far the pass is, and what was found.

    Attributes:
        manifest: dict that JSON can hold.
        done: images seen.
        layers: {path: Found}.
    """

    manifest: dict
    done: int
    layers: dict

    def write(self, path, *, small=False):
        """Write one NPZ file, atomically; ZIP's checksums guard it.

        Args:
            small: True compresses it, and keeps large uint8 patches as WebP.
        """
        arrays = {
            f"{number}/{name}": array
            for number, found in enumerate(self.layers.values())
            for name, array in found.to_arrays(small).items()
        }
        save = np.savez_compressed if small else np.savez
        head = {"manifest": self.manifest, "done": self.done, "layers": list(self.layers)}
        with replacing(path) as temporary, open(temporary, "wb") as file:
            save(file, head=np.frombuffer(json.dumps(head).encode(), "uint8"), **arrays)

    @classmethod
    def read(cls, path):
        """The Record in a file.

        Raises:
            DataError: the file is torn, or no scan's.
        """
        try:
            arrays = read_arrays(path)
            head = json.loads(arrays["head"].tobytes())
            layers = {}
            for number, name in enumerate(head["layers"]):
                start = f"{number}/"
                own = {key.removeprefix(start): value for key, value in arrays.items() if key.startswith(start)}
                layers[name] = Found.from_arrays(own)
            return cls(head["manifest"], head["done"], layers)
        except (ValueError, KeyError, RecursionError) as error:
            raise DataError(f"{path} is torn, or no scan result: {error}") from error
