"""The documentation site: it builds without a warning, holds every page, loads nothing from elsewhere, and is searched
from the disk."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "course").glob("*.ipynb"))
(RUN,) = (path for path in NOTEBOOKS if path.name.startswith("02"))  # while the site is built
ELSEWHERE = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\ssrc=["'](?:https?:)?//"""
    r"""|<link\b[^>]*?\shref=["'](?:https?:)?//|@import\s|url\(\s*["']?(?:https?:)?//""",
    re.IGNORECASE,
)


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text()
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    trees = re.findall(r"^```{toctree}\n(.*?)^```$", index, re.MULTILINE | re.DOTALL)
    assert pages - {line for tree in trees for line in tree.splitlines()} == set()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site with the outputs of the notebook that trains nothing; every warning is an error."""
    for module in ("sphinx", "myst_nb", "furo"):
        pytest.importorskip(module, reason="needs the extra docs")
    folder = tmp_path_factory.mktemp("site") / "site"
    others = " ".join(f"course/{path.name}" for path in NOTEBOOKS if path != RUN)
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going",
         "-d", folder.parent / "doctrees", ROOT / "docs", folder],
        cwd=folder.parent, env={**os.environ, "NOT_RUN": others}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.slow
def test_the_site_has_every_page_and_public_name(site):
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").glob("*.md")]
    pages += [path.relative_to(ROOT / "docs") for path in NOTEBOOKS]
    assert [str(page) for page in pages if not (site / page.with_suffix(".html")).exists()] == []
    reference = "".join(path.read_text() for path in (site / "api").glob("*.html"))
    from kerascnn.experiments import EXPERIMENTS
    from kerascnn.explain import EXPLANATIONS
    from kerascnn.models import MODELS

    names = {f"kerascnn.explain.{n}" for n in EXPLANATIONS.names()} | {f"kerascnn.models.{n}" for n in MODELS.names()}
    names |= {f"kerascnn.experiments.{n}" for n in EXPERIMENTS.names()} | {"kerascnn.train", "tuning.search"}
    names |= {"kerascnn.studies.run_study", "kerascnn.Recipe", "kerascnn.Run", "kerascnn.recipes.read_config"}
    assert {name for name in names if f'id="{name}"' not in reference} == set()


@pytest.mark.slow
def test_a_notebook_is_shown_with_what_it_gave(site):
    run, other = ((site / "course" / f"{path.stem}.html").read_text() for path in (RUN, NOTEBOOKS[0]))
    assert "cell_output" in run
    assert re.search(r'<img [^>]*src="\.\./_images/', run)
    assert "cell_output" not in other


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site):
    files = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    assert len(files) > 40
    assert {
        str(path.relative_to(site)): match[0] for path in files if (match := ELSEWHERE.search(path.read_text()))
    } == {}


@pytest.mark.slow
def test_the_site_in_a_browser(site, browser):
    """Nothing is asked from elsewhere, nothing fails, no page is wider than a phone, and the search finds from disk."""
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme="dark")
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    for name in ("index", "explain", "course", f"course/{NOTEBOOKS[4].stem}", "api/explain", "results"):
        page.goto((site / f"{name}.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, name
    brightness = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)")
    assert max(brightness) < 60
    page.goto((site / "search.html").as_uri() + "?q=occlusion_scores")
    page.wait_for_selector("#search-results li a")
    assert "occlusion_scores" in page.locator("#search-results").inner_text()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert said == []
    context.close()
