"""A network without some of its layers, with wider or narrower ones, or with more convolutions.

Zeiler and Fergus (2013, table 3) leave out layers and change their widths; Krizhevsky et al. (2012, section 6) put a
sixth convolution behind the last pooling.

What belongs to a layer goes with it: the activation, normalisation and dropout between it and the next layer that has
filters or units, or pools. Poolings stay, unless they are named, so that the maps behind them keep their size.
"""

import keras

from kerascnn.errors import UsageError
from kerascnn.layers import give_weights
from kerascnn.network.find import Layers, find_all
from kerascnn.network.graph import flatten

BELONGS = (
    *("Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Dropout", "SpatialDropout2D", "GaussianDropout"),
    *("GaussianNoise", "BatchNormalization", "LayerNormalization", "LocalResponseNormalization"),
)


def altered(model, without="", widths="", extra=""):
    """A copy of a network without some layers, with others wider or narrower, or with more convolutions.

    Args:
        model: built Functional or Sequential keras.Model; it stays as it is.
        without: names of layers, patterns or ranges, separated by commas, such as "conv3,conv4".
        widths: names and what their numbers of filters or units become, several separated by semicolons, such as
            "conv3..conv5 x1.33" or "fc6 =512; fc7 =512".
        extra: names of layers that give maps, separated by commas, such as "pool5": behind each, a 3x3 convolution with
            a ReLU, called pool5_conv, which keeps the maps' size and number.
    Returns:
        (keras.Model, sentences on what was done). Layers that keep their shapes keep their weights, the others have
        fresh ones.
    Raises:
        UsageError: unknown layers, the only convolution or the layer of the class scores among those to be removed,
            shapes that no longer fit, or a layer before an extra convolution that gives no maps.
    """
    graph, places = flatten(model), {}
    for node in graph.nodes:
        places.setdefault(node.name, node)
    gone = _gone(model, graph, without) if without.strip() else {}
    sizes = _sizes(model, graph, widths) if widths.strip() else {}
    for name in sizes:
        if name in gone:
            raise UsageError(f"widths={widths!r} names {name!r}, which without={without!r} removes.")
    added = _added(model, graph, extra, gone, without) if extra.strip() else {}
    new_layers = {}

    def call(node, args, kwargs):
        result = one(node, args, kwargs)
        return added[node.name](result) if node.name in added else result

    def one(node, args, kwargs):
        if node.name in gone:
            return args[0]
        operation = node.operation
        if not isinstance(operation, keras.Layer):
            return _fitting(operation, node, args, kwargs, model, without)
        if node.name not in new_layers:
            config = operation.get_config()
            if node.name in sizes:
                kind, size = sizes[node.name]
                config[kind] = size
            new_layers[node.name] = type(operation).from_config(config)
        return _fitting(new_layers[node.name], node, args, kwargs, model, without)

    inputs = [keras.Input(tensor.shape[1:], name=tensor.name) for tensor in model.inputs]
    known = graph.run(inputs, call)
    outputs = [known[number] for number in graph.outputs]
    if any(new.shape != old.shape for new, old in zip(outputs, model.outputs, strict=True)):
        raise UsageError(
            f"without={without!r} changes what {model.name} puts out, from {model.outputs[0].shape[1:]} to "
            f"{outputs[0].shape[1:]}. Leave the layer that gives the class scores."
        )
    one_each = len(inputs) == len(outputs) == 1
    changed = keras.Model(*((inputs[0], outputs[0]) if one_each else (inputs, outputs)), name=model.name)
    for name, layer in new_layers.items():
        old = places[name].operation
        if [tuple(w.shape) for w in layer.weights] == [tuple(w.shape) for w in old.weights] and old.weights:
            give_weights(layer, old.get_weights())
    return changed, _told(model, changed, graph, without, gone, sizes, added)


def _fitting(layer, node, args, kwargs, model, without):
    try:
        return layer(*args, **kwargs)
    except (ValueError, TypeError) as error:
        shapes = ", ".join("x".join(map(str, x.shape[1:])) for x in keras.tree.flatten(args) if hasattr(x, "shape"))
        raise UsageError(
            f"{model.name} without {without or 'nothing'}: layer {node.name!r} no longer fits: it gets {shapes}. Name "
            f"it, too, or keep the layer before it. Keras says: {str(error).splitlines()[0]}"
        ) from None


def _weighted(node):
    return type(node.operation).__name__ == "Dense" or "Conv" in type(node.operation).__name__


def _gone(model, graph, without):
    """{name of a layer that goes: the named layer that it belongs to}."""
    names = _paths(model, graph, without)
    nodes = {node.name: node for node in graph.nodes}
    weighted = [node.name for node in graph.nodes if _weighted(node)]
    convolutions = [name for name in weighted if "Conv" in type(nodes[name].operation).__name__]
    if convolutions and set(convolutions) <= set(names):
        only = "the only convolution" if len(convolutions) == 1 else "every convolution"
        raise UsageError(f"without={without!r} removes {only} of {model.name}. Keep one.")
    if weighted and weighted[-1] in names:
        raise UsageError(f"without={without!r} removes {weighted[-1]!r}, which gives the class scores. Leave it out.")
    gone = {}
    for name in names:
        if len(nodes[name].inputs) != 1:
            raise UsageError(f"without={without!r}: {name!r} joins several layers and cannot be left out.")
        gone[name] = name
        if not _weighted(nodes[name]):
            continue
        node = nodes[name]
        while True:
            after = [each for each in graph.nodes if node.outputs[0] in each.inputs]
            if len(after) != 1 or type(after[0].operation).__name__ not in BELONGS:
                break
            node = after[0]
            gone[node.name] = name
    return gone


def _paths(model, graph, names):
    """The layers of a graph that names mean."""
    kinds = {node.name: type(node.operation).__name__ for node in graph.nodes}
    return [place.path for place in find_all(Layers(model.name, {path: [path] for path in kinds}, kinds), names)]


def _sizes(model, graph, widths):
    """{name of a layer: ("filters" or "units", how many)}."""
    nodes = {node.name: node.operation for node in graph.nodes}
    last = [node.name for node in graph.nodes if _weighted(node)][-1:]
    sizes = {}
    for part in filter(None, (part.strip() for part in widths.split(";"))):
        names, _, change = part.rpartition(" ")
        sign, number = change[:1], _number(change[1:])
        if not names or sign not in ("x", "=") or number is None:
            raise UsageError(
                f"widths={widths!r} is not allowed: write names, a space, and x with a factor or = with a number, such "
                "as 'conv3..conv5 x1.33'."
            )
        kinds = ("Conv2D", "GroupedConv2D", "SeparableConv2D", "Dense")
        sized = [name for name in _paths(model, graph, names) if type(nodes[name]).__name__ in kinds]
        if not sized or set(last) & set(sized):
            what = f"{last[0]!r} gives the class scores" if sized else "none of them has filters or units"
            raise UsageError(f"widths={widths!r} is not allowed: {what}. Name convolutions and hidden dense layers.")
        for name in sized:
            kind = "units" if type(nodes[name]).__name__ == "Dense" else "filters"
            groups = getattr(nodes[name], "groups", 1)
            size = number if sign == "=" else getattr(nodes[name], kind) * number
            sizes[name] = kind, max(1, round(size / groups)) * groups
    return sizes


def _added(model, graph, extra, gone, without):
    """{name of a layer: the convolution behind it}."""
    nodes, new_layers = {node.name: node for node in graph.nodes}, {}
    for name in _paths(model, graph, extra):
        if name in gone:
            raise UsageError(f"extra={extra!r} names {name!r}, which without={without!r} removes.")
        shapes = [tuple(graph.tensors[number].shape) for number in nodes[name].outputs]
        if len(shapes) != 1 or len(shapes[0]) != 4:
            raise UsageError(
                f"extra={extra!r} is not allowed: {name!r} of {model.name} gives no maps for a convolution. Name a "
                "convolution or a pooling."
            )
        label = f"{name.replace('/', '_')}_conv"
        new_layers[name] = keras.layers.Conv2D(shapes[0][-1], 3, padding="same", activation="relu", name=label)
    return new_layers


def _number(text):
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None


def _told(model, changed, graph, without, gone, sizes, added):
    """Sentences on what went, what poolings now follow each other, and how many parameters are left."""
    said = []
    if gone:
        with_them = [name for name, of in gone.items() if name != of]
        more = f", and with them {', '.join(with_them)}" if with_them else ""
        said.append(f"without {', '.join(dict.fromkeys(gone.values()))}{more}")
    last = None
    for node in graph.nodes:
        if node.name in gone or isinstance(node.operation, keras.layers.Identity):
            continue
        kind = type(node.operation).__name__
        if kind in ("MaxPooling2D", "AveragePooling2D"):
            if last is not None and gone:
                said.append(
                    f"{node.name} now follows {last} with no filters between them and stays, so that the maps behind "
                    f"it keep their size; to drop it, too: without={without},{node.name}"
                )
            last = node.name
        elif kind not in BELONGS:
            last = None
    for name, (kind, size) in sizes.items():
        old = next(getattr(node.operation, kind) for node in graph.nodes if node.name == name)
        said.append(f"{name}: {size} {kind} in place of {old}")
    said += [
        f"{layer.name}: 3x3 convolution with {layer.filters} filters after {name}" for name, layer in added.items()
    ]
    said.append(f"{changed.count_params():,} parameters in place of {model.count_params():,}")
    return tuple(said)
