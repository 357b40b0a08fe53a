import copy
import itertools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from scan_networks import network, whole_images

import kerascnn
from kerascnn import dataset_scan, datasets
from kerascnn.dataset_scan.leaders import Leaders
from kerascnn.dataset_scan.statistics import Statistics
from kerascnn.dataset_scan.sums import FAN, Sums
from kerascnn.errors import DataError, UsageError
from kerascnn.shards import parse_shard, shard_range


def added(numbers, blocks):
    sums = Sums((3, 2))
    for number in numbers:
        rows, values = blocks[number]
        sums.add(number, rows, *values)
    return sums


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 700), cuts=st.sets(st.integers(1, 699), max_size=9))
def test_sums_of_consecutive_parts_are_those_of_one_pass_to_the_last_bit(seed, count, cuts):
    rng = np.random.default_rng(seed)
    blocks = []
    for _ in range(count):
        rows = np.flatnonzero(rng.random(3) < 0.6)
        blocks.append((rows, rng.normal(size=(2, len(rows), 2)) * 10.0 ** rng.integers(-9, 9, (2, len(rows), 1))))
    expected = added(range(count), blocks)
    edges = [0, *sorted(cut for cut in cuts if cut < count), count]
    parts = [added(range(*pair), blocks) for pair in itertools.pairwise(edges)]
    merged = Sums((3, 2))
    for part in parts:
        merged.extend(Sums.from_arrays(*part.to_arrays()))
    for ours, theirs in zip(merged.to_arrays(), expected.to_arrays(), strict=True):
        assert ours.tobytes() == theirs.tobytes()
    assert len(expected.parts) <= 4  # 16**3 blocks and more in the memory of a few
    dense = np.zeros((count, 2, 3, 2))
    for each, (rows, values) in zip(dense, blocks, strict=True):
        each[:, rows] = values
    scale = np.abs(dense).sum(0)
    assert (np.abs(merged.totals() - dense.sum(0)) <= 1e-13 * scale).all()


def test_sixteen_blocks_are_a_group_whose_sum_starts_at_its_first():
    """1 + 2**-53 is 1 in float64, so that the order of the additions shows: (1 + 2**-53) + 2**-53 is not 1 + 2**-52."""
    blocks = [(np.array([0]), np.full((2, 1, 2), 2.0**-53)) for _ in range(2 * FAN)]
    blocks[0] = (np.array([0]), np.ones((2, 1, 2)))
    sums = added(range(2 * FAN), blocks)
    assert (sums.totals()[:, 0] == 1 + FAN * 2.0**-53).all()  # the second group's sum is large enough to count
    assert [(part.level, part.number, part.members) for part in sums.parts] == [(2, 0, 2)]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6), k=st.integers(1, 7))
def test_leaders_of_parts_are_those_of_all(seed, sizes, k):
    rng = np.random.default_rng(seed)
    maps = rng.integers(-1, 2, (sum(sizes), 6)).astype("float32") * np.float32(rng.choice([-0.0, 1.0]))
    labels = rng.integers(0, 3, sum(sizes))

    def entered(ranges):
        leaders = Leaders(1, k)
        for first, stop in ranges:
            rows, channels = leaders.candidates(maps[first:stop].max(1)[:, None])
            if len(rows):
                leaders.add(rows, channels, maps[first:stop][rows], first, labels[first:stop])
        return leaders

    edges = np.cumsum([0, *sizes]).tolist()
    ranges = list(itertools.pairwise(edges))
    expected, merged = entered(ranges), entered(ranges[:1])
    for each in ranges[1:]:
        merged.extend(entered([each]))
    for name in Leaders.FIELDS:
        assert getattr(merged, name).tobytes() == getattr(expected, name).tobytes()


def rough(count, seed):
    """Images on which every sum rounds, of sizes that widen the histograms."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 8, 8, 3)).astype("float32") * np.float32(10) ** rng.integers(-6, 6, (count, 1, 1, 1))


def rough_network(seed):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 3))
    x = layers.BatchNormalization(name="norm1")(layers.Conv2D(4, 3, padding="same", name="conv1")(inputs))
    x = layers.ReLU(name="relu1")(x)
    return keras.Model(inputs, layers.Dense(3, name="scores")(layers.Flatten(name="flat")(x)), name="rough")


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 60),
    batch_size=st.sampled_from([1, 3, 7]),  # each is compiled once
    shards=st.integers(1, 9),
    as_bytes=st.booleans(),
    order=st.randoms(),
)
def test_any_shards_in_any_order_give_the_bytes_of_one_scan(
    tmp_path_factory, seed, count, batch_size, shards, as_bytes, order
):
    folder, model = tmp_path_factory.mktemp("scan"), NETWORK
    images = rough(count, seed)
    if as_bytes:
        images = np.random.default_rng(seed).integers(0, 256, images.shape, np.uint8)
    labels = np.random.default_rng(seed).integers(0, 3, count)
    options = {"top": min(count, 3), "labels": labels, "batch_size": batch_size}
    options |= {"preprocessing": lambda pixels: pixels.astype("float32")} if as_bytes else {}
    chosen = ["conv1", "relu1", "scores"]
    expected = kerascnn.scan(model, images, chosen, out=folder / "one.npz", **options)
    shards = min(shards, -(-count // batch_size))
    paths, parts = [], []
    for number in range(1, shards + 1):
        paths.append(folder / f"{number}.npz")
        parts.append(kerascnn.scan(model, images, chosen, shard=(number, shards), out=paths[-1], **options))
    order.shuffle(paths)
    order.shuffle(parts)
    kerascnn.merge(paths, out=folder / "files.npz")
    kerascnn.merge(parts).save(folder / "results.npz")
    assert (folder / "files.npz").read_bytes() == (folder / "one.npz").read_bytes()
    assert (folder / "results.npz").read_bytes() == (folder / "one.npz").read_bytes()
    again = dataset_scan.load(folder / "files.npz")
    assert again.stats("conv1", by_class=True).equals(expected.stats("conv1", by_class=True))


NETWORK = rough_network(0)


class Counted:
    """Images that count how often each is read."""

    dtype, ndim = np.dtype("uint8"), 4

    def __init__(self, images):
        self.images, self.shape, self.reads = images, images.shape, np.zeros(len(images), int)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.reads[index] += 1
        return self.images[index]

    def decode(self):
        raise AssertionError("all images were read")


def test_a_shard_reads_its_images_once_and_those_that_tell_data_apart():
    images = Counted(np.random.default_rng(0).integers(0, 256, (640, 8, 8, 3), np.uint8))
    data = datasets.ImageData("c", "here", ("a",), datasets.Split(images, np.zeros(640, int)))
    result = kerascnn.scan(
        network(), data, "conv1", batch_size=16, shard=(2, 4), preprocessing=lambda pixels: pixels.astype("float32")
    )
    told = np.unique(np.linspace(0, 639, 64).astype(int))
    expected = np.zeros(640, int)
    expected[told] += 1
    expected[0] += 1  # whose activations are the centre from which squares are taken
    expected[160:320] += 1
    np.testing.assert_array_equal(images.reads, expected)
    assert result.patches("conv1", 0).shape == (9, 3, 3, 3)
    assert repr(result) == "ScanResult(small: conv1; shard 2/4 of 640 images)"


def test_large_patches_are_compressed_once(tmp_path):
    """What was WebP in a shard's file is the same bytes in the merged one."""
    inputs = keras.Input((80, 80, 3))
    model = keras.Model(inputs, layers.Conv2D(2, 70, name="wide")(inputs))
    images = np.random.default_rng(0).integers(0, 256, (6, 80, 80, 3), np.uint8)
    options = {"top": 2, "batch_size": 2, "preprocessing": lambda pixels: pixels.astype("float32")}
    kerascnn.scan(model, images, "wide", out=tmp_path / "one.npz", **options)
    paths = [tmp_path / f"{number}.npz" for number in (1, 2, 3)]
    for number, path in enumerate(paths, 1):
        kerascnn.scan(model, images, "wide", out=path, shard=(number, 3), **options)
    merged = kerascnn.merge(paths[::-1], out=tmp_path / "merged.npz")
    assert (tmp_path / "merged.npz").read_bytes() == (tmp_path / "one.npz").read_bytes()
    pixels = merged.patches("wide", 0)
    np.testing.assert_array_equal(pixels, dataset_scan.load(tmp_path / "one.npz").patches("wide", 0))
    assert np.abs(pixels[0].astype(int) - images[merged.top("wide")["image"][0]][:70, :70]).mean() < 90


def test_a_killed_shard_goes_on_and_ends_with_the_same(tmp_path):
    images, labels = whole_images(60, 3)
    options = {"labels": labels, "batch_size": 4, "top": 3, "shard": (2, 3)}
    expected = kerascnn.scan(network(), images, "conv1", out=tmp_path / "a.npz", **options)

    def stop(done, count):
        assert count == 20
        if done == 12:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        kerascnn.scan(network(), images, "conv1", out=tmp_path / "b.npz", every=0, say=stop, **options)
    seen = []
    kerascnn.scan(
        network(), images, "conv1", out=tmp_path / "b.npz", say=lambda done, count: seen.append(done), **options
    )
    assert seen == [12, 16, 20]
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert expected.top("conv1")["image"].between(20, 39).all()


@pytest.fixture(scope="module")
def four():
    """Four shards of a scan, by number, and its arguments."""
    images, labels = whole_images(64, 1)
    options = {"labels": labels, "batch_size": 4, "top": 2}
    shards = {n: kerascnn.scan(network(1), images, "conv1", shard=(n, 4), **options) for n in range(1, 5)}
    return shards, images, options


def test_errors_name_what_is_wrong(four, tmp_path):
    shards, images, options = four
    one, two, three, last = (shards[number] for number in range(1, 5))
    with pytest.raises(UsageError, match=r"1 shard is missing: 3/4\. Compute it first, and name all 4"):
        kerascnn.merge([last, one, two])
    with pytest.raises(UsageError, match=r"2 shards are missing: 1/4, 3/4\. Compute them"):
        kerascnn.merge([last, two])
    with pytest.raises(
        UsageError, match=r"Shard 2/4 was given twice: Shard number 2 of the list and Shard number 4 of"
    ):
        kerascnn.merge([one, two, three, two])
    with pytest.raises(UsageError, match="Shard number 1 of the list is not a shard but a whole result"):
        kerascnn.merge([kerascnn.scan(network(1), images, "conv1", **options)])
    half = kerascnn.scan(network(1), images, "conv1", shard=(2, 2), **options)
    with pytest.raises(
        UsageError, match=r"Shard number 2 of the list is shard 2/2, but Shard number 1 .* one of 4 shards"
    ):
        kerascnn.merge([one, half])
    with pytest.raises(UsageError, match=r"3 shards are missing: 2/4, 3/4, 4/4\."):
        kerascnn.merge(one)
    with pytest.raises(UsageError, match=r"There is no scan nothing\.npz"):
        kerascnn.merge("nothing.npz")
    with pytest.raises(UsageError, match="No shard was named"):
        kerascnn.merge([])
    with pytest.raises(UsageError, match="There is no scan"):
        kerascnn.merge([tmp_path / "nothing.npz"])
    (tmp_path / "torn.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match="torn, or no scan"):
        kerascnn.merge([tmp_path / "torn.npz"])
    (tmp_path / "there.npz").touch()
    with pytest.raises(UsageError, match=r"there\.npz already exists"):
        kerascnn.merge([one, two, three, last], out=tmp_path / "there.npz")


@pytest.mark.parametrize(
    ("what", "changed"),
    [
        ("the network's weights", {"model": 2}),
        ("the images or their labels", {"images": 3}),
        ("top", {"top": 1}),
        ("batch_size", {"batch_size": 8}),
        ("whether patches were kept", {"patches": False}),
        (r"the layers\.$", {"layers": "conv2"}),
    ],
)
def test_shards_of_another_scan_are_told_apart(four, what, changed):
    shards, images, options = four
    if "images" in changed:
        images = images + np.float32(changed.pop("images"))
    model = network(changed.pop("model", 1))
    other = kerascnn.scan(model, images, changed.pop("layers", "conv1"), shard=(2, 4), **options | changed)
    with pytest.raises(UsageError, match=f"do not belong to one scan. They differ in: {what}"):
        kerascnn.merge([shards[1], other, shards[3], shards[4]])


def test_shards_of_other_versions_are_told_apart(four):
    shards, _, _ = four
    other = dataset_scan.result.ScanResult(copy.deepcopy(shards[2]._record))
    other.manifest["computed_with"]["keras"] = "3.0.0"
    with pytest.raises(UsageError, match=r"They differ in: the versions of Keras and its backend\."):
        kerascnn.merge([shards[1], other, shards[3], shards[4]])


def test_layers_of_a_shard_in_one_file_are_of_the_same_images(tmp_path):
    """Blocks of 3 and of 8 part 20 images at different places."""
    images, labels = whole_images(20)
    for layer, batch_size in (("conv1", 3), ("conv2", 8), ("softmax", 8)):
        options = {"labels": labels, "top": 2, "shard": (1, 2), "batch_size": batch_size}
        kerascnn.scan(network(), images, layer, out=tmp_path / "a.npz", **options)
    result = dataset_scan.load(tmp_path / "a.npz")
    assert (result.layers, result.manifest["batch_size"]) == (["conv2", "softmax"], 8)


@pytest.mark.parametrize("text", ["5/4", "0/4", "4/0", "1", "a/b", "1/", "-1/4", "1.5/4", ""])
def test_what_is_no_shard(text):
    with pytest.raises(UsageError, match="is not allowed"):
        parse_shard(text)


def test_a_shard_that_there_cannot_be():
    images, _ = whole_images(10)
    with pytest.raises(UsageError, match=r"shard=5/4 is not allowed\. Allowed: 1/4 to 4/4"):
        kerascnn.scan(network(), images, shard=(5, 4))
    with pytest.raises(UsageError, match=r"10 images make 3 blocks of 4, so there can be at most 3 shards"):
        kerascnn.scan(network(), images, shard=(1, 4), batch_size=4)
    with pytest.raises(UsageError, match="not a stream of batches"):
        kerascnn.scan(network(), datasets_stream(images), shard=(1, 2))


def datasets_stream(images):
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 1

        def __getitem__(self, number):
            return images

    return Batches()


@settings(max_examples=60, deadline=None)
@given(images=st.integers(1, 5000), block=st.integers(1, 9), count=st.integers(1, 40))
def test_shards_take_every_image_once(images, block, count):
    count = min(count, -(-images // block))
    ranges = [shard_range((number, count), images, block) for number in range(1, count + 1)]
    assert [first for first, _ in ranges] == [0, *(stop for _, stop in ranges[:-1])]
    assert ranges[-1][1] == images
    assert all(first % block == 0 and first < stop for first, stop in ranges)


def test_a_merged_maximum_of_zero_has_no_sign():
    parts = []
    for number, zero in enumerate((-0.0, 0.0)):
        parts.append(Statistics(1, np.zeros(1), 0))
        values = np.full((1, 1), zero)
        parts[-1].add(number, np.zeros(1, int), values, values, values, np.zeros((1, 1), int), values[None])
    assert not np.signbit(parts[0].maximum).any()
