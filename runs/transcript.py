"""What a run's events add up to: the messages that it said, and what it left open in the event grammar."""

from collections.abc import Iterable
from typing import Any

from runs.events import Event, restart_of, run_started

Message = dict[str, Any]
Fields = tuple[str, dict[str, Any]]


class Transcript:
    """Feed it the events of a run in order. `messages` are complete, in OpenAI's shape, with the ids of events."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._said: dict[str, Message] = {}  # by message id, in the order of their beginnings
        self._calls: dict[str, dict[str, Any]] = {}
        self._again: dict[str, Any] = {}  # what RUN_STARTED tells once more when the run goes on
        self._open: dict[str, Fields] = {}  # what has begun, with the event that ends it
        self._of_steps: set[str] = set()  # ids of messages that are no answer to the caller
        for event in events:
            self.add(event)

    def add(self, event: Event) -> None:
        data = event.data
        match event.type:
            case "RUN_FINISHED" if event.is_interrupt:
                self._open["run"] = ("RUN_STARTED", run_started(data["threadId"], data["runId"], **self._again))
            case "RUN_STARTED":
                about = {
                    name: data["metadata"][name] for name in ("actor", "agent") if name in data.get("metadata", {})
                }
                self._again = {"metadata": about} if about else {}
                self._open.pop("run", None)
            case "TEXT_MESSAGE_START":
                self._message(data["messageId"])
                if step_of(data):
                    self._of_steps.add(data["messageId"])
                self._open[data["messageId"]] = ("TEXT_MESSAGE_END", {"messageId": data["messageId"]})
            case "TEXT_MESSAGE_CONTENT":
                message = self._message(data["messageId"])
                message["content"] = (message["content"] or "") + data["delta"]
            case "REASONING_START":
                self._open[data["messageId"]] = ("REASONING_END", {"messageId": data["messageId"]})
            case "REASONING_MESSAGE_START":
                name = f"{data['messageId']} said"
                self._open[name] = ("REASONING_MESSAGE_END", {"messageId": data["messageId"]})
            case "REASONING_MESSAGE_END":
                self._open.pop(f"{data['messageId']} said", None)
            case "TOOL_CALL_START":
                self._call(data)
            case "TOOL_CALL_ARGS":
                self._calls[data["toolCallId"]]["function"]["arguments"] += data["delta"]
            case "TOOL_CALL_RESULT":
                answer = {"role": "tool", "tool_call_id": data["toolCallId"], "content": data["content"]}
                self._said[data["messageId"]] = answer | tool_outcome((data.get("metadata") or {}).get("error"))
            case "CUSTOM" if data["name"] == "heard":
                for place, message in enumerate(data["value"]["messages"]):
                    self._said[f"{data['value']['run_id']} {place}"] = message
            case "CUSTOM" if data["name"] == "step_failed":
                for message_id in data["metadata"]["cut"]:
                    self._said.pop(message_id, None)
            case "STEP_STARTED":
                self._open[f"step {data['stepName']}"] = ("STEP_FINISHED", {"stepName": data["stepName"]})
            case "STEP_FINISHED":
                self._open.pop(f"step {data['stepName']}", None)
            case "TEXT_MESSAGE_END" | "REASONING_END":
                self._open.pop(data["messageId"], None)
            case "TOOL_CALL_END":
                self._open.pop(data["toolCallId"], None)

    def _message(self, id: str) -> Message:
        return self._said.setdefault(id, {"role": "assistant", "content": None})

    def _call(self, data: dict[str, Any]) -> None:
        call = {
            "id": data["toolCallId"],
            "type": "function",
            "function": {"name": data["toolCallName"], "arguments": ""},
        }
        self._calls[data["toolCallId"]] = call
        self._open[data["toolCallId"]] = ("TOOL_CALL_END", {"toolCallId": data["toolCallId"]})
        self._message(data.get("parentMessageId") or data["toolCallId"]).setdefault("tool_calls", []).append(call)

    @property
    def messages(self) -> list[Message]:
        return [{"id": id, **message} for id, message in self._said.items() if not self._is_open(id, message)]

    @property
    def ends_in_step(self) -> bool:
        """Is the last of the messages one of a step's, and no answer to the caller?"""
        ids = [id for id, message in self._said.items() if not self._is_open(id, message)]
        return bool(ids) and ids[-1] in self._of_steps

    @property
    def partial(self) -> Message | None:
        """The text of the answers that were cut short."""
        cut = [message["content"] for id, message in self._said.items() if self._is_open(id, message)]
        text = "\n\n".join(content for content in cut if content)
        return {"role": "assistant", "content": text} if text else None

    def _is_open(self, id: str, message: Message) -> bool:
        return id in self._open or any(call["id"] in self._open for call in message.get("tool_calls") or ())

    def endings(self) -> list[Fields]:
        """The events that end what is open, the last begun first."""
        return list(reversed(self._open.values()))


def tool_outcome(is_error: bool | None) -> Message:
    """What a tool's message says besides its words, which is stored as its status."""
    return {"is_error": True} if is_error else {}


def step_of(data: dict[str, Any]) -> str:
    """The step that a message belongs to, by its first event; empty for the agent's answer."""
    step: str = (data.get("metadata") or {}).get("step") or ""
    return step


def still_valid(events: Iterable[Event]) -> list[Event]:
    """The events of a run without those of attempts that a later one has replaced."""
    kept: list[Event] = []
    for event in events:
        keep = restart_of(event)
        if keep is not None:
            kept = [earlier for earlier in kept if earlier.seq <= keep]
        kept.append(event)
    return kept
