"""The folder of a site: what it shows, what may be written into it, and files that are rewritten only if they
change."""

import csv
import io
import json
import os
from pathlib import Path

from kerascnn import __version__, runs
from kerascnn.errors import DataError, UsageError, counted
from kerascnn.files import read_json, read_text

FORMAT = 1  # of the folder; another number is another arrangement
MANIFEST, LABELS, STATE = "microscope.json", "labels.csv", "state"
DATA = "data.json"  # in STATE
LABEL_COLUMNS = ["layer", "unit", "label", "note"]


class Site:
    """A folder with a site in it, or the place for a new one.

    Args:
        folder: where.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.state = self.folder / STATE
        self.written = 0  # files that changed

    def open(self, identity):
        """Take the folder for a network; returns the manifest of the site there, {} for a new one.

        Args:
            identity: {"model": name, "weights": checksum}.
        Raises:
            UsageError: the folder holds something else, or the site of another network.
        """
        runs.check_writable(self.folder)
        path = self.folder / MANIFEST
        if not path.exists():
            others = sorted(each.name for each in self.folder.iterdir() if each.name not in (STATE, LABELS))
            if others:
                raise UsageError(
                    f"{self.folder} is not a microscope: it holds {counted(len(others), 'other file')}, such as "
                    f"{others[0]!r}. Choose a new or empty folder, such as out='microscope'."
                )
            return {}
        about = read_json(path)
        if not isinstance(about, dict) or "format" not in about:
            raise DataError(f"{path} is damaged. Delete {self.folder} and build the site again.")
        if about["format"] != FORMAT:
            raise UsageError(
                f"{self.folder} was built by kerascnn {about.get('kerascnn')} in format {about['format']}; this is "
                f"kerascnn {__version__}, which writes format {FORMAT}. Choose another out folder."
            )
        differing = [
            f"{name} is {_short(about.get(name))} there and {_short(value)} here"
            for name, value in identity.items()
            if about.get(name) != value
        ]
        if differing:
            raise UsageError(
                f"{self.folder} is the microscope of another network: {'; '.join(differing)}. "
                "Choose another out folder."
            )
        return about

    def put(self, name, content):
        """Write one file of the site as a whole, if its bytes have changed; returns True if they have."""
        path = self.folder / name
        content = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
        try:
            if path.stat().st_size == len(content) and path.read_bytes() == content:
                return False
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
        self.state.mkdir(parents=True, exist_ok=True)
        temporary = self.state / "writing"
        try:
            temporary.write_bytes(content)
            os.replace(temporary, path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror, str(path)) from error
        self.written += 1
        return True

    def put_json(self, name, value):
        """Write a value as JSON, with `put`."""
        return self.put(name, json.dumps(value, indent=1, ensure_ascii=False) + "\n")

    def read_state(self, name, default):
        """A value that `put_json` wrote under state/; `default` if there is none, or it is damaged."""
        try:
            return read_json(self.state / name)
        except (FileNotFoundError, DataError):
            return default

    def labels(self, layers):
        """({(address, unit): (label, note)}, sentences about rows that belong to no unit) of labels.csv.

        The file is made if there is none, and never changed afterwards.

        Raises:
            DataError: the file is not such a table.
        """
        path = self.folder / LABELS
        if not path.exists():
            self.put(LABELS, ",".join(LABEL_COLUMNS) + "\n")
            return {}, []
        rows = list(csv.DictReader(io.StringIO(read_text(path, "utf-8-sig"))))
        header = list(rows[0]) if rows else LABEL_COLUMNS
        if rows and not set(LABEL_COLUMNS[:3]) <= set(header):
            raise DataError(
                f"{path} has the columns {', '.join(map(str, header))}; {', '.join(LABEL_COLUMNS)} are needed."
            )
        known = {name: each for each in layers for name in (each.address, each.layer, each.name)}
        label_of, doubts = {}, []
        for line, row in enumerate(rows, 2):
            each, unit = known.get(row["layer"]), str(row["unit"]).strip()
            if each is None or not unit.isdecimal() or int(unit) >= each.scanned.channels:
                doubts.append(f"{path}, line {line}: there is no unit {row['unit']!r} of layer {row['layer']!r}.")
            elif row["label"] or row.get("note"):
                label_of[each.address, int(unit)] = (row["label"] or "", row.get("note") or "")
        return label_of, doubts

    def remove_others(self, folder, kept):
        """Remove files of a folder of the site that are not among the names kept."""
        for path in (self.folder / folder).glob("*"):
            if path.is_file() and path.name not in kept:
                path.unlink()


def _short(value):
    text = str(value)
    return f"{text[:12]}..." if len(text) > 40 else repr(text)
