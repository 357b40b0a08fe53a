"""The page docs/recipes.md, made from the registry: python docs/recipes_page.py > docs/recipes.md

It says which settings of a recipe the source prints and which we had to choose. A test keeps the page current.
"""

import inspect

from kerascnn.models import MODELS
from kerascnn.recipes import RECIPES

HEAD = """# The recipes of the sources

<!-- Made by `python docs/recipes_page.py > docs/recipes.md`; change `chosen=` of the recipes, not this page. -->

A source rarely prints everything that is needed to train its network. The table lists the settings that we had to
choose for each recipe; the source prints the others. `kerascnn recipes` lists all recipes; add a name to see the
settings of one:

```
kerascnn recipes tdt4265-lenet
```
"""


def page():
    """docs/recipes.md as text."""
    lines = [HEAD, "| recipe | source | settings that the source does not print, and our choice |", "|---|---|---|"]
    for name in RECIPES.names():
        facts = RECIPES.facts(name)
        if facts.get("chosen"):
            values = RECIPES.get(name)().to_dict()
            ours = ", ".join(_setting(field, values) for field in facts["chosen"])
            lines.append(f"| `{name}` | {facts['source']} | {ours} |")
    return "\n".join(lines) + "\n"


def _setting(field, values):
    """A setting with its value: of the recipe, or of an argument of the network's builder."""
    if field in values:
        value = values[field]
    elif field in values["model_options"]:
        value = values["model_options"][field]
    else:
        value = inspect.signature(MODELS.get(values["model"])).parameters[field].default
    if isinstance(value, dict):
        value = ", ".join(f"{name}={item}" for name, item in value.items())
    if isinstance(value, list):
        value = ", ".join(value)
    if isinstance(value, float):
        value = f"{value:g}"
    return f"`{field}` {value}"


if __name__ == "__main__":
    print(page(), end="")
