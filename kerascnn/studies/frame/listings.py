"""Tables that pages show, as text."""

import pandas


def of_layers(table):
    """A layer table (`kerascnn.anatomy.layer_table`) with the columns that reports print, as text."""

    def shape(value):
        return "x".join(map(str, value[1:])) if isinstance(value, tuple) else ""

    return pandas.DataFrame(
        {
            "layer": table["layer"],
            "type": table["type"],
            "input": table["input_shape"].map(shape),
            "output": table["output_shape"].map(shape),
            "parameters": table["parameters"].map("{:,}".format),
            "neurons": table["neurons"].map(lambda count: f"{count:,}" if count else ""),
        }
    )
