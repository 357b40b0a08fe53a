"""A search as an Optuna study, in a file beside the journal, so that `optuna-dashboard` shows it, also while it runs.

The journal (tuning.store) decides; this file only repeats it, whatever tuner suggested the values. It is written where
Optuna is installed (the extra optuna), and `kerascnn tune-report` writes it for a search that ran without.
"""

import contextlib
import datetime
import importlib.util
import json
import math
import time
import warnings
from pathlib import Path

from kerascnn.errors import UsageError
from tuning import tables
from tuning.store import FINAL, Store

FILE = "optuna.log"
SECONDS = 2  # between two looks at the journal
KEPT = ("status", "reason", "best_epoch", "seconds")  # of a trial's row in the journal, as Optuna's user attributes


def installed():
    """True if Optuna can be imported."""
    return importlib.util.find_spec("optuna") is not None


def write(folder):
    """Write the study of a search that does not run; returns the file, or None without Optuna or while it runs (the
    process that runs it writes the file then)."""
    search = tables.described(folder)
    if not installed() or search["state"] == "running":
        return None
    OptunaStorage(folder, search).write()
    return Path(folder) / FILE


def follower(folder, search, say):
    """A function that keeps the file up to date; it does nothing where Optuna is not installed.

    A file that cannot be written is reported once and stops nothing: the journal has everything.

    Returns:
        function (last=False); it writes at most every `SECONDS`, and the last time at once.
    """
    state = {"next": 0.0 if installed() else math.inf, "storage": None}

    def follow(last=False):
        if not (time.monotonic() >= state["next"] or (last and state["next"] < math.inf)):
            return
        try:
            state["storage"] = state["storage"] or OptunaStorage(folder, search)
            state["storage"].write()
            state["next"] = time.monotonic() + SECONDS
        except Exception as error:  # of Optuna, or of the disk
            state["next"] = math.inf
            say(f"{Path(folder) / FILE} is no longer written: {type(error).__name__}: {error}")

    return follow


def check_installed():
    """Raise a UsageError that says what to install if Optuna is missing."""
    if not installed():
        raise UsageError("tuner='tpe' needs optuna, which is not installed. Type: pip install 'kerascnn[optuna]'")


@contextlib.contextmanager
def quiet():
    """Within this block, Optuna logs nothing and warns of nothing."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)


def distribution(row):
    """Optuna's distribution of a hyperparameter, given its row of `tuning.spaces.described`.

    Optuna has no steps on a logarithmic scale: there every value of the range is allowed. KerasTuner's "reverse_log"
    counts as logarithmic in pages, and so it does here.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if row["kind"] not in ("float", "int"):
        return CategoricalDistribution(row["values"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a range that is no whole number of steps is cut by Optuna
        if row["kind"] == "int":
            return IntDistribution(row["low"], row["high"], log=row["log"], step=1 if row["log"] else row["step"])
        step = None if row["log"] else row["step"]
        return FloatDistribution(row["low"], row["high"], log=row["log"], step=step)


def within(domain, value):
    """The value as Optuna's distribution takes it: KerasTuner may miss the end of a range by the last digit."""
    return min(max(value, domain.low), domain.high) if hasattr(domain, "low") else value


class OptunaStorage:
    """The Optuna study in a search's folder.

    Args:
        folder: the search's folder.
        search: its search.json, a dict.
    """

    def __init__(self, folder, search):
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
        from optuna.study import StudyDirection

        self.folder = Path(folder)
        self._distributions = {name: distribution(row) for name, row in search["hyperparameters"].items()}
        path = (self.folder / FILE).resolve()  # Optuna's lock links to it, and tells by it how old a dead process's is
        _mend(path)
        with quiet():
            self._storage = JournalStorage(JournalFileBackend(str(path)))
            try:
                self._study = self._storage.get_study_id_from_name(search["name"])
            except KeyError:
                goal = StudyDirection.MINIMIZE if search["direction"] == "min" else StudyDirection.MAXIMIZE
                self._study = self._storage.create_new_study([goal], search["name"])
                for name in ("search", "data", "tuner", "objective", "epochs", "stop_early", "seed"):
                    self._storage.set_study_user_attr(self._study, name, search[name])
            trials = self._storage.get_all_trials(self._study, deepcopy=False)
        self._written = {trial.number: trial for trial in trials}
        self._ids = {
            trial.number: self._storage.get_trial_id_from_study_id_trial_number(self._study, trial.number)
            for trial in trials
        }

    def write(self):
        """Bring the file to what the journal says."""
        with contextlib.closing(Store(self.folder, readonly=True)) as store:
            for row in store.trials():
                written = self._written.get(row["trial"])
                if written is None or not written.state.is_finished():
                    self._written[row["trial"]] = self._write(row, _curve(store.reports(row["trial"])), written)

    def _write(self, row, reports, written):
        """Write what the file does not have yet of a trial; returns it as an Optuna trial."""
        trial = self._trial(row, reports)
        storage = self._storage
        if written is None:
            self._ids[trial.number] = storage.create_new_trial(self._study, template_trial=trial)
            return trial
        number = self._ids[trial.number]
        for epoch, value in trial.intermediate_values.items():
            if epoch not in written.intermediate_values:
                storage.set_trial_intermediate_value(number, epoch, value)
        for name, value in trial.user_attrs.items():
            if written.user_attrs.get(name) != value:
                storage.set_trial_user_attr(number, name, value)
        if trial.state.is_finished():
            storage.set_trial_state_values(number, trial.state, trial.values)
        return trial

    def _trial(self, row, reports):
        from optuna.trial import FrozenTrial, TrialState

        states = {"completed": TrialState.COMPLETE, "stopped": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
        states["failed"] = TrialState.FAIL
        state = states.get(row["status"], TrialState.RUNNING)
        values = json.loads(row["hyperparameters"])
        domains = self._distributions
        params = {name: within(domain, values[name]) for name, domain in domains.items() if name in values}
        ended = datetime.datetime.fromtimestamp(row["ended"]) if row["status"] in FINAL else None
        return FrozenTrial(
            number=row["trial"],
            trial_id=-1,
            state=state,
            value=row["score"] if state.is_finished() else None,
            datetime_start=datetime.datetime.fromtimestamp(row["started"]),
            datetime_complete=ended,
            params=params,
            distributions={name: domains[name] for name in params},
            user_attrs={**{name: row[name] for name in KEPT}, "run": str(tables.run_folder(self.folder, row["trial"]))},
            system_attrs={},
            intermediate_values=reports,
        )


def _curve(reports):
    """{epoch: objective} of a trial's reports; NaN where it was no number."""
    return {report["epoch"]: math.nan if report["value"] is None else report["value"] for report in reports}


def _mend(path):
    """Cut off a last line that a killed process left half written: Optuna would read no line after it."""
    if path.exists():
        content = path.read_bytes()
        if not content.endswith(b"\n"):
            with open(path, "r+b") as file:
                file.truncate(content.rfind(b"\n") + 1)
