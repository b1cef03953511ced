"""Code with packages, in the jail."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox.conftest import Code

pytestmark = pytest.mark.asyncio


@pytest.fixture
def stored() -> Iterator[dict[str, Path]]:
    """As sandbox.packages makes them."""
    with tempfile.TemporaryDirectory(prefix="agentsite-store-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        found = {language: folder / language for language in ("python", "javascript")}
        for path in found.values():
            path.mkdir(mode=0o755)
        (found["python"] / "plain.py").write_text("VALUE = 7\n")
        (found["javascript"] / "plain.mjs").write_text("export default 7; export const value = 8;")
        (found["javascript"] / "imports.json").write_text('{"plain": "plain.mjs", "@scope/plain": "plain.mjs"}')
        yield found


@pytest.mark.parametrize("jail", ["root-1", pytest.param("root-2", marks=pytest.mark.slow)], indirect=True)
async def test_code_imports_its_packages_and_cannot_change_them(code: Code, stored: dict[str, Path]) -> None:
    python, script = (stored["python"],), (stored["javascript"],)
    assert (await code("python", "import plain\nplain.VALUE", packages=python)).value == 7
    assert (await code.fails("python", "import plain")).code == "error"
    source = (
        "import seven, { value } from 'plain'; import other from '@scope/plain'; export default [seven, value, other]"
    )
    assert (await code("typescript", source, packages=script)).value == [7, 8, 7]
    assert (await code.fails("typescript", source)).code == "error"
    change = "import plain\nopen(plain.__file__, 'a').write('#')"
    failed = await code.fails("python", change, packages=python)
    assert "PermissionError" in failed.message or "Read-only" in failed.message


async def test_packages_may_lie_where_only_root_reads(code: Code, stored: dict[str, Path]) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    stored["python"].parent.chmod(0o700)
    assert (await code("python", "import plain\nplain.VALUE", packages=(stored["python"],))).value == 7
    assert (await code("python", "1 + 1")).value == 2


@pytest.mark.slow
async def test_memory_is_what_the_job_says(code: Code) -> None:
    """Deno has a slot of its own for each size; Python lowers its limit."""
    fill = {
        "python": "len(bytearray(600 << 20))",
        "javascript": "const all = []; for (let i = 0; i < 40; i++) all.push(new Uint8Array(1e7).fill(1)); all.length",
    }
    for language, source in fill.items():
        assert (await code.fails(language, source)).code in ("memory", "error")
        assert (await code(language, source, memory_mb=700)).value
