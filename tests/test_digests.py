"""Data that changed between the beginning of a run and its resumption: every image counts, and the change is named."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from kerascnn import datasets, runs
from kerascnn.datasets.resize import ResizedImages, resize_batch
from kerascnn.errors import DataError
from kerascnn.training import digests


@pytest.fixture
def folder(tmp_path):
    """Nine images of noise in each of two classes."""
    rng = np.random.default_rng(0)
    for number in range(18):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), "uint8")).save(path)
    return tmp_path / "photos"


def load(folder, on_disk=False):
    return datasets.load(folder, image_size=8, validation=4, test=4, memory_limit=0 if on_disk else None)


def swap(a, b):
    shutil.move(a, "other")
    shutil.move(b, a)
    shutil.move("other", b)


def brighten(path):
    with Image.open(path) as image:
        Image.fromarray(np.asarray(image) // 2 + 100).save(path)


CHANGES = {
    "swapped": (
        lambda root: swap(root / "a" / "0.png", root / "b" / "1.png"),
        r"2 files with other pixels, the first a/0",
    ),
    "brighter": (lambda root: brighten(root / "b" / "7.png"), r"1 file with other pixels, the first b/7\.png"),
    "new": (lambda root: shutil.copy(root / "a" / "0.png", root / "a" / "90.png"), r"1 file new, the first a/90\.png"),
    "gone": (lambda root: (root / "a" / "4.png").unlink(), r"1 file gone"),
    "moved": (
        lambda root: shutil.move(root / "a" / "0.png", root / "b" / "0.png"),
        r"1 file new, the first b/0\.png.*1 file gone",
    ),
    "renamed": (lambda root: (root / "a").rename(root / "c"), r"9 files new, the first c/.*; 9 files gone"),
}


@pytest.mark.parametrize("on_disk", [False, True], ids=["in memory", "on disk"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_one_file_is_named(change, on_disk, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = runs.Run(tmp_path / "run")
    digests.write(run, load(folder, on_disk))
    digests.check_same_images(run, load(folder, on_disk))
    act, message = CHANGES[change]
    act(folder)
    with pytest.raises(DataError, match=f"is not what the run .* was trained on.*What changed: .*{message}"):
        digests.check_same_images(run, load(folder, on_disk))


def test_times_are_compared_where_files_are_too_many_to_read(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "MOST_BYTES", 100)
    run, path = runs.Run(tmp_path / "run"), folder / "a" / "2.png"
    digests.write(run, load(folder, on_disk=True))
    digests.check_same_images(run, load(folder, on_disk=True))
    os.utime(path, ns=(1, 1))
    with pytest.raises(DataError, match=r"1 file with other pixels, the first a/2\.png"):
        digests.check_same_images(run, load(folder, on_disk=True))


def test_images_that_come_into_memory_or_leave_it_are_the_same(folder, tmp_path):
    for before in (False, True):
        run = runs.Run(tmp_path / f"run{before}")
        digests.write(run, load(folder, before))
        digests.check_same_images(run, load(folder, not before))
    brighten(folder / "a" / "0.png")
    for before in (False, True):
        with pytest.raises(DataError, match="1 file with other pixels"):
            digests.check_same_images(runs.Run(tmp_path / f"run{before}"), load(folder, not before))


def arrays(images, labels, validation=None):
    some = datasets.Split(images[:5], labels[:5])
    return datasets.ImageData("x", "x.npz", ("a", "b"), datasets.Split(images, labels), validation or some, some)


def test_images_in_one_array_are_told_by_their_places(tmp_path):
    rng = np.random.default_rng(1)
    images, labels = rng.integers(0, 256, (600, 6, 6, 1), "uint8"), np.arange(600) % 2
    run = runs.Run(tmp_path / "run")
    digests.write(run, arrays(images, labels))
    moved, swapped = np.concatenate([images[:1], images[:0:-1]]), labels.copy()
    swapped[[10, 20, 31]] = 1 - swapped[[10, 20, 31]]
    brighter = datasets.Split(images[:5] // 2 + 60, labels[:5])
    for data, message in [
        (arrays(moved, labels), r"the pixels of 598 of 600 train images, the first number 2"),
        (arrays(images, swapped), r"the labels of 3 of 600 train images, the first number 11"),
        (arrays(images, labels, brighter), r"the pixels of 5 of 5 validation images"),
        (arrays(images[:599], labels[:599]), r"599 train images, there were 600"),
        (arrays(images, labels).replace(test=None), r"its splits were train, validation, test, now train, validation"),
    ]:
        with pytest.raises(DataError, match=message):
            digests.check_same_images(run, data)


def test_arrays_that_are_resized_on_demand_are_told_by_what_they_are_made_from(tmp_path):
    images, labels = np.random.default_rng(2).integers(0, 256, (40, 6, 6, 1), "uint8"), np.arange(40) % 2
    run = runs.Run(tmp_path / "run")
    digests.write(run, arrays(images, labels).replace(train=datasets.Split(ResizedImages(images, (9, 9), 3), labels)))
    other = images.copy()
    other[17] += 1
    with pytest.raises(DataError, match=r"the pixels of 1 of 40 train images, the first number 18"):
        digests.check_same_images(
            run, arrays(images, labels).replace(train=datasets.Split(ResizedImages(other, (9, 9), 3), labels))
        )


def test_arrays_that_come_into_memory_at_their_size_or_leave_it_are_the_same(tmp_path):
    images, labels = np.random.default_rng(2).integers(0, 256, (40, 6, 6, 1), "uint8"), np.arange(40) % 2
    some = arrays(images, labels)
    on_demand = some.replace(train=datasets.Split(ResizedImages(images, (9, 9), 3), labels))
    at_once = some.replace(train=datasets.Split(resize_batch(images, (9, 9), 3), labels))
    for number, (before, now) in enumerate(((on_demand, at_once), (at_once, on_demand))):
        run = runs.Run(tmp_path / f"run{number}")
        digests.write(run, before)
        digests.check_same_images(run, now)


def test_a_run_without_digests_is_left_to_the_other_check(folder, tmp_path):
    digests.check_same_images(runs.Run(tmp_path), load(folder))
