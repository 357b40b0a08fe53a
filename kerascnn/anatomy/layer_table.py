"""The table of a network's layers that course reports print, as a DataFrame, as text and in other formats."""

import keras
import pandas as pd

from kerascnn.errors import UsageError, unknown
from kerascnn.network.plan import describe
from kerascnn.network.receptive_field import all_fields
from kerascnn.network.sizes import count, elements, itemsize, label
from kerascnn.network.work import kind, macs, steps_of_calls
from kerascnn.text_table import text_table

FORMATS = ("markdown", "latex", "csv", "json", "html")


def layer_table(model, *, input_shape=None):
    """One row per layer, in order of execution; a shared layer has one row per call and counts once.

    Args:
        model: keras.Model.
        input_shape: (height, width, channels), where the model's own is open or another is wanted.
    Returns:
        pandas.DataFrame with the columns
            layer: the layer's name, with the nested models it is in, as in "block/conv".
            type: its class.
            input_shape, output_shape: tuples, batch first, None where open; of several inputs a list of tuples.
            parameters, trainable, not_trainable: numbers of weights.
            neurons: outputs per image of convolutional and dense layers; 0 for others.
            macs: multiply-accumulates per image in convolutions, dense and recurrent layers.
            activation_bytes: the output's size per image in the layer's precision.
            rf_size, rf_stride, rf_offset: the unclipped receptive field, (height, width) pixels; see `receptive_field`.
            part: "convolutional" or "dense": the layer's own kind, or that of the layer before it.

        Open sizes and what is not known are None.
    Raises:
        UsageError: the model is not built, or has no graph.
    """
    network = describe(model, input_shape)
    flat, shapes, plan = network
    fields, work, steps = _fields(network), macs(network), steps_of_calls(plan)
    rows, part_of, counted = [], {}, set()
    for name, number in zip(flat.input_names, flat.inputs, strict=True):
        dtype = flat.tensors[number].dtype
        rows.append(_row(name, "InputLayer", shapes[number], shapes[number], dtype, part=""))
        part_of[number] = ""
    for node in flat.nodes:
        layer = node.operation
        output = shapes[node.outputs[0]]
        inputs = [shapes[number] for number in node.inputs]
        layer_part = kind(layer, steps.get((node.name, node.call), ()))
        part = layer_part or next((part_of[n] for n in node.inputs if part_of[n]), "")
        part_of.update(dict.fromkeys(node.outputs, part))
        row = _row(
            label(node),
            type(layer).__name__,
            inputs[0] if len(inputs) == 1 else inputs,
            output,
            flat.tensors[node.outputs[0]].dtype,
            part=part,
        )
        if isinstance(layer, keras.Layer) and id(layer) not in counted:
            counted.add(id(layer))
            row["trainable"] = count(layer.trainable_variables)
            row["parameters"] = count(layer.weights)
            row["not_trainable"] = row["parameters"] - row["trainable"]
        row["neurons"] = elements(output) if layer_part else 0
        row["macs"] = work[node.name, node.call]
        if field := fields.get((node.name, node.call)):
            row |= {"rf_size": field.size, "rf_stride": field.stride, "rf_offset": field.offset}
        rows.append(row)
    table = pd.DataFrame(rows)
    for column in ("neurons", "macs", "activation_bytes"):
        table[column] = table[column].astype("Int64")
    return table


def _row(layer, kind, input_shape, output_shape, dtype, part):
    numbers = elements(output_shape)
    return {
        "layer": layer,
        "type": kind,
        "input_shape": input_shape,
        "output_shape": output_shape,
        "parameters": 0,
        "trainable": 0,
        "not_trainable": 0,
        "neurons": 0,
        "macs": 0,
        "activation_bytes": None if numbers is None else numbers * itemsize(dtype),
        "rf_size": None,
        "rf_stride": None,
        "rf_offset": None,
        "part": part,
    }


def _fields(network):
    """Receptive fields, or none where the input is no single image of a known size."""
    try:
        return all_fields(network)
    except UsageError:
        return {}


def totals(table):
    """The sums of a layer table: rows "all", "convolutional" and "dense", columns as the table's numbers.

    Normalisation counts with the layer before it, as course reports do; a sum with something unknown in it is <NA>.
    """
    columns = ["parameters", "trainable", "not_trainable", "neurons", "macs", "activation_bytes"]
    parts = {"all": table, **{part: table[table["part"] == part] for part in ("convolutional", "dense")}}
    sums = {name: [rows[column].sum(skipna=False) for column in columns] for name, rows in parts.items()}
    return pd.DataFrame.from_dict(sums, orient="index", columns=columns).astype("Int64")


def printed(table):
    """The table as text, with its totals in words, as course reports print it."""
    head = ("Layer (type)", "Input Shape", "Output Shape", "Param")
    rows = [
        (f"{row.layer} ({row.type})", _shape(row.input_shape), _shape(row.output_shape), f"{row.parameters:,}")
        for row in table.itertuples()
    ]
    total = totals(table)
    everything, convolutional, dense = (total.loc[name] for name in ("all", "convolutional", "dense"))
    lines = [
        text_table(head, rows, "lllr"),
        "",
        f"Parameters: {everything.parameters:,}, of which {everything.trainable:,} are trainable and "
        f"{everything.not_trainable:,} are not;",
        f"    {convolutional.parameters:,} in the convolutional layers, {dense.parameters:,} in the dense layers.",
        f"Neurons: {_number(convolutional.neurons)} in the convolutional layers, {_number(dense.neurons)} in the dense "
        "layers.",
        f"Multiply-accumulates per image: {_number(everything.macs)}; activations per image: "
        f"{_number(everything.activation_bytes)} bytes.",
    ]
    return "\n".join(lines)


def _shape(shape):
    return ", ".join(map(str, shape)) if isinstance(shape, list) else str(shape)


def _number(value):
    return "not known" if pd.isna(value) else f"{value:,}"


def as_text(table, kind):
    """A layer table or its totals as a string: "markdown", "latex", "csv", "json" (a list of objects) or "html"."""
    if kind not in FORMATS:
        raise unknown("table format", kind, FORMATS)
    plain = table.copy()
    for column in plain.columns:
        if plain[column].map(lambda value: isinstance(value, (tuple, list))).any():
            plain[column] = plain[column].map(lambda v: None if v is None else v if kind == "json" else _shape(v))
    index = not isinstance(plain.index, pd.RangeIndex)
    if kind == "json":
        return (plain.reset_index() if index else plain).to_json(orient="records", indent=2)
    if kind == "csv":
        return plain.to_csv(index=index)
    if kind == "markdown":
        return plain.to_markdown(index=index)
    return plain.to_latex(index=index, escape=True) if kind == "latex" else plain.to_html(index=index)
