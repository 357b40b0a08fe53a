"""The course: what each notebook holds, that it runs, and how it reaches a user's folder."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "course").glob("*.ipynb"))
FAST = "02"  # the number of the notebook that trains nothing


def read(notebook):
    return json.loads(notebook.read_text(encoding="utf-8"))


def texts(notebook, kind):
    return ["".join(cell["source"]) for cell in read(notebook)["cells"] if cell["cell_type"] == kind]


def test_there_are_ten():
    assert [path.name[:2] for path in NOTEBOOKS] == [f"{number:02}" for number in range(1, 11)]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_without_outputs_and_with_names_for_its_cells(notebook):
    cells = read(notebook)["cells"]
    assert [cell["id"] for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
    names = [cell["id"] for cell in cells]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", name)] == []


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_asks_a_question_and_sets_three_exercises_with_hidden_answers(notebook):
    words, cells = texts(notebook, "markdown"), read(notebook)["cells"]
    assert words[0].startswith(f"# {int(notebook.name[:2])} ")
    assert re.search(r"^\*\*Question\.\*\* .+\?", words[0], re.MULTILINE)
    assert re.search(r"^You need about \d+ minutes", words[0], re.MULTILINE)
    assert any(text.startswith("**What to see.** ") for text in words)
    exercises = [text for text in words if text.startswith("**Exercise ")]
    assert [text[: len("**Exercise 1.**")] for text in exercises] == [f"**Exercise {n}.**" for n in (1, 2, 3)]
    hidden = r"\n\n<details>\n<summary>Answer</summary>\n\n.{20,}\n\n</details>$"
    assert [text for text in exercises if not re.search(hidden, text, re.DOTALL)] == []
    assert [cell["id"] for cell in cells][-3:] == ["exercise-1", "exercise-2", "exercise-3"]


def _executed(notebook):
    """A parameter; all but one notebook are slow."""
    return pytest.param(notebook, id=notebook.stem, marks=[] if notebook.name.startswith(FAST) else pytest.mark.slow)


@pytest.mark.parametrize("notebook", [_executed(path) for path in NOTEBOOKS])
def test_it_runs_and_shows_pictures(notebook, tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    content = nbformat.read(notebook, as_version=4)
    NotebookClient(
        content, timeout=1800, startup_timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    shown = [output.get("data", {}) for cell in content.cells for output in cell.get("outputs", ())]
    cards = [data for data in shown if "<img " in data.get("text/html", "")]
    assert cards or [data for data in shown if {"image/png", "image/svg+xml"} & data.keys()]


def test_the_command_copies_the_notebooks(call, tmp_path):
    code, out, err = call("course", "mine/course")
    assert (code, err) == (0, "")
    copies = sorted((tmp_path / "mine" / "course").iterdir())
    assert [path.read_bytes() for path in copies] == [path.read_bytes() for path in NOTEBOOKS]
    assert out.splitlines()[0] == "10 notebooks in mine/course"
    assert f"jupyter lab mine/course/{NOTEBOOKS[0].name}" in out


def test_the_command_leaves_a_users_files_alone(call, tmp_path):
    folder = tmp_path / "course"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / NOTEBOOKS[2].name).write_text("my answers")
    code, out, err = call("course", folder)
    assert (code, out) == (2, "")
    assert f"already holds {NOTEBOOKS[2].name}, with other content; nothing was copied" in err
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "notes.txt": "mine",
        NOTEBOOKS[2].name: "my answers",
    }


def test_the_command_may_be_repeated_and_fills_what_is_missing(call, tmp_path):
    assert call("course", "course")[0] == 0
    (tmp_path / "course" / NOTEBOOKS[0].name).unlink()
    assert call("course", "course")[0] == 0
    assert len(list((tmp_path / "course").iterdir())) == 10


def test_a_link_to_nothing_and_a_file_in_the_place_of_a_folder_stay(call, tmp_path):
    (tmp_path / "course").mkdir()
    (tmp_path / "course" / NOTEBOOKS[0].name).symlink_to(tmp_path / "elsewhere")
    assert call("course", "course")[0] == 2
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "file").write_text("mine")
    code, _, err = call("course", "file")
    assert (code, "file is not a folder" in err) == (2, True)
    assert (tmp_path / "file").read_text() == "mine"
