"""Work and memory of a network, layer by layer, before anything is run: what training and inference will need.

The memory is an estimate of what is live at the busiest moment, in bytes:

    training:   weights + optimizer slots + gradients + the largest update while it is computed
                + batch * max over layers of (saved outputs up to the layer + 2 * its output + the next layer's output)
    inference:  weights + batch * max over layers of (input + 1.5 * output)

The forward pass saves every layer's output for the backward pass. While the gradient passes a layer, memory holds its
gradient before and after the activation, and that of the next layer, whose weight gradient is computed at the same
time. The 1.5 accounts for a convolution before its bias and activation and for what TensorFlow does in place; it was
fitted to measurements. Flatten and reshape share the memory of their input. `benchmarks/memory.py` compares with what
TensorFlow's allocator measures on CPU; the process itself grows by up to 1.6 times as much, because the allocator keeps
freed blocks; this is the reason for the headroom.
"""

import dataclasses

import keras
import numpy as np
import pandas as pd

from kerascnn.errors import UsageError, counted, unknown
from kerascnn.network.plan import describe
from kerascnn.network.sizes import count, elements, itemsize, label
from kerascnn.network.work import macs, steps_of_calls

# Numbers that an optimizer keeps per trainable weight.
SLOTS = {
    "sgd": 0,
    "sgd_momentum": 1,
    "adagrad": 1,
    "adadelta": 2,
    "adafactor": 1,
    "adam": 2,
    "adamax": 2,
    "adamw": 2,
    "ftrl": 2,
    "lamb": 2,
    "lion": 1,
    "muon": 1,
    "nadam": 2,
    "rmsprop": 1,
}
# (bytes of a weight, bytes of an activation, bytes of the copy of a weight that the products use)
PRECISIONS = {
    "float32": (4, 4, 0),
    "float64": (8, 8, 0),
    "float16": (2, 2, 0),
    "bfloat16": (2, 2, 0),
    "mixed_float16": (4, 2, 2),
    "mixed_bfloat16": (4, 2, 2),
}
FLOATS = ("float32", "float64", "float16", "bfloat16")
_SHARED = {"reshape", "expand", "squeeze"}  # steps whose output is their input's memory


@dataclasses.dataclass(frozen=True, eq=False)
class Cost:
    """The result of `cost`.

    Attributes:
        layers: pandas.DataFrame, one row per layer: layer, macs (per image), parameters, weight_bytes, gradient_bytes,
            optimizer_bytes, activation_bytes (its output, whole batch), training_bytes and inference_bytes (live while
            the gradient, or the image, passes the layer; without weights).
        batch_size, precision, optimizer: as asked for.
        macs: multiply-accumulates of one image in the forward pass; training takes about three times as many.
        parameters: number of weights.
        weight_bytes, gradient_bytes, optimizer_bytes: sums over all layers.
        training_bytes, inference_bytes: memory at the busiest moment.
    """

    layers: pd.DataFrame
    batch_size: int
    precision: str
    optimizer: str
    macs: int
    parameters: int
    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    training_bytes: int
    inference_bytes: int

    def __str__(self):
        def mb(value):
            return f"{value / 1e6:,.1f} MB"

        return (
            f"{counted(self.macs, 'multiply-accumulate')} per image, {counted(self.parameters, 'parameter')}.\n"
            f"At batch {self.batch_size}, {self.precision}, {self.optimizer}: training {mb(self.training_bytes)} "
            f"(weights {mb(self.weight_bytes)}, gradients {mb(self.gradient_bytes)}, optimizer "
            f"{mb(self.optimizer_bytes)}, the rest activations), inference {mb(self.inference_bytes)}."
        )


def cost(model, batch_size=32, precision=None, optimizer="adam", *, input_shape=None):
    """The work and memory of a model's training and inference.

    Args:
        model: keras.Model.
        batch_size: images per step.
        precision: "float32", "mixed_bfloat16", "mixed_float16", "bfloat16", "float16" or "float64"; None is the
            model's own, layer by layer.
        optimizer: a name ("adam", "sgd", "sgd_momentum" ...) or a keras.optimizers.Optimizer.
        input_shape: (height, width, channels), if the model's own is open or another is wanted.
    Returns:
        Cost.
    Raises:
        UsageError: the precision or optimizer is unknown, the batch is below 1, or a size is open.
    """
    if not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise UsageError(f"batch_size must be a whole number above 0; received {batch_size!r}.")
    if precision is not None and precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    optimizer, slots = _slots(optimizer)
    network = describe(model, input_shape)
    flat, shapes, _ = network
    for number in flat.inputs:
        if elements(shapes[number]) is None:
            raise UsageError(
                f"Model {model.name!r} takes inputs of any size {shapes[number][1:]}, and its cost depends on it: give "
                "input_shape=, with a number in place of each None."
            )

    rows = _rows(network, batch_size, precision, slots)
    following = 0
    for row in reversed(rows):
        row["training_bytes"] += following
        if row.pop("_weighted"):
            following = row["activation_bytes"]
    copies = sum(row.pop("_copied") for row in rows)
    layers = pd.DataFrame(rows).astype({"macs": "Int64"})
    weight, gradient, optimizer_bytes = (
        int(layers[c].sum()) for c in ("weight_bytes", "gradient_bytes", "optimizer_bytes")
    )
    trained = (v for node in flat.nodes for v in getattr(node.operation, "trainable_variables", ()))
    largest = max((_bytes(v, precision) for v in trained), default=0)
    update = largest if slots else 0
    return Cost(
        layers=layers,
        batch_size=int(batch_size),
        precision=precision or _weights_precision(flat),
        optimizer=optimizer,
        macs=layers["macs"].sum(skipna=False),
        parameters=int(layers["parameters"].sum()),
        weight_bytes=weight,
        gradient_bytes=gradient,
        optimizer_bytes=optimizer_bytes,
        training_bytes=weight + copies + gradient + optimizer_bytes + update + int(layers["training_bytes"].max()),
        inference_bytes=weight + copies + int(layers["inference_bytes"].max()),
    )


def _rows(network, batch_size, precision, slots):
    """The rows of `Cost.layers` as dicts; the bytes of what follows a layer are not in its training_bytes yet."""
    flat, shapes, plan = network
    work, steps = macs(network), steps_of_calls(plan)

    def size(number):
        numbers, dtype = elements(shapes[number]), flat.tensors[number].dtype
        if numbers is None:
            raise UsageError(
                f"The cost of model {plan.model!r} is not known: a layer's output has the open size {shapes[number]}."
            )
        return numbers * (PRECISIONS[precision][1] if precision and dtype in FLOATS else itemsize(dtype))

    rows, known, saved = [], set(), sum(size(number) for number in flat.inputs)
    for node in flat.nodes:
        layer = node.operation
        first = id(layer) not in known
        known.add(id(layer))
        weights = layer.weights if first and isinstance(layer, keras.Layer) else []
        trainable = sum(_bytes(v, precision) for v in weights if v.trainable)
        rules = {step.rule for step in steps.get((node.name, node.call), ())}
        shares = rules and rules <= _SHARED
        output = 0 if shares else sum(size(number) for number in node.outputs)
        saved += output
        rows.append(
            {
                "layer": label(node),
                "macs": work[node.name, node.call],
                "parameters": count(weights),
                "weight_bytes": sum(_bytes(v, precision) for v in weights),
                "gradient_bytes": trainable,
                "optimizer_bytes": trainable * slots,
                "activation_bytes": output * batch_size,
                "training_bytes": (saved + 2 * output) * batch_size,
                "inference_bytes": int(sum(size(n) for n in node.inputs) + 1.5 * output) * batch_size,
                "_weighted": len(weights) > 0,
                "_copied": sum(_copied_bytes(layer, v, precision) for v in weights),
            }
        )
    return rows


def _bytes(variable, precision):
    """Bytes of a variable, in a precision of PRECISIONS or (None) in its own."""
    return count([variable]) * (PRECISIONS[precision][0] if precision else itemsize(variable.dtype))


def _copied_bytes(layer, variable, precision):
    """Bytes of the copy of a variable that the layer's products use, where they need another number format."""
    if precision:
        return count([variable]) * PRECISIONS[precision][2]
    changes = variable.dtype in FLOATS and variable.dtype != layer.compute_dtype
    return count([variable]) * itemsize(layer.compute_dtype) if changes else 0


def _weights_precision(flat):
    """The names of the dtype policies of the layers with weights; in most models there is one."""
    policies = {node.operation.dtype_policy.name for node in flat.nodes if getattr(node.operation, "weights", ())}
    return ", ".join(sorted(policies)) or keras.config.dtype_policy().name


def _slots(optimizer):
    """(name, numbers kept per trainable weight) of an optimizer's name or of an optimizer."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of mixed float16's LossScaleOptimizer
    name = optimizer if isinstance(optimizer, str) else type(optimizer).__name__
    name = name.lower()
    if name not in SLOTS:
        raise unknown("optimizer", optimizer if isinstance(optimizer, str) else name, SLOTS)
    slots = SLOTS[name]
    if not isinstance(optimizer, str):
        slots += bool(getattr(optimizer, "momentum", 0)) and name in ("sgd", "rmsprop")
        more = ("amsgrad", "centered", "use_ema", "gradient_accumulation_steps")
        slots += sum(bool(getattr(optimizer, name, False)) for name in more)
    return name, int(slots)


def largest_batch(
    model, memory_bytes, precision=None, optimizer="adam", *, input_shape=None, headroom=0.35, mode="training"
):
    """The largest batch whose training (or inference) fits into a given memory.

    Args:
        model, precision, optimizer, input_shape: as for `cost`.
        memory_bytes: the memory, bytes.
        headroom: fraction of the memory left for Python, the data and the allocator's overhead.
        mode: "training" or "inference".
    Returns:
        int, images; 0 if not even one fits.
    """
    if mode not in ("training", "inference"):
        raise unknown("mode", mode, ("training", "inference"))
    if not 0 <= headroom < 1:
        raise UsageError(f"headroom must be at least 0 and below 1; received {headroom!r}.")
    one, two = (
        getattr(cost(model, batch, precision, optimizer, input_shape=input_shape), f"{mode}_bytes") for batch in (1, 2)
    )
    per_image, fixed = two - one, 2 * one - two
    return max(0, int((memory_bytes * (1 - headroom) - fixed) // per_image))
