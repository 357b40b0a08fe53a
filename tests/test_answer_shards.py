from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import kerascnn
from kerascnn.datasets.image_files import ImageFiles
from kerascnn.datasets.preprocessing import Preprocessing
from kerascnn.errors import UsageError
from kerascnn.training.evaluate import images_at_once
from kerascnn.using.answer_shards import evaluate_shard, merged_evaluation, merged_predictions, predict_shard
from kerascnn.using.classifier import Classifier

RESIZED, AT_ONCE = (400, 400), 3  # images of this size are computed three at a time
CLASSES = tuple("abcdefg")


def classifier(seed=0, mean=0.5):
    keras.utils.set_random_seed(seed)
    layers = [keras.Input((9, 9, 3)), keras.layers.Conv2D(4, 3), keras.layers.Flatten()]
    model = keras.Sequential([*layers, keras.layers.Dense(len(CLASSES), "softmax")])
    return Classifier(model, Preprocessing(RESIZED, (9, 9), 3, (mean,) * 3, (0.25,) * 3), CLASSES, "tiny", Path("tiny"))


NETWORK = classifier()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Folders of 1 to 14 images in classes of different sizes, one of them broken where there are more than four."""
    root = tmp_path_factory.mktemp("photos")
    for count in range(1, 15):
        for number in range(count):
            folder = root / str(count) / CLASSES[number * number % 7]
            folder.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 256, (16, 12, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:02}.png")
            if number == 3 and count > 4:
                (folder / "03.png").write_bytes(b"no image")
    return root


@settings(max_examples=10, deadline=None)
@given(count=st.integers(1, 14), shards=st.integers(1, 5), order=st.randoms())
def test_any_shards_in_any_order_give_the_numbers_of_one_job(photos, tmp_path_factory, count, shards, order):
    assert images_at_once(RESIZED) == AT_ONCE
    folder, images = tmp_path_factory.mktemp("parts"), photos / str(count)
    expected = kerascnn.predict(NETWORK, images, top=3)
    measured = kerascnn.evaluate(NETWORK, images)
    paths = {predict_shard: [], evaluate_shard: []}
    for write, written in paths.items():
        blocks = -(-(measured.images if write is evaluate_shard else count) // AT_ONCE)
        for number in range(1, min(shards, blocks) + 1):
            written.append(folder / f"{write.__name__}-{number}.npz")
            options = {"top": 3} if write is predict_shard else {}
            write(NETWORK, images, (number, min(shards, blocks)), written[-1], **options)
        order.shuffle(written)
    rows, broken = merged_predictions(paths[predict_shard])
    assert rows == list(expected.itertuples(index=False, name=None))
    assert broken == expected.attrs["broken"]
    assert len(broken) == (count > 4)
    merged = merged_evaluation(paths[evaluate_shard])
    assert merged.log_probabilities.tobytes() == measured.log_probabilities.tobytes()
    assert merged.to_dict() == measured.to_dict()
    assert merged.predictions.equals(measured.predictions)
    assert merged.confusion.equals(measured.confusion)


def test_a_shard_decodes_its_images_and_those_that_tell_data_apart(tmp_path, monkeypatch):
    folder = tmp_path / "many" / "a"
    folder.mkdir(parents=True)
    for number in range(130):
        Image.new("RGB", (9, 9), (number, 0, 0)).save(folder / f"{number:03}.png")
    decoded, read = [], ImageFiles._read
    monkeypatch.setattr(ImageFiles, "_read", lambda self, number: decoded.append(number) or read(self, number))
    evaluate_shard(NETWORK, folder.parent, (2, 10), tmp_path / "a.npz")
    told = np.unique(np.linspace(0, 129, 64).astype(int)).tolist()
    assert sorted(decoded) == sorted([*told, *range(12, 24), *range(12, 15)])  # the first batch tells the shapes, too


@pytest.mark.parametrize("write", [predict_shard, evaluate_shard])
def test_shards_of_another_job_are_told_apart(photos, tmp_path, write):
    merged = merged_predictions if write is predict_shard else merged_evaluation
    one = tmp_path / "one.npz"
    write(NETWORK, photos / "14", (1, 2), one)
    others = {
        "the network": (classifier(1), photos / "14", {}),
        "the number of images": (NETWORK, photos / "13", {}),
        "the preprocessing" if write is predict_shard else "the images": (classifier(mean=0.4), photos / "14", {}),
    }
    if write is predict_shard:
        others["top"] = (NETWORK, photos / "14", {"top": 2})
    for number, (what, (network, images, options)) in enumerate(others.items()):
        two = tmp_path / f"{number}.npz"
        write(network, images, (2, 2), two, **options)
        with pytest.raises(UsageError, match=f"do not belong to one job. They differ in: .*{what}"):
            merged([one, two])
    with pytest.raises(UsageError, match=r"1 shard is missing: 2/2\. Compute it first, and name all 2"):
        merged([one])
    with pytest.raises(UsageError, match="Shard 1/2 was given twice"):
        merged([one, one])
    with pytest.raises(UsageError, match=r"make [45] blocks of 3, so there can be at most [45] shards"):
        write(NETWORK, photos / "14", (1, 9), tmp_path / "nine.npz")
    assert not (tmp_path / "nine.npz").exists()


def test_a_changed_image_is_told(tmp_path):
    """Names and sizes are the same; only the pixels of one are not."""
    folder = tmp_path / "copy" / "a"
    folder.mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (9, 9)).save(folder / f"{number}.bmp")
    for write in (predict_shard, evaluate_shard):
        write(NETWORK, folder.parent, (1, 2), tmp_path / f"{write.__name__}-1.npz")
    content = bytearray((folder / "3.bmp").read_bytes())
    content[-100:] = bytes([9]) * 100
    (folder / "3.bmp").write_bytes(content)
    for write, merged in ((predict_shard, merged_predictions), (evaluate_shard, merged_evaluation)):
        write(NETWORK, folder.parent, (2, 2), tmp_path / f"{write.__name__}-2.npz")
        with pytest.raises(UsageError, match=r"They differ in: the images or their labels\."):
            merged([tmp_path / f"{write.__name__}-{number}.npz" for number in (1, 2)])
