"""OpenAI's chat, completions and plain endpoints, and everything that is compatible with them.

https://platform.openai.com/docs/api-reference/chat. One function reads whole answers
(`message`) and events (`delta`): services mix them.
"""

from dataclasses import replace
from typing import Any

from llm_passthrough.dialects.draft import Dialect, Draft, child, children, index_of
from llm_passthrough.usage import Counts, Object, Usage


def inclusive(usage: Usage) -> Usage:
    """Counts made inclusive where the provider's own numbers show that they are not."""
    given, made, thought = usage.input_tokens, usage.output_tokens, usage.reasoning_tokens
    # xAI's chat: the total holds the reasoning tokens, the completion does not.
    if given is not None and made is not None and thought:
        apart = usage.total_tokens == given + made + thought
        usage = replace(usage, output_tokens=made + thought) if apart else usage
    if given is not None and usage.cache_read_tokens and usage.cache_read_tokens > given:
        # Cache reads were left out, and perhaps more with them: the whole is not known.
        usage = replace(usage, input_tokens=None)
    return usage


# Where OpenAI and the compatible services put their counts; the first place that has one.
COUNTS = Counts(
    inclusive,
    input_tokens="prompt_tokens input_tokens",
    output_tokens="completion_tokens output_tokens",
    total_tokens="total_tokens",
    cache_read_tokens=(
        "prompt_tokens_details.cached_tokens input_tokens_details.cached_tokens"
        " input_token_details.cached_tokens prompt_token_details.cached_tokens"
        " prompt_cache_hit_tokens cache_read_input_tokens cached_tokens"
    ),
    cache_write_tokens=(
        "prompt_tokens_details.cache_write_tokens input_tokens_details.cache_write_tokens"
        " prompt_tokens_details.cache_creation_tokens cache_creation_input_tokens"
    ),
    reasoning_tokens=(
        "completion_tokens_details.reasoning_tokens output_tokens_details.reasoning_tokens"
        " output_token_details.reasoning_tokens completion_token_details.reasoning_tokens"
        " reasoning_tokens"
    ),
    input_audio_tokens=(
        "prompt_tokens_details.audio_tokens input_token_details.audio_tokens"
        " input_tokens_details.audio_tokens"
    ),
    output_audio_tokens=(
        "completion_tokens_details.audio_tokens output_token_details.audio_tokens"
        " output_tokens_details.audio_tokens"
    ),
    cache_read_audio_tokens="input_token_details.cached_tokens_details.audio_tokens",
    input_image_tokens=(
        "prompt_tokens_details.image_tokens input_tokens_details.image_tokens"
        " input_token_details.image_tokens"
    ),
    output_image_tokens=(
        "completion_tokens_details.image_tokens output_tokens_details.image_tokens"
        " output_token_details.image_tokens"
    ),
    accepted_prediction_tokens="completion_tokens_details.accepted_prediction_tokens",
    rejected_prediction_tokens="completion_tokens_details.rejected_prediction_tokens",
    web_searches="num_search_queries server_tool_use.web_search_requests web_search_requests",
    audio_seconds="seconds prompt_audio_seconds",
)
# Embeddings and ranking make no tokens: their total is their input.
INPUT_COUNTS = Counts(
    input_tokens="prompt_tokens input_tokens total_tokens",
    total_tokens="total_tokens",
    cache_read_tokens="prompt_tokens_details.cached_tokens",
    input_audio_tokens="prompt_tokens_details.audio_tokens",
    input_image_tokens="prompt_tokens_details.image_tokens image_tokens",
    search_units="search_units",
)

_CONTENT = (
    "content", "reasoning_content", "reasoning", "reasoning_details", "thinking", "refusal",
    "audio", "tool_calls", "function_call",
)  # fmt: skip


def see_chat(draft: Draft, value: Object) -> None:
    tier = value.get("service_tier")
    if tier != draft.tier or not (draft.model and draft.id):
        draft.head(value.get("model"), value.get("id"), tier)
    if value.get("usage") is not None:
        draft.spent(value["usage"], COUNTS)
    elif "x_groq" in value:
        draft.spent(child(value, "x_groq").get("usage"), COUNTS)
    choices = value.get("choices")
    if isinstance(choices, list):
        for place, choice in enumerate(choices):
            if isinstance(choice, dict):
                _choice(draft, choice, place)


def _choice(draft: Draft, choice: Object, place: int) -> None:
    if reason := choice.get("finish_reason"):
        draft.finish(reason, index_of(choice, place))
    said: Any = choice.get("delta") or choice.get("message")
    if isinstance(said, dict):
        if draft.first is None and any(said.get(name) for name in _CONTENT):
            draft.heard()
        if said.get("tool_calls"):
            _tools(draft, said, index_of(choice, place))
    elif choice.get("text"):
        draft.heard()
    if choice.get("error"):  # OpenRouter
        error = child(choice, "error")
        draft.fault(error.get("type"), error.get("code"), error.get("message"))


def _tools(draft: Draft, said: Object, index: int) -> None:
    for place, call in children(said, "tool_calls"):
        name = (
            child(call, "function").get("name")
            or child(call, "custom").get("name")
            or call.get("name")
        )
        draft.tool(name, (index, index_of(call, place)), call.get("id"))


def see_input(draft: Draft, value: Object) -> None:
    """Embeddings, ranking, moderation: nothing is made, tokens are only taken in."""
    draft.head(value.get("model"), value.get("id"))
    draft.spent(value.get("usage"), INPUT_COUNTS)


def see_media(draft: Draft, value: Object) -> None:
    """Images, speech, transcription: whole, or events named `transcript.text.delta` and alike."""
    draft.head(value.get("model"), value.get("id"), value.get("service_tier"))
    draft.spent(value.get("usage"), COUNTS)
    kind = value.get("type")
    if isinstance(kind, str):
        if kind.endswith((".delta", ".segment", ".partial_image")):
            draft.heard()
        elif kind.endswith((".done", ".completed")):
            draft.heard()
            draft.ended = True


def see_object(draft: Draft, value: Object) -> None:
    """A file, a batch, a list: what it is, and no usage of this call's."""
    draft.head(value.get("model"), value.get("id"))


CHAT = Dialect(see=see_chat, ends="mostly")
INPUT = Dialect(see=see_input)
MEDIA = Dialect(see=see_media)
OBJECT = Dialect(see=see_object, counted=False, ends="never")
