import asyncio
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from procrastinate.contrib.django import app


class Command(BaseCommand):
    help = "Run background jobs until SIGTERM or Ctrl-C; a job under way is finished first."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--concurrency", type=int, default=4, help="jobs at once (default 4)")

    def handle(self, *args: Any, concurrency: int, **options: Any) -> None:
        asyncio.run(work(concurrency))


async def work(concurrency: int) -> None:
    worker_app = app.with_connector(app.connector.get_worker_connector())  # type: ignore[attr-defined]
    async with worker_app.open_async():
        await worker_app.run_worker_async(concurrency=concurrency, shutdown_graceful_timeout=10)
