"""A picture of a network as SVG, without graphviz: a box per layer, as wide as its output is large, and lines."""

import html

import numpy as np

from kerascnn.errors import counted
from kerascnn.network.sizes import count, elements, label, sized

# Colours of Okabe and Ito (2008), told apart by colour-blind readers.
COLOURS = {
    "Conv": "#0072b2",
    "Dense": "#d55e00",
    "Pooling": "#009e73",
    "Normalization": "#cc79a7",
    "Input": "#999999",
    "": "#e3e3e3",
}
ROW, LEFT, WIDEST = 46, 30, 220  # pixels: height of a row, left margin, longest box


def drawing(model, *, input_shape=None, links=None):
    """The network as an SVG text: one row per layer in order of execution, lines from where each reads.

    A box is as wide as the logarithm of the layer's numbers per image, its colour is the kind of layer; beside it stand
    the name, the class, the output shape and the parameters.

    Args:
        model: keras.Model.
        input_shape: (height, width, channels), where the model's own is open or another is wanted.
        links: {name of a layer: address that a click on it opens}.
    Returns:
        str, a whole SVG document.
    """
    flat, shapes = sized(model, input_shape)
    rows = [(name, "InputLayer", 0, (), (number,)) for name, number in zip(flat.input_names, flat.inputs, strict=True)]
    for node in flat.nodes:
        parameters = count(getattr(node.operation, "weights", ()))
        rows.append((label(node), type(node.operation).__name__, parameters, node.inputs, node.outputs))
    row_of = {number: i for i, row in enumerate(rows) for number in row[4]}
    jumps = [(row_of[n], i) for i, row in enumerate(rows) for n in row[3] if row_of[n] < i - 1]
    lanes = _lanes(jumps)
    middle = LEFT + 12 * (max(lanes.values(), default=-1) + 1) + WIDEST / 2
    largest = max((elements(shapes[row[4][0]]) or 1 for row in rows), default=1)
    parts = []
    for i, (_, _, _, reads, _) in enumerate(rows):
        for number in reads:
            start = row_of[number]
            if start == i - 1:
                parts.append(f'<path d="M{middle} {_y(start) + 14} V{_y(i) - 14}"/>')
            else:
                x = LEFT + 12 * lanes[(start, i)]
                left = middle - WIDEST / 2
                parts.append(f'<path d="M{left} {_y(start)} H{x} V{_y(i)} H{left}"/>')
    for i, (name, kind, parameters, _, outputs) in enumerate(rows):
        shape = shapes[outputs[0]]
        share = np.log1p(elements(shape) or 1) / np.log1p(largest)
        link = html.escape((links or {}).get(name, ""))
        parts += [f'<a href="{link}">'] if link else []
        parts.append(_box(i, middle, max(8, WIDEST * share), kind))
        sides = " x ".join("?" if side is None else str(side) for side in shape[1:])
        words = f"{sides}, {counted(parameters, 'parameter')}" if parameters else sides
        x = middle + WIDEST / 2 + 16
        parts.append(f'<text x="{x}" y="{_y(i) - 2}" class="name">{html.escape(name)} <tspan>{kind}</tspan></text>')
        parts.append(f'<text x="{x}" y="{_y(i) + 13}">{words}</text>')
        parts += ["</a>"] if link else []
    height, width = _y(len(rows)), int(middle + WIDEST / 2 + 340)
    role = "group" if links else "img"  # a picture has nothing to click on
    title = html.escape(f"{model.name}: {counted(len(rows), 'layer')}")
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" role="{role}"><title>{title}</title>',
            "<style>path{fill:none;stroke:#555;stroke-width:1.5}text{font:12px sans-serif;fill:#444}"
            ".name{font-weight:bold;fill:#000}tspan{font-weight:normal;fill:#777}</style>",
            f'<rect width="{width}" height="{height}" fill="#fff"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _y(row):
    return 32 + ROW * row


def _box(row, middle, width, kind):
    colour = next(colour for word, colour in COLOURS.items() if word in kind)
    x = f"{middle - width / 2:.1f}"
    return f'<rect x="{x}" y="{_y(row) - 14}" width="{width:.1f}" height="28" rx="3" fill="{colour}"/>'


def _lanes(jumps):
    """A lane left of the boxes for every connection that passes over rows, {(from, to): lane}, so that none overlap."""
    lanes, ends = {}, []
    for start, end in sorted(set(jumps)):
        lane = next((i for i, taken in enumerate(ends) if taken <= start), len(ends))
        ends[lane : lane + 1] = [end]
        lanes[(start, end)] = lane
    return lanes
