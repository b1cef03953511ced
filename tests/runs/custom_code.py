"""The same agent written in each language, and how tests make agents of code."""

from typing import Any

from tests.conftest import Actor

# Asks the model with its tools, makes the call that it asked for and one of its own, is refused one that was not
# granted, tells its progress, and answers with what it was given and got.
PYTHON = """
from agentsite import HostError, call


def main(given):
    call("event", name="progress", value={"step": 1})
    asked = call("model", messages=given["messages"], tools=True)["message"]["tool_calls"][0]
    name = asked["function"]["name"]
    looked = call("tool", id=asked["id"], name=name)
    own = call("tool", name="look", arguments={"name": "the key"})
    try:
        call("tool", name="current_time", arguments={})
        refused = ""
    except HostError as error:
        refused = str(error)
    tools = [tool["function"]["name"] for tool in call("tools")]
    facts = [looked, own, refused, ",".join(tools), given["instructions"], given["metadata"]["plan"]]
    return {"content": " | ".join(facts)}
"""
JAVASCRIPT = """
const { call, HostError } = agentsite;

export async function main(given) {
  await call("event", { name: "progress", value: { step: 1 } });
  const asked = (await call("model", { messages: given.messages, tools: true })).message.tool_calls[0];
  const looked = await call("tool", { id: asked.id, name: asked.function.name });
  const own = await call("tool", { name: "look", arguments: { name: "the key" } });
  let refused = "";
  try {
    await call("tool", { name: "current_time", arguments: {} });
  } catch (error) {
    if (error instanceof HostError) refused = error.message;
  }
  const tools = (await call("tools")).map((tool) => tool.function.name);
  return { content: [looked, own, refused, tools.join(","), given.instructions, given.metadata.plan].join(" | ") };
}
"""
TYPESCRIPT = """
import { call, HostError } from "agentsite";

enum Word { Key = "the key" }
type Given = { messages: unknown[]; instructions: string; metadata: Record<string, string> };

export async function main(given: Given): Promise<{ content: string }> {
  await call("event", { name: "progress", value: { step: 1 } });
  const asked = (await call("model", { messages: given.messages, tools: true })).message.tool_calls[0];
  const looked: string = await call("tool", { id: asked.id, name: asked.function.name });
  const own: string = await call("tool", { name: "look", arguments: { name: Word.Key } });
  let refused = "";
  try {
    await call("tool", { name: "current_time", arguments: {} });
  } catch (error) {
    if (error instanceof HostError) refused = error.message;
  }
  const tools = (await call("tools")).map((tool: { function: { name: string } }) => tool.function.name);
  return { content: [looked, own, refused, tools.join(","), given.instructions, given.metadata.plan].join(" | ") };
}
"""
SOURCES = {"python": PYTHON, "javascript": JAVASCRIPT, "typescript": TYPESCRIPT}


def config(source: str, language: str = "python", **fields: Any) -> dict[str, Any]:
    return {"type": "inline", "content": source, "entryPoint": "main", "language": language, **fields}


def body(source: str, language: str = "python", *, toolsets: Any = (), **fields: Any) -> dict[str, Any]:
    return {
        "slug": "coded",
        "name": "Coded",
        "template": "custom",
        "model": "scripted/default",
        "instructions": "Be brief.",
        "toolsets": list(toolsets),
        "config": config(source, language, **fields),
    }


async def make(owner: Actor, *args: Any, **fields: Any) -> Any:
    """The agent, active."""
    response = await owner.apost("agents", body(*args, **fields))
    assert response.status_code == 201, response.content
    data = b'{"status": "active"}'
    path = "/v1/agents/coded/status"
    active = await owner.ahttp.generic("PATCH", path, data, "application/json", headers=owner.headers)
    assert active.status_code == 200
    return response.json()
