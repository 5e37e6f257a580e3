"""Recorded provider answers, replayed by a server of their own through the real gateway.

The corpus lies outside the repository; `test_corpus` says where. Its own `replay_upstream.py` is
the provider, run where it lies, and cuts and compresses the answers as it is asked to.
"""

import contextlib
import hashlib
import http.client
import importlib.util
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from llm_passthrough.bodies import decoded
from test_corpus import CORPUS, SHAPES, TOKENS, content, exchanges, path_of

from live.harness import CLIENT_KEY, Gateway

REPLAY = CORPUS / "replay_upstream.py"
pytestmark = pytest.mark.skipif(
    not (REPLAY.is_file() and (CORPUS / "corpus_dev.jsonl").is_file()),
    reason="no corpus of exchanges beside the repository, nor in LLM_PASSTHROUGH_CORPUS",
)

MOST = 60
LONGEST = 400_000
PREFIXES = {"openai": "/corpus", "anthropic": "/corpus_messages", "google": "/corpus_content"}
# The replay server compresses with what is installed here.
CODINGS = [
    name
    for name, needs in (("gzip", "gzip"), ("br", "brotli"), ("zstd", "zstandard"))
    if importlib.util.find_spec(needs)
]
NOT_SENT = frozenset(
    "authorization host content-length transfer-encoding connection accept-encoding".split()
)


@dataclass
class Replayed:
    """One exchange as its client saw it, and its record."""

    exchange: dict[str, Any]
    want: dict[str, Any]
    coding: str | None
    status: int
    headers: dict[str, str]
    body: bytes
    record: dict[str, Any]


def chosen() -> list[str]:
    """One exchange of each kind, then further ones, spread evenly."""
    kinds: dict[tuple[str, str, bool], list[str]] = {}
    for ident, (exchange, want) in exchanges().items():
        kind = exchange["api"], exchange["wire"], exchange["response"]["status"] >= 400
        if want["scored"] and len(content(exchange["response"])) < LONGEST:
            kinds.setdefault(kind, []).append(ident)
    rows = sorted(kinds.values(), key=lambda row: (-len(row), row))
    first = [row[0] for row in rows][:MOST]
    spare = [row[len(row) // 2] for row in rows if len(row) > 2]
    return list(dict.fromkeys([*first, *spare]))[:MOST]


@pytest.fixture(scope="module")
def replaying() -> Iterator[str]:
    """The URL of the replay server."""
    command = [sys.executable, str(REPLAY), "--port", "0", str(CORPUS / "corpus_dev.jsonl")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.search(r" on ([\d.]+:\d+)", line)
    assert found, line
    # What else it says must not fill the pipe.
    threading.Thread(target=process.stderr.read, daemon=True).start()
    yield f"http://{found[1]}"
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="module")
def corpus_gateway(replaying: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with a route for each dialect, all to the replay server."""
    key = {"name": "main", "value": "sk-CORPUS-KEY-0123456789"}
    routes = [
        {"prefix": prefix, "upstream": replaying, "dialect": dialect, "keys": [key]}
        for dialect, prefix in PREFIXES.items()
    ]
    folder: Path = tmp_path_factory.mktemp("corpus")
    gateway = Gateway(folder, {"routes": routes, "log": {"body_limit": 1 << 24}})
    yield gateway
    gateway.stop()


def send(gateway: Gateway, number: int, ident: str) -> tuple[str | None, int, Any, bytes]:
    """One request as it was recorded: coding, status, headers and raw body of its answer."""
    exchange = exchanges()[ident][0]
    asked = exchange["request"]
    prefix = PREFIXES[SHAPES.get(exchange["provider"], "openai")]
    coding = [None, *CODINGS][number % (1 + len(CODINGS))]
    headers = {n: v for n, v in asked["headers"] if n.lower() not in NOT_SENT}
    headers |= {"authorization": f"Bearer {CLIENT_KEY}", "x-corpus-id": ident}
    headers |= {"x-corpus-chunk": "irregular", "x-session-id": ident}
    headers |= {"x-corpus-framing": ("chunked", "length", "close")[number % 3]}
    if coding:
        headers["x-corpus-encoding"] = coding
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", gateway.port)) as connection:
        connection.timeout = 30
        target = prefix + path_of(exchange).decode()
        connection.putrequest(asked["method"], target, skip_accept_encoding=True)
        body = content(asked) if asked.get("body") else b""
        for name, value in (headers | {"content-length": str(len(body))}).items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return coding, answer.status, answer.headers, answer.read()


@pytest.fixture(scope="module")
def replayed(corpus_gateway: Gateway) -> dict[str, Replayed]:
    """All chosen exchanges, sent side by side, with their records."""
    idents = chosen()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda row: send(corpus_gateway, *row), list(enumerate(idents))))
    end = time.monotonic() + 15
    while corpus_gateway.records_path.read_bytes().count(b"\n") < len(idents):
        assert time.monotonic() < end, corpus_gateway.output
        time.sleep(0.05)
    records = {
        record["session"]["x-session-id"]: record for record in corpus_gateway.records(len(idents))
    }
    return {
        ident: Replayed(*exchanges()[ident], coding, status, headers, body, records[ident])
        for ident, (coding, status, headers, body) in zip(idents, answers, strict=True)
    }


def test_the_choice_holds_every_kind_of_wire(replayed: dict[str, Replayed]) -> None:
    assert len(replayed) == MOST
    kinds = {(one.exchange["wire"], one.exchange["streaming"]) for one in replayed.values()}
    assert len(kinds) >= 4
    assert {one.coding for one in replayed.values()} == {None, *CODINGS}


def test_the_client_gets_every_answer_as_it_was_recorded(replayed: dict[str, Replayed]) -> None:
    wrong = {}
    for ident, one in replayed.items():
        body = one.body
        if one.coding:
            assert one.headers["content-encoding"] == one.coding
            body, _ = decoded(body, one.coding, 1 << 26)
        if (one.status, body) != (
            one.exchange["response"]["status"],
            content(one.exchange["response"]),
        ):
            wrong[ident] = (one.status, one.coding, len(body))
    assert wrong == {}


def test_the_record_has_the_bytes_of_the_wire(replayed: dict[str, Replayed]) -> None:
    wrong = {}
    for ident, one in replayed.items():
        told = one.record["response"]
        digest = hashlib.sha256(one.body).hexdigest() if one.body else None
        if (told["bytes"], told["sha256"]) != (len(one.body), digest):
            wrong[ident] = (told["bytes"], len(one.body))
        request = content(one.exchange["request"]) if one.exchange["request"].get("body") else b""
        if one.record["request"]["bytes"] != len(request):
            wrong[ident] = (one.record["request"]["bytes"], len(request))
    assert wrong == {}


def test_no_exchange_is_taken_for_a_broken_one(replayed: dict[str, Replayed]) -> None:
    wrong = {}
    for ident, one in replayed.items():
        fine = ("upstream_error",) if one.status >= 400 or one.want.get("error") else ("ok",)
        if one.record["outcome"] not in fine or one.record["unread"]:
            error, unread = one.record["error"], one.record["unread"]
            wrong[ident] = (one.record["outcome"], error, unread, one.coding)
    assert wrong == {}


def pair(name: str, want: dict[str, Any], record: dict[str, Any]) -> tuple[Any, Any]:
    """What a record says of a scored field, and what is right."""
    usage, error = record["usage"] or {}, record["error"] or {}
    told = want.get("error") or {}
    if name in TOKENS:
        return usage.get(name) or 0, (want["usage"] or {}).get(name) or 0
    rows: dict[str, tuple[Any, Any]] = {
        "no_usage": (bool(usage.get("input_tokens") or usage.get("output_tokens")), False),
        "http_status": (record["response"]["status"], want["http_status"]),
        "response_model": (record["model"]["response"], want.get("response_model")),
        "response_id": (record["response_id"], want.get("response_id")),
        "response_status": (None, None),  # told by finish_reasons and the outcome
        "finish_reasons": (record["finish_reasons"], want.get("finish_reasons")),
        "tool_calls": (
            sorted(record["tool_calls"]),
            sorted(map(str, want.get("tool_calls") or [])),
        ),
        "error.type": (told.get("type") and error.get("type"), told.get("type")),
        "error.code": (
            told.get("code") and error.get("code"),
            told.get("code") and str(told["code"]),
        ),
    }
    return rows[name]


def test_every_scored_field_of_every_record_is_right(replayed: dict[str, Replayed]) -> None:
    wrong = {}
    for ident, one in replayed.items():
        pairs = {name: pair(name, one.want, one.record) for name in one.want["scored"]}
        if differing := {name: both for name, both in pairs.items() if both[0] != both[1]}:
            wrong[ident] = differing
    assert wrong == {}


def test_the_model_that_was_asked_for_is_told(replayed: dict[str, Replayed]) -> None:
    wrong = {}
    for ident, one in replayed.items():
        names = one.want.get("model_candidates") or [one.want.get("model")]
        asked = one.record["model"]["requested"]
        if one.want.get("model") and asked and asked not in names:
            wrong[ident] = (asked, names)
    assert wrong == {}


def test_the_first_token_of_a_stream_comes_between_its_head_and_its_end(
    replayed: dict[str, Replayed],
) -> None:
    seen = 0
    for one in replayed.values():
        timing = one.record["timing_ms"]
        if timing["first_token"] is not None:
            seen += 1
            assert timing["first_byte"] <= timing["first_token"] <= timing["total"]
    assert seen >= 10
