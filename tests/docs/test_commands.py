"""Every fenced block of README.md and docs/ that is marked to `run`, run page by page against a server with demo data.

A block's first line is ```bash run or ```python run; all blocks of a page share one shell. The lines of a block
```text output are among those that the block before it prints.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentsite.embedded.home import CHECKOUT
from tests.outside.site import Server, new_database, new_site, serving

pytestmark = pytest.mark.slow

PAGES = sorted([CHECKOUT / "README.md", *(CHECKOUT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```(bash run|python run|text output)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "BLOCK OF THE PAGE"
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    name = f"docs_{os.getpid()}"
    with new_database(os.environ["DATABASE_URL"], name) as database_url:
        site = new_site(tmp_path_factory.mktemp("docs"), database_url)
        with serving(site) as server:
            yield server


def script_of(page: Path, server: Server) -> tuple[str, list[str | None]]:
    """The page's blocks as one shell script, which tells each by a line, and what each must print."""
    lines, expected = ["set -euo pipefail"], []
    for kind, text in BLOCK.findall(page.read_text()):
        if kind == "text output":
            expected[-1] = text.strip()
        else:
            lines += [
                f"echo; echo {MARK}",
                text if kind == "bash run" else f"python - <<'END_OF_BLOCK'\n{text}END_OF_BLOCK",
            ]
            expected.append(None)
    script = "\n".join(lines).replace("http://127.0.0.1:8000", server.base_url)
    script = script.replace("ws://127.0.0.1:8000", server.base_url.replace("http", "ws", 1))
    return script.replace(".agentsite/", f"{shlex.quote(str(server.site.home))}/"), expected


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run(page: Path, server: Server, tmp_path: Path) -> None:
    script, expected = script_of(page, server)
    binaries = Path(sys.executable).parent
    env = {
        **server.site.env,
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "TMPDIR": str(tmp_path),
        "NO_PROXY": "127.0.0.1",
    }
    ran = subprocess.run(["bash", "-c", script], cwd=CHECKOUT, env=env, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    printed = ran.stdout.split(f"\n{MARK}\n")[1:]
    missing = [wanted for wanted, found in zip(expected, printed, strict=True) if wanted and not _has(found, wanted)]
    assert missing == [], ran.stdout


def _has(printed: str, lines: str) -> bool:
    """Each up to the end of its line; before it may be what an answer left without one."""
    return all(f"{line}\n" in f"{printed}\n" for line in lines.splitlines())


@pytest.mark.parametrize("page", [*PAGES, *(CHECKOUT / "docs" / "adr").glob("*.md")], ids=lambda page: page.stem)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    targets = LINK.findall(page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_readme_fits_two_screens() -> None:
    assert len((CHECKOUT / "README.md").read_text().splitlines()) <= 100
