"""Code that is looked at and never run: does it parse, and has it the function that shall be called?"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sandbox.jobs import Job, JobFailed, Language, run_job
from sandbox.outcome import plain

MAX_SOURCE = 1_000_000  # bytes, of a file or what a URL answers
PARSE_SECONDS = 30.0
Fault = tuple[str, str]  # code and message

# In the jail too: a parser that a stranger's text breaks breaks there.
_PYTHON = """
import ast

def parse(given):
    try:
        tree = ast.parse(given["source"])
    except SyntaxError as error:
        return {"syntax": f"{error.msg} (line {error.lineno})"}
    except (ValueError, MemoryError, RecursionError) as error:
        return {"syntax": str(error) or "it is nested too deep"}
    return {"functions": [each.name for each in tree.body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))]}
"""
# What a module imports is read and never run where one of its names cannot be linked.
_SCRIPT = """
const NEVER = "zzz_agentsite_reads_this_only";
const url = (language, source) => `data:application/${language};base64,${new TextEncoder().encode(source).toBase64()}`;

export async function parse({ source, language, entry }) {
  const exported = /(^|[;\\s}])export\\b/.test(source);
  const code = url(language, exported ? source : `${source}\\nexport { ${entry} };`);
  try {
    await import(url("javascript", `export { ${entry}, ${NEVER} } from "${code}";`));
  } catch (error) {
    const message = String(error?.message ?? error).replace(/data:[\\w\\/]+;base64,[\\w+\\/=.…]*/g, "main");
    if (message.includes(NEVER)) return {};
    const missing = message.includes(`'${entry}'`) && /export/i.test(message);
    return missing ? { missing } : { syntax: message.slice(0, 500) };
  }
}
"""


def inline_faults(source: str, language: Any, entry: Any) -> Iterator[Fault]:
    if not isinstance(entry, str):
        return
    if language == Language.PYTHON:
        yield from _python_faults(source, entry, language)
    elif language in (Language.JAVASCRIPT, Language.TYPESCRIPT):
        yield from _script_faults(source, entry, language)


def _python_faults(source: str, entry: str, language: str) -> Iterator[Fault]:
    """By the parser alone: nothing is compiled."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        yield "syntax", f"The code cannot be read: {error.msg} (line {error.lineno})"
    except (ValueError, MemoryError, RecursionError):
        yield "syntax", "The code cannot be read: it is nested too deep, or too large."
    else:
        functions = [each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
        if entry not in functions:
            yield _missing(entry, language)


def _script_faults(source: str, entry: str, language: str) -> Iterator[Fault]:
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
        yield _missing(entry, language)


async def faults(source: str, language: Language, entry: str, packages: tuple[Path, ...]) -> list[Fault]:
    """Of code that is published, by the parser of the runtime that will run it. Raises what `run_job` does."""
    if "\0" in source:
        return [("syntax", "The code holds a NUL character.")]
    python = language is Language.PYTHON
    job = Job(
        language,
        _PYTHON if python else _SCRIPT,
        entry_point="parse",
        input={"source": source, "language": language.value, "entry": entry},
        timeout=PARSE_SECONDS,
        packages=packages,
    )
    try:
        found = (await run_job(job)).value
    except JobFailed:  # the parser's memory, stack or time was too small for it
        return [("syntax", "The code cannot be read: it is nested too deep, or too large.")]
    if found.get("missing"):
        return [_missing(entry, language)]
    if syntax := found.get("syntax"):
        return [("syntax", f"The code cannot be read: {plain(syntax)}")]
    return [_missing(entry, language)] if python and entry not in found["functions"] else []


def _missing(entry: str, language: str) -> Fault:
    message = f"The code has no function '{entry}' at its top level."
    if language != Language.PYTHON:
        message += f" What is exported must have that name: `export function {entry}`, not `export default`."
    return "missing_entry_point", message
