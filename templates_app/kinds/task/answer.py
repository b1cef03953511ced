"""What a task answers: of its steps in the order of the config."""

from collections.abc import Mapping
from typing import Any

import orjson

from templates_app.kinds.task.config import TaskConfig, TaskStep
from templates_app.stepwise.journal import Result

_FIELDS = ("status", "output", "attempts", "ms", "error")


def answer_of(config: TaskConfig, results: Mapping[str, Result]) -> str:
    match config.outputFormat:
        case "json":
            return orjson.dumps(_document(config, results), option=orjson.OPT_INDENT_2).decode()
        case "markdown":
            return "\n\n".join(_section(step, results[step.name]) for step in config.steps)
    needed = {name for step in config.steps for name in step.depends_on}
    last = [results[step.name] for step in config.steps if step.name not in needed]
    said = [as_text(result["output"]) for result in last if result["status"] == "ok"]
    undone = [f"- {step.name}: {_why(results[step.name])}" for step in config.steps if not _is_ok(results[step.name])]
    return "\n\n".join([*said, *(["Not all steps were done:\n" + "\n".join(undone)] if undone else [])])


def as_text(output: Any) -> str:
    return output if isinstance(output, str) else orjson.dumps(output, option=orjson.OPT_INDENT_2).decode()


def _is_ok(result: Result) -> bool:
    return bool(result["status"] == "ok")


def _document(config: TaskConfig, results: Mapping[str, Result]) -> dict[str, Any]:
    done = sum(_is_ok(result) for result in results.values())
    steps = [{"name": step.name, **{name: results[step.name].get(name) for name in _FIELDS}} for step in config.steps]
    return {"status": "ok" if done == len(steps) else "partial" if done else "failed", "steps": steps}


def _section(step: TaskStep, result: Result) -> str:
    if not _is_ok(result):
        return f"## {step.name}\n\n**Not done**: {_why(result)}"
    text = as_text(result["output"])
    return f"## {step.name}\n\n" + (f"```json\n{text}\n```" if step.output_schema is not None else text)


def _why(result: Result) -> str:
    error = result["error"]
    tried = f" ({result['attempts']} attempts)" if result["attempts"] > 1 else ""
    return f"{result['status']}{tried}, {error['code']}: {error['message']}"
