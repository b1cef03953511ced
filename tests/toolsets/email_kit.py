"""Calls of the e-mail tools, as the toolbox makes them."""

import json
from collections.abc import Mapping
from typing import Any

from core.ids import uuid7
from tests.toolsets.mail_servers import PASSWORD, USER
from toolsets.base import Tool, ToolCallContext
from toolsets.kinds.email.toolset import EmailConfig
from toolsets.registry import toolset_kinds

SECRETS = {"imap_password": PASSWORD, "smtp_password": PASSWORD}


def tools(config: Mapping[str, Any]) -> dict[str, Tool]:
    made = toolset_kinds()["email"].tools(EmailConfig.model_validate_json(json.dumps(config), strict=True))
    return {tool.name: tool for tool in made}


async def call(config: Mapping[str, Any], name: str, *, secrets: Mapping[str, str] = SECRETS, **given: Any) -> Any:
    """`sender` stands for the argument `from`."""
    tool = tools(config)[name]
    if "sender" in given:
        given["from"] = given.pop("sender")
    arguments = tool.arguments.model_validate_json(json.dumps(given))
    return await tool.call(arguments, ToolCallContext(uuid7(), secrets=secrets))


def imap_config(port: int, security: str = "none", user: str = USER, **more: Any) -> dict[str, Any]:
    server = {"host": "localhost", "port": port, "security": security, "user": user, **more}
    return {"imap": server, "timeout": 10}


def smtp_config(port: int, security: str = "none", **more: Any) -> dict[str, Any]:
    server = {"host": "localhost", "port": port, "security": security, "user": USER}
    server |= {"from_address": "bot@example.com", "from_name": "Bot"}
    return {"smtp": server, "recipients": ["*@example.com", "bob@other.example"], "timeout": 10, **more}
