"""The layers, and an activation and an initializer, that the networks need and Keras lacks, on every backend.

They are registered for saving under the package "kerascnn": a `.keras` file that holds one loads after
`import kerascnn.layers`, and a SavedModel loads without.
"""

import math

import keras
import numpy as np
from keras import layers, ops

from kerascnn.errors import UsageError

# What changes images in training and nothing in inference: every layers.Random* of this Keras and these.
_AUGMENTATIONS = ("AugMix", "CutMix", "Equalization", "MixUp", "RandAugment", "Solarization")
AUGMENTATIONS = tuple(
    getattr(layers, name) for name in dir(layers) if name.startswith("Random") or name in _AUGMENTATIONS
)


@keras.saving.register_keras_serializable("kerascnn")
def scaled_tanh(x):
    """1.7159 tanh(2x/3): scaled_tanh(1) = 1 (LeCun, Bottou, Bengio and Haffner 1998, appendix A)."""
    return 1.7159 * ops.tanh(x * (2 / 3))


@keras.saving.register_keras_serializable("kerascnn")
class LocalResponseNormalization(layers.Layer):
    """Each activation divided by the strength of its neighbour channels (Krizhevsky et al. 2012, section 3.3).

        b[c] = a[c] / (k + alpha * sum of a[j]**2 over j from c - size//2 to c + size//2) ** beta

    Channels beyond the first and the last count as zero. As the paper prints it, alpha is *not* divided by the number
    of channels summed. Caffe, cuda-convnet and torch divide it: their alpha=1e-4 with size=5 is alpha=2e-5 here.
    `tf.nn.local_response_normalization` does not divide either; its `bias` is `k`.

    The sum is one matrix product with a band of ones, and the power exp(-beta log(.)), in float32 under any precision
    policy: forward and backward of 64x22x22x96 take 13 ms on 2 cores where slices and `ops.power` take 100 ms and
    TensorFlow's own operation 30 ms.

    Args:
        size: number of channels summed, odd (the paper's n).
        alpha, beta, k: the paper's constants; k must be above 0, so that nothing is divided by 0.
    Shapes:
        (..., channels) -> (..., channels).
    """

    def __init__(self, size=5, alpha=1e-4, beta=0.75, k=2.0, **kwargs):
        super().__init__(**kwargs)
        if size != int(size) or size < 1 or size % 2 == 0:
            raise UsageError(f"LocalResponseNormalization: size must be an odd number; received {size!r}.")
        if k <= 0 or alpha < 0:
            raise UsageError(f"LocalResponseNormalization: k > 0 and alpha >= 0 are needed; received {k=}, {alpha=}.")
        self.size, self.alpha, self.beta, self.k = int(size), float(alpha), float(beta), float(k)
        self.built = True

    @property
    def depth_radius(self):
        """How many channels on either side are summed: size // 2."""
        return self.size // 2

    def call(self, inputs):
        x = ops.cast(inputs, "float32")
        channel = np.arange(inputs.shape[-1])
        band = (abs(channel[:, None] - channel[None, :]) <= self.depth_radius).astype("float32")
        scale = self.k + self.alpha * ops.matmul(ops.square(x), ops.convert_to_tensor(band))
        return ops.cast(x * ops.exp(-self.beta * ops.log(scale)), inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        settings = {"size": self.size, "alpha": self.alpha, "beta": self.beta, "k": self.k}
        return {**super().get_config(), **settings}


@keras.saving.register_keras_serializable("kerascnn")
class GroupedConv2D(layers.Conv2D):
    """`keras.layers.Conv2D` with groups, computed as one convolution per group: the same weights, trains fast on CPU.

    Keras' own grouped convolution is right on every backend but slow in training on CPU. One training step of
    (64, 22, 22, 96) -> 256 filters 5x5 in 2 groups, on 2 cores, seconds (Keras 3.15.1, TensorFlow 2.21, JAX 0.10):

                      TensorFlow  TensorFlow XLA   JAX   torch
        Conv2D              1.26            1.14  1.47    0.19
        GroupedConv2D       0.10            0.11  0.17    0.12

    The kernel has Conv2D's shape (height, width, channels / groups, filters), so weights pass between the two.
    """

    def __init__(self, filters, kernel_size, *, groups=1, **kwargs):
        super().__init__(filters, kernel_size, **kwargs)
        self.groups = groups  # checked in build, where the input's channels are known too

    def build(self, input_shape):
        channels = input_shape[1 if self.data_format == "channels_first" else -1]
        if self.groups < 1 or channels % self.groups or self.filters % self.groups:
            fits = [n for n in range(1, channels + 1) if channels % n == 0 and self.filters % n == 0]
            raise UsageError(
                f"Layer {self.name!r}: groups={self.groups} does not divide its {channels} input channels and "
                f"{self.filters} filters. It may have groups of {', '.join(map(str, fits))}."
            )
        super().build(input_shape)

    def convolution_op(self, inputs, kernel):
        if self.groups == 1:
            return super().convolution_op(inputs, kernel)
        axis = 1 if self.data_format == "channels_first" else -1
        parts = [
            ops.conv(
                group,
                group_kernel,
                strides=list(self.strides),
                padding=self.padding,
                dilation_rate=self.dilation_rate,
                data_format=self.data_format,
            )
            for group, group_kernel in zip(
                ops.split(inputs, self.groups, axis=axis), ops.split(kernel, self.groups, axis=-1), strict=True
            )
        ]
        return ops.concatenate(parts, axis=axis)


@keras.saving.register_keras_serializable("kerascnn")
class PatchWhitening(layers.Conv2D):
    """A convolution whose responses to patches of the training images are uncorrelated, with variance 1 each.

    Its filters are the principal components of the patches, each divided by the square root of its variance, and their
    negatives, so that nothing is lost in a rectifier (Page 2018, "How to train your ResNet"; Jordan 2024,
    arXiv:2404.00498, section 3.2). `adapt` sets them; they are not trained, the bias is.

    Args:
        size: side of a patch, pixels.
        epsilon: added to each variance: directions with less than this are not blown up.
    Shapes:
        (N, height, width, channels) -> (N, height - size + 1, width - size + 1, 2 size**2 channels).
    """

    def __init__(self, size=2, *, epsilon=5e-4, **kwargs):
        super().__init__(filters=1, kernel_size=size, **kwargs)  # filters: known in build
        self.size, self.epsilon = size, epsilon

    def build(self, input_shape):
        self.filters = 2 * self.size**2 * input_shape[-1]
        super().build(input_shape)
        self.kernel.trainable = False

    def compute_output_shape(self, input_shape):
        self.filters = 2 * self.size**2 * input_shape[-1]
        return super().compute_output_shape(input_shape)

    def adapt(self, images):
        """Set the filters from the patches of images float32 (N, height, width, channels), as the layer sees them."""
        filters = whitening_filters(images, (self.size, self.size), self.epsilon)
        self.kernel.assign(np.concatenate([filters, -filters], -1))

    def get_config(self):
        config = super().get_config()
        del config["filters"], config["kernel_size"]
        return {**config, "size": self.size, "epsilon": self.epsilon}


def whitening_filters(images, sides, epsilon=5e-4):
    """The principal components of patches of images, each divided by the square root of its variance + epsilon.

    Args:
        images: float32 (N, height, width, channels). In large ones only every n-th place down and across is looked at,
            about a thousand an image.
        sides: (height, width) of a patch, pixels, at most those of the images.
    Returns:
        float64 (height, width, channels, components), the largest variance first: a convolution's kernel.
    """
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(images), sides, axis=(1, 2))
    step = math.ceil(math.sqrt(math.prod(windows.shape[1:3]) / 1_000))
    windows = np.moveaxis(windows[:, ::step, ::step], 3, -1)  # (N, y, x, height, width, channels), as the kernel
    shape = windows.shape[3:]
    length = math.prod(shape)
    total, products, count = np.zeros(length), np.zeros((length, length)), 0
    for image in windows:
        patches = image.reshape(-1, length).astype("float64")
        total, products, count = total + patches.sum(0), products + patches.T @ patches, count + len(patches)
    mean = total / count
    variances, directions = np.linalg.eigh(products / count - np.outer(mean, mean))
    filters = directions / np.sqrt(np.maximum(variances, 0) + epsilon)
    return filters[:, ::-1].reshape(*shape, length)


@keras.saving.register_keras_serializable("kerascnn")
class IdentityFirst(keras.initializers.VarianceScaling):
    """Uniform in 1/sqrt(fan in) about 0, but the first filters pass on one input channel each: the convolution begins
    as an identity with new features beside it (Jordan 2024, arXiv:2404.00498, section 3.3).

    Shapes: (height, width, channels, filters), sides odd.
    """

    def __init__(self, seed=None):
        super().__init__(1 / 3, "fan_in", "uniform", seed)

    def __call__(self, shape, dtype=None):
        kernel = np.array(ops.convert_to_numpy(super().__call__(shape, "float32")))
        pass_on(kernel)
        return ops.convert_to_tensor(kernel, dtype)

    def get_config(self):
        return {"seed": self._init_seed}


def pass_on(kernel):
    """Let the first filters of a kernel (height, width, channels, filters), sides odd, pass on one channel each."""
    height, width, channels, filters = kernel.shape
    same = range(min(channels, filters))
    kernel[..., same] = 0
    kernel[height // 2, width // 2, same, same] = 1


def give_weights(to, weights):
    """Set the weights of a layer or a model. An adapted `keras.layers.Normalization` computes with copies of its
    weights, which its `set_weights` leaves as they were, so they are made again."""
    to.set_weights(weights)
    for layer in to._flatten_layers():
        if isinstance(layer, layers.Normalization) and layer.built:
            layer.finalize_state()
