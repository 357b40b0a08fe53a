"""Search spaces: functions hp -> Recipe, by name, from a user's Python file, or from a TOML file without any code.

A TOML space holds recipe fields as they are, and a table for each field that is searched:

    model = "cifar_net"
    batch_size = 128

    [search.learning_rate]
    low = 1e-4
    high = 1e-1
    log = true

    [search.optimizer]
    values = ["adamw", "sgd"]

    [search."model_options.variant"]
    values = ["a", "b"]
"""

import importlib.util
import inspect
import itertools
import tomllib
from pathlib import Path

from kerascnn.errors import DataError, UsageError, unknown
from kerascnn.recipes import FIELDS, Recipe
from tuning import SEARCHES

KEYS = ("low", "high", "step", "log", "values", "default")


def load(name):
    """The space function hp -> Recipe that a user means: itself, a registered name, a .py file or a .toml file.

    Raises:
        UsageError: nothing of that name, or a space that cannot be.
        DataError: the file cannot be read.
    """
    if callable(name):
        return name
    path = Path(name)
    if path.suffix not in (".py", ".toml"):
        return SEARCHES.get(name)
    if not path.is_file():
        raise UsageError(f"There is no file {path}. Type --search FILE.py, FILE.toml, or one of: kerascnn searches")
    return _from_toml(path) if path.suffix == ".toml" else _from_python(path)


def _from_python(path):
    spec = importlib.util.spec_from_file_location(f"search_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise DataError(f"{path} cannot be run: {type(error).__name__}: {error}.") from error
    own = [
        value
        for value in vars(module).values()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and list(inspect.signature(value).parameters)[:1] == ["hp"]
    ]
    if len(own) != 1:
        found = ", ".join(f.__name__ for f in own) or "none"
        raise UsageError(
            f"{path} must hold one function whose first argument is hp, and that returns a Recipe; it has: {found}."
        )
    return own[0]


def _from_toml(path):
    try:
        fixed = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise DataError(f"{path} cannot be read: {error}. See tuning.spaces for an example.") from None
    searched = fixed.pop("search", {})
    if not searched:
        raise UsageError(f"{path} searches nothing. Add a table such as: [search.learning_rate] low = 1e-4, high = 0.1")
    for name in (*fixed, *searched):
        if name.partition(".")[0] not in FIELDS:
            raise unknown(f"recipe field in {path}:", name, FIELDS)
    Recipe(**fixed)
    for name, rule in searched.items():
        _check_rule(path, name, rule)

    def space(hp):
        values = {name: _suggested(hp, name, rule) for name, rule in searched.items()}
        options = {k.partition(".")[2]: v for k, v in values.items() if k.startswith("model_options.")}
        plain = {k: v for k, v in values.items() if "." not in k}
        if options:
            plain["model_options"] = fixed.get("model_options", {}) | options
        return Recipe(**(fixed | plain))

    space.__doc__ = f"The space of {path.name}."
    return space


def _check_rule(path, name, rule):
    where = f"[search.{name}] in {path}"
    if not isinstance(rule, dict):
        raise UsageError(f"{where} must be a table with low and high, or values; it is {rule!r}.")
    for key in rule:
        if key not in KEYS:
            raise unknown(f"word in {where}:", key, KEYS)
    if "values" in rule:
        if not isinstance(rule["values"], list) or not rule["values"]:
            raise UsageError(f"{where} has values = {rule['values']!r}: it must be a list of one value or more.")
        ends = rule["values"]
    elif {"low", "high"} <= rule.keys():
        ends = [rule["low"], rule["high"]]
        if any(isinstance(end, bool) or not isinstance(end, int | float) for end in ends):
            raise UsageError(
                f"{where} goes from {ends[0]!r} to {ends[1]!r}: both must be numbers. Or give values = [..]"
            )
        if not ends[0] < ends[1]:
            raise UsageError(f"{where} is empty: low = {ends[0]} must be below high = {ends[1]}.")
        if rule.get("log") and not ends[0] > 0:
            raise UsageError(f"{where} has log = true, so low = {ends[0]} must be above 0.")
    else:
        raise UsageError(f"{where} needs low and high, or values.")
    default = rule.get("default", ends[0])
    if not (default in ends if "values" in rule else ends[0] <= default <= ends[1]):
        raise UsageError(f"{where} has default = {default!r}, which is not among what it searches.")
    for end in ends:
        if "." not in name:
            Recipe(**{name: end})


def _suggested(hp, name, rule):
    more = {"default": rule["default"]} if "default" in rule else {}
    if "values" in rule:
        if all(isinstance(value, bool) for value in rule["values"]):
            return hp.Choice(name, [int(v) for v in rule["values"]], **more) == 1
        if any(isinstance(value, list) for value in rule["values"]):
            words = {" ".join(value): value for value in rule["values"]}
            return words[hp.Choice(name, list(words), **more)]
        return hp.Choice(name, rule["values"], **more)
    kind = hp.Float if any(isinstance(rule[end], float) for end in ("low", "high")) else hp.Int
    if "step" in rule:
        more["step"] = rule["step"]
    return kind(name, rule["low"], rule["high"], sampling="log" if rule.get("log") else "linear", **more)


def hyperparameters(space):
    """KerasTuner's HyperParameters with everything that a space asks for under any of its choices.

    Raises:
        UsageError: the space fails, returns no Recipe, or asks for nothing.
    """
    import keras_tuner

    found = keras_tuner.HyperParameters()
    _asked(space, found)
    choices = [hp for hp in found.space if type(hp).__name__ in ("Choice", "Boolean")]
    for chosen in choices:  # a choice may lead to questions that are not asked otherwise
        for value in chosen.values:
            branch = keras_tuner.HyperParameters()
            branch.values = {chosen.name: value}
            _asked(space, branch)
            known = [hp.name for hp in found.space]
            found.merge([hp for hp in branch.space if hp.name not in known])
    if not found.space:
        raise UsageError("The space asks for nothing: it must call hp.Float, hp.Int, hp.Choice or hp.Boolean.")
    return found


def _asked(space, hp):
    try:
        recipe = space(hp)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"The space fails: {type(error).__name__}: {error}. Mend the function or the file.") from error
    if not isinstance(recipe, Recipe):
        raise UsageError(f"The space returns {type(recipe).__name__}, but it must return a kerascnn.recipes.Recipe.")


def recipe_of(space, values):
    """The Recipe of a trial's values, a dict by hyperparameter."""
    import keras_tuner

    hp = keras_tuner.HyperParameters()
    hp.values = dict(values)
    return space(hp)


def described(hp):
    """{name: {"kind", "low", "high", "log", "values"}} of HyperParameters, for pages and for comparison."""
    rows = {}
    for one in hp.space:
        kind = type(one).__name__.lower()
        row = {"kind": kind, "low": None, "high": None, "log": False, "values": []}
        if kind in ("float", "int"):
            row |= {"low": one.min_value, "high": one.max_value, "log": one.sampling != "linear"}
        else:
            row["values"] = list(itertools.islice(one.values, 1000))
        rows[one.name] = row
    return rows
