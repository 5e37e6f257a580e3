"""OpenAI's chat and text completions, plain and streamed; Azure's additions where asked.

Shapes: https://platform.openai.com/docs/api-reference/chat and, for the content filter results,
https://learn.microsoft.com/azure/ai-services/openai/concepts/content-filter
"""

import json
import re
import time
from collections.abc import Iterator

from . import say
from .answers import Answer, Call, Json, RefusedError, mint, mint_hex, plain, sse

_SAFE = {
    name: {"filtered": False, "severity": "safe"}
    for name in ("hate", "self_harm", "sexual", "violence")
}


def model_of(call: Call) -> str:
    """The model that the body names, or else the deployment in the path."""
    model = call.json.get("model") or call.names.get("deployment")
    if not model:
        raise RefusedError(400, "you must provide a model parameter")
    return str(model)


def reasons(body: Json) -> bool:
    """Whether this request makes a model reason, and so reasoning tokens show in the usage."""
    asked = body.get("reasoning_effort") or body.get("reasoning")
    return bool(asked) or re.match(r"(o\d|gpt-5)", str(body.get("model"))) is not None


def usage(body: Json, text: str) -> Json:
    """The usage object of chat and text completions."""
    count = say.count(body, text, reasons=reasons(body))
    return {
        "prompt_tokens": count.prompt,
        "completion_tokens": count.output,
        "total_tokens": count.prompt + count.output,
        "prompt_tokens_details": {"cached_tokens": count.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": count.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def tool_call(body: Json) -> tuple[str, str]:
    """Name and arguments (JSON text) of a call of the first tool that the request offers."""
    tool = body["tools"][0]
    function = tool.get("function", tool)
    arguments = json.dumps(say.sample(function.get("parameters")))
    return str(function.get("name", tool.get("type", "tool"))), arguments


def chat(call: Call) -> Answer:
    """POST /chat/completions."""
    body, model = call.json, model_of(call)
    if not isinstance(body.get("messages"), list):
        raise RefusedError(400, "Missing required parameter: 'messages'.", param="messages")
    if body.get("stream"):
        return sse(_chat_events(call, model), end=b"[DONE]")
    message: Json = {"role": "assistant", "content": None, "refusal": None, "annotations": []}
    choice: Json = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    if say.wants_tool(body):
        name, said = tool_call(body)
        function = {"name": name, "arguments": said}
        message["tool_calls"] = [{"id": mint("call_"), "type": "function", "function": function}]
        choice["finish_reason"] = "tool_calls"
    else:
        said = message["content"] = say.reply_to(say.last_user_text(body))
    value: Json = _frame("chat.completion", model)
    value |= {"choices": [choice], "usage": usage(body, said)}
    if call.azure:
        choice["content_filter_results"] = _SAFE
        value["prompt_filter_results"] = _prompt_filter()
    return plain(value)


def _frame(object: str, model: str) -> Json:
    return {
        "id": mint("chatcmpl-", 29),
        "object": object,
        "created": int(time.time()),
        "model": model,
        "service_tier": "default",
        "system_fingerprint": mint_hex("fp_", 10),
    }


def _prompt_filter() -> list[Json]:
    return [{"prompt_index": 0, "content_filter_results": _SAFE}]


def _chat_events(call: Call, model: str) -> Iterator[Json]:
    body, frame = call.json, _frame("chat.completion.chunk", model)
    counts = bool((body.get("stream_options") or {}).get("include_usage"))
    nothing: Json = {"usage": None} if counts else {}
    if call.azure:
        empty = {"id": "", "object": "", "created": 0, "model": "", "choices": []}
        yield empty | {"prompt_filter_results": _prompt_filter()}
    said = ""
    for delta, finish in _deltas(body):
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        if call.azure:
            choice["content_filter_results"] = _SAFE if delta.get("content") else {}
        said += delta.get("content") or ""
        said += "".join(c["function"]["arguments"] for c in delta.get("tool_calls", ()))
        yield frame | {"choices": [choice]} | nothing
    if counts:
        yield frame | {"choices": [], "usage": usage(body, said)}


def _deltas(body: Json) -> Iterator[tuple[Json, str | None]]:
    if say.wants_tool(body):
        yield from _tool_deltas(body)
        return
    yield {"role": "assistant", "content": "", "refusal": None}, None
    for word in say.words(say.reply_to(say.last_user_text(body))):
        yield {"content": word}, None
    yield {}, "stop"


def _tool_deltas(body: Json) -> Iterator[tuple[Json, str | None]]:
    name, arguments = tool_call(body)
    start = {"name": name, "arguments": ""}
    opened = [{"index": 0, "id": mint("call_"), "type": "function", "function": start}]
    yield {"role": "assistant", "content": None, "tool_calls": opened}, None
    for piece in say.words(arguments):
        yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}, None
    yield {}, "tool_calls"


def completions(call: Call) -> Answer:
    """POST /completions, the older text form."""
    body, model = call.json, model_of(call)
    said = say.reply_to(say.last_user_text(body))
    frame = _frame("text_completion", model) | {"id": mint("cmpl-", 29)}
    if body.get("stream"):
        return sse(_text_events(body, frame, said), end=b"[DONE]")
    return plain(frame | {"choices": [_text_choice(said, "stop")], "usage": usage(body, said)})


def _text_choice(text: str, finish: str | None) -> Json:
    return {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}


def _text_events(body: Json, frame: Json, said: str) -> Iterator[Json]:
    for word in say.words(said):
        yield frame | {"choices": [_text_choice(word, None)]}
    yield frame | {"choices": [_text_choice("", "stop")]}
    if (body.get("stream_options") or {}).get("include_usage"):
        yield frame | {"choices": [], "usage": usage(body, said)}
