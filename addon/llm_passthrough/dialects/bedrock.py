"""Amazon Bedrock: Converse, and what `invoke` passes on of the models' own formats.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html. A stream is cut
into frames (`frames`), each of which becomes one message, keyed by its event type.
"""

from llm_passthrough.dialects.anthropic import see_message
from llm_passthrough.dialects.cohere import see_cohere
from llm_passthrough.dialects.draft import Dialect, Draft, child, children, index_of
from llm_passthrough.dialects.openai import see_chat
from llm_passthrough.usage import Counts, Object

# Converse's inputTokens holds neither cache reads nor cache writes; Nova spells them differently.
_READ = "cacheReadInputTokens|cacheReadInputTokenCount"
_WRITE = "cacheWriteInputTokens|cacheWriteInputTokenCount"
COUNTS = Counts(
    input_tokens=f"inputTokens+{_READ}+{_WRITE}",
    output_tokens="outputTokens",
    total_tokens="totalTokens",
    cache_read_tokens=_READ,
    cache_write_tokens=_WRITE,
)
# Models that tell their counts in the message itself, and the service's own metrics.
TEXT_COUNTS = Counts(
    input_tokens="inputTokenCount inputTextTokenCount prompt_token_count",
    output_tokens="outputTokenCount totalOutputTextTokenCount generation_token_count tokenCount",
    cache_read_tokens="cacheReadInputTokenCount",
    cache_write_tokens="cacheWriteInputTokenCount",
)
_METRICS = "amazon-bedrock-invocationMetrics"
_TEXT = (
    "prompt_token_count", "generation_token_count", "inputTextTokenCount",
    "totalOutputTextTokenCount",
)  # fmt: skip


def see_converse(draft: Draft, value: Object) -> None:
    draft.spent(value.get("usage"), COUNTS)
    draft.finish(value.get("stopReason"))
    for place, block in children(child(value, "output", "message"), "content"):
        draft.tool(child(block, "toolUse").get("name"), place)
    if "contentBlockDelta" in value:
        if any(child(value, "contentBlockDelta", "delta").values()):
            draft.heard()
    elif "contentBlockStart" in value:
        start = child(value, "contentBlockStart")
        name = child(start, "start", "toolUse").get("name")
        if name:
            draft.heard()
            index = start.get("contentBlockIndex")
            draft.tool(name, index if isinstance(index, int) else None)
    elif "messageStop" in value:
        draft.finish(child(value, "messageStop").get("stopReason"))
        draft.ended = True
    elif "metadata" in value:
        draft.spent(child(value, "metadata").get("usage"), COUNTS)


def see_invoke(draft: Draft, value: Object) -> None:
    """The model's own format: told by the keys of the message, as the path does not say."""
    kind = value.get("type")
    if value.get("choices") is not None:
        see_chat(draft, value)
    elif isinstance(kind, str) and not ("-" in kind or "generations" in value):
        see_message(draft, value)
    elif _CONVERSE & value.keys():
        see_converse(draft, value)
    else:
        _text(draft, value)
    if metrics := child(value, _METRICS):
        draft.spare(metrics, TEXT_COUNTS)
        draft.ended = True


_CONVERSE = frozenset(
    "output stopReason messageStart contentBlockStart contentBlockDelta contentBlockStop"
    " messageStop metadata".split()
)


def _text(draft: Draft, value: Object) -> None:
    """Llama, Titan, Mistral, Cohere, Claude before messages: one text and its reason to stop."""
    see_cohere(draft, value)
    draft.finish(value.get("stop_reason") or value.get("completionReason"))
    found = {name: value[name] for name in _TEXT if value.get(name) is not None}
    for place, row in children(value, "results"):
        draft.finish(row.get("completionReason"), index_of(row, place))
        found["tokenCount"] = row.get("tokenCount")
    for place, row in children(value, "outputs"):  # Mistral
        draft.finish(row.get("stop_reason"), index_of(row, place))
    if found:
        draft.spent({**found, **child(value, _METRICS)}, TEXT_COUNTS)
    if any(value.get(name) for name in ("generation", "outputText", "completion", "text")):
        draft.heard()


CONVERSE = Dialect(see=see_converse)
INVOKE = Dialect(see=see_invoke, ends="never")
