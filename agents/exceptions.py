from core.errors import Conflict, NotFound, Unavailable


class AgentNotFound(NotFound):
    code = "agent_not_found"


def agent_not_found(ref: str) -> AgentNotFound:
    return AgentNotFound(f"No agent '{ref}'.")


def version_not_found(ref: str, number: int) -> AgentNotFound:
    return AgentNotFound(f"The agent '{ref}' has no version {number}.", code="version_not_found")


class AgentPaused(Conflict):
    code = "agent_paused"


class AgentUnusable(Unavailable):
    """What the agent is made of is no longer on this server."""

    code = "agent_unusable"
