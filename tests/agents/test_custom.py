"""Custom agents are checked without being run, and what they run is pinned with each version."""

import socket
import ssl
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp.connector
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from asgiref.sync import sync_to_async

from agents import services
from agents.models import AgentVersion, VersionCode
from agents.services import agent_delete, agent_status
from core.tenant import tenant_context
from tests.conftest import Actor
from tests.core.test_fetch import certificate
from tests.runs.custom_code import body, config
from tests.runs.test_chat_completions import chat, user
from toolsets.base import ToolCallContext
from toolsets.workspace import workspace_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted")]
FINE = "def main(given):\n    return 'fine'\n"
FINER = "def main(given):\n    return 'finer'\n"
SCRIPTS = {
    "python": FINE,
    "javascript": "export const main = (given) => 'fine';",
    "typescript": "enum A { B }\nexport async function main(given: unknown): Promise<string> { return 'fine' }",
}


def codes(response: Any) -> dict[str, str]:
    assert response.status_code == 400, response.content
    return {fault["path"]: fault["code"] for fault in response.json()["error"]["details"]}


def versions() -> list[tuple[int, str, str]]:
    rows = VersionCode.objects.select_related("version").order_by("version__number")
    return [(row.version.number, row.version.code, row.source) for row in rows]


def test_every_fault_is_told_at_once(owner: Actor) -> None:
    wrong = {"type": "nowhere", "content": "", "entryPoint": "not a name", "language": "cobol", "timeout": 0}
    assert codes(owner.post("agents", {**body(""), "config": {**wrong, "dependencies": "x", "more": 1}})) == {
        "config.type": "literal_error",
        "config.content": "string_too_short",
        "config.entryPoint": "string_pattern_mismatch",
        "config.language": "enum",
        "config.timeout": "greater_than_equal",
        "config.dependencies": "list_type",
        "config.more": "extra_forbidden",
    }
    dependencies = [
        "six",
        "six>=1.0",
        "six==1.17.0",
        "Six==1.16.0",
        "evil @ https://example.com/evil.whl",
        "unheard-of==1",
    ]
    several = config("def other(given): return 1", timeout=301, dependencies=dependencies)
    response = owner.post("agents", {**body(""), "slug": "Not a slug", "config": several})
    found = [(fault["path"], fault["code"]) for fault in response.json()["error"]["details"]]
    assert sorted(found) == [
        ("config.content", "missing_entry_point"),
        ("config.dependencies.0", "bad_pin"),
        ("config.dependencies.1", "bad_pin"),
        ("config.dependencies.3", "duplicate"),
        ("config.dependencies.4", "bad_pin"),
        ("config.dependencies.5", "package_not_allowed"),
        ("config.timeout", "less_than_equal"),
        ("slug", "invalid"),
    ]
    assert not AgentVersion.objects.exists()


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"content": "def main(given:\n"}, "syntax"),
        ({"content": "x = " + "(" * 5000}, "syntax"),
        ({"content": "x = " + "-" * 60_000 + "1"}, "syntax"),
        ({"content": "class A:\n    def main(self): ...\n"}, "missing_entry_point"),
        ({"content": "function other() {}", "language": "javascript"}, "missing_entry_point"),
        ({"content": "export { other as main2 }", "language": "typescript"}, "missing_entry_point"),
        ({"content": "/etc/passwd", "type": "file"}, "path_refused"),
        ({"content": "../other/code.py", "type": "file"}, "path_refused"),
        ({"content": "http://example.com/code.py", "type": "url"}, "https_only"),
        ({"content": "https://user:word@example.com/code.py", "type": "url"}, "address_refused"),
        ({"content": "file:///etc/passwd", "type": "url"}, "address_refused"),
    ],
)
def test_code_that_cannot_be_is_refused_unread(owner: Actor, fields: dict[str, str], code: str) -> None:
    draft = {**body(""), "config": {**config(FINE), **fields}}
    report = owner.post("agents/validate", draft).json()
    assert [(fault["path"], fault["code"]) for fault in report["errors"]] == [("config.content", code)]
    assert codes(owner.post("agents", draft)) == {"config.content": code}


@pytest.mark.parametrize(("timeout", "status"), [(0, 400), (1, 201), (300, 201), (301, 400)])
def test_the_timeout_has_bounds(owner: Actor, timeout: int, status: int) -> None:
    assert owner.post("agents", body(FINE, timeout=timeout)).status_code == status


# Each would write a file where it is run, in whatever way that may happen.
CANARY = """
import pathlib
def touch(*args): pathlib.Path({path!r}).write_text("run"); return lambda function: function
touch()
@touch("decorator")
def main(given=touch("default"), *, other: touch("annotation") = None): return "fine"
class Made(metaclass=type(touch("metaclass"))): touched = touch("body")
"""


@pytest.mark.parametrize("broken", ["", "def ("])
def test_checking_runs_nothing_not_even_a_decorator_or_a_default(owner: Actor, tmp_path: Path, broken: str) -> None:
    path = tmp_path / "canary"
    seen: list[str] = []
    draft = body(CANARY.format(path=str(path)) + broken)
    sys.addaudithook(lambda event, args: seen.append(event) if event == "exec" and is_ours(args[0]) else None)
    report = owner.post("agents/validate", draft).json()
    owner.post("templates/custom/validate", {"config": draft["config"]})
    assert report["valid"] is not bool(broken)
    assert not path.exists()
    assert seen == []


def is_ours(code: Any) -> bool:
    return "touch" in getattr(code, "co_names", ())


@pytest.mark.parametrize(
    ("language", "source"),
    [
        ("python", "while True: pass\ndef main(given=1 / 0): ...\n"),
        ("javascript", "export function main() {}\nwhile (true) {}"),
        ("javascript", "function main() {}\nglobalThis.agentsite.call('ran');\nwhile (true) {}"),
        ("typescript", "export function main(): void {}\nwhile (true) {}"),
    ],
)
def test_publishing_runs_nothing_either(owner: Actor, language: str, source: str) -> None:
    """It would never end, or fail."""
    assert owner.post("agents", body(source, language)).status_code == 201


@pytest.mark.parametrize(
    ("language", "source", "words"),
    [
        ("javascript", "export function main( {", "cannot be read"),
        ("typescript", "export function main(a: ) {}", "cannot be read"),
        ("javascript", "import { x } from 'somewhere'; export function main() { return x }", "somewhere"),
        ("javascript", "const main = 1; export { main as other };", "no function 'main'"),
        ("typescript", "export const other = 1; type A = { main: 1 }; const main = 1", "no function 'main'"),
        ("javascript", "/* function main() {} */", "no function 'main'"),
        ("javascript", "export function main() {}\nconst a = " + "(" * 50_000, "nested too deep"),
    ],
)
def test_what_only_the_runtime_can_read_is_refused_when_it_is_published(
    owner: Actor, language: str, source: str, words: str
) -> None:
    response = owner.post("agents", body(source, language))
    assert response.status_code == 400
    (fault,) = response.json()["error"]["details"]
    assert fault["path"] == "config.content"
    assert words in fault["message"]


def test_each_version_keeps_its_code(owner: Actor, in_acme: Any) -> None:
    first = owner.post("agents", body(FINE)).json()
    assert (first["version"], len(first["code"])) == (1, 64)
    renamed = owner.patch("agents/coded", {"name": "Other"}).json()
    assert (renamed["version"], renamed["code"]) == (2, first["code"])
    changed = owner.patch("agents/coded", {"config": config(FINER)}).json()
    assert changed["version"] == 3
    assert changed["code"] != first["code"]
    assert owner.patch("agents/coded", {"config": config(FINER)}).json()["version"] == 3
    restored = owner.post("agents/coded/versions/1/restore").json()
    assert (restored["version"], restored["code"]) == (4, first["code"])
    plain = owner.patch("agents/coded", {"template": "simple", "config": {}}).json()
    assert (plain["version"], plain["code"]) == (5, "")
    assert [(number, source) for number, _, source in versions()] == [(1, FINE), (2, FINE), (3, FINER), (4, FINE)]
    agent_delete(actor=owner.principal, ref="coded")
    assert versions() == []


def test_a_file_of_the_shared_workspace_is_pinned(owner: Actor, stranger: Actor, in_acme: Any) -> None:
    put(owner, "bots/main.py", FINE)
    first = owner.post("agents", body("bots/main.py", type="file")).json()
    put(owner, "bots/main.py", FINER)
    assert owner.get("agents/coded").json()["code"] == first["code"]
    assert owner.patch("agents/coded", {"name": "Other"}).json()["code"] == first["code"]
    again = owner.patch("agents/coded", {"config": config("bots/main.py", type="file")}).json()
    assert again["code"] != first["code"]
    restored = owner.post("agents/coded/versions/1/restore").json()
    assert restored["code"] == first["code"]
    assert [source for _, _, source in versions()] == [FINE, FINE, FINER, FINE]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, "file_unreadable"),
        ("def other(given): ...", "missing_entry_point"),
        ("def main(given", "syntax"),
        (FINE + "\0", "syntax"),
        (b"\xff\xfe", "encoding"),
        ("# " + "x" * 1_000_000, "too_large"),
    ],
)
def test_a_file_that_is_no_code_is_refused(owner: Actor, in_acme: Any, content: Any, code: str) -> None:
    if content is not None:
        put(owner, "main.py", content)
    assert codes(owner.post("agents", body("main.py", type="file"))) == {"config.content": code}


def test_a_file_of_another_tenant_is_not_there(owner: Actor, stranger: Actor, in_acme: Any) -> None:
    put(stranger, "main.py", FINE)
    assert codes(owner.post("agents", body("main.py", type="file"))) == {"config.content": "file_unreadable"}


def put(actor: Actor, path: str, content: str | bytes) -> None:
    workspace = workspace_of(ToolCallContext(actor.tenant.id), "tenant")
    written = content.encode() if isinstance(content, str) else content

    workspace.change(path, lambda _: written, threading.Event())


@asynccontextmanager
async def code_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """An https server on loopback that is trusted, and what it answers by path."""
    path = certificate(folder)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(path)
    answers: dict[str, Any] = {}

    async def handle(request: web.Request) -> web.Response:
        found = answers.get(request.path)
        if isinstance(found, str) and found.startswith("http"):
            return web.Response(status=302, headers={"Location": found})
        return web.Response(text=found) if found is not None else web.Response(status=404)

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", ssl.create_default_context(cafile=str(path)))
    server = TestServer(app, scheme="https")
    await server.start_server(ssl=served)
    yield str(server.make_url("")).rstrip("/"), answers
    await server.close()


async def test_code_of_a_url_is_pinned(
    owner: Actor, in_acme: Any, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ALLOW_PRIVATE_TOOLS = True
    async with code_server(tmp_path, monkeypatch) as (base, answers):
        answers["/main.py"] = FINE
        response = await owner.apost("agents", body(f"{base}/main.py", type="url"))
        assert response.status_code == 201, response.content
        answers["/main.py"] = FINER
        assert [source for _, _, source in await sync_to_async(versions)()] == [FINE]
        refused = {
            "/missing.py": "bad_status",
            "/away.py": "downgrade",
            "/large.py": "too_large",
        }
        answers["/away.py"] = "http://127.0.0.1/main.py"
        answers["/large.py"] = "#" * 1_000_001
        for path, code in refused.items():
            assert codes(await owner.apost("agents", {**body(f"{base}{path}", type="url"), "slug": "b"})) == {
                "config.content": code
            }
        settings.ALLOW_PRIVATE_TOOLS = False


@pytest.mark.parametrize("language", SCRIPTS)
async def test_code_of_each_language_answers_from_each_source(
    owner: Actor, in_acme: Any, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: str
) -> None:
    settings.ALLOW_PRIVATE_TOOLS = True
    source = SCRIPTS[language]
    await sync_to_async(put)(owner, "bots/code", source)
    async with code_server(tmp_path, monkeypatch) as (base, answers):
        answers["/code"] = source
        for kind, content in {"inline": source, "file": "bots/code", "url": f"{base}/code"}.items():
            response = await owner.apost("agents", {**body(content, language, type=kind), "slug": kind})
            assert response.status_code == 201, response.content
            await sync_to_async(agent_status)(actor=owner.principal, ref=kind, status="active")
            answer = orjson.loads((await chat(owner, user("hello"), model=kind)).content)
            assert answer["choices"][0]["message"]["content"] == "fine"


async def test_code_is_not_fetched_from_the_servers_own_network(owner: Actor, in_acme: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/main.py"
        response = await owner.apost("agents", body(url, type="url"))
        assert codes(response) == {"config.content": "address_refused"}
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_a_change_at_the_same_time_is_not_lost(owner: Actor, in_acme: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code is pinned before the agent is locked: what was pinned for other values is not written."""
    owner.post("agents", body(FINE))
    pin = services.pin

    def slow(**given: Any) -> Any:
        pinned = pin(**given)
        monkeypatch.setattr(services, "pin", pin)
        owner.patch("agents/coded", {"config": config(FINER)})
        return pinned

    monkeypatch.setattr(services, "pin", slow)
    response = owner.patch("agents/coded", {"template": "custom", "name": "Other"})
    assert (response.status_code, response.json()["error"]["code"]) == (409, "changed_meanwhile")
    assert owner.get("agents/coded").json()["name"] == "Coded"
    assert [source for _, _, source in versions()] == [FINE, FINER]


def test_who_may(owner: Actor, viewer: Actor, stranger: Actor, in_acme: Any) -> None:
    assert viewer.post("agents", body(FINE)).status_code == 403
    owner.post("agents", body(FINE))
    assert viewer.patch("agents/coded", {"config": config(FINER)}).status_code == 403
    assert viewer.post("agents/coded/versions/1/restore").status_code == 403
    assert stranger.patch("agents/coded", {"config": config(FINER)}).status_code == 404
    with tenant_context(stranger.tenant.id):
        assert not VersionCode.objects.exists()


def test_no_sandbox_is_a_fault(owner: Actor, settings: Any) -> None:
    settings.SANDBOX_LEVEL = "off"
    assert codes(owner.post("agents", body(FINE, timeout=0))) == {
        "config": "sandbox_unavailable",
        "config.timeout": "greater_than_equal",
    }
    assert not owner.post("templates/custom/validate", {"config": config(FINE)}).json()["valid"]
