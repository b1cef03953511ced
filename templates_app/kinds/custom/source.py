"""Code that is looked at and never run: does it parse, and has it the function that shall be called?"""

import ast
import re
from collections.abc import Iterator
from typing import Any

from sandbox.jobs import Job, Language, run_job

MAX_SOURCE = 1_000_000  # bytes, of a file or what a URL answers
PARSE_SECONDS = 30.0
Fault = tuple[str, str]  # code and message
MISSING = "missing_entry_point"

# In the jail too: a parser that a stranger's text breaks breaks there.
_PYTHON = """
import ast

def parse(source):
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return {"syntax": f"{error.msg} (line {error.lineno})"}
    except (ValueError, MemoryError, RecursionError) as error:
        return {"syntax": str(error) or "it is nested too deep"}
    return {"functions": [each.name for each in tree.body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))]}
"""
_SCRIPT = """
import { stripTypeScriptTypes } from "node:module";

export function parse(source) {
  try {
    stripTypeScriptTypes(source, { mode: "transform" });
    return {};
  } catch (error) {
    return { syntax: String(error.message).slice(0, 500) };
  }
}
"""


def inline_faults(source: str, language: Any, entry: Any) -> Iterator[Fault]:
    if not isinstance(entry, str) or "\0" in source:
        if "\0" in source:
            yield "syntax", "The code holds a NUL character."
    elif language == Language.PYTHON:
        yield from _python_faults(source, entry)
    elif language in (Language.JAVASCRIPT, Language.TYPESCRIPT):
        yield from _script_faults(source, entry)


def _python_faults(source: str, entry: str) -> Iterator[Fault]:
    """By the parser alone: nothing is compiled."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        yield "syntax", f"The code is no Python: {error.msg} (line {error.lineno})."
    except (ValueError, MemoryError, RecursionError):
        yield "syntax", "The code is nested too deep to be read."
    else:
        functions = [each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
        if entry not in functions:
            yield MISSING, f"The code has no function '{entry}' at its top level."


def _script_faults(source: str, entry: str) -> Iterator[Fault]:
    """What looks like the function's definition is taken for it."""
    import re2

    name = re.escape(entry)
    definitions = (
        rf"\bfunction\s*\*?\s*{name}\s*[(<]",
        rf"\b(const|let|var)\s+{name}\s*[:=]",
        rf"\bexport\s*\{{(?:[^}}]*[\s,])?{name}[\s,}}]",
        *([r"\bexport\s+default\b"] if entry == "default" else []),
    )
    if not any(re2.search(pattern, source) for pattern in definitions):
        yield MISSING, f"The code has no function '{entry}' at its top level."


async def faults(source: str, language: Language, entry: str) -> list[Fault]:
    """Of code that is published, by the parser of the runtime that will run it. Raises what `run_job` does."""
    if "\0" in source:
        return [("syntax", "The code holds a NUL character.")]
    python = language is Language.PYTHON
    job = Job(
        Language.PYTHON if python else Language.JAVASCRIPT,
        _PYTHON if python else _SCRIPT,
        entry_point="parse",
        input=source,
        timeout=PARSE_SECONDS,
    )
    found = (await run_job(job)).value
    if syntax := found.get("syntax"):
        return [("syntax", f"The code is no {language.value}: {syntax}.")]
    if not python:
        return list(_script_faults(source, entry))
    return [] if entry in found["functions"] else [(MISSING, f"The code has no function '{entry}' at its top level.")]
