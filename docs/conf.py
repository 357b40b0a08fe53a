"""The documentation site, for Sphinx: `python -m sphinx docs site` (see docs/course.md).

The notebooks are kept without outputs and run while the site is built; `-D nb_execution_mode=off` leaves that out, and
the environment variable NOT_RUN names those that are not run, such as "course/07* course/08*". The pages load nothing
from elsewhere, and searching them needs no server.
"""

import importlib
import inspect
import os
import re
import sys
import textwrap
from pathlib import Path

from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the API reference is of this checkout
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))  # and the notebooks
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import kerascnn  # noqa: E402 (its path is known only now)

project = "kerascnn"
author = copyright = "the kerascnn authors"
release = version = kerascnn.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc"]
root_doc = "index"
smartquotes = False  # "name" is to be copied as it stands
exclude_patterns = ["figures", "**/.ipynb_checkpoints"]
myst_heading_anchors = 3  # pages link to each other's headings as they do on GitHub

nb_execution_mode = "auto"  # notebooks without outputs are run
nb_execution_excludepatterns = os.environ.get("NOT_RUN", "").split()
nb_execution_in_temp = True
nb_execution_timeout = 600  # seconds a cell
nb_execution_raise_on_error = True
nb_output_stderr = "remove"  # native libraries' log lines
nb_merge_streams = True
nb_ipywidgets_js = {}  # they would come from a content delivery network, and no notebook has widgets

autodoc_inherit_docstrings = False  # else Keras' own, of every method that a callback replaces
autodoc_typehints = "none"
python_maximum_signature_line_length = 100

html_theme = "furo"
html_title = "kerascnn"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_search_summary = False  # browsers do not let pages on the disk read each other


class PublicNames(SphinxDirective):
    """`.. public-names:: kerascnn.explain` documents every public function and class of a module."""

    required_arguments = 1

    def run(self):
        module = importlib.import_module(self.arguments[0])
        lines = []
        for name in public_names(module):
            kind = "class" if inspect.isclass(getattr(module, name)) else "function"
            lines += [f".. auto{kind}:: {module.__name__}.{name}"]
            lines += ["   :members:"] if kind == "class" else []
            lines += ["   :no-index:"] if module.__name__ != "kerascnn" and name in kerascnn.__all__ else []
            lines += [""]
        return self.parse_text_to_nodes(StringList(lines, source=module.__name__))


def public_names(module):
    """Names of the functions and classes that a module offers: those in its `__all__`, else those of its own."""
    own = module.__name__, f"{module.__name__}."
    offered = getattr(module, "__all__", dir(module))
    return [
        name
        for name in sorted(offered, key=str.lower)
        if not name.startswith("_") and name != "register" and callable(thing := getattr(module, name))
        if hasattr(module, "__all__") or thing.__module__ == own[0] or thing.__module__.startswith(own[1])
    ]


SECTIONS = {"Args:": "Parameters", "Attributes:": "Attributes", "Returns:": "Returns", "Raises:": "Raises"}
EXAMPLE = "Example:"  # lines of Python; tests/test_docstrings.py runs them
ENTRY = re.compile(r"(\*{0,2}\w+(?:, \*{0,2}\w+)*): (.*)")  # "mean, std: numbers"


def as_rst(app, what, name, thing, options, lines):
    """Docstrings are plain text with `code` and sections: make them reStructuredText that says the same."""
    found, section, body = [], None, []
    for line in [*lines, "end"]:
        if line[:1].strip() and section:  # the first line that is not of the section
            head = ".. code-block:: python" if section == EXAMPLE else f":{SECTIONS[section]}:"
            gap = [""] if section == EXAMPLE else []
            found += ["", head, *gap, *(f"    {each}" for each in _section(section, body)), ""]
            section, body = None, []
        if line in SECTIONS or line == EXAMPLE:
            section = line
        elif section:
            body.append(line)
        else:
            found.append(_escaped(line))
    lines[:] = found[:-1]


def _section(section, body):
    """The lines of a section: a list of its entries, or for what is returned the text itself."""
    body = textwrap.dedent("\n".join(body)).strip("\n").splitlines()
    if section == EXAMPLE:
        return body
    if section == "Returns:":
        return [_escaped(line) for line in body]
    listed = []
    for line in body:
        entry = ENTRY.fullmatch(line)
        listed.append(f"* ``{entry[1]}``: {_escaped(entry[2])}" if entry else f"  {_escaped(line.strip())}")
    return listed


def _escaped(line):
    parts = re.split(r"(`[^`]+`)", line)
    parts[::2] = [re.sub(r"([*|\\]|(?<=\w)_(?!\w))", r"\\\1", part) for part in parts[::2]]
    parts[1::2] = [f"`{part}`" for part in parts[1::2]]
    for place in range(2, len(parts), 2):
        parts[place] = re.sub(r"^(?=\w)", r"\\ ", parts[place])  # as in `Callback`s
    return "".join(parts)


def linked_outside(app, page, text):
    """Markdown files outside docs/ are no pages: links to them become downloads."""
    folder = Path(app.env.doc2path(page)).parent

    def link(found):
        target = (folder / found[2]).resolve()
        return found[0] if target.is_relative_to(ROOT / "docs") else f"{{download}}`{found[1]} <{found[2]}>`"

    text[0] = re.sub(r"\[([^\]]+)\]\((\.\./[^)#]+\.md)(?:#[^)]*)?\)", link, text[0])


def setup(app):
    app.connect("source-read", linked_outside)
    app.add_directive("public-names", PublicNames)
    app.connect("autodoc-process-docstring", as_rst)
