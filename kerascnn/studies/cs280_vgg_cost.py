"""CS 280 homework 2, part 3 (M. Traverse, 2017), section 1.2: what VGG costs beside AlexNet, and why."""

import concurrent.futures
import multiprocessing
import time
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pandas

from kerascnn import anatomy, backends
from kerascnn.layers import GroupedConv2D
from kerascnn.models import MODELS
from kerascnn.network import graph
from kerascnn.processes import available_memory
from kerascnn.studies import register
from kerascnn.studies.frame.study import Claim, Computed, Listing, NotRun, Study, Value, exact

SHAPE, CLASSES = (96, 96, 3), 100
FULL, USED = 256, 128  # images a batch: of figure 1, and with which the report's VGG trained
TIMED = ("alexnet", "vgg11", "vgg16", "vgg19")
TIMED_BATCH, ROUNDS = 16, 5
STEPS, QUICK_BATCH = 2, 4  # training steps in which memory is measured; images a batch of a quick run
ROOM = 2  # times the predicted memory that must be free before a network is tried
LEAST = 5.0  # seconds that a network is timed for in a round, and two steps
MEMORY = ("memory", "measured")  # rows that give MB: predicted and measured
LITTLE, MUCH = 0.2, 3.0  # less memory than this fraction is no fix; more times than this is a cause


def networks():
    """{name: function that builds it} of the networks that the report tried, for its images."""

    def vgg(name, **options):
        return lambda: MODELS.get(name)(SHAPE, CLASSES, **options)

    return {
        "alexnet": lambda: MODELS.get("alexnet_miniplaces")(SHAPE, CLASSES),
        "vgg11": vgg("vgg11"),
        "vgg16": vgg("vgg16"),
        "vgg19": vgg("vgg19"),
        "vgg16, one dense layer less": vgg("vgg16", dense_layers=1),
        "vgg16, no hidden dense layer": vgg("vgg16", dense_layers=0),
        "VGG's first layer on AlexNet's rest": lambda: mixed(strides=1),
        "the same with AlexNet's stride": lambda: mixed(strides=4),
    }


def mixed(strides):
    """VGG's first layer, 64 filters of 3x3, and from its pooling on the small AlexNet.

    Args:
        strides: of the first layer: 1, VGG's own, or another.
    """
    from keras import Input, Model, layers

    inputs = Input(SHAPE, name="image")
    x = layers.Conv2D(64, 3, strides, "same", activation="relu", name="conv1")(inputs)
    x = layers.MaxPooling2D(3, 2, name="pool1")(x)
    x = GroupedConv2D(256, 5, padding="same", groups=2, activation="relu", name="conv2")(x)
    x = layers.MaxPooling2D(3, 2, name="pool2")(x)
    x = layers.Conv2D(384, 3, padding="same", activation="relu", name="conv3")(x)
    x = GroupedConv2D(384, 3, padding="same", groups=2, activation="relu", name="conv4")(x)
    x = GroupedConv2D(256, 3, padding="same", groups=2, activation="relu", name="conv5")(x)
    x = layers.MaxPooling2D(3, 2, name="pool5")(x)
    x = layers.Flatten(name="flatten")(x)
    for number in (6, 7):
        x = layers.Dense(1024, activation="relu", name=f"fc{number}")(x)
        x = layers.Dropout(0.5, name=f"drop{number}")(x)
    x = layers.Dense(CLASSES, name="fc8")(x)
    return Model(inputs, layers.Softmax(dtype="float32", name="prob")(x), name="mixed")


def _memory(place):
    rows, numbers = [], {}
    for name, build in networks().items():
        model = build()
        costs = {batch: anatomy.cost(model, batch, "float32", "sgd_momentum") for batch in (FULL, USED, 32)}
        numbers |= {f"{name} at {batch}": cost.training_bytes / 1e6 for batch, cost in costs.items()}
        cost = costs[FULL]
        fixed = cost.weight_bytes + cost.gradient_bytes + cost.optimizer_bytes
        numbers[f"{name}: parameters"] = cost.parameters
        numbers[f"{name}: share of weights"] = fixed / cost.training_bytes
        rows.append(
            {
                "network": name,
                "parameters": f"{cost.parameters:,}",
                "work per image, M macs": f"{cost.macs / 1e6:,.0f}",
                **{f"MB at {batch}": f"{each.training_bytes / 1e6:,.0f}" for batch, each in costs.items()},
                "of these weights, gradients, momentum at 256": f"{fixed / 1e6:,.0f}",
            }
        )
    pandas.DataFrame(rows).to_csv(place.folder / "memory.csv", index=False)
    return numbers


def _measured(place):
    """Memory of training steps beside the prediction, each network and batch in a process of its own."""
    names, batches = (("alexnet", "vgg11"), (QUICK_BATCH,)) if place.quick else (tuple(networks()), (FULL, USED))
    rows, numbers = [], {}
    for name in names:
        for batch in batches:
            predicted, grown, told = in_a_process(training_memory, name, batch)
            if grown:
                numbers[f"{name} at {batch}"] = grown / 1e6
            sizes = [f"{size / 1e6:,.0f}" if size else "" for size in (predicted, grown)]
            ratio = f"{predicted / grown:.2f}" if grown else ""
            rows.append((name, batch, *sizes, ratio, told))
            place.say(f"{name}, batches of {batch}: {sizes[1] or 'no'} MB ({told})")
    columns = ["network", "batch", "predicted, MB", "measured, MB", "predicted / measured", "measured as"]
    pandas.DataFrame(rows, columns=columns).to_csv(place.folder / "measured.csv", index=False)
    return numbers


def in_a_process(function, *args):
    """What `function` returns in a new process; (None, None, why) where that process is killed."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, spawn) as executor:
        try:
            return executor.submit(function, *args).result()
        except BrokenProcessPool:
            return None, None, "the process was killed, perhaps for want of memory"


def training_memory(name, batch):
    """(predicted bytes, by how many this process's peak memory rises when a network is built and trained, in whose
    words); None and the reason where memory is short.

    Before that, a network of one layer is trained, so that what the backend needs for itself is not counted.

    Args:
        name: of one of `networks`.
        batch: images a step.
    """
    from keras import Input, Sequential, layers

    with graph.without_weights():
        predicted = anatomy.cost(networks()[name](), batch, "float32", "sgd_momentum").training_bytes
    if backends.devices() == ["cpu"] and available_memory() < ROOM * predicted:
        return predicted, None, "too little memory was free"
    tiny = Sequential([Input(SHAPE), layers.GlobalAveragePooling2D(), layers.Dense(CLASSES, activation="softmax")])
    _steps(tiny, *_random(1))
    before, _ = backends.peak_memory()
    try:
        _steps(networks()[name](), *_random(batch))
    except Exception as error:
        if backends.out_of_memory(error):
            return predicted, None, "memory ran out"
        raise
    after, who = backends.peak_memory()
    return predicted, after - before, who


def _random(batch):
    """Images and labels of a batch."""
    generator = np.random.default_rng(0)
    return generator.random((batch, *SHAPE), "float32"), generator.integers(0, CLASSES, batch)


def _steps(model, images, labels, steps=STEPS):
    """Compile a model as the report's solver trains, and take some steps."""
    import keras

    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy", jit_compile=False)
    for _ in range(steps):
        model.train_on_batch(images, labels)


def _speed(place):
    names, rounds, least = (("alexnet", "vgg11"), 2, 0.0) if place.quick else (TIMED, ROUNDS, LEAST)
    batch = QUICK_BATCH if place.quick else TIMED_BATCH
    images, labels = _random(batch)
    models, seconds = {}, {name: [] for name in names}
    for name in names:
        model = networks()[name]()
        _steps(model, images, labels, 1)
        models[name] = model
    for _ in range(rounds):  # in turns, so that other work on the machine meets all alike
        for name, model in models.items():
            began, steps = time.perf_counter(), 0
            while steps < 2 or time.perf_counter() - began < least:
                model.train_on_batch(images, labels)
                steps += 1
            seconds[name].append((time.perf_counter() - began) / steps)
    rates = {name: [batch / each for each in times] for name, times in seconds.items()}
    ratios = {
        f"{name} times slower": [slow / fast for slow, fast in zip(seconds[name], seconds["alexnet"], strict=True)]
        for name in names[1:]
    }
    rows = [
        {
            "network": name,
            "images a second": f"{np.mean(rates[name]):.1f}",
            "times slower than AlexNet": f"{np.mean(ratios.get(f'{name} times slower', [1])):.1f}",
        }
        for name in names
    ]
    pandas.DataFrame(rows).to_csv(place.folder / "speed.csv", index=False)
    steps = {f"{name} steps": [rate / USED for rate in values] for name, values in rates.items()}
    return {**rates, **ratios, **steps}


def _field(place):
    from keras import Input, Model, layers

    x = inputs = Input(SHAPE)
    for number in (1, 2):
        x = layers.Conv2D(8, 3, padding="same", name=f"conv{number}")(x)
    return {"field": anatomy.receptive_field(Model(inputs, x), "conv2").size[0]}


def _values():
    other = "on another machine: the report's is a GPU of Amazon's that it does not name"
    slower = [
        Value(
            "speed",
            f"AlexNet's images a second over {name.upper().replace('VGG', 'VGG-')}'s",
            f"{name} times slower",
            6,
            half=0.5,
            printed="nearly 6",
            unit="times",
            where="1.2.2",
            cannot="" if name == "vgg16" else "the report does not say which VGG; VGG-16 is taken for it",
        )
        for name in TIMED[1:]
    ]
    memory = [
        Value(
            row,
            f"memory of training {name}, batches of {batch}",
            f"{name} at {batch}",
            unit="MB",
            where="1.2.1, without numbers",
        )
        for name in TIMED
        for batch in (FULL, USED)
        for row in MEMORY
    ]
    return (
        Value(
            "speed",
            "VGG-16, steps of 128 images a second",
            "vgg16 steps",
            1.7,
            half=0.05,
            unit="steps/s",
            where="1.2.2",
            better="higher",
            cannot=other,
        ),
        *slower,
        *memory,
        exact("field", "field of two layers of 3x3 filters, side", "field", 5, unit="pixels", where="1.2"),
    )


def _mb(results, name, batch=FULL, row="memory"):
    return results.mean(row, f"{name} at {batch}")


def _both(results, holds):
    """Whether a claim holds by the predicted and, where it was measured, by the measured memory; and what is told.

    Args:
        holds: function of a row that returns (True or False, a sentence); raises NotRun where it has no numbers.
    """
    right, told = holds("memory")
    told = [f"Predicted: {told}"]
    try:
        measured, sentence = holds("measured")
    except NotRun:
        return right, told[0]
    return right and measured, f"{told[0]} Measured: {sentence}"


def _dense(results):
    def holds(row):
        whole = _mb(results, "vgg16", row=row)
        parts = ("one dense layer less", "no hidden dense layer")
        less = {name: 1 - _mb(results, f"vgg16, {name}", row=row) / whole for name in parts}
        told = ", ".join(f"{name} {share:.1%} less" for name, share in less.items())
        return max(less.values()) < LITTLE, f"{told}."

    right, told = _both(results, holds)
    return right, f"{told} Batches of {FULL}; below {LITTLE:.0%} counts as no fix."


def _stride(results):
    def holds(row):
        alexnet = _mb(results, "alexnet", row=row)
        first = _mb(results, "VGG's first layer on AlexNet's rest", row=row) / alexnet
        strided = _mb(results, "the same with AlexNet's stride", row=row) / alexnet
        told = f"with VGG's first layer AlexNet needs {first:.1f} times its memory, with that layer at stride 4"
        return first > MUCH and strided < first / 2, f"{told} {strided:.1f} times."

    return _both(results, holds)


def _batch(results):
    def holds(row):
        whole = _mb(results, "vgg16", row=row)
        halved = 1 - _mb(results, "vgg16", USED, row) / whole
        dense = 1 - _mb(results, "vgg16, no hidden dense layer", row=row) / whole
        smaller = 1 - _mb(results, "vgg11", row=row) / whole
        told = f"half the batch saves {halved:.0%} of VGG-16's memory, no hidden dense layers {dense:.0%}"
        return halved > max(dense, smaller), f"{told}, VGG-11 in its place {smaller:.0%}."

    return _both(results, holds)


def _parameters(results):
    """Whether the weights are what fills the memory, which the report first assumes."""
    share = results.mean("memory", "vgg16: share of weights")
    ratio = results.mean("memory", "vgg16: parameters") / results.mean("memory", "alexnet: parameters")
    told = f"VGG-16 has {ratio:.0f} times the parameters, but weights, gradients and momentum are {share:.0%} of its"
    return share > 0.5, f"{told} memory at batches of {FULL}: the activations are the rest."


CLAIMS = (
    Claim("Memory is the issue as VGG has far more parameters than AlexNet", "1.2.1", _parameters, counts=True),
    Claim("Removing fully connected layers does not fix the memory", "1.2.1", _dense, counts=True),
    Claim("The main cause is the first layer's stride of 1", "1.2.1", _stride, counts=True),
    Claim("Only a smaller batch let the network train", "1.2.2", _batch, counts=True),
)


@register("cs280-vgg-cost", source="CS 280 report 2017, section 1.2")
def cs280_vgg_cost():
    """VGG beside AlexNet: memory, predicted and measured, speed, and what the report says causes them."""
    return Study(
        name="cs280-vgg-cost",
        title="CS 280: what VGG costs beside AlexNet",
        source="M. Traverse, CS 280 MiniPlaces HW2 part 3, 13 March 2017, section 1.2",
        about="The report could not train VGG for want of GPU memory, looked for the cause, and then found it slow. "
        "Here the memory of its networks is predicted layer by layer and measured, and so is their speed on this "
        "machine. No data are needed: images are random numbers.",
        rows=(
            Computed(  # first, as no other row has taken a GPU's memory then
                name="measured",
                compute=_measured,
                note=f"the same networks, {STEPS} training steps, each in a process of its own",
            ),
            Computed(name="field", compute=_field, note="two 3x3 layers"),
            Computed(name="memory", compute=_memory, note="every network that the report tried, without training"),
            Computed(
                name="speed",
                compute=_speed,
                note=f"training steps of {TIMED_BATCH} images in float32, the networks in turns, {ROUNDS} rounds",
            ),
        ),
        values=_values(),
        claims=CLAIMS,
        listings=(
            Listing("Predicted memory of training", "memory", "memory.csv", "1.2.1"),
            Listing("Predicted and measured memory", "measured", "measured.csv", "1.2.1"),
            Listing("Measured speed", "speed", "speed.csv", "1.2.2"),
        ),
        slips=(
            "Section 1.2.1 first blames VGG's parameters, then finds the cause in the first layer, which has 1,792 of "
            "them: what grows there are the activations, not the parameter size that it speaks of.",
        ),
        chosen=(
            "Images of 96x96 and 100 classes, as in the report's figure 1; VGG's dense layers have 4,096 units.",
            "SGD with momentum 0.9 and float32, as Caffe trains.",
            f"A part causes the memory where a network with it needs more than {MUCH:g} times as much; leaving it out "
            f"is no fix where it saves less than {LITTLE:.0%}.",
        ),
        differences=(
            "Speed is measured on this machine's processor; the report's is a GPU's, with Caffe, where a large "
            "convolution is relatively cheaper.",
            f"Speed is measured with batches of {TIMED_BATCH}; steps of 128 images a second are computed from it.",
            "The report prints no bytes. Memory is measured as the rise of the peak while a network is built and "
            "trained: of what the backend's allocator hands out, or of the process where it keeps no count.",
        ),
    )
