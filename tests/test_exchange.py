"""An exchange: what is noted of a request while it is alive, and the facts at its end."""

import hashlib
import itertools
from random import Random

import pytest
from llm_passthrough import config
from llm_passthrough.build import Parts, build
from llm_passthrough.exchange import Exchange, new_id
from llm_passthrough.listen import Ear
from llm_passthrough.record import Fault
from llm_passthrough.tee import Tee
from llm_passthrough.usage import Reading
from llm_passthrough.verdict import decide
from llm_passthrough.wire import strip

KEY = "sk-REAL-KEY-0123456789"
CHAT = b'{"model":"gpt-4o"}'


def parts() -> Parts:
    document = {"providers": {"openai": {"keys": [{"name": "main", "value": KEY}]}}}
    return build(config.parse(document, "file")[0], {}, "file")


def admitted(target: bytes = b"/openai_passthrough/v1/chat/completions") -> Exchange:
    """An exchange as it is after its route was chosen."""
    fields = ((b"Host", b"localhost:8080"), (b"Authorization", b"Bearer sk-CLIENT-0123456789"))
    stripped = strip(fields, target)
    one = Exchange(
        "the-id", 1000.0, 50.0, "POST", target, stripped, request_headers=stripped.fields
    )
    one.body_limit = 10
    one.own_base = b"http://localhost:8080/openai_passthrough"
    one.route, one.path, one.query = parts().routes.choose(target)
    return one


def signed(body: bytes | None = CHAT) -> Exchange:
    """An exchange as it is when its request leaves."""
    one = admitted()
    verdict = decide(one.question("POST", body), Random(0))
    headers = verdict.sealed(one.stripped.fields, verdict.secret)
    one.sign(verdict, verdict.secret, headers.fields)
    return one


def test_ids_differ_and_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = itertools.count(1_700_000_000, 60)
    monkeypatch.setattr("time.time_ns", lambda: next(seconds) * 10**9)
    ids = [new_id() for _ in range(50)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 50
    assert {len(one) for one in ids} == {28}
    assert ids[0].startswith(f"{1_700_000_000_000:012x}")


def test_before_anything_is_decided_the_facts_are_those_of_the_client() -> None:
    facts = admitted().facts(50.5, "refused", Fault("x", "y", "gateway"))
    assert facts.total == 0.5
    assert (facts.provider, facts.key, facts.url, facts.status) == (None, None, None, None)
    assert facts.route == "/openai_passthrough"
    assert facts.request_headers == ((b"Host", b"localhost:8080"),)
    assert "sk-CLIENT-0123456789" in facts.secrets


def test_what_was_decided_is_told_without_the_key() -> None:
    one = signed()
    one.status, one.headers_at = 200, 50.25
    facts = one.facts(51.0, "ok", None)
    assert facts.url == "https://api.openai.com/v1/chat/completions"
    assert (facts.provider, facts.key, facts.detected_by) == ("openai", "main", "prefix")
    assert dict(facts.request_headers)[b"Authorization"] == b"Bearer [openai/main]"
    assert facts.request.copy == CHAT
    assert facts.request.size == len(CHAT)
    assert (facts.first_byte, facts.total) == (0.25, 1.0)
    assert KEY in facts.secrets
    assert KEY not in repr(one)


def test_a_streamed_request_is_told_as_far_as_its_tee_kept_it() -> None:
    one = signed(None)
    one.request_tee = Tee(10, lambda: 0.0)
    for piece in (b"0123456", b"789abcdef"):
        one.request_tee(piece)
    facts = one.facts(51.0, "ok", None)
    assert facts.request.copy == b"0123456789"
    assert facts.request.size == 16
    assert facts.request.sha256 == hashlib.sha256(b"0123456789abcdef").hexdigest()


def test_a_refusal_takes_the_place_of_what_was_seen_of_an_answer() -> None:
    one = signed()
    one.answer_tee = Tee(10, lambda: 0.0)
    one.answer_tee(b"theirs")
    one.refuse(502, ((b"x-passthrough-error", b"internal"),), b"ours")
    facts = one.facts(51.0, "refused", None)
    assert (facts.status, facts.response.copy) == (502, b"ours")
    one.refuse(404, (), None)
    assert one.facts(51.0, "refused", None).response.size == 0


EVENT = b'data: {"id":"c1","model":"gpt-4o","choices":[{"delta":{"content":"x"}}]}\n\n'
HEADERS = [("content-type", "text/event-stream")]


@pytest.mark.parametrize(
    ("capture", "status", "headers", "hears"),
    [
        pytest.param("full", 200, HEADERS, True, id="events"),
        pytest.param("usage", 200, HEADERS, True, id="usage alone is heard too"),
        pytest.param("none", 200, HEADERS, False, id="nothing is to be captured"),
        pytest.param("full", None, HEADERS, False, id="no status"),
        pytest.param("full", 200, [("content-type", "audio/mpeg")], False, id="sound"),
        pytest.param("full", 503, [("content-type", "text/plain")], True, id="an error"),
    ],
)
def test_an_answer_is_listened_to_where_there_is_something_to_hear(
    capture: str, status: int | None, headers: list[tuple[str, str]], hears: bool
) -> None:
    one = signed()
    one.capture, one.status = capture, status
    assert (one.listen(headers) is not None) is hears
    assert (one.ear is not None) is hears


def test_an_answer_before_a_decision_is_not_listened_to() -> None:
    one = admitted()
    one.status = 200
    assert one.listen(HEADERS) is None


@pytest.mark.parametrize(
    ("pieces", "complete"),
    [
        pytest.param([], None, id="nothing: who knows what it would have been"),
        pytest.param([EVENT], False, id="without the last event"),
        pytest.param([EVENT, b"data: [DO"], False, id="inside the last event"),
        pytest.param([EVENT, b"data: [DONE]\n\n"], True, id="with the last event"),
    ],
)
def test_the_protocol_says_whether_an_answer_was_whole(pieces: list[bytes], complete: bool) -> None:
    one = signed()
    one.status = 200
    ear = one.listen(HEADERS)
    assert ear is not None
    for piece in pieces:
        ear(piece, 51.0)
    assert one.complete() is (complete is True)
    reading = one.facts(52.0, "ok", None).reading
    assert reading is not None
    assert reading.complete is complete


def test_an_answer_that_nobody_listens_to_is_not_known_to_be_whole() -> None:
    assert not signed().complete()


class Failing:
    """A reader that fails at its second piece."""

    def __init__(self) -> None:
        self.fed = 0

    def feed(self, chunk: bytes, at: float) -> None:
        self.fed += 1
        if self.fed > 1:
            raise MemoryError

    def end(self) -> Reading:
        return Reading(model="gpt-4o", complete=False)


def test_an_answer_that_could_not_be_heard_to_its_end_is_not_called_broken_off() -> None:
    one = signed()
    one.status, one.streaming = 200, True
    one.ear = Ear(Failing(), None)
    one.answer_tee = Tee(1000, lambda: 51.0, one.ear)
    for piece in (EVENT, b"data: [DONE]\n\n"):
        assert one.answer_tee(piece) == piece
    reading = one.facts(52.0, "ok", None).reading
    assert reading is not None
    assert (reading.model, reading.complete) == ("gpt-4o", None)
    assert reading.unread


def test_a_websocket_is_two_streams_each_with_its_own_direction() -> None:
    one = signed(None)
    one.status = 101
    one.converse(lambda: 60.0, [])
    assert (one.waiting_for, one.streaming) == ("websocket", True)
    one.hear(True, b"asked")
    one.hear(False, b"told")
    facts = one.facts(61.0, "ok", None)
    assert (facts.request.copy, facts.response.copy) == (b"asked", b"told")


def test_the_rest_after_a_turn_has_no_first_token() -> None:
    """It would be counted from the handshake, hours before."""
    one = signed(None)
    one.path, one.query, one.status = b"/v1/realtime", b"model=gpt-realtime", 101
    one.converse(lambda: 60.0, [])
    told = [one.hear(False, b'{"type":"response.done"}'), one.hear(False, b'{"type":"x.delta"}')]
    assert [facts and facts.turn for facts in told] == [1, None]
    one.hear(False, b'{"type":"response.output_text.delta","delta":"x"}')
    facts = one.facts(61.0, "ok", None)
    assert (facts.turns, facts.model) == (1, "gpt-realtime")
    assert facts.reading is not None
    assert facts.reading.first_token_at is None


def test_a_message_before_the_conversation_is_let_go() -> None:
    one = signed()
    one.hear(True, b"early")
    assert one.facts(51.0, "ok", None).request.copy == CHAT


def test_a_url_of_the_upstream_is_mapped_to_the_route() -> None:
    one = signed()
    own = b"http://localhost:8080/openai_passthrough/v1/files/1"
    assert one.link(b"location", b"https://api.openai.com/v1/files/1") == own
    assert one.link(b"x-goog-upload-url", b"https://evil.test/") is None


def test_what_is_awaited_and_since_when_is_noted() -> None:
    one = admitted()
    assert (one.waiting_for, one.since) == ("request", 0.0)
    one.wait_for("idle", 7.0)
    assert (one.waiting_for, one.since) == ("idle", 7.0)
