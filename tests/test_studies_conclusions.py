"""Conclusions of the reports on LeNet's trials, on recurrent networks and of CS7011, from curves written by hand."""

from types import SimpleNamespace

import pandas
import pytest

from kerascnn.studies import STUDIES
from kerascnn.studies.comp576_recurrent import SIZES
from kerascnn.studies.comp576_trials import LOOKS
from kerascnn.studies.cs280_miniplaces import BLOBS, _as_caffe, _shapes
from kerascnn.studies.frame.results import Results
from kerascnn.studies.frame.verdicts import INCOMPARABLE, NOT_REPRODUCED, NOT_RUN, REPRODUCED
from tests.study_folders import computed, judged, trained

TRIALS, RECURRENT, CS7011 = "comp576-trials", "comp576-recurrent", "cs7011"
STEPS = [0, 100, 200, 300, 400, 500]


def trial(folder, number, right, zeros=0.5, **seen):
    """A trial with its test accuracy every 100 steps, and what was seen of conv1 then; by default nothing changes."""
    metrics = {"step": STEPS[1 : len(right) + 1], "test_accuracy": right}
    run = trained(folder, f"trial-{number}", metrics, images=10_000)
    table = {"steps": STEPS, "max": [1.0] * 6, "mean": [1.0] * 6, "std": [1.0] * 6, "zeros": [zeros] * 6} | seen
    (run / LOOKS).parent.mkdir(parents=True, exist_ok=True)
    rows = pandas.DataFrame({"layer": "conv1", **table})
    pandas.concat([rows, rows.assign(layer="conv2", zeros=0.99)]).to_csv(run / LOOKS, index=False)


@pytest.mark.parametrize(
    ("second", "verdict"),
    [
        ([0.56, 0.62], REPRODUCED),
        ([0.50, 0.62], NOT_REPRODUCED),  # as late as the first
        ([0.56, 0.58], NOT_REPRODUCED),  # earlier, and worse
        ([0.56, 0.605], INCOMPARABLE),  # earlier, and better by less than chance gives
    ],
)
def test_a_smaller_keep_rate_must_be_both_faster_and_better(tmp_path, second, verdict):
    trial(tmp_path, 1, [0.5, 0.6])
    trial(tmp_path, 2, second)
    told = judged(TRIALS, tmp_path, "smaller keep rate")
    assert told.verdict == verdict
    assert "right after 200 steps with keep rate 0.8" in told.finding


@pytest.mark.parametrize(
    ("right", "sparse", "too_sparse"),
    [
        ([0.5, 0.52, 0.54, 0.56, 0.58], REPRODUCED, NOT_REPRODUCED),  # the sparsest is the best
        ([0.58, 0.56, 0.54, 0.52, 0.5], NOT_REPRODUCED, REPRODUCED),
        ([0.52, 0.58, 0.5, 0.56, 0.54], INCOMPARABLE, REPRODUCED),  # no rank correlation to speak of
        ([0.52, 0.51, 0.5, 0.545, 0.54], INCOMPARABLE, INCOMPARABLE),  # the sparsest is the best but for chance
    ],
)
def test_sparsity_is_told_by_ranks(tmp_path, right, sparse, too_sparse):
    for number, accuracy in enumerate(right, start=1):
        trial(tmp_path, number, [accuracy], zeros=number / 10)
    assert judged(TRIALS, tmp_path, "Sparse activation").verdict == sparse
    assert judged(TRIALS, tmp_path, "Not too sparse").verdict == too_sparse
    assert "trial-5 (50% zeros" in judged(TRIALS, tmp_path, "Not too sparse").finding


def test_sparsity_of_three_trainings_is_not_told(tmp_path):
    for number in (1, 2, 3):
        trial(tmp_path, number, [0.5])
    told = judged(TRIALS, tmp_path, "Sparse activation")
    assert (told.verdict, told.finding) == (NOT_RUN, "fewer than four trainings have finished")


@pytest.mark.parametrize(
    ("slow", "zeros", "verdict"),
    [
        (0.4, 0.7, REPRODUCED),
        (0.7, 0.7, NOT_REPRODUCED),
        (0.4, 0.1, NOT_REPRODUCED),
        (0.595, 0.7, INCOMPARABLE),  # a difference that chance may give
    ],
)
def test_gradient_descent_needs_a_high_rate_and_goes_sparse(tmp_path, slow, zeros, verdict):
    trial(tmp_path, 3, [0.6], zeros=0.4)
    trial(tmp_path, 5, [slow])
    trial(tmp_path, 6, [0.6], zeros=zeros)
    assert judged(TRIALS, tmp_path, "Gradient descent").verdict == verdict


@pytest.mark.parametrize(
    ("highest", "verdict"),
    [([1, 2, 3, 4, 5, 6], REPRODUCED), ([6, 5, 4, 3, 2, 1], NOT_REPRODUCED)],  # the maximum rises, or falls
)
def test_the_accuracy_peaks_where_mean_and_deviation_are_least(tmp_path, highest, verdict):
    """Step 300 has the best accuracy and the least mean and deviation; what was seen before training does not count."""
    low = {"mean": [0.1, 3, 2, 1, 2, 3], "std": [0.1, 3, 2, 1, 2, 3]}
    trial(tmp_path, 1, [0.4, 0.5, 0.6, 0.5, 0.4], max=highest, **low)
    told = judged(TRIALS, tmp_path, "Performance is highest")
    assert told.verdict == verdict
    assert "trial-1 300 (300, 300)" in told.finding


def test_a_least_mean_at_another_time_is_not_together(tmp_path):
    late = {"mean": [9, 5, 4, 3, 2, 1], "std": [9, 5, 4, 3, 2, 1], "max": [1, 2, 3, 4, 5, 6]}
    trial(tmp_path, 1, [0.4, 0.6, 0.5, 0.5, 0.4], **late)
    assert judged(TRIALS, tmp_path, "Performance is highest").verdict == NOT_REPRODUCED


@pytest.mark.parametrize(
    ("falling", "verdict"), [((7, 8), REPRODUCED), ((8,), NOT_REPRODUCED), ((1, 7, 8), NOT_REPRODUCED)]
)
def test_only_rmsprop_must_lower_mean_and_deviation(tmp_path, falling, verdict):
    down = {"mean": [1, 1, 1, 1, 0.9, 0.8], "std": [1, 1, 1, 1, 0.9, 0.8]}
    for number in range(1, 9):
        trial(tmp_path, number, [0.5], **(down if number in falling else {"mean": [1, 1, 1, 1, 0.9, 0.8]}))
    told = judged(TRIALS, tmp_path, "Only RMSprop")
    assert told.verdict == verdict
    assert told.finding.endswith("than in the third in: " + ", ".join(f"trial-{number}" for number in falling) + ".")


@pytest.mark.parametrize(("number", "verdict"), [(1, NOT_REPRODUCED), (7, NOT_RUN)])
def test_one_trial_can_refute_that_only_rmsprop_lowers_them(tmp_path, number, verdict):
    """Adam that lowers them is enough; RMSprop that does leaves it open."""
    trial(tmp_path, number, [0.5], mean=[1, 1, 1, 1, 0.9, 0.8], std=[1, 1, 1, 1, 0.9, 0.8])
    assert judged(TRIALS, tmp_path, "Only RMSprop").verdict == verdict


@pytest.mark.parametrize(
    ("large", "verdict"),
    [
        ([0.5, 0.7], REPRODUCED),  # higher
        ([0.56, 0.58], REPRODUCED),  # faster
        ([0.5, 0.58], NOT_REPRODUCED),  # neither
        ([0.5, 0.605], INCOMPARABLE),  # higher by less than chance gives
    ],
)
def test_larger_batches_must_be_faster_or_better(tmp_path, large, verdict):
    trial(tmp_path, 3, [0.5, 0.6])
    trial(tmp_path, 4, large)
    assert judged(TRIALS, tmp_path, "Larger batches").verdict == verdict


def recurrent(folder, **changed):
    """All networks of the recurrent study: {row: test accuracies at steps 100, 200 ...}, those not named alike."""
    right = {f"{kind} {size}": [0.9, 0.98, 0.98] for kind, sizes in SIZES.items() for size in sizes}
    right |= {"cnn": [0.9, 0.98, 0.98]} | {name.replace("_", " "): each for name, each in changed.items()}
    for row, curve in right.items():
        steps = [100 * (place + 1) for place in range(len(curve))]
        trained(folder, row, {"step": steps, "test_accuracy": curve}, images=10_000)


@pytest.mark.parametrize(("largest", "verdict"), [([0.98], REPRODUCED), ([0.9, 0.9, 0.98], NOT_REPRODUCED)])
def test_fewer_nodes_must_never_be_faster(tmp_path, largest, verdict):
    """GRUs reach 97% after 200 steps with 20 and 100 nodes; with 500 after 100, or only after 300."""
    recurrent(tmp_path, gru_500=largest)
    told = judged(RECURRENT, tmp_path, "fewer nodes")
    assert told.verdict == verdict
    assert "gru 20: 200, 100: 200, 500: " in told.finding


@pytest.mark.parametrize(
    ("largest", "verdict"),
    [(0.9, REPRODUCED), (0.934, INCOMPARABLE), (0.97, NOT_REPRODUCED)],  # falls, may fall, rises
)
def test_accuracy_that_falls_once_does_not_rise_with_the_nodes(tmp_path, largest, verdict):
    rising = {f"{kind}_{size}": [0.9 + place / 60] for kind, sizes in SIZES.items() for place, size in enumerate(sizes)}
    recurrent(tmp_path, **rising | {"lstm_500": [largest]})
    assert judged(RECURRENT, tmp_path, "do not necessarily increase").verdict == verdict


def test_sizes_that_never_arrive_say_nothing_of_convergence(tmp_path):
    recurrent(tmp_path, **{f"{kind}_{size}": [0.9] for kind, sizes in SIZES.items() for size in sizes})
    assert judged(RECURRENT, tmp_path, "fewer nodes").verdict == INCOMPARABLE


@pytest.mark.parametrize(
    ("rnn", "lstm", "verdict"),
    [
        (0.979, 0.99, REPRODUCED),
        (0.9895, 0.99, NOT_REPRODUCED),
        (0.979, 0.98, NOT_REPRODUCED),
        (0.984, 0.99, INCOMPARABLE),  # the GRU's 98.5% may be no better
    ],
)
def test_the_best_of_each_kind_are_ordered(tmp_path, rnn, lstm, verdict):
    kinds = {f"rnn_{size}": [rnn] for size in SIZES["rnn"]} | {"lstm_200": [lstm], "gru_20": [0.985]}
    recurrent(tmp_path, **kinds)
    assert judged(RECURRENT, tmp_path, "performed worst").verdict == verdict


@pytest.mark.parametrize(
    ("cnn", "better", "high"),
    [(0.99, REPRODUCED, REPRODUCED), (0.96, *[NOT_REPRODUCED] * 2), (0.981, INCOMPARABLE, REPRODUCED)],
)
def test_the_cnn_beside_the_best_recurrent_network(tmp_path, cnn, better, high):
    recurrent(tmp_path, cnn=[cnn])
    assert judged(RECURRENT, tmp_path, "slightly better").verdict == better
    assert judged(RECURRENT, tmp_path, "achieve high accuracy").verdict == high


def test_the_plateau_is_the_last_ten_evaluations(tmp_path):
    """The CNN's early rise does not count; on the plateau it stands still, and the RNN goes up and down by a point."""
    recurrent(tmp_path, cnn=[0.1] * 5 + [0.99] * 10, rnn_100=[0.97, 0.98] * 6)
    told = judged(RECURRENT, tmp_path, "varies more")
    assert (told.verdict, told.finding) == (
        NOT_REPRODUCED,
        "Deviation of the last 10 test accuracies: rnn 100 0.500 points, cnn 0.000 points.",
    )
    recurrent(tmp_path, cnn=[0.98, 0.99] * 6, rnn_100=[0.98] * 12)
    assert judged(RECURRENT, tmp_path, "varies more").verdict == REPRODUCED


@pytest.mark.parametrize(("gru", "verdict"), [([9, 1, 1.0, 1.2], REPRODUCED), ([1, 1, 1.0, 4.0], NOT_REPRODUCED)])
def test_a_jagged_curve_changes_much_in_its_second_half(tmp_path, gru, verdict):
    """What the GRU's loss does in the first half does not count."""
    rough = [1, 1, 1, 1, 1.0, 2.0, 1.0, 2.0]
    for row, loss in {"rnn 100": rough, "lstm 100": rough, "gru 100": [gru[0]] * 4 + [gru[2], gru[3]] * 2}.items():
        trained(tmp_path, row, {"step": range(8), "loss": loss})
    assert judged(RECURRENT, tmp_path, "jagged").verdict == verdict


@pytest.mark.parametrize(("seconds", "verdict"), [(9, REPRODUCED), (11, NOT_REPRODUCED)])
def test_an_rnn_trains_faster_by_its_seconds_an_epoch(tmp_path, seconds, verdict):
    """100 steps of 10 are one pass over 1,000 images."""
    for row, took in {"rnn 100": seconds, "cnn": 20}.items():
        run = trained(tmp_path, row, {"test_accuracy": [0.5]}, seconds=took, result={"steps": 100})
        (run / "recipe.json").write_text('{"batch_size": 10}')
    told = judged(RECURRENT, tmp_path, "trains much faster")
    assert (told.verdict, told.finding) == (verdict, f"An epoch takes {seconds:.1f} s (rnn 100) and 20.0 s (cnn).")


def losses(train, validation, test):
    return {"loss": train, "val_loss": validation, "test_loss": test}


def test_losses_of_task_1_are_means_of_the_last_five_epochs(tmp_path):
    trained(tmp_path, "best", losses([9, 1, 1, 1, 1, 1], [0, 0.9, 0.9, 0.9, 0.9, 0.9], [0, 0.8, 0.8, 0.8, 0.8, 0.8]))
    told = judged(CS7011, tmp_path, "lower than the training loss")
    assert told.verdict == REPRODUCED
    assert "training 1.000 nats (with dropout), validation 0.900, test 0.800" in told.finding
    trained(tmp_path, "best", losses([1] * 5, [0.9] * 5, [1.1] * 5))
    assert judged(CS7011, tmp_path, "lower than the training loss").verdict == NOT_REPRODUCED


@pytest.mark.parametrize(("test", "verdict"), [([2, 1, 2, 1], REPRODUCED), ([4, 3, 2, 1], NOT_REPRODUCED)])
def test_losses_fluctuate_by_their_changes(tmp_path, test, verdict):
    """A steady fall does not fluctuate, however steep."""
    trained(tmp_path, "best", losses([8, 6, 4, 2], [2, 1, 2, 1], test))
    assert judged(CS7011, tmp_path, "fluctuate a lot").verdict == verdict


@pytest.mark.parametrize(("validation", "verdict"), [(0.815, REPRODUCED), (0.83, NOT_REPRODUCED)])
def test_accuracies_meet_within_two_points(tmp_path, validation, verdict):
    trained(tmp_path, "best", {"accuracy": [0.8] * 5, "val_accuracy": [validation] * 5})
    assert judged(CS7011, tmp_path, "converge to a single value").verdict == verdict


@pytest.mark.parametrize(("without", "verdict"), [([0.5, 0.6, 0.7], REPRODUCED), ([0.5, 0.7], NOT_REPRODUCED)])
def test_batch_normalisation_must_be_faster_with_and_without_dropout(tmp_path, without, verdict):
    curves = {
        "BN": [0.5, 0.7],
        "NO BN": [0.5, 0.6],
        "BN without dropouts": [0.5, 0.7],
        "NO BN without dropouts": without,
    }
    for row, curve in curves.items():
        trained(tmp_path, row, {"val_accuracy": curve})
    told = judged(CS7011, tmp_path, "efficient training")
    assert told.verdict == verdict
    assert "with dropout after 2 epochs with it and never without" in told.finding


def test_filters_of_all_three_named_patterns_must_be_there(tmp_path):
    counts = {"vertical": 1, "horizontal": 2, "diagonal": 0, "blob of colour": 3, "no direction": 58}
    computed(tmp_path, "VI", counts)
    assert judged(CS7011, tmp_path, "vertical strokes").verdict == REPRODUCED
    computed(tmp_path, "VI", counts | {"horizontal": 0})
    assert judged(CS7011, tmp_path, "vertical strokes").verdict == NOT_REPRODUCED


def test_shapes_in_caffes_order():
    shapes = {(45, 45, 96): (96, 45, 45), (7, 7, 3, 96): (96, 3, 7, 7), (1024, 100): (100, 1024), (1024,): (1024,)}
    assert {shape: _as_caffe(shape) for shape in shapes} == shapes


@pytest.mark.parametrize(
    ("scratch", "images", "verdict"), [(0.7, 1000, REPRODUCED), (0.7, 100, INCOMPARABLE), (0.9, 1000, NOT_REPRODUCED)]
)
def test_transfer_must_gain_more_than_chance(tmp_path, scratch, images, verdict):
    """80% and 70% of 1,000 images: 1.96 times the root of (0.16 + 0.21) / 1,000 is 3.77 points; of 100 it is 11.92."""
    computed(tmp_path, "five classes", {"from scratch": scratch, "pre-trained": 0.8, "images": images})
    study = STUDIES.get("tdt4265-transfer")()
    told = Results(study, tmp_path, 1).judge(study.questions[0])
    assert told.verdict == verdict
    if scratch == 0.7:
        assert ("3.77 points" if images == 1000 else "11.92 points") in told.finding


def test_figure_1_has_the_networks_shapes(tmp_path, monkeypatch):
    place = SimpleNamespace(folder=tmp_path)
    numbers = _shapes(place)
    assert (numbers["equal layers whose output is"], numbers["equal layers whose weights are"]) == (11, 8)
    monkeypatch.setitem(BLOBS, "pool5", (2, 2, 256))  # the same number of neurons in another order
    assert _shapes(place)["equal layers whose output is"] == 10
