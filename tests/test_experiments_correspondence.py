"""Correspondence: by pencil on signs, and on a network that sees one part alike in all images."""

import itertools

import keras
import numpy as np
import pandas
import pytest
from keras import layers

from kerascnn import datasets
from kerascnn.errors import DataError, UsageError
from kerascnn.experiments.correspondence import (
    COLUMNS,
    RANDOM,
    _findings,
    correspondence,
    hidden,
    jackknife,
    pair_distances,
)
from kerascnn.experiments.parts import parts_of_masks, read_boxes


def test_distances_of_signs_by_pencil():
    signs = np.array([[1, 1, -1, 0], [1, -1, -1, 0], [-1, -1, 1, 1]], "int8")
    np.testing.assert_allclose(pair_distances(signs), [[0, 0.25, 1], [0.25, 0, 0.75], [1, 0.75, 0]])


def test_more_signs_than_are_compared_at_once():
    signs = np.sign(np.random.default_rng(2).normal(size=(3, 2 * COLUMNS + 5))).astype("int8")
    signs[:, ::7] = 0
    np.testing.assert_allclose(pair_distances(signs), (signs[:, None] != signs[None]).mean(-1), atol=1e-12)


def test_identical_differences_are_0_and_independent_signs_a_half():
    rng = np.random.default_rng(0)
    one = np.sign(rng.normal(size=(1, 4000))).astype("int8")
    assert jackknife(pair_distances(np.repeat(one, 5, 0))) == (0, 0)
    mean, error = jackknife(pair_distances(np.sign(rng.normal(size=(12, 4000))).astype("int8")))
    assert mean == pytest.approx(0.5, abs=0.01)
    assert 0 < error < 0.01


def test_the_jackknife_is_leaving_out_each_image():
    between = pair_distances(np.sign(np.random.default_rng(1).normal(size=(6, 9))).astype("int8"))

    def mean(kept):
        return np.mean([between[i, j] for i, j in itertools.permutations(kept, 2)])

    left_out = np.array([mean([i for i in range(6) if i != out]) for out in range(6)])
    expected = np.sqrt(5 / 6 * ((left_out - left_out.mean()) ** 2).sum())
    assert jackknife(between) == pytest.approx((mean(range(6)), expected))


@pytest.fixture(scope="module")
def parts():
    """Eight noisy images with a bright and a dark spot each, somewhere; a network of random filters over places."""
    rng = np.random.default_rng(3)
    images = rng.normal(0, 0.2, (8, 12, 12, 1)).astype("float32")
    boxes = {"bright": [], "dark": []}
    for image in images:
        for (name, value), left in zip(
            (("bright", 3.0), ("dark", -3.0)), (rng.integers(0, 4), rng.integers(6, 9)), strict=True
        ):
            top = rng.integers(0, 9)
            image[top : top + 3, left : left + 3] += value
            boxes[name].append((top, left, top + 3, left + 3))
    inputs = keras.Input((12, 12, 1))
    x = layers.Conv2D(64, 3, name="conv")(inputs)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(x), name="spots")
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    return model, images, {name: np.array(b) for name, b in boxes.items()}


def test_parts_that_are_alike_are_below_random_places(parts):
    """A linear network of means takes the same from every image for a bright spot, wherever it is: signs all agree."""
    model, images, boxes = parts
    result = correspondence(model, images, boxes, ["conv", "mean"])
    table = result.table.set_index(["layer", "part"])
    for part in boxes:
        assert table["distance"]["mean", part] < 0.2
        assert table["below_random"]["mean", part] > 2 * table["below_error"]["mean", part]
        assert table["distance"]["conv", part] < table["distance"]["conv", RANDOM] + 0.1
    assert len(table) == 2 * 3
    assert any("mean, bright: it is treated alike" in said for said in result.findings)


def test_distances_are_those_of_the_definition(parts):
    model, images, boxes = parts
    table = correspondence(model, images, boxes, "mean", fill=0.5).table.set_index("part")
    features = keras.Model(model.inputs, model.get_layer("mean").output)
    differences = features.predict(images, verbose=0) - features.predict(hidden(images, boxes["dark"], 0.5), verbose=0)
    pairs = [np.mean(np.sign(a) != np.sign(b)) for a, b in itertools.combinations(differences, 2)]
    assert table["distance"]["dark"] == pytest.approx(np.mean(pairs), abs=0.004)  # a difference of about 0 has any sign
    whole, one_by_one = (correspondence(model, images, boxes, "conv", fill=0.5, batch_size=n) for n in (64, 1))
    for name, between in whole.arrays.items():
        np.testing.assert_allclose(one_by_one.arrays[name], between, atol=0.004)


def test_a_part_is_compared_with_random_places_of_its_own_sizes(parts):
    """There is one place for a part that is as large as the image: random places treat it exactly as it is treated."""
    model, images, boxes = parts
    whole = np.tile([0, 0, 12, 12], (len(images), 1))
    table = correspondence(model, images, {"whole": whole, "bright": boxes["bright"]}, "mean", fill=0.5).table
    below = table.set_index("part")["below_random"]
    assert below["whole"] == 0
    assert below["bright"] != 0


@pytest.mark.parametrize(
    ("images", "below", "verdict"),
    [
        (5, 0.28, "it is treated alike:"),  # Student's t with 4 degrees of freedom: 2.78 standard errors
        (5, 0.27, "it is treated not measurably more or less alike than random places:"),
        (5, -0.28, "it is treated less alike than random places:"),
        (2, 0.9, "it is not known whether it is treated alike, as three images are needed:"),
    ],
)
def test_verdicts_by_pencil(images, below, verdict):
    columns = ["part", "layer", "distance", "error", "below_random", "below_error", "images"]
    error = 0.1 if images > 2 else float("nan")
    rows = [("nose", "fc1", 0.4, 0.1, below, error, images), (RANDOM, "fc1", 0.5, 0.1, 0.0, 0.0, images)]
    (said,) = _findings(pandas.DataFrame(rows, columns=columns))
    assert said.startswith(f"fc1, nose: {verdict} 0.400 +- 0.100, {below:.3f} +- ")


def test_a_part_is_hidden_and_nothing_else(parts):
    _, images, boxes = parts
    covered = hidden(images, boxes["bright"])
    top, left, bottom, right = boxes["bright"][0]
    np.testing.assert_allclose(covered[0, top:bottom, left:right], images[0].mean(), atol=1e-6)
    assert (covered[0] != images[0]).sum() == 9


def test_class_probabilities_are_no_features(parts):
    model, images, boxes = parts
    with pytest.raises(UsageError, match="gives the class probabilities, which are not features"):
        correspondence(model, images, boxes, [model.layers[-1].name])
    with pytest.raises(UsageError, match="repeats=0 is not allowed"):
        correspondence(model, images, boxes, "mean", repeats=0)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ({"eye": np.zeros((3, 4), int)}, r"boxes of shape \(3, 4\)"),
        ({"eye": np.tile([0, 0, 13, 2], (8, 1))}, r"image 0 is the box \[0, 0, 13, 2\].*beyond the image of 12x12"),
        ({"eye": np.tile([4, 0, 4, 2], (8, 1))}, "empty or reaches"),
        ({"eye": np.zeros((8, 4))}, "dtype float64"),
        ({}, "name one or more parts"),
    ],
)
def test_boxes_that_are_not_possible(parts, boxes, message):
    model, images, _ = parts
    with pytest.raises(UsageError, match=message):
        correspondence(model, images, boxes, "mean")


def test_boxes_from_a_table(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text("file,part,top,left,bottom,right\nb.png,eye,1,2,3,4\ndogs/a.png,eye,5,6,7,8\nb.png,nose,0,0,2,2\n")
    files = ("dogs/a.png", "dogs/b.png", "cats/a.png")
    with pytest.raises(DataError, match=r"'dogs/a.png' needs one box of 'nose'"):
        read_boxes(path, files, (12, 16))
    path.write_text(path.read_text() + "dogs/a.png,nose,3,3,4,4\n")
    rows, boxes = read_boxes(path, files, (12, 16))
    assert rows.tolist() == [1, 0]
    assert {part: box.tolist() for part, box in boxes.items()} == {
        "eye": [[1, 2, 3, 4], [5, 6, 7, 8]],
        "nose": [[0, 0, 2, 2], [3, 3, 4, 4]],
    }
    path.write_text("file,part,top,left,bottom,right\na.png,eye,1,2,3,4\n")
    with pytest.raises(DataError, match=r"'a.png' names 2 images"):
        read_boxes(path, files, (12, 16))
    path.write_text("file,part,top,left,bottom\na.png,eye,1,2,3\n")
    with pytest.raises(DataError, match="needs the columns"):
        read_boxes(path, files, (12, 16))
    for content in (b"", b"file,part\n\xff\xfe,eye\n", b'a,b\n"c\n'):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"boxes\.csv"):
            read_boxes(path, files, (12, 16))


def test_squares_about_places_from_a_table(tmp_path):
    """Of 3 pixels about x 5, y 4: columns 4 to 6 and rows 3 to 5. Near a corner the square is moved inside."""
    path = tmp_path / "places.csv"
    path.write_text("file,part,x,y\na.png,eye,5,4\nb.png,eye,0,11\n")
    files = ("a.png", "b.png")
    rows, boxes = read_boxes(path, files, (12, 16), 3)
    assert rows.tolist() == [0, 1]
    assert boxes["eye"].tolist() == [[3, 4, 6, 7], [9, 0, 12, 3]]
    assert (
        read_boxes(path, files, (12, 16))[1]["eye"].tolist() == read_boxes(path, files, (12, 16), 3)[1]["eye"].tolist()
    )
    with pytest.raises(UsageError, match="patch=13 is not allowed for images of 12x16 pixels: 1 to 12"):
        read_boxes(path, files, (12, 16), 13)
    with pytest.raises(DataError, match=r"x=0, y=11 of 'b\.png' lies outside the image of 11x16 pixels"):
        read_boxes(path, files, (11, 16))
    path.write_text("file,part,x,y\na.png,eye,here,4\n")
    with pytest.raises(DataError, match="needs numbers for x and y"):
        read_boxes(path, files, (12, 16))


def test_parts_of_masks_by_pencil():
    """A right triangle whose tip is in row 2, column 9, and a dot in the corner of the image."""
    masks = np.zeros((2, 12, 12), bool)
    for row in range(3):
        masks[0, 2 + row, 3 : 10 - 2 * row] = True
    masks[1, 0, 11] = True
    parts = parts_of_masks(masks, 3)
    centre = np.argwhere(masks[0]).mean(0)
    np.testing.assert_allclose(centre, [41 / 15, 79 / 15])  # of rows of 7, 5 and 3 pixels
    assert parts["corner"].tolist() == [[1, 8, 4, 11], [0, 9, 3, 12]]
    assert parts["centre"].tolist() == [[1, 4, 4, 7], [0, 9, 3, 12]]
    with pytest.raises(DataError, match="The mask of image 1 is empty"):
        parts_of_masks(masks * np.array([True, False])[:, None, None])
    with pytest.raises(UsageError, match="patch=20 is not allowed for images of 12x12 pixels"):
        parts_of_masks(masks, 20)


def test_the_corner_of_a_square_is_one_of_its_corners():
    data = datasets.load("shapes", image_size=48, count=80, validation=0, test=0)
    rows = np.flatnonzero(np.array(data.class_names)[data.train.labels] == "square")
    masks = data.train.masks[rows]
    parts = parts_of_masks(masks, 1)
    for mask, centre, corner in zip(masks, parts["centre"], parts["corner"], strict=True):
        reach = np.hypot(*(corner[:2] - centre[:2]))
        assert reach == pytest.approx(np.sqrt(mask.sum() / 2), rel=0.12)  # half the diagonal of a square of that area
