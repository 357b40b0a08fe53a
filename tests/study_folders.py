"""Folders of studies with results that are written by hand."""

import json

import pandas

from kerascnn.studies import STUDIES
from kerascnn.studies.frame.results import Results


def computed(folder, row, numbers):
    """Write the result of a computed row."""
    (folder / "rows" / row.replace(" ", "-")).mkdir(parents=True, exist_ok=True)
    path = folder / "rows" / row.replace(" ", "-") / "result.json"
    path.write_text(json.dumps({"numbers": numbers, "seconds": 1}))


def trained(folder, row, metrics, images=100, **state):
    """Write a finished run of a trained row with its metrics by epoch, on so many validation and test images."""
    run = folder / "rows" / row.replace(" ", "-") / "seed-0"
    run.mkdir(parents=True, exist_ok=True)
    state = {"status": "finished", "result": {}, **state}
    (run / "run.json").write_text(json.dumps(state))
    splits = {name: {"images": count} for name, count in {"train": 1000, "validation": images, "test": images}.items()}
    (run / "data.json").write_text(json.dumps({"name": "cifar10", "splits": splits}))
    pandas.DataFrame({"epoch": range(len(next(iter(metrics.values())))), **metrics}).to_csv(run / "metrics.csv")
    return run


def judged(name, folder, words):
    """The Judged of the claim of a study that has these words."""
    study = STUDIES.get(name)()
    (claim,) = [claim for claim in study.claims if words in claim.text]
    return Results(study, folder, 1).judge(claim)
