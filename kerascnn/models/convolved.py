"""A network's layers for images of other sizes: dense layers as convolutions (Simonyan and Zisserman 2014, 3.2)."""

import keras
from keras import layers

from kerascnn.errors import UsageError
from kerascnn.layers import give_weights

FIXED = ("Reshape", "Resizing", "CenterCrop", "Permute", "RepeatVector", "ZeroPadding1D")  # made for one size
PASSED = ("Dropout", "Activation", "ReLU", "Identity", "SpatialDropout2D", "GaussianNoise", "AlphaDropout")


class Convolved:
    """Calls each operation of a graph, or what takes its place where images are of any size.

    The layers are new ones with the same weights. A dense layer after a Flatten becomes a convolution as large as the
    maps that were flattened, every later one a 1x1 convolution.

    Args:
        graph: the network's Graph.
        name: the network's name, for errors.
        linear: the path of a dense layer that is left without its activation.
        cure: what the error for a layer that works at one size of image says at its end.
    """

    def __init__(self, graph, name, *, linear="", cure=""):
        self.graph, self.name, self.linear, self.cure = graph, name, linear, cure
        self.layers = {}  # {path: layer}, so that a layer that is called twice stays one
        self.flat = {}  # {tensor number: (h, w) of the maps that were flattened}

    def __call__(self, node, args, kwargs):
        operation, kind = node.operation, type(node.operation).__name__
        shape = self.graph.tensors[node.inputs[0]].shape if node.inputs else ()
        if kind == "Flatten":
            self.flat[node.outputs[0]] = tuple(shape[1:3]) if len(shape) == 4 else (1, 1)
            return args[0]
        flat = self.flat.get(node.inputs[0]) if node.inputs else None
        if flat and kind in PASSED:
            self.flat[node.outputs[0]] = flat
        elif flat and kind != "Dense":
            raise self._of_one_size(node)
        if kind in FIXED:
            raise self._of_one_size(node)
        if not isinstance(operation, keras.Layer):
            return operation(*args, **kwargs)
        if node.name not in self.layers:
            self.layers[node.name] = self._layer(node, kind, shape, flat)
            layer = self.layers[node.name]
            result = layer(*args, **kwargs)
            weights = operation.get_weights()
            if kind == "Dense":
                weights[0] = weights[0].reshape(*layer.kernel_size, -1, operation.units)
            give_weights(layer, weights)
            return result
        return self.layers[node.name](*args, **kwargs)

    def _of_one_size(self, node):
        return UsageError(
            f"Layer {node.name!r} of {self.name} works at one size of image only ({type(node.operation).__name__}), so "
            f"that the network cannot be applied to others.{self.cure}"
        )

    def _layer(self, node, kind, shape, flat):
        """A new layer in the place of one."""
        operation = node.operation
        if kind == "Dense":
            return layers.Conv2D(
                operation.units,
                flat or (1, 1),
                activation=None if node.name == self.linear else operation.activation,
                use_bias=operation.use_bias,
                name=operation.name,
                dtype=operation.dtype_policy,
            )
        if kind in ("GlobalAveragePooling2D", "GlobalMaxPooling2D"):
            if operation.keepdims:  # what it gives is spread over maps of another size
                raise self._of_one_size(node)
            if None in shape[1:3]:
                return type(operation)(keepdims=True, name=operation.name)
            pooling = layers.AveragePooling2D if "Average" in kind else layers.MaxPooling2D
            return pooling(tuple(shape[1:3]), strides=1, name=operation.name)
        config = operation.get_config()
        if kind == "BatchNormalization":
            config["axis"] = -1
        return type(operation).from_config(config)
