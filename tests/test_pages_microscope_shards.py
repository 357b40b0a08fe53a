"""A microscope whose passes were taken in shards is the one of a single machine, to the last byte."""

import keras
import numpy as np
import pytest
from scan_networks import network
from test_pages_microscope import build, contents, data, scaled

from kerascnn.errors import UsageError
from kerascnn.pages.microscope import collect
from kerascnn.pages.microscope.shards import merge_shards, write_shard

AT_ONCE = 6  # images of 40


def shards(folder, count, numbers=None, few=None, model=None, **options):
    paths = []
    for number in numbers or range(1, count + 1):
        paths.append(folder / f"microscope-{number}-of-{count}.npz")
        keras.backend.clear_session()  # so that layers without a name get the same one each time
        settings = {"preprocessing": scaled, "batch_size": AT_ONCE, **options}
        write_shard(model or network(), few or data(), (number, count), paths[-1], **settings)
    return paths


@pytest.mark.parametrize("count", [1, 3, 7])
def test_a_site_from_shards_is_that_of_one_build(count, tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "SAMPLE", 11)  # of 40, so that some shards have one and others two or three
    build(tmp_path / "one", batch_size=AT_ONCE)
    paths = shards(tmp_path, count)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["one", *(path.name for path in paths)])
    merge_shards([paths[i] for i in np.random.default_rng(0).permutation(count)], tmp_path / "all")
    states = [tmp_path / "all" / "state" / name for name in ("scan.npz", "activity.npz")]
    before = [path.stat().st_ino for path in states]
    for path in states:
        assert path.read_bytes() == (tmp_path / "one" / "state" / path.name).read_bytes()
    build(tmp_path / "all", batch_size=AT_ONCE)
    assert [path.stat().st_ino for path in states] == before  # no pass was taken again
    assert contents(tmp_path / "all") == contents(tmp_path / "one")


def test_a_killed_shard_goes_on(tmp_path):
    (whole,) = shards(tmp_path, 2, [2])
    expected = whole.read_bytes()
    whole.unlink()
    calls = []

    def stopping(images):
        calls.append(len(images))
        if len(calls) == 9:  # of 2 that tell data apart, 1 for the centre and 4 blocks in each pass
            raise InterruptedError
        return scaled(images)

    with pytest.raises(InterruptedError):
        shards(tmp_path, 2, [2], preprocessing=stopping)
    assert (tmp_path / "microscope-2-of-2.npz.part" / "scan.npz").exists()
    assert not whole.exists()
    del calls[:]
    shards(tmp_path, 2, [2], preprocessing=stopping)
    assert len(calls) == 5  # the scan is not taken again
    assert [path.name for path in tmp_path.iterdir()] == [whole.name]
    assert whole.read_bytes() == expected


def test_shards_that_do_not_belong_together(tmp_path):
    one, two = shards(tmp_path, 2)
    with pytest.raises(UsageError, match=r"1 shard is missing: 1/2\. Compute it first"):
        merge_shards([two], tmp_path / "x")
    others = {
        "the network's weights": {"model": network(1)},
        "the layers": {"layers": "conv1"},
        "the images or their labels": {"preprocessing": lambda images: images.astype("float32") / 90},
        "the number of images": {"images": 39},
        "batch_size": {"batch_size": 4},
    }
    for what, changed in others.items():
        (tmp_path / "other").mkdir(exist_ok=True)
        (other,) = shards(tmp_path / "other", 2, [2], **changed)
        with pytest.raises(UsageError, match=f"do not belong to one job. They differ in: .*{what}"):
            merge_shards([one, other], tmp_path / "x")
        other.unlink()
    assert not (tmp_path / "x").exists()
    merge_shards([one, two], tmp_path / "site")
    with pytest.raises(UsageError, match="is the microscope of another network"):
        build(tmp_path / "site", network(1))
    with pytest.raises(UsageError, match="site is a microscope already"):
        merge_shards([one, two], tmp_path / "site")
