"""What there is: networks, data sets, recipes; and `kerascnn data check`."""

from kerascnn.commands.terminal import Json, print_json, print_table
from kerascnn.datasets import DATASETS
from kerascnn.models import MODELS
from kerascnn.recipes import RECIPES, Recipe


def list_models(*, json: Json = False):
    """List the networks: source, input and parameters."""
    facts = {name: MODELS.facts(name) for name in MODELS.names()}
    if json:
        print_json(facts)
        return
    rows = [
        (n, "x".join(map(str, f["input_shape"])), str(f["num_classes"]), f"{f['parameters']:,}", f["source"])
        for n, f in facts.items()
    ]
    print_table(("model", "input", "classes", "parameters", "source"), rows, "llrr")


def list_datasets(*, json: Json = False):
    """List the data sets that have names; a path to a folder or file works as well."""
    facts = {name: DATASETS.facts(name) for name in DATASETS.names()}
    if json:
        print_json(facts)
    else:
        print_table(("data", "what it is"), [(n, f["description"]) for n, f in facts.items()])


def list_recipes(name: str | None = None, /, *, json: Json = False):
    """List the named recipes; or, of one, its settings, and which of them its source prints.

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
        own = {field: str(values.get(field, "the network's own")) for field in chosen}
        always = ("model", "data", "optimizer", "learning_rate", "batch_size", "epochs")
        told = {field: str(value) for field, value in values.items() if field in always or value != usual[field]}
        source = facts.get("source")
        rows = [
            (field, value, "not printed there: ours" if field in chosen else source or "ours")
            for field, value in {**told, **own}.items()
        ]
        print_table(("setting", "value", "from"), rows)


def check(
    data: str,
    /,
    *,
    json: Json = False,
    image_size: int | None = None,
    channels: int | None = None,
    validation: float = 0.1,
    test: float = 0.15,
    seed: int = 0,
):
    """Print counts per class, sizes, colours, broken and duplicate files, and what training would do.

    Parameters
    ----------
    data
        name of a data set, a folder or a file
    image_size
        side that images would be brought to, pixels
    channels
        1 for grey, 3 for colour
    validation
        fraction or number of training images that would be held out
    test
        likewise for the test split, where the data has none
    seed
        seed of the splits
    """
    from kerascnn.datasets import check as checking

    report = checking.check(data, image_size=image_size, channels=channels, validation=validation, test=test, seed=seed)
    if json:
        print_json(report.to_dict())
    else:
        print("\n".join(checking.lines(report)))
