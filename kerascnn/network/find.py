"""How the layers of a network are named: one rule for all methods, and one error that names the nearest layer.

"conv4"
    a layer, by its name or, inside nested models, by the end of its path
"backbone/conv4", "backbone"
    by its path; a nested model's name means all layers in it
"conv#1"
    the first call of a shared layer
"conv*", "conv2..conv4"
    patterns of names or paths, and ranges with both ends
"deepest"
    the last convolution
"""

import fnmatch
from typing import NamedTuple

from kerascnn.errors import UsageError, nearest


class Layers(NamedTuple):
    """What `find` needs from a network, as in a Plan: a name, {path: its calls' values}, {path: class name}."""

    model: str
    layers: dict
    kinds: dict


class Place(NamedTuple):
    """One call of a layer: its name here, the layer's path, and what the network stores about the call."""

    name: str
    path: str
    value: object

    def number(self, paths):
        """The place of this call among the calls of all layers, in order, of which the paths are given."""
        call = int(self.name.rpartition("#")[2]) if "#" in self.name else 1
        return [number for number, path in enumerate(paths) if path == self.path][call - 1]


def layers_of(model):
    """{path: layer} of a keras.Model, nested models opened."""
    opened = {}
    for layer in model.layers:
        inner = layers_of(layer) if hasattr(layer, "layers") and hasattr(layer, "get_layer") else {}
        opened |= {f"{layer.name}/{path}": each for path, each in inner.items()} or {layer.name: layer}
    return opened


def layers_in(model):
    """The Layers of a keras.Model; for each call, the layer is stored."""
    opened = layers_of(model)
    return Layers(model.name, {p: [x] for p, x in opened.items()}, {p: type(x).__name__ for p, x in opened.items()})


def convolutions(network):
    """Paths of the layers whose output comes from a convolution, in order."""
    return [path for path, kind in network.kinds.items() if "Conv" in kind]


def call_names(network, paths=None):
    """Names of all calls of layers: a path, or "path#1", "path#2" if a layer is called several times."""
    return [place.name for path in network.layers if paths is None or path in paths for place in _calls(network, path)]


def find(network, name, call=None):
    """The one Place that a name means.

    Args:
        network: a Plan or Layers.
        name: as the module's docstring says.
        call: which call of a shared layer a name without "#" means; None: none of them.
    Raises:
        UsageError: the name means no layer, or several; the message lists the layers.
    """
    places = _places(network, str(name).strip())
    paths = list(dict.fromkeys(place.path for place in places))
    if len(paths) > 1:
        raise UsageError(f"Model {network.model!r} has several layers called {name!r}: type one of {', '.join(paths)}.")
    if len(places) > 1 and call is None:
        options = " or ".join(repr(place.name) for place in places)
        times = f"is called {len(places)} times"
        raise UsageError(f"Layer {paths[0]!r} of model {network.model!r} {times}: type {options}.")
    return places[0] if call is None else places[min(call, len(places)) - 1]


def find_all(network, names):
    """The Places that names mean, in the order of the names, each once.

    Args:
        names: a name, or several: a list, or a string with commas between them. If a name means one layer, the Place
            keeps that name, so that the result is found under it.
    Raises:
        UsageError: a name means no layer, or there is no name.
    """
    names = [name.strip() for name in names.split(",")] if isinstance(names, str) else [str(name) for name in names]
    places = {}
    for name in filter(None, names):
        several = means_several(name) or any(f"/{name}/" in f"/{path}" for path in network.layers)
        for place in _places(network, name) if several else [find(network, name)._replace(name=name)]:
            places.setdefault(place.name, place)
    if not places:
        raise UsageError(f"No layer of model {network.model!r} is named. Leave the names out, or name at least one.")
    return list(places.values())


def means_several(name):
    """True for a pattern, a range or a list with commas."""
    return ".." in name or any(sign in name for sign in "*?[,")


def _places(network, name):
    first, dots, last = name.partition("..")
    if dots and name not in network.layers:
        order = list(network.layers)
        start, end = order.index(_paths(network, first)[0]), order.index(_paths(network, last)[-1])
        if start > end:
            raise UsageError(f"{name!r} is empty: {last!r} comes before {first!r} in model {network.model!r}.")
        return [place for path in order[start : end + 1] for place in _calls(network, path)]
    path, _, call = (name, "", "") if name in network.layers else name.partition("#")
    return [place for path in _paths(network, path, name) for place in _calls(network, path, call, name)]


def _paths(network, words, name=None):
    """Paths of the layers that a name without "#" means."""
    paths = list(network.layers)
    deep = convolutions(network)
    if words in paths:
        return [words]
    if words == "deepest" and deep:
        return deep[-1:]
    if means_several(words):
        meant = [p for p in paths if fnmatch.fnmatchcase(p, words) or fnmatch.fnmatchcase(p.rpartition("/")[2], words)]
    else:
        meant = [p for p in paths if p.endswith(f"/{words}")] or [p for p in paths if f"/{words}/" in f"/{p}"]
    if not meant:
        raise _no_layer(network, name or words, deep)
    return meant


def _calls(network, path, call="", name=None):
    values = network.layers[path]
    if call and not (call.isdecimal() and 1 <= int(call) <= len(values)):
        which = f"calls #1 to #{len(values)}" if len(values) > 1 else "one call"
        raise UsageError(f"Layer {path!r} of model {network.model!r} has {which}; received {name!r}.")
    numbers = [int(call)] if call else range(1, len(values) + 1)
    return [Place(f"{path}#{i}" if len(values) > 1 or call else path, path, values[i - 1]) for i in numbers]


def _no_layer(network, name, deep):
    parts = [f"Model {network.model!r} has no layer {name!r}."]
    guesses = nearest(name, network.layers)
    if guesses:
        parts.append("Did you mean " + " or ".join(repr(g) for g in guesses) + "?")
    if len(deep) > 1:
        parts.append(f"Its convolutions are {deep[0]} to {deep[-1]}; the deepest is {deep[-1]!r}.")
    elif deep:
        parts.append(f"Its only convolution is {deep[0]!r}.")
    parts.append(f"List them: kerascnn table {network.model}")
    return UsageError(" ".join(parts))
