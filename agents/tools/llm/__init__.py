from agents.tools.llm.toolset import LlmToolset

__all__ = ["LlmToolset"]
