"""What is known of a call beside its conversation: facts, usage, and its times as a drawing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llm_passthrough.conversation.values import Json, as_dict, as_list, size
from llm_passthrough.shown import duration, local_time, money, tokens

_USAGE = {
    "input_tokens": "in",
    "cache_read_tokens": "from cache",
    "cache_write_tokens": "to cache",
    "output_tokens": "out",
    "reasoning_tokens": "reasoning",
}
WIDTH = 1000
"""The width of a timeline in its own units."""


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a timeline: from `x`, `width` wide, in units of WIDTH."""

    name: str
    kind: str
    x: float
    width: float
    told: str


def facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values, in the order of interest; what is unknown is left out."""
    request, response = as_dict(record.get("request")), as_dict(record.get("response"))
    found = (
        ("time", local_time(str(record.get("time")))),
        ("client", record.get("client")),
        ("provider", _joined(record, "provider", "route")),
        ("operation", record.get("operation")),
        ("key", record.get("key")),
        ("request", f"{request.get('method')} {request.get('url')}"),
        ("sent", size(request.get("bytes"))),
        ("received", size(response.get("bytes")) if response else None),
        ("finished", ", ".join(map(str, as_list(record.get("finish_reasons"))))),
        ("tier", record.get("service_tier")),
        ("attempt", record.get("attempt")),
        ("provider's id", record.get("upstream_request_id")),
        ("session", _pairs(record.get("session"))),
        ("limits", _pairs(record.get("rate_limits"))),
        ("unread", record.get("unread")),
        ("part of", record.get("part_of")),
        ("turn", record.get("turn")),
        ("turns", record.get("turns")),
        ("id", record.get("id")),
    )
    return [(name, str(value)) for name, value in found if value not in (None, "")]


def model(record: Mapping[str, Any]) -> str:
    """The model, with the one that was asked for where that is another."""
    names = as_dict(record.get("model"))
    asked, said = names.get("requested"), names.get("response")
    if asked and said and asked != said:
        return f"{said} (asked for: {asked})"
    return str(said or asked or record.get("operation") or "a call")


def usage(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Token counts, the usual ones first, then the cost."""
    counts = as_dict(record.get("usage"))
    found = [
        (_USAGE.get(name, name.removesuffix("_tokens").replace("_", " ")), _count(counts[name]))
        for name in (*_USAGE, *(name for name in counts if name not in _USAGE))
        if counts.get(name) is not None and name != "total_tokens"
    ]
    cost = as_dict(record.get("cost"))
    amount = cost.get("amount")
    if isinstance(amount, int | float):
        found.append(("cost", money(float(amount), cost.get("currency"))))
    return found


def error(record: Mapping[str, Any]) -> str:
    """What went wrong, and on whose side."""
    fault = as_dict(record.get("error"))
    if not fault:
        return ""
    return f"{fault.get('type')} ({fault.get('origin')}): {fault.get('message')}"


def kept(record: Mapping[str, Any]) -> str:
    """Why there is no body to show, where there is none."""
    request, response = as_dict(record.get("request")), as_dict(record.get("response"))
    if request.get("headers") is not None or not (request.get("bytes") or response.get("bytes")):
        return ""
    how = (
        "usage" if record.get("usage") or as_dict(record.get("model")).get("requested") else "none"
    )
    return (
        f"Headers and bodies of this call were not kept: it was recorded with capture {how} "
        "(log.capture, or the request's x-passthrough-capture)."
    )


def timeline(record: Mapping[str, Any]) -> list[Span]:
    """The times of a call one after the other; empty where there are none."""
    timing = as_dict(record.get("timing_ms"))
    total = _ms(timing, "total")
    if not total:
        return []
    own, dialled, shaken = (_ms(timing, name) for name in ("gateway", "connect", "tls"))
    reached = None if dialled is None else (own or 0.0) + dialled
    marks = [
        ("gateway", "own", own),
        ("connecting", "dial", reached),
        ("TLS", "tls", None if reached is None or shaken is None else reached + shaken),
        ("waiting for the first byte", "wait", _ms(timing, "first_byte")),
        ("to the first token", "think", _ms(timing, "first_token")),
        ("tokens" if _ms(timing, "first_token") is not None else "answer", "flow", total),
    ]
    found: list[Span] = []
    at = 0.0
    for name, kind, end in marks:
        if end is None:
            continue
        end = min(max(end, at), total)
        found.append(
            Span(name, kind, at / total * WIDTH, (end - at) / total * WIDTH, duration(end - at))
        )
        at = end
    return found


def speed(record: Mapping[str, Any]) -> str:
    """Tokens a second, from the first token to the end."""
    timing, counts = as_dict(record.get("timing_ms")), as_dict(record.get("usage"))
    total, first = _ms(timing, "total"), _ms(timing, "first_token")
    count = counts.get("output_tokens")
    if not isinstance(count, int) or total is None or first is None or total - first < 1:
        return ""
    return f"{count / (total - first) * 1000:.0f} tokens/s"


def raw(record: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Request and answer as they went: a name, the head, and the body."""
    request, response = as_dict(record.get("request")), as_dict(record.get("response"))
    first = f"{request.get('method')} {request.get('url')}"
    yield "request", _head(first, request), _body(request)
    if response:
        yield "answer", _head(str(response.get("status")), response), _body(response)


def _head(first: str, side: Json) -> str:
    pairs = side.get("headers")
    if pairs is None:
        return f"{first}\n(headers were not kept)"
    told = [f"{pair[0]}: {pair[1]}" for pair in as_list(pairs) if len(as_list(pair)) == 2]
    return "\n".join((first, *told))


def _body(side: Json) -> str:
    body = side.get("body")
    if not isinstance(body, str):
        return f"({size(side.get('bytes'))}, not kept)" if side.get("bytes") else ""
    told = "(no text: base64)\n" if side.get("encoding") == "base64" else ""
    cut = f"\n(cut off here; {size(side.get('bytes'))} went by)" if side.get("truncated") else ""
    return f"{told}{body}{cut}"


def _ms(timing: Json, name: str) -> float | None:
    value = timing.get(name)
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e12 else None


def _count(value: object) -> str:
    return tokens(value) if isinstance(value, int) else str(value)


def _joined(record: Mapping[str, Any], *names: str) -> str:
    return "  ".join(str(record[name]) for name in names if record.get(name))


def _pairs(pairs: Any) -> str:
    return ", ".join(f"{name} {value}" for name, value in as_dict(pairs).items())
