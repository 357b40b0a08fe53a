"""Images that are nearly the same: one is a resized, re-encoded, brightened, mirrored or slightly cropped copy.

Every image becomes a grey thumbnail of 32x32 pixels. Pairs whose coarse 8x8 thumbnails correlate are compared in fine
detail: one of them is cropped by up to two thumbnail pixels on each side (6% of the image) to match the other, and the
details finer than a blur of two pixels must correlate. On 1,500 photographs of CIFAR-10 and of scenes, copies that were
changed in these ways have a correlation of 0.8 to 1.0 (0.72 to 0.8 if 32x32 pixels were halved to 16x16); other images
have 0.3, and at most 0.76.
"""

import functools
import itertools
from pathlib import Path

import numpy as np

SIDE, COARSE = 32, 8  # pixels of a thumbnail
SMALLEST = 16  # pixels of the shorter side of an image that has enough detail
MOST = 100_000  # images among which pairs are looked for: the work grows with the square
NEIGHBOURS, COARSE_LEAST, LEAST = 2, 0.9, 0.8
CROP = 2  # thumbnail pixels
BLOCK = 256
DRAWN = 24  # pairs on a sheet


def thumbnail(pixels):
    """uint8 (32, 32): an image (H, W, 1 or 3) in grey; None if it is too small."""
    from PIL import Image

    if min(pixels.shape[:2]) < SMALLEST:
        return None
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("L")
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX if min(image.size) >= SIDE else Image.BILINEAR))


def near_pairs(thumbnails):
    """The pairs of images that are nearly the same, the most similar first.

    Args:
        thumbnails: uint8 (N, 32, 32), of `thumbnail`.
    Returns:
        [(first, second, similarity from 0.8 to 1, mirrored), ...], first < second. Of images with equal thumbnails,
        each is paired with the first of those that it is nearly the same as.
    """
    copies = {}  # exact copies are compared once, so that they do not crowd out other neighbours
    for number, small in enumerate(thumbnails):
        copies.setdefault(small.tobytes(), []).append(number)
    copies = list(copies.values())
    distinct = np.array([thumbnails[numbers[0]] for numbers in copies], "float32")
    pairs = []
    same = [(k, k, False) for k, numbers in enumerate(copies) if len(numbers) > 1]
    for first, second, mirrored in same + _alike(distinct):
        turned = distinct[second][:, ::-1] if mirrored else distinct[second]
        similarity = _similarity(distinct[first], turned)
        if similarity >= LEAST:
            group = _joined(copies[first], copies[second])
            pairs += [(*pair, round(similarity, 3), mirrored) for pair in group]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[:2]))


def sheet(pairs, folder):
    """(figure, number of pairs drawn): near duplicates that are files, side by side, most similar first.

    Args:
        pairs: of a `kerascnn.datasets.check.Report`.
        folder: folder that the files are in.
    Returns:
        (None, 0) if none of the pairs are files.
    """
    from matplotlib.figure import Figure
    from PIL import Image

    from kerascnn.plots import shortened

    files = [[Path(folder) / name for name in pair["images"]] for pair in pairs[: 10 * DRAWN]]
    shown = [k for k, both in enumerate(files) if all(path.is_file() for path in both)][:DRAWN]
    if not shown:
        return None, 0
    across = min(3, len(shown))
    down = -(-len(shown) // across)
    figure = Figure(figsize=(2.7 * across, 1.75 * down + 0.4), layout="constrained")
    axes = figure.subplots(down, 2 * across, squeeze=False)
    for ax in axes.ravel():
        ax.set_axis_off()
    for place, number in enumerate(shown):
        pair = pairs[number]
        for side in (0, 1):
            ax = axes[place // across, 2 * (place % across) + side]
            with Image.open(files[number][side]) as image:
                image = image.convert("RGB")
                image.thumbnail((256, 256))
                ax.imshow(np.asarray(image), interpolation="nearest")
            ax.set_title(f"{shortened(pair['classes'][side], 16)}, {pair['splits'][side]}", fontsize=6)
    figure.suptitle("Near duplicates, two and two", fontsize=8)
    return figure, len(shown)


def _joined(some, others):
    """The pairs of each of some images with the first of the others, and of each of the others with the first of them:
    not all pairs, which may be millions, but an image in each, and a leak wherever there is one."""
    pairs = {(some[0], other) for other in others} | {(one, others[0]) for one in some}
    return sorted({tuple(sorted(pair)) for pair in pairs if pair[0] != pair[1]})


def _alike(thumbnails):
    """(first, second, mirrored) of the pairs whose coarse thumbnails correlate: each with its nearest ones."""
    count = min(NEIGHBOURS, len(thumbnails) - 1)
    if count < 1:
        return []
    plain, turned = _coarse(thumbnails), _coarse(thumbnails[:, :, ::-1])
    pairs = {}
    for start in range(0, len(plain), BLOCK):
        block = plain[start : start + BLOCK]
        for mirrored, others in ((False, plain), (True, turned)):
            likeness = block @ others.T
            likeness[np.arange(len(block)), start + np.arange(len(block))] = -1
            nearest = np.argpartition(-likeness, count - 1, axis=1)[:, :count]
            rows = np.repeat(np.arange(len(block)), count)
            for row, other in zip(rows, nearest.ravel(), strict=True):
                if likeness[row, other] >= COARSE_LEAST:
                    pair = tuple(sorted((start + int(row), int(other))))
                    known = pairs.get(pair, (-1.0, False))
                    pairs[pair] = max(known, (float(likeness[row, other]), mirrored))
    return [(*pair, mirrored) for pair, (_, mirrored) in sorted(pairs.items())]


def _coarse(thumbnails):
    """float32 (N, 64) of length 1, without the mean."""
    step = SIDE // COARSE
    small = thumbnails.reshape(-1, COARSE, step, COARSE, step).mean((2, 4)).reshape(len(thumbnails), -1)
    small = small - small.mean(1, keepdims=True)
    return (small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-6)).astype("float32")


def _crops():
    """float32 (crops, 32, 32): matrices that enlarge what is left of 32 rows, cropped at the top and the bottom."""
    matrices = []
    for top, bottom in itertools.product(range(CROP + 1), repeat=2):
        places = np.clip(top - 0.5 + (np.arange(SIDE) + 0.5) * (SIDE - top - bottom) / SIDE, 0, SIDE - 1)
        low = np.floor(places).astype(int)
        matrix = np.zeros((SIDE, SIDE), "float32")
        np.add.at(matrix, (np.arange(SIDE), low), 1 - (places - low))
        np.add.at(matrix, (np.arange(SIDE), np.minimum(low + 1, SIDE - 1)), places - low)
        matrices.append(matrix)
    return np.stack(matrices)


@functools.cache
def _blurred():
    """The matrices of `_crops`, and the same with a blur of two pixels behind them."""
    from scipy.ndimage import gaussian_filter1d

    enlarged = _crops()
    return enlarged, gaussian_filter1d(enlarged, 2.0, axis=1)


def _similarity(first, second):
    """The largest correlation of the detail of two thumbnails, over all crops of one of them."""
    crops = _detail(first), _detail(second)
    return float(max((crops[0] * crops[1][0]).sum((1, 2)).max(), (crops[1] * crops[0][0]).sum((1, 2)).max()))


def _detail(thumbnail):
    """(crops, 32, 32), no crop first: what is finer than a blur in each crop of a thumbnail, of mean 0 and length 1."""
    down = _blurred()
    across = [matrices.transpose(0, 2, 1) for matrices in down]
    fine = (down[0] @ thumbnail)[:, None] @ across[0] - (down[1] @ thumbnail)[:, None] @ across[1]
    fine = fine.reshape(-1, SIDE, SIDE)
    fine -= fine.mean((1, 2), keepdims=True)
    return fine / np.maximum(np.sqrt((fine**2).sum((1, 2), keepdims=True)), 1e-6)
