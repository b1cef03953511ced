"""The client that the MCP conformance runner tests: a toolset of the kind `mcp`, whose tools are called as models do.

python -m tests.toolsets.mcp.conformance_client URL, with MCP_CONFORMANCE_SCENARIO. Prints what the tools answer.
"""

import asyncio
import json
import os
import sys
from typing import Any

ARGUMENTS: dict[str, dict[str, Any]] = {"add_numbers": {"a": 5, "b": 3}}


async def main(url: str) -> None:
    from core.ids import uuid7
    from toolsets.base import ToolCallContext
    from toolsets.kinds.mcp.toolset import McpConfig, McpToolset
    from toolsets.toolbox import GrantedToolset, Toolbox, tool_index

    async def emit(result: Any) -> None:
        print(result.content)

    kind, config = McpToolset(), McpConfig(url=url)
    context = ToolCallContext(uuid7(), run_id=uuid7())
    learned = await kind.learn(config, context)
    tools = kind.learned_tools(config, learned)
    toolbox = Toolbox(tool_index([GrantedToolset("mcp", "1", tools)]), emit=emit, context=context)
    for tool in tools:
        arguments = json.dumps(ARGUMENTS.get(tool.name, {}))
        await toolbox.call({"id": "1", "function": {"name": tool.name, "arguments": arguments}})


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentsite.settings")
    os.environ["ALLOW_PRIVATE_TOOLS"] = "true"
    import django

    django.setup()
    asyncio.run(main(sys.argv[1]))
