from toolsets.kinds.files.toolset import FilesToolset

__all__ = ["FilesToolset"]
