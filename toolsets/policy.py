"""What a tenant sets around the tools of a toolset, whatever its kind."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from pydantic import ConfigDict, Field

from core.validation import parse_config
from toolsets.base import Risk, Tool, ToolsetConfig

Approval = Literal["default", "never", "after_untrusted", "side_effects", "always"]
Approver = Literal["member", "operator", "admin"]


class Policy(ToolsetConfig):
    model_config = ConfigDict(extra="forbid", title="Policy")

    only: list[str] | None = Field(None, max_length=200, title="Only these tools", description="None offers them all.")
    prefix: str = Field(
        "", max_length=32, pattern=r"^[a-zA-Z0-9_-]*$", title="Prefix", description="Before the name of each tool."
    )
    approval: Approval = Field(
        "default",
        title="Approval",
        description="Which calls a person must approve: those of tools that ask for it themselves (default), none, all "
        "that change something or reach outside (side_effects), these as soon as the run has read what comes from "
        "outside, such as a web page (after_untrusted), or all.",
    )
    approver: Approver = Field("member", title="Who approves", description="The lowest role that may.")
    calls_per_run: int | None = Field(None, ge=1, le=10_000, title="Calls in one run")
    calls_per_minute: int | None = Field(
        None, ge=1, le=100_000, title="Calls a minute", description="Of all runs in one server process."
    )
    timeout: float | None = Field(None, ge=0.1, le=600, title="Timeout", description="Seconds, where a tool has more.")
    max_result_kb: int = Field(200, ge=1, le=1000, title="Longest result", description="KB that the model is shown.")


def policy_of(stored: dict[str, Any]) -> Policy:
    """Raises pydantic's ValidationError."""
    return parse_config(Policy, stored)


def applied(policy: Policy, tools: Sequence[Tool]) -> list[Tool]:
    """The tools as agents are offered them."""
    return [_applied(policy, tool) for tool in tools if policy.only is None or tool.name in policy.only]


def _applied(policy: Policy, tool: Tool) -> Tool:
    return replace(
        tool,
        name=policy.prefix + tool.name,
        timeout=min(tool.timeout, policy.timeout or tool.timeout),
        approval=_asks(policy.approval, tool),
    )


def _asks(approval: Approval, tool: Tool) -> bool:
    if approval == "default":
        return tool.approval
    return approval == "always" or (approval == "side_effects" and tool.risk != Risk.READ)
