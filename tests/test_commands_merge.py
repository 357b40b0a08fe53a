from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kerascnn import dataset_scan
from kerascnn.commands.sharding import merge_hint


@pytest.mark.slow
def test_a_scan_of_a_job_array_is_one_scan(call, trained, tmp_path):
    arguments = ["scan", trained.folder, "--layers", "c1,c3", "--top", "4", "--batch-size", "8"]
    code, out, err = call(*arguments, "--out", "one")
    assert (code, err) == (0, "")
    for number in (2, 1, 3):
        code, out, err = call(*arguments, "--out", "parts", "--shard", f"{number}/3")
        assert (code, err) == (0, "")
        assert f"parts/scan-{number}-of-3.npz\n" in out
    assert "When all 3 are done: kerascnn merge parts/scan-*-of-3.npz -o OUT" in out
    assert len(list((tmp_path / "parts").iterdir())) == 3
    shards = sorted((tmp_path / "parts").iterdir(), reverse=True)
    code, out, err = call("merge", *shards, "-o", "all")
    assert (code, err) == (0, "")
    assert "of 3 shards; tables, sheets and scan.npz in all" in out
    assert (tmp_path / "all" / "scan.npz").read_bytes() == (tmp_path / "one" / "scan.npz").read_bytes()
    for name in ("c1-top.csv", "c3-stats.csv", "c3-selectivity.csv"):
        assert pd.read_csv(tmp_path / "all" / name).equals(pd.read_csv(tmp_path / "one" / name))
    for name in ("c1-patches.png", "c3-classes.png", "c3-stats.png"):
        assert (tmp_path / "all" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    code, out, err = call("merge", *shards, "-o", "alone.npz")
    assert (code, err) == (0, "")
    assert dataset_scan.load(tmp_path / "alone.npz").layers == ["c1", "c3"]
    for wrong, told in (
        (["merge", *shards[1:], "-o", "x"], "1 shard is missing: 3/3. Compute it first, and name all 3."),
        (["merge", *shards, shards[0], "-o", "x"], "Shard 3/3 was given twice"),
        (["merge", *shards, "-o", "all"], "all already exists. Name another --out, or delete it."),
        (["merge", *shards, "no.npz", "-o", "x"], "There is no file no.npz."),
        (["merge", "-o", "x"], "No shard was named. Type: kerascnn merge SHARD SHARD ... -o OUT"),
        ([*arguments, "--out", "parts", "--shard", "1/3"], "scan-1-of-3.npz already exists"),
    ):
        code, _, err = call(*wrong)
        assert (code, told in err) == (2, True), err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shard", "5/4"], "--shard 5/4 is not allowed. Allowed: 1/4 to 4/4."),
        (["--shard", "3"], "--shard '3' is not allowed: it must be the number of a shard and how many there are"),
        (["--shard", "1/400"], "so there can be at most 1 shard"),
        (["--shard", "1/2", "--channels", "1"], "--channels are drawn in sheets, and a shard has none"),
    ],
)
def test_bad_shards(call, trained, arguments, message):
    code, _, err = call("scan", trained.folder, "--layers", "c1", *arguments)
    assert (code, message in err) == (2, True), err


@pytest.mark.parametrize(
    ("path", "typed"),
    [
        ("features-3-of-16.npz", "SHARD SHARD ..."),  # not a name of ours: 03
        ("features-03-of-16.npz", "features-*-of-16.npz"),
        ("parts/scan-03-of-16.npz", "parts/scan-*-of-16.npz"),
        ("my parts/scan-03-of-16.npz", "'my parts/'scan-*-of-16.npz"),
        ("vgg.npz", "SHARD SHARD ..."),
    ],
)
def test_how_shards_become_one(path, typed):
    expected = f"{path}\nWhen all 16 are done: kerascnn merge {typed} -o OUT"
    assert merge_hint(Path(path), (3, 16)) == expected


def test_features_of_a_job_array_are_those_of_one_job(call, trained, make_folder, tmp_path):
    folder = make_folder({"cat": 40, "dog": 33}, size=(24, 20))
    arguments = ["features", trained.folder, folder, "--layer", "f6", "--scales", "16,18,40"]
    assert call(*arguments, "-o", "one.npz")[0] == 0
    for number in (3, 1, 2):
        code, out, err = call(*arguments, "--shard", f"{number}/3")
        assert (code, err) == (0, "")
    assert "features-2-of-3.npz\nWhen all 3 are done: kerascnn merge features-*-of-3.npz -o OUT" in out
    shards = [f"features-{number}-of-3.npz" for number in (2, 1, 3)]
    code, out, err = call("merge", *shards, "-o", "all.npz")
    assert (code, out, err) == (0, "all.npz: 73 images, 84 features of f6\n", "")
    assert (tmp_path / "all.npz").read_bytes() == (tmp_path / "one.npz").read_bytes()
    with np.load(tmp_path / "all.npz") as arrays:
        np.savez(tmp_path / "numpy.npz", **arrays)
    assert (tmp_path / "all.npz").read_bytes() == (tmp_path / "numpy.npz").read_bytes()
    assert call("features", trained.folder, folder, "--layer", "f6", "--shard", "1/3", "-o", "other.npz")[0] == 0
    for wrong, told in (
        (["merge", *shards[:2], "-o", "x.npz"], "1 shard is missing: 3/3. Compute it first, and name all 3."),
        (["merge", "other.npz", *shards, "-o", "x.npz"], "do not belong to one job. They differ in: the scales."),
        (["merge", "one.npz", "-o", "x.npz"], "one.npz is not a shard but a whole result"),
        (["merge", *shards, "one.npz", "-o", "x.npz"], "one.npz is not a shard but a whole result"),
        (["merge", *shards, "-o", "x"], "--out x is not allowed: the name must end with .npz"),
        ([*arguments, "--shard", "1/3"], "features-1-of-3.npz already exists"),
        ([*arguments, "--shard", "1/4"], "73 images make 3 blocks of 32, so there can be at most 3 shards"),
    ):
        code, _, err = call(*wrong)
        assert (code, told in err) == (2, True), err
    (tmp_path / "torn.npz").write_bytes(b"PK")
    assert call("merge", "torn.npz", "-o", "x.npz")[0] == 1
    np.savez(tmp_path / "other.npz", head=np.zeros(3))
    code, _, err = call("merge", *shards, "other.npz", "-o", "x.npz")
    assert (code, "other.npz holds no features, unlike features-2-of-3.npz" in err) == (1, True), err


def test_a_microscope_of_a_job_array(call, trained, tmp_path):
    arguments = ["microscope", trained.folder, trained.folder.parent / "photos", "--layers", "c1", "--looks", "0"]
    for number in (2, 1):
        code, out, err = call(*arguments, "--shard", f"{number}/2")
        assert (code, err) == (0, "")
    assert "microscope-1-of-2.npz\nWhen all 2 are done: kerascnn merge microscope-*-of-2.npz -o OUT" in out
    code, out, err = call("merge", "microscope-1-of-2.npz", "microscope-2-of-2.npz", "-o", "site")
    assert (code, err) == (0, "")
    assert out == (
        "site: results of 72 images, from 2 shards\n"
        "To draw its pages, repeat the command of a shard with --out site and without --shard\n"
    )
    code, out, err = call(*arguments, "--out", "site")
    assert (code, err, out.splitlines()[-1]) == (0, "", "site/index.html")
    for wrong, told in (
        ([*arguments, "--shard", "1/2", "--out", "folder"], "--out folder is not allowed for a shard, which is one"),
        ([*arguments, "--shard", "1/2", "--feature-images"], "--feature-images is not allowed for a shard"),
        ([*arguments, "--shard", "1/2"], "microscope-1-of-2.npz already exists"),
        (["merge", "microscope-1-of-2.npz", "-o", "x"], "1 shard is missing: 2/2. Compute it first"),
    ):
        code, _, err = call(*wrong)
        assert (code, told in err) == (2, True), err


def test_predictions_and_evaluation_of_a_job_array_are_those_of_one_job(call, trained, make_folder, tmp_path):
    folder = make_folder({"blue sky": 90, "grass": 110, "tomato": 100}, size=(16, 16))
    (folder / "grass" / "29.png").write_bytes(b"no image")
    code, expected, err = call("predict", trained.folder, folder, "--csv")
    assert (code, "1 of the files could not be read" in err) == (1, True)
    _, as_json, _ = call("predict", trained.folder, folder, "--json")
    for number in (2, 1):
        code, out, err = call("predict", trained.folder, folder, "--shard", f"{number}/2")
        assert (code, err) == (0, "")
        assert "1 file could not be read; kerascnn merge lists them." in out or number == 2
    assert "predict-1-of-2.npz\nWhen all 2 are done: kerascnn merge predict-*-of-2.npz -o OUT" in out
    for suffix, content in (("csv", expected), ("json", as_json)):
        code, out, err = call("merge", "predict-2-of-2.npz", "predict-1-of-2.npz", "-o", f"all.{suffix}")
        assert (code, "1 of the files could not be read" in err) == (1, True)
        assert out == f"all.{suffix}: 299 images, of 2 shards\n"
        assert (tmp_path / f"all.{suffix}").read_text() == content
    code, text, err = call("evaluate", trained.folder, folder, "--predictions", "one.csv")
    assert (code, err) == (0, "")
    _, as_json, _ = call("evaluate", trained.folder, folder, "--json")
    for number in (1, 2):
        assert call("evaluate", trained.folder, folder, "--shard", f"{number}/2")[0] == 0
    shards = ["evaluate-2-of-2.npz", "evaluate-1-of-2.npz"]
    code, out, err = call("merge", *shards, "-o", "merged.csv")
    assert (code, out, err) == (0, f"{text}\nmerged.csv, of 2 shards\n", "")
    assert (tmp_path / "merged.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert call("merge", *shards, "-o", "merged.json")[0] == 0
    assert (tmp_path / "merged.json").read_text() == as_json
    for wrong, told in (
        (["merge", *shards, "predict-1-of-2.npz", "-o", "x.csv"], "predict-1-of-2.npz holds no evaluation, unlike ev"),
        (["merge", shards[0], "-o", "x.csv"], "1 shard is missing: 1/2. Compute it first, and name all 2."),
        (["merge", *shards, "-o", "x"], "the name must end with .csv or .json"),
        (["evaluate", trained.folder, "--shard", "1/2", "--json"], "--json goes with a whole result"),
        (["evaluate", trained.folder, "--out", "x.npz"], "--out x.npz is for the file of a shard. Add --shard"),
        (["predict", trained.folder, folder, "--shard", "1/2"], "predict-1-of-2.npz already exists"),
        (["predict", trained.folder, folder, "--shard", "1/2", "--out", "x.csv"], "must end with .npz"),
        (["predict", trained.folder, folder, "--shard", "1/9"], "so there can be at most 2 shards"),
    ):
        code, _, err = call(*wrong)
        assert (code > 0, told in err) == (True, True), err
    assert not list(tmp_path.glob("x*"))
