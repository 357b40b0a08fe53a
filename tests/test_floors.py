"""A file imports only from floors at or below its own (CONTRIBUTING.md)."""

import ast
from pathlib import Path

import kerascnn

ROOT = Path(kerascnn.__file__).parent
FLOORS = (
    (
        "errors",
        "registry",
        "runs",
        "files",
        "native_log",
        "processes",
        "notebook",
        "text_table",
        "shards",
        "http_server",
        "progress",
    ),
    ("recipes", "named_recipes", "plots", "layers", "backends", "hosts", "launching", "clusters"),
    ("network", "models", "datasets", "keras_file"),
    ("anatomy", "training", "explain", "dataset_scan", "callbacks"),
    ("using",),
    ("pages", "experiments"),
    ("studies",),
    ("commands", "cli"),
    ("__main__",),
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
WITHOUT_KERAS = (
    *("errors", "registry", "runs", "files", "native_log", "processes", "recipes", "named_recipes", "plots"),
    *("notebook", "text_table", "shards", "http_server", "progress", "hosts", "launching", "clusters"),
    *("datasets", "studies", "commands", "cli"),
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


def modules():
    """{module name: its syntax tree} of the packages `kerascnn` and `tuning`."""
    trees = {}
    for package in (ROOT, ROOT.parent / "tuning"):
        for path in package.rglob("*.py"):
            name = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
            trees[name] = ast.parse(path.read_text())
    return trees


def imported(name, tree, known):
    """The modules of ours that a module imports anywhere in its text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known and alias.name != name)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                target = module if module in known else node.module
                if target in known and target != name:
                    yield target


def test_imports_form_no_circle():
    """Nor do those within functions."""
    trees = modules()
    edges = {name: set(imported(name, tree, trees)) for name, tree in trees.items()}
    while free := [name for name, targets in edges.items() if not targets]:
        for name in free:
            del edges[name]
        edges = {name: targets.difference(free) for name, targets in edges.items()}
    while edges and (unread := set(edges) - set().union(*edges.values())):
        edges = {name: targets for name, targets in edges.items() if name not in unread}
    assert edges == {}  # what imports nothing that is left, and what nothing that is left imports, is gone


def lines_of_code(function):
    """Lines of a function that hold code: no docstring, comment or blank line."""
    docstring = function.body[0].value if ast.get_docstring(function) is not None else None
    numbers = set()
    for node in ast.walk(function):
        if node is not docstring and hasattr(node, "lineno"):
            numbers.add(node.lineno)
            if isinstance(node, (ast.expr, ast.arg, ast.keyword)):
                numbers.update(range(node.lineno, node.end_lineno + 1))
    return len(numbers)


def test_no_function_has_more_than_60_lines_of_code():
    long = [
        f"{name}.{node.name}: {lines_of_code(node)}"
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and lines_of_code(node) > 60
    ]
    assert long == []
