"""OpenAI's Responses API: the response object, and its events over SSE and WebSocket.

Shapes: https://platform.openai.com/docs/api-reference/responses-streaming
"""

import time
from collections.abc import Generator, Iterator

from . import say
from .answers import Answer, Call, Json, mint_hex, plain, sse
from .openai_chat import model_of, reasons, tool_call


def create(call: Call) -> Answer:
    """POST /responses."""
    body = call.json | {"model": model_of(call)}
    if body.get("stream"):
        return sse(events(body), named=True)
    *_, last = events(body)
    return plain(last["response"])


def get(call: Call) -> Answer:
    """GET /responses/{id}: nothing is kept, any id is found."""
    *_, last = events({"model": "gpt-4o-mini", "input": "earlier"})
    return plain(last["response"] | {"id": call.names["id"]})


def delete(call: Call) -> Answer:
    """DELETE /responses/{id}."""
    return plain({"id": call.names["id"], "object": "response", "deleted": True})


def input_tokens(call: Call) -> Answer:
    """POST /responses/input_tokens."""
    counted = say.count_prompt(call.json)
    return plain({"object": "response.input_tokens", "input_tokens": counted})


def events(body: Json) -> Iterator[Json]:
    """The events of one response in order, numbered, from created to completed."""
    for number, event in enumerate(_events(body)):
        yield {"type": event["type"], "sequence_number": number} | event


def _events(body: Json) -> Iterator[Json]:
    response = _response(body)
    yield {"type": "response.created", "response": response}
    yield {"type": "response.in_progress", "response": response}
    output: list[Json] = []
    if reasons(body):
        item = {"id": mint_hex("rs_", 48), "type": "reasoning", "summary": []}
        output.append(item)
        yield {"type": "response.output_item.added", "output_index": 0, "item": item}
        yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    index = len(output)
    if say.wants_tool(body):
        said, item = yield from _tool_events(body, index)
    else:
        said, item = yield from _text_events(body, index)
    output.append(item)
    done: Json = {"status": "completed", "completed_at": int(time.time()), "output": output}
    finished = response | done | {"usage": usage(body, said)}
    yield {"type": "response.completed", "response": finished}


def usage(body: Json, said: str) -> Json:
    """The usage object of a response."""
    count = say.count(body, said, reasons=reasons(body))
    return {
        "input_tokens": count.prompt,
        "input_tokens_details": {"cached_tokens": count.cached, "cache_write_tokens": 0},
        "output_tokens": count.output,
        "output_tokens_details": {"reasoning_tokens": count.reasoning},
        "total_tokens": count.prompt + count.output,
    }


def _text_events(body: Json, index: int) -> Generator[Json, None, tuple[str, Json]]:
    said = say.reply_to(say.last_user_text(body))
    item: Json = {"id": mint_hex("msg_", 48), "type": "message", "role": "assistant"}
    empty = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    full = empty | {"text": said}
    at = {"item_id": item["id"], "output_index": index, "content_index": 0}
    opened = item | {"status": "in_progress", "content": []}
    yield {"type": "response.output_item.added", "output_index": index, "item": opened}
    yield {"type": "response.content_part.added", **at, "part": empty}
    for word in say.words(said):
        yield {"type": "response.output_text.delta", **at, "delta": word, "logprobs": []}
    yield {"type": "response.output_text.done", **at, "text": said, "logprobs": []}
    yield {"type": "response.content_part.done", **at, "part": full}
    closed = item | {"status": "completed", "content": [full]}
    yield {"type": "response.output_item.done", "output_index": index, "item": closed}
    return said, closed


def _tool_events(body: Json, index: int) -> Generator[Json, None, tuple[str, Json]]:
    name, said = tool_call(body)
    item: Json = {"id": mint_hex("fc_", 48), "type": "function_call", "name": name}
    item |= {"call_id": mint_hex("call_", 24)}
    at = {"item_id": item["id"], "output_index": index}
    opened = item | {"status": "in_progress", "arguments": ""}
    yield {"type": "response.output_item.added", "output_index": index, "item": opened}
    for word in say.words(said):
        yield {"type": "response.function_call_arguments.delta", **at, "delta": word}
    done = {"type": "response.function_call_arguments.done", **at}
    yield done | {"arguments": said, "name": name}
    closed = item | {"status": "completed", "arguments": said}
    yield {"type": "response.output_item.done", "output_index": index, "item": closed}
    return said, closed


def _response(body: Json) -> Json:
    return {
        "id": mint_hex("resp_", 48),
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": body.get("model", "gpt-4o-mini"),
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None} | (body.get("reasoning") or {}),
        "service_tier": "default",
        "store": body.get("store", True),
        "temperature": body.get("temperature", 1.0),
        "text": body.get("text") or {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools") or [],
        "top_p": body.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": None,
        "user": None,
        "metadata": body.get("metadata") or {},
    }
