from toolsets.kinds.web.toolset import WebToolset

__all__ = ["WebToolset"]
