"""One trial in a process of its own, `python -m tuning.workers.trial`, which a worker starts and leads by two pipes.

The worker writes one line of JSON, the job; after each epoch the trial writes its metrics and waits for "go", "pause"
(it is to save its state and to end, for it may go on later) or "stop". Where the worker's end closes, the worker is
gone and the trial ends at once, so that no two processes ever write into one run folder; a lock on the folder sees to
it where the worker's machine has only lost its network.
"""

import json
import math
import os
import queue
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

from kerascnn import runs
from kerascnn.errors import Stopped, TrainingFailed
from kerascnn.recipes import Recipe

LOCK_SECONDS = 60  # how long a trial waits for a process that still holds its folder


def main():
    """The program: reads a job from standard input, answers on standard output; everything else goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    lines = queue.Queue()
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_listen, args=(lines,), daemon=True).start()
    if job["cores"] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, job["cores"])

    def say(**message):
        answers.write(json.dumps(message) + "\n")

    began = time.monotonic()
    try:
        run(job, lambda epoch, metrics: (say(epoch=epoch, metrics=metrics), lines.get())[1], print)
    except (Stopped, runs.Busy) as error:
        say(released=str(error))
        return
    except TrainingFailed as error:
        say(failed=str(error), seconds=time.monotonic() - began)
        return
    except Exception as error:
        say(failed=f"{type(error).__name__}: {error}", seconds=time.monotonic() - began)
        raise
    say(completed=True, seconds=time.monotonic() - began)


def _listen(lines):
    for line in sys.stdin:
        lines.put(line.strip())
    os._exit(3)


def run(job, told, say):
    """Train as the job asks, from where an earlier process of the same trial left off.

    Args:
        job: dict: recipe, folder (the run folder), parent (a run folder whose training goes on in this one, or None),
            hypermodel (a Python file with the user's HyperModel, or None) and its hyperparameters.
        told: function (epoch from 1, metrics) -> "go", "pause" or "stop".
        say: called with each line of progress.
    Returns:
        the finished Run.
    """
    folder = Path(job["folder"])
    with runs.locked(folder.with_suffix(".lock"), LOCK_SECONDS):
        import keras

        from kerascnn.training.train import train

        class Reporter(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                metrics = {name: float(value) for name, value in logs.items()}
                answer = told(epoch + 1, {k: v if math.isfinite(v) else str(v) for k, v in metrics.items()})
                if answer == "pause":
                    signal.raise_signal(signal.SIGTERM)  # the training saves its state and ends
                elif answer != "go":
                    self.model.stop_training = True

        recipe = Recipe.from_dict(job["recipe"])
        options = {"callbacks": [Reporter()], "test": False, "say": say}
        if (folder / "run.json").exists() and runs.Run(folder).read("run").get("status") == "finished":
            return runs.Run(folder)
        if job["hypermodel"]:
            from tuning import hypermodels, spaces

            shutil.rmtree(folder, ignore_errors=True)
            space = spaces.load(job["hypermodel"])
            return hypermodels.fit(space, job["hyperparameters"], recipe, folder, Reporter())
        if any(folder.glob("checkpoint/state-*.npz")):
            return train(recipe, resume=folder, **options)
        shutil.rmtree(folder, ignore_errors=True)  # what a process left that was killed before its first checkpoint
        if job["parent"]:
            copied = folder.with_suffix(".copy")
            shutil.rmtree(copied, ignore_errors=True)
            shutil.copytree(job["parent"], copied)
            runs.Run(copied).update(status="interrupted", reason="")  # or a kill now would leave a finished run
            copied.rename(folder)
            return train(recipe, resume=folder, **options)
        return train(recipe, out=folder, **options)


if __name__ == "__main__":
    main()
