"""Anthropic's Messages, whole and as events, wherever they are served; the old completions too.

https://docs.claude.com/en/api/messages and /en/build-with-claude/streaming. The counts of
`message_delta` are cumulative and stand over those of `message_start`.
"""

from llm_passthrough.dialects.draft import Dialect, Draft, child, children, index_of
from llm_passthrough.usage import Counts, Object

# Anthropic's input_tokens holds neither cache reads nor cache writes.
COUNTS = Counts(
    input_tokens="input_tokens+cache_read_input_tokens+cache_creation_input_tokens",
    output_tokens="output_tokens",
    cache_read_tokens="cache_read_input_tokens",
    cache_write_tokens="cache_creation_input_tokens",
    cache_write_5m_tokens="cache_creation.ephemeral_5m_input_tokens",
    cache_write_1h_tokens="cache_creation.ephemeral_1h_input_tokens",
    reasoning_tokens="output_tokens_details.thinking_tokens",
    web_searches="server_tool_use.web_search_requests",
)
_TOOLS = ("tool_use", "server_tool_use", "mcp_tool_use")
_CONTENT = ("text", "thinking", "partial_json", "data")


def see_message(draft: Draft, value: Object) -> None:
    kind = value.get("type")
    if kind == "content_block_delta":
        if draft.first is None and any(child(value, "delta").get(name) for name in _CONTENT):
            draft.heard()
    elif kind == "content_block_start":
        _block(draft, child(value, "content_block"), index_of(value, 0))
    elif kind == "message_delta":
        _spent(draft, value)
        draft.finish(child(value, "delta").get("stop_reason"))
    elif kind == "message_start":
        _message(draft, child(value, "message"))
    elif kind == "message_stop":
        draft.ended = True
    elif kind == "completion":
        _completion(draft, value)
    else:
        _message(draft, value)


def _message(draft: Draft, message: Object) -> None:
    draft.head(message.get("model"), message.get("id"))
    _spent(draft, message)
    draft.finish(message.get("stop_reason"))
    for place, block in children(message, "content"):
        _block(draft, block, place)


def _spent(draft: Draft, value: Object) -> None:
    draft.spent(value.get("usage"), COUNTS)
    draft.head(tier=child(value, "usage").get("service_tier"))


def _block(draft: Draft, block: Object, index: int) -> None:
    if block.get("type") in _TOOLS:
        draft.heard()
        draft.tool(block.get("name"), index, block.get("id"))
    elif any(block.get(name) for name in _CONTENT):
        draft.heard()


def _completion(draft: Draft, value: Object) -> None:
    draft.head(value.get("model"), value.get("id") or value.get("log_id"))
    draft.finish(value.get("stop_reason"))
    if value.get("completion"):
        draft.heard()
    draft.ended = draft.ended or bool(value.get("stop_reason"))


MESSAGES = Dialect(see=see_message)
