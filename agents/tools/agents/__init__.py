from agents.tools.agents.toolset import AgentsToolset

__all__ = ["AgentsToolset"]
