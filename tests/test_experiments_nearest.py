"""Nearest images: by pencil, and a full sort by hand."""

import keras
import numpy as np
import pytest
from keras import layers

from kerascnn.errors import UsageError
from kerascnn.experiments.nearest import nearest


@pytest.fixture(scope="module")
def colours():
    """A network whose features are the means of the two colours."""
    inputs = keras.Input((4, 4, 2))
    means = layers.GlobalAveragePooling2D(name="means")(inputs)
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(means), name="colours")
    values = np.array([[1, 0], [4, 0], [0, 1], [0, 3], [2, 2]], "float32")
    return model, np.broadcast_to(values[:, None, None], (5, 4, 4, 2)).copy()


def test_by_pencil(colours):
    model, images = colours
    queries = images[[1, 2]] * np.float32(0.5)  # (2, 0) and (0, 0.5)
    result = nearest(model, queries, images, "means", query_labels=[0, 1], labels=[0, 0, 1, 1, 1], top=2, batch_size=2)
    table = result.table
    assert table["image"].tolist() == [0, 1, 2, 0]
    np.testing.assert_allclose(table["distance"], [1, 2, 0.5, np.sqrt(1.25)], rtol=1e-6)
    assert table["same"].tolist() == [True, True, True, False]
    assert result.findings[0].startswith("means: 75.0% of the 2 nearest images are of the image's own class")
    assert "of any images 50.0% are." in result.findings[0]


def test_the_cosine_does_not_know_lengths(colours):
    model, images = colours
    table = nearest(model, images[:1], images, "means", top=5, metric="cosine").table
    assert table["image"].tolist() == [0, 1, 4, 2, 3]
    np.testing.assert_allclose(table["distance"], [0, 0, 1 - np.sqrt(0.5), 1, 1], atol=1e-6)


def test_files_and_figure(colours, tmp_path):
    model, images = colours
    names = ["a", "b", "c", "d", "e"]
    options = {"query_labels": [0] * 5, "labels": [0, 0, 1, 1, 1], "class_names": ["red", "green"]}
    result = nearest(model, images, images, "means", top=3, files=names, **options)
    assert result.save(tmp_path).exists()
    figure = result.figure()
    assert len(figure.axes) == 5 * 4
    assert figure.axes[0].get_title() == "red"
    many = nearest(model, images[[0, 1] * 5], images, "means", top=1, query_labels=[0, 1] * 5, labels=[0] * 5)
    titles = [axes.get_title() for axes in many.figure().axes[::2]]
    assert titles == ["0", "0", "0", "0", "1"]  # queries 0, 2, 4, 6 and 9
    assert (tmp_path / "nearest.csv").read_text().startswith("query,rank,image,distance,file,query_class,class,same")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "manhattan", "top": 2}, "Unknown metric 'manhattan'"),
        ({"top": 6}, "top=6 is not allowed: it must be 1 to 5"),
        ({"labels": [0] * 5}, "go together"),
        ({"labels": [0] * 4, "query_labels": [0] * 5}, "for each of the 5 images"),
        ({"layer": "maens"}, "Did you mean"),
    ],
)
def test_bad_input(colours, options, message):
    model, images = colours
    with pytest.raises(UsageError, match=message):
        nearest(model, images, images, **{"layer": "means", **options})


def test_a_top_beyond_the_images_is_refused_before_any_is_read(colours):
    class Unread(list):
        def __getitem__(self, part):
            raise AssertionError(f"images {part} were read")

    model, images = colours
    with pytest.raises(UsageError, match="top=6 is not allowed"):
        nearest(model, images, Unread(range(5)), "means", top=6)
