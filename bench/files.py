"""What opening a file beneath a folder costs beside a plain open, by turns: python -m bench.files."""

import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from bench.results import Results
from core import beneath
from toolsets.workspace import Limits, Workspace

ROUNDS, CALLS = 200, 500
NAMES = ("file.txt", "folder/file.txt", "folder/deeper/still/file.txt")


def main() -> None:
    results = Results()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentsite.settings")
        workspace = Workspace(Path(folder), "tenant", "shared", Limits())
        for name in NAMES:
            workspace.change(name, lambda old: b"", threading.Event())
            of_file(results, Path(folder, "tenant", "shared"), name, workspace)


def of_file(results: Results, folder: Path, name: str, workspace: Workspace) -> None:
    path, root = str(folder / name), os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def plain() -> None:
        open(path, "rb").close()

    def below() -> None:
        os.fdopen(beneath.open_file(root, name), "rb").close()

    def whole() -> None:
        with workspace.open(name):
            pass

    if beneath.has_openat2():
        results.add(f"{name}: beneath a folder, to a plain open", ratios(below, plain), "times", goal=2)
    with patch.object(beneath, "has_openat2", lambda: False):
        results.add(f"{name}: by walking, as without openat2", ratios(below, plain), "times")
    results.add(f"{name}: with the workspace opened for it", ratios(whole, plain), "times")
    os.close(root)


def ratios(one: Callable[[], None], other: Callable[[], None]) -> list[float]:
    return [cost(one) / cost(other) for _ in range(ROUNDS)]


def cost(call: Callable[[], None]) -> float:
    began = time.perf_counter()
    for _ in range(CALLS):
        call()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
