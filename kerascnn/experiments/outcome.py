"""The result of every experiment: a table, a figure, and sentences on what they show, saved together."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas
from scipy.stats import t as student

from kerascnn import notebook, plots
from kerascnn.errors import counted
from kerascnn.runs import write_table, write_text


@dataclass(frozen=True, eq=False)
class Outcome:
    """The result of an experiment.

    Attributes:
        name: name of the experiment.
        table: DataFrame, one row per measurement.
        findings: sentences, each with its number and, over n images, its 95% interval.
        draw: function without arguments that returns the matplotlib Figure.
        arrays: {name: array}, the values that the table was made from.
        tables: {name: DataFrame}, more numbers, such as those of one panel of the figure.
    """

    name: str
    table: pandas.DataFrame
    findings: tuple
    draw: object
    arrays: dict
    tables: dict = field(default_factory=dict)

    def _repr_html_(self):
        return notebook.card(self.name, [("", sentence) for sentence in self.findings], [notebook.drawn(self.figure())])

    def figure(self):
        """The matplotlib Figure."""
        return self.draw()

    def save(self, folder):
        """Write <name>.png with its numbers in <name>.csv, further tables in <name>-<table>.csv, and the findings in
        <name>.txt, into a folder."""
        path = Path(folder) / f"{self.name}.png"
        plots.save(self.figure(), self.table, path)
        for name, table in self.tables.items():
            write_table(path.with_name(f"{self.name}-{name}.csv"), table, float_format="%.6g")
        write_text(path.with_suffix(".txt"), "\n".join(self.findings) + "\n")
        return path


def mean_interval(values, axis=-1):
    """(mean, low, high): the 95% interval of a mean by Student's t; low and high are nan for a single value."""
    values = np.asarray(values, "float64")
    count, mean = values.shape[axis], values.mean(axis)
    if count < 2:
        return mean, mean * np.nan, mean * np.nan
    reach = student.ppf(0.975, count - 1) * values.std(axis, ddof=1) / np.sqrt(count)
    return mean, mean - reach, mean + reach


def told_interval(low, high, count, what="image", form="{:+.2f}"):
    """The interval of a mean in brackets, for a sentence; of a single value, that it is one."""
    if count < 2:
        return f"(one {what})"
    return f"(95% interval {form.format(low)} to {form.format(high)}, {counted(count, what)})"
