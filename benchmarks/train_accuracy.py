"""Test accuracy of named recipes over seeds, one process a run, and the table in docs/results.md.

    python benchmarks/train_accuracy.py FOLDER --recipes cs7011 tdt4265-lenet --seeds 0 1 2
    python benchmarks/train_accuracy.py --table

FOLDER is what `kerascnn train` takes: a folder of class folders, or the name of a data set; without it each recipe's
own. Every finished run is written to the results at once; runs that are in them with the recipe as it is now, of any
machine, are skipped, and a run that was stopped goes on where it stood. Weights are chosen on validation images and the
test images read once, by `kerascnn train` itself.
"""

import itertools
import json
import resource
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
from cyclopts import App, Parameter

from kerascnn.recipes import RECIPES, Recipe
from kerascnn.runs import Run, plain, replacing, write_json

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "train_accuracy.json"
PAGE = HERE.parent / "docs" / "results.md"
RUNS = HERE.parent / "saved_models" / "accuracy"
BEGIN, END = "<!-- table of benchmarks/train_accuracy.py -->", "<!-- end of the table -->"
# Test accuracy in percent that the source prints, on CIFAR-10; the COMP576 report prints curves and no figures.
PUBLISHED = {
    "cs7011": 88.0,  # "about 88%"
    "cifar-net-best": 88.0,  # the same network
    "cifar-net-88": 88.0,
    "cifar-94": 94.0,
    "cifar-95": 95.0,
    "cifar-96": 96.0,
    "tdt4265-lenet": 71.49,  # Table 1
    "tdt4265-model1": 77.92,  # final test accuracy
    "tdt4265-model2": 75.28,
}
JPEG = "cifar10-jpeg"
Words = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")]
Numbers = Annotated[tuple[int, ...], Parameter(consume_multiple=True, negative="")]
Flag = Annotated[bool, Parameter(negative="")]
app = App(help="Measure the test accuracy of named recipes over seeds.", help_format="plaintext")


@dataclass(frozen=True)
class Asked:
    """One run: a recipe's name, its data (None: the recipe's own), a seed, and epochs (None: the recipe's own)."""

    recipe: str
    data: str | None
    seed: int
    epochs: int | None

    def arguments(self, data):
        """What follows `kerascnn train`."""
        length = () if self.epochs is None else ("--epochs", str(self.epochs))
        return [*(() if data is None else (data,)), "--recipe", self.recipe, *length, "--seed", str(self.seed)]

    @property
    def data_name(self):
        return RECIPES.get(self.recipe)().data if self.data is None else Path(self.data).name

    @property
    def settings(self):
        """The recipe's fields as they are now, but for the data."""
        length = {} if self.epochs is None else {"epochs": self.epochs}
        return settings_of(RECIPES.get(self.recipe)().replace(seed=self.seed, **length))

    @property
    def command(self):
        """The command as the results hold it: of a path only the last part."""
        return shlex.join(["kerascnn", "train", *self.arguments(self.data and self.data_name)])

    def folder(self, runs, again):
        """Where the run is, or is to be made: a new folder if `again`, or if the recipe was another one then."""
        length = "" if self.epochs is None else f"-{self.epochs}epochs"
        stem = f"{self.recipe}-{plain(self.data_name)}{length}-seed{self.seed}"
        for number in itertools.count(1):
            folder = runs / (stem if number == 1 else f"{stem}-{number}")
            if not folder.exists() or (not again and recorded_settings(folder) == self.settings):
                return folder


def settings_of(recipe):
    """A recipe's fields, but for the data, as JSON holds them."""
    return {name: value for name, value in recipe.to_dict().items() if name != "data"}


def had(row):
    """The `settings_of` a row's recipe; fields that came later have their usual values."""
    return settings_of(Recipe.from_dict(row["settings"]))


def recorded_settings(folder):
    """The `settings_of` the run in a folder; None where there is none."""
    if (folder / "recipe.json").exists():
        return settings_of(Recipe.from_dict(Run(folder).read("recipe")))
    return None


@app.default
def main(
    data: str | None = None,
    /,
    *,
    recipes: Words = (),
    seeds: Numbers = (0, 1, 2),
    epochs: int | None = None,
    again: Flag = False,
    table: Flag = False,
    results: Path = RESULTS,
    runs: Path = RUNS,
    page: Path = PAGE,
):
    """Train, and write what came out.

    Parameters
    ----------
    data
        folder or name of a data set [default: the recipe's own]
    recipes
        names (kerascnn recipes)
    seeds
        seeds of every random choice
    epochs
        epochs in place of the recipe's, for a trial
    again
        run those, too, that are in the results
    table
        rewrite the table on the page
    results
        JSON file of all runs
    runs
        folder where the run folders are kept
    page
        page with the table
    """
    asked = [Asked(recipe, data, seed, epochs) for recipe in recipes for seed in seeds]
    for one in asked:
        RECIPES.get(one.recipe)  # typos, before hours of training
    for one in asked:
        if not again and any(row["command"] == one.command and one.settings == had(row) for row in read(results)):
            print(f"{one.command}: is in {results}", flush=True)
            continue
        row = measured(one, runs, again)
        this = one.command, row["machine"]
        others = [other for other in read(results) if (other["command"], other["machine"]) != this]
        write_json(results, [*others, row])
        print(f"{one.command}: {100 * row['test_accuracy']:.2f}% in {row['minutes']:.1f} min", flush=True)
    if table:
        write_table(read(results), page)
        print(f"Wrote {page}")


def read(results):
    """The rows of the results."""
    return json.loads(results.read_text()) if results.exists() else []


def measured(asked, runs, again):
    """Make one run in a process of its own; returns its row of the results."""
    folder = asked.folder(runs, again)
    resumed = (folder / "recipe.json").exists()
    cpu_minutes = None
    if not resumed or Run(folder).status != "finished":
        how = ["--resume", str(folder)] if resumed else [*asked.arguments(asked.data), "--out", str(folder)]
        before = children_seconds()
        subprocess.run([sys.executable, "-m", "kerascnn", "train", *how], check=True)
        if not resumed:  # else the first part's are not known
            cpu_minutes = round((children_seconds() - before) / 60, 2)
    return row_of(asked, Run(folder), cpu_minutes)


def children_seconds():
    """CPU seconds of all processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def row_of(asked, run, cpu_minutes):
    """What the results hold of a finished run."""
    state, result = run.read("run"), run.read("run")["result"]
    metrics = pd.read_csv(run / "metrics.csv")
    validation = metrics["val_accuracy"].get(result["best_epoch"] - 1) if "val_accuracy" in metrics else None
    devices = [name for name in state["device"] if name != "cpu"]
    return {
        "recipe": asked.recipe,
        "data": asked.data_name,
        "seed": asked.seed,
        "parameters": state["parameters"],
        "test_accuracy": result["accuracy"],
        "test_interval": result["accuracy_interval"],
        "test_images": result["images"],
        "validation_accuracy": None if validation is None else float(validation),
        "best_epoch": result["best_epoch"],
        "epochs": result["epochs"],
        "minutes": round(state["seconds"] / 60, 2),
        "cpu_minutes": cpu_minutes,
        "machine": ", ".join(devices) or state["processor"],
        "precision": state["precision"],
        "versions": state["versions"],
        "command": asked.command,
        "settings": asked.settings,
    }


def summary(rows):
    """DataFrame, a row a recipe, data set, length and kind of machine, however many cores: the mean test accuracy over
    seeds, and its sample standard deviation, in percent; mean minutes. JPEG copies only where there is nothing else."""
    table = pd.DataFrame(rows)
    measured = set(table.loc[table["data"] == "cifar10", "recipe"])
    table = table[~(table["recipe"].isin(measured) & (table["data"] == JPEG))].copy()
    table["percent"] = 100 * table["test_accuracy"]
    table["command"] = table["command"].str.replace(r" --seed \d+$", "", regex=True)
    table[["kind", "comma", "cores"]] = table["machine"].str.partition(", ")
    groups = table.groupby(["recipe", "data", "command", "kind"])
    means = groups.agg(
        **{
            "ours mean": ("percent", "mean"),
            "n": ("seed", "size"),
            "spread": ("percent", "std"),
            "minutes": ("minutes", "mean"),
            "cores": ("cores", lambda cores: " or ".join(sorted(set(cores)))),
        }
    ).reset_index()
    means["machine"] = (means["kind"] + ", " + means["cores"]).str.removesuffix(", ")
    comparable = means["data"].str.startswith("cifar10") & ~means["command"].str.contains("--epochs")
    means["published"] = means["recipe"].map(PUBLISHED).where(comparable)
    return means[["recipe", "data", "published", "ours mean", "n", "spread", "minutes", "machine", "command"]]


def markdown(rows):
    """The summary as a table of Markdown."""
    table = summary(rows)
    for name, form in (("published", "{:.2f}"), ("ours mean", "{:.2f}"), ("spread", "{:.2f}"), ("minutes", "{:.1f}")):
        table[name] = [form.format(value) if pd.notna(value) else "" for value in table[name]]
    table["recipe"] = [f"`{option}`" for option in table.pop("command").str.partition(" --recipe ")[2]]
    return table.to_markdown(index=False, disable_numparse=True)


def write_table(rows, page):
    """Put the table between its two marks on the page."""
    text = page.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or not rows:
        raise SystemExit(f"There are no results yet, or {page} lacks the lines {BEGIN!r} and {END!r}.")
    head, _, rest = text.partition(BEGIN)
    with replacing(page) as temporary:
        temporary.write_text(f"{head}{BEGIN}\n\n{markdown(rows)}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    app()
