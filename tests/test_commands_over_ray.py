"""`--engine ray` of the commands with --shard: the words of a shard, what is refused, and a cluster that is killed.

Ray is too large to be among the test's packages; without it the tests of a cluster skip.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_tuning_ray import cluster, descendants  # noqa: F401 (a fixture)

from kerascnn import __version__, clusters
from kerascnn.commands import over_ray


@pytest.mark.parametrize(
    ("typed", "left"),
    [
        ("scan a --engine ray --shards 2 --out x", "scan a"),
        ("scan a --engine=ray --top 3 --out=x --layers c1", "scan a --top 3 --layers c1"),
        ("features a b -o x.npz --layer f6 --address h:1", "features a b --layer f6"),
        ("predict a --csv -o=x.csv b", "predict a --csv b"),
        ("predict a b -ox.csv --top 2", "predict a b --top 2"),
    ],
)
def test_a_shard_is_computed_by_the_same_words(typed, left):
    options = ("--engine", "--address", "--shards", "--out", "-o")
    assert over_ray.without(typed.split(), options) == left.split()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("scan", "a", "--shards", 2), "--shards 2 goes with --engine ray"),
        (("scan", "a", "--address", "auto"), "--address auto goes with --engine ray"),
        (("scan", "a", "--engine", "ray"), "--engine ray needs --out"),
        (("scan", "a", "--engine", "ray", "--shard", "1/2", "--out", "x"), "type one of the two"),
        (("scan", "a", "--engine", "ray", "--shards", 0, "--out", "x"), "--shards 0 is not allowed"),
        (("scan", "a", "--engine", "ray", "--out", "."), "already exists"),
        (("scan", "a", "--engine", "dask", "--out", "x"), 'Choose from: "ray"'),
        (("predict", "a", "b", "--csv", "--engine", "ray", "-o", "x.csv"), "--csv does not go with --engine ray"),
        (("scan", "a", "--channels", "2", "--engine", "ray", "--out", "x"), "--channels does not go with --engine ray"),
        (("predict", "a", "b", "--engine", "ray", "-o", "x.txt"), "must end with .csv or .json"),
        (("features", "a", "b", "--layer", "c", "--engine", "ray", "-o", "x.txt"), "must end with .npz"),
    ],
)
def test_what_an_engine_does_not_take(words, message, call, tmp_path):
    code, _, err = call(*words)
    assert code == 2
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_without_ray_the_message_says_what_to_install(call, monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = call("scan", "a", "--engine", "ray", "--out", "x")
    assert code == 2
    assert "pip install 'kerascnn[ray]'" in err
    assert list(tmp_path.iterdir()) == []


def shard(words, folder, **variables):
    """Compute a shard as the Ray task does, in this process."""
    asked = folder / over_ray.JOB
    asked.write_text("{}")
    return over_ray._shard(words, str(folder), variables, str(asked), clusters.digest(asked), __version__)


def test_a_shard_that_cannot_be_computed_says_why(tmp_path, monkeypatch):
    assert shard(["scan", "nowhere", "--shard", "1/2"], tmp_path).startswith("There is no run")
    assert "Unknown option" in shard(["scan", "lenet5", "--colour", "red"], tmp_path)
    assert "is not on every machine" in over_ray._shard(
        [],
        str(tmp_path / "gone"),
        {},
        str(tmp_path / over_ray.JOB),
        clusters.digest(tmp_path / over_ray.JOB),
        __version__,
    )
    assert "runs kerascnn 0.0.1" in over_ray._shard([], str(tmp_path), {}, "", "", "0.0.1")
    monkeypatch.setattr(over_ray, "python_module", lambda name: ["sh", "-c", "kill -9 $$"])
    with pytest.raises(RuntimeError, match="ended with code -9"):
        shard(["scan"], tmp_path)


@pytest.mark.slow
def test_shards_over_a_cluster_whose_workers_are_killed_are_one_result(cluster, trained, tmp_path):  # noqa: F811
    """A shard's process and a worker of Ray are killed; the driver is, too, and the same command goes on."""
    photos = trained.folder.parent / "photos"
    words = ["-m", "kerascnn", "scan", str(trained.folder), str(photos), "--batch-size", "8", "--split", "train"]
    engine = ["--engine", "ray", "--address", cluster.address, "--shards", "4", "--out", "scan"]

    def start():
        return subprocess.Popen([sys.executable, *words, *engine], cwd=tmp_path, stderr=subprocess.PIPE, text=True)

    driver, killed = start(), set()
    while len(killed) < 3:
        assert driver.poll() is None, (killed, driver.communicate())
        for process, arguments in descendants(os.getpid()):
            kind = "shard" if "--shard " in arguments else "worker" if "ray::_shard" in arguments else ""
            if kind and kind not in killed and (kind == "shard" or "shard" in killed):
                os.kill(process, signal.SIGKILL)
                killed.add(kind)
                break
        if list(tmp_path.glob("scan.shards-*/scan-*.npz")) and len(killed) == 2:
            driver.kill()
            killed.add("driver")
        time.sleep(0.05)
    driver.communicate()
    again = start()
    _, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    assert "is there already" in err
    assert list(tmp_path.glob("*.shards-*")) == []
    alone = subprocess.run([sys.executable, *words, "--out", "alone"], cwd=tmp_path, capture_output=True, check=False)
    assert alone.returncode == 0, alone.stderr
    assert (tmp_path / "scan" / "scan.npz").read_bytes() == (tmp_path / "alone" / "scan.npz").read_bytes()
    assert Path(tmp_path / "scan" / "scan.npz").stat().st_size > 1000


def test_a_microscope_whose_passes_are_merged_goes_on_without_a_cluster(call, trained):
    words = ["microscope", trained.folder, trained.folder.parent / "photos", "--layers", "c1", "--looks", "0"]
    for number in (1, 2):
        assert call(*words, "--shard", f"{number}/2")[0] == 0
    assert call("merge", "microscope-1-of-2.npz", "microscope-2-of-2.npz", "-o", "site")[0] == 0
    code, out, err = call(*words, "--out", "site", "--engine", "ray", "--address", "nowhere:1", "--shards", 2)
    assert (code, err, out.splitlines()[-1]) == (0, "", "site/index.html")


def test_a_job_is_known_by_the_network_that_it_computes(trained, tmp_path, monkeypatch):
    """Not by the run's name, which may mean another one later, nor by what a look adds to the run's folder."""
    shutil.copytree(trained.folder, tmp_path / "saved_models" / "mine")
    monkeypatch.chdir(tmp_path)
    words = over_ray._lasting(["scan", "last", "photos", "--top", "3"])
    assert words == ["scan", str(tmp_path / "saved_models" / "mine"), "photos", "--top", "3"]
    assert over_ray._lasting(["scan", "lenet5"]) == ["scan", "lenet5"]
    before = over_ray._states(words)
    assert list(before) == [str(tmp_path / "saved_models" / "mine" / "best.keras")]
    (tmp_path / "saved_models" / "mine" / "more").mkdir()
    assert over_ray._states(words) == before
    (tmp_path / "saved_models" / "mine" / "best.keras").write_bytes(b"another network")
    assert over_ray._states(words) != before
