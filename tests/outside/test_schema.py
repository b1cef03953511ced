"""Every operation of the published schema, by generated requests; most of them name objects that exist."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.outside.site import CHECKOUT, Server

PROGRAM = Path(sys.executable).with_name("schemathesis")
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
SEED = 20_261_121
EXAMPLES = 15
HOOKS = "tests.outside.schemathesis_hooks"


def made(http: httpx.Client) -> dict[str, list[Any]]:
    """The objects that requests may name, by their ids since slugs get changed."""
    agents, providers, toolsets, sessions, keys, budgets, prices, widgets = [], [], [], [], [], [], [], []
    for number in range(2):
        slug = f"fuzz-{number}"
        agent = {"slug": slug, "name": slug, "template": "simple", "model": "scripted/default"}
        agents.append(create(http, "agents", agent))
        providers.append(create(http, "providers", {"slug": slug, "kind": "scripted"}))
        toolsets.append(create(http, "toolsets", {"slug": slug, "name": slug, "kind": "time"}))
        sessions.append(create(http, "sessions", {"external_id": slug}))
        keys.append(create(http, "api-keys", {"name": slug, "role": "viewer"}))
        widget = {"name": slug, "agent": "scripted", "origins": ["https://shop.example"]}
        widgets.append(create(http, "publishable-keys", widget))
        budgets.append(create(http, "budgets", {"slug": slug, "scope": "tenant", "amount": 1000}))
        prices.append(create(http, "prices", {"model": slug, "input": 1, "output": 2}))
    shared, username = sessions[0], http.get("members").json()["data"][0]["username"]
    invited = http.post(f"sessions/{shared}/invitations", json={"role": "viewer", "audience": "anyone"}).json()
    answer = http.post("chat/completions", json={"model": "scripted", "messages": [{"role": "user", "content": "hi"}]})
    return {
        "agents": agents[:1],
        "spare_agents": agents[1:],
        "talkers": ["scripted", "assistant"],
        "numbers": [1],
        "providers": providers[:1],
        "spare_providers": providers[1:],
        "provider_kinds": ["scripted", "openai"],
        "toolsets": toolsets[:1],
        "spare_toolsets": toolsets[1:],
        "toolset_kinds": ["time"],
        "sessions": [answer.headers["X-Session-Id"], sessions[0]],
        "spare_sessions": sessions[1:],
        "participants": [create(http, f"sessions/{shared}/participants", {"user": username, "role": "member"})],
        "invitations": [invited["id"]],
        "usernames": [username],
        "tokens": [invited["token"]],
        "runs": [answer.headers["X-Run-Id"]],
        "keys": keys,
        "publishable_keys": widgets[:1],
        "spare_publishable_keys": widgets[1:],
        "budgets": budgets[:1],
        "spare_budgets": budgets[1:],
        "prices": prices[:1],
        "priced_providers": ["", "scripted"],
        "spare_prices": prices[1:],
        "templates": ["simple", "conversation"],
        "members": [http.get("members").json()["data"][0]["id"]],
        "models": ["scripted/default"],
        "chat_models": ["scripted", "assistant", "scripted/default"],
    }


def create(http: httpx.Client, path: str, body: dict[str, Any]) -> str:
    response = http.post(path, json=body)
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


@pytest.mark.timeout(600)
def test_the_schema_holds(uvicorn: Server, tmp_path: Path) -> None:
    with uvicorn.client("globex") as http:
        existing = json.dumps(made(http))
    env = {"PATH": os.environ["PATH"], "EXISTING": existing, "SCHEMATHESIS_HOOKS": HOOKS, "PYTHONPATH": str(CHECKOUT)}
    fixed = ["--seed", str(SEED), "--max-examples", str(EXAMPLES), "--phases", "examples,fuzzing"]
    command = [str(PROGRAM), "run", f"{uvicorn.api}/openapi.json", "--checks", CHECKS, *fixed]
    # Of random names few can stand in a path; those that are left count.
    command += ["--suppress-health-check", "filter_too_much"]
    command += ["-H", f"Authorization: Bearer {uvicorn.site.key('globex')}", "--request-timeout", "20"]
    command += [
        "--generation-allow-x00",
        "false",
    ]  # a NUL anywhere would hide what else is wrong: test_bad_input has it
    result = subprocess.run([*command, "--continue-on-failure"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-15_000:] + result.stderr[-2000:]
    print(result.stdout[-3000:])
