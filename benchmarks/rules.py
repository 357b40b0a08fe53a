"""Rules of steps against the backend's own derivative of the same step: how far apart, and how much slower.

    python benchmarks/rules.py [NAME ...]

A line for each rule: the largest difference of the two in float64, relative to the largest value, on normal and on
whole numbers, which have ties and kinks; the CPU time of the derivative over that of the rule (least and median of
nine, float32, forward and back). A rule earns its place where the difference is above 1e-10 or the time above 1.05.
"""

import sys
import time

import numpy as np
from keras import ops

from kerascnn import backends
from kerascnn.network import plan
from kerascnn.network.rules.rule import RULES

MAP = (8, 28, 28, 32)
KERNEL = [(3, 3, 32, 32), (32,)]
STEPS = {  # rule: (config, shapes of the weights, shapes of the inputs)
    "abs": ((), [], [MAP]),
    "elu": ((1.0,), [], [MAP]),
    "selu": ((), [], [MAP]),
    "celu": ((1.5,), [], [MAP]),
    "tanh_shrink": ((), [], [MAP]),
    "hard_sigmoid": ((), [], [MAP]),
    "hard_silu": ((), [], [MAP]),
    "hard_tanh": ((), [], [MAP]),
    "clip": ((-1.0, 1.0), [], [MAP]),
    "soft_shrink": ((1.0,), [], [MAP]),
    "sparse_sigmoid": ((), [], [MAP]),
    "sparse_plus": ((), [], [MAP]),
    "leaky_relu": ((0.2, None, 0.0), [], [MAP]),
    "prelu": ((), [(28, 28, 32)], [MAP]),
    "maximum": ((), [], [MAP, MAP]),
    "minimum": ((), [], [MAP, MAP]),
    "max": (((1, 2), False), [], [MAP]),
    "adaptive_max": ((5, 6), [], [MAP]),
    "max_pool": (((2, 2), (2, 2), "valid"), [], [MAP]),
    "pad": (((0, 0), (1, 2), (-1, 0), (0, 0)), [], [MAP]),
    "center_crop": ((20, 21), [], [MAP]),
    "conv": (((1, 1), (1, 1), "same", 1), KERNEL, [MAP]),
    "depthwise": (((1, 1), (1, 1), "same"), [(3, 3, 32, 1), (32,)], [MAP]),
    "conv_transpose": (((2, 2), (1, 1), "same", (None, None)), KERNEL, [MAP]),
    "dense": ((), [(2048, 512), (512,)], [(64, 2048)]),
}


def compared(name):
    """(largest relative difference, least and median ratio of CPU time, ms of the rule)."""
    config, weights, inputs = STEPS[name]
    rule, rng = RULES[name], np.random.default_rng(0)

    def by_rule(g, weights, *xs):
        y, record = rule.forward(config, weights, *xs)
        return y, *rule.backward(config, weights, record, g)

    def by_backend(g, weights, *xs):
        ys, back = backends.vector_jacobian(lambda *values: rule.value(config, weights, *values), xs)
        return ys[0], *back([g])

    both, worst = (backends.compiled(by_rule), backends.compiled(by_backend)), 0.0
    with backends.precise("float64"):
        for whole in (False, True):
            drawn = [rng.normal(size=shape) * 1.5 for shape in inputs]
            xs = [ops.convert_to_tensor(np.round(x) if whole else x, dtype="float64") for x in drawn]
            arrays = [ops.convert_to_tensor(rng.normal(size=shape), dtype="float64") for shape in weights]
            g = ops.convert_to_tensor(rng.normal(size=rule.value(config, arrays, *xs).shape), dtype="float64")
            pairs = zip(*(function(g, arrays, *xs) for function in both), strict=True)
            for one, other in [(ops.convert_to_numpy(a), ops.convert_to_numpy(b)) for a, b in pairs][1:]:
                worst = max(worst, np.abs(one - other).max() / np.abs(one).max())
    g, arrays, xs = (
        ops.cast(g, "float32"),
        [ops.cast(a, "float32") for a in arrays],
        [ops.cast(x, "float32") for x in xs],
    )
    times = np.array([[_seconds(function, g, arrays, xs) for function in both] for _ in range(10)])[1:]
    least, median = times.min(0), np.median(times, 0)
    return worst, least[1] / least[0], median[1] / median[0], least[0] * 1e3


def _seconds(function, g, weights, xs):
    """CPU seconds of one call."""
    start = time.process_time()
    for _ in range(4):
        results = function(g, weights, *xs)
    ops.convert_to_numpy(results[-1])
    return (time.process_time() - start) / 4


if __name__ == "__main__":
    assert plan.make_plan  # its import fills the table of rules
    print(f"{'rule':16} difference  least  median  ms of the rule")
    for chosen in sys.argv[1:] or STEPS:
        difference, low, middle, milliseconds = compared(chosen)
        print(f"{chosen:16} {difference:10.0e} {low:6.2f} {middle:7.2f} {milliseconds:8.2f}", flush=True)
