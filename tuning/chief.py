"""The chief of a search: it lends trials, accepts reports, and decides when to stop. No networking here.

KerasTuner's oracles suggest, unpatched. A trial is lent to a worker for `lease_seconds`; reports and heartbeats renew
the lease, and a trial whose lease runs out is lent to the next worker that asks, which resumes from its checkpoint.
Every decision is in the journal before anyone hears of it.
"""

import contextlib
import json
import math
import tempfile
import time
import warnings

from threadpoolctl import threadpool_limits

from kerascnn.errors import UsageError, counted
from tuning import spaces
from tuning.oracles import oracle
from tuning.stopping import below_median, best_so_far, direction_of, rungs, who_goes_on
from tuning.store import FINAL

OWN = ("tuner/epochs", "tuner/initial_epoch", "tuner/bracket", "tuner/round", "tuner/trial_id")  # Hyperband's marks
DEATHS = 5  # a trial whose process dies so often while its worker lives has failed
TIME_UP = "the search's time was up"


class Chief:
    """Lends trials and takes their reports. Every method is one decision; `now` is seconds on any one clock.

    Args:
        store: the Store of the search; `close` closes it.
        space: function hp -> Recipe.
        settings: dict: tuner, objective, trials (int or None), epochs, seed, stop_early, max_failures, seconds (of the
            whole search, or None), fixed (recipe fields that replace the space's).
        lease_seconds: how long a trial is lent without a word from its worker.
    """

    def __init__(self, store, space, settings, *, lease_seconds=20.0, now=None):
        self.store, self.space, self.settings, self.lease_seconds = store, space, settings, lease_seconds
        self.direction = direction_of(settings["objective"])
        self._scratch = tempfile.TemporaryDirectory()  # the oracle's own files, which nobody reads
        self.oracle = oracle(settings, spaces.hyperparameters(space))
        self.oracle._set_project_dir(self._scratch.name, "oracle")
        self._replay()
        now = time.time() if now is None else now
        self._opened, self._spent_before = now, store.fact("spent", 0.0)  # seconds; while no chief lives, none pass
        with store.writing():
            if store.fact("began") is None:
                store.put_fact("began", now)
            for row in store.trials("running"):  # their workers could not reach a chief that was not there
                store.set_trial(row["trial"], expires=now + lease_seconds)

    def close(self):
        """Close the journal and remove the oracle's own files."""
        self.store.close()
        self._scratch.cleanup()

    def ask(self, worker, now):
        """What a worker should do: {"do": "trial", ...}, {"do": "wait"} or {"do": "done"}.

        Args:
            worker: its name, which no other living worker has: who asks has no trial, so one that was lent to that name
                is free at once.
        """
        with self._writing(now):
            self._expire(now)
            for row in self.store.trials("running"):
                if row["worker"] == worker:
                    self.store.set_trial(row["trial"], status="waiting", worker=None)
            if self.over:  # what waits begins when the search goes on
                return {"do": "done"}
            waiting = self._waiting(now)
            if waiting:
                return self._lend(waiting[0], worker, now)
            if self.store.count("running"):
                return {"do": "wait"}
            self._end(now)
            return {"do": "done"}

    def settle(self, now):
        """End a search that has nothing left to do although nobody asks any more; when its time is up, trials that
        wait keep what they have."""
        with self.store.writing():
            self._expire(now)
            if self.over or self.store.count("running"):
                return
            if self._time_is_up(now):
                for row in self.store.trials("waiting"):
                    if self._score(row["trial"])[0] is not None:  # others may begin when more time is given
                        self._cut(row, "stopped", TIME_UP, now)
            begun = self.store.count() > 0  # else nobody has come yet
            if self._time_is_up(now) or (begun and not self._waiting(now)):
                self._end(now)

    def report(self, trial, lease, epoch, metrics, now):
        """Take what a trial measured after an epoch (from 1); returns "go", "stop", "pause" (it saves its state and its
        process ends), or "lost" where it is lent on."""
        with self._writing(now):
            row = self._renewed(trial, lease, now)
            if row is None:
                return "lost"
            if row["status"] == "paused":  # the answer to the same report did not arrive
                return "pause"
            value = metrics.get(self.settings["objective"])
            if value is None:
                raise UsageError(
                    f"The objective {self.settings['objective']!r} is not computed. Computed: {', '.join(metrics)}."
                )
            self.store.add_report(trial, epoch, value if math.isfinite(value) else None, metrics)
            if row["stop"]:  # it was told so before, and killed before it could end
                return "stop"
            epochs = json.loads(row["recipe"])["epochs"]
            if self._time_is_up(now) and epoch < epochs:
                self.store.set_trial(trial, stop="stopped", reason=TIME_UP)
                return "stop"
            rule = self.settings["stop_early"]
            if rule == "halving" and epoch in rungs(epochs) and epoch > row["passed"]:
                self._pause(row, now)
                return "pause"
            if rule == "median" and epoch < epochs and below_median(self._curves(), trial, self.direction):
                self.store.set_trial(trial, stop="pruned", reason=f"median after epoch {epoch}")
                return "stop"
            return "go"

    def beat(self, trial, lease, now):
        """Renew a lease; returns "go", or "lost"."""
        with self._writing(now):
            return "lost" if self._renewed(trial, lease, now) is None else "go"

    def release(self, trial, lease, now, *, died=""):
        """Take a trial back unfinished: its worker leaves, or (`died` says how) its process ended without a result."""
        with self.store.writing():
            row = self.store.trial(trial)
            if row is None or row["status"] != "running" or row["lease"] != lease:
                return
            deaths, seconds = row["deaths"] + bool(died), row["seconds"] + (0.0 if died else now - row["lent"])
            self.store.set_trial(trial, status="waiting", worker=None, deaths=deaths, seconds=seconds)
            if deaths >= DEATHS:
                self._finish(
                    trial, "failed", f"its process ended {counted(deaths, 'time')} without a result: {died}", 0.0, now
                )

    def finish(self, trial, lease, status, reason, seconds, now):
        """Take a trial's end, "completed" or "failed"; the first word counts, and repeating it changes nothing.

        A result counts whoever brings it, because every process of a trial computes the same; a failure counts only
        from the worker that the trial is lent to.
        """
        with self.store.writing():
            row = self.store.trial(trial)
            if row is not None and row["status"] not in FINAL and (status == "completed" or row["lease"] == lease):
                self._finish(trial, status, reason, seconds, now)

    @property
    def over(self):
        """True once nothing is left to do."""
        return self.store.fact("ended") is not None

    def reopen(self):
        """Reopen a finished search, because more trials or more time were asked for."""
        with self.store.writing():
            self.store.put_fact("ended", None)
            self.store.put_fact("reason", "")

    @contextlib.contextmanager
    def _writing(self, now):
        """A decision, with the seconds that the search has taken so far."""
        with self.store.writing():
            self.store.put_fact("spent", self._spent(now))
            yield

    def _spent(self, now):
        return self._spent_before + now - self._opened

    def _expire(self, now):
        """Take the trials back whose leases ran out."""
        for row in self.store.trials("running"):
            if row["expires"] < now:
                self.store.set_trial(row["trial"], status="waiting", worker=None)

    def _renewed(self, trial, lease, now):
        """The trial's row with its lease renewed, or None where the lease is not the newest or the trial has ended."""
        row = self.store.trial(trial)
        if row is None or row["status"] in FINAL or row["lease"] != lease:
            return None
        if row["status"] == "paused":  # its process is still saving
            return row
        self.store.set_trial(trial, status="running", expires=now + self.lease_seconds)
        return row

    def _lend(self, row, worker, now):
        trial, lease = row["trial"], row["lease"] + 1
        until = now + self.lease_seconds
        self.store.set_trial(trial, status="running", worker=worker, lease=lease, lent=now, expires=until)
        values = json.loads(row["hyperparameters"])
        return {
            "do": "trial",
            "trial": trial,
            "lease": lease,
            "recipe": json.loads(row["recipe"]),
            "hyperparameters": {name: value for name, value in values.items() if name not in OWN},
            "parent": row["parent"],
        }

    def _waiting(self, now):
        """The trials that wait for a worker; where there is none, a paused one goes on or a new one is made."""
        while not self.store.count("waiting") and not self._stopped(now):
            more = self._promote(exhausted=False) or self._make(now)
            if not more and (self.store.count("running") or not self._promote(exhausted=True)):
                break
        return self.store.trials("waiting")

    def _promote(self, *, exhausted):
        """Resume the paused trial that halving picks next; False where there is none."""
        paused = {row["trial"]: row["passed"] for row in self.store.trials("paused")}
        if not paused:
            return False
        steps = rungs(self.settings["epochs"])
        paused = {trial: min(rung for rung in steps if rung > passed) for trial, passed in paused.items()}
        chosen = who_goes_on(self._curves(), paused, self.direction, self.settings["epochs"], exhausted=exhausted)
        if chosen is None:
            return False
        lease = self.store.trial(chosen)["lease"] + 1  # the words of the worker before come too late
        self.store.set_trial(chosen, status="waiting", passed=paused[chosen], lease=lease)
        return True

    def _pause(self, row, now):
        """Let a trial wait on its rung; the oracle learns its score so far, because it may get no further."""
        score, best_epoch = self._score(row["trial"])
        seconds = row["seconds"] + now - row["lent"]
        state = {"score": score, "best_epoch": best_epoch, "seconds": seconds, "ended": now}
        self.store.set_trial(row["trial"], status="paused", worker=None, **state)
        if row["told"] is None and score is not None:
            self.store.set_trial(row["trial"], told=score, told_epoch=best_epoch)
            self.store.add_event("ended", row["trial"])
            self._tell(self.store.trial(row["trial"]))

    def _cut(self, row, stop, reason, now):
        """End a trial that does not run with what it has."""
        self.store.set_trial(row["trial"], stop=stop, reason=reason)
        self._finish(row["trial"], "completed", "", 0.0, now)

    def _make(self, now):
        """Ask the oracle for a trial; False where there is none now. Values that make no recipe are a failed trial."""
        number = self.store.count()
        if self.settings["trials"] is not None and number >= self.settings["trials"]:
            return False
        trial = self._create(number)
        if trial.status != "RUNNING":
            return False
        values = dict(trial.hyperparameters.values)
        try:
            recipe, error = self.recipe(values).to_dict(), None
        except Exception as failure:  # the user's own code
            recipe, error = {}, failure
        parent = None if error else self._parent(values, recipe)
        self.store.add_trial(number, values, recipe, now, parent)
        if error:
            self._finish(number, "failed", f"{type(error).__name__}: {error}", 0.0, now)
        elif parent is not None:  # the curve begins with that of the trial that goes on
            for report in self.store.reports(parent):
                self.store.add_report(number, report["epoch"], report["value"], json.loads(report["metrics"]))
        return True

    def _parent(self, values, recipe):
        """The trial whose training Hyperband lets go on in a new one; None: it begins anew.

        So it does after a trial that was cut short, under a schedule, which spans the longer training anew, and for a
        HyperModel, whose training cannot be resumed.
        """
        number = values.get("tuner/trial_id")
        if number is None or recipe["schedule"] != "constant" or hasattr(self.space, "hypermodel"):
            return None
        return int(number) if self.store.trial(int(number))["status"] == "completed" else None

    def recipe(self, values):
        """The Recipe of a trial's values."""
        recipe = spaces.recipe_of(self.space, {k: v for k, v in values.items() if k not in OWN})
        epochs = values.get("tuner/epochs", self.settings["epochs"])
        fixed = {"epochs": epochs, "steps": 0, "monitor": self.settings["objective"], "seed": self.settings["seed"]}
        return recipe.replace(**(fixed | self.settings["fixed"]))

    def _create(self, number):
        with warnings.catch_warnings(), threadpool_limits(1):  # more threads slow a small Gaussian process down
            warnings.simplefilter("ignore")  # KerasTuner uses what Python 3.11 calls deprecated
            return self.oracle.create_trial(f"trial {number}")

    def _finish(self, trial, status, reason, seconds, now):
        row = self.store.trial(trial)
        score, best_epoch = self._score(trial)
        if score is None and status == "completed":
            status, reason = "failed", "no epoch was finished"
        if status == "completed" and row["stop"]:
            status, reason = row["stop"], row["reason"]
        self.store.set_trial(
            trial,
            status=status,
            reason=reason,
            score=None if status == "failed" else score,
            best_epoch=best_epoch,
            seconds=row["seconds"] + seconds,
            ended=now,
            worker=None,
        )
        if row["told"] is None:
            if status != "failed":
                self.store.set_trial(trial, told=score, told_epoch=best_epoch)
            self.store.add_event("ended", trial)
            self._tell(self.store.trial(trial))

    def _score(self, trial):
        """(the best value of a trial's curve, its epoch from 1), or (None, None) without a number."""
        best = best_so_far(self._curves(trial).get(trial, []), self.direction)
        return (best[-1], best.index(best[-1]) + 1) if best and math.isfinite(best[-1]) else (None, None)

    def _tell(self, row):
        """Tell the oracle how a trial ended, or how good it was when it first paused."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ended = self.oracle.trials[self._name(row["trial"])]
            if row["told"] is None:
                ended.status, ended.message = "FAILED", row["reason"]
            else:
                ended.status = "COMPLETED"
                self.oracle.update_trial(ended.trial_id, {self.settings["objective"]: row["told"]}, row["told_epoch"])
            self.oracle.end_trial(ended)

    def _name(self, trial):
        """The oracle's own name of a trial: numbers with as many zeros as it needs."""
        return self.oracle.start_order[trial]

    def _replay(self):
        for event in self.store.events():
            row = self.store.trial(event["trial"])
            if event["kind"] == "made":
                trial = self._create(row["trial"])
                trial.hyperparameters.values = json.loads(row["hyperparameters"])  # the journal is what happened
            else:
                self._tell(row)

    def _curves(self, trial=None):
        """{trial: [objective after epoch 1, 2 ...]} of one trial or of all, the worst number where it is none."""
        curves = {}
        for report in self.store.reports(trial):
            value = report["value"]
            worst = -math.inf if self.direction == "max" else math.inf
            curves.setdefault(report["trial"], []).append(worst if value is None else value)
        return curves

    def _time_is_up(self, now):
        limit = self.settings["seconds"]
        return limit is not None and self._spent(now) > limit

    def may_go_on(self, now):
        """True if a search that has ended has something left to do: more trials are asked for, or some still wait."""
        return not self.why_not(now) or bool(self.store.count("waiting") and not self._stopped(now))

    def why_not(self, now):
        """Why no further trial is made, or "" where one may be."""
        trials = self.settings["trials"]
        enough = trials is not None and self.store.count() >= trials
        reason = "the only trial was made" if trials == 1 else f"all {trials} trials were made"
        return self._stopped(now) or (reason if enough else "")

    def _stopped(self, now):
        """Why nothing is begun any more although there may be something left, or ""."""
        if self._time_is_up(now):
            return f"the time of {self.settings['seconds']:g} s was up"
        ended = [self.store.trial(e["trial"]) for e in self.store.events() if e["kind"] == "ended"]
        last = ended[-self.settings["max_failures"] :]
        if len(last) == self.settings["max_failures"] and all(row["status"] == "failed" for row in last):
            return f"{counted(len(last), 'trial')} in a row failed, the last one because: {last[-1]['reason']}"
        return ""

    def _end(self, now):
        if not self.over:
            for row in self.store.trials("paused"):
                rung = len(self._curves(row["trial"])[row["trial"]])
                self._cut(row, "pruned", f"halving after epoch {rung}", row["ended"])
            self.store.put_fact("ended", now)
            self.store.put_fact("reason", self.why_not(now) or "the space was searched to its end")
