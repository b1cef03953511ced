from toolsets.kinds.database.toolset import DatabaseToolset

__all__ = ["DatabaseToolset"]
