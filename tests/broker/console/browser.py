"""A browser without a window: HTTP over a real socket, with cookies and the forms of pages."""

from __future__ import annotations

import asyncio
import html
import json
import re
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def token(self) -> str:
        """The token of the page's forms."""
        return re.search(r'name="csrf" value="([^"]*)"', self.text)[1]

    @property
    def said(self) -> str:
        """The page's text, without tags."""
        words = re.sub(r"<[^>]*>", " ", self.text)
        return " ".join(html.unescape(words).split())


async def fetch(origin, method, path, headers, body=b""):
    """One request over a connection of its own."""
    where = urlsplit(origin)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    head = {"Host": where.netloc, "Connection": "close", "Accept": "text/html",
            "Content-Length": str(len(body))} | headers
    lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in head.items() if v is not None)]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    raw = await reader.read()
    writer.close()
    head, _, content = raw.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    found = dict(line.lower().split(": ", 1) if not line.lower().startswith("set-cookie")
                 else ("set-cookie", line.split(": ", 1)[1]) for line in rest)
    if found.get("transfer-encoding") == "chunked":
        content = unchunked(content)
    return Answer(int(first.split()[1]), found, content.decode())


def unchunked(content):
    found = b""
    while content:
        size, _, content = content.partition(b"\r\n")
        found += content[:int(size, 16)]
        content = content[int(size, 16) + 2:]
    return found


@dataclass
class Browser:
    """Keeps the console's cookie."""

    origin: str
    cookie: str = ""
    sent: list[str] = field(default_factory=list)

    async def get(self, path, **headers):
        return await self._send("GET", path, headers)

    async def post(self, path, form=None, *, token=None, **headers):
        """Send a form as the console's own page would; `token` "" leaves it out."""
        if token is None:
            token = (await self.get("/sign-in")).token
        fields = dict(form or {}) | ({"csrf": token} if token else {})
        defaults = {"Origin": self.origin, "Content-Type": "application/x-www-form-urlencoded"}
        return await self._send("POST", path, defaults | headers, urlencode(fields).encode())

    async def sign_in(self, url):
        """Open a link and send its code."""
        code = urlsplit(url).fragment
        return await self.post("/sign-in", {"code": code})

    async def updates(self, path):
        """What the console sends to a page that updates itself, until it ends the stream."""
        where = urlsplit(self.origin)
        reader, writer = await asyncio.open_connection(where.hostname, where.port, limit=2**24)
        writer.write((f"GET {path} HTTP/1.1\r\nHost: {where.netloc}\r\nCookie: {self.cookie}\r\n"
                      "Accept: text/event-stream\r\nConnection: close\r\n\r\n").encode())
        try:
            while line := await reader.readline():
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])
        finally:
            writer.close()

    async def _send(self, method, path, headers, body=b""):
        mine = {"Cookie": self.cookie} if self.cookie else {}
        answer = await fetch(self.origin, method, path, mine | headers, body)
        if "set-cookie" in answer.headers:
            self.cookie = answer.headers["set-cookie"].partition(";")[0]
        return answer
