"""The page of a study: study.html, README.md, table.csv, results.json and figures/, from the study's folder alone."""

import base64
import json
import math

import pandas
from matplotlib.ticker import MaxNLocator

from kerascnn import plots, runs
from kerascnn.errors import DataError, command, counted
from kerascnn.files import read_json
from kerascnn.pages import charts
from kerascnn.pages.report import TEMPLATES
from kerascnn.runs import replacing
from kerascnn.studies.frame.study import OURS, Computed, Lines, NotRun, Training, abridged, as_printed, shown
from kerascnn.studies.frame.verdicts import INCOMPARABLE, NOT_REPRODUCED, REPRODUCED, WORDS

COLOURS = (plots.BLUE, plots.ORANGE, plots.GREEN, plots.PURPLE, plots.SKY, plots.RED, "#222222", "#999999")
NUMERIC = ("", *"0123456789+-.")  # how a cell begins that stands on the right; words stand on the left
SEVERAL = 3  # rows
ALONE = "Ours alone: the source prints no number"
QUESTIONS = "Further questions"
MARKS = {"reproduced": "right", "not reproduced": "wrong"}  # classes of the page's style


def write(results):
    """Write the page of a study, its table and its results; returns the path of study.html.

    Args:
        results: Results.
    """
    page = _contents(results)
    table = pandas.DataFrame([row["numbers"] for row in page["all_values"]])
    runs.write_table(results.folder / "table.csv", table)
    runs.write_json(results.folder / "results.json", _told(page))
    runs.write_text(results.folder / "README.md", _markdown(page))
    path = results.folder / "study.html"
    runs.write_text(path, TEMPLATES.get_template("study.html").render(**page))
    return path


def again(results, rows=(), workers=1):
    """What to type to run a study again, or these rows of it, or to resume it."""
    words = ["study", results.study.name, *(["--quick"] if results.quick else [])]
    words += ["--length", results.length] if results.length < 1 else []
    words += ["--seeds", results.seeds] if results.seeds != (1 if results.quick else results.study.seeds) else []
    words += ["--data", results.data] if results.data else []
    words += ["--other-data", results.other] if results.other else []
    usual = usual_folder(results.study.name, results.quick, results.length)
    words += ["--out", results.folder] if results.folder != usual else []
    words += ["--rows", *rows] if rows else []
    words += ["--workers", workers] if workers > 1 else []
    return command(*words)


def usual_folder(name, quick, length):
    """Where a study's results go unless another folder is asked for."""
    part = f"-{length:.4g}" if length < 1 else ""
    return runs.ROOT / f"study-{name}{'-quick' if quick else part}"


def verdicts(results):
    """{verdict: how many values and claims have it}."""
    words = [results.compare(value).verdict for value in results.study.values if value.published is not None]
    words += [results.judge(claim).verdict for claim in results.study.claims]
    return {word: words.count(word) for word in WORDS}


def _contents(results):
    """What both forms of the page show."""
    study = results.study
    counts = verdicts(results)
    shared = _shared(study)
    in_columns = {id(value) for of_rows in shared.values() for value in of_rows.values()}
    values = [(value, _value(results, value)) for value in study.values]
    return {
        "title": _title(results),
        "study": study,
        "quick": results.quick,
        "summary": ", ".join(f"{number} {word}" for word, number in counts.items() if number),
        "rows": [_row(results, row) for row in study.rows],
        "values": [cells for value, cells in values if value.published is not None],
        "single": [cells for value, cells in values if value.published is None and id(value) not in in_columns],
        "all_values": [cells for _, cells in values],
        "shared": _shared_table(results, shared),
        "claims": [(claim, results.judge(claim)) for claim in study.claims],
        "questions": [(question, *_answered(results.judge(question))) for question in study.questions],
        "figures": [_figure(results, figure) for figure in study.figures],
        "listings": [_listing(results, listing) for listing in study.listings],
        "notes": _notes(study),
        "again": again(results),
        "machine": _machine(results),
        "marks": MARKS,
        "alone": ALONE,
        "own": QUESTIONS,
    }


def _title(results):
    """The study's title, with what keeps its values from being compared."""
    if results.quick:
        return f"{results.study.title} (a quick run: no verdicts of accuracy)"
    part = f" (about {results.length:.4g} of each training: no verdicts on it)" if results.length < 1 else ""
    return results.study.title + part


def _answered(judged):
    """(yes, no or why neither; what came out) of a question."""
    answer = {REPRODUCED: "yes", NOT_REPRODUCED: "no", INCOMPARABLE: "open"}.get(judged.verdict, judged.verdict)
    return answer, judged.finding


def _shared(study):
    """{what, with its split: {row: Value}} of numbers that the source does not print and `SEVERAL` rows or more have:
    they are a table of their own, with a column each."""
    columns = {}
    for value in study.values:
        if value.published is None:
            columns.setdefault(", ".join(filter(None, [value.what, value.split])), {})[value.row] = value
    return {what: of_rows for what, of_rows in columns.items() if len(of_rows) >= SEVERAL}


def _shared_table(results, shared):
    """{"columns", "rows", "where"} of `_shared`; the cells of a row are (ours, interval)."""
    names = dict.fromkeys(row for of_rows in shared.values() for row in of_rows)
    rows = []
    for name in names:
        cells = [_value(results, of_rows[name]) if name in of_rows else None for of_rows in shared.values()]
        count = max((int(cell["n"] or 0) for cell in cells if cell), default=0)
        told = [(cell["ours"], cell["interval"]) if cell else ("", "") for cell in cells]
        rows.append({"name": name, "cells": told, "n": str(count or "")})
    places = dict.fromkeys(value.where for of_rows in shared.values() for value in of_rows.values())
    return {"columns": list(shared), "rows": rows, "where": "; ".join(place for place in places if place != OURS)}


def _row(results, row):
    """What the page says of a row: name, note, state, minutes."""
    if isinstance(row, Computed):
        done = results.finished(row.name)
        seconds = read_json(results.folder_of(row.name) / "result.json")["seconds"] if done else None
        state = "computed" if done else results.reason(row.name)
        kind = "computed"
    else:
        try:
            trained = results.trained(row.name)
            seconds = sum(run.state.get("seconds", 0) for run in trained)
            state = f"{counted(len(trained), 'seed')} trained"
        except NotRun as error:
            seconds, state = None, str(error)
        missing = {key: why for key, why in results.failures.items() if key.startswith(f"{row.name}/")}
        state += "".join(f"; {key.partition('/')[2]} failed: {why}" for key, why in missing.items() if why != state)
        kind = _settings(abridged(row.recipe, results.length))
    minutes = None if seconds is None else seconds / 60
    return {"name": row.name, "note": row.note, "kind": kind, "state": state, "minutes": minutes}


def _settings(recipe):
    """The main settings of a recipe in one line."""
    steps = recipe.steps or recipe.epochs * recipe.eval_every
    length = f"{steps:,} steps" if steps else counted(recipe.epochs, "epoch")
    parts = [recipe.model, f"{recipe.optimizer} {recipe.learning_rate:g}", f"batches of {recipe.batch_size}", length]
    return ", ".join(parts)


def _value(results, value):
    """A value's cells as text, and its numbers for table.csv."""
    judged = results.compare(value)
    unit = value.unit
    interval = "" if judged.low is None else f"{shown(judged.low, unit)} to {shown(judged.high, unit)}"
    signed = "" if judged.difference is None else _signed(judged.difference, unit)
    cells = {
        "row": value.row,
        "what": value.what,
        "split": value.split,
        "protocol": value.protocol,
        "where": value.where,
        "published": as_printed(value),
        "ours": shown(judged.ours, unit),
        "interval": interval,
        "difference": signed,
        "n": str(judged.n or ""),
        "verdict": judged.verdict,
        "why": judged.why,
    }
    ours = judged.ours if judged.ours is not None and math.isfinite(judged.ours) else None
    more = {"unit": unit, "published": value.published, "ours": ours, "low": judged.low, "high": judged.high}
    return {**cells, "numbers": {**cells, **more, "difference": judged.difference, "n": judged.n}}


def _signed(difference, unit):
    if unit == "accuracy":
        return f"{100 * difference:+.2f} points"
    text = shown(abs(difference), unit)
    return text if not difference else ("+" if difference > 0 else "-") + text


def _figure(results, figure):
    """{"title", "where", "html", "file", "why"} of a figure; its PNG and CSV go to figures/."""
    told = {"title": figure.title, "where": figure.where, "html": "", "file": "", "why": "", "wide": False}
    path = results.folder / "figures" / f"{figure.name}.png"
    try:
        if isinstance(figure, Lines):
            series = figure.series(results)
            plots.save(*_drawn(figure, series), path)
            plain = {name: each[:2] for name, each in series.items()}
            unit = "steps" if results.quick else figure.x_label
            html = charts.lines(plain, unit, figure.y_label, counts=True, label=figure.title)
        else:
            source = results.file(figure.row, figure.file or f"{figure.name}.png")
            for ending in (".png", ".csv"):
                if source.with_suffix(ending).exists():
                    with replacing(path.with_suffix(ending)) as temporary:
                        temporary.write_bytes(source.with_suffix(ending).read_bytes())
            html = "data:image/png;base64," + base64.b64encode(source.read_bytes()).decode()
    except NotRun as error:
        return told | {"why": f"not drawn: {error}"}
    kind = {"lines": isinstance(figure, Lines), "wide": getattr(figure, "wide", False)}
    return told | kind | {"html": html, "file": f"figures/{figure.name}.png"}


def _drawn(figure, series):
    """(matplotlib Figure, DataFrame of its numbers) of a figure of curves."""
    drawn, axes = plots.panel(6.4, 4, figure.title, xlabel=figure.x_label, ylabel=figure.y_label)
    rows = []
    for number, (name, (x, y, *band)) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        style = "-" if number < len(COLOURS) else "--"
        axes.plot(x, y, style, color=colour, label=name, marker="." if len(x) <= 12 else "")
        if band:
            axes.fill_between(x, *band, color=colour, alpha=0.15, linewidth=0)
        low, high = band or (y, y)
        rows += zip([name] * len(x), x, y, low, high, strict=True)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(series) > 1:
        axes.legend(frameon=False, fontsize="small")
    if any(low != high for *_, low, high in rows):
        words = "mean of the seeds; the band goes from the least to the largest"
        axes.set_title(f"{figure.title}\n{words}", fontsize="medium")
    return drawn, pandas.DataFrame(rows, columns=["line", figure.x_label, figure.y_label, "low", "high"])


def _listing(results, listing):
    """{"title", "where", "columns", "rows", "why"} of a table that a row has written."""
    told = {"title": listing.title, "where": listing.where, "columns": [], "rows": [], "words": [], "why": ""}
    try:
        table = pandas.read_csv(results.file(listing.row, listing.file), dtype=str, keep_default_na=False)
    except NotRun as error:
        return told | {"why": f"not computed: {error}"}
    words = [not all(cell[:1] in NUMERIC for cell in table[column]) for column in table]
    return told | {"columns": list(table.columns), "rows": table.to_numpy().tolist(), "words": words}


def _machine(results):
    """Where the rows ran, and with what: sentences."""
    told = []
    for row in results.study.rows:
        for state in _states(results, row):
            parts = [state.get("processor"), *[name for name in state.get("device", ()) if name != "cpu"]]
            versions = ", ".join(f"{name} {number}" for name, number in state.get("versions", {}).items())
            told.append(", ".join(filter(None, [*parts, state.get("precision"), versions])))
    return list(dict.fromkeys(filter(None, told)))


def _states(results, row):
    """What is known of where a row's results were made, a dict each."""
    try:
        if isinstance(row, Training):
            return [each.state for each in results.trained(row.name)]
        return [read_json(results.file(row.name, "result.json"))]
    except (NotRun, DataError):
        return []


def _markdown(page):
    """README.md."""
    study = page["study"]
    lines = [f"# {page['title']}", "", f"{study.source}. {study.about}", ""]
    lines += [f"Verdicts: {page['summary']}.", ""]
    header = ("row", "what", "published", "ours", "95% interval", "difference", "n", "verdict")
    cells = [
        [
            value["row"],
            _described(value),
            *(value[name] for name in ("published", "ours", "interval", "difference", "n")),
            value["verdict"] + (f" ({value['why']})" if value["why"] not in ("", value["verdict"]) else ""),
        ]
        for value in page["values"]
    ]
    lines += _section("Published and ours", _grid(header, cells)) if cells else []
    lines += _alone_lines(page["shared"], page["single"])
    if page["claims"]:
        cells = [[c.text, c.where, j.verdict, j.finding] for c, j in page["claims"]]
        lines += _section("Claims", _grid(("the source says", "where", "verdict", "ours"), cells))
    if page["questions"]:
        cells = [[question.text, answer, finding] for question, answer, finding in page["questions"]]
        lines += _section(QUESTIONS, _grid(("question", "answer", "ours"), cells))
    lines += ["## Figures", ""] if page["figures"] else []
    for figure in page["figures"]:
        title = figure["title"] + (f" ({figure['where']})" if figure["where"] else "")
        body = f"![{title}]({figure['file']})" if figure["file"] else f"{title}: {figure['why']}."
        lines += [f"### {title}" if figure["file"] else "", "", body, ""]
    for listing in page["listings"]:
        body = _grid(listing["columns"], listing["rows"]) if listing["rows"] else [listing["why"]]
        lines += _section(listing["title"] + (f" ({listing['where']})" if listing["where"] else ""), body)
    for title, items in _notes(study):
        lines += _section(title, [f"- {item}" for item in items])
    cells = [
        [row["name"], row["kind"], row["note"], row["state"], "" if row["minutes"] is None else f"{row['minutes']:.1f}"]
        for row in page["rows"]
    ]
    lines += _section("Rows", _grid(("row", "what", "note", "state", "minutes"), cells))
    lines += _section("Again", ["```", page["again"], "```", "", *page["machine"]])
    text = "\n".join(lines)
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text.rstrip() + "\n"


def _alone_lines(shared, single):
    """The section of README.md on numbers that the source does not print: a table with a column for each number that
    several rows have, and one with a line for each of the others."""
    lines = []
    if shared["rows"]:
        cells = [
            [row["name"], *(ours + (f" ({interval})" if interval else "") for ours, interval in row["cells"]), row["n"]]
            for row in shared["rows"]
        ]
        lines += [*_grid(("row", *shared["columns"], "n"), cells), "", f"In the source: {shared['where']}.", ""]
    if single:
        cells = [
            [cells["row"], _described(cells), cells["ours"] or cells["verdict"], cells["interval"], cells["n"]]
            for cells in single
        ]
        lines += _grid(("row", "what", "ours", "95% interval", "n"), cells)
    return _section(ALONE, lines) if lines else []


def _described(cells):
    """What a value is, of which images, how, and where in the source."""
    return ", ".join(filter(None, [cells[name] for name in ("what", "split", "protocol", "where")]))


def _notes(study):
    """The lists of a study that have items, with their titles."""
    titles = {
        "Slips of the source": study.slips,
        "What the source does not print, so that we chose it": study.chosen,
        "Known differences": study.differences,
        "What was tried where a value is not reproduced": study.tried,
    }
    return [(title, items) for title, items in titles.items() if items]


def _section(title, body):
    return ["", f"## {title}", "", *body, ""]


def _grid(header, rows):
    """A Markdown table."""

    def line(cells):
        return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return [line(header), "|" + "---|" * len(header), *map(line, rows)]


def as_json(results):
    """What `kerascnn study --json` prints: values and claims with their verdicts."""
    return _told(_contents(results))


def _told(page):
    """Of a page the values, claims and questions, as JSON holds them."""
    claims = [{"claim": c.text, "verdict": j.verdict, "finding": j.finding} for c, j in page["claims"]]
    questions = [{"question": q.text, "answer": answer, "finding": finding} for q, answer, finding in page["questions"]]
    numbers = [row["numbers"] for row in page["all_values"]]
    told = {"title": page["title"], "values": numbers, "claims": claims, "questions": questions}
    return json.loads(json.dumps(told))
