"""What a network is before it is trained: `kerascnn table`, `receptive-field`, `cost` and `draw`."""

import re
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from kerascnn import runs
from kerascnn.commands.terminal import Json, computing, print_json
from kerascnn.errors import UsageError, counted
from kerascnn.models import APPLICATION, FILES, MODELS
from kerascnn.text_table import text_table

ModelName = Annotated[
    str,
    Parameter(
        help='a network (kerascnn models), a run (its folder, its name, or "last"), a .keras or .h5 file, or '
        "applications:NAME, such as applications:MobileNetV2"
    ),
]
Side = Annotated[int | None, Parameter(help="side of the square input, pixels [default: the network's own]")]
FIELDS = ["layer", "output_shape", "rf_size", "rf_stride", "rf_offset"]
UNITS = {"": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def _check(model):
    """Raise, before Keras is imported, if no network, run or file has that name."""
    if model not in MODELS and not model.endswith(FILES) and not model.startswith(APPLICATION):
        try:
            runs.find(model)
        except UsageError:
            if "/" in model or model == "last":
                raise
            MODELS.facts(model)  # answers with the nearest network


def _network(model, image_size):
    """(the keras.Model of that name, the input shape to read it with or None)."""
    from kerascnn.keras_file import load
    from kerascnn.network.graph import without_weights
    from kerascnn.using.applications import application_model
    from kerascnn.using.classifier import load_file

    if model in MODELS:
        channels = MODELS.facts(model)["input_shape"][2]
        shape = {"input_shape": (image_size, image_size, channels)} if image_size is not None else {}
        with without_weights():
            return MODELS.get(model)(**shape), None
    if model.startswith(APPLICATION):
        with without_weights():
            network = application_model(model.removeprefix(APPLICATION).partition("=")[0])
    elif model.endswith(FILES):
        network = load_file(model)
        if Path(model).name == "best.keras":
            _freeze_as_trained(network, runs.Run(Path(model).parent))
    else:
        network = load(model)
        _freeze_as_trained(network, runs.find(model))
    return network, (image_size, image_size, network.input_shape[-1]) if image_size is not None else None


def _freeze_as_trained(network, run):
    """Mark the layers that a run's recipe kept from being trained: best.keras does not say which they were."""
    from kerascnn.network.find import layers_of
    from kerascnn.network.graph import without_weights
    from kerascnn.recipes import Recipe
    from kerascnn.training import build, transfer

    recipe = Recipe.from_dict(run.read("recipe")) if (run / "recipe.json").exists() else Recipe()
    if recipe.freeze or recipe.train_last:
        with without_weights():  # the network that was trained: batch normalisation may be folded into best.keras
            trained = build.network(build.without_weights(recipe), network.input_shape[1:], network.output_shape[-1])
        frozen = transfer.frozen_layers(trained, recipe.freeze, recipe.train_last)
        for path, layer in (layers_of(network) | {layer.name: layer for layer in network.layers}).items():
            if path in frozen:
                layer.trainable = False


def table(
    model: ModelName,
    /,
    *,
    image_size: Side = None,
    format: Literal["text", "markdown", "latex", "csv", "json", "html"] = "text",
):
    """Print a network's layers: shapes, parameters, neurons and multiply-accumulates.

    Parameters
    ----------
    format
        text looks like the table of a course report; the others have every column, including receptive fields
    """
    _check(model)
    with computing():
        from kerascnn import anatomy

        network, shape = _network(model, image_size)
        layers = anatomy.layer_table(network, input_shape=shape)
        print(anatomy.printed(layers) if format == "text" else anatomy.as_text(layers, format))


def receptive_field(
    model: ModelName,
    layer: str | None = None,
    row: int | None = None,
    column: int | None = None,
    /,
    *,
    image_size: Side = None,
    json: Json = False,
):
    """Print which pixels of the image the units of a layer, or of every layer, see.

    Parameters
    ----------
    layer
        name of the layer (kerascnn table MODEL); without it, a table of all layers
    row, column
        of one unit: print its exact rectangle, clipped to the image
    """
    _check(model)
    if (row is None) != (column is None):
        raise UsageError(f"A unit has a row and a column; only {row if column is None else column} was typed.")
    with computing():
        from kerascnn import anatomy

        network, shape = _network(model, image_size)
        if layer is None:
            table = anatomy.layer_table(network, input_shape=shape)
            _print_fields(table.loc[table["type"] != "InputLayer", FIELDS], json)
            return
        field = anatomy.receptive_field(network, layer, input_shape=shape)
        box = None if row is None else field.box(row, column)
    shown = {
        "layer": field.layer,
        "image": field.input_size,
        "map": field.output_size,
        "size": field.size,
        "stride": field.stride,
        "offset": field.offset,
    }
    if box:
        shown |= {"unit": (row, column), "top, left, bottom, right": box}
    if json:
        print_json(shown)
        return
    for name, value in shown.items():
        text = " x ".join(map(str, value)) if isinstance(value, tuple) else value
        if name in ("unit", "offset", "top, left, bottom, right") and value:
            text = ", ".join(map(str, value))
        print(f"{name:24} {'whole image, or not the same for all units' if value is None else text}")


def _print_fields(table, json):
    """One line for each layer, with dashes where it has no map or no single field."""
    names = ("map", "size", "stride", "offset")
    rows = []
    for name, shape, *field in table.itertuples(index=False):
        extent = shape[1:3] if isinstance(shape, tuple) and len(shape) == 4 else None
        rows.append((name, [value if isinstance(value, tuple) else None for value in (extent, *field)]))
    if json:
        print_json([{"layer": name, **dict(zip(names, cells, strict=True))} for name, cells in rows])
        return
    joints = (" x ", " x ", " x ", ", ")
    texts = [
        (
            name,
            *("-" if cell is None else joint.join(map(str, cell)) for joint, cell in zip(joints, cells, strict=True)),
        )
        for name, cells in rows
    ]
    print(text_table(("layer", *names), texts))
    if any("-" in cells for cells in texts):
        print("\nA layer without a size sees the whole image, or its units see fields of different sizes.")


def cost(
    model: ModelName,
    /,
    *,
    batch_size: int = 128,
    precision: str | None = None,
    optimizer: str = "adam",
    memory: str | None = None,
    image_size: Side = None,
    layers: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
):
    """Print the work and the memory that a network's training and inference need.

    Parameters
    ----------
    batch_size
        images per step
    precision
        float32, mixed_bfloat16, mixed_float16, bfloat16 or float16 [default: the network's own]
    optimizer
        adam, sgd, sgd_momentum, rmsprop ...
    memory
        such as 4GB or 512MiB: also print the largest batch that fits
    layers
        also print a line for each layer
    """
    _check(model)
    limit = None if memory is None else _bytes(memory)
    with computing():
        from kerascnn import anatomy

        network, shape = _network(model, image_size)
        costs = anatomy.cost(network, batch_size, precision, optimizer, input_shape=shape)
        shown = {name: value for name, value in vars(costs).items() if name != "layers"}
        if limit:
            for mode in ("training", "inference"):
                shown[f"largest_{mode}_batch"] = anatomy.largest_batch(
                    network, limit, precision, optimizer, input_shape=shape, mode=mode
                )
    if json:
        print_json(shown | ({"layers": costs.layers.to_dict("records")} if layers else {}))
        return
    if layers:
        print(costs.layers.to_string(index=False) + "\n")
    print(costs)
    if limit:
        print(
            f"In {memory}, 35% kept free, the largest batch is "
            f"{counted(shown['largest_training_batch'], 'image')} in training "
            f"and {shown['largest_inference_batch']:,} in inference."
        )


def draw(model: ModelName, file: Path | None = None, /, *, image_size: Side = None):
    """Draw a network as an SVG picture.

    Parameters
    ----------
    file
        the SVG file to write [default: MODEL.svg]
    """
    _check(model)
    path = file or Path(f"{runs.plain(model)}.svg")
    if path.is_dir() or path.suffix != ".svg":
        raise UsageError(f"{path} is not the name of an .svg file; nothing was written. Type another FILE.svg")
    with computing():
        from kerascnn import anatomy

        network, shape = _network(model, image_size)
        runs.write_text(path, anatomy.drawing(network, input_shape=shape))
    print(path)


def _bytes(text):
    """ "4GB" as a number of bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]i?b?|b)", text.strip(), re.IGNORECASE)
    unit = match and match[2].upper()
    unit = unit + "B" if unit and not unit.endswith("B") else unit
    if not match or unit not in {*UNITS, "B"} or float(match[1]) <= 0:
        raise UsageError(f"--memory {text!r} is not an amount of memory. Type for example 4GB or 512MiB.")
    return float(match[1]) * UNITS.get(unit, 1)
