"""A torch module with the same layers and weights as a Keras model, one torch module per call, for Captum's hooks."""

import torch
from torch import nn
from torch.nn import functional

from kerascnn.network.graph import flatten


class SamePad(nn.Module):
    """TensorFlow's "same" padding before a convolution or pooling."""

    def __init__(self, kernel, stride, value):
        super().__init__()
        self.kernel, self.stride, self.value = kernel, stride, value

    def forward(self, x):
        pads = []
        for size, k, s in zip(x.shape[:1:-1], self.kernel[::-1], self.stride[::-1], strict=True):
            total = max((-(-size // s) - 1) * s + k - size, 0)
            pads += [total // 2, total - total // 2]
        return functional.pad(x, pads, value=self.value)


class Normalise(nn.Module):
    """kerascnn.layers.LocalResponseNormalization."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        o = self.layer
        return functional.local_response_norm(x, o.size, o.alpha * o.size, o.beta, o.k)


class ChannelsLastFlatten(nn.Module):
    def forward(self, x):
        return x.movedim(1, -1).flatten(1)


class Add(nn.Module):
    def forward(self, *xs):
        return sum(xs[1:], xs[0])


def tensor(weight):
    return torch.tensor(weight.numpy() if hasattr(weight, "numpy") else weight)


def modules(layer):
    """The torch modules that do what a Keras layer does, in order."""
    kind, parts = type(layer).__name__, []
    if kind in ("Conv2D", "GroupedConv2D"):
        if layer.padding == "same":
            parts.append(SamePad(layer.kernel_size, layer.strides, 0.0))
        shape = layer.kernel.shape
        conv = nn.Conv2d(
            shape[2] * layer.groups,
            shape[3],
            layer.kernel_size,
            layer.strides,
            groups=layer.groups,
            bias=layer.use_bias,
        )
        conv.weight.data = tensor(layer.kernel).permute(3, 2, 0, 1).contiguous()
        if layer.use_bias:
            conv.bias.data = tensor(layer.bias)
        parts.append(conv)
    elif kind == "Dense":
        dense = nn.Linear(*layer.kernel.shape)
        dense.weight.data, dense.bias.data = tensor(layer.kernel).T.contiguous(), tensor(layer.bias)
        parts.append(dense)
    elif kind == "BatchNormalization":
        flat = len(layer.moving_mean.shape) and layer.input.shape.__len__() == 2
        norm = (nn.BatchNorm1d if flat else nn.BatchNorm2d)(layer.moving_mean.shape[0], layer.epsilon)
        norm.weight.data, norm.bias.data = tensor(layer.gamma), tensor(layer.beta)
        norm.running_mean.data, norm.running_var.data = tensor(layer.moving_mean), tensor(layer.moving_variance)
        parts.append(norm)
    elif kind == "MaxPooling2D":
        if layer.padding == "same":
            parts.append(SamePad(layer.pool_size, layer.strides, float("-inf")))
        parts.append(nn.MaxPool2d(layer.pool_size, layer.strides))
    elif kind == "ZeroPadding2D":
        (top, bottom), (left, right) = layer.padding
        parts.append(nn.ZeroPad2d((left, right, top, bottom)))
    else:
        parts.append(
            {
                "ReLU": nn.ReLU,
                "Dropout": nn.Identity,
                "SpatialDropout2D": nn.Identity,
                "Add": Add,
                "Flatten": ChannelsLastFlatten,
                "GlobalAveragePooling2D": lambda: nn.AdaptiveAvgPool2d(1),
                "LocalResponseNormalization": lambda: Normalise(layer),
            }[kind]()
        )
        if kind == "GlobalAveragePooling2D":
            parts.append(nn.Flatten())
    if getattr(layer, "activation", None) is not None and layer.activation.__name__ == "relu":
        parts.append(nn.ReLU())
    return parts


class Twin(nn.Module):
    """The model's class scores, before the softmax; images (N, C, H, W)."""

    def __init__(self, model):
        super().__init__()
        graph = flatten(model)
        self.graph, self.calls = graph, nn.ModuleList()
        for node in graph.nodes:
            if type(node.operation).__name__ != "Softmax":
                self.calls.append(nn.ModuleList(modules(node.operation)))
        self.eval()

    def layer(self, name):
        """The last torch module of the Keras layer called `name`."""
        return next(c for n, c in zip(self.graph.nodes, self.calls, strict=False) if n.name == name)[-1]

    def forward(self, x):
        values = {self.graph.inputs[0]: x}
        for node, call in zip(self.graph.nodes, self.calls, strict=False):
            values_of_inputs = [values[i] for i in node.inputs]
            for module in call:
                values_of_inputs = [module(*values_of_inputs)]
            values[node.outputs[0]] = values_of_inputs[0]
        return values_of_inputs[0]
