"""A small search for the tests of the chief: its space, its planted curves, and how a worker would run its trials."""

import json
import math

from kerascnn.recipes import Recipe

SETTINGS = {
    "tuner": "random",
    "objective": "val_accuracy",
    "trials": 6,
    "epochs": 9,
    "seed": 0,
    "stop_early": "none",
    "max_failures": 3,
    "seconds": None,
    "fixed": {},
}


def space(hp):
    return Recipe(
        learning_rate=hp.Float("learning_rate", 1e-4, 1e-1, sampling="log"),
        batch_size=hp.Choice("batch_size", [32, 64]),
    )


def accuracy(recipe, epoch):
    """A planted curve: the nearer the learning rate to 0.01, the better."""
    return 1 - abs(math.log10(recipe["learning_rate"]) + 2) / 10 + epoch / 1000


def run(chief, job, now=0.0):
    """Run a lent trial to its end or its next pause; returns the chief's last answer."""
    for epoch in range(len(chief.store.reports(job["trial"])) + 1, job["recipe"]["epochs"] + 1):
        answer = chief.report(
            job["trial"], job["lease"], epoch, {"val_accuracy": accuracy(job["recipe"], epoch), "loss": 0.5}, now
        )
        if answer != "go":
            break
    if answer == "pause":
        chief.release(job["trial"], job["lease"], now)
    else:
        chief.finish(job["trial"], job["lease"], "completed", "", 1.0, now)
    return answer


def search(chief):
    """Run trials until the chief has no more; returns the values of each."""
    while (job := chief.ask("worker", 0.0))["do"] == "trial":
        run(chief, job)
    assert job == {"do": "done"}
    return suggested(chief)


def suggested(chief):
    return [json.loads(row["hyperparameters"]) for row in chief.store.trials()]


def statuses(chief):
    return [row["status"] for row in chief.store.trials()]
