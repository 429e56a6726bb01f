"""The documentation as a site: builds without a warning, is complete, and needs no other host."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import homespun
from benchmarks.command_start import PROGRAMS, commands
from homespun.errors import Code

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = re.compile(
    r"""<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)=["'](?:https?:)?//[^>]*>""")


def build(target: Path) -> None:
    """As `make site` does. The build fails on a warning: a broken link, a page without a place."""
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "--quiet", "-c", "docs",
         "-d", str(target / "doctrees"), ".", str(target)],
        cwd=ROOT, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(900)  # half a minute of work, much longer where others work too
def test_the_site_builds_and_is_complete(tmp_path: Path) -> None:
    build(tmp_path)
    for code in Code:
        page = tmp_path / "docs" / "errors" / f"{code.lower()}.html"
        assert f"<title>{code} - Homespun" in page.read_text(encoding="utf-8")
    reference = (tmp_path / "docs" / "reference" / "client.html").read_text(encoding="utf-8")
    missing = [name for name in homespun.__all__
               if name != "__version__" and f'id="homespun.{name}"' not in reference]
    assert not missing, "without a docstring, or not importable"
    assert 'id="homespun.Client.train"' in reference
    commands_page = (tmp_path / "docs" / "reference" / "commands.html").read_text(encoding="utf-8")
    for program in PROGRAMS:
        for words in commands(program):
            assert f'id="{"-".join([program, *words])}"' in commands_page
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 90
    loaded = {tag for page in pages for tag in OUTSIDE.findall(page.read_text(encoding="utf-8"))}
    assert not loaded
    assert "url=docs/index.html" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_what_another_host_would_send_is_seen() -> None:
    assert OUTSIDE.findall('<script src="https://cdn.example.org/x.js"></script>')
    assert OUTSIDE.findall("<link rel='stylesheet' href='//example.org/x.css'>")
    assert not OUTSIDE.findall('<a href="https://example.org">there</a> <img src="_images/a.svg">')
