"""The site with one more page, which has nothing but the component, under the strictest policy that it works with."""

from html import escape
from typing import Any
from urllib.parse import parse_qsl

from agentsite.asgi import application as site

POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self' data:; "
    "require-trusted-types-for 'script'; trusted-types 'none'; base-uri 'none'; form-action 'none'"
)
STYLE = "html, body, main { height: 100%; margin: 0 }"
PAGE = """<!doctype html>
<html lang="en" dir="{dir}">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>A conversation</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/component.css">
<script type="module" src="/static/chat/agent-chat.js"></script>
<main><h1 hidden>A conversation</h1><agent-chat {attributes}></agent-chat></main>
</html>
"""


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The query of the page are the component's attributes, and the page's `dir`."""
    if scope["type"] == "http" and scope["path"] == "/component":
        asked = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))
        direction = asked.pop("dir", "ltr")
        attributes = " ".join(f'{name}="{escape(value)}"' for name, value in asked.items())
        await _answer(send, "text/html", PAGE.format(dir=direction, attributes=attributes))
    elif scope["type"] == "http" and scope["path"] == "/component.css":
        await _answer(send, "text/css", STYLE)
    else:
        await site(scope, receive, send)


async def _answer(send: Any, content_type: str, body: str) -> None:
    headers = [(b"content-type", content_type.encode()), (b"content-security-policy", POLICY.encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})
