"""docs/networks.md is what the registry says today."""

import sys
from pathlib import Path

from kerascnn.models import MODELS

DOCS = Path(__file__).parents[1] / "docs"
sys.path.insert(0, str(DOCS))
from networks_page import page  # noqa: E402

PAGE = DOCS / "networks.md"


def test_the_committed_page_is_current():
    assert PAGE.read_text() == page(), "run: python docs/networks_page.py > docs/networks.md"


def test_every_difference_is_explained():
    """Where a source prints an exact count that ours is not, there is a sentence on why."""
    differing = 0
    for name in MODELS.names():
        facts = MODELS.facts(name)
        if isinstance(facts.get("published"), int) and facts["published"] != facts["parameters"]:
            differing += 1
            assert facts["difference"].endswith(".")
            assert facts["difference"] in PAGE.read_text()
    assert differing
