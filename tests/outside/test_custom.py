"""Code of tenants does not outlive the server that runs it."""

import os
import signal
import time

import httpx

from tests.outside.processes import below, is_alive, slots
from tests.outside.site import Server, Site, serving
from tests.runs.custom_code import body

SLEEPS = """
import time
from agentsite import call

def main(given):
    call("say", text="Good night.")
    time.sleep(250)
"""
SECONDS = 30


def test_a_killed_server_leaves_no_code_running(site: Site, uvicorn: Server) -> None:
    with serving(site) as server:
        with server.client() as http:
            made = http.post(
                "agents", json={**body(SLEEPS, timeout=300), "model": "scripted/default", "slug": "sleeper"}
            )
            assert made.status_code == 201, made.text
            assert http.patch("agents/sleeper/status", json={"status": "active"}).status_code == 200
            try:
                started = until_said(http, server)
            finally:
                os.kill(server.pid, signal.SIGKILL)
        deadline = time.monotonic() + SECONDS
        while left := [pid for pid in started if is_alive(pid)]:
            assert time.monotonic() < deadline, left
            time.sleep(0.02)
    with uvicorn.client() as http:  # nobody takes the run over here
        assert http.delete("sessions/night").status_code == 204


def until_said(http: httpx.Client, server: Server) -> list[int]:
    """The processes below the server while the code sleeps: the pool, and slots."""
    chat = {"model": "sleeper", "messages": [{"role": "user", "content": "Sleep"}], "stream": True}
    chat["metadata"] = {"session_id": "night"}
    with http.stream("POST", "chat/completions", json=chat) as response:
        next(line for line in response.iter_lines() if "Good night." in line)
        started = below(server.pid)
        assert slots(server.pid)
        return started
