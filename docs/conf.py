"""How the pages of docs/ become a site: `sphinx-build -W docs build/site`, with the extra `docs`."""

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from myst_parser.parsers.sphinx_ import MystParser
from sphinx.application import Sphinx

import uvea

sys.path.insert(0, str(Path(__file__).parent))
from notebook import as_markdown

project = "uvea"
author = "the authors of uvea"
version = release = uvea.__version__
html_theme = "furo"
html_title = "uvea"
html_show_copyright = False

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

# Docstrings say `name` for code, and types are in the signatures.
default_role = "code"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Source"]


class NotebookParser(MystParser):
    """A notebook as the page that its cells and outputs make; nothing is run."""

    supported = ("notebook",)

    def parse(self, inputstring: str, document: nodes.document) -> None:
        """Parse the text of an .ipynb file."""
        super().parse(as_markdown(inputstring), document)


def plain(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Docstrings are plain text: outside of code, * and | mean themselves."""
    for number, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            lines[number] = re.sub(
                r"`[^`]*`|[*|]", lambda found: found[0] if found[0] not in "*|" else "\\" + found[0], line
            )


def setup(app: Sphinx) -> dict[str, Any]:
    """Let .ipynb files be pages."""
    app.add_source_suffix(".ipynb", "notebook")
    app.add_source_parser(NotebookParser)
    app.connect("autodoc-process-docstring", plain)
    return {"parallel_read_safe": True}
