import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from procrastinate import App
from procrastinate.contrib.django import app

from core.aio import in_db_thread
from llm.door import settling
from runs import runner
from runs.process import process
from runs.tasks import recover
from templates_app import reloading

RUNS_SECONDS = 2.0  # for the runs under way when the worker is stopped, before other processes may have them
GRACE_SECONDS = 10.0  # for the jobs under way when the worker is stopped
SETTLE_SECONDS = 5.0  # for the records of model calls that have ended
SPARE_THREADS = 16  # beside those of the jobs: event loops look up host names in threads


class Command(BaseCommand):
    help = (
        "Run background jobs until SIGTERM or Ctrl-C; those under way have 10 s to finish, else they start again later."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--concurrency", type=int, default=4, help="jobs of the queue `default` at once (4)")
        parser.add_argument("--runs", type=int, default=100, help="jobs of the queue `runs` at once (100)")

    def handle(self, *args: Any, concurrency: int, runs: int, **options: Any) -> None:
        asyncio.run(_serve(concurrency, runs))


async def _serve(default: int, runs: int) -> None:
    """Runs that another process gives up are taken over at once; at a signal, those of this one are given up."""
    reloading.start()
    here = await process()
    here.listener.on["d"] = lambda _: here.in_background(in_db_thread(recover))
    await work(default, runs, on_stop=[partial(runner.shut_down, RUNS_SECONDS)])
    reloading.stop()
    await settling.drain(SETTLE_SECONDS)


async def work(default: int, runs: int, on_stop: Sequence[Callable[[], Awaitable[None]]] = ()) -> None:
    """Run jobs, as many of each queue at once, until a signal; what must run beside them, the caller starts before.

    At the signal no further job is fetched and the functions of `on_stop` are called, before jobs are awaited.
    A plain function cannot be interrupted: the process ends after it, or by SIGKILL, and then the job starts again.
    Raises CommandError when a worker ended by itself, and what the functions of `on_stop` raised.
    """
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.set_default_executor(ThreadPoolExecutor(default + SPARE_THREADS))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with app.with_connector(app.connector.get_worker_connector()).open_async() as opened:  # type: ignore[attr-defined]
        workers = [_worker(opened, "default", default), _worker(opened, "runs", runs)]
        await asyncio.wait([*workers, asyncio.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
        for worker in workers:
            worker.cancel()  # which it takes as a request to finish
        ends = await asyncio.gather(*(hook() for hook in on_stop), *workers, return_exceptions=True)
    if faults := [end for end in ends if isinstance(end, Exception)]:
        raise ExceptionGroup("The worker did not end well", faults)
    if not stop.is_set():
        raise CommandError("The worker ended by itself; the log says why.")


def _worker(opened: App, queue: str, concurrency: int) -> asyncio.Task[None]:
    """Each worker defers the ticks that are due; the table has room for one of each."""
    run = opened.run_worker_async(
        name=queue,
        queues=[queue],
        concurrency=concurrency,
        install_signal_handlers=False,
        shutdown_graceful_timeout=GRACE_SECONDS,
    )
    return asyncio.create_task(run)
