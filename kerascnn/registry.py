"""One registry for every kind of thing that has a name: models, datasets, recipes, explanation methods, searches.

A thing is a function with a decorator, `@register(...)`, in any file of its package. The decorator's keyword
arguments are the thing's *facts*: literals (numbers, strings, tuples) that are read from the source text without
running it, so that names and facts can be listed, and typos answered, before Keras is imported.
"""

import ast
import functools
import importlib.util
import inspect
import sys
import types
from pathlib import Path

from kerascnn.errors import unknown


class Registry:
    """The named functions of one package.

    Args:
        kind: the word for one of them, used in errors ("model").
        module: the package or module whose files hold them ("kerascnn.models").
        path: that package's folder, or that module's file.
        hint: a command that lists them.
        usual: the facts of one that does not say otherwise.
    """

    def __init__(self, kind, module, path, hint="", **usual):
        self.kind, self.module, self.path, self.hint, self.usual = kind, module, Path(path), hint, usual
        self._registered = {}

    @functools.cached_property
    def _scanned(self):
        """{name: (module name, facts)}, from the source text alone."""
        if self.path.is_dir():
            files = sorted(p for p in self.path.glob("*.py") if not p.stem.startswith("_"))
        else:
            files = [self.path]
        entries = {}
        for file in files:
            module = f"{self.module}.{file.stem}" if self.path.is_dir() else self.module
            for name, facts in _scan(file):
                if name in entries:
                    raise ValueError(f"The {self.kind} {name!r} is registered twice: {entries[name][0]} and {module}.")
                entries[name] = (module, facts)
        return entries

    def register(self, name=None, **facts):
        """Decorator: the function becomes the thing called `name` (default: the function's own name)."""

        def add(function):
            key = name or function.__name__
            old = self._registered.get(key)
            home = self._scanned[key][0] if key in self._scanned else function.__module__
            if old is not None or home != function.__module__:
                raise ValueError(f"The {self.kind} {key!r} is registered twice: {home} and {function.__module__}.")
            doc = (function.__doc__ or "").strip().partition("\n")[0]
            self._registered[key] = (function, {"doc": doc, **facts})
            return function

        return add

    def names(self):
        """All names, sorted."""
        return sorted({*self._scanned, *self._registered})

    def __contains__(self, name):
        return name in self._scanned or name in self._registered

    def facts(self, name):
        """The facts of `name`: a dict of literals, with the first line of its docstring under "doc"."""
        self._check(name)
        return self.usual | (self._registered[name] if name in self._registered else self._scanned[name])[1]

    def get(self, name):
        """The function called `name`; its module is imported now."""
        self._check(name)
        if name not in self._registered:
            importlib.import_module(self._scanned[name][0])
        return self._registered[name][0]

    def file(self, name):
        """The Path of the source file that registers `name`."""
        self._check(name)
        if name not in self._scanned:
            return Path(inspect.getfile(self._registered[name][0]))
        return self.path / f"{self._scanned[name][0].rpartition('.')[2]}.py" if self.path.is_dir() else self.path

    def _check(self, name):
        if name not in self:
            raise unknown(self.kind, name, self.names(), self.hint)


def room(module, places=None, registry=None):
    """(__getattr__, __dir__) of a package whose names are imported when they are first asked for.

    Args:
        module: the package's name.
        places: {public name: the module below the package that holds it}.
        registry: the Registry whose names are the package's, too.
    """
    places = places or {}
    if registry is not None:
        sys.modules[module].__class__ = _room_of_functions(registry)

    def listed():
        return sorted({*places, *(registry.names() if registry else ())})

    def get(name):
        if registry is not None and name in registry:
            return registry.get(name)
        if name in places:
            return getattr(importlib.import_module(f"{module}.{places[name]}"), name)
        if not name.startswith("_") and importlib.util.find_spec(f"{module}.{name}"):
            return importlib.import_module(f"{module}.{name}")
        raise AttributeError(f"module {module!r} has no attribute {name!r}; it has {', '.join(listed())}")

    def names():
        return sorted({*listed(), *vars(sys.modules[module])})

    return get, names


def _room_of_functions(registry):
    """A class of packages in which a registered name is the function, also when a module of that name is imported."""

    class Room(types.ModuleType):
        def __setattr__(self, name, value):
            if not (isinstance(value, types.ModuleType) and name in registry):
                super().__setattr__(name, value)

    return Room


def _scan(file):
    """(name, facts) of every top-level function decorated with `@register(...)` in a source file."""
    text = file.read_text(encoding="utf-8")
    if "register(" not in text:
        return
    for node in ast.parse(text).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", None) == "register":
                facts = {k.arg: ast.literal_eval(k.value) for k in decorator.keywords}
                name = decorator.args[0].value if decorator.args else facts.pop("name", node.name)
                doc = (ast.get_docstring(node) or "").partition("\n")[0]
                yield name, {"doc": doc, **facts}
