"""Why a prompt cache was hit or missed: what the two requests, their times and the counts say.

Facts of the providers: Anthropic compares tools, then system, then messages, keeps a prefix five
minutes from its last use or an hour where that was asked for, and caches only what is marked
(https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching). OpenAI caches by itself from
1024 tokens, for five to ten minutes, at most an hour
(https://platform.openai.com/docs/guides/prompt-caching). Gemini caches by itself too
(https://ai.google.dev/gemini-api/docs/caching). What is not known is not said.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from llm_passthrough.pages.difference import Change, Difference
from llm_passthrough.pages.prompt import Prompt
from llm_passthrough.shown import tokens

type Verdict = Literal["hit", "partly", "missed", "first", "unknown"]

_HIT = 0.85
_LEAST = dict.fromkeys(("openai", "azure", "anthropic", "gemini", "vertex"), 1024)
_KEPT = 300.0
_KEPT_LONG = 3600.0
_BOUNDARY = 100


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that keeps a cache from being hit, and the place where it shows."""

    what: str
    detail: str = ""
    change: Change | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What became of the cache in a line, and the reasons in the order of the prompt."""

    verdict: Verdict
    line: str
    reasons: tuple[Reason, ...] = ()


def report(now: Prompt, before: Prompt | None, changed: Difference | None) -> Report:
    """What became of the cache for this prompt, after the one before it."""
    read = now.cache_read
    if read is None:
        return Report("unknown", "the answer says nothing about a cache")
    share = read / now.input_tokens if now.input_tokens else 0.0
    counts = f"{tokens(read)} of {tokens(now.input_tokens)} input tokens came from the cache"
    if before is None or changed is None:
        if read:
            return Report("hit" if share >= _HIT else "partly", counts)
        return Report("first", "nothing was cached: no call before it is known", _alone(now))
    could = _could(before)
    if read and (could is None or read >= could * _HIT - _BOUNDARY):
        return Report("hit", counts)
    reasons = tuple(_reasons(now, before, changed))
    if not reasons:
        reasons = (
            Reason("nothing that can be seen here changed", "the provider's cache let it go"),
        )
    if could:
        counts += f"; {tokens(could)} could have, after the call before"
    return Report("partly" if read else "missed", counts, reasons)


def _could(before: Prompt) -> int | None:
    """How many tokens the call before left in the cache, as far as that is known."""
    if before.provider == "anthropic" or before.cache_write is not None:
        if before.cache_read is None and before.cache_write is None:
            return None
        return (before.cache_read or 0) + (before.cache_write or 0)
    count, least = before.input_tokens, _LEAST.get(before.provider or "", 0)
    return 0 if count is not None and count < least else count


def _reasons(now: Prompt, before: Prompt, changed: Difference) -> list[Reason]:
    return [reason for judge in _JUDGES if (reason := judge(now, before, changed)) is not None]


def _alone(now: Prompt) -> tuple[Reason, ...]:
    """What can be said of a prompt without another one."""
    found = (_unmarked(now), _short(now))
    return tuple(reason for reason in found if reason is not None)


def _model(now: Prompt, before: Prompt, changed: Difference) -> Reason | None:
    if changed.model is None:
        return None
    return Reason("another model", f"{before.model or '?'} before, {now.model or '?'} now")


def _key(now: Prompt, before: Prompt, changed: Difference) -> Reason | None:
    if before.key == now.key:
        return None
    detail = f"{before.key or 'none'} before, {now.key or 'none'} now: of another account?"
    return Reason("another key", detail)


def _beta(now: Prompt, before: Prompt, changed: Difference) -> Reason | None:
    if not changed.headers:
        return None
    told = "; ".join(f"{name}: {old or '-'} → {new or '-'}" for name, old, new in changed.headers)
    return Reason("another header", told)


def _tools(now: Prompt, before: Prompt, changed: Difference) -> Reason | None:
    change = changed.tool
    if change is None:
        return None
    if change.order_only:
        return Reason(
            "a tool is written in another order of its fields", _tool(now, change), change
        )
    words = [
        f"{sign}{name}"
        for sign, names in (
            ("+", changed.tools_added),
            ("-", changed.tools_removed),
            ("~", changed.tools_changed),
        )
        for name in names
    ]
    if not words:
        return Reason(
            "the tools stand in another order", f"from tool {change.piece + 1} on", change
        )
    return Reason("other tools", f"{' '.join(words)}; from tool {change.piece + 1} on", change)


def _tool(now: Prompt, change: Change) -> str:
    return now.tools[change.piece].name if change.piece < len(now.tools) else ""


def _system(now: Prompt, before: Prompt, changed: Difference) -> Reason | None:
    change = changed.system
    if change is None:
        return None
    block = f"block {change.piece + 1}, " if max(len(now.system), len(before.system)) > 1 else ""
    return Reason("another system prompt", f"{block}from character {change.at} on", change)


def _messages(now: Prompt, before: Prompt, changed: Difference) -> Reason | None:
    if not changed.lost or changed.message is None:
        return None
    if not changed.added:
        return Reason("messages were taken away at the end", f"{changed.lost} of them")
    where = f"from message {changed.same + 1} of {len(before.messages)} on"
    return Reason("an earlier message is another one", where, changed.message)


def _settings(now: Prompt, before: Prompt, changed: Difference) -> Reason | None:
    if not changed.settings:
        return None
    told = "; ".join(f"{name}: {old or '-'} → {new or '-'}" for name, old, new in changed.settings)
    return Reason("other settings", told)


def _late(now: Prompt, before: Prompt, changed: Difference) -> Reason | None:
    if now.began is None or before.began is None:
        return None
    # A prefix is kept from its last use, which is when the answer began at the latest.
    gap = now.began - before.began
    kept = before.ttl or _KEPT
    if gap <= kept:
        return None
    after = "an hour" if kept >= _KEPT_LONG else "five minutes"
    sure = "" if before.provider == "anthropic" else " or so"
    return Reason("too late", f"{_minutes(gap)} after the call before; kept {after}{sure}")


def _overlap(now: Prompt, before: Prompt, changed: Difference) -> Reason | None:
    """A cache can be read once the answer of who writes it begins."""
    if now.began is None or before.ended is None or now.began >= before.ended:
        return None
    return Reason("at the same time", "the call before was not finished when this one began")


def _failed(now: Prompt, before: Prompt, changed: Difference) -> Reason | None:
    return None if before.ok else Reason("the call before failed", "it may have cached nothing")


def _empty(now: Prompt, before: Prompt, changed: Difference) -> Reason | None:
    """What the call before left, where that is nothing."""
    least = _LEAST.get(before.provider or "", 0)
    if before.input_tokens is not None and before.input_tokens < least:
        detail = f"it had {before.input_tokens} tokens; {least} at least, with some models more"
        return Reason("the call before was too short to be cached", detail)
    if _could(before) == 0:
        return Reason("the call before cached nothing", "it wrote nothing and read nothing")
    return None


def _unmarked(now: Prompt) -> Reason | None:
    if now.provider != "anthropic" or now.marks:
        return None
    return Reason("nothing is marked for the cache", "no cache_control in the request")


def _short(now: Prompt) -> Reason | None:
    least = _LEAST.get(now.provider or "")
    if least is None or now.input_tokens is None or now.input_tokens >= least:
        return None
    return Reason(
        "too short", f"{now.input_tokens} tokens; {least} at least, with some models more"
    )


_JUDGES: tuple[Callable[[Prompt, Prompt, Difference], Reason | None], ...] = (
    _model,
    _key,
    _beta,
    _tools,
    _system,
    _messages,
    _settings,
    _late,
    _overlap,
    _failed,
    _empty,
    lambda now, before, changed: _unmarked(now),
    lambda now, before, changed: _short(now),
)


def _minutes(seconds: float) -> str:
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"
