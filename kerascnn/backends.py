"""The one file that knows the backends: which device computes, and in which number format it is fastest."""

import contextlib
import functools
import importlib
import platform
import resource
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
from keras.src.backend.common import dtypes  # no public name; tests/test_explain_linear.py notices if it goes

from kerascnn.errors import counted, disk_full
from kerascnn.processes import num_cpus


def backend():
    """ "tensorflow", "jax" or "torch"."""
    return keras.backend.backend()


@functools.cache
def devices():
    """Names of the accelerators that the backend can use, or ["cpu"]."""
    if backend() == "tensorflow":
        import tensorflow as tf

        names = [
            tf.config.experimental.get_device_details(d).get("device_name", d.name)
            for d in tf.config.list_physical_devices("GPU")
        ]
    elif backend() == "jax":
        import jax

        names = [d.device_kind for d in jax.devices() if d.platform != "cpu"]
    else:
        import torch

        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return names or ["cpu"]


def processor():
    """What the machine calls its processor, and how many cores this process may use."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {counted(num_cpus(), 'core')}"


def fastest_precision():
    """The mixed precision that trains fastest at equal accuracy here, or "float32".

    Measured on 2 cores with the 6.2M-parameter network: TensorFlow computes bfloat16 about twice as fast as float32 on
    processors with bfloat16 instructions; JAX and PyTorch do not on a CPU. On accelerators bfloat16 wins everywhere.
    """
    if devices() != ["cpu"]:
        return "mixed_bfloat16"
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "float32"
    fast = "avx512_bf16" in flags or "amx_bf16" in flags
    return "mixed_bfloat16" if fast and backend() == "tensorflow" else "float32"


def jit_compile():
    """What `model.compile(jit_compile=...)` should get: XLA loses on TensorFlow's CPU and wins elsewhere."""
    if backend() == "tensorflow":
        return devices() != ["cpu"]
    return backend() == "jax"


def data_parallel(count):
    """A context in which Keras replicates new variables over the first `count` devices and shares batches out among
    them; with 1 an empty one. Only JAX can; the batches' sizes are multiples of `count`."""
    if count == 1:
        return contextlib.nullcontext()
    names = keras.distribution.list_devices()[:count]
    return keras.distribution.DataParallel(devices=names, auto_shard_dataset=False).scope()


@contextlib.contextmanager
def alone():
    """Within this block, new variables are on the first device only, as outside `data_parallel`: for what only one of
    several hosts does, since the others take no part in making these variables."""
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def data_parallel_devices():
    """Number of devices that `data_parallel` can use: 1 on TensorFlow and PyTorch."""
    return len(keras.distribution.list_devices()) if backend() == "jax" else 1


def stream(batches):
    """What `fit` and `predict` should get for a `keras.utils.PyDataset` of tuples of arrays, of fixed length.

    On TensorFlow a tf.data.Dataset with two batches ready: what Keras makes of a PyDataset is tuned as it runs, and
    the thread that tunes holds up the beginning of the next epoch: a fit of 150 steps stood still for 18 of 41 s an
    epoch on one core, for up to 8 of 20 s on two (benchmarks/between_epochs.py). With JAX and PyTorch on an
    accelerator, threads make the next batches while it computes.
    """
    if backend() != "tensorflow":
        return batches if devices() == ["cpu"] else Ahead(batches, min(8, num_cpus()))
    import tensorflow as tf

    signature = tuple(tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in batches[0])
    dataset = tf.data.Dataset.from_generator(
        lambda: (batches[step] for step in range(len(batches))), output_signature=signature
    )
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.apply(tf.data.experimental.assert_cardinality(len(batches))).prefetch(2).with_options(options)


class Ahead(keras.utils.PyDataset):
    """The batches of another PyDataset, read from the first on; threads make the next ones meanwhile.

    Keras' own workers are not for `Batches`, whose epoch is set as it begins: they give batches of the epoch before.

    Args:
        batches: a PyDataset of fixed length, whose `__getitem__` may be called from several threads.
        threads: number of threads, and of batches made ahead.
    """

    def __init__(self, batches, threads):
        super().__init__(workers=1)
        self.batches, self.threads = batches, threads
        self._pool, self._pending = ThreadPoolExecutor(threads), {}

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, step):
        if step == 0:  # another pass
            self._pending.clear()
        for later in range(step, min(step + self.threads + 1, len(self))):
            if later not in self._pending:
                self._pending[later] = self._pool.submit(self.batches.__getitem__, later)
        return self._pending.pop(step).result()


@contextlib.contextmanager
def precise(dtype):
    """A context in which float64 arrays stay float64 where `dtype` is "float64".

    Outside, JAX makes them float32 without a word, and so do many of `keras.ops` on JAX and PyTorch.
    """
    if dtype != "float64" or backend() == "tensorflow":
        yield
        return
    narrowed = dtypes.BIT64_TO_BIT32_DTYPE
    before = narrowed["float64"]
    with contextlib.ExitStack() as stack:
        if backend() == "jax":
            import jax

            stack.enter_context(jax.enable_x64(True))
        narrowed["float64"] = "float64"
        stack.callback(narrowed.update, {"float64": before})
        yield


def out_of_memory(error):
    """True if an exception says that memory ran out, in the words of Python, NumPy or the backend."""
    if disk_full(error):  # for which TensorFlow has the same class
        return False
    if isinstance(error, MemoryError):
        return True
    if backend() == "tensorflow":
        import tensorflow as tf

        return isinstance(error, tf.errors.ResourceExhaustedError)
    if backend() == "jax":
        import jax

        return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    import torch

    host = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return isinstance(error, torch.OutOfMemoryError) or host


def accelerator_memory():
    """Bytes of the first accelerator's memory that this process may use; None where the processor computes."""
    if devices() == ["cpu"]:
        return None
    if backend() == "tensorflow":
        from tensorflow.python.client import device_lib  # no public name tells the limit

        return next(d.memory_limit for d in device_lib.list_local_devices() if d.device_type == "GPU")
    if backend() == "jax":
        import jax

        return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    import torch

    return torch.cuda.mem_get_info()[1]


def peak_memory():
    """(bytes, in whose words): the most that the backend's allocator has handed out so far on the device that computes;
    where it keeps no count, the most of this process that has been resident."""
    device = "CPU" if devices() == ["cpu"] else "GPU"
    peak = None
    if backend() == "tensorflow":
        import tensorflow as tf

        with contextlib.suppress(ValueError):  # some processors' allocators do not count
            peak = tf.config.experimental.get_memory_info(f"{device}:0")["peak"]
    elif backend() == "jax":
        import jax

        peak = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    elif device == "GPU":
        import torch

        peak = torch.cuda.max_memory_allocated()
    if peak is not None:
        return int(peak), f"{backend()}'s allocator, {device}"
    return _most_resident(), "resident memory of the process"


def _most_resident():
    """Bytes: the most of this process that has been resident. Linux counts on in `ru_maxrss` from the process that
    started this one; /proc knows better."""
    with contextlib.suppress(OSError, StopIteration), open("/proc/self/status", encoding="ascii") as file:
        return 1024 * int(next(line for line in file if line.startswith("VmHWM")).split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def sync(model):
    """Write what JAX keeps outside during `fit` back into the model's variables; elsewhere they are always current."""
    if backend() == "jax":
        model.jax_state_sync()


def versions():
    """{package: version} of what computes."""
    module = importlib.import_module(backend())
    return {
        "python": platform.python_version(),
        "keras": keras.__version__,
        backend(): module.__version__,
    }


def computed_with():
    """{package: version} of what rounds numbers: shards of one job must agree in them."""
    return {package: version for package, version in versions().items() if package != "python"}


def value_of(variable):
    """A keras.Variable's value as it is now, as a tensor that is not the variable, without copying the numbers.

    Also under `tf.distribute.MirroredStrategy`, where a variable has a copy on every device.
    """
    return variable.value.read_value() if backend() == "tensorflow" else variable.value


def steps_done(model):
    """Number of training steps that a compiled model has taken."""
    return int(keras.ops.convert_to_numpy(value_of(model.optimizer.iterations)))


def compiled(function):
    """A pure function of lists of arrays, as fast as the backend runs it.

    The caller keeps one per shape of image; batches of any size share it on TensorFlow (traced at most twice).
    """
    if backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False, reduce_retracing=True)
    if backend() == "jax":
        import jax

        return jax.jit(function)
    import torch

    return torch.no_grad()(function)


def predictor(model):
    """A function, float32 (N, ...) -> the model's answers as NumPy arrays, with little work around the network: for a
    server.

    On TensorFlow's CPU batches of any size share one program; elsewhere they are padded to powers of two, so that few
    sizes are compiled. For one 32x32 image and 6.2M parameters `predict_on_batch` takes 1 ms more.
    """
    if backend() == "tensorflow" and devices() == ["cpu"]:
        import tensorflow as tf

        spec = tf.TensorSpec((None, *model.inputs[0].shape[1:]), model.inputs[0].dtype)
        program = tf.function(lambda images: model(images, training=False), autograph=False, input_signature=[spec])
        return lambda images: program(tf.convert_to_tensor(images, spec.dtype)).numpy()

    def padded(images):
        missing = (1 << (len(images) - 1).bit_length()) - len(images)
        images = np.concatenate([images, np.repeat(images[:1], missing, 0)])
        return np.asarray(model.predict_on_batch(images))[: len(images) - missing]

    return padded


def predictions_at_once():
    """How many threads may call a `predictor` at once and gain from it: two on TensorFlow's CPU, elsewhere one.

    A batch keeps two cores busy three quarters of the time; another one beside it fills the rest.
    """
    return min(2, num_cpus()) if backend() == "tensorflow" and devices() == ["cpu"] else 1


def over_places(maps, centre):
    """Four arrays (N, channels): maximum, sum, sum of (x - centre)**2 and number of zeros over the places of maps.

    TensorFlow's pooling kernels are faster than its reductions: for what a block of 128 images makes in four
    convolutions, 3.4 ms against 4.2 ms a sum, on 2 cores.

    Args:
        maps: (N, rows, cols, channels), or (N, units), which have one place.
        centre: (channels,).
    """
    ops = keras.ops
    if len(maps.shape) == 2:
        return maps, maps, ops.square(maps - centre), ops.cast(maps == 0, maps.dtype)
    if backend() != "tensorflow":
        zeros = ops.sum(ops.cast(maps == 0, maps.dtype), (1, 2))
        return ops.max(maps, (1, 2)), ops.sum(maps, (1, 2)), ops.sum(ops.square(maps - centre), (1, 2)), zeros
    import tensorflow as tf

    window, places = maps.shape[1:3], maps.shape[1] * maps.shape[2]

    def added(x):
        return tf.nn.avg_pool2d(x, window, 1, "VALID")[:, 0, 0] * places

    zeros = tf.cast(tf.equal(maps, 0), maps.dtype)
    squares = tf.math.squared_difference(maps, centre)
    return tf.nn.max_pool2d(maps, window, 1, "VALID")[:, 0, 0], added(maps), added(squares), added(zeros)


def grouped_convolution(x, kernel, strides, dilations, groups):
    """A channels-last convolution in groups without padding, in as few operations as the backend is fast with.

    TensorFlow's own kernel is 6 to 200 times as fast on a CPU as Keras' call of it, which XLA compiles for the sake of
    its gradient; it has none in three dimensions, where the planes of the kernel take turns. On JAX, one convolution
    per group runs 10 times as fast, but takes 0.1 s each to compile.

    Args:
        x: (N, ..., channels), one to three spatial axes.
        kernel: (*kernel_size, channels / groups, filters).
    """
    ops = keras.ops
    if backend() == "tensorflow":
        import tensorflow as tf

        if len(x.shape) < 5:
            return tf.nn.convolution(x, kernel, strides, "VALID", dilations=dilations)
        (stride, *strides), (dilation, *dilations) = strides, dilations
        depth = (x.shape[1] - (kernel.shape[0] - 1) * dilation - 1) // stride + 1
        total = 0.0
        for plane in range(kernel.shape[0]):
            first = plane * dilation
            part = tf.reshape(x[:, first : first + (depth - 1) * stride + 1 : stride], (-1, *x.shape[2:]))
            total += tf.nn.convolution(part, kernel[plane], strides, "VALID", dilations=dilations)
        return tf.reshape(total, (-1, depth, *total.shape[1:]))
    if backend() == "jax" and groups <= 8:
        parts = zip(ops.split(x, groups, -1), ops.split(kernel, groups, -1), strict=True)
        return ops.concatenate([ops.conv(a, k, strides, "valid", "channels_last", dilations) for a, k in parts], -1)
    return ops.conv(x, kernel, strides, "valid", "channels_last", dilations)


MOST_FUSED = 64
_FUSED = {}  # {(function's name, config, shapes without the batch): its program}


def fused(function):
    """`function(config, *arrays)` with its many small steps melted into one loop: on TensorFlow by XLA.

    `config` is hashable. JAX does it by itself inside `compiled`; torch runs step by step. On 2 cores unpooling
    (64, 23, 23, 96) by 3x3 windows with stride 2 takes TensorFlow 57 ms step by step and 3 ms fused; convolutions are
    slower under XLA on a CPU, so that whole networks are not compiled so.

    TensorFlow never frees a program of XLA (1.4 MB each): a process that explains ever new networks gets `MOST_FUSED`
    of them and runs step by step from then on.
    """
    if backend() != "tensorflow":
        return function

    @functools.wraps(function)
    def call(config, *arrays):
        key = function.__qualname__, config, tuple(tuple(a.shape[1:]) for a in arrays)
        if key not in _FUSED:
            if len(_FUSED) >= MOST_FUSED:
                return function(config, *arrays)
            import tensorflow as tf

            _FUSED[key] = tf.function(functools.partial(function, config), jit_compile=True, autograph=False)
        return _FUSED[key](*arrays)

    return call


def vector_jacobian(function, xs):
    """(outputs, back): `back(gs)` is the automatic derivative's product with one array per output, one per x."""
    xs = [keras.ops.convert_to_tensor(x) for x in xs]
    if backend() == "tensorflow":
        import tensorflow as tf

        xs = [tf.identity(x) for x in xs]  # one given twice has two derivatives
        with tf.GradientTape(persistent=True) as tape:
            for x in xs:
                tape.watch(x)
            ys = keras.tree.flatten(function(*xs))

        def back(gs):  # `take` gives slices
            gradients = tape.gradient(ys, xs, gs, unconnected_gradients="zero")
            return [g if g is None else tf.convert_to_tensor(g) for g in gradients]

        return ys, back
    if backend() == "jax":
        import jax

        ys, back = jax.vjp(lambda *a: keras.tree.flatten(function(*a)), *xs)
        return ys, lambda gs: back(list(gs))
    import torch

    with torch.enable_grad():
        xs = [x.detach().requires_grad_() for x in xs]
        ys = keras.tree.flatten(function(*xs))

    def back(gs):
        gradients = torch.autograd.grad(ys, xs, gs, allow_unused=True)
        return [torch.zeros_like(x) if g is None else g for x, g in zip(xs, gradients, strict=True)]

    return [y.detach() for y in ys], back
