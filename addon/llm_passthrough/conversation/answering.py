"""What an answer says, given the JSON of a plain one or of a stream that was put together."""

from collections.abc import Callable, Iterator
from typing import Any

from llm_passthrough.conversation.asking import items, message, messages, role_of
from llm_passthrough.conversation.parts import Part, Turn, parts
from llm_passthrough.conversation.values import Json, as_dict, as_list, compact


def answer(said: Json) -> Iterator[Turn]:
    """The turns of an answer; nothing where it is of no known shape."""
    known = False
    for name, read in _ROWS:
        for turn in read(said.get(name)):
            known = True
            yield turn
    if not known:
        yield from _complaint(said)


def _choices(value: Any) -> Iterator[Turn]:
    for choice in as_list(value):
        choice = as_dict(choice)
        told = as_dict(choice.get("message") or choice.get("delta"))
        yield Turn(role_of(told, "assistant"), (*message(told), *parts(choice.get("text"))))


def _output(value: Any) -> Iterator[Turn]:
    """Responses lists items, Converse has one message."""
    if isinstance(value, dict):
        for turn in messages([value["message"]] if "message" in value else []):
            yield Turn(turn.role, joined(turn.parts))
    else:
        yield from items(value)


def _said(value: Any) -> Iterator[Turn]:
    """`content` of an Anthropic answer."""
    if isinstance(value, list):
        yield Turn("assistant", joined(parts(value)))


def joined(said: list[Part] | tuple[Part, ...]) -> tuple[Part, ...]:
    """The parts, with texts in a row as one: a text with citations comes in blocks."""
    found: list[Part] = []
    for part in said:
        if part.kind == "text" and found and found[-1].kind == "text":
            found[-1] = Part("text", found[-1].text + part.text)
        else:
            found.append(part)
    return tuple(found)


def _candidates(value: Any) -> Iterator[Turn]:
    for candidate in as_list(value):
        content = as_dict(as_dict(candidate).get("content"))
        yield Turn(role_of(content, "model"), tuple(parts(content.get("parts"))))


def _message(value: Any) -> Iterator[Turn]:
    """Ollama, Cohere."""
    if isinstance(value, dict):
        yield Turn(role_of(value, "assistant"), tuple(message(value)))


def _steps(value: Any) -> Iterator[Turn]:
    """Interactions: what the model did, and at times what it was asked."""
    yield from items(as_list(value), lambda kind: "user" if kind == "user_input" else "model")


def _outputs(value: Any) -> Iterator[Turn]:
    """Mistral's texts on Bedrock, or the steps of Interactions."""
    if any("type" in as_dict(one) for one in as_list(value)):
        yield from _steps(value)
    else:
        yield from _texts(value)


def _texts(value: Any) -> Iterator[Turn]:
    """Several answers, each a text under one of these names."""
    for one in map(as_dict, as_list(value)):
        yield from _text(next((one[name] for name in ("text", "outputText") if name in one), None))


def _text(value: Any) -> Iterator[Turn]:
    """One text: models of Bedrock, Cohere, Ollama, Claude before messages, transcripts."""
    if isinstance(value, str):
        yield Turn("assistant", tuple(parts(value)))


def _calls(value: Any) -> Iterator[Turn]:
    """Cohere's first version."""
    if isinstance(value, list):
        yield Turn("assistant", tuple(message({"tool_calls": value})))


def _error(value: Any) -> Iterator[Turn]:
    if value:
        told = as_dict(value).get("message")
        text = told if isinstance(told, str) and told else compact(value)
        name = as_dict(value).get("type") or as_dict(value).get("status") or ""
        yield Turn("error", (Part("error", text, str(name)),))


def _complaint(said: Json) -> Iterator[Turn]:
    """Errors that are a message and nothing else: Bedrock, Cohere, FastAPI."""
    for name in ("message", "Message", "detail"):
        if isinstance(said.get(name), str) and said[name]:
            yield Turn("error", (Part("error", said[name]),))
            return


def _feedback(value: Any) -> Iterator[Turn]:
    reason = as_dict(value).get("blockReason")
    if reason:
        yield Turn("model", (Part("refusal", f"the prompt was blocked: {reason}"),))


_ROWS: tuple[tuple[str, Callable[[Any], Iterator[Turn]]], ...] = (
    ("choices", _choices),
    ("output", _output),
    ("content", _said),
    ("candidates", _candidates),
    ("message", _message),
    ("steps", _steps),
    ("outputs", _outputs),
    ("generations", _texts),
    ("results", _texts),
    ("generation", _text),
    ("outputText", _text),
    ("completion", _text),
    ("response", _text),
    ("text", _text),
    ("tool_calls", _calls),
    ("promptFeedback", _feedback),
    ("error", _error),
)
