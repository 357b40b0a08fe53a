"""COMP 576 homework 2, section 1.4 (P. Tang, 2017): recurrent networks of several sizes on MNIST, and a CNN."""

import itertools

import numpy as np

from kerascnn.recipes import RECIPES
from kerascnn.studies import register
from kerascnn.studies.frame.results import Y_LABELS, above_zero, all_hold, best, last, of_rows, when_first
from kerascnn.studies.frame.study import Claim, Lines, Measure, Study, Training, Value, accuracy, shown

SIZES = {"rnn": (50, 100, 500), "lstm": (50, 100, 200, 500), "gru": (20, 100, 500)}
FIGURES = {"rnn": 33, "lstm": 34, "gru": 35}
ROWS = {f"{kind} {size}": (kind, size) for kind, sizes in SIZES.items() for size in sizes}
REACHED = 0.97  # test accuracy by which convergence is timed
MUCH = 2  # times as fast: "much faster"
TAIL = 10  # evaluations at the end that count as the plateau


def _seconds(run):
    """Seconds of an epoch, evaluation included."""
    steps = run.images("train") / run.run.read("recipe")["batch_size"]
    return steps * run.state["seconds"] / run.result["steps"]


def _parameters(run):
    return run.state["parameters"]


def _values():
    figure = {"where": "1.4, a figure without numbers"}
    first = when_first("test_accuracy", REACHED)
    values = []
    for row in (*ROWS, "cnn"):
        values += [
            accuracy(row, "best test accuracy", best("test_accuracy"), **figure),
            accuracy(row, "test accuracy at the end", last("test_accuracy"), **figure),
            Value(row, f"steps to {REACHED:.0%} of the test images", first, unit="step", **figure),
            Value(row, "seconds an epoch", Measure(_seconds), where="1.4.2, in words"),
            Value(row, "parameters", Measure(_parameters), unit="parameters", where="1.4, not printed"),
        ]
    return tuple(values)


def _accuracies(results):
    return {row: results.mean(row, best("test_accuracy")) for row in ROWS}


def _difference(results, row, base):
    """Whether the best test accuracy of a row is above another's; None where the difference may be chance."""
    _, low, high, _ = results.difference(row, base, best("test_accuracy"))
    return above_zero(low, high)


def _best_of_kinds(results):
    """{kind: its row with the best test accuracy}, and these accuracies as text."""
    accuracies = _accuracies(results)
    tops = {kind: max((f"{kind} {size}" for size in sizes), key=accuracies.get) for kind, sizes in SIZES.items()}
    return tops, ", ".join(f"{row} {accuracies[row]:.2%}" for row in tops.values())


def _fewer_nodes(results):
    """Whether the steps to 97% never rise with the size and fall in some kind; None where they do neither."""
    told, pairs = [], []
    for kind, sizes in SIZES.items():
        steps = [results.wait(f"{kind} {size}", when_first("test_accuracy", REACHED)) for size in sizes]
        words = [shown(each, "step") for each in steps]
        told.append(f"{kind} {', '.join(f'{size}: {word}' for size, word in zip(sizes, words, strict=True))}")
        pairs += itertools.pairwise(steps)
    rises, falls = any(small < large for small, large in pairs), any(small > large for small, large in pairs)
    return False if rises else falls or None, f"Steps to {REACHED:.0%}, by hidden nodes: {'; '.join(told)}."


def _not_monotone(results):
    """Whether the accuracy falls from one size to the next in some kind, and by more than chance."""
    accuracies = _accuracies(results)
    told, rises = [], []
    for kind, sizes in SIZES.items():
        values = [accuracies[f"{kind} {size}"] for size in sizes]
        told.append(f"{kind} {', '.join(f'{size}: {value:.2%}' for size, value in zip(sizes, values, strict=True))}")
        rises += [_difference(results, f"{kind} {more}", f"{kind} {few}") for few, more in itertools.pairwise(sizes)]
    always = all_hold(rises)
    return None if always is None else not always, f"Best test accuracy, by hidden nodes: {'; '.join(told)}."


def _hundred(results):
    """Whether 100 is the best size of most kinds."""
    tops, told = _best_of_kinds(results)
    return sum(row.endswith(" 100") for row in tops.values()) >= 2, f"Best number of hidden nodes: {told}."


def _order(results):
    """Whether the best LSTM is above the best GRU and this above the best RNN, by more than chance."""
    tops, told = _best_of_kinds(results)
    holds = all_hold(_difference(results, tops[more], tops[less]) for more, less in (("lstm", "gru"), ("gru", "rnn")))
    return holds, f"Best of each kind: {told}."


def _trains_faster(results):
    recurrent, cnn = (results.mean(row, Measure(_seconds)) for row in ("rnn 100", "cnn"))
    return MUCH * recurrent < cnn, f"An epoch takes {recurrent:.1f} s (rnn 100) and {cnn:.1f} s (cnn)."


def _cnn_better(results):
    accuracies = _accuracies(results)
    top = max(accuracies, key=accuracies.get)
    _, low, high, told = results.difference("cnn", top, best("test_accuracy"))
    return above_zero(low, high), f"Best test accuracy {told}; {top} is the best recurrent network."


def _high(results):
    """Whether the CNN and each kind of recurrent network come to the accuracy by which convergence is timed."""
    accuracies = _accuracies(results)
    tops = {kind: max(accuracies[f"{kind} {size}"] for size in sizes) for kind, sizes in SIZES.items()}
    tops["cnn"] = results.mean("cnn", best("test_accuracy"))
    told = ", ".join(f"{kind} {value:.2%}" for kind, value in tops.items())
    return min(tops.values()) >= REACHED, f"Best test accuracy: {told}; {REACHED:.0%} counts as high."


def _jagged(results):
    """Whether the training loss jumps less with the GRU's batches of 200 than with the others' of 100."""
    spreads = {}
    for row in ("rnn 100", "lstm 100", "gru 100"):
        loss = results.curve(row, "loss")[1]
        tail = loss[len(loss) // 2 :]
        spreads[row] = float(np.diff(tail).std() / tail.mean())
    told = ", ".join(f"{row} {spread:.1%}" for row, spread in spreads.items())
    holds = spreads["gru 100"] < min(spreads["rnn 100"], spreads["lstm 100"])
    return holds, f"Deviation of the training loss's change between evaluations, of its mean, second half: {told}."


def _modulates(results):
    spreads = {row: float(results.curve(row, "test_accuracy")[1][-TAIL:].std()) for row in ("rnn 100", "cnn")}
    told = ", ".join(f"{row} {100 * spread:.3f} points" for row, spread in spreads.items())
    return spreads["cnn"] > spreads["rnn 100"], f"Deviation of the last {TAIL} test accuracies: {told}."


CLAIMS = (
    Claim("The fewer nodes there are, the more training is needed to converge", "1.4.1", _fewer_nodes),
    Claim("More hidden nodes do not necessarily increase the test accuracy", "1.4.1", _not_monotone),
    Claim("100 is currently the best size", "1.4.1", _hundred),
    Claim("The batch size determines how jagged the training curve is", "1.4.1", _jagged),
    Claim("The RNN performed worst and the LSTM best", "1.4.1", _order),
    Claim("An RNN trains much faster than a CNN", "1.4.2", _trains_faster),
    Claim("The CNN is slightly better in test accuracy", "1.4.2", _cnn_better),
    Claim("The CNN's test accuracy varies more on the plateau", "1.4.2", _modulates),
    Claim("Both can achieve high accuracy", "1.4.2", _high),
)


def _figures():
    figures = []
    for kind, sizes in SIZES.items():
        rows = [f"{kind} {size}" for size in sizes]
        more = {"x_label": "steps", "where": f"figure {FIGURES[kind]}"}
        for column, words, label in (
            ("test_accuracy", "test accuracy", Y_LABELS["accuracy"]),
            ("test_loss", "test loss", Y_LABELS["loss"]),
            ("accuracy", "training accuracy", Y_LABELS["accuracy"]),
            ("loss", "training loss", Y_LABELS["loss"]),
        ):
            title = f"{kind.upper()}: {words} by hidden nodes"
            figures.append(Lines(f"{kind}-{column}", title, of_rows(rows, column), label, **more))
    figures.append(
        Lines(
            "cnn",
            "Test accuracy of three recurrent networks of 100 nodes and a CNN",
            of_rows(("rnn 100", "lstm 100", "gru 100", "cnn"), "test_accuracy"),
            Y_LABELS["accuracy"],
            x_label="steps",
            where="1.4.2",
        )
    )
    return tuple(figures)


@register("comp576-recurrent", source="COMP 576 report 2017, section 1.4")
def comp576_recurrent():
    """RNN, LSTM and GRU of 20 to 500 hidden nodes on MNIST beside a CNN: curves, steps to 97%, seconds, parameters."""
    rows = [
        Training(
            name=row,
            recipe=RECIPES.get(f"mnist-{kind}")().replace(test_curve=True, model_options={"hidden_units": size}),
        )
        for row, (kind, size) in ROWS.items()
    ]
    cnn = RECIPES.get("mnist-rnn")().replace(test_curve=True, model="lenet_grey")
    return Study(
        name="comp576-recurrent",
        title="COMP 576: recurrent networks on MNIST beside a CNN",
        source="P. Tang, COMP 576 HW 2, October 2017, section 1.4",
        about="An MNIST image is read row by row by a plain recurrent network, an LSTM and a GRU of several sizes, and "
        "as a whole by a CNN. The report prints curves and a summary without numbers.",
        rows=(
            *rows,
            Training(name="cnn", recipe=cnn, note="the LeNet of section 1.2 with the recurrent networks' settings"),
        ),
        values=_values(),
        claims=CLAIMS,
        figures=_figures(),
        chosen=(
            "Pixels from 0 to 1, an evaluation every 1,000 steps, weights best by validation accuracy.",
            "The CNN is the LeNet of section 1.2 on MNIST; the report does not say which its CNN is.",
            f"Convergence is timed by the step with {REACHED:.0%} of the test images right, the plateau by the last "
            f"{TAIL} evaluations. Much faster is at least {MUCH} times as fast.",
        ),
        differences=("The GRU applies its reset gate before the matrix product, as TensorFlow's cell of 2017.",),
    )
