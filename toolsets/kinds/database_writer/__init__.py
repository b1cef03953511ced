from toolsets.kinds.database_writer.toolset import DatabaseWriterToolset

__all__ = ["DatabaseWriterToolset"]
