from toolsets.kinds.mcp.toolset import McpToolset

__all__ = ["McpToolset"]
