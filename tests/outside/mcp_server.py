"""An MCP server made with the official Python package: python -m tests.outside.mcp_server PORT TOKEN.

Who asks without the token is refused. It has state, and answers by events.
"""

import sys
from typing import Any

import uvicorn
from mcp.server.fastmcp import Context, FastMCP

server = FastMCP("shop")
basket: dict[int, list[str]] = {}


@server.tool(annotations={"readOnlyHint": True})
def price(fruit: str, amount: int = 1) -> dict[str, float]:
    """What fruit costs."""
    if fruit == "durian":
        raise ValueError("No durians here.")
    return {"price": 1.5 * amount}


@server.tool()
async def put(fruit: str, context: Context) -> list[str]:
    """Puts a fruit into the basket of this session, and answers what is in it."""
    await context.report_progress(1, 2)
    await context.info("putting")
    found = basket.setdefault(id(context.session), [])
    found.append(fruit)
    return found


@server.resource("shop://opening-hours")
def opening_hours() -> str:
    """When the shop is open."""
    return "9 to 5"


@server.prompt()
def order(fruit: str) -> str:
    """Orders fruit."""
    return f"Please order {fruit}."


class Keyed:
    def __init__(self, application: Any, token: str) -> None:
        self._application = application
        self._sent = f"Bearer {token}".encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and dict(scope["headers"]).get(b"authorization") != self._sent:
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await self._application(scope, receive, send)


if __name__ == "__main__":
    port, token = int(sys.argv[1]), sys.argv[2]
    uvicorn.run(Keyed(server.streamable_http_app(), token), host="127.0.0.1", port=port, log_level="warning")
