"""Templates escape everything, quote attributes, and hold no script, style or foreign address."""

from __future__ import annotations

import re

import pytest

from broker.console.app import ASSET_KINDS, ASSETS
from broker.console.render import TEMPLATES, Renderer

PAGES = sorted(TEMPLATES.glob("*.html"))
FORBIDDEN = {
    "marks text as safe": r"\|\s*safe\b|Markup|autoescape",
    "has an inline script": r"<script(?![^>]*\bsrc=\")|javascript:",
    "has an inline style": r"<style|\sstyle\s*=",
    "has an event handler": r"<[^>]*\son\w+\s*=",
    "names a foreign address": r"https?://|=\"//",
}
FORBIDDEN_OUTSIDE_QUOTES = {
    "has an unquoted attribute": r"<[^>]*\s[\w-]+=(?!\")",
    "puts a value into a tag's name or between attributes": r"<\s*\{\{|<\w[^>]*\{\{",
}


def faults(text):
    bare = re.sub(r'"[^"]*"', '""', text)
    return [what for rules, where in ((FORBIDDEN, text), (FORBIDDEN_OUTSIDE_QUOTES, bare))
            for what, pattern in rules.items() if re.search(pattern, where)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_template_is_strict(page):
    text = re.sub(r"\{%.*?%\}|\{#.*?#\}", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert not faults(text)


@pytest.mark.parametrize(("text", "what"), [
    ("<p>{{ name|safe }}</p>", "marks text as safe"),
    ("<script>1</script>", "has an inline script"),
    ('<p style="x">', "has an inline style"),
    ('<p onclick="x">', "has an event handler"),
    ('<img src="https://example.org/x">', "names a foreign address"),
    ("<p class={{ name }}>", "has an unquoted attribute"),
    ("<p {{ name }}>", "puts a value into a tag's name or between attributes"),
])
def test_the_rules_bite(text, what):
    assert what in faults(text)


def test_every_expression_is_escaped_and_cleaned():
    template = Renderer()._environment.from_string('<a title="{{ x }}">{{ x }}</a>')
    assert template.render(x="<b>\"'&\x1b\u202e") == (
        '<a title="&lt;b&gt;&#34;&#39;&amp;??">&lt;b&gt;&#34;&#39;&amp;??</a>')


def test_assets_are_of_known_kinds_and_name_no_other_place():
    found = sorted(ASSETS.iterdir())
    assert found
    for asset in found:
        assert asset.suffix in ASSET_KINDS
        text = asset.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|@import|url\(|\beval\b|innerHTML|document\.write", text)
