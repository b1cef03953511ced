from toolsets.kinds.http.toolset import HttpToolset

__all__ = ["HttpToolset"]
