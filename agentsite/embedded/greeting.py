"""What start.py shows once the server answers: addresses, the sign-in, a curl line, one streamed answer."""

import json
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agentsite.embedded.console import say

QUESTION = "Say hello to a new user in one short sentence."
ANSWER_SECONDS = 60
Headers = Mapping[str, str]
NO_HEADERS: Headers = {}


def announce(base_url: str, demo: dict[str, Any], logs: Path) -> None:
    admin = demo["admin"]
    say()
    say(f"Admin      {base_url}/admin/   user {admin['username']}, password {admin['password']}")
    people = ", ".join(f"{person['username']} / {person['password']}" for person in demo["people"])
    say(f"Chat       {base_url}/chat/    user / password: {people}")
    say(f"Platform   {base_url}/platform/")
    say(f"API docs   {base_url}/v1/docs/")
    say(f"API key    {demo['tenants'][0]['api_key']}   (tenant {demo['tenants'][0]['slug']})")
    say(f"Logs       {logs}")
    say("Try it:")
    say(curl_line(base_url, demo["tenants"][0]["api_key"]))
    say()


def curl_line(base_url: str, api_key: str) -> str:
    headers = (f"Authorization: Bearer {api_key}", "Content-Type: application/json")
    parts = ["curl", "-N", f"{base_url}/v1/chat/completions"]
    for header in headers:
        parts += ["-H", header]
    return shlex.join([*parts, "-d", json.dumps(_request_body("Hello! Who are you?"))])


def ask(base_url: str, api_key: str) -> None:
    """Prints the demo agent's answer as it arrives. Raises OSError or ValueError when there is none."""
    say(f"You: {QUESTION}")
    say("assistant: ", end="")
    for token in _answer(base_url, api_key):
        say(token, end="")
    say("\n")


def _answer(base_url: str, api_key: str) -> Iterator[str]:
    headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
    with _request(base_url, "POST", "/v1/chat/completions", json.dumps(_request_body(QUESTION)), headers) as response:
        for line in response:
            if line.startswith(b"data: {"):
                yield _token(json.loads(line[6:]))


def _token(chunk: dict[str, Any]) -> str:
    if "error" in chunk:
        raise ValueError(chunk["error"]["message"])
    choices = chunk["choices"]
    return (choices[0]["delta"].get("content") or "") if choices else ""


@contextmanager
def _request(
    base_url: str, method: str, path: str, body: str = "", headers: Headers = NO_HEADERS
) -> Iterator[HTTPResponse]:
    """Straight to this machine: no proxy of the environment is asked. Raises OSError for any status but 200."""
    address = urlsplit(base_url)
    connection = HTTPConnection(address.hostname or "", address.port, timeout=ANSWER_SECONDS)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        if response.status != HTTPStatus.OK:
            raise OSError(f"status {response.status}: {response.read(500).decode(errors='replace')}")
        yield response
    except HTTPException as error:
        raise OSError(f"the connection broke ({error!r})") from error
    finally:
        connection.close()


def _request_body(text: str) -> dict[str, Any]:
    return {"model": "assistant", "stream": True, "messages": [{"role": "user", "content": text}]}


def answers(base_url: str) -> bool:
    """Is the server up?"""
    try:
        with _request(base_url, "GET", "/v1/health"):
            return True
    except OSError:
        return False
