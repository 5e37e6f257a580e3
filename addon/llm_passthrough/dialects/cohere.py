"""Cohere's own API, first and second version. https://docs.cohere.com/reference/chat

What is billed counts, as Cohere itself says; `tokens` holds its own prompt around ours.
"""

from typing import Any

from llm_passthrough.dialects.draft import Dialect, Draft, child, children, index_of
from llm_passthrough.usage import Counts, Object

COUNTS = Counts(
    input_tokens="billed_units.input_tokens tokens.input_tokens",
    output_tokens="billed_units.output_tokens tokens.output_tokens",
    cache_read_tokens="cached_tokens",
    reasoning_tokens="tokens.reasoning_tokens",
    input_image_tokens="billed_units.image_tokens",
    search_units="billed_units.search_units",
)


def see_cohere(draft: Draft, value: Object) -> None:
    kind = value.get("type")
    if isinstance(kind, str):
        _event(draft, value, kind)
    elif isinstance(value.get("event_type"), str):
        _old_event(draft, value, value["event_type"])
    else:
        _whole(draft, value)


def _whole(draft: Draft, value: Object) -> None:
    """A whole answer: the second version has `usage` and `message`, the first has `meta`."""
    draft.head(value.get("model"), value.get("generation_id") or value.get("id"))
    draft.spent(value.get("usage"), COUNTS)
    draft.spent(value.get("meta"), COUNTS)
    draft.finish(value.get("finish_reason"))
    for place, row in children(value, "generations"):
        draft.finish(row.get("finish_reason"), index_of(row, place))
    _calls(draft, child(value, "message").get("tool_calls") or value.get("tool_calls"))


def _event(draft: Draft, value: Object, kind: str) -> None:
    delta = child(value, "delta")
    if kind == "message-start":
        draft.head(ident=value.get("id"))
    elif kind == "message-end":
        draft.finish(delta.get("finish_reason"))
        draft.spent(delta.get("usage"), COUNTS)
        if delta.get("error"):
            draft.fault(None, None, delta.get("error"))
        draft.ended = True
    elif kind == "tool-call-start":
        draft.heard()
        call = child(delta, "message", "tool_calls")
        draft.tool(child(call, "function").get("name"), index_of(value, 0), call.get("id"))
    elif kind in ("content-delta", "tool-plan-delta", "tool-call-delta"):
        draft.heard()


def _old_event(draft: Draft, value: Object, kind: str) -> None:
    if kind == "stream-start":
        draft.head(ident=value.get("generation_id"))
    elif kind == "stream-end":
        _whole(draft, child(value, "response"))
        draft.finish(value.get("finish_reason"))
        draft.ended = True
    elif kind == "tool-calls-generation":
        draft.heard()
        _calls(draft, value.get("tool_calls"))
    elif value.get("text"):
        draft.heard()


def _calls(draft: Draft, calls: Any) -> None:
    if isinstance(calls, list):
        for place, call in children({"calls": calls}, "calls"):
            draft.tool(child(call, "function").get("name") or call.get("name"), place)


COHERE = Dialect(see=see_cohere)
