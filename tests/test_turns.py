"""Turns of a WebSocket: where each ends, what it holds and took, and that nothing grows."""

import json
import tracemalloc
from itertools import count
from typing import Any

import pytest
from llm_passthrough.dialects import reader
from llm_passthrough.listen import Ear
from llm_passthrough.turns import Talk, Turn

REALTIME = b"/v1/realtime"
RESPONSES = b"/v1/responses"
LIVE = b"/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
VERTEX = b"/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent"

type Message = tuple[bool, dict[str, Any]]


def asks(**message: Any) -> Message:
    return True, message


def says(**message: Any) -> Message:
    return False, message


def talking(path: bytes, limit: int = 1 << 20, model: str | None = None) -> Talk:
    """A talk whose clock goes on by a second each time that it is looked at."""
    seconds = count(100)
    found = reader(path, "any", "openai", "", 101)
    return Talk(limit, lambda: float(next(seconds)), Ear(found, None) if found else None, model)


def heard(talk: Talk, *messages: Message) -> list[Turn]:
    found = (talk.hear(ours, json.dumps(message).encode()) for ours, message in messages)
    return [turn for turn in found if turn]


def texts(turn: Turn) -> tuple[bytes, bytes]:
    return turn.sent.copy, turn.got.copy


CREATE = asks(type="response.create")
CREATED = says(type="response.created", response={"id": "r1", "status": "in_progress"})
DELTA = says(type="response.output_text.delta", delta="hello")
ERROR = says(type="error", error={"type": "invalid_request_error", "code": "c", "message": "m"})
SPEAKS = says(serverContent={"modelTurn": {"parts": [{"text": "hello"}]}})
SETUP = asks(setup={"model": "models/gemini-live"})
WORD = asks(clientContent={"turns": [], "turnComplete": True})


def done(kind: str = "response.done", ident: str = "r1", **more: Any) -> Message:
    usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    response = {"id": ident, "status": "completed", "usage": usage, "output": []} | more
    return says(type=kind, response=response)


def complete(**more: Any) -> Message:
    usage = {"promptTokenCount": 3, "responseTokenCount": 4, "totalTokenCount": 7}
    return says(serverContent={"turnComplete": True}, usageMetadata=usage, **more)


@pytest.mark.parametrize(
    ("path", "messages", "turns"),
    [
        pytest.param(REALTIME, [CREATE, CREATED, DELTA], 0, id="an answer that goes on"),
        pytest.param(REALTIME, [CREATE, CREATED, DELTA, done()], 1, id="Realtime"),
        pytest.param(REALTIME, [CREATE, CREATED, done()] * 3, 3, id="one after the other"),
        pytest.param(RESPONSES, [CREATE, CREATED, done("response.completed")], 1, id="Responses"),
        pytest.param(RESPONSES, [CREATE, CREATED, done("response.failed")], 1, id="failed"),
        pytest.param(RESPONSES, [CREATE, CREATED, done("response.incomplete")], 1, id="incomplete"),
        pytest.param(REALTIME, [CREATE, CREATED, done("response.cancelled")], 1, id="cancelled"),
        pytest.param(RESPONSES, [CREATE, ERROR], 1, id="an error instead of an answer"),
        pytest.param(REALTIME, [CREATE, CREATED, ERROR], 0, id="an error inside of an answer"),
        pytest.param(LIVE, [SETUP, WORD, SPEAKS, complete()], 1, id="Live"),
        pytest.param(VERTEX, [SETUP, WORD, SPEAKS, complete()], 1, id="Live on Vertex"),
        pytest.param(
            LIVE, [SETUP, WORD, SPEAKS, says(serverContent={"generationComplete": True})], 0,
            id="Live: generated, but the turn goes on",
        ),
        pytest.param(
            LIVE, [WORD, SPEAKS, says(serverContent={"interrupted": True}), complete()], 1,
            id="Live: interrupted",
        ),
        pytest.param(
            LIVE, [WORD, says(toolCall={"functionCalls": [{"name": "f"}]})], 0,
            id="Live: a call of a tool, whose result belongs to the turn",
        ),
        pytest.param(b"/own/socket", [CREATE, CREATED, done()], 0, id="no known dialect"),
        pytest.param(REALTIME, [(False, {"type": ["x"]}), (False, {})], 0, id="nothing known"),
    ],
)  # fmt: skip
def test_a_turn_ends_with_the_answer(path: bytes, messages: list[Message], turns: int) -> None:
    talk = talking(path)
    assert [turn.number for turn in heard(talk, *messages)] == list(range(1, turns + 1))
    assert talk.turns == turns


def test_each_turn_holds_what_was_said_since_the_one_before() -> None:
    talk = talking(REALTIME)
    hello = says(type="session.created", session={"model": "gpt-realtime"})
    first = [hello, asks(type="a"), CREATE, CREATED, done()]
    second = [asks(type="b"), CREATE, says(type="c"), CREATED, done()]
    rest = [asks(type="d"), says(type="e")]
    turns = heard(talk, *first, *second, *rest)
    for turn, messages in zip(turns, (first, second), strict=True):
        for ours, text in zip((True, False), texts(turn), strict=True):
            assert text == b"".join(json.dumps(m).encode() for side, m in messages if side is ours)
    assert (talk.sent.copy, talk.got.copy) == (b'{"type": "d"}', b'{"type": "e"}')


def test_usage_and_names_are_those_of_the_turn_alone() -> None:
    call = {"type": "function_call", "name": "weather", "call_id": "1"}
    talk = talking(REALTIME)
    hello = says(type="session.created", session={"model": "gpt-realtime"})
    one, two = heard(
        talk, hello, CREATE, CREATED, done(output=[call]), CREATE, done(ident="r2", model="other")
    )
    assert [turn.reading.response_id for turn in (one, two)] == ["r1", "r2"]
    assert [turn.reading.tool_calls for turn in (one, two)] == [("weather",), ()]
    assert [turn.reading.model for turn in (one, two)] == ["gpt-realtime"] * 2
    for turn in (one, two):
        assert turn.reading.usage is not None
        assert turn.reading.usage.total_tokens == 7
        assert turn.reading.finish_reasons == ("completed",)
        assert turn.reading.complete is True


def test_answers_of_other_models_on_one_socket_have_their_own() -> None:
    messages = [done("response.completed", model=name) for name in ("m1", "m2")]
    turns = heard(talking(RESPONSES), *messages)
    assert [turn.reading.model for turn in turns] == ["m1", "m2"]


def test_answers_that_overlap_have_each_its_own_id_and_usage() -> None:
    other = says(type="response.created", response={"id": "r2"})
    turns = heard(talking(REALTIME), CREATE, CREATED, other, done(ident="r2"), done(ident="r1"))
    assert [turn.reading.response_id for turn in turns] == ["r2", "r1"]


def test_usage_of_live_adds_up_within_a_turn_and_comes_late_in_the_next() -> None:
    call = says(toolCall={"functionCalls": [{"name": "f"}]}, usageMetadata={"promptTokenCount": 2})
    late = says(usageMetadata={"promptTokenCount": 9})
    talk = talking(LIVE)
    one, two = heard(talk, WORD, call, SPEAKS, complete(), late, WORD, SPEAKS, complete())
    usages = [turn.reading.usage for turn in (one, two)]
    assert [usage and usage.input_tokens for usage in usages] == [5, 12]
    assert one.reading.tool_calls == ("f",)


def test_an_error_is_told_with_its_own_turn_only() -> None:
    one, two = heard(talking(RESPONSES), CREATE, ERROR, CREATE, CREATED, done())
    assert (one.reading.error_code, one.reading.error_message) == ("c", "m")
    assert (two.reading.error_code, two.reading.error_message) == (None, None)


def test_why_an_answer_of_realtime_failed_is_read() -> None:
    why = {"type": "failed", "error": {"type": "server_error", "code": "overloaded"}}
    (turn,) = heard(talking(REALTIME), CREATE, CREATED, done(status="failed", status_details=why))
    assert (turn.reading.error_type, turn.reading.error_code) == ("server_error", "overloaded")


@pytest.mark.parametrize(
    ("messages", "moments"),
    [
        # the clock: 100 is the first message, a second more with each
        pytest.param([CREATE, CREATED, DELTA, done()], (100, 101, 103, 102), id="asked in text"),
        pytest.param(
            [asks(type="x"), CREATE, CREATED, DELTA, done()], (101, 102, 104, 103),
            id="the last word counts",
        ),
        pytest.param(
            [CREATE, CREATED, asks(type="x"), DELTA, done()], (100, 101, 104, 103),
            id="what is said into the answer does not count",
        ),
        pytest.param(
            [says(type="x"), CREATED, DELTA, done()], (101, 101, 103, 102),
            id="nobody asked: from the beginning of the answer",
        ),
        pytest.param([CREATE, ERROR], (100, 101, 101, None), id="an error at once"),
        pytest.param([ERROR], (100, 100, 100, None), id="an error that nobody asked for"),
    ],
)  # fmt: skip
def test_a_turn_takes_from_the_clients_last_word_to_its_end(
    messages: list[Message], moments: tuple[int, int, int, int | None]
) -> None:
    (turn,) = heard(talking(REALTIME), *messages)
    assert (turn.asked, turn.begun, turn.ended, turn.reading.first_token_at) == moments


@pytest.mark.parametrize(
    ("path", "handshake", "first", "model"),
    [
        pytest.param(REALTIME, "gpt-realtime", CREATE, "gpt-realtime", id="in the handshake"),
        pytest.param(LIVE, None, SETUP, "models/gemini-live", id="in a setup"),
        pytest.param(
            RESPONSES, None, asks(type="response.create", model="gpt-5"), "gpt-5", id="beside it"
        ),
        pytest.param(
            RESPONSES, None, asks(type="response.create", response={"model": "gpt-5"}), "gpt-5",
            id="in a response",
        ),
        pytest.param(LIVE, None, asks(setup={}), None, id="nowhere"),
        pytest.param(LIVE, None, asks(setup={"model": "m" * (256 << 10)}), None, id="too long"),
    ],
)  # fmt: skip
def test_the_model_of_a_websocket_is_in_its_handshake_or_its_first_message(
    path: bytes, handshake: str | None, first: Message, model: str | None
) -> None:
    talk = talking(path, model=handshake)
    heard(talk, first, asks(setup={"model": "another"}))
    assert talk.model == model


def test_each_turn_has_a_limit_of_its_own() -> None:
    talk = talking(REALTIME, limit=10)
    for turn in heard(talk, *[CREATE, CREATED, done()] * 2):
        assert (turn.sent.copy, turn.got.copy) == (b'{"type": "', b'{"type": "')
        assert turn.sent.size > 10
        assert turn.sent.sha256


def test_a_message_too_long_to_be_read_is_told_in_its_own_turn() -> None:
    talk = talking(REALTIME, limit=10)
    long = says(type="x", many=[[]] * (1 << 20))
    one, two = heard(talk, long, CREATED, done(), CREATED, done())
    assert one.reading.unread == "1 messages were too long to be read"
    assert two.reading.unread is None


def test_a_talk_that_cannot_be_looked_at_any_more_has_no_more_turns() -> None:
    talk = talking(REALTIME)
    talk.got.blind = "ValueError"
    assert heard(talk, CREATE, CREATED, done()) == []


@pytest.mark.parametrize("ends", [False, True], ids=["no turn ends", "many turns"])
def test_however_long_it_goes_on_no_more_is_held(ends: bool) -> None:
    talk = talking(REALTIME, limit=1000)
    # What is sent in pieces of a few bytes, with calls and errors that each leave something.
    call = {"type": "function_call", "name": "f"}
    item = says(type="response.output_item.done", item=call, output_index=None)
    text = [json.dumps(one).encode() for _, one in (DELTA, item, done() if ends else CREATED)]

    def go_on(times: int) -> None:
        for _ in range(times):
            for message in text:
                talk.hear(False, message)
            talk.hear(True, b"{}")

    go_on(500)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    go_on(2500)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 100_000  # ten bytes a message: less than one object
    assert talk.turns == (3000 if ends else 0)
