"""Small pictures of chosen test images, kept in the run folder: its report can be made again without the data."""

import base64
import io

import numpy as np
from PIL import Image

from kerascnn import runs
from kerascnn.files import read_arrays

LARGEST_SIDE = 96  # pixels of a picture; larger images are shrunk
MISTAKES, HITS, A_CELL = 1200, 36, 6  # pictures kept: most confident mistakes, least sure hits, and hits of each class


def chosen(predictions):
    """int: the rows of a table of predictions (`by_image`) whose pictures a report shows."""
    wrong = predictions.index[~predictions["correct"]]
    right = predictions[predictions["correct"]]
    mistakes = predictions.loc[wrong].sort_values("margin").index[:MISTAKES]
    unsure = right.sort_values("margin").index[:HITS]
    sure = right.sort_values("margin", ascending=False).groupby("label", sort=False).head(A_CELL).index
    return np.array(sorted({*mistakes, *unsure, *sure}), int)


def keep(run, rows, images, name="pictures"):
    """Write pictures of uint8 images (N, H, W, C), `rows` of them, into evaluation/<name>.npz of a run folder."""
    contents = [_webp(images[int(row)]) for row in rows]
    ends = np.cumsum([len(content) for content in contents])
    with runs.replacing(run / f"evaluation/{name}.npz") as temporary:
        np.savez(temporary, rows=rows, ends=ends, content=np.frombuffer(b"".join(contents), "uint8"))


def read(run, name="pictures"):
    """{row: data URI} of the pictures of that name in a run folder; empty where there are none."""
    path = run / f"evaluation/{name}.npz"
    if not path.exists():
        return {}
    arrays = read_arrays(path)
    content, starts = arrays["content"].tobytes(), [0, *arrays["ends"]][: len(arrays["ends"])]
    return {
        int(row): "data:image/webp;base64," + base64.b64encode(content[start:end]).decode()
        for row, start, end in zip(arrays["rows"], starts, arrays["ends"], strict=True)
    }


def _webp(pixels):
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    file = io.BytesIO()
    image.convert("RGB").save(file, "webp", quality=80, method=4)
    return file.getvalue()
