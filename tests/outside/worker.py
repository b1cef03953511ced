"""`manage.py worker` with jobs of the tests and a hook: `python -m tests.outside.worker`.

Each says in the file `journal` what it does.
"""

import asyncio
import os
import time
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentsite.settings")
django.setup()

from agentsite.management.commands.worker import work  # noqa: E402 Django must be ready
from core.jobs import job  # noqa: E402


def say(journal: str, words: str) -> None:
    with Path(journal).open("a") as file:
        file.write(f"{words}\n")


@job("test.thread", platform=True)
def in_a_thread(journal: str, seconds: float) -> None:
    say(journal, "thread began")
    time.sleep(seconds)
    say(journal, "thread ended")


@job("test.loop", platform=True, queue="runs")
async def in_the_loop(journal: str, seconds: float) -> None:
    say(journal, "loop began")
    await asyncio.sleep(seconds)
    say(journal, "loop ended")


async def stopping() -> None:
    say(os.environ["JOURNAL"], "stopping")


if __name__ == "__main__":
    asyncio.run(work(4, 100, [stopping]))
