"""The documentation as a site (`make site`): the repository's Markdown as it lies, and docstrings.

The source folder is the repository's root, so that one link works on the site and in a checkout.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pygments.lexers.special import TextLexer

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from command_help import CommandHelp  # noqa: E402

project = "Homespun"
author = "The Homespun authors"
project_copyright = author
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

root_doc = "docs/index"
include_patterns = ["README.md", "CONTRIBUTING.md", "docs/**", "benchmarks/**"]
exclude_patterns = ["docs/_*"]
myst_heading_anchors = 4

default_role = "code"
"""What stands in single backticks in a docstring is code."""
autodoc_member_order = "bysource"
autodoc_typehints = "signature"

html_theme = "furo"
html_title = "Homespun"
html_extra_path = ["site"]
html_copy_source = False
html_show_sphinx = False


def fences_to_blocks(
    app: Any, what: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """Docstrings put code between fences, as Markdown does; autodoc reads reStructuredText."""
    inside, rewritten = False, []
    for line in lines:
        if line.strip().startswith("```"):
            inside = not inside
            rewritten += ["", ".. code-block:: python", ""] if inside else [""]
        else:
            rewritten.append(f"   {line}" if inside and line else line)
    lines[:] = rewritten


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", fences_to_blocks)
    app.add_directive("command-help", CommandHelp)
    app.add_lexer("mermaid", TextLexer)  # diagrams are shown as their text: a site needs no script
