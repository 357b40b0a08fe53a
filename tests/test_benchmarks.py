"""The benchmarks, which no other test runs: everything that they import from the project is there."""

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest

PROGRAMS = sorted((Path(__file__).resolve().parents[1] / "benchmarks").glob("*.py"))


def imported(path):
    """(module, name) of what a program imports from the project; the name is "" where it is the module itself."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.module, alias.name) for alias in node.names]
    return [(module, name) for module, name in found if module.partition(".")[0] in ("kerascnn", "tuning")]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_what_it_imports_is_there(path):
    names = imported(path)
    assert names or path.stem == "other_libraries"
    missing = [
        f"{module}.{name}"
        for module, name in names
        if not hasattr(importlib.import_module(module), name or "__name__")
        and not importlib.util.find_spec(f"{module}.{name}")
    ]
    assert missing == []
