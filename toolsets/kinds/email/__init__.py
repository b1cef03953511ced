from toolsets.kinds.email.toolset import EmailToolset

__all__ = ["EmailToolset"]
