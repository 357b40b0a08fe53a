"""Every snippet of the README and of docs/ works: Python is run, commands are parsed, TOML is read as a recipe."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from kerascnn.cli import app
from kerascnn.recipes import Recipe
from tuning import spaces

ROOT = Path(__file__).resolve().parents[1]
LONG = ("tuning.md", "looking-inside.md", "training.md", "explain.md", "microscope.md", "any-model.md", "export.md")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page, language):
    """The fenced blocks of a page in one language; "" for those that name none."""
    snippets = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [text for name, text in snippets if name == language]


ONE_BY_ONE = """
import contextlib, io, json, pathlib
printed = []
for text in json.loads(pathlib.Path("blocks.json").read_text()):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(text, text, "exec"), {"__name__": "__main__"})
    printed.append(bool(said.getvalue()))
pathlib.Path("printed.json").write_text(json.dumps(printed))
"""


def _python_page(page):
    """A parameter; pages that train for longer than the README's are slow."""
    return pytest.param(page, id=page.name, marks=[pytest.mark.slow] if page.name in LONG else [])


@pytest.mark.parametrize("page", [_python_page(page) for page in PAGES if blocks(page, "python")])
def test_python_runs(page, tmp_path):
    """Every block runs by itself, with names of its own, and prints something."""
    texts = blocks(page, "python")
    (tmp_path / "blocks.json").write_text(json.dumps(texts))
    done = subprocess.run([sys.executable, "-c", ONE_BY_ONE], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "printed.json").read_text()) == [True] * len(texts)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_parse(page):
    lines = [line for text in blocks(page, "") for line in text.splitlines() if line.startswith("kerascnn ")]
    for line in lines:
        app.parse_args(shlex.split(line, comments=True)[1:], exit_on_error=False, print_error=False)
    assert lines or page.name != "README.md"


def test_toml_is_a_recipe_or_a_search_space(tmp_path):
    texts = [text for page in PAGES for text in blocks(page, "toml")]
    assert texts
    for text in texts:
        if "search" in tomllib.loads(text):
            (tmp_path / "space.toml").write_text(text)
            spaces.load(tmp_path / "space.toml")
        else:
            Recipe().replace(**tomllib.loads(text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_figures_exist(page):
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [t for t in targets if not (page.parent / t).exists()] == []


def test_two_commands_set_everything_up():
    commands = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert commands[0].endswith("kerascnn train")
    assert commands[1].endswith("pytest")
