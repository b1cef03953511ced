from toolsets.kinds.time.toolset import TimeToolset

__all__ = ["TimeToolset"]
