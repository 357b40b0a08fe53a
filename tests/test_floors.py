"""A file imports only from floors at or below its own (CONTRIBUTING.md)."""

import ast
from pathlib import Path

import kerascnn

ROOT = Path(kerascnn.__file__).parent
FLOORS = (
    ("errors", "registry", "runs", "files", "native_log", "processes"),
    ("recipes", "named_recipes", "plots", "graph", "layers", "backends", "keras_file"),
    ("models", "datasets", "anatomy"),
    ("training", "explain", "dataset_scan", "callbacks"),
    ("using",),
    ("pages", "experiments"),
    ("commands", "cli"),
    ("__main__",),
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
WITHOUT_KERAS = (
    *("errors", "registry", "runs", "files", "native_log", "processes", "recipes", "named_recipes", "plots"),
    *("datasets", "commands", "cli"),
)


def room(path):
    part = path.relative_to(ROOT).parts[0]
    return part.removesuffix(".py")


def imports(path, nested):
    """Modules that a file imports; with `nested`, those within functions too."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if nested else tree.body
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


FILES = [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"]


def test_every_room_has_a_floor():
    assert {room(path) for path in FILES} <= set(FLOOR)


def test_imports_go_down():
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in FILES
        for name in imports(path, nested=True)
        if name.startswith("kerascnn.")
        and name != "kerascnn.__version__"
        and FLOOR[name.split(".")[1]] > FLOOR[room(path)]
    ]
    assert wrong == []


def test_nothing_that_lists_imports_keras_at_the_top():
    heavy = ("keras", "tensorflow", "jax", "torch")
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in FILES
        if room(path) in WITHOUT_KERAS
        for name in imports(path, nested=False)
        if name.split(".")[0] in heavy
    ]
    assert wrong == []


def test_inside_kerascnn_only_the_command_line_knows_tuning():
    knows = {room(path) for path in FILES for name in imports(path, nested=True) if name.split(".")[0] == "tuning"}
    assert knows <= {"commands"}
