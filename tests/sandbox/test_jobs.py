"""What code gets, what it gives back, and how it fails."""

import asyncio
from typing import Any

import pytest

from core.errors import InvalidRequest
from sandbox import client
from sandbox.jobs import HostError, Job, Language, SandboxBusy, run_job
from tests.sandbox.conftest import TENANT_A, TENANT_B, Code

pytestmark = pytest.mark.asyncio
LANGUAGES = ["python", "javascript", "typescript"]
DOUBLE = {
    "python": "def main(value):\n    print('hello')\n    return value['n'] * 2",
    "javascript": "export function main(value) { console.log('hello'); return value.n * 2 }",
    "typescript": "function main(value: { n: number }): number { console.log('hello'); return value.n * 2 }",
}


@pytest.mark.parametrize("language", LANGUAGES)
async def test_an_entry_point_gets_the_input(code: Code, language: str) -> None:
    outcome = await code(language, DOUBLE[language], entry_point="main", input={"n": 21})
    assert (outcome.value, outcome.stdout, outcome.stderr, outcome.files) == (42, "hello\n", "", {})


@pytest.mark.parametrize(
    ("language", "source", "value"),
    [
        ("python", "x = 20\nx + 1", 21),
        ("python", "x = 20", None),
        ("python", "import asyncio\nawait asyncio.sleep(0, 5)", 5),
        ("python", "{1, 2}", "{1, 2}"),
        ("python", "input['n']", 3),
        ("javascript", "const x = 20; x + 1", 21),
        ("javascript", "export default 7", 7),
        ("javascript", "export default await Promise.resolve({ a: [1] })", {"a": [1]}),
        ("javascript", "input.n", 3),
        ("javascript", "const r = await Promise.resolve(3);\nr;", 3),
        ("javascript", "if (input.n)\n  await Promise.resolve(4)", 4),
        ("javascript", "for (const n of [1]) {\n  await n\n}", None),
        ("javascript", "console.log(await Promise.resolve(3))", None),
        ("javascript", "async function f() { return await 3 }\n7", 7),
        ("typescript", "const r: number = await Promise.resolve(3); r", None),
        ("typescript", "const r: number = await Promise.resolve(3);\nr + 1 // one more", 4),
        ("typescript", "const x: number = 20; x + 1", 21),
        ("typescript", "export default input.n as number", 3),
    ],
)
async def test_a_script_has_the_value_of_its_end(code: Code, language: str, source: str, value: Any) -> None:
    assert (await code(language, source, input={"n": 3})).value == value


@pytest.mark.parametrize(
    ("language", "source"),
    [
        ("python", "async def main(value):\n    import asyncio\n    await asyncio.sleep(0)\n    return value"),
        ("javascript", "export async function main(value) { await null; return value }"),
        ("typescript", "export const main = async (value: string): Promise<string> => value"),
    ],
)
async def test_an_entry_point_may_be_async(code: Code, language: str, source: str) -> None:
    assert (await code(language, source, entry_point="main", input="ä€😀")).value == "ä€😀"


@pytest.mark.parametrize(
    ("language", "source"),
    [
        ("python", "open('out/b.bin', 'wb').write(open('in/a.bin', 'rb').read() * 2)"),
        ("javascript", "Deno.writeFileSync('out/b.bin', new Uint8Array([...Deno.readFileSync('in/a.bin'), 0, 255]))"),
    ],
)
async def test_files_go_in_and_new_ones_out(code: Code, language: str, source: str) -> None:
    outcome = await code(language, source, files={"in/a.bin": b"\0\xff", "out/keep": b"same"})
    assert outcome.files == {"out/b.bin": b"\0\xff\0\xff"}


CALLS = {
    "python": """
import asyncio
from agentsite import HostError, acall, call
async def main(value):
    both = await asyncio.gather(acall("slow", n=1), acall("slow", n=2))
    try:
        call("refused")
    except HostError as error:
        return [call("echo", value=value), *both, str(error)]
""",
    "javascript": """
import { call } from "agentsite";
export async function main(value) {
    const both = await Promise.all([call("slow", { n: 1 }), agentsite.call("slow", { n: 2 })]);
    try { await call("refused") } catch (error) { return [await call("echo", { value }), ...both, error.message] }
}
""",
}
CALLS["typescript"] = CALLS["javascript"]


@pytest.mark.parametrize("language", LANGUAGES)
async def test_code_calls_the_host(code: Code, language: str) -> None:
    both = asyncio.Barrier(2)

    async def host(method: str, params: dict[str, Any]) -> Any:
        if method == "slow":
            await both.wait()  # passes only when both calls are under way
            return params["n"]
        if method == "refused":
            raise HostError("Not this one.")
        return params

    outcome = await code(language, CALLS[language], host, entry_point="main", input="x" * 200_000)
    assert outcome.value == [{"value": "x" * 200_000}, 1, 2, "Not this one."]


@pytest.mark.parametrize("language", LANGUAGES)
async def test_without_a_host_its_calls_fail(code: Code, language: str) -> None:
    failed = await code.fails(language, CALLS[language], entry_point="main")
    assert (failed.code, "may not call the host" in failed.message) == ("error", True)


ENDLESS = {"python": "while True: pass", "javascript": "for (;;);", "typescript": "for (;;);"}
FAULTS = [
    ("python", "def main(: pass", "syntax", "main.py"),
    ("python", "raise ValueError('own words')", "error", "own words"),
    ("python", "other = 1", "no_entry_point", "'main' does not exist"),
    ("python", "main = 5", "no_entry_point", "'main' is no function"),
    ("python", "def main(value): return float('nan')", "bad_result", "JSON"),
    ("python", "def main(value):\n a = []\n a.append(a)\n return a", "bad_result", "JSON"),
    ("python", "def main(value): return '\\udc80'", "bad_result", "Unicode"),
    ("python", "def main(value): return 'x' * 5_000_000", "bad_result", "4 MiB"),
    ("python", "def main(value): return 'x' * 100_000_000", "output", "32 MiB"),
    ("python", "def main(value): return [bytearray(1 << 20) for _ in range(10_000)]", "memory", "memory"),
    ("python", "import os\nos._exit(0)", "no_result", "exit code 0"),
    ("python", "import sys\nsys.exit(3)", "no_result", "exit(3)"),
    ("python", "import ctypes\nctypes.string_at(0)", "crashed", "SIGSEGV"),
    ("python", "while True: print('x' * 1000)", "output", "1 MiB"),
    ("javascript", "export function main( {", "syntax", "main.js"),
    ("javascript", "export function main() { throw new Error('own words') }", "error", "own words"),
    ("javascript", "export const other = 1", "no_entry_point", "'main'"),
    ("javascript", "const other = 1", "no_entry_point", "'main'"),
    ("javascript", "export const main = 5", "no_entry_point", "'main'"),
    ("javascript", "export function main() { const a = []; a.push(a); return a }", "bad_result", "JSON"),
    ("javascript", "export function main() { return 5n }", "bad_result", "JSON"),
    ("javascript", "export function main() { return '\\udc80' }", "bad_result", "Unicode"),
    (
        "javascript",
        "export function main() { const a = []; for (;;) a.push(new Array(1e5).fill(1)) }",
        "memory",
        "memory",
    ),
    ("javascript", "export function main() { Deno.exit(0) }", "no_result", "exit code 0"),
    ("javascript", "for (;;) console.log('x'.repeat(1000)); export function main() {}", "output", "1 MiB"),
    ("typescript", "export function main(value: ) {}", "syntax", "main.ts"),
    ("typescript", "enum A { B }; export function main() { throw new Error(A[0]) }", "error", "B"),
]


@pytest.mark.parametrize("jail", ["root-1", pytest.param("root-2", marks=pytest.mark.slow)], indirect=True)
@pytest.mark.parametrize("language", LANGUAGES)
async def test_each_fault_has_its_code(code: Code, language: str) -> None:
    found = {}
    for own, source, expected, words in FAULTS:
        if own == language:
            failed = await code.fails(own, source, entry_point="main")
            if failed.code != expected or words not in failed.message or "/sandbox" in failed.message:
                found[source] = (failed.code, failed.message)
    assert found == {}


@pytest.mark.parametrize("language", LANGUAGES)
async def test_code_that_does_not_end_is_ended(code: Code, language: str) -> None:
    failed = await code.fails(language, ENDLESS[language], timeout=1)
    assert (failed.code, "1 seconds" in failed.message) == ("timeout", True)


async def test_the_traceback_begins_with_the_codes_own_line_and_shows_it(code: Code) -> None:
    failed = await code.fails("python", "def f():\n    return 1 / 0\n\nf()")
    assert failed.message.splitlines()[1] == '  File "main.py", line 4, in <module>'
    assert "return 1 / 0" in failed.message


async def test_what_was_printed_before_a_failure_is_kept(code: Code) -> None:
    failed = await code.fails(
        "python", "import sys\nprint('before')\nprint('bad', file=sys.stderr)\nwhile True: pass", timeout=1
    )
    assert (failed.stdout, failed.stderr) == ("before\n", "bad\n")


FORGE = """
import os
os.write(3, b"\\0agentsite E" + {0!r} + b"\\n")
os._exit(0)
"""


async def test_a_forged_result_is_no_more_than_a_result(code: Code) -> None:
    """The channel is the tenant's own process's: what comes by it is parsed as a stranger's."""
    assert (await code("python", FORGE.format(b'{"ok": true, "value": 1}'))).value == 1
    for line in (b"nonsense", b"[]", b"{}", b'{"ok": true, "value": NaN}', b'{"ok": true, "files": 3}', b"[" * 100_000):
        assert (await code.fails("python", FORGE.format(line))).code == "bad_result"
    assert (await code.fails("python", FORGE.format(b'{"ok": true, "files": {"../x": ""}}'))).code == "output"
    assert (await code.fails("python", FORGE.format(b'{"ok": 0, "code": "sandbox_unavailable"}'))).code == "error"


@pytest.mark.parametrize(
    "terms",
    [
        {"timeout": 0},
        {"timeout": 301},
        {"timeout": float("nan")},
        {"memory_mb": 1},
        {"memory_mb": 100_000},
        {"code": "x" * 1_000_001},
        {"input": object()},
        {"input": "x" * 4_000_001},
        {"files": {"../x": b""}},
        {"files": {"/etc/x": b""}},
        {"files": {"x": bytes(9 << 20)}},
    ],
)
async def test_a_job_that_cannot_be_is_refused(terms: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        await run_job(Job(Language.PYTHON, **{"code": "1", **terms}))
    assert client.client()._pool is None  # nothing was even started


async def test_a_full_queue_is_429_and_one_tenant_leaves_room_for_another(code: Code, settings: Any) -> None:
    settings.SANDBOX_SLOTS, settings.SANDBOX_TENANT_SLOTS, settings.SANDBOX_QUEUE = 2, 1, 4
    hold = asyncio.Event()

    async def host(method: str, params: dict[str, Any]) -> None:
        await hold.wait()

    wait = "from agentsite import call\ncall('wait')\n'done'"
    jobs = [asyncio.create_task(code("python", wait, host, tenant_id=TENANT_A)) for _ in range(3)]
    await asyncio.sleep(0)  # the first is let in, the others wait
    assert (client.client().admission.running, client.client().admission.waiting) == (1, 2)
    with pytest.raises(SandboxBusy) as busy:
        await code("python", "1", tenant_id=TENANT_A)
    assert (busy.value.status, busy.value.code, busy.value.retry_after) == (429, "sandbox_busy", 2.0)
    assert (await code("python", "1", tenant_id=TENANT_B)).value == 1
    hold.set()
    assert [outcome.value for outcome in await asyncio.gather(*jobs)] == ["done"] * 3
    assert (client.client().admission.running, client.client().admission.waiting) == (0, 0)


async def test_a_job_that_nobody_waits_for_is_ended(code: Code) -> None:
    begun = asyncio.Event()

    async def host(method: str, params: dict[str, Any]) -> None:
        begun.set()

    source = "from agentsite import call\ncall('x')\nwhile True: pass"
    job = asyncio.create_task(code("python", source, host))
    await begun.wait()
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert client.client().admission.running == 0
    assert (await code("python", "1")).value == 1
