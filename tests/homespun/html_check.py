"""What HTML of ours may consist of: a few elements and attributes, no link, no script, no event."""

from __future__ import annotations

from html.parser import HTMLParser

ELEMENTS = {
    "div", "strong", "progress", "table", "thead", "tbody", "tr", "th", "td", "svg", "title",
    "desc", "rect", "line", "text"}
ATTRIBUTES = {
    "style", "value", "max", "scope", "xmlns", "width", "height", "viewbox", "role",
    "aria-labelledby", "font-family", "font-size", "id", "fill", "fill-opacity", "stroke", "x",
    "y", "x1", "y1", "x2", "y2", "text-anchor"}
PAYLOADS = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)", "</title></svg><script>1</script>", "javascript:alert(1)",
    "&lt;script&gt;", "<!--", "]]>", "\x1b[31mred", "\u202egnp", "</td></table><iframe src=//x>",
)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attributes):
        assert tag in ELEMENTS, tag
        for name, value in attributes:
            assert name in ATTRIBUTES, (tag, name)
            assert "url(" not in (value or "")
        self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def handle_comment(self, data):
        raise AssertionError(f"comment {data!r}")

    def handle_decl(self, decl):
        raise AssertionError(f"declaration {decl!r}")

    def unknown_decl(self, data):
        raise AssertionError(f"declaration {data!r}")


def words_of(html: str) -> str:
    """The text of a piece of HTML, which must be well formed and harmless."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return " ".join(reader.words)
