"""What every look begins with: the model is made a plan, and the images are checked against it."""

import warnings

import keras
import numpy as np
from keras import ops

from kerascnn.backends import vector_jacobian
from kerascnn.errors import UsageError, unknown
from kerascnn.network.activation_names import activation_rule
from kerascnn.network.graph import Node, Ref, has_graph, why_no_graph
from kerascnn.network.plan import Plan, make_plan
from kerascnn.network.rules.rule import rule
from kerascnn.network.steps import Step


def subject(model, images, fallback=None, derived=False, method="gradient"):
    """(plan, list of arrays, one per input) for a model and the images as a user gives them.

    Args:
        images: float array (N, H, W, C); for a model with several inputs a list or dict of them.
        fallback: "autodiff" lets automatic differentiation serve every layer without a rule, and warns. Without it,
            those are served so for which that gives the method's own answer.
        derived: True for images that were made from others, whose range says nothing about their scale.
        method: as of walk.Task.
    Raises:
        UsageError: the model has no graph or is not built, or the images are not what it takes.
    """
    if fallback not in (None, "autodiff"):
        raise unknown("fallback", fallback, ("autodiff",))
    _check_graph(model, images)
    plan = make_plan(model, _warned_autodiff_step if fallback else exact_step(method))
    return plan, check_images(model, plan, images, derived)


def gradient_subject(model, images):
    """What `subject` gives for plain gradients: automatic differentiation serves layers without a rule, silently."""
    _check_graph(model, images)
    plan = make_plan(model, _autodiff_step)
    return plan, check_images(model, plan, images)


def looked_at(model, images):
    """What `subject` gives, where nothing walks back: layers that no rule serves are simply called.

    So is a whole model of the user's own class that takes one array and gives one: its answers can be looked at.
    """
    if isinstance(model, keras.Model) and not isinstance(model, keras.Sequential) and not has_graph(model):
        return _looked_at_whole(model, images)
    _check_graph(model, images)
    plan = make_plan(model, opaque_step)
    return plan, check_images(model, plan, images)


def _check_graph(model, images):
    """Raise a UsageError that says what to type, with the images' shape, for a model whose graph is not known."""
    if not has_graph(model):
        raise UsageError(why_no_graph(model, np.shape(images)[1:] if hasattr(images, "shape") else None))


def _looked_at_whole(model, images):
    """A plan of one step, the call of the whole model, and the images."""
    if not hasattr(images, "shape") or len(images.shape) < 2:
        raise UsageError(why_no_graph(model))
    array = np.asarray(ops.convert_to_numpy(images) if ops.is_tensor(images) else images)
    array = array.astype("float64" if array.dtype == np.float64 else "float32", copy=False)
    if not len(array) or not np.isfinite(array).all():
        raise UsageError(f"Model {model.name!r} needs images of finite numbers; received {array.shape}.")
    answers = keras.tree.flatten(model(array[:1].astype("float32"), training=False))
    if len(answers) != 1:
        raise UsageError(f"It has {len(answers)} outputs. {why_no_graph(model, array.shape[1:])}")
    shapes = {0: (None, *array.shape[1:]), 1: (None, *answers[0].shape[1:])}
    call = _Opaque(Node(model, model.name, 0, (Ref(0),), {}, (0,), (1,)))
    plan = Plan(
        model=model.name,
        steps=(Step("opaque", (0,), 1, (call,), (), model.name, type(model).__name__),),
        constants=[],
        inputs=(0,),
        outputs=(1,),
        output_names=(model.name,),
        layers={model.name: [1]},
        kinds={model.name: type(model).__name__},
        shapes=shapes,
        unsupported={model.name: why_no_graph(model, array.shape[1:])},
        channels_first=False,
    )
    return plan, [array]


def check_images(model, plan, images, derived=False):
    """The images as a list of arrays, one per input of the model; `derived` as of `subject`."""
    names = [t.name for t in model.inputs]
    if isinstance(images, dict):
        missing = [n for n in names if n not in images]
        if missing:
            raise UsageError(f"Model {model.name!r} takes {', '.join(names)}; the images lack {missing[0]!r}.")
        images = [images[n] for n in names]
    elif len(names) == 1:
        images = [images]
    if not isinstance(images, list | tuple) or len(images) != len(names):
        inputs = f"{len(names)} inputs ({', '.join(names)})"
        raise UsageError(f"Model {model.name!r} has {inputs}: give a list of that many arrays.")
    arrays = [
        _check(model, name, plan, value, x, derived) for name, value, x in zip(names, plan.inputs, images, strict=True)
    ]
    if len({len(a) for a in arrays}) > 1:
        raise UsageError(f"The inputs hold different numbers of images: {', '.join(str(len(a)) for a in arrays)}.")
    return arrays


def _plan_scaling(plan, value):
    """The first step that reads an input, where it scales it (Rescaling, Normalization); None otherwise."""
    return next((step for step in plan.steps if value in step.inputs and step.rule == "scale"), None)


def _check(model, name, plan, value, images, derived):
    shape, scaling = plan.shapes[value], _plan_scaling(plan, value)
    array = ops.convert_to_numpy(images) if ops.is_tensor(images) else np.asarray(images)
    sizes = ["any" if n is None else str(n) for n in shape[1:]]
    expects = f"Model {model.name!r} takes float images (N, {', '.join(sizes)})"
    if array.dtype.kind not in "fiu" and array.dtype.name != "bfloat16":
        raise UsageError(f"{expects}; received dtype {array.dtype}.")
    if array.ndim == len(shape) - 1 and array.ndim >= 2:
        raise UsageError(f"{expects}; received one image {array.shape} without the batch axis: type images[None].")
    if array.ndim != len(shape) or any(n not in (None, m) for n, m in zip(shape[1:], array.shape[1:], strict=True)):
        raise UsageError(f"{expects}; received shape {array.shape}. Resize them to {'x'.join(sizes)}.")
    if not len(array):
        raise UsageError(f"{expects}; received an empty batch {array.shape}.")
    if 0 in array.shape:
        raise UsageError(f"{expects}; received images without pixels, {array.shape}.")
    if array.dtype.kind in "iu" and scaling is None and "float" in str(model.inputs[0].dtype):
        raise UsageError(
            f"{expects}, scaled as in training; received whole numbers ({array.dtype}, {array.min()} to "
            f"{array.max()}). Scale them as in training, often images / 255.0, or type "
            "images.astype('float32') if 0 to 255 is meant."
        )
    array = array.astype("float64" if array.dtype == np.float64 else "float32", copy=False)
    if not np.isfinite(array).all():
        raise UsageError(f"{expects}; received NaN or infinite numbers in input {name!r}.")
    if not derived and scaling is not None and array.min() >= 0 and array.max() <= 1 and (array % 1).any():
        factor = ops.convert_to_numpy(ops.cast(plan.constants[-scaling.weights[0] - 1], "float64"))
        if np.abs(factor).max() < 1 / 64:
            raise UsageError(
                f"{expects}, and layer {scaling.layer!r} scales them itself, so that it expects 0 to 255; received "
                f"{array.min():.2g} to {array.max():.2g}. Type images * 255."
            )
    return array


class _Opaque:
    """A call of a layer that no rule serves, to be differentiated automatically; of its outputs number `position`."""

    def __init__(self, node, position=0):
        self.node, self.position = node, position
        self.inputs = tuple(dict.fromkeys(node.inputs))  # an attention layer may take one value several times

    def __call__(self, *xs):
        layer = self.node.operation
        if "float64" in str(xs[0].dtype) and getattr(layer, "compute_dtype", "float64") != "float64":
            raise UsageError(
                f"Layer {self.node.name!r} has no rule and computes in {layer.compute_dtype}: its float64 is not "
                "known. Type dtype='float32', or build the model with dtype='float64'."
            )
        args, kwargs = self.node.arguments(dict(zip(self.inputs, xs, strict=True)))
        if isinstance(layer, keras.Layer) and layer._call_has_training_arg:
            kwargs["training"] = False
        kwargs |= {name: ops.cast(x, "bool") for name, x in kwargs.items() if "mask" in name and ops.is_tensor(x)}
        return keras.tree.flatten(layer(*args, **kwargs))[self.position]


def _called(rule_name, builder, node, known):
    """A step for each output of a layer that is called as it is."""
    calls = [_Opaque(node, position) for position in range(len(node.outputs))]
    return tuple(builder.step(rule_name, [known[t] for t in call.inputs], (call,)) for call in calls)


def exact_step(method):
    """A stand-in for `make_plan`: automatic differentiation of Keras' own layers, where it gives a method's answer.

    That is everywhere for plain gradients, and where no rectifier is inside for deconvnet and guided backpropagation.
    """

    def stand_in(builder, node, known, reason):
        operation = node.operation
        quantised = getattr(operation, "quantization_mode", None)
        if quantised or reason.mixes_images or _mixes_images(operation) or not _of_keras(operation):
            return None
        if method == "gradient" or (isinstance(method, str) and _without_rectifier(operation)):
            return _called("autodiff", builder, node, known)
        return None

    return stand_in


def _mixes_images(operation):
    """True for an operation along the batch axis, or over all axes, the batch among them."""
    if isinstance(operation, keras.Layer) or not hasattr(operation, "axis"):
        return False
    axes = operation.axis if isinstance(operation.axis, list | tuple) else [operation.axis]
    return any(axis is None or axis == 0 for axis in axes)


def _parts(operation):
    return list(operation._flatten_layers()) if isinstance(operation, keras.Layer) else [operation]


def _of_keras(operation):
    """True for Keras' own operations and layers, without functions of the user's inside."""
    return not any(
        isinstance(part, keras.layers.Lambda) or not type(part).__module__.startswith("keras.")
        for part in _parts(operation)
    )


def _without_rectifier(operation):
    """True for an operation or layer that no rule serves and that holds no ReLU."""
    functions = [
        getattr(part, name, None) for part in _parts(operation) for name in ("activation", "recurrent_activation")
    ]
    smooth = all(function is None or _is_smooth(function) for function in functions)
    return smooth and not any(isinstance(part, keras.layers.ReLU) for part in _parts(operation))


def _is_smooth(function):
    rule_name, _ = activation_rule(function) or (None, ())
    return rule_name not in (None, "relu", "clipped_relu")


def opaque_step(builder, node, known, reason):
    """A stand-in for `make_plan` where nothing walks back: a layer that no rule serves is simply called."""
    return _called("opaque", builder, node, known)


def _autodiff_step(builder, node, known, reason):
    """A stand-in for `make_plan`: automatic differentiation serves a layer without a rule."""
    return _called("autodiff", builder, node, known)


def _warned_autodiff_step(builder, node, known, reason):
    warnings.warn(
        f"Layer {builder.layer!r} ({builder.operation}) has no rule: automatic differentiation serves it.",
        stacklevel=6,
    )
    return _autodiff_step(builder, node, known, reason)


def _autodiff(config, weights, *xs):
    ys, back = vector_jacobian(lambda *a: ops.cast(config[0](*a), xs[0].dtype), xs)
    return ys[0], back


rule("opaque", lambda config, weights, *xs: (ops.cast(config[0](*xs), xs[0].dtype), None), None, "none")
rule("autodiff", _autodiff, lambda config, weights, back, g: tuple(back([g])), "none")
