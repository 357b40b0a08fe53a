"""Near duplicates: copies that were changed a little are found, and other images are not."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from kerascnn.datasets.check import check_data
from kerascnn.datasets.check_lines import lines
from kerascnn.datasets.near_duplicates import near_pairs, thumbnail


def photograph(seed, size=(96, 120)):
    """An image with structure of all sizes, as photographs have."""
    rng = np.random.default_rng(seed)
    layers = [gaussian_filter(rng.normal(size=(*size, 3)), (s, s, 0)) * s for s in (1, 3, 8, 20)]
    image = sum(layers)
    low, high = np.quantile(image, [0.01, 0.99])
    return np.clip(255 * (image - low) / (high - low), 0, 255).astype("uint8")


def encoded(pixels, quality):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg", quality=quality)
    return np.asarray(Image.open(file))


def resized(pixels, factor):
    height, width = pixels.shape[:2]
    return np.asarray(Image.fromarray(pixels).resize((round(factor * width), round(factor * height))))


CHANGES = {
    "re-encoded": lambda pixels: encoded(pixels, 40),
    "halved": lambda pixels: resized(pixels, 0.5),
    "enlarged": lambda pixels: resized(pixels, 1.7),
    "mirrored": lambda pixels: pixels[:, ::-1],
    "cropped": lambda pixels: pixels[4:-1, 2:-5],
    "brighter": lambda pixels: np.minimum(255, pixels * 1.2).astype("uint8"),
    "grey": lambda pixels: np.asarray(Image.fromarray(pixels).convert("L"))[..., None],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_among_others(change):
    images = [photograph(seed) for seed in range(8)]
    images.append(CHANGES[change](images[3]))
    ((first, second, similarity, mirrored),) = near_pairs([thumbnail(image) for image in images])
    assert (first, second) == (3, 8)
    assert 0.8 <= similarity <= 1.0001
    assert mirrored is (change == "mirrored")


def test_other_images_and_too_small_ones_are_not():
    assert near_pairs([thumbnail(photograph(seed)) for seed in range(20)]) == []
    assert near_pairs([]) == []
    assert near_pairs([thumbnail(photograph(0))]) == []
    assert thumbnail(np.zeros((15, 40, 3), "uint8")) is None
    flat = np.zeros((20, 20, 1), "uint8")
    assert near_pairs([thumbnail(flat), thumbnail(flat + 9)]) == []


def test_exact_copies_do_not_hide_a_changed_one():
    image, darker = thumbnail(photograph(3)), thumbnail((photograph(3) * 0.8).astype("uint8"))
    others = [thumbnail(photograph(seed)) for seed in range(3)]
    pairs = near_pairs([*others, *[image] * 3, *[darker] * 3])
    between = {pair[:2] for pair in pairs if pair[0] < 6 <= pair[1]}
    assert between == {(3, 6), (3, 7), (3, 8), (4, 6), (5, 6)}
    assert {pair[:2] for pair in pairs} - between == {(3, 4), (3, 5), (6, 7), (6, 8)}


@pytest.fixture
def folder(tmp_path):
    """Six images in two classes and two splits; one is in test, mirrored, and one in the other class, cropped."""
    places = {"train/cat": (0, 1, 2), "train/dog": (3, 4, 5), "test/cat": (6,), "test/dog": (7,)}
    for place, seeds in places.items():
        (tmp_path / "data" / place).mkdir(parents=True)
        for seed in seeds:
            Image.fromarray(photograph(seed)).save(tmp_path / "data" / place / f"{seed}.png")
    Image.fromarray(photograph(0)[:, ::-1]).save(tmp_path / "data" / "test" / "cat" / "mirror.png")
    Image.fromarray(photograph(1)[3:, 2:]).save(tmp_path / "data" / "train" / "dog" / "crop.png")
    return tmp_path / "data"


def test_a_data_set_is_told_its_near_duplicates(folder):
    report = check_data(folder, validation=0)
    pairs = {tuple(pair["images"]): pair for pair in report.near}
    mirrored = pairs.pop(("train/cat/0.png", "test/cat/mirror.png"))
    assert mirrored["mirrored"] is True
    assert mirrored["splits"] == ["train", "test"]
    cropped = pairs.pop(("train/cat/1.png", "train/dog/crop.png"))
    assert cropped["classes"] == ["cat", "dog"]
    assert pairs == {}
    assert any(line.startswith("1 pair of nearly equal images is in two splits") for line in report.problems)
    assert "1 pair of nearly equal images has different classes." in report.problems
    text = "\n".join(lines(report))
    assert "Near duplicates: 2 pairs" in text
    assert ", mirrored: train/cat/0.png and test/cat/mirror.png" in text
    assert report.duplicates == ()


def test_they_are_found_however_small_training_makes_the_images(folder):
    assert len(check_data(folder, validation=0, image_size=8).near) == 2


@pytest.mark.parametrize("as_files", [True, False])
def test_images_that_are_too_small_are_not_searched(tmp_path, as_files):
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), "uint8")
    if as_files:
        for number, image in enumerate(images):
            (tmp_path / "data" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(tmp_path / "data" / "ab"[number % 2] / f"{number}.png")
    else:
        np.savez(tmp_path / "data.npz", x_train=images, y_train=np.arange(12) % 2)
    report = check_data(tmp_path / ("data" if as_files else "data.npz"))
    assert report.near is None
    why = "Near duplicates were not searched for, because no image has 16 pixels on each side"
    assert why in lines(report)


def test_exact_duplicates_are_not_told_twice(folder):
    Image.fromarray(photograph(2)).save(folder / "test" / "cat" / "again.bmp")
    report = check_data(folder, validation=0)
    assert len(report.duplicates) == 1
    assert len(report.near) == 2


def test_the_pairs_are_drawn(folder, call, tmp_path):
    code, out, _ = call("data", "check", str(folder), "--pairs", "pairs.png")
    assert code == 0
    assert "2 of 2 pairs are drawn in pairs.png" in out
    with Image.open(tmp_path / "pairs.png") as picture:
        assert picture.width > 300
    code, _, err = call("data", "check", str(folder), "--pairs", "pairs.pdf")
    assert code == 2
    assert "--pairs pairs.pdf is not the name of a .png file." in err
