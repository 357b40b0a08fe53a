"""docs/recipes.md is what the registry says today."""

import sys
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
sys.path.insert(0, str(DOCS))
from recipes_page import page  # noqa: E402

PAGE = DOCS / "recipes.md"


def test_the_committed_page_is_current():
    assert PAGE.read_text() == page(), "run: python docs/recipes_page.py > docs/recipes.md"


def test_a_setting_that_the_source_does_not_print_stands_there_with_its_value():
    rows = {line.split("`")[1]: line for line in PAGE.read_text().splitlines() if line.startswith("| `")}
    assert "`optimizer` adam, `learning_rate` 0.001, `batch_size` 64" in rows["tdt4265-lenet"]
    assert "`kernel_size` 3" in rows["tdt4265-model1"]
    assert "`validation` 5000 " in rows["cifar-94"]
