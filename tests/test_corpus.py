"""Every exchange of a corpus of recorded provider answers is read right, in every cut.

The corpus lies beside the repository (`../shared/corpus`) or where LLM_PASSTHROUGH_CORPUS says;
it is not part of the repository, and without it these tests are skipped. What a right record
says was worked out by its makers with the vendors' SDKs.
"""

import base64
import json
import os
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from llm_passthrough.asked import read_request
from llm_passthrough.dialects import reader
from llm_passthrough.prices import price
from llm_passthrough.usage import Reading

CORPUS = Path(
    os.environ.get("LLM_PASSTHROUGH_CORPUS")
    or Path(__file__).resolve().parents[2] / "shared" / "corpus"
)
pytestmark = pytest.mark.skipif(
    not (CORPUS / "corpus_dev.jsonl").is_file(),
    reason="no corpus of exchanges beside the repository, nor in LLM_PASSTHROUGH_CORPUS",
)

# Scored fields in which the expectation is wrong: (id, field) -> why. None is, at present.
WRONG: dict[tuple[str, str], str] = {}

TOKENS = (
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens",
    "reasoning_tokens", "input_audio_tokens", "output_audio_tokens",
)  # fmt: skip
SHAPES = {"anthropic": "anthropic", "gemini": "google", "vertex": "google"}
# Providers of the corpus under the name that a route to them would have.
NAMES = {"openai-codex": "openai", "bedrock-mantle": "bedrock", "ollama-cloud": "ollama"}
WHEN = datetime(2026, 11, 25, 12, tzinfo=UTC)  # some prices depend on the day and the hour
BYTEWISE = 2_000  # answers up to this length are also fed byte by byte


@cache
def exchanges() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    with (CORPUS / "expected_dev.jsonl").open(encoding="utf-8") as lines:
        expected = {row["id"]: row for row in map(json.loads, lines)}
    with (CORPUS / "corpus_dev.jsonl").open(encoding="utf-8") as lines:
        return {row["id"]: (row, expected[row["id"]]) for row in map(json.loads, lines)}


def content(part: dict[str, Any]) -> bytes:
    if part.get("body_encoding") == "base64":
        return base64.b64decode(part["body"])
    return str(part["body"]).encode()


def path_of(exchange: dict[str, Any]) -> bytes:
    url = urlsplit(exchange["request"]["url"])
    return (url.path + (f"?{url.query}" if url.query else "")).encode()


def read(exchange: dict[str, Any], pieces: Iterator[bytes]) -> Reading | None:
    provider, answer = exchange["provider"], exchange["response"]
    kind = next((v for k, v in answer["headers"] if k.lower() == "content-type"), "")
    it = reader(
        path_of(exchange),
        provider,
        SHAPES.get(provider, "openai"),
        kind,
        answer["status"],
        [(k, v) for k, v in answer["headers"]],
    )
    if it is None:
        return None
    for piece in pieces:
        it.feed(piece, 1.0)
    return it.end()


def whole(body: bytes) -> Iterator[bytes]:
    yield body


def irregular(body: bytes, seed: str) -> Iterator[bytes]:
    """Cuts inside characters, between CR and LF, between the line feeds of a blank line."""
    chance = random.Random(seed)
    places = re.finditer(rb"[\r\n\x80-\xbf]", body)
    cuts = {place.start() for place in places if chance.random() < 0.3}
    at = 0
    while at < len(body):
        at += chance.choice((1, 2, 3, 7, 16, 61, 333, 1460, 16384))
        cuts.add(at)
    last = 0
    for cut in sorted(cut for cut in cuts if 0 < cut < len(body)):
        yield body[last:cut]
        last = cut
    yield body[last:]


def bytewise(body: bytes) -> Iterator[bytes]:
    for at in range(len(body)):
        yield body[at : at + 1]


def wrong_fields(exchange: dict[str, Any], want: dict[str, Any], got: Reading) -> dict[str, Any]:
    """The scored fields that differ: name -> (got, want)."""
    found = {}
    for name in want["scored"]:
        mine, right = _pair(name, exchange, want, got)
        if mine != right and (want["id"], name) not in WRONG:
            found[name] = (mine, right)
    return found


def _pair(
    name: str, exchange: dict[str, Any], want: dict[str, Any], got: Reading
) -> tuple[Any, Any]:
    usage = got.usage
    if name in TOKENS:
        return (usage and getattr(usage, name)) or 0, (want["usage"] or {}).get(name) or 0
    error = want.get("error") or {}
    rows: dict[str, Any] = {
        "no_usage": lambda: (bool(usage and (usage.input_tokens or usage.output_tokens)), False),
        "http_status": lambda: (exchange["response"]["status"], want["http_status"]),
        "response_model": lambda: (got.model, want["response_model"]),
        "response_id": lambda: (got.response_id, want["response_id"]),
        "response_status": lambda: (None, None),  # told by finish_reasons and complete
        "finish_reasons": lambda: (list(got.finish_reasons), want["finish_reasons"]),
        "tool_calls": lambda: (sorted(got.tool_calls), sorted(map(str, want["tool_calls"]))),
        "error.type": lambda: (error.get("type") and got.error_type, error.get("type")),
        "error.code": lambda: (
            error.get("code") and got.error_code,
            error.get("code") and str(error["code"]),
        ),
    }
    return rows[name]()  # type: ignore[no-any-return]


NOTHING = Reading()


def test_every_scored_field_of_every_answer_is_right() -> None:
    wrong = {}
    for ident, (exchange, want) in exchanges().items():
        got = read(exchange, whole(content(exchange["response"]))) or NOTHING
        if fields := wrong_fields(exchange, want, got):
            wrong[ident] = fields
    assert wrong == {}


def test_any_cut_of_an_answer_reads_the_same() -> None:
    differing = {}
    for ident, (exchange, _) in exchanges().items():
        body = content(exchange["response"])
        first = read(exchange, whole(body))
        for pieces in (
            irregular(body, ident),
            bytewise(body) if len(body) <= BYTEWISE else irregular(body, f"{ident} again"),
        ):
            if (other := read(exchange, pieces)) != first:
                differing[ident] = (first, other)
    assert differing == {}


def test_nothing_in_a_real_answer_is_unread() -> None:
    notes = {}
    for ident, (exchange, _) in exchanges().items():
        got = read(exchange, whole(content(exchange["response"])))
        if got and got.unread:
            notes[ident] = got.unread
    assert notes == {}


def test_a_stream_that_breaks_off_is_read_as_far_as_it_went_and_is_not_complete() -> None:
    wrong = []
    for ident, (exchange, _) in exchanges().items():
        body = content(exchange["response"])
        if exchange["streaming"] and len(body) > 400:
            got = read(exchange, whole(body[: len(body) // 2]))
            if got and got.complete and got.error_type is None:
                wrong.append(ident)
    # These are several answers one after the other in one recording: half of it is whole.
    assert [ident for ident in wrong if b"message_stop" not in _half(ident)] == []


def _half(ident: str) -> bytes:
    body = content(exchanges()[ident][0]["response"])
    return body[: len(body) // 2]


def test_the_model_that_was_asked_for_is_found() -> None:
    wrong = {}
    for ident, (exchange, want) in exchanges().items():
        shape = SHAPES.get(exchange["provider"], "openai")
        asked = read_request(path_of(exchange), shape, content(exchange["request"]))
        names = want.get("model_candidates") or [want.get("model")]
        if want.get("model") and asked.model and asked.model not in names:
            wrong[ident] = (asked.model, names)
    assert wrong == {}


def test_what_an_answer_cost_agrees() -> None:
    pytest.importorskip("genai_prices")
    wrong = {}
    for ident, (exchange, want) in exchanges().items():
        got = read(exchange, whole(content(exchange["response"]))) or NOTHING
        if "price_usd" not in want or "input_tokens" not in want["scored"] or got.usage is None:
            continue
        provider = NAMES.get(exchange["provider"], exchange["provider"])
        cost = price(provider, got.model or want["model"], got.usage, WHEN)
        right = float(want["price_usd"])
        if cost is not None and abs(cost.amount - right) > max(1e-9, right / 1000):
            wrong[ident] = (cost.amount, right)
    assert wrong == {}
