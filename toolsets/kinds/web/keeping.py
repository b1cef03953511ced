"""Pages as they came, kept in a workspace for tools that read files."""

import asyncio
import hashlib
import logging
import re
import threading
from urllib.parse import urlsplit

from core.fetch import Answer
from toolsets.base import ToolCallContext
from toolsets.exceptions import ToolError
from toolsets.kinds.web.config import KEEP_SECONDS, WebConfig
from toolsets.workspace import MB, TEMPORARY, Limits, in_thread, workspace_of

logger = logging.getLogger(__name__)
_ENDINGS = {
    "text/html": "html",
    "application/xhtml+xml": "html",
    "application/pdf": "pdf",
    "application/json": "json",
    "application/xml": "xml",
    "text/xml": "xml",
    "text/csv": "csv",
    "text/markdown": "md",
}


async def kept(answer: Answer, config: WebConfig, context: ToolCallContext) -> dict[str, str]:
    """`file` is its path in the workspace, the same for the same address. `not_kept` says why there is none; nothing is
    said where no workspace is wanted, or where the caller has none.
    """
    if config.keep == "no" or (config.keep == "session" and not (context.session_id or context.run_id)):
        return {}
    path = _path(answer)
    workspace = workspace_of(context, config.keep, Limits(config.quota_mb * MB, config.max_mb * MB))

    def write(abandoned: threading.Event) -> None:
        workspace.change(path, lambda old: answer.body, abandoned)

    try:
        async with asyncio.timeout(KEEP_SECONDS):
            await in_thread(write)
    except ToolError as error:
        return {"not_kept": str(error)}
    except TimeoutError:
        return {"not_kept": "Others were writing to the workspace."}
    except OSError:
        logger.exception("A page could not be kept")
        return {"not_kept": "The server could not write it."}
    return {"file": path}


def _path(answer: Answer) -> str:
    host = re.sub(r"[^a-z0-9.-]+", "_", (urlsplit(answer.url).hostname or "").lower()).strip(".")[:60]
    name = f"{host}-{hashlib.sha256(answer.url.encode()).hexdigest()[:12]}"
    return f"{TEMPORARY}/{name}.{_ENDINGS.get(answer.content_type, 'txt')}"
