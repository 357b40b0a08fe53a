"""Lists of networks, data sets and recipes, and `kerascnn data check`."""

import dataclasses
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kerascnn.commands.terminal import Json, in_options, print_facts, print_json, print_table, said
from kerascnn.commands.train import asked_recipe, make_fields
from kerascnn.datasets import DATASETS
from kerascnn.errors import DataError, UsageError
from kerascnn.models import MODELS
from kerascnn.native_log import native_log
from kerascnn.recipes import FIELDS, RECIPES, Recipe


def list_models(*, json: Json = False):
    """List the networks with their source, input and parameters."""

    def row(name, f):
        shape = "x".join(map(str, f["input_shape"]))
        return name, shape, str(f["num_classes"]), f"{f['parameters']:,}", f["source"]

    print_facts(json, MODELS, ("model", "input", "classes", "parameters", "source"), row, "llrr")


def list_datasets(*, json: Json = False):
    """List the named data sets; a path to a folder or file also works."""
    print_facts(json, DATASETS, ("data", "what it is"), lambda name, f: (name, f["description"]))


def list_recipes(name: str | None = None, /, *, json: Json = False):
    """List the named recipes, or the settings of one recipe and which of them its source prints.

    Parameters
    ----------
    name
        one recipe
    """
    names = RECIPES.names() if name is None else [name]
    if json:
        print_json({name: {**RECIPES.facts(name), **RECIPES.get(name)().to_dict()} for name in names})
    elif name is None:
        print_table(("recipe", "what it is"), [(n, RECIPES.facts(n)["doc"]) for n in names])
    else:
        facts, values = RECIPES.facts(name), RECIPES.get(name)().to_dict()
        chosen, usual = facts.get("chosen", ()), Recipe().to_dict()
        print(facts["doc"])
        ours = {field: str(values.get(field, "the network's own")) for field in chosen}
        always = ("model", "data", "optimizer", "learning_rate", "batch_size", "epochs")
        told = {field: str(value) for field, value in values.items() if field in always or value != usual[field]}
        source = facts.get("source")
        rows = [
            (field, value, "not printed there: ours" if field in chosen else source or "ours")
            for field, value in {**told, **ours}.items()
        ]
        print_table(("setting", "value", "from"), rows)


Reading = make_fields(
    "Reading",
    leave_out=FIELDS.keys() - {"model", "classes", "image_size", "resize_to", "channels", "validation", "test", "seed"},
)


def check(
    data: str,
    /,
    *,
    recipe: str | None = None,
    config: Path | None = None,
    pairs: Path | None = None,
    json: Json = False,
    fields: Annotated[Reading, Parameter(name="*")] = Reading(),  # noqa: B008 (frozen by never being written)
):
    """Print counts per class, sizes, colours, broken and duplicate files, and what training would do.

    The options are the same as for train: the output says what `kerascnn train` would do with the same options.

    Parameters
    ----------
    data
        name of a data set, a folder or a file
    recipe, config
        as for train
    pairs
        PNG file that shows the near duplicates side by side
    """
    asked = asked_recipe(data, recipe, config, fields)
    if pairs is not None and (pairs.is_dir() or pairs.suffix != ".png"):
        raise UsageError(f"--pairs {pairs} is not the name of a .png file.")
    from kerascnn.datasets.check import check_data
    from kerascnn.datasets.check_lines import lines
    from kerascnn.training.reading import check_counts, image_size, reading

    with native_log():  # libtiff prints what it thinks of broken files
        report = check_data(data, **reading(asked))
    drawn = _draw_pairs(report, pairs) if pairs is not None else ""
    counts = {split: sum(by_class.values()) for split, by_class in report.counts.items()}
    try:
        check_counts(asked, report.source, counts)
    except (DataError, UsageError) as error:
        problem = in_options(str(error), {name: "--" + name.replace("_", "-") for name in FIELDS})
        report = dataclasses.replace(report, problems=(*report.problems, problem))
    if json:
        print_json(report.to_dict())
    else:
        print("\n".join(map(said, lines(report, network=asked.model, sees=image_size(asked)))))
        print(drawn, end="\n" if drawn else "")


def _draw_pairs(report, path):
    """Draw the near duplicates that are files; returns a sentence."""
    from kerascnn import plots
    from kerascnn.datasets.near_duplicates import sheet

    figure, count = sheet(report.near or (), report.source)
    if figure is None:
        return "No near duplicates that are files were found, so no pairs are drawn."
    plots.write(figure, path)
    return f"{count} of {len(report.near):,} pairs are drawn in {path}"
