"""What workers tell each other: keys that rest, by name; never more than what is new."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from llm_passthrough.build import build, writer_of
from llm_passthrough.clients import Identity
from llm_passthrough.config import parse
from llm_passthrough.errors import Refusal
from llm_passthrough.gateway import Gateway
from llm_passthrough.keyring import Key, KeyRing
from llm_passthrough.policy import Client
from llm_passthrough.workers.pool import Pool
from llm_passthrough.workers.seat import Seat
from llm_passthrough.workers.share import Share

NOW = 1000.0
SECRETS = ("sk-one-0123456789-REAL", "sk-two-0123456789-REAL", "alice-token-0123456789")


class Worker:
    """A worker without its process: what it tells is in `told`."""

    def __init__(self, number: int, folder: Path) -> None:
        keys = [{"name": f"key-{n}", "value": value} for n, value in enumerate(SECRETS[:2])]
        document = {
            "providers": {"openai": {"keys": keys}},
            "clients": [{"name": "alice", "tokens": [SECRETS[2]]}],
            "log": {"path": str(folder / f"{number}.jsonl")},
            "limits": {"requests_per_client": 2},
        }
        parts = build(parse(document, "test")[0], {}, "test")
        self.told: list[bytes] = []
        line = SimpleNamespace(send=self.told.append)
        seat = cast(Seat, SimpleNamespace(number=number, of=2, line=line))
        self.pool = Pool(f"{number}.1")
        self.gateway = Gateway(parts, writer_of(parts, None), allowance=self.pool)
        self.share = Share(seat, self.gateway, self.pool)
        self.share.look()

    @property
    def ring(self) -> KeyRing:
        return next(
            up.ring
            for route in self.gateway.parts.routes.table
            for up in route.upstreams
            if up.provider.name == "openai"
        )

    @property
    def key(self) -> Key:
        return self.ring.keys[0]

    def news(self) -> list[dict[str, Any]]:
        """What it tells now."""
        self.told.clear()
        self.share.look()
        return [json.loads(line) for line in self.told]

    def tell(self, other: "Worker") -> None:
        """Everything new goes to another one."""
        for news in self.news():
            other.share.hear(json.dumps(news).encode())


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Worker, Worker]:
    return Worker(1, tmp_path), Worker(2, tmp_path)


def refused(worker: Worker, now: float = NOW) -> None:
    worker.ring.heard(worker.key, 401, {}, now, time.time())


def test_a_rest_is_told_once_and_holds_there_too(pair: tuple[Worker, Worker]) -> None:
    one, other = pair
    refused(one)
    one.tell(other)
    assert other.ring.describe(other.key, NOW + 1) == "rests 599 s: answered 401"
    assert other.ring.states[other.key.name] == one.ring.states[one.key.name]
    assert one.news() == other.news() == []


def test_no_credential_is_told(pair: tuple[Worker, Worker]) -> None:
    one, _ = pair
    refused(one)
    one.pool.spend("alice", one.pool.used("alice").day)
    one.gateway.tickets.hand_out([(b"X-Goog-Upload-URL", b"http://h/u?upload_id=s3")], ANY)
    told = json.dumps(one.news()) + repr(one.told)
    assert "key-0" in told
    assert "alice" in told
    assert not [secret for secret in (*SECRETS, "s3") if secret in told]


ANY = Identity(Client("alice"), b"digest")


@pytest.mark.parametrize(
    ("meanwhile", "rests"),
    [
        pytest.param(lambda other: None, False, id="the same rest"),
        pytest.param(lambda other: refused(other, NOW + 700), True, id="a later one"),
    ],
)
def test_a_good_answer_ends_the_rest_that_it_came_after(
    pair: tuple[Worker, Worker], meanwhile: Callable[[Worker], None], rests: bool
) -> None:
    one, other = pair
    refused(one)
    one.tell(other)
    one.ring.good(one.key, NOW + 650)
    meanwhile(other)
    one.tell(other)
    assert other.ring.rests(other.key, NOW + 701) == rests
    assert one.news() == []


def test_the_longer_of_two_rests_holds_in_both(pair: tuple[Worker, Worker]) -> None:
    one, other = pair
    refused(one)
    other.ring.heard(other.key, 429, {"retry-after": "9"}, NOW, time.time())
    one.tell(other)
    other.tell(one)
    for each in pair:
        assert each.ring.describe(each.key, NOW) == "rests 600 s: answered 401"


def test_a_newcomer_is_told_everything_again(pair: tuple[Worker, Worker], tmp_path: Path) -> None:
    one, other = pair
    refused(one)
    one.tell(other)
    assert not one.news()
    one.share.again()
    third = Worker(3, tmp_path)
    one.tell(third)
    assert third.ring.rests(third.key, NOW + 1)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"{", id="no JSON"),
        pytest.param(b'{"keys": [["openai"]]}', id="too little"),
        pytest.param(b'{"keys": [["openai", "gone", 1, 2, "x", 1]]}', id="no such key"),
        pytest.param(b'{"keys": [["gone", "key-0", 1, 2, "x", 1]]}', id="no such provider"),
        pytest.param(b'{"ticket": ["00", "/x", "00"]}', id="no such client"),
        pytest.param(b'{"health": {"log": []}}', id="from nobody"),
    ],
)
def test_what_makes_no_sense_changes_nothing(pair: tuple[Worker, Worker], line: bytes) -> None:
    one, _ = pair
    one.share.hear(line)
    assert one.news() == []
    assert not one.ring.states


def test_requests_that_are_open_elsewhere_count_until_they_or_their_worker_are_gone(
    pair: tuple[Worker, Worker],
) -> None:
    one, other = pair
    exchanges = [opened(one), opened(one)]
    for exchange in exchanges:
        one.gateway.crowd.enter(exchange)
    one.tell(other)
    with pytest.raises(Refusal, match="alice has 2 requests open already"):
        other.gateway.crowd.enter(opened(other))
    one.gateway.crowd.leave(exchanges[0])
    one.tell(other)
    other.gateway.crowd.enter(opened(other))
    with pytest.raises(Refusal):
        other.gateway.crowd.enter(opened(other))
    other.share.forget(1)
    other.gateway.crowd.enter(opened(other))


def opened(worker: Worker) -> Any:
    """A part of an exchange, of alice's."""
    (identity,) = worker.gateway.parts.clients.by_digest.values()
    return SimpleNamespace(identity=identity, place=None)


def test_health_is_of_all(pair: tuple[Worker, Worker]) -> None:
    one, other = pair
    for worker, written in ((one, 3), (other, 4)):
        worker.gateway.writer.tally.written = written
        worker.gateway.connections.open(f"id-{written}")
        worker.gateway.connections.refused["head_timeout"] += 1
    other.gateway.writer.tally.fault = "the disk is full"
    other.tell(one)
    whole = one.gateway.writer.tally.whole()
    assert (whole.written, whole.fault) == (7, "the disk is full")
    assert one.gateway.writer.tally.healthy
    assert one.gateway.connections.told() == {
        "connections": 2,
        "unrecorded": {"head_timeout": 2},
        "worker": 1,
        "workers": 2,
    }
