"""What a template's config needs of the agent's model and toolsets, compared with what they are known to be."""

from collections.abc import Iterable
from typing import Any

from llm.capabilities import WORDS
from llm.catalog.matrix import Capabilities
from templates_app.requirements import Requirements
from templates_app.validation import Fault, fault
from toolsets.models import Toolset

_WORDS = {**WORDS, "tools": "calls of tools", "json_schema": "answers by a JSON schema", "reasoning": "reasoning"}


def model_faults(needs: Requirements, able: Capabilities, model: str) -> tuple[list[Fault], list[Fault]]:
    """Errors for what the model is known to lack, warnings for what is not known of it."""
    errors, warnings = [], []
    for need in sorted(needs.model):
        if getattr(able, need) is False:
            message = f"This configuration needs a model with {_WORDS[need]}, which '{model}' lacks."
            errors.append(fault("model", "unsupported_by_model", message))
        elif getattr(able, need) is None:
            message = f"This configuration needs a model with {_WORDS[need]}; whether '{model}' has it is not known."
            warnings.append(fault("model", "capability_unverified", message))
    return errors, warnings


def toolset_faults(needs: Requirements, granted: Iterable[Toolset]) -> list[Fault]:
    """One for each kind of which no toolset is granted."""
    kinds = {toolset.kind for toolset in granted}
    return [
        fault("toolsets", "toolset_required", f"This configuration needs a toolset of the kind '{kind}': grant one.")
        for kind in sorted(needs.toolsets - kinds)
    ]


def best_of(models: Iterable[Capabilities]) -> Capabilities:
    """What a route can do: what any of its models can; not known while that of one model is not."""
    known = list(models)
    best: dict[str, Any] = {
        name: _best([getattr(model, name) for model in known]) for name in (*_WORDS, "output_tokens")
    }
    return Capabilities(**best) if known else Capabilities()


def _best(values: list[Any]) -> Any:
    if any(value is True for value in values):
        return True
    return None if None in values else max(values)
