"""Ollama's own API: JSON lines, the last of which has the counts.

https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from llm_passthrough.dialects.draft import Dialect, Draft, child, children
from llm_passthrough.usage import Counts, Object

COUNTS = Counts(input_tokens="prompt_eval_count", output_tokens="eval_count")
_CONTENT = ("content", "thinking", "tool_calls", "images")


def see_ollama(draft: Draft, value: Object) -> None:
    draft.head(value.get("model"))
    message = child(value, "message")
    if value.get("response") or value.get("thinking") or any(message.get(n) for n in _CONTENT):
        draft.heard()
    for _, call in children(message, "tool_calls"):
        draft.tool(child(call, "function").get("name"), object())
    if "prompt_eval_count" in value or "eval_count" in value:
        draft.spent({name: value.get(name) for name in ("prompt_eval_count", "eval_count")}, COUNTS)
    if value.get("done") is True:
        draft.finish(value.get("done_reason"))
        draft.ended = True


OLLAMA = Dialect(see=see_ollama)
