from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from toolsets.base import Risk, Tool, ToolCallContext, ToolsetKind
from toolsets.kinds.web.config import EXTRACT_SECONDS, KEEP_SECONDS, ROBOTS_SECONDS, FetchUrl, WebConfig

_QUEUE_SECONDS = 10  # behind other pages that are being read


async def _fetch_url(config: WebConfig, arguments: FetchUrl, context: ToolCallContext) -> dict[str, Any]:
    from toolsets.kinds.web.reader import read_page  # aiohttp: a quarter of a second that the start need not pay

    return await read_page(arguments, config, context)


class WebToolset(ToolsetKind):
    slug = "web"
    title = "Web"
    description = "Reads web pages, PDFs, JSON and text at public addresses."
    Config: ClassVar[type[WebConfig]] = WebConfig

    def tools(self, config: WebConfig) -> Sequence[Tool]:
        return [
            Tool(
                "fetch_url",
                "The text of a web page, PDF, JSON or text file at an http(s) URL, in parts if it is long.",
                FetchUrl,
                partial(_fetch_url, config),
                risk=Risk.EGRESS,
                timeout=float(config.timeout + ROBOTS_SECONDS + EXTRACT_SECONDS + KEEP_SECONDS + _QUEUE_SECONDS),
                untrusted=True,
                repeatable=True,
            )
        ]
