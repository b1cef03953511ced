"""An OpenAPI document at an address that a tenant gave."""

from urllib.parse import urlsplit

from core.fetch import FetchFailed, Limits, Request, fetcher
from core.net import AddressRefused
from toolsets.exceptions import ToolError

MAX_BYTES = 2_000_000
SECONDS = 30.0
TYPES = (
    *("application/json", "*+json", "application/yaml", "application/x-yaml", "*+yaml", "application/vnd.oai.openapi"),
    *("text/plain", "text/yaml", "text/x-yaml", "text/vnd.yaml", "application/octet-stream"),
)


async def fetched_document(url: str) -> dict[str, str]:
    """The text as `document`, and as `url` where it was found, without a query. Raises ToolError."""
    headers = {"Accept": "application/json, application/yaml, */*;q=0.1"}
    try:
        limits = Limits(max_bytes=MAX_BYTES, types=TYPES, seconds=SECONDS)
        answer = await fetcher().fetch(Request(url, headers=headers), limits)
    except (AddressRefused, FetchFailed) as error:
        raise ToolError(f"document_url: {error.message}") from None
    if not 200 <= answer.status < 300:
        raise ToolError(f"document_url: The server answered {answer.status}.")
    try:
        text = answer.body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ToolError("document_url: The document is no text in UTF-8.") from None
    return {"document": text, "url": urlsplit(answer.url)._replace(query="", fragment="").geturl()}
