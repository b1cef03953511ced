from toolsets.kinds.code.toolset import CodeToolset

__all__ = ["CodeToolset"]
