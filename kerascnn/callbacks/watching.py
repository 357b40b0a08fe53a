"""What every look during training shares: when it looks, where it writes, and that it never ends a training."""

import itertools
import json
import warnings
from pathlib import Path

import keras
import numpy as np

from kerascnn import backends, plots, runs
from kerascnn.errors import DataError, UsageError, unknown
from kerascnn.files import read_arrays
from kerascnn.runs import replacing, write_table, write_text

UNITS = ("epochs", "steps")
# What looks write besides the arrays that they keep, replaced by a training that begins in the same folder
NUMBERED = "*-" + "[0-9]" * 7
WRITTEN = (
    f"{NUMBERED}.png",
    f"{NUMBERED}-*.png",
    f"{NUMBERED}.csv",
    "strip.png",
    "evolution.*",
    "activations.*",
    "ridge-*.png",
    "epochs.png",
)


def spread(split, count):
    """At most `count` images of a split, evenly spread over it."""
    return split.take(np.unique(np.linspace(0, len(split) - 1, min(count, len(split))).astype(int)))


class Watch(keras.callbacks.Callback):
    """A callback that looks at the network every so often.

    What cannot work (an unknown layer, a folder that cannot be written) is an error before the first step. Whatever
    goes wrong later is warned of once, kept in the run's run.json where there is one, and the training goes on.

    A look that inherits from it has `check()`, called before the first step, and `look(at)`, called with the number of
    epochs (steps) done; `finish()` is called at the end where it exists. `subject()` says what it looks at.

    Every look of a fit writes to a folder of its own: the second one of a kind, such as a FilterGrid of "conv2" beside
    one of "conv1", writes to filters-conv2. A resumed training finds its folder by the subject stored in it.

    Args:
        name: of its kind, and of the folder within `folder`.
        folder: where all looks write; a run's is its watch/.
        every: epochs (steps) from one look to the next.
        unit: "epochs" or "steps".
        start: True looks also before the first step.

    Attributes:
        period: steps of an epoch of `fit` that is no pass over the images, as with a recipe's `eval_every`; what is
            then written counts steps, though `every` counts such epochs. 0: an epoch is an epoch.
        length: epochs of a training that takes several fits; 0: those of the fit.
    """

    def __init__(self, name, folder="watch", every=1, unit="epochs", start=False):
        super().__init__()
        if isinstance(every, bool) or not isinstance(every, (int, np.integer)) or every < 1:
            raise UsageError(f"every={every!r} is not allowed: it must be a whole number of {unit}, at least 1.")
        if unit not in UNITS:
            raise unknown("unit", unit, UNITS)
        # Keras may run the batch hooks of callbacks that are async_safe beside the next step: counting may, looking not
        self.async_safe = unit == "epochs"
        self.name, self.parent, self.every, self.unit, self.start = name, Path(folder), int(every), unit, start
        self._place = name
        self.period = self.length = 0
        self.failed = None
        self._steps = self._epochs = 0

    @property
    def folder(self):
        """Where this look writes."""
        return self.parent / self._place

    @property
    def counts(self):
        """What the numbers of the looks count: "epochs" or "steps"."""
        return "steps" if self.period else self.unit

    def now(self):
        """The number of epochs (steps) done, as `look` gets it."""
        return self._epochs if self.counts == "epochs" else self._steps

    def subject(self):
        """What is looked at, as a dict of lists that JSON can hold; known once `check` has run."""
        return {}

    def on_train_begin(self, logs=None):
        if self.failed:
            return
        self._steps = backends.steps_done(self.model)
        self._checked()
        if self.failed:
            return
        self._place = self._free_place()
        if self._steps and self._kept_at(self._place).get("unit") == "epochs":
            self.period = 0  # a run of a version that counted its periods goes on as it began
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            told = {"every": self.every, "unit": self.counts, **self.subject()}
            write_text(self.folder / "look.json", json.dumps(told))
        except OSError as error:
            raise UsageError(
                f"{type(self).__name__} cannot write to {self.folder}: {error.strerror}. Give another: folder=FOLDER"
            ) from error
        if not self._steps:  # a training that begins: looks of an earlier one in this folder are replaced
            for path in self._earlier():
                path.unlink()
            if self.start:
                self._guarded(self.look, 0)

    def _free_place(self):
        """The name of a folder that no other look of this fit writes to, nor an earlier one of another subject."""
        # Keras hands the same dict of parameters to all callbacks of a fit, and a new one to those of the next
        taken = {} if self.params is None else self.params.setdefault("kerascnn_looks", {})
        label = "-".join(str(part).replace("/", "-") for value in self.subject().values() for part in value)[:60]
        for place in self._places(label):
            if taken.get(str(self.parent / place), self) is not self:
                continue
            if self._steps and self._subject_in(place) not in (None, self.subject()):
                continue
            taken[str(self.parent / place)] = self
            return place

    def _places(self, label):
        named = f"{self.name}-{runs.plain(label)}" if label else self.name
        yield from dict.fromkeys((self.name, named))
        for number in itertools.count(2):
            yield f"{named}-{number}"

    def _subject_in(self, place):
        """The subject of the looks in a folder; None where it holds none, or does not say."""
        return {name: value for name, value in self._kept_at(place).items() if name not in ("every", "unit")} or None

    def _kept_at(self, place):
        """What look.json holds in a folder; {} where there is none."""
        try:
            kept = json.loads((self.parent / place / "look.json").read_text())
        except (OSError, ValueError):
            return {}
        return kept if isinstance(kept, dict) else {}

    def _earlier(self):
        """The files of earlier looks that a training that begins replaces: in its own folder, and, where that is the
        first one of the kind, in the further ones."""
        folders = [self.folder]
        if self._place == self.name:
            folders += [path.parent for path in self.parent.glob(f"{self.name}-*/look.json")]
        figures = [path for folder in folders for pattern in WRITTEN for path in folder.glob(pattern)]
        return {*figures, *(path for folder in folders for path in _arrays_in(folder))}

    def on_train_batch_end(self, batch, logs=None):
        self._steps += 1
        if self.unit == "steps" and self._steps % self.every == 0:
            self._guarded(self.look, self.now())

    def on_epoch_end(self, epoch, logs=None):
        self._epochs = epoch + 1
        if self._due(self._epochs):
            self._guarded(self.look, self.now())

    def on_train_end(self, logs=None):
        if hasattr(self, "finish"):
            self._guarded(self.finish)

    def _due(self, epochs):
        """Whether to look at the end of an epoch, when the weights are those that the training evaluates."""
        return self.unit == "epochs" and epochs % self.every == 0

    def _checked(self):
        """Call `check`: what the user can mend is an error before the first step."""
        try:
            self.check()
        except (UsageError, DataError):
            raise
        except Exception as error:
            self._fail(error)

    def _guarded(self, function, *arguments):
        """Call a look; whatever goes wrong is told once."""
        if self.failed:
            return
        try:
            backends.sync(self.model)
            function(*arguments)
        except Exception as error:  # a look must never end a training
            self._fail(error)

    def _fail(self, error):
        """Warn of what went wrong and keep it; from now on this callback does nothing."""
        self.failed = f"{type(error).__name__}: {error}"
        told = f"{type(self).__name__} has stopped looking: {self.failed} The training goes on."
        warnings.warn(told, stacklevel=3)
        run = runs.Run(self.parent.parent)
        if (run / "run.json").exists():
            try:
                run.update(watch_failed={**run.read("run").get("watch_failed", {}), self._place: self.failed})
            except (OSError, DataError) as second:
                warnings.warn(f"The reason could not be kept in {run / 'run.json'}: {second}", stacklevel=3)

    def keep(self, at, **arrays):
        """Keep a look's arrays; `kept` gives them back, also to a training that was resumed."""
        with replacing(self.folder / f"{at:07d}.npz") as temporary:
            np.savez(temporary, **arrays)

    def kept(self, most=None):
        """{number of epochs (steps): arrays of that look}, oldest first.

        Args:
            most: at most so many, evenly chosen, the first and the last among them.
        """
        paths = _arrays_in(self.folder)
        if most is not None and len(paths) > most:
            paths = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, most).round().astype(int))]
        epochs = {}
        for path in paths:
            try:
                epochs[int(path.stem)] = read_arrays(path)
            except DataError as error:
                warnings.warn(f"A look is left out: {error}", stacklevel=2)
        return epochs

    def draw(self, stem, figure):
        """Write a figure as <stem>.png."""
        plots.write(figure, self.folder / f"{stem}.png")

    def write(self, stem, table):
        """Write a DataFrame as <stem>.csv."""
        write_table(self.folder / f"{stem}.csv", table)


def _arrays_in(folder):
    """The files of `Watch.keep`, oldest first."""
    return sorted(path for path in folder.glob("*.npz") if path.stem.isdecimal())
