"""Gemini and Vertex: generateContent and its stream, embeddings, predict, Interactions, Live.

https://ai.google.dev/api/generate-content. Chunks carry running counts, the last stands; thinking
stands apart from the candidates, tool use apart from the prompt.
"""

from typing import Any

from llm_passthrough.dialects.draft import Dialect, Draft, child, children, index_of
from llm_passthrough.usage import Counts, Object

COUNTS = Counts(
    input_tokens="promptTokenCount+toolUsePromptTokenCount",
    output_tokens="candidatesTokenCount+thoughtsTokenCount responseTokenCount+thoughtsTokenCount",
    total_tokens="totalTokenCount",
    cache_read_tokens="cachedContentTokenCount",
    reasoning_tokens="thoughtsTokenCount",
    tool_use_tokens="toolUsePromptTokenCount",
    input_audio_tokens="promptTokensDetails.AUDIO promptTokenDetails.AUDIO",
    output_audio_tokens="candidatesTokensDetails.AUDIO responseTokensDetails.AUDIO",
    cache_read_audio_tokens="cacheTokensDetails.AUDIO",
    input_image_tokens="promptTokensDetails.IMAGE promptTokenDetails.IMAGE",
    output_image_tokens="candidatesTokensDetails.IMAGE responseTokensDetails.IMAGE",
)
LIVE_COUNTS = Counts(
    input_tokens="promptTokenCount+toolUsePromptTokenCount",
    output_tokens="responseTokenCount+thoughtsTokenCount",
    total_tokens="totalTokenCount",
    cache_read_tokens="cachedContentTokenCount",
    reasoning_tokens="thoughtsTokenCount",
    tool_use_tokens="toolUsePromptTokenCount",
    input_audio_tokens="promptTokensDetails.AUDIO",
    output_audio_tokens="responseTokensDetails.AUDIO",
)
INTERACTION_COUNTS = Counts(
    input_tokens="total_input_tokens+total_tool_use_tokens",
    output_tokens="total_output_tokens+total_thought_tokens",
    total_tokens="total_tokens",
    cache_read_tokens="total_cached_tokens",
    reasoning_tokens="total_thought_tokens",
    tool_use_tokens="total_tool_use_tokens",
    input_audio_tokens="input_tokens_by_modality.AUDIO",
    output_audio_tokens="output_tokens_by_modality.AUDIO",
    input_image_tokens="input_tokens_by_modality.IMAGE",
    output_image_tokens="output_tokens_by_modality.IMAGE",
)
# With enum-encoding=int. Gemini and Vertex number the reasons after these differently.
_REASONS = {1: "STOP", 2: "MAX_TOKENS", 3: "SAFETY", 4: "RECITATION", 5: "OTHER"}
_CONTENT = ("text", "functionCall", "inlineData", "executableCode", "codeExecutionResult")


def see_content(draft: Draft, value: Object) -> None:
    if not (draft.model and draft.id):
        draft.head(value.get("modelVersion"), value.get("responseId"))
    usage = value.get("usageMetadata")
    if usage is not None:
        draft.spent(usage, COUNTS)
        if isinstance(usage, dict) and "serviceTier" in usage:
            draft.head(tier=child(value, "usageMetadata").get("serviceTier"))
    candidates = value.get("candidates")
    if isinstance(candidates, list):
        for place, candidate in enumerate(candidates):
            if isinstance(candidate, dict):
                _candidate(draft, candidate, place)
    if "promptFeedback" in value:
        _blocked(draft, child(value, "promptFeedback"))


def _candidate(draft: Draft, candidate: Object, place: int) -> None:
    if "finishReason" in candidate and (reason := _reason(candidate["finishReason"])):
        draft.finish(reason, index_of(candidate, place))
        draft.ended = True
    content = candidate.get("content")
    if isinstance(content, dict):
        _parts(draft, content)


def _parts(draft: Draft, content: Object) -> None:
    parts = content.get("parts")
    for part in parts if isinstance(parts, list) else ():
        if not isinstance(part, dict):
            continue
        if draft.first is None and any(part.get(name) for name in _CONTENT):
            draft.heard()
        if "functionCall" in part:
            draft.tool(child(part, "functionCall").get("name"), object())


def _blocked(draft: Draft, feedback: Object) -> None:
    if reason := _reason(feedback.get("blockReason")):
        draft.finish(reason)
        draft.ended = True


def _reason(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return _REASONS.get(value, str(value)) if value else None
    return value if isinstance(value, str) and value != "FINISH_REASON_UNSPECIFIED" else None


def see_prediction(draft: Draft, value: Object) -> None:
    """Vertex `predict`: text embeddings state their tokens one by one."""
    draft.head(value.get("model"))
    draft.spent(child(value, "metadata", "tokenMetadata"), _PREDICTED)
    counts = [
        child(row, "embeddings", "statistics").get("token_count")
        for _, row in children(value, "predictions")
    ]
    if counts and all(isinstance(count, int | float) for count in counts):
        draft.spent({"token_count": sum(counts)}, _PREDICTED)


_PREDICTED = Counts(
    input_tokens="inputTokenCount.totalTokens token_count",
    output_tokens="outputTokenCount.totalTokens",
)


def see_interaction(draft: Draft, value: Object) -> None:
    """https://ai.google.dev/api/interactions-api"""
    kind = value.get("event_type")
    if not isinstance(kind, str):
        _interaction(draft, value)
        return
    draft.spent(child(value, "metadata").get("usage"), INTERACTION_COUNTS)
    if kind.startswith("interaction."):
        _interaction(draft, child(value, "interaction"))
        draft.ended = draft.ended or kind.startswith("interaction.complete")
    elif kind.endswith(".delta"):
        delta = child(value, "delta")
        if any(delta.get(name) for name in ("text", "content", "arguments", "data", "name")):
            draft.heard()
        _step(draft, delta, value.get("index"))
    elif kind.endswith(".start"):
        _step(draft, child(value, "step") or child(value, "content"), value.get("index"))


def _interaction(draft: Draft, interaction: Object) -> None:
    draft.head(
        interaction.get("model") or interaction.get("agent"),
        interaction.get("id") or None,
        interaction.get("service_tier"),
    )
    draft.spent(interaction.get("usage"), INTERACTION_COUNTS)
    if interaction.get("status") != "in_progress":
        draft.finish(interaction.get("status"))
    for key in ("steps", "outputs"):
        for place, step in children(interaction, key):
            _step(draft, step, place)


def _step(draft: Draft, step: Object, place: Any) -> None:
    kind = step.get("type")
    if isinstance(kind, str) and kind.endswith("_call"):
        named = kind in ("function_call", "mcp_server_tool_call")
        draft.tool(step.get("name") if named else kind, place if isinstance(place, int) else None)


def see_live(draft: Draft, value: Object) -> None:
    """A message of a Live websocket; usage is told with the end of a turn, or a call of a tool."""
    if "usageMetadata" in value:
        draft.spent(value["usageMetadata"], LIVE_COUNTS)
        draft.add_up()
    content, calls = child(value, "serverContent"), child(value, "toolCall")
    if not draft.begun and (calls or "modelTurn" in content or "outputTranscription" in content):
        draft.begin()
    _parts(draft, child(content, "modelTurn"))
    for _, call in children(calls, "functionCalls"):
        draft.tool(call.get("name"), object())
    if content.get("turnComplete") is True:
        draft.finish(content.get("turnCompleteReason"))
        draft.turn()


CONTENT = Dialect(see=see_content, array=True)
PREDICTION = Dialect(see=see_prediction)
INTERACTIONS = Dialect(see=see_interaction)
LIVE = Dialect(see=see_live, ends="never")
