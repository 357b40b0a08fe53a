"""The journal of a search: one SQLite file, written by the chief alone, whole after any kill.

Trials are rows; `events` holds in which order trials were made and ended, so that a KerasTuner oracle can be brought to
where it was by letting it live through the same events again: its own state files lose the grid's and the Gaussian
process's memory, and are written in place.
"""

import contextlib
import json
import sqlite3
import threading
from pathlib import Path

NAME = "search.sqlite"
FINAL = ("completed", "pruned", "stopped", "failed")

SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS trials (
    trial INTEGER PRIMARY KEY,
    hyperparameters TEXT NOT NULL,      -- JSON, as KerasTuner suggested them
    recipe TEXT NOT NULL,               -- JSON
    parent INTEGER,                     -- the trial whose training goes on in this one
    status TEXT NOT NULL,               -- waiting, running, paused (on a rung of halving), or one of FINAL
    reason TEXT NOT NULL DEFAULT '',
    score REAL, best_epoch INTEGER,
    worker TEXT, lease INTEGER NOT NULL DEFAULT 0, lent REAL, expires REAL,
    passed INTEGER NOT NULL DEFAULT 0,  -- the last rung from which halving let it go on
    told REAL, told_epoch INTEGER,      -- the score that the oracle knows, when it first paused or at the end
    deaths INTEGER NOT NULL DEFAULT 0,  -- how often its process died while the worker lived
    stop TEXT NOT NULL DEFAULT '',      -- pruned or stopped: it was told to end early
    seconds REAL NOT NULL DEFAULT 0, started REAL, ended REAL
);
CREATE TABLE IF NOT EXISTS reports (
    trial INTEGER NOT NULL, epoch INTEGER NOT NULL, value REAL, metrics TEXT NOT NULL, PRIMARY KEY (trial, epoch)
);
CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, trial INTEGER);
"""


class Store:
    """The journal in a search's folder.

    Args:
        folder: the search's folder.
        readonly: True opens an existing journal and refuses to write.
    """

    def __init__(self, folder, *, readonly=False):
        path = Path(folder) / NAME
        mode = "rw" if readonly else "rwc"  # a reader, too, must roll back what a killed writer left half done
        self._connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode={mode}", uri=True, timeout=30, check_same_thread=False
        )
        self._lock = threading.Lock()
        self._connection.isolation_level = None  # transactions are begun by `writing` alone
        self._connection.row_factory = sqlite3.Row
        if readonly:
            self._connection.execute("PRAGMA query_only = ON")
        else:
            self._connection.execute("PRAGMA synchronous = FULL")
            with self.writing():
                for statement in filter(str.strip, SCHEMA.split(";\n")):
                    self._connection.execute(statement)

    def close(self):
        self._connection.close()

    @contextlib.contextmanager
    def writing(self):
        """Everything written within this block is written together, or not at all; one thread at a time."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def rows(self, query, *values):
        """The rows of a query, as dicts."""
        return [dict(row) for row in self._connection.execute(query, values)]

    def fact(self, name, default=None):
        """What `put_fact` kept under a name."""
        rows = self.rows("SELECT value FROM facts WHERE name = ?", name)
        return json.loads(rows[0]["value"]) if rows else default

    def put_fact(self, name, value):
        self._connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))

    def trial(self, trial):
        """A trial's row, or None."""
        rows = self.rows("SELECT * FROM trials WHERE trial = ?", trial)
        return rows[0] if rows else None

    def trials(self, *statuses):
        """The rows of all trials, or of those with one of these statuses, by number."""
        return self.rows(f"SELECT * FROM trials {_where(statuses)} ORDER BY trial", *statuses)

    def count(self, *statuses):
        """How many trials there are, or how many with one of these statuses."""
        return self.rows(f"SELECT COUNT(*) AS number FROM trials {_where(statuses)}", *statuses)[0]["number"]

    def add_trial(self, trial, hyperparameters, recipe, now, parent=None):
        self._connection.execute(
            "INSERT INTO trials (trial, hyperparameters, recipe, parent, status, started) "
            "VALUES (?, ?, ?, ?, 'waiting', ?)",
            (trial, json.dumps(hyperparameters), json.dumps(recipe), parent, now),
        )
        self.add_event("made", trial)

    def add_event(self, kind, trial):
        self._connection.execute("INSERT INTO events (kind, trial) VALUES (?, ?)", (kind, trial))

    def set_trial(self, trial, **columns):
        """Change columns of a trial's row."""
        names = ", ".join(f"{name} = ?" for name in columns)
        self._connection.execute(f"UPDATE trials SET {names} WHERE trial = ?", (*columns.values(), trial))

    def add_report(self, trial, epoch, value, metrics):
        """What a trial measured after an epoch (from 1); a second report of the same epoch replaces the first."""
        self._connection.execute(
            "INSERT OR REPLACE INTO reports VALUES (?, ?, ?, ?)", (trial, epoch, value, json.dumps(metrics))
        )

    def reports(self, trial=None):
        """Rows trial, epoch, value, metrics of one trial or of all, in order."""
        where, values = ("WHERE trial = ?", (trial,)) if trial is not None else ("", ())
        return self.rows(f"SELECT * FROM reports {where} ORDER BY trial, epoch", *values)

    def events(self):
        return self.rows("SELECT * FROM events ORDER BY number")


def _where(statuses):
    return f"WHERE status IN ({', '.join('?' * len(statuses))})" if statuses else ""
