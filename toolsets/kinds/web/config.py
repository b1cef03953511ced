"""What a tenant sets of the kind, and what a call of its tool asks."""

from typing import Literal

from pydantic import Field

from toolsets.base import ToolArguments, ToolsetConfig
from toolsets.kinds.web.hosts import HostPattern

EXTRACT_SECONDS = 20  # of one page or PDF
ROBOTS_SECONDS = 10
KEEP_SECONDS = 5  # behind other writers to the workspace


class WebConfig(ToolsetConfig):
    allow_hosts: list[HostPattern] = Field(
        [],
        max_length=500,
        title="Only these hosts",
        description="Such as example.com or *.example.com (the hosts below it); empty: all that are not denied.",
    )
    deny_hosts: list[HostPattern] = Field(
        [], max_length=500, title="Never these hosts", description="Written alike; stronger than the hosts allowed."
    )
    respect_robots: bool = Field(
        True, title="Respect robots.txt", description="Refuse pages that their site closes to robots."
    )
    user_agent: str = Field(
        "",
        max_length=100,
        pattern=r"^[ -~]*$",
        title="User agent",
        description="Follows the word agentsite, such as (+https://example.com/bot).",
    )
    max_mb: int = Field(5, ge=1, le=25, title="Largest page", description="In megabytes, decompressed.")
    timeout: int = Field(20, ge=1, le=60, title="Time limit", description="Seconds for one page, redirects included.")
    keep: Literal["session", "tenant", "no"] = Field(
        "session",
        title="Keep pages",
        description="As they came, for a day, in the folder .tmp of the session's workspace or the tenant's, where a "
        "toolset of the kind files with the same scope finds them.",
    )
    quota_mb: int = Field(
        50,
        ge=1,
        le=10_000,
        title="Megabytes of the workspace",
        description="In all, its other files included, beyond which no page is kept.",
    )


class FetchUrl(ToolArguments):
    url: str = Field(max_length=4000, examples=["https://example.com/page"])
    start: int = Field(0, ge=0, description="Character of the text to begin at: `next_start` of the answer before.")
    max_chars: int = Field(20_000, ge=100, le=100_000, description="Characters of text to answer with.")
    links: bool = Field(False, description="Also list the page's links.")
