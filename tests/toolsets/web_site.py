"""A site on loopback with pages of every kind, and PDFs made by hand."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.test_utils import TestServer

ARTICLE = (
    "<html><head><title>On  tide\n mills</title><style>p{color:red}</style></head><body>"
    "<nav><a href='/'>Home</a><a href='/about'>About us</a></nav><script>alert('never shown')</script><article>"
    "<h1>Tide mills</h1>"
    + "".join(
        f"<p>Paragraph {n} tells how the mill of the {n}th bay ground its corn when the sea went out, twice a day.</p>"
        for n in range(1, 41)
    )
    + "<p>More in <a href='more?page=2#top'>the next part</a>, by <a href='mailto:a@b.example'>mail</a> and "
    "<a href='https://other.example/x'>elsewhere</a>.</p><table><tr><th>bay<th>corn<tr><td>first<td>rye</table>"
    "</article><footer>imprint</footer></body></html>"
)


def pdf(*pages: str, title: str = "Tides") -> bytes:
    count = len(pages)
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(count))
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{kids}]/Count {count}>>".encode(),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for n, text in enumerate(pages):
        content = f"BT /F1 12 Tf 20 700 Td ({text}) Tj ET".encode()
        page = f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents {5 + 2 * n} 0 R"
        objects.append(f"{page}/Resources<</Font<</F1 3 0 R>>>>>>".encode())
        objects.append(b"<</Length %d>>\nstream\n%s\nendstream" % (len(content), content))
    objects.append(f"<</Title({title})>>".encode())
    return _file(objects)


def _file(objects: list[bytes]) -> bytes:
    """The last object is the information of the file."""
    body, offsets = b"%PDF-1.4\n", []
    for number, held in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, held)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer\n<</Size %d/Root 1 0 R/Info %d 0 R>>" % (len(objects) + 1, len(objects))
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    return body + head + table + trailer + b"\nstartxref\n%d\n%%%%EOF" % len(body)


class Site:
    """`files` by path: a body, its type, and the status. `counts` are the requests, `agents` their user agents."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[bytes, str, int]] = {}
        self.counts: Counter[str] = Counter()
        self.agents: set[str] = set()
        self.base = ""

    def put(self, path: str, body: str | bytes, kind: str = "text/html; charset=utf-8", status: int = 200) -> str:
        self.files[path] = (body.encode() if isinstance(body, str) else body, kind, status)
        return self.base + path

    async def handle(self, request: web.BaseRequest) -> web.Response:
        self.counts[request.path] += 1
        self.agents.add(request.headers["User-Agent"])
        if request.path == "/away":
            return web.Response(status=302, headers={"Location": request.query["to"]})
        body, kind, status = self.files.get(request.path, (b"not here", "text/plain", 404))
        return web.Response(body=body, status=status, headers={"Content-Type": kind})


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    held = Site()
    app = web.Application()
    app.router.add_get("/{path:.*}", held.handle)
    async with TestServer(app) as server:
        held.base = str(server.make_url("")).rstrip("/")
        yield held
