import json
import os
import platform
import subprocess

import pytest

from kerascnn import runs
from kerascnn.errors import DataError, UsageError


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def make(name, seconds):
    run = runs.create(runs.ROOT / name, model="lenet5", data="digits")
    run.write("recipe", {})
    os.utime(run / "recipe.json", (seconds, seconds))
    return run


def test_default_places_are_numbered():
    first = runs.create(model="lenet5", data="../a b/ digits")
    second = runs.create(model="lenet5", data="../a b/ digits")
    assert first.folder.name.endswith("-lenet5-digits")
    assert second.folder.name == first.folder.name + "-2"


def test_json_goes_in_and_comes_out_and_update_keeps_the_rest():
    run = runs.create("r", model="m", data="d")
    run.write("labels", ["ö", "b"])
    run.update(status="running", seed=3)
    run.update(status="finished")
    assert run.read("labels") == ["ö", "b"]
    assert run.read("run") == {"status": "finished", "seed": 3}
    assert run.status == "finished"
    assert sorted(os.listdir("r")) == ["labels.json", "run.json"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else():
    path = runs.ROOT / "a.json"
    runs.write_json(path, [1])
    with pytest.raises(TypeError):
        runs.write_json(path, [object()])
    with pytest.raises(ZeroDivisionError), runs.replacing(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert json.loads(path.read_text()) == [1]
    assert os.listdir(runs.ROOT) == ["a.json"]


def test_a_folder_replaces_a_folder():
    for text in ("old", "new"):
        with runs.replacing("folder") as temporary:
            temporary.mkdir()
            (temporary / text).write_text(text)
    assert os.listdir("folder") == ["new"]


def test_find_takes_folders_names_and_last():
    make("older", 1000)
    newer = make("newer", 2000)
    assert runs.find("last").folder == newer.folder
    assert runs.find("older").folder == runs.ROOT / "older"
    assert runs.find(runs.ROOT / "newer").folder == newer.folder
    assert [run.folder.name for run in runs.found()] == ["older", "newer"]


def test_find_says_what_is_wrong(tmp_path):
    with pytest.raises(UsageError, match=r"There is no last run.*kerascnn train"):
        runs.find("last")
    make("my-run", 1000)
    with pytest.raises(UsageError, match=r"no run 'my-rnu'\. Did you mean 'my-run'\?"):
        runs.find("my-rnu")
    (tmp_path / "plain").mkdir()
    with pytest.raises(UsageError, match=r"plain is a folder but not a run: it has no recipe\.json"):
        runs.find("plain")


def test_an_existing_folder_is_not_touched():
    run = make("r", 1000)
    with pytest.raises(UsageError, match=r"already exists and is not empty; nothing in it was changed.*--resume"):
        runs.create(run.folder, model="m", data="d")
    (runs.ROOT / "file").write_text("mine")
    with pytest.raises(UsageError, match="file is a file"):
        runs.create(runs.ROOT / "file", model="m", data="d")
    assert (runs.ROOT / "file").read_text() == "mine"
    assert os.listdir(run.folder) == ["recipe.json"]


def test_a_run_that_is_not_whole():
    run = make("r", 1000)
    with pytest.raises(DataError, match=r"not a whole run folder: it has no data\.json"):
        run.read("data")
    (run / "data.json").write_text("{")
    with pytest.raises(DataError, match=r"data\.json is not valid JSON"):
        run.read("data")


def test_a_run_whose_process_is_gone_was_killed():
    run = make("r", 1000)
    done = subprocess.Popen(["true"])
    done.wait()
    run.update(status="running", host=platform.node(), pid=os.getpid())
    assert run.status == "running"
    run.update(pid=done.pid)
    assert run.status == "killed"
    run.update(host="another machine")
    assert run.status == "running"
