"""What a network is before it is trained: its table, receptive fields, costs and picture, of any Keras model.

    layer_table(model)                    one row per layer: shapes, parameters, neurons, MACs, memory, receptive field
    totals(table), printed(table)         their sums, and the table as text
    receptive_field(model, "conv4")       which pixels each unit sees
    cost(model, batch_size=128)           work and memory of training and inference
    largest_batch(model, 4e9)             the largest batch whose training fits
    drawing(model)                        an SVG picture

Functional and Sequential models are understood, however they nest and share layers. Nothing changes the model.
"""

from kerascnn.anatomy.drawing import drawing
from kerascnn.anatomy.layer_table import as_text, layer_table, printed, totals
from kerascnn.network.cost import Cost, cost, largest_batch
from kerascnn.network.receptive_field import ReceptiveField, receptive_field

__all__ = [
    "Cost",
    "ReceptiveField",
    "as_text",
    "cost",
    "drawing",
    "largest_batch",
    "layer_table",
    "printed",
    "receptive_field",
    "totals",
]
