"""The kind `web`, asked through a toolbox, against a real site on loopback: ALLOW_PRIVATE_TOOLS is on."""

import json
import random
import subprocess
import sys
import time
from io import BytesIO
from typing import Any

import pytest
from pydantic import ValidationError
from pypdf import PdfReader, PdfWriter

from core.validation import config_schema
from tests.toolsets.tools import Recorded
from tests.toolsets.web_site import ARTICLE, pdf, site
from toolsets.base import Risk
from toolsets.kinds.web import reader
from toolsets.kinds.web.config import WebConfig
from toolsets.kinds.web.hosts import matches
from toolsets.registry import toolset_kinds
from toolsets.toolbox import GrantedToolset


@pytest.fixture(autouse=True)
def _loopback_is_allowed(settings: Any) -> None:
    settings.ALLOW_PRIVATE_TOOLS = True


def toolbox(**config: Any) -> Recorded:
    return Recorded(GrantedToolset("web", "1", toolset_kinds()["web"].tools(WebConfig(**config))))


async def read(url: str, box: Recorded | None = None, **arguments: Any) -> dict[str, Any]:
    box = box or toolbox()
    text = await box.ask("fetch_url", json.dumps({"url": url, **arguments}))
    assert not box.results[-1].is_error, text
    found: dict[str, Any] = json.loads(text)
    return found


async def fault(url: str, box: Recorded | None = None, **arguments: Any) -> str:
    box = box or toolbox()
    text = await box.ask("fetch_url", json.dumps({"url": url, **arguments}))
    assert box.results[-1].is_error, text
    return text


def test_what_the_tool_is() -> None:
    (tool,) = toolset_kinds()["web"].tools(WebConfig())
    assert (tool.name, tool.risk, tool.untrusted, tool.parallel) == ("fetch_url", Risk.EGRESS, True, True)
    assert tool.timeout > WebConfig().timeout + 20
    assert config_schema(WebConfig)["properties"]["respect_robots"]["default"] is True


def test_the_kind_costs_the_server_s_start_nothing() -> None:
    heavy = {"aiohttp", "trafilatura", "lxml", "pypdf", "core.fetch"}
    program = f"import sys, toolsets.kinds.web; print({heavy} & {{*sys.modules}})"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"


async def test_the_text_of_a_page() -> None:
    async with site() as held:
        url = held.put("/mills/", ARTICLE)
        page = await read(url)
        assert (page["url"], page["title"], page["content_type"]) == (url, "On tide mills", "text/html")
        assert page["text"].startswith("# Tide mills\n")
        assert "mill of the 40th bay" in page["text"]
        assert "| first | rye |" in page["text"]
        for left_out in ("never shown", "imprint", "color:red", "About us", "<p>"):
            assert left_out not in page["text"]
        assert (page["start"], page["next_start"], "links" in page) == (0, None, False)
        assert page["total_chars"] == len(page["text"])


async def test_the_links_of_a_page() -> None:
    async with site() as held:
        page = await read(held.put("/mills/", ARTICLE), links=True)
        assert page["links"] == [
            {"url": f"{held.base}/", "text": "Home"},
            {"url": f"{held.base}/about", "text": "About us"},
            {"url": f"{held.base}/mills/more?page=2", "text": "the next part"},
            {"url": "https://other.example/x", "text": "elsewhere"},
        ]


async def test_a_long_text_comes_in_parts() -> None:
    async with site() as held:
        url = held.put("/long", "".join(f"{n:09} " for n in range(1000)), "text/plain")
        whole, start = "", 0
        while start is not None:
            part = await read(url, start=start, max_chars=3000)
            whole, start = whole + part["text"], part["next_start"]
            assert len(part["text"]) <= 3000
        assert (len(whole), whole[:10], whole[-10:]) == (10_000, "000000000 ", "000000999 ")
        assert (await read(url, start=10_000))["text"] == ""
        assert "10000 characters" in await fault(url, start=10_001)
        for wrong in ({"start": -1}, {"max_chars": 100_001}, {"max_chars": 0}):
            assert "arguments are wrong" in await fault(url, **wrong)


async def test_a_page_without_a_main_text_is_told_whole() -> None:
    async with site() as held:
        page = await read(held.put("/", "<title>Short</title><div>Only <i>this</i>"))
        assert (page["title"], page["text"]) == ("Short", "Only *this*")
        assert (await read(held.put("/e", "<p></p>")))["text"] == ""
        page = await read(held.put("/big", "<body>" + "<p>Much the same is said here.</p>" * 70_000), max_chars=100)
        assert page["text"].startswith("Much the same is said here. Much")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("<p>Grüße".encode(), "text/html"),
        ("<p>Grüße".encode(), "text/html; charset=utf-8"),
        ("<p>Grüße".encode("latin-1"), "text/html; charset=iso-8859-1"),
        ("<p>Grüße".encode("latin-1"), "text/html"),
        ("<meta charset=windows-1252><p>Grüße".encode("cp1252"), "text/html"),
        ("<p>Grüße".encode(), "text/html; charset=no-such-thing"),
        (
            "<?xml version='1.0' encoding='utf-8'?><html><body><p>Grüße</p></body></html>".encode(),
            "application/xhtml+xml",
        ),
        ("Grüße".encode(), "text/plain"),
        ("\ufeffGrüße".encode(), "text/plain"),
        ("Grüße".encode("cp1252"), "text/plain; charset=windows-1252"),
        ("Grüße".encode("utf-16"), "text/plain; charset=utf-16"),
        ("Grüße".encode(), "text/plain; charset=punycode"),
        ("Grüße".encode(), "text/plain; charset=zlib"),
    ],
)
async def test_charsets(body: bytes, kind: str) -> None:
    async with site() as held:
        assert (await read(held.put("/", body, kind)))["text"] == "Grüße"


async def test_json_and_xml_come_as_they_are() -> None:
    async with site() as held:
        for kind in ("application/json", "application/ld+json; charset=utf-8", "application/atom+xml", "text/csv"):
            assert (await read(held.put("/", '{"a": [1, 2]}', kind)))["text"] == '{"a": [1, 2]}'


async def test_a_pdf() -> None:
    async with site() as held:
        page = await read(held.put("/a.pdf", pdf("High water", "Low water"), "application/pdf"))
        assert (page["title"], page["text"]) == ("Tides", "High water\n\nLow water")
        many = await read(held.put("/b.pdf", pdf(*map(str, range(305))), "application/pdf"))
        assert many["note"] == "The first 300 of 305 pages."
        assert many["text"].endswith("299")


async def test_a_pdf_that_cannot_be_read() -> None:
    writer = PdfWriter(clone_from=PdfReader(BytesIO(pdf("secret"))))
    writer.encrypt("password", algorithm="RC4-128")
    locked = BytesIO()
    writer.write(locked)
    async with site() as held:
        assert "password" in await fault(held.put("/l.pdf", locked.getvalue(), "application/pdf"))
        for broken in (b"", b"no pdf", b"%PDF-1.4\n" + b"<<" * 100_000, pdf("a").replace(b"/Kids[4", b"/Kids[2")):
            text = await fault(held.put("/b.pdf", broken, "application/pdf"))
            assert text == "The page could not be read: it is damaged or too complex."


async def test_other_types_are_refused() -> None:
    async with site() as held:
        for kind in ("image/png", "application/zip", "application/octet-stream", "video/mp4"):
            text = await fault(held.put("/x", b"\x89PNG", kind))
            assert text == (
                f"The answer's type {kind} cannot be read. Web pages, PDFs, JSON, XML and text can be read."
            )


async def test_statuses_and_addresses() -> None:
    async with site() as held:
        assert await fault(f"{held.base}/nowhere") == "The server answered 404 Not Found."
        assert await fault(held.put("/odd", "x", status=499)) == "The server answered 499."
        page = await read(f"{held.base}/away?to={held.put('/there', '<p>here</p>')}")
        assert (page["url"], page["text"]) == (f"{held.base}/there", "here")
        assert "metadata" not in await fault("http://169.254.169.254/latest/meta-data/")
        assert "http://" in await fault("example.com")


async def test_a_private_address_is_refused(settings: Any) -> None:
    settings.ALLOW_PRIVATE_TOOLS = False
    async with site() as held:
        text = await fault(held.put("/", "inner"))
        assert text == "The host has no address on the public internet that may be reached."
        assert not held.counts


async def test_size_and_time_are_limited_by_the_config() -> None:
    async with site() as held:
        url = held.put("/", "x" * 1_000_001, "text/plain")
        text = await fault(url, toolbox(max_mb=1))
        assert text == "The answer is larger than 1,000,000 bytes. max_mb of the toolset allows more."
        assert (await read(url, toolbox(max_mb=2)))["total_chars"] == 1_000_001


async def test_hosts() -> None:
    async with site() as held:
        url = held.put("/", "<p>hello</p>")
        assert (await read(url, toolbox(allow_hosts=["127.0.0.1"])))["text"] == "hello"
        for config in (
            {"allow_hosts": ["example.com"]},
            {"deny_hosts": ["127.0.0.1"]},
            {"allow_hosts": ["127.0.0.1"], "deny_hosts": ["127.0.0.1"]},
        ):
            assert "may not read pages of 127.0.0.1" in await fault(url, toolbox(respect_robots=False, **config))
        away = f"{held.base}/away?to=http://localhost:{held.base.rpartition(':')[2]}/"
        assert (await read(away))["text"] == "hello"
        assert "may not read pages of localhost" in await fault(away, toolbox(allow_hosts=["127.0.0.1"]))


@pytest.mark.parametrize(
    ("host", "patterns", "expected"),
    [
        ("example.com", ["example.com"], True),
        ("EXAMPLE.com.", ["example.com"], True),
        ("a.example.com", ["example.com"], False),
        ("a.example.com", ["*.example.com"], True),
        ("b.a.example.com", ["*.example.com"], True),
        ("example.com", ["*.example.com"], False),
        ("badexample.com", ["*.example.com", "example.com"], False),
        ("example.com.evil.test", ["example.com", "*.example.com"], False),
    ],
)
def test_host_patterns(host: str, patterns: list[str], expected: bool) -> None:
    assert matches(host, WebConfig(allow_hosts=patterns).allow_hosts) is expected


@pytest.mark.parametrize(
    "pattern", ["", "*", "*.", "a.*", "http://a.example", "a.example/x", "a b", "a.example:80", "é"]
)
def test_what_is_no_host_pattern(pattern: str) -> None:
    with pytest.raises(ValidationError, match="example"):
        WebConfig(deny_hosts=[pattern])


async def test_robots_are_respected_and_kept() -> None:
    async with site() as held:
        page = held.put("/private/a", "<p>closed</p>")
        held.put("/robots.txt", "User-agent: *\nDisallow: /private", "text/plain")
        assert "robots.txt closes this page" in await fault(page)
        assert "robots.txt closes this page" in await fault(f"{held.base}/away?to={page}")
        assert (await read(held.put("/open", "<p>open</p>")))["text"] == "open"
        assert (held.counts["/robots.txt"], held.counts["/private/a"]) == (1, 0)
        assert (await read(page, toolbox(respect_robots=False)))["text"] == "closed"
        assert held.counts["/robots.txt"] == 1
        assert "User-agent" in (await read(f"{held.base}/robots.txt"))["text"]


@pytest.mark.parametrize(("status", "open_"), [(200, True), (404, True), (403, True), (500, False), (429, False)])
async def test_robots_that_cannot_be_had(status: int, open_: bool) -> None:
    async with site() as held:
        held.put("/robots.txt", "", "text/plain", status)
        page = held.put("/", "<p>hello</p>")
        if open_:
            assert (await read(page))["text"] == "hello"
        else:
            assert "robots.txt could not be read" in await fault(page)
            assert held.counts["/"] == 0


async def test_robots_of_a_host_that_is_denied_are_not_fetched() -> None:
    async with site() as held, site() as other:
        page = held.put("/", "<p>hello</p>")
        await fault(page, toolbox(deny_hosts=["127.0.0.1"]))
        assert not held.counts
        local = other.base.replace("127.0.0.1", "localhost")
        await fault(f"{held.base}/away?to={local}/", toolbox(allow_hosts=["127.0.0.1"]))
        assert not other.counts


async def test_the_user_agent() -> None:
    async with site() as held:
        await read(held.put("/", "<p>x</p>"), toolbox(user_agent="(+https://example.com/bot)"))
        assert held.agents == {"agentsite (+https://example.com/bot)"}
    with pytest.raises(ValidationError):
        WebConfig(user_agent="a\r\nX: y")


EVIL = {
    "deep": b"<div>" * 200_000,
    "unclosed": b"<a href=/x>x" * 50_000,
    "misnested": b"<p><b><i></p>x</b>" * 20_000,
    "entities": b"<!DOCTYPE x [<!ENTITY a 'aaaa'><!ENTITY b SYSTEM 'file:///etc/passwd'>]><body><p>&a;&b;x</p>",
    "attribute": b"<p a='" + b"a" * 1_000_000 + b"'>x",
    "nul": b"<p>" + b"\0" * 100_000,
    "comment": b"<!--" * 100_000,
    "noise": random.Random(7).randbytes(300_000),
    "base": b"<base href='http://[::1'><a href='//[x'>a</a><p>x",
    "surrogate": b"<title>&#xD800;</title><p>&#xDFFF; &#0; x",
}


@pytest.mark.parametrize("name", EVIL)
async def test_evil_pages_end_in_time(name: str) -> None:
    """In a text or in an error, and the server keeps its memory."""
    async with site() as held:
        began = time.monotonic()
        box = toolbox()
        text = await box.ask("fetch_url", json.dumps({"url": held.put("/", EVIL[name], "text/html"), "links": True}))
        assert time.monotonic() - began < 60
        assert "root:" not in text
        assert box.results[-1].is_error is False or text.startswith("The page")


async def test_a_page_that_hangs_its_parser_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a million distinct attributes of one element take the parser minutes."""
    monkeypatch.setattr(reader, "EXTRACT_SECONDS", 3)
    body = b"<p " + b" ".join(b"a%d=1" % n for n in range(400_000)) + b">x"
    async with site() as held:
        began = time.monotonic()
        text = await fault(held.put("/", body, "text/html"))
        assert text.startswith("The page")
        assert time.monotonic() - began < 6
