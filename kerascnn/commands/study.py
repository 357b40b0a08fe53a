"""`kerascnn study NAME` and `kerascnn studies`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kerascnn.commands.terminal import (
    Flag,
    Json,
    computing,
    let_interrupts_through,
    print_facts,
    print_json,
    print_table,
)
from kerascnn.errors import TrainingFailed, UsageError, counted
from kerascnn.studies import STUDIES


def list_studies(*, json: Json = False):
    """List the studies: published reports whose tables and figures can be recreated."""
    header = ("study", "what it is", "source")
    print_facts(json, STUDIES, header, lambda name, f: (name, f["doc"], f["source"]))


def study(
    name: str,
    /,
    *,
    quick: Flag = False,
    length: float = 1.0,
    seeds: int | None = None,
    data: str | None = None,
    other_data: str | None = None,
    run: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")] = (),
    out: Path | None = None,
    rows: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")] = (),
    workers: int = 1,
    json: Json = False,
):
    """Make the tables and figures of a published report again, and set them beside the published values.

    What has finished in the folder is not repeated, and a training that was stopped resumes exactly. The page is
    study.html, and README.md for repositories; table.csv has the numbers.

    Parameters
    ----------
    name
        a study (kerascnn studies)
    quick
        run every row for a few steps on embedded data, to see that everything works; says nothing about accuracy
    length
        train each row for this share of its epochs or steps, such as 0.1 when there is no time for all of it: the page
        shows what came out, and compares nothing that depends on training
    seeds
        how many times to train each row, each with its own seed [default: what the study asks for]
    data
        a data set's name, a folder or a file in place of the study's own
    other_data
        likewise for the second data set of a study that has one, such as scenes
    run
        finished runs to use for rows, as ROW=RUN: they are copied into the study and not trained again
    out
        folder for runs and page, new or of the same study [default: saved_models/study-<name>, with -quick or
        the length behind it where they are asked for]
    rows
        names of rows, to run only these
    workers
        how many trainings to run at once, each in its own process
    """
    STUDIES.facts(name)  # raises for an unknown one before Keras is imported
    with computing(json) as (say, _):
        from kerascnn.studies.frame import page
        from kerascnn.studies.frame.running import run_study

        let_interrupts_through()
        how = {"quick": quick, "length": length, "seeds": seeds, "workers": workers}
        what = {"data": data, "other_data": other_data, "out": out, "rows": rows, "run": _runs_of(run)}
        results = run_study(name, **how, **what, say=say)
        if json:
            print_json(page.as_json(results))
        else:
            told = page.verdicts(results)
            print_table(("verdict", "values and claims"), [(word, str(count)) for word, count in told.items()], "lr")
            say(f"Page  {results.folder / 'study.html'}")
            say(f"Again {page.again(results)}")
        failures = {key: why for key, why in results.failures.items() if not rows or key.partition("/")[0] in rows}
        if failures:
            reason = next(iter(failures.values()))
            raise TrainingFailed(
                f"{counted(len(failures), 'row')} failed; the page shows which and why. The first: {reason}"
            )


def _runs_of(texts):
    """{row: run} of texts like "network=saved_models/mine"."""
    pairs = [text.partition("=") for text in texts]
    for text, (row, _, folder) in zip(texts, pairs, strict=True):
        if not row or not folder:
            raise UsageError(f"run={text} is not allowed: give ROW=RUN, such as network=saved_models/my-run.")
    rows = [row for row, _, _ in pairs]
    for row in rows:
        if rows.count(row) > 1:
            raise UsageError(f"run={row}=... is given {rows.count(row)} times. Give one run for each row.")
    return {row: folder for row, _, folder in pairs}
