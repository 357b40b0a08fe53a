"""What a report costs: seconds beyond one evaluation, and bytes.

    python benchmarks/report.py RUN                  # of a finished run
    python benchmarks/report.py MODEL.keras DATA     # of a model file on images

Prints a table and writes benchmarks/results/report.json; rows of other subjects stay.
"""

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from kerascnn import backends, runs, using
from kerascnn.pages import extras, making, report
from kerascnn.using.evaluation import evaluated

RESULTS = Path(__file__).parent / "results" / "report.json"


def timed(function):
    began = time.monotonic()
    result = function()
    return result, time.monotonic() - began


def measured(named, data=None):
    """One row: seconds of the evaluation, of what the page adds, of the page itself; bytes of the page."""
    classifier = using.subject(named)
    (_, evaluation, _), evaluating = timed(lambda: evaluated(classifier, data))
    with tempfile.TemporaryDirectory() as folder:
        if data is None:
            copy = runs.Run(Path(folder) / "run")
            shutil.copytree(classifier.run.folder, copy.folder)
            (copy / extras.EXTRAS).unlink(missing_ok=True)
            _, adding = timed(lambda: making._gather(copy, extras.LOOK))
            page, drawing = timed(lambda: report.write(copy))
            size = page.stat().st_size
        else:
            home = Path(folder) / "model"
            page, whole = timed(lambda: making.of_model(_in(classifier, home), data))
            _, drawing = timed(lambda: report.write(runs.Run(home / "report")))
            adding, size = whole - evaluating - drawing, page.stat().st_size
    return {
        "subject": classifier.name,
        "images": len(evaluation.labels),
        "evaluate_seconds": round(evaluating, 1),
        "extra_seconds": round(adding, 1),
        "page_seconds": round(drawing, 1),
        "megabytes": round(size / 1e6, 2),
        "processor": backends.processor(),
    }


def _in(classifier, folder):
    import dataclasses

    return dataclasses.replace(classifier, folder=folder)


def main():
    row = measured(*sys.argv[1:3])
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    rows = [known for known in rows if (known["subject"], known["images"]) != (row["subject"], row["images"])]
    RESULTS.write_text(json.dumps([*rows, row], indent=2) + "\n")
    for name, value in row.items():
        print(f"{name:17} {value}")


if __name__ == "__main__":
    main()
