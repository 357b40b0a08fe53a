"""Small random networks, drawn by hypothesis: as calls for tests/explain_reference.py and as the same keras.Model.

Half of them are "exact": weights, images and every intermediate value are small multiples of a power of two, so that
float32 makes no rounding error and ties (in max-pooling, at ReLU's zero) really happen.
"""

import dataclasses

import keras
import numpy as np
from hypothesis import strategies as st
from keras import layers, ops

from kerascnn.layers import GroupedConv2D, LocalResponseNormalization

EXACT = [
    "conv",
    "depthwise",
    "conv_transpose",
    "max_pool",
    "average_pool",
    "relu",
    "relu6",
    "residual",
    "concatenate",
    "dropout",
    "zero_padding",
    "cropping",
    "upsampling",
    "permute",
    "subtract",
    "maximum",
    "nest",
    "conv_relu",
]
SMOOTH = [
    *EXACT,
    "separable",
    "batch_norm",
    "lrn",
    "layer_norm",
    "leaky_relu",
    "elu",
    "tanh",
    "sigmoid",
    "silu",
    "gelu",
    "rescaling",
    "gate",
]
COATS = ("layer", "activation_layer", "ops", "name")


@dataclasses.dataclass
class Network:
    """Calls of the reference, the keras.Model, images and the unit that is explained."""

    calls: list
    model: keras.Model
    images: np.ndarray
    unit: int


class Draft:
    """Grows calls and symbolic tensors side by side."""

    def __init__(self, draw, rng, exact, shape):
        self.draw, self.rng, self.exact = draw, rng, exact
        self.calls, self.shape, self.last = [], shape, 0
        self.tensor = self.input = keras.Input(shape)

    def numbers(self, *shape, low=-2, high=2, step=0.5):
        if self.exact:
            return self.rng.integers(int(low / step), int(high / step) + 1, shape) * step
        return self.rng.uniform(low, high, shape).astype("float32").astype("float64")

    def call(self, name, tensor, p=None, inputs=None):
        self.calls.append((name, list(inputs or [self.last]), p or {}))
        self.last, self.tensor = len(self.calls), tensor
        self.shape = tuple(tensor.shape[1:])

    def layer(self, name, layer, p=None, weights=()):
        tensor = layer(self.tensor)
        if weights:
            layer.set_weights(weights)
        self.call(name, tensor, p)

    def window(self, most):
        size = tuple(self.draw(st.integers(1, min(most, n))) for n in self.shape[:2])
        return size, self.draw(st.integers(1, 3)), self.draw(st.sampled_from(["valid", "same"]))

    def add(self, kind):
        getattr(self, f"add_{kind}", None)() if hasattr(self, f"add_{kind}") else self.plain(kind)

    def plain(self, kind):
        layer = {
            "leaky_relu": lambda: layers.LeakyReLU(0.2),
            "elu": layers.ELU,
            "tanh": lambda: layers.Activation("tanh"),
            "sigmoid": lambda: layers.Activation("sigmoid"),
            "silu": lambda: layers.Activation("silu"),
            "gelu": lambda: layers.Activation("gelu"),
            "dropout": lambda: layers.Dropout(0.5),
            "permute": lambda: layers.Permute((2, 1, 3)),
        }[kind]
        self.layer(kind, layer())

    def add_conv(self, activation=None):
        size, stride, padding = self.window(3)
        groups = self.draw(st.sampled_from([1, 1, self.shape[-1]]))
        dilation = self.draw(st.integers(1, 2)) if stride == 1 and max(size) * 2 - 1 <= min(self.shape[:2]) else 1
        filters = groups * self.draw(st.integers(1, 3))
        kernel, bias = self.numbers(*size, self.shape[-1] // groups, filters), self.numbers(filters)
        kind = GroupedConv2D if groups > 1 else layers.Conv2D
        shape = {"strides": stride, "padding": padding, "dilation_rate": dilation, "groups": groups}
        layer = kind(filters, size, activation=activation, **shape)
        p = {"kernel": kernel, "bias": bias, "size": size, "stride": stride, "padding": padding, "dilation": dilation}
        self.layer("conv", layer, p | {"groups": groups}, [kernel, bias])

    def add_conv_relu(self):
        self.add_conv(activation="relu")
        self.call("relu", self.tensor, {"top": np.inf})

    def add_depthwise(self):
        size, stride, padding = self.window(3)
        many = self.draw(st.integers(1, 2))
        kernel, bias = self.numbers(*size, self.shape[-1], many), self.numbers(self.shape[-1] * many)
        layer = layers.DepthwiseConv2D(size, stride, padding, depth_multiplier=many)
        p = {"kernel": kernel, "bias": bias, "size": size, "stride": stride, "padding": padding}
        self.layer("depthwise", layer, p, [kernel, bias])

    def add_separable(self):
        size, stride, padding = self.window(3)
        channels = self.shape[-1]
        deep, point, bias = self.numbers(*size, channels, 2), self.numbers(1, 1, 2 * channels, 3), self.numbers(3)
        layer = layers.SeparableConv2D(3, size, stride, padding, depth_multiplier=2)
        tensor = layer(self.tensor)
        layer.set_weights([deep, point, bias])
        p = {"kernel": deep, "bias": 0, "size": size, "stride": stride, "padding": padding}
        self.calls.append(("depthwise", [self.last], p))
        p = {"kernel": point, "bias": bias, "size": (1, 1), "stride": 1, "padding": "valid"}
        self.call("conv", tensor, p, [len(self.calls)])

    def add_conv_transpose(self):
        size, stride, _ = self.window(3)
        kernel, bias = self.numbers(*size, 2, self.shape[-1]), self.numbers(2)
        layer = layers.Conv2DTranspose(2, size, stride, "valid")
        self.layer("conv_transpose", layer, {"kernel": kernel, "bias": bias, "stride": stride}, [kernel, bias])

    def add_max_pool(self):
        size, stride, padding = self.window(3)
        self.layer(
            "max_pool",
            layers.MaxPooling2D(size, stride, padding),
            {"size": size, "stride": stride, "padding": padding},
        )

    def add_average_pool(self):
        size, stride, _ = ((2, 2), 2, None) if self.exact else self.window(3)
        if min(self.shape[:2]) < 2:
            return
        layer = layers.AveragePooling2D(size, stride, "valid")
        self.layer("average_pool", layer, {"size": size, "stride": stride, "padding": "valid"})

    def rectify(self, top):
        coat = self.draw(st.sampled_from(COATS))
        if top == 6:
            rectifier = {"layer": layers.ReLU(6.0), "ops": ops.relu6}.get(coat, layers.Activation("relu6"))
        else:
            rectifier = {"layer": layers.ReLU(), "ops": ops.relu}.get(coat, layers.Activation("relu"))
        self.call("relu", rectifier(self.tensor), {"top": top})

    def add_relu(self):
        self.rectify(np.inf)

    def add_relu6(self):
        self.rectify(6)

    def add_batch_norm(self):
        n, layer = self.shape[-1], layers.BatchNormalization(epsilon=1e-3)
        weights = [self.numbers(n, low=0.5), self.numbers(n), self.numbers(n), self.numbers(n, low=0.5)]
        p = dict(zip(("gamma", "beta", "mean", "variance"), weights, strict=True))
        self.layer("batch_norm", layer, p | {"epsilon": 1e-3}, weights)

    def add_layer_norm(self):
        n, layer = self.shape[-1], layers.LayerNormalization(epsilon=0.1)
        weights = [self.numbers(n), self.numbers(n)]
        self.layer("layer_norm", layer, {"gamma": weights[0], "beta": weights[1], "epsilon": 0.1}, weights)

    def add_lrn(self):
        layer = LocalResponseNormalization(size=3, alpha=0.2, beta=0.75, k=1.5)
        self.layer("lrn", layer, {"radius": 1, "alpha": 0.2, "beta": 0.75, "k": 1.5})

    def add_rescaling(self):
        self.layer("rescaling", layers.Rescaling(0.25, 0.5), {"scale": 0.25, "offset": 0.5})

    def add_zero_padding(self):
        self.layer("zero_padding", layers.ZeroPadding2D(((1, 0), (0, 2))))

    def add_cropping(self):
        if min(self.shape[:2]) > 2:
            self.layer("cropping", layers.Cropping2D(((1, 0), (0, 1))))

    def add_upsampling(self):
        if max(self.shape[:2]) < 6:
            self.layer("upsampling", layers.UpSampling2D(2), {"times": 2})

    def two(self):
        """(number, tensor) of the value as it is, before a 1x1 convolution of it."""
        before = self.last, self.tensor
        n = self.shape[-1]
        kernel, bias = self.numbers(1, 1, n, n), self.numbers(n)
        p = {"kernel": kernel, "bias": bias, "size": (1, 1), "stride": 1, "padding": "valid"}
        self.layer("conv", layers.Conv2D(n, 1), p, [kernel, bias])
        return before

    def merge(self, name, layer):
        number, tensor = self.two()
        self.call(name, layer([tensor, self.tensor]), inputs=[number, self.last])

    def add_residual(self):
        self.merge("add", layers.Add() if self.draw(st.booleans()) else lambda pair: pair[0] + pair[1])

    def add_subtract(self):
        self.merge("subtract", layers.Subtract())

    def add_maximum(self):
        self.merge("maximum", layers.Maximum())

    def add_concatenate(self):
        self.merge("concatenate", layers.Concatenate())

    def add_gate(self):
        """Squeeze and excitation: the image times the sigmoid of its own mean colour."""
        number, tensor = self.last, self.tensor
        self.call("spread_mean", layers.GlobalAveragePooling2D(keepdims=True)(tensor))
        self.call("sigmoid", layers.Activation("sigmoid")(self.tensor))
        self.call("multiply", layers.Multiply()([tensor, self.tensor]), inputs=[number, self.last])

    def add_nest(self):
        """Two convolutions with ReLU inside a model inside a model, called twice: shared weights."""
        n = self.shape[-1]
        kernel, bias = self.numbers(1, 1, n, n), self.numbers(n)
        inner = keras.Sequential([keras.Input((None, None, n)), layers.Conv2D(n, 1), layers.ReLU()])
        inner.layers[0].set_weights([kernel, bias])
        outer_input = keras.Input((None, None, n))
        outer = keras.Model(outer_input, inner(inner(outer_input)))
        p = {"kernel": kernel, "bias": bias, "size": (1, 1), "stride": 1, "padding": "valid"}
        tensor = outer(self.tensor)
        for _ in range(2):
            self.calls += [("conv", [self.last], p), ("relu", [len(self.calls) + 1], {"top": np.inf})]
            self.last = len(self.calls)
        self.tensor = tensor

    def end(self):
        kind = self.draw(st.sampled_from(["flatten", "global_max", *(() if self.exact else ("global_average",))]))
        layer = {
            "flatten": layers.Flatten,
            "global_max": layers.GlobalMaxPooling2D,
            "global_average": layers.GlobalAveragePooling2D,
        }[kind]
        self.layer(kind, layer())
        kernel, bias = self.numbers(self.shape[0], 3), self.numbers(3)
        head = self.draw(st.sampled_from([None, "softmax"]))
        self.layer("dense", layers.Dense(3, activation=head), {"kernel": kernel, "bias": bias}, [kernel, bias])


def draw_network(draw):
    """A Network with one to five random blocks and a dense end, with or without a softmax; `draw` is hypothesis'."""
    exact = draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    shape = (draw(st.integers(1, 7)), draw(st.integers(1, 7)), draw(st.sampled_from([1, 3])))
    draft = Draft(draw, rng, exact, shape)
    for kind in draw(st.lists(st.sampled_from(EXACT if exact else SMOOTH), min_size=1, max_size=4 if exact else 5)):
        draft.add(kind)
    draft.end()
    images = draft.numbers(2, *shape).astype("float32")
    return Network(draft.calls, keras.Model(draft.input, draft.tensor), images, draw(st.integers(0, 2)))
