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
import sys
import typing
from pathlib import Path

from kerascnn.errors import DataError, UsageError, unknown
from kerascnn.files import read_toml
from kerascnn.recipes import FIELDS, Recipe
from tuning import SEARCHES

# Recipe fields that a search sets itself, and its option for each
OPTIONS = {"epochs": "epochs", "steps": "epochs", "seed": "seed", "monitor": "objective"}
KEYS = ("low", "high", "step", "log", "values", "default")


def load(name):
    """The space function hp -> Recipe that a user means: itself, a registered name, a .py file or a .toml file.

    Raises:
        UsageError: nothing of that name, or a space that cannot be searched.
        DataError: the file cannot be read.
    """
    if _is_hypermodel(name if inspect.isclass(name) else type(name)):
        raise UsageError("A HyperModel is taken from a Python file, which workers read too. Name it: search='FILE.py'")
    if callable(name):
        return name
    path = Path(name)
    if path.suffix not in (".py", ".toml"):
        return SEARCHES.get(name)
    if not path.is_file():
        raise UsageError(f"There is no file {path}. Give search=FILE.py, FILE.toml, or one of: kerascnn searches")
    return _from_toml(path) if path.suffix == ".toml" else _from_python(path)


def _from_python(path):
    spec = importlib.util.spec_from_file_location(f"search_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    try:
        sys.modules[module.__name__] = module  # dataclasses look for it there
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise DataError(f"{path} cannot be run: {type(error).__name__}: {error}.") from error
    hypermodel = _hypermodel(module, path)
    functions = [
        value
        for value in vars(module).values()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and _takes_hp(value)
    ]
    for name in ("space", "build_model"):
        functions = [function for function in functions if function.__name__ == name] or functions
    if hypermodel is None and len(functions) != 1:
        names = ", ".join(f.__name__ for f in functions) or "none"
        raise UsageError(
            f"{path} must hold one function of hp that returns a Recipe or a compiled keras.Model, or one HyperModel; "
            f"it has: {names}. Of several functions, call the one that is meant `space`, or `build_model`."
        )
    if hypermodel is None and not _builds_models(functions[0]):
        return functions[0]
    import keras_tuner

    from tuning.hypermodels import HyperModelSpace

    if hypermodel is None:
        hypermodel = keras_tuner.HyperModel()
        hypermodel.build = functions[0]
    return HyperModelSpace(hypermodel, path.resolve())


def _hypermodel(module, path):
    """The one HyperModel in a user's module: an object, or else made of the class; None where there is none."""
    values = list(vars(module).values())
    objects = [value for value in values if not inspect.isclass(value) and _is_hypermodel(type(value))]
    classes = [v for v in values if inspect.isclass(v) and v.__module__ == module.__name__ and _is_hypermodel(v)]
    if len(objects) == 1:
        return objects[0]
    if objects or len(classes) != 1:
        return None
    try:
        return classes[0]()
    except TypeError as error:
        name = classes[0].__name__
        raise UsageError(
            f"{path}: {name} cannot be made without arguments ({error}). Make one in the file: model = {name}(...)"
        ) from error


def _takes_hp(function):
    first, *others = [*inspect.signature(function).parameters.values(), None]
    return first is not None and first.name == "hp" and all(p is None or p.default is not p.empty for p in others)


def _builds_models(function):
    """True if a function of hp returns a keras.Model; where it fails with its own defaults, its name decides."""
    import keras_tuner

    try:
        built = function(keras_tuner.HyperParameters())
    except Exception:  # the user's own code
        return function.__name__.startswith("build")
    return _is_model(built)


def _is_model(value):
    return any(base.__name__ == "Model" and base.__module__.startswith("keras") for base in type(value).__mro__)


def _is_hypermodel(kind):
    return any(base.__name__ == "HyperModel" and base.__module__.startswith("keras_tuner") for base in kind.__mro__)


def _from_toml(path):
    try:
        fixed = read_toml(path)
    except DataError as error:
        raise DataError(f"{error} See tuning.spaces for an example.") from None
    searched = fixed.pop("search", {})
    if not isinstance(searched, dict) or not searched:
        raise UsageError(f"{path} searches nothing. Add a table such as: [search.learning_rate] low = 1e-4, high = 0.1")
    for name in (*fixed, *searched):
        field, dot, _ = name.partition(".")
        if field not in FIELDS or (dot and field != "model_options"):
            raise unknown(f"recipe field in {path}:", name, FIELDS)
        if name in OPTIONS:
            raise UsageError(
                f"{path} sets {name}, which the search itself sets. Give it to the search: {OPTIONS[name]}=VALUE"
            )
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
    allowed = _check_values(where, rule) if "values" in rule else _check_range(where, rule)
    if "default" in rule and not allowed(rule["default"]):
        raise UsageError(f"{where} has default = {rule['default']!r}, which is not among what it searches.")
    for end in rule.get("values", [rule.get("low"), rule.get("high")]):
        if "." not in name:
            Recipe(**{name: end})


def _check_values(where, rule):
    """Check a rule with values; returns what says whether a default is allowed."""
    if len(rule.keys() - {"values", "default"}):
        raise UsageError(f"{where} has values, so {', '.join(rule.keys() - {'values', 'default'})} cannot stand there.")
    values = rule["values"]
    if not isinstance(values, list) or not values:
        raise UsageError(f"{where} has values = {values!r}: it must be a list of one value or more.")
    if any(isinstance(value, list) for value in values) and not all(isinstance(value, list) for value in values):
        raise UsageError(f"{where} has values = {values!r}: all must be lists, or none.")
    if all(isinstance(value, bool) for value in values) and len(set(values)) < 2:
        raise UsageError(
            f"{where} has values = {values!r}, which leaves nothing to choose. "
            "Write it above the tables, without search."
        )
    return lambda default: default in values


def _check_range(where, rule):
    """Check a rule with low and high; returns what says whether a default is allowed."""
    if not {"low", "high"} <= rule.keys():
        raise UsageError(f"{where} needs low and high, or values.")
    low, high = rule["low"], rule["high"]
    if not (_number(low) and _number(high)):
        raise UsageError(f"{where} goes from {low!r} to {high!r}: both must be numbers. Or give values = [...]")
    if not low < high:
        raise UsageError(f"{where} is empty: low = {low} must be below high = {high}.")
    if not isinstance(rule.get("log", False), bool):
        raise UsageError(f"{where} has log = {rule['log']!r}: it must be true or false.")
    if rule.get("log") and not low > 0:
        raise UsageError(f"{where} has log = true, so low = {low} must be above 0.")
    if "step" in rule and not (_number(rule["step"]) and rule["step"] > (1 if rule.get("log") else 0)):
        raise UsageError(
            f"{where} has step = {rule['step']!r}: it must be a number above {1 if rule.get('log') else 0}."
        )
    return lambda default: _number(default) and low <= default <= high


def _number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def _suggested(hp, name, rule):
    if "values" in rule and all(isinstance(value, bool) for value in rule["values"]):
        return hp.Boolean(name, default=rule.get("default", rule["values"][0]))
    if "values" in rule and all(map(_number, rule["values"])):
        kind = float if any(isinstance(value, float) for value in rule["values"]) else int
        return hp.Choice(name, list(map(kind, rule["values"])), default=kind(rule.get("default", rule["values"][0])))
    if "values" in rule:  # Choice takes values of one type: words stand for them
        words = {str(v) if not isinstance(v, list) else " ".join(map(str, v)): v for v in rule["values"]}
        default = next((word for word, value in words.items() if value == rule.get("default")), None)
        return words[hp.Choice(name, list(words), default=default)]
    more = {"default": rule["default"]} if "default" in rule else {}
    whole = isinstance(rule["low"], int) and isinstance(rule["high"], int)
    if name in FIELDS:
        whole = whole and float not in (FIELDS[name].type, *typing.get_args(FIELDS[name].type))
    kind = hp.Int if whole else hp.Float
    if "step" in rule:
        more["step"] = rule["step"]
    return kind(name, rule["low"], rule["high"], sampling="log" if rule.get("log") else "linear", **more)


def hyperparameters(space):
    """KerasTuner's HyperParameters with everything that a space asks for under any of its choices.

    A HyperModel may fail for some values, and any space may raise KerasTuner's FailedTrialError for some: these will be
    failed trials.

    Raises:
        UsageError: the space fails otherwise or for all values, returns no Recipe, or asks for nothing.
    """
    import keras_tuner

    hps = keras_tuner.HyperParameters()
    failures, works = [], False
    waiting = [{}]
    while waiting:  # an answer may lead to questions that are not asked otherwise
        values = waiting.pop()
        branch = keras_tuner.HyperParameters()
        branch.values = dict(values)
        try:
            _asked(space, branch)
            works = True
        except UsageError as error:
            meant = values and isinstance(error.__cause__, keras_tuner.errors.FailedTrialError)
            if not (meant or hasattr(space, "hypermodel")):
                raise
            failures.append(error)
        known = [hp.name for hp in hps.space]
        new = [hp for hp in branch.space if hp.name not in known]
        hps.merge(new)
        waiting += [values | {hp.name: value} for hp in new for value in _few(hp)]
    if not works:
        raise failures[0]
    if not hps.space:
        raise UsageError("The space asks for nothing: it must call hp.Float, hp.Int, hp.Choice or hp.Boolean.")
    for hp in hps.space:
        if hasattr(hp, "min_value") and not hp.min_value < hp.max_value:
            raise UsageError(f"The range of {hp.name} is empty: {hp.min_value} must be below {hp.max_value}.")
    return hps


def _few(hp):
    """All values of a choice or of a short range of whole numbers; none of anything else."""
    if type(hp).__name__ in ("Choice", "Boolean"):
        return list(hp.values)
    if type(hp).__name__ == "Int" and hp.max_value - hp.min_value < 20:
        return list(hp.values)
    return []


def _asked(space, hp):
    try:
        recipe = space(hp)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"The space fails: {type(error).__name__}: {error}. Fix the function or the file.") from error
    if _is_model(recipe):
        raise UsageError("A function that returns a keras.Model is taken from a Python file. Name it: search='FILE.py'")
    if not isinstance(recipe, Recipe):
        raise UsageError(f"The space returns {type(recipe).__name__}, but it must return a kerascnn.recipes.Recipe.")


def recipe_of(space, values):
    """The Recipe of a trial's values, a dict by hyperparameter."""
    if hasattr(space, "hypermodel"):
        return Recipe()  # its networks are built where they are trained
    import keras_tuner

    hp = keras_tuner.HyperParameters()
    hp.values = dict(values)
    recipe = space(hp)
    missing = [one.name for one in hp.space if one.name not in values and hp.is_active(one)]
    if missing:
        raise UsageError(
            f"The space asks for {', '.join(missing)} only here, so it cannot be searched. Ask for it always."
        )
    return recipe


def searched_fields(space, hps):
    """{recipe field: name of a hyperparameter that changes it}, found by changing one at a time, from the defaults and
    from each value of each choice, as some act under another choice alone.

    Args:
        hps: the space's HyperParameters.
    """

    def recipe(**values):
        try:
            return recipe_of(space, defaults | values)
        except Exception:  # such a combination is a failed trial
            return None

    defaults = {hp.name: hp.default for hp in hps.space}
    fields = {}
    for base in [{}, *({hp.name: value} for hp in hps.space for value in _few(hp) if value != hp.default)]:
        usual = recipe(**base)
        for hp in hps.space:
            ends = [hp.min_value, hp.max_value] if hasattr(hp, "min_value") else hp.values
            for value in itertools.islice(ends, 50):
                other = recipe(**{**base, hp.name: value})
                if usual and other:
                    fields = dict.fromkeys(usual.differences(other), hp.name) | fields
    return fields


def described(hp):
    """{name: {"kind", "low", "high", "log", "step", "values"}} of HyperParameters, for pages and for comparison."""
    rows = {}
    for one in hp.space:
        kind = type(one).__name__.lower()
        row = {"kind": kind, "low": None, "high": None, "log": False, "step": None, "values": []}
        if kind in ("float", "int"):
            row |= {"low": one.min_value, "high": one.max_value, "log": one.sampling != "linear", "step": one.step}
        else:
            row["values"] = list(itertools.islice(one.values, 1000))
        rows[one.name] = row
    return rows
