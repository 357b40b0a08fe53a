"""Studies: every table and figure of a published report, recreated and set beside the published values.

A study is a file here: a function with `@register("name", source=...)` that returns a `Study` (frame/study.py): rows to
train or to compute, the values that the source prints, its claims and its figures. `STUDIES` lists them without
importing Keras; `kerascnn.studies.run_study` runs one.
"""

from pathlib import Path

from kerascnn.registry import Registry, room

STUDIES = Registry("study", __name__, Path(__file__).parent, hint="kerascnn studies")
register = STUDIES.register

__getattr__, __dir__ = room(__name__, {"run_study": "frame.running"})
