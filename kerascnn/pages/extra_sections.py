"""The sections of a report that show what `kerascnn.pages.extras` kept in a run folder."""

import base64
import json

import pandas
from markupsafe import Markup

from kerascnn.files import check_regular
from kerascnn.pages import charts, extras
from kerascnn.training import pictures, record

KINDS = {".webp": "image/webp", ".png": "image/png", ".svg": "image/svg+xml"}


def sections(run, tables):
    """What the template shows of a run's extras, by name; empty or None if a run has none.

    Args:
        tables: {name: DataFrame}, of `kerascnn.training.record.read`.
    """
    kept = extras.read(run) or {}
    return {
        "map": _map(run, tables),
        "suspects": _suspects(run, tables.get("suspects")),
        "training": _picture(run, "training.webp"),
        "filters": _picture(run, "filters.png"),
        "network": _picture(run, "network.svg"),
        "layers": None if "layers" not in tables else tables["layers"].fillna("").to_dict("records"),
        "activations": _activations(run),
        "look": kept.get("look"),
        "left_out": kept.get("notes", ()),
    }


def as_json(value):
    """JSON that is safe in a script element."""
    text = json.dumps(value, ensure_ascii=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _map(run, tables):
    places, predictions = tables.get("map"), tables.get("predictions")
    if places is None or predictions is None or not len(places):
        return None
    rows = predictions.loc[places["image"]]
    names = list(dict.fromkeys(tables["per_class"]["class"]))
    numbers = {name: number for number, name in enumerate(names)}
    groups = [numbers[name] for name in rows["label"]]
    wrong = (~rows["correct"]).tolist()
    columns = (rows["label"], rows["predicted"], rows["file"])
    return {
        "chart": charts.scatter(places["x"], places["y"], groups, wrong, len(names)),
        "names": names if len(names) <= record.MOST_CLASSES else [],
        "colours": [charts.colour(number, len(names)) for number in range(len(names))],
        "points": as_json([list(map(str, point)) for point in zip(*columns, strict=True)]),
        "sheet": _picture(run, "map.webp"),
        "across": extras.ACROSS,
        "lines": -(-len(places) // extras.ACROSS),
        "count": len(places),
        "total": len(predictions),
        "wrong": sum(wrong),
    }


def _suspects(run, table):
    """{"count", "cards": [...]} of the images with a suspected label, the least probable first; None: no table."""
    if table is None:
        return None
    suspected = table[table["suspected"]]
    pictured = pictures.read(run, "suspects")
    few = table.head(extras.MOST_CARDS)
    return {
        "count": len(suspected),
        "cards": [
            row._asdict() | {"picture": pictured.get(place, "")}
            for place, row in enumerate(few.itertuples(index=False))
            if row.suspected
        ],
    }


def _activations(run):
    """Mean and share of zeros of the layers whose statistics the run recorded, as (title, chart)."""
    path = run / "watch" / "activations" / "activations.csv"
    if not path.exists():
        return []
    check_regular(path)
    table = pandas.read_csv(path)
    unit = next(name for name in ("epochs", "steps") if name in table)
    charted = []
    for column, y_label in (("mean", "mean activation"), ("zeros", "share of zeros")):
        series = {name: (rows[unit], rows[column]) for name, rows in table.groupby("layer", sort=False)}
        charted.append((y_label.capitalize(), charts.lines(series, unit, y_label)))
    return charted


def _picture(run, name):
    """The data URI of a picture among the extras, or None."""
    path = run / record.FOLDER / name
    if not path.exists():
        return None
    check_regular(path)
    content = base64.b64encode(path.read_bytes()).decode()
    return f"data:{KINDS[path.suffix]};base64,{content}"
