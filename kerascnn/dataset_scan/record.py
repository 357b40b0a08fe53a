"""What a pass has found so far, as arrays that one NPZ file holds: the state of a scan and its result alike."""

import contextlib
import copy
import dataclasses
import io
import json

import numpy as np
from PIL import Image

from kerascnn.dataset_scan.geometry import Geometry
from kerascnn.dataset_scan.leaders import Leaders
from kerascnn.dataset_scan.statistics import Statistics
from kerascnn.errors import DataError, UsageError
from kerascnn.files import read_arrays
from kerascnn.runs import replacing

EXACT = 64  # pixels; patches of layers whose fields are at most so high keep every pixel


@dataclasses.dataclass(frozen=True, eq=False)
class Webp:
    """A patch as the bytes of a WebP picture, uint8 (n,), and its shape (h, w, channels)."""

    content: np.ndarray
    shape: tuple

    @classmethod
    def of(cls, pixels):
        """The Webp of a patch; one that already is a Webp stays as it is, so that saving it again loses nothing."""
        if isinstance(pixels, cls):
            return pixels
        if not pixels.size:
            return cls(np.zeros(0, "uint8"), pixels.shape)
        file = io.BytesIO()
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
        picture.save(file, "webp", quality=80, method=2)
        return cls(np.frombuffer(file.getvalue(), "uint8"), pixels.shape)

    def pixels(self):
        """The patch, uint8 (h, w, channels)."""
        if not len(self.content):
            return np.zeros(self.shape, "uint8")
        with Image.open(io.BytesIO(self.content.tobytes())) as picture:
            return np.asarray(picture.convert("RGB" if self.shape[-1] == 3 else "L")).reshape(self.shape)


def _pixels(patch):
    return patch.pixels() if isinstance(patch, Webp) else patch


def _is_picture(patch):
    return isinstance(patch, Webp) or (patch.dtype == np.uint8 and patch.shape[-1] in (1, 3))


def _below(start, arrays):
    """The arrays whose names begin with `start`, by the rest of their names."""
    return {key.removeprefix(start): value for key, value in arrays.items() if key.startswith(start)}


@contextlib.contextmanager
def _reading(path):
    """Within this block, errors say that a file is missing, torn or no scan's."""
    try:
        yield
    except FileNotFoundError:
        raise UsageError(f"There is no scan {path}. Make one: kerascnn scan RUN") from None
    except (ValueError, KeyError, RecursionError) as error:
        raise DataError(f"{path} is torn, or no scan result: {error}") from error


@dataclasses.dataclass(eq=False)
class LayerRecord:
    """What a pass has seen of one layer.

    Attributes:
        geometry, leaders, statistics: see those classes.
        patches: {(image, place): pixels, or a Webp} of the leaders, where images cannot be read again or were saved.
    """

    geometry: Geometry
    leaders: Leaders
    statistics: Statistics
    patches: dict

    def patch(self, image, place):
        """The pixels of a patch, (h, w, channels)."""
        return _pixels(self.patches[image, place])

    def copy(self):
        """A copy that `extend` can change without changing this one."""
        statistics = Statistics.from_arrays(self.statistics.to_arrays())
        return LayerRecord(self.geometry, copy.copy(self.leaders), statistics, dict(self.patches))

    def extend(self, later):
        """Enter what was found in later images."""
        self.leaders.extend(later.leaders)
        self.statistics.extend(later.statistics)
        self.patches = self.patches | later.patches
        self.forget()

    def forget(self):
        """Drop the patches that no leader shows any more."""
        alive = set(zip(self.leaders.image.ravel().tolist(), self.leaders.place.ravel().tolist(), strict=True))
        for key in [key for key in self.patches if key not in alive]:
            del self.patches[key]

    def to_arrays(self, small=False, patches=True):
        """{name: array}; with `small` large uint8 patches as WebP, which changes their pixels a little."""
        keys, height = sorted(self.patches) if patches else [], self.geometry.size[0]
        patches = [self.patches[key] for key in keys]
        coded = small and height > EXACT and patches and all(map(_is_picture, patches))
        patches = [Webp.of(patch) if coded else _pixels(patch) for patch in patches]
        held = [patch.content if coded else patch.ravel() for patch in patches]
        geometry = self.geometry
        return {
            **{f"leaders/{name}": getattr(self.leaders, name) for name in (*Leaders.FIELDS, "per_image")},
            **{f"statistics/{name}": array for name, array in self.statistics.to_arrays().items()},
            "geometry/map": np.array([geometry.rows, geometry.cols, *geometry.size]),
            "geometry/boxes": geometry.boxes,
            "geometry/starts": geometry.starts,
            "patches/keys": np.array(keys, "int64").reshape(-1, 2),
            "patches/shapes": np.array([patch.shape for patch in patches], "int64").reshape(-1, 3),
            "patches/pixels": np.concatenate(held) if held else np.zeros(0, "uint8"),
            **({"patches/ends": np.cumsum([len(content) for content in held])} if coded else {}),
        }

    @classmethod
    def from_arrays(cls, arrays):
        rows, cols, *size = map(int, arrays["geometry/map"])
        geometry = Geometry(rows, cols, arrays["geometry/boxes"], arrays["geometry/starts"], tuple(size))
        leaders = Leaders(*arrays["leaders/value"].shape, int(arrays["leaders/per_image"]))
        for name in Leaders.FIELDS:
            setattr(leaders, name, arrays[f"leaders/{name}"])
        statistics = Statistics.from_arrays(_below("statistics/", arrays))
        shapes = arrays["patches/shapes"]
        ends = arrays.get("patches/ends", np.cumsum(shapes.prod(1)))
        parts = np.split(arrays["patches/pixels"], ends[:-1]) if len(shapes) else []
        if "patches/ends" in arrays:
            parts = [Webp(part, tuple(shape)) for part, shape in zip(parts, shapes.tolist(), strict=True)]
        else:
            parts = [part.reshape(shape) for part, shape in zip(parts, shapes.tolist(), strict=True)]
        patches = {tuple(key): part for key, part in zip(arrays["patches/keys"].tolist(), parts, strict=True)}
        return cls(geometry, leaders, statistics, patches)


@dataclasses.dataclass(eq=False)
class Record:
    """What was asked, how far the pass is, and what was found.

    Attributes:
        manifest: dict that JSON can hold.
        done: number of the image at which the pass continues, counted from the data's first, also in a shard.
        layers: {path: LayerRecord}.
    """

    manifest: dict
    done: int
    layers: dict

    def finish(self):
        """Say that all images have been seen."""
        self.manifest["images"] = self.done
        for layer in self.layers.values():
            layer.statistics.finish()

    def write(self, path, *, small=False, patches=True):
        """Write one NPZ file, atomically; ZIP's checksums guard it.

        Args:
            small: True compresses it, and keeps large uint8 patches as WebP.
            patches: False leaves out the pixels of patches.
        """
        arrays = {
            f"{number}/{name}": array
            for number, layer in enumerate(self.layers.values())
            for name, array in layer.to_arrays(small, patches).items()
        }
        save = np.savez_compressed if small else np.savez
        head = {"manifest": self.manifest, "done": self.done, "layers": list(self.layers)}
        with replacing(path) as temporary, open(temporary, "wb") as file:
            save(file, head=np.frombuffer(json.dumps(head).encode(), "uint8"), **arrays)

    @staticmethod
    def read_manifest(path):
        """The manifest in a file, without the rest; errors as in `read`."""
        with _reading(path):
            return json.loads(read_arrays(path, ["head"])["head"].tobytes())["manifest"]

    @classmethod
    def read(cls, path):
        """The Record in a file.

        Raises:
            UsageError: no such file.
            DataError: the file is torn, or no scan's.
        """
        with _reading(path):
            arrays = read_arrays(path)
            head = json.loads(arrays["head"].tobytes())
            layers = {}
            for number, name in enumerate(head["layers"]):
                layers[name] = LayerRecord.from_arrays(_below(f"{number}/", arrays))
            return cls(head["manifest"], head["done"], layers)
