"""Hyperparameter searches: KerasTuner suggests, every trial is an ordinary run, and no trial is ever lost.

A search space is a function hp -> Recipe, so that a trial and a training run the same code. The files of
`tuning/searches/` hold ours; a user's own Python or TOML file serves as well (`tuning.spaces`). `kerascnn tune` and
`python -m tuning` run searches, `results(FOLDER)` reads one back.
"""

from pathlib import Path

from kerascnn.registry import Registry, room

SEARCHES = Registry("search", f"{__name__}.searches", Path(__file__).parent / "searches", hint="kerascnn searches")
register = SEARCHES.register

_HOMES = {"results": "trials", "curves": "tables", "search": "searching"}

__getattr__, __dir__ = room(__name__, _HOMES)
