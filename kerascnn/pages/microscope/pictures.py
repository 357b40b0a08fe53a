"""The site's pictures as WebP bytes: whole images, one sheet of patches per layer, one sheet of maps per unit."""

import base64
import io

import numpy as np
from PIL import Image

from kerascnn.dataset_scan.sheets import STRIPES, natural
from kerascnn.explain.sheets import map_colours, one_value_per_pixel

SMALL = 64  # pixels: images up to this side are stored without loss
LARGEST = 96  # pixels: side of a tile of maps
THUMB, THUMBS = 48, 2  # pixels of a patch in a layer's sheet, and patches a row and a column of one unit
COLUMNS = 32  # units a row of a layer's sheet
GREY = 238  # of an empty tile


def webp(pixels, lossless=False, quality=78):
    """WebP bytes of (H, W, 3) between 0 and 1, or uint8."""
    if pixels.dtype != np.uint8:
        pixels = np.rint(np.clip(pixels, 0, 1) * 255).astype("uint8")
    file = io.BytesIO()
    options = {"lossless": True, "quality": 60} if lossless else {"quality": quality, "method": 4}
    Image.fromarray(pixels).save(file, "webp", **options)
    return file.getvalue()


def embedded(pixels):
    """A small picture, as for `webp`, as a data: address, stored without loss."""
    return "data:image/webp;base64," + base64.b64encode(webp(pixels, lossless=True)).decode()


def picture(pixels):
    """A whole image (H, W, C) in any numbers as uint8 (H, W, 3)."""
    return np.rint(natural(pixels, np.ones(pixels.shape[:2], bool)) * 255).astype("uint8")


def whole(shown):
    """WebP bytes of a whole image, uint8 (H, W, 3)."""
    return webp(shown, lossless=max(shown.shape[:2]) <= SMALL)


def fitted(picture, height, width):
    """uint8 (height, width, 3): a picture between 0 and 1, enlarged by whole pixels, or made smaller by averages."""
    pixels = np.rint(np.clip(picture, 0, 1) * 255).astype("uint8")
    if pixels.shape[:2] == (height, width):
        return pixels
    larger = height > pixels.shape[0]
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.NEAREST if larger else Image.BOX))


def tile_size(size):
    """(height, width) of a map's tile for a receptive field of a size: as it is, or shrunk to LARGEST."""
    share = min(1.0, LARGEST / max(size))
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))


def tile(geometry, patch, place, height, width):
    """uint8 (height, width, 3): what a place sees (h, w, 3), 0 to 1, in its field's frame, striped beyond the image."""
    inside = fitted(np.repeat(geometry.inside(place)[..., None], 3, -1).astype(float), height, width) > 127
    rows, cols = np.indices((height, width))
    stripes = np.rint(STRIPES * 255).astype("uint8")[(rows + cols) // max(1, min(4, max(height, width) // 8)) % 2]
    return np.where(inside, fitted(geometry.framed(patch, place), height, width), stripes)


def map_tiles(geometry, values, place, height, width):
    """The tiles of one map: in colours, grey at zero, if it has three; and as signed values."""
    views = [map_colours(values)] if values.shape[-1] == 3 else []
    views.append(map_colours(one_value_per_pixel(values)))
    return [tile(geometry, view, place, height, width) for view in views]


def map_sheet(geometry, maps, places):
    """WebP bytes of one unit's maps: a row for each method and view, a column for each patch.

    Args:
        maps: {method: [map (h, w, C)]}.
        places: of the patches.
    """
    height, width = tile_size(geometry.size)
    rows = []
    for values in maps.values():
        pairs = zip(values, places, strict=True)
        tiles = [map_tiles(geometry, one, place, height, width) for one, place in pairs]
        rows += [np.concatenate(row, 1) for row in zip(*tiles, strict=True)]
    return webp(np.concatenate(rows), lossless=max(height, width) <= 24, quality=60)


def layer_sheet(geometry, leaders, image_of):
    """WebP bytes of a layer: each unit's four strongest patches, two by two, COLUMNS units a row.

    Args:
        leaders: see `kerascnn.dataset_scan.leaders`.
        image_of: function, number of an image -> its picture uint8 (H, W, 3).
    """
    side = THUMB * THUMBS
    units = len(leaders.value)
    columns = min(COLUMNS, units)
    sheet = np.full((-(-units // columns) * side, columns * side, 3), GREY, "uint8")
    for unit in range(units):
        for rank in range(min(THUMBS**2, leaders.value.shape[1])):
            number, place = int(leaders.image[unit, rank]), int(leaders.place[unit, rank])
            if number < 0 or leaders.value[unit, rank] <= 0:
                continue
            patch = geometry.cut(image_of(number), place) / 255
            top = unit // columns * side + rank // THUMBS * THUMB
            left = unit % columns * side + rank % THUMBS * THUMB
            sheet[top : top + THUMB, left : left + THUMB] = tile(geometry, patch, place, THUMB, THUMB)
    return webp(sheet, quality=72)


def filter_picture(kernel):
    """A filter (h, w, C) of the first layer, `embedded`: grey at zero, its largest weight at the end of the scale."""
    limit = np.abs(kernel).max() or 1.0
    shown = 0.5 + 0.5 * kernel / limit
    return embedded(np.broadcast_to(shown, (*shown.shape[:2], 3)))
