"""OpenAI's Responses, whole, as events, and as messages of a websocket; Realtime beside it.

https://platform.openai.com/docs/api-reference/responses-streaming. The usage is in the last
event; the events before show the response as it grows.
"""

from typing import Any

from llm_passthrough.dialects.draft import Dialect, Draft, child, children
from llm_passthrough.dialects.openai import COUNTS
from llm_passthrough.usage import Object

# Tuples: what is looked up in them may be anything, and need not have a hash.
_ENDS = tuple(
    f"response.{end}" for end in ("completed", "incomplete", "failed", "cancelled", "done")
)
_NAMED = ("function_call", "custom_tool_call", "mcp_call")
_UNFINISHED = ("queued", "in_progress")


def see_response(draft: Draft, value: Object) -> None:
    kind = value.get("type")
    if not isinstance(kind, str):
        _response(draft, value)
        return
    if kind.endswith((".delta", ".partial_image")):
        if value.get("delta") or value.get("partial_image_b64"):
            draft.heard()
    elif kind.startswith("response.output_item."):
        draft.heard()
        _item(draft, child(value, "item"), value.get("output_index"))
    elif isinstance(value.get("response"), dict):
        _response(draft, value["response"])
        draft.ended = draft.ended or kind in _ENDS


def _response(draft: Draft, response: Object) -> None:
    draft.head(response.get("model"), response.get("id"), response.get("service_tier"))
    draft.spent(response.get("usage"), COUNTS)
    reason = child(response, "incomplete_details").get("reason")
    status = reason or response.get("status")
    if status not in _UNFINISHED:
        draft.finish(status)
    if error := child(response, "error") or child(response, "status_details", "error"):
        draft.fault(error.get("type"), error.get("code"), error.get("message"))
    for place, item in children(response, "output"):
        _item(draft, item, place)


def _item(draft: Draft, item: Object, place: Any) -> None:
    """A call has a name of its own, or is one of the built-in tools and named by its type."""
    kind = item.get("type")
    if isinstance(kind, str) and kind.endswith("_call"):
        name = item.get("name") or (None if kind in _NAMED else kind)
        draft.tool(name, place if isinstance(place, int) else None, item.get("id"))


def see_socket(draft: Draft, value: Object) -> None:
    """One message of a websocket that carries many responses, one after the other."""
    kind = value.get("type")
    if kind == "session.created" or kind == "session.updated":
        draft.stand(child(value, "session").get("model"))
    elif kind == "response.created":
        draft.begin()
    elif kind in _ENDS and isinstance(child(value, "response").get("id"), str):
        draft.id = None  # answers may overlap: the turn is the one that ends here
    see_response(draft, value)
    if kind in _ENDS or (kind == "error" and not draft.begun):
        draft.turn()


RESPONSES = Dialect(see=see_response)
SOCKET = Dialect(see=see_socket, ends="never")
