"""The page docs/recipes.md, made from the registry: python docs/recipes_page.py > docs/recipes.md

Which settings of a source's recipe the source prints, and which had to be chosen; a test keeps the page current.
"""

import inspect

from kerascnn.models import MODELS
from kerascnn.recipes import RECIPES

HEAD = """# The recipes of the sources

<!-- Made by `python docs/recipes_page.py > docs/recipes.md`; change `chosen=` of the recipes, not this page. -->

A source seldom prints everything that a training needs. Here is what each recipe of a source had to choose; the other
settings are printed there. `kerascnn recipes` lists all recipes, and with a name the settings of one:

```
kerascnn recipes tdt4265-lenet
```
"""


def page():
    """docs/recipes.md as text."""
    lines = [HEAD, "| recipe | source | not printed there: ours |", "|---|---|---|"]
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
