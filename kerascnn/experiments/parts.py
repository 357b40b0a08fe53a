"""Where parts of images are: from a CSV file of boxes or places, or from the masks of a data set such as `shapes`."""

import numpy as np
import pandas

from kerascnn.errors import DataError, UsageError, counted

SIDES = ("top", "left", "bottom", "right")
WITHOUT_CORNERS = ("circle", "ring")  # of shapes


def read_boxes(path, files, size, patch=None):
    """Parts from a CSV file with columns file, part, top, left, bottom, right, or file, part, x, y.

    Args:
        path: the CSV file.
        files: names of the images; a file in the table stands for the image whose name ends with it.
        size: (height, width) of the images, pixels.
        patch: side of the square about each place x, y (column and row), which is moved inside the image; None: a
            quarter of the image's shorter side.
    Returns:
        (int (N,): which of the files have boxes, {part: int (N, 4)}).
    Raises:
        UsageError: the patch is larger than the image.
        DataError: a column is missing, a box is not whole numbers, a place lies outside the image, a file matches none
            or several of the images, or a part is missing in one of them.
    """
    try:
        table = pandas.read_csv(path, dtype={"file": str, "part": str}, keep_default_na=False)
    except ValueError as error:  # pandas' own, and that of text that is not UTF-8
        raise DataError(f"{path} is not a table of boxes: {error}") from error
    if {"x", "y"} <= set(table.columns) and not set(SIDES) & set(table.columns):
        table = _about_places(table, path, size, patch)
    missing = [column for column in ("file", "part", *SIDES) if column not in table]
    if missing or table.empty or any(table[side].dtype.kind not in "iu" for side in SIDES):
        raise DataError(
            f"{path} needs the columns file, part, {', '.join(SIDES)}, the last four whole numbers, or x, y."
        )
    rows = {}
    for name in dict.fromkeys(table["file"]):
        same = [row for row, file in enumerate(files) if file == name or file.endswith(f"/{name}")]
        if len(same) != 1:
            raise DataError(f"{path}: {name!r} names {counted(len(same), 'image')} of the data; one is needed.")
        rows[name] = same[0]
    parts = {}
    for part, of_part in table.groupby("part", sort=False):
        of_file = of_part.set_index("file")[list(SIDES)]
        lacking = [name for name in rows if (of_file.index == name).sum() != 1]
        if lacking:
            raise DataError(f"{path}: {lacking[0]!r} needs one box of {part!r}, as every image does.")
        parts[part] = of_file.loc[list(rows)].to_numpy()
    return np.array(list(rows.values())), parts


def _about_places(table, path, size, patch):
    """The table with the sides of a square about each place x, y."""
    patch = _side(patch, size)
    places = table[["y", "x"]]
    if any(kind.kind not in "iuf" for kind in places.dtypes) or not np.isfinite(places.to_numpy("float64")).all():
        raise DataError(f"{path} needs numbers for x and y, pixels from the left and from the top.")
    places = places.to_numpy("float64")
    outside = ((places < 0) | (places >= size)).any(1)
    if outside.any():
        row = table[outside].iloc[0]
        raise DataError(
            f"{path}: x={row['x']:g}, y={row['y']:g} of {row['file']!r} lies outside the image of {size[0]}x{size[1]} "
            "pixels."
        )
    return table.assign(**dict(zip(SIDES, _squares(places, patch, size).T, strict=True)))


def parts_of_masks(masks, patch=None):
    """Squares about the centre of each object, and about its outermost corner, which are known from its mask.

    Args:
        masks: bool (N, H, W), True on the object.
        patch: side of the squares, pixels, which are moved inside the image; None: a quarter of the image's shorter
            side.
    Returns:
        {"centre": int (N, 4), "corner": int (N, 4)}: top, left, bottom, right. The centre is the mean place of the
        object's pixels, the corner its pixel that is farthest from there.
    Raises:
        UsageError: the patch is larger than the image.
        DataError: an image has no object.
    """
    size = masks.shape[1:3]
    patch = _side(patch, size)
    centres, corners = [], []
    for number, mask in enumerate(masks):
        pixels = np.argwhere(mask)
        if not len(pixels):
            raise DataError(f"The mask of image {number} is empty, so it has no centre and no corner.")
        centre = pixels.mean(0)
        centres.append(centre)
        corners.append(pixels[((pixels - centre) ** 2).sum(1).argmax()])
    return {"centre": _squares(centres, patch, size), "corner": _squares(corners, patch, size)}


def _side(patch, size):
    """The side of a square, or a quarter of the image's shorter side."""
    patch = max(1, min(size) // 4) if patch is None else patch
    if not 1 <= patch <= min(size):
        raise UsageError(f"patch={patch} is not allowed for images of {size[0]}x{size[1]} pixels: 1 to {min(size)}.")
    return patch


def _squares(places, patch, size):
    """int (N, 4): squares about places (row, column), moved inside the image."""
    corners = np.clip(np.floor(np.asarray(places) - patch / 2 + 0.5), 0, np.array(size) - patch).astype(int)
    return np.hstack([corners, corners + patch])
