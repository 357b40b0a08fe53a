"""What a pass has found so far, as arrays that one NPZ file holds: the state of a scan and its result alike."""

import dataclasses
import json

import numpy as np

from kerascnn.dataset_scan.geometry import Geometry
from kerascnn.dataset_scan.leaders import Leaders
from kerascnn.dataset_scan.statistics import OCTAVES, Statistics
from kerascnn.errors import DataError
from kerascnn.files import read_arrays
from kerascnn.runs import replacing


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

    def to_arrays(self):
        """{name: array}."""
        keys = sorted(self.patches)
        pixels = [self.patches[key] for key in keys]
        geometry = self.geometry
        return {
            **{f"leaders/{name}": getattr(self.leaders, name) for name in (*Leaders.FIELDS, "per_image")},
            **{f"statistics/{name}": getattr(self.statistics, name) for name in Statistics.FIELDS},
            "geometry/map": np.array([geometry.rows, geometry.cols, *geometry.size]),
            "geometry/boxes": geometry.boxes,
            "geometry/starts": geometry.starts,
            "patches/keys": np.array(keys, "int64").reshape(-1, 2),
            "patches/shapes": np.array([p.shape for p in pixels], "int64").reshape(-1, 3),
            "patches/pixels": np.concatenate([p.ravel() for p in pixels]) if pixels else np.zeros(0, "uint8"),
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
        parts = np.split(arrays["patches/pixels"], np.cumsum(shapes.prod(1))[:-1]) if len(shapes) else []
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

    def write(self, path, save=np.savez):
        """Write one NPZ file, atomically; ZIP's checksums guard it. `save`: np.savez or np.savez_compressed."""
        arrays = {
            f"{number}/{name}": array
            for number, found in enumerate(self.layers.values())
            for name, array in found.to_arrays().items()
        }
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
