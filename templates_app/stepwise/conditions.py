"""Conditions of steps: CEL expressions over the input, the metadata and the steps before."""

import re
from collections.abc import Collection, Iterator
from typing import Any

from core.cel import CelFault, Dialect
from templates_app.stepwise.texts import Values

MAX_VALUE = 20_000  # characters of the input and of each output that a condition sees
_CONDITIONS = Dialect(
    frozenset({"input", "metadata", "steps"}),
    ("metadata", "steps"),
    "condition",
    "metadata.tier, steps.draft.output or steps['my-step'].status",
)
# A reference to a step, any other use of `steps`, or a text, which is passed over whole.
_TEXTS = r"""'''.*?'''|\"\"\".*?\"\"\"|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_STEP = re.compile(
    rf"(?<![.\w])steps\s*(?:\.\s*(?P<plain>\w+)|\[\s*(?:'(?P<one>[^'\\]*)'|\"(?P<two>[^\"\\]*)\")\s*\])"
    rf"\s*(?:\.\s*(?P<field>\w+))?|(?P<other>(?<![.\w])steps\b)|{_TEXTS}",
    re.S,
)


def condition_faults(text: str, steps: Collection[str]) -> Iterator[str]:
    """What is wrong with a condition that may name these steps. It is compiled, and not worked out."""
    try:
        _CONDITIONS.check(text)
    except CelFault as fault:
        yield str(fault)
        return
    for found in _STEP.finditer(text):
        name = found["plain"] or found["one"] or found["two"]
        if found["other"]:
            yield "Write the name of a step as it is: steps.draft or steps['my-step']."
        elif name and name not in steps:
            yield f"No step '{name}' comes before this. Known: {', '.join(steps) or 'none'}."
        elif name and found["field"] not in ("output", "status"):
            yield f"A step has an output and a status: steps['{name}'].output."


def holds(text: str, values: Values) -> bool:
    """One that cannot be worked out, for example since a key of the metadata is missing, does not hold."""
    known: dict[str, Any] = {"input": values.input[:MAX_VALUE], "metadata": dict(values.metadata)}
    known["steps"] = {
        name: {"output": str(result["output"])[:MAX_VALUE], "status": result["status"]}
        for name, result in values.results.items()
    }
    return _CONDITIONS.holds(text, known)
