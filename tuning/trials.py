"""The trials of a search as a user gets them: a DataFrame that shows its picture in a notebook."""

import contextlib
import html
from pathlib import Path

import pandas

from kerascnn import notebook
from kerascnn.errors import UsageError
from tuning import tables
from tuning.page import figures
from tuning.ranking import ranked, scored

MOST_ROWS = 10  # trials that a notebook lists


class Trials(pandas.DataFrame):
    """The table of `tuning.results`; what is made from it (rows, columns, copies) is an ordinary DataFrame.

    Attributes:
        folder: the search's folder.
    """

    _metadata = ("folder",)

    def _repr_html_(self):
        search = None
        with contextlib.suppress(UsageError, OSError):  # the folder may be gone
            search = tables.described(self.folder)
        if search is None or set(tables.FIXED_COLUMNS) - set(self.columns):
            return pandas.DataFrame(self)._repr_html_()
        leader, names = tables.best(self, search["direction"]), list(search["hyperparameters"])
        rows = [("folder", self.folder), ("state", search["state"]), ("data", search["data"]), ("trials", len(self))]
        pictures = []
        if leader is not None:
            rows.append(("best", f"trial {leader['trial']}, {search['objective']} {leader['score']:.4f}"))
            rows += [(name, _short(leader[name])) for name in names if not pandas.isna(leader[name])]
            if scored(self)["ended"].notna().any():
                ended = self[self["ended"].notna()]
                pictures.append(notebook.drawn(figures.over_time(ended, search["objective"], search["direction"])))
        listed = ranked(self, search["direction"]).head(MOST_ROWS)[["trial", "status", "score", *names, "seconds"]]
        more = len(self) - len(listed)
        below = f"<p>{more} more trials: {html.escape(str(Path(self.folder) / 'results.csv'))}</p>" if more else ""
        table = pandas.DataFrame(listed).to_html(index=False, border=0, na_rep="", float_format="{:.4g}".format)
        return notebook.card(f"Search {search['name']}", rows, pictures) + table + below


def results(folder):
    """The trials of a search, one row each, also while it runs: a DataFrame as `tuning.tables.results` describes it.

    Raises:
        UsageError: the folder holds no search.
    """
    table = Trials(tables.results(folder))
    table.folder = str(folder)
    return table


def _short(value):
    """A float with four digits that count, anything else as it is."""
    return f"{value:.4g}" if isinstance(value, float) else value
