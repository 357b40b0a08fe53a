import json
import os
import platform
import socket
import subprocess

import pytest

from kerascnn import runs
from kerascnn.cli import run_command
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
    assert [run.folder.name for run in runs.all_under()] == ["older", "newer"]


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
    with pytest.raises(
        UsageError, match=r"already exists and is not empty; nothing in it was changed.*resume=.*out=FOLDER"
    ):
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


SPOILT = {  # what stands in run.json: what the list says of it
    "not JSON": (b"{", "not valid JSON"),
    "not UTF-8": (b'{"status": "\xff"}', "not a text file"),
    "a list": (b"[]", "it holds no table"),
    "nested": (b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nested too deeply"),
    "a number of 5,000 digits": (b'{"pid": ' + b"9" * 5000 + b"}", "not valid JSON"),
    "status": (b'{"status": ["a"]}', "status is"),
    "seconds": (b'{"seconds": "long"}', "seconds is 'long'"),
    "no seconds": (b'{"seconds": null}', "seconds is 'None'"),
    "seconds of 400 digits": (b'{"seconds": ' + b"9" * 400 + b"}", "seconds is '999"),
    "result": (b'{"result": "good"}', "result is 'good'"),
    "accuracy": (b'{"result": {"accuracy": "high"}}', "accuracy is 'high'"),
    "pid": (b'{"status": "running", "pid": "1"}', "pid is '1'"),
    "number": (b'{"number": "last"}', "number is 'last'"),
}


def list_of(capsys, *options):
    assert run_command(["runs", *options]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("kind", SPOILT)
def test_one_bad_run_is_one_row(kind, capsys):
    content, reason = SPOILT[kind]
    make("bad", 1000)
    make("good", 2000).update(status="finished", result={"accuracy": 0.5}, seconds=60)
    (runs.ROOT / "bad" / "run.json").write_bytes(content)
    rows = json.loads(list_of(capsys, "--json"))
    assert [(row["run"], row["status"]) for row in rows] == [("bad", "damaged"), ("good", "finished")]
    assert "bad/run.json" in rows[0]["reason"]
    assert reason in rows[0]["reason"]
    lines = [line.split() for line in list_of(capsys).splitlines()]
    assert ["bad", "damaged"] in lines
    assert ["good", "finished", "50.00%", "1.0"] in lines
    assert runs.find("last").folder.name == "good"


@pytest.mark.parametrize("name", ["recipe.json", "run.json"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "device", "link to nothing", "link to itself"])
def test_what_is_no_file_is_one_row(name, kind, capsys):
    path = make("bad", 1000) / name
    make("good", 2000).update(status="finished")
    path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(os.path.relpath(path))
    else:
        path.symlink_to({"device": "/dev/zero", "link to nothing": "nothing", "link to itself": name}[kind])
    rows = json.loads(list_of(capsys, "--json"))
    assert [row["status"] for row in rows if row["run"] == "bad"] == ["damaged"]
    assert [row["status"] for row in rows if row["run"] == "good"] == ["finished"]


def test_a_run_that_may_not_be_read_is_one_row(capsys):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    make("good", 2000).update(status="finished")
    bad = make("bad", 1000)
    bad.folder.chmod(0)
    try:
        assert "bad  damaged" in list_of(capsys)
    finally:
        bad.folder.chmod(0o700)


def test_names_that_a_terminal_cannot_show_are_listed(capsys):
    os.makedirs(b"saved_models/a\xff\x1b[31m")
    (runs.ROOT / os.fsdecode(b"a\xff\x1b[31m") / "recipe.json").write_text("{}")
    assert ["a??[31m", "damaged"] in [line.split() for line in list_of(capsys).splitlines()]
    assert json.loads(list_of(capsys, "--json"))[0]["status"] == "damaged"


def test_last_goes_by_the_order_of_training_whatever_the_clock_said():
    for name, seconds in (("before", 4_000_000_000), ("first", 3_000_000_000), ("second", 1000)):
        run = make(name, seconds)
        if name != "before":  # which an older version trained
            run.update(number=runs.next_number(run.folder))
    assert [run.folder.name for run in runs.all_under()] == ["before", "first", "second"]
    assert runs.find("last").folder.name == "second"
    again = runs.find("first")
    again.update(number=runs.next_number(again.folder))
    assert runs.find("last").folder.name == "first"


def test_long_names_fit_into_a_file_name():
    assert runs.plain("b" * 250) == "b" * 80


@pytest.mark.parametrize("folder", ["x" * 256, "/".join(["x" * 250] * 16), "/".join("x" * 2000)])
def test_a_path_that_is_too_long_is_named_before_anything_is_made(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"out=x.* is too long: its path has [\d,]+ bytes, and 3,840 are allowed"):
        runs.create(folder, model="m", data="d")
    assert list(tmp_path.iterdir()) == []


def test_long_names_make_files_with_names_that_systems_allow(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = runs.create(model="m" * 250, data="d" * 250)
    assert len(run.folder.name) < 200
    path = tmp_path / ("\u00e9" * 120 + ".json")
    runs.write_json(path, {"a": 1})
    assert list(tmp_path.glob("*.json")) == [path]


def test_names_of_files_that_are_not_utf8_come_back(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    run = runs.Run(tmp_path)
    run.write("data", {"skipped": [name], "note": "\u00e9"})
    assert run.read("data") == {"skipped": [name], "note": "\u00e9"}
    assert (tmp_path / "data.json").read_bytes().decode("utf-8").count("\u00e9") == 1
