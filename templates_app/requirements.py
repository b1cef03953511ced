"""What a template's config needs besides itself: of the model, of the granted toolsets, of the server."""

from dataclasses import dataclass, field

from sandbox.client import expected_level

# Features of the capability matrix (llm/catalog/matrix.py) that a config may ask of a model.
MODEL_NEEDS = ("tools", "json_schema", "vision", "audio", "documents", "reasoning")
SANDBOX_LEVELS = (1, 2)  # 1: a jail of its own namespaces; 2: system call and file rules alone


@dataclass(frozen=True)
class Requirements:
    """`model` names capabilities; `toolsets` names kinds, and of each a toolset must be granted; `sandbox` is the
    weakest level of sandbox that will do (None: no code is run).
    """

    model: frozenset[str] = field(default_factory=frozenset)
    toolsets: frozenset[str] = field(default_factory=frozenset)
    sandbox: int | None = None

    def __post_init__(self) -> None:
        unknown = sorted(set(self.model) - set(MODEL_NEEDS))
        if unknown:
            raise ValueError(f"Unknown capability {unknown[0]}; known: {', '.join(MODEL_NEEDS)}.")
        if self.sandbox not in (None, *SANDBOX_LEVELS):
            raise ValueError("sandbox must be 1, 2 or None.")


def sandbox_fault(needed: int | None) -> str:
    """Why this server cannot run what needs that level; "" when it can."""
    if needed is None:
        return ""
    level = expected_level()
    if level is None:
        return "This configuration runs code, and this server runs none: SANDBOX_LEVEL on the server turns it on."
    if level > needed:
        return f"This configuration needs a sandbox of level {needed}; this server's is of level {level}."
    return ""
