"""What is measured side by side: a site's pass-through and agent, and what they are compared with."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from agentsite.embedded.console import CommandError
from agentsite.embedded.home import open_home
from bench import litellm
from bench.processes import free_port
from bench.site import CHECKOUT, Site, budgeted, cached_agent, failing_first, prepare

START_SECONDS = 120.0
PROVIDER, BARE, LITELLM = "provider", "bare proxy", "LiteLLM"
PASS_THROUGH, AGENT, BESIDE = "pass-through", "agent", "pass-through beside"
SWITCH, HIT = "switch", "agent's cache hit"


class Target(NamedTuple):
    """Something that answers chat completions; the process trees of `server` and `database` work for it."""

    name: str
    base_url: str
    model: str
    key: str
    server: int
    database: int = 0


@contextmanager
def served(
    command: list[str], port: int, *, env: dict[str, str] | None = None, output: IO[bytes] | int | None = None
) -> Iterator[int]:
    """The process of a server, from when it listens. Raises CommandError when it does not."""
    process = subprocess.Popen(command, cwd=CHECKOUT, env=env, stdout=output, stderr=output)
    try:
        await_port(port, process)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def await_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
    raise CommandError(f"Error: {process.args!r} does not serve.")


@contextmanager
def provider() -> Iterator[Target]:
    port = free_port()
    with served([sys.executable, "-m", "bench.provider", str(port)], port) as pid:
        yield Target(PROVIDER, f"http://127.0.0.1:{port}/v1", "m", "none", pid)


@contextmanager
def bare_proxy(upstream: Target) -> Iterator[Target]:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--port", str(port), "--no-access-log", "--log-level", "warning"]
    env = {**os.environ, "UPSTREAM": upstream.base_url.removesuffix("/v1")}
    with served([*command, "bench.bare:application"], port, env=env) as pid:
        yield Target(BARE, f"http://127.0.0.1:{port}/v1", "m", "none", pid)


@contextmanager
def litellm_proxy(upstream: Target) -> Iterator[Target]:
    """Raises CommandError when it cannot be installed or does not start."""
    home, port = open_home(), free_port()
    environment = litellm.install(home)
    with tempfile.TemporaryDirectory() as folder, home.log("litellm").open("ab") as log:
        command, env = litellm.command(environment, Path(folder), upstream.base_url, port)
        with served(command, port, env=env, output=log) as pid:
            yield Target(LITELLM, f"http://127.0.0.1:{port}/v1", "m", litellm.KEY, pid)


@contextmanager
def references(upstream: Target) -> Iterator[list[Target]]:
    """Those that can be had; when LiteLLM cannot, that is said."""
    with ExitStack() as stack:
        found = [stack.enter_context(bare_proxy(upstream))]
        try:
            found.append(stack.enter_context(litellm_proxy(upstream)))
        except CommandError as error:
            print(f"Measuring without LiteLLM: {error}", flush=True)
        yield found


def of_site(where: Site, upstream: Target) -> list[Target]:
    """The provider's model by its name, an agent with it, one that caches its answers, and a route that fails first.

    All of them count against a hard budget of the tenant's.
    """
    prepare(where, upstream.base_url)
    budgeted(where)
    cached_agent(where, "bench-cached", "bench/m")
    failing_first(where, upstream.base_url, "bench-failing", "bench/m")
    models = {PASS_THROUGH: "bench/m", AGENT: "bench", HIT: "bench-cached", SWITCH: "route/bench-failing"}
    api = f"{where.base_url}/v1"
    return [Target(name, api, model, where.token, where.server, where.database) for name, model in models.items()]
