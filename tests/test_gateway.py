"""The front door: the hooks of one request's life, with real flows and a list as the sink."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from llm_passthrough import config
from llm_passthrough.build import build
from llm_passthrough.errors import CODES
from llm_passthrough.flows import Refused
from llm_passthrough.gateway import Gateway
from llm_passthrough.record import Record
from llm_passthrough.seal import Sealed
from llm_passthrough.sinks.writer import Writer
from mitmproxy import http, websocket
from mitmproxy.flow import Error
from mitmproxy.test import tflow
from wsproto.frame_protocol import Opcode

KEY = "sk-REAL-KEY-0123456789"
SECOND = "sk-SECOND-KEY-0123456789"
CLIENT_KEY = "sk-CLIENT-0123456789"
CHAT = "/openai_passthrough/v1/chat/completions"
ASKED = {"model": "gpt-4o", "messages": []}
ANSWER = {
    "id": "chatcmpl-1",
    "model": "gpt-4o",
    "choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 11, "completion_tokens": 7},
}
EVENTS = (
    b'data: {"id":"c1","model":"gpt-4o","choices":[{"delta":{"content":"x"}}]}\n\n',
    b'data: {"id":"c1","model":"gpt-4o","choices":[],'
    b'"usage":{"prompt_tokens":11,"completion_tokens":7}}\n\n',
    b"data: [DONE]\n\n",
)
SSE = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}


class Kept:
    """A sink that keeps its records."""

    name = "kept"
    durable = True

    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, record: Record, line: bytes) -> None:
        assert KEY.encode() not in line
        assert CLIENT_KEY.encode() not in line
        self.records.append(record)

    def close(self) -> None:
        """Nothing is held."""


class Scene:
    """A gateway whose clock is moved by hand; `records` are told when it stops."""

    def __init__(self, **document: Any) -> None:
        given = {"providers": {"openai": {"keys": [{"name": "main", "value": KEY}]}}} | document
        self.now = 100.0
        self.parts = build(config.parse(given, "file")[0], {}, "file")
        self.sink = Kept()
        self.writer = Writer([self.sink], self.parts.redactor, 100)
        self.writer.start()
        self.gateway = Gateway(self.parts, self.writer, clock=lambda: self.now, chance=Random(0))

    def flow(self, target: str = CHAT, method: str = "POST", body: Any = ASKED) -> http.HTTPFlow:
        made = tflow.tflow()
        made.client_conn.timestamp_tls_setup = None
        request = made.request
        request.data.method, request.data.path = method.encode(), target.encode()
        request.data.host, request.data.port = "localhost", 8080
        content = json.dumps(body).encode() if body is not None else b""
        request.data.content = content
        request.data.headers = http.Headers(
            host="localhost:8080",
            authorization=f"Bearer {CLIENT_KEY}",
            content_type="application/json",
            content_length=str(len(content)),
        )
        made.response = None
        made.error = None
        return made

    async def sent(self, made: http.HTTPFlow | None = None) -> http.HTTPFlow:
        """A request up to where it leaves."""
        made = made or self.flow()
        await self.gateway.requestheaders(made)
        if made.response is None:
            await self.gateway.passthrough_sign(made)
        return made

    async def answered(
        self, made: http.HTTPFlow, content: Any = ANSWER, status: int = 200, **fields: str
    ) -> None:
        """A whole answer that is not streamed."""
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers = {"content-type": "application/json", "content-length": str(len(text))}
        given = [(n.replace("_", "-").encode(), v.encode()) for n, v in fields.items()]
        made.response = http.Response.make(
            status,
            b"",
            http.Headers([(n.encode(), v.encode()) for n, v in headers.items()] + given),
        )
        self.gateway.responseheaders(made)
        if not isinstance(made.response, Refused):
            made.response.data.content = text
            self.gateway.response(made)

    async def begins(self, made: http.HTTPFlow, *events: bytes, **fields: str) -> None:
        """A streamed answer, as far as these events."""
        given = SSE | {name.replace("_", "-"): value for name, value in fields.items()}
        made.response = http.Response.make(200, b"", given)
        made.response.headers.pop("content-length", None)
        self.gateway.responseheaders(made)
        assert callable(made.response.stream)
        for event in events:
            assert made.response.stream(event) == event

    def breaks(self, made: http.HTTPFlow, message: str = "server closed connection") -> None:
        made.error = Error(message)
        self.gateway.error(made)

    def records(self) -> list[Record]:
        assert self.writer.close()
        return self.sink.records

    def record(self) -> Record:
        (one,) = self.records()
        return one


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    made.writer.close()


# -- a request goes out ---------------------------------------------------------------------------


async def test_a_request_leaves_signed_and_sealed_and_without_the_clients_key(scene: Scene) -> None:
    flow = await scene.sent()
    request = flow.request
    assert isinstance(request.headers, Sealed)
    assert request.headers["authorization"] == "Bearer [openai/main]"
    assert (request.scheme, request.host, request.port) == ("https", "api.openai.com", 443)
    assert request.data.path == b"/v1/chat/completions"
    assert request.headers["host"] == "api.openai.com"
    assert json.loads(request.content or b"") == ASKED
    assert flow.response is None


async def test_nothing_of_the_clients_key_is_left_after_the_first_hook(scene: Scene) -> None:
    flow = scene.flow(CHAT + f"?key={CLIENT_KEY}")
    await scene.gateway.requestheaders(flow)
    assert CLIENT_KEY not in str(flow.get_state())
    assert not isinstance(flow.request.headers, Sealed)


@pytest.mark.parametrize(
    ("target", "method", "code"),
    [
        pytest.param("/nowhere", "POST", "no_route", id="no route"),
        pytest.param("/anthropic_passthrough/v1/messages", "POST", "no_key", id="no key"),
        pytest.param("/azure_passthrough/openai/v1/x", "POST", "no_key", id="no Azure key"),
        pytest.param(CHAT, "TRACE", "method_not_allowed", id="a method"),
    ],
)
async def test_a_refused_request_is_answered_recorded_once_and_not_signed(
    scene: Scene, target: str, method: str, code: str
) -> None:
    flow = await scene.sent(scene.flow(target, method))
    assert isinstance(flow.response, Refused)
    assert flow.response.headers["x-passthrough-error"] == code
    assert not isinstance(flow.request.headers, Sealed)
    scene.gateway.responseheaders(flow)
    scene.gateway.response(flow)
    scene.gateway.response(flow)
    record = scene.record()
    assert record.outcome == "refused"
    assert record.error is not None
    assert (record.error.type, record.error.origin) == (code, "gateway")
    assert record.response is not None
    assert record.response.status == CODES[code].status


async def test_a_tunnel_is_refused_before_it_is_dialled(scene: Scene) -> None:
    flow = scene.flow("", "CONNECT", None)
    flow.request.data.host, flow.request.data.port = "127.0.0.1", 9
    flow.request.data.authority = b"127.0.0.1:9"
    await scene.gateway.http_connect(flow)
    assert flow.response is not None
    assert flow.response.status_code == 403
    scene.gateway.http_connect_error(flow)
    record = scene.record()
    assert (record.outcome, record.route) == ("refused", "host:127.0.0.1")


async def test_a_tunnel_to_a_provider_is_no_exchange_itself(scene: Scene) -> None:
    flow = scene.flow("", "CONNECT", None)
    flow.request.data.host, flow.request.data.port = "api.openai.com", 443
    flow.request.data.authority = b"api.openai.com:443"
    await scene.gateway.http_connect(flow)
    assert flow.response is None
    scene.gateway.finish_all()
    assert scene.records() == []


@pytest.mark.parametrize(
    ("target", "status"),
    [pytest.param("/health", 200, id="health"), pytest.param("/", 200, id="routes")],
)
async def test_a_page_of_ours_is_no_exchange(scene: Scene, target: str, status: int) -> None:
    flow = await scene.sent(scene.flow(target, "GET", None))
    assert flow.response is not None
    assert flow.response.status_code == status
    scene.gateway.responseheaders(flow)
    scene.gateway.response(flow)
    assert scene.records() == []


async def test_a_flow_that_was_never_admitted_does_not_leave(scene: Scene) -> None:
    flow = scene.flow()
    await scene.gateway.passthrough_sign(flow)
    assert isinstance(flow.response, Refused)
    assert not isinstance(flow.request.headers, Sealed)


async def test_another_addons_answer_is_not_signed_for_and_is_recorded(scene: Scene) -> None:
    flow = scene.flow()
    await scene.gateway.requestheaders(flow)
    flow.response = http.Response.make(418, b"tea")
    await scene.gateway.passthrough_sign(flow)
    scene.gateway.responseheaders(flow)
    scene.gateway.response(flow)
    assert flow.response.status_code == 418
    record = scene.record()
    assert record.provider is None
    assert record.response is not None
    assert record.response.status == 418


async def test_what_was_edited_after_it_was_admitted_is_judged_anew(scene: Scene) -> None:
    flow = scene.flow()
    await scene.gateway.requestheaders(flow)
    flow.request.headers["x-api-key"] = "sk-TYPED-0123456789"
    flow.request.path = "/nowhere"
    await scene.gateway.passthrough_sign(flow)
    assert isinstance(flow.response, Refused)
    assert flow.response.headers["x-passthrough-error"] == "no_route"
    assert "sk-TYPED" not in str(flow.get_state())


async def test_an_upload_that_streams_is_signed_by_its_head_and_seen_as_it_goes() -> None:
    scene = Scene(limits={"request_buffer": 10})
    flow = await scene.sent()
    assert isinstance(flow.request.headers, Sealed)
    assert callable(flow.request.stream)
    for piece in (b'{"model":', b' "gpt-4o"}', b""):
        assert flow.request.stream(piece) == piece
    await scene.answered(flow)
    record = scene.record()
    assert record.request.bytes == 19
    assert record.request.body == '{"model": "gpt-4o"}'
    assert record.model.requested == "gpt-4o"


# -- its answer -----------------------------------------------------------------------------------


async def test_a_whole_answer_reaches_the_client_cleaned_and_is_recorded(scene: Scene) -> None:
    flow = await scene.sent()
    scene.now += 0.25
    await scene.answered(flow, set_cookie="a=1", x_request_id="req_1", x_other="stays")
    assert flow.response is not None
    assert "set-cookie" not in flow.response.headers
    assert flow.response.headers["x-other"] == "stays"
    scene.now += 1
    record = scene.record()
    assert (record.outcome, record.error) == ("ok", None)
    assert (record.provider, record.key, record.detected_by) == ("openai", "main", "prefix")
    assert (record.operation, record.stream) == ("chat", False)
    assert record.usage is not None
    assert record.usage.input_tokens == 11
    assert record.upstream_request_id == "req_1"
    assert record.timing_ms.first_byte == 250.0
    assert record.timing_ms.first_token is None


async def test_a_stream_goes_through_untouched_and_is_heard(scene: Scene) -> None:
    flow = await scene.sent()
    scene.now += 0.25
    await scene.begins(flow)
    assert flow.response is not None
    stream = flow.response.stream
    assert callable(stream)
    for event in EVENTS:
        scene.now += 0.5
        assert stream(event) == event
    assert stream(b"") == b""
    scene.gateway.response(flow)
    assert flow.response.content == b"".join(EVENTS)
    record = scene.record()
    assert (record.outcome, record.stream) == ("ok", True)
    assert record.timing_ms.first_byte == 250.0
    assert record.timing_ms.first_token == 750.0
    assert record.timing_ms.total == 1750.0
    assert record.usage is not None
    assert record.usage.output_tokens == 7


async def test_an_answer_that_echoes_our_key_in_a_header_loses_it(scene: Scene) -> None:
    flow = await scene.sent()
    await scene.answered(flow, x_debug=f"key={KEY}")
    assert flow.response is not None
    assert "x-debug" not in flow.response.headers
    assert scene.record().outcome == "ok"


async def test_an_error_of_the_provider_is_its_own(scene: Scene) -> None:
    flow = await scene.sent()
    error = {"error": {"message": "slow", "type": "requests", "code": "rate_limit_exceeded"}}
    await scene.answered(flow, error, 429, retry_after="7")
    assert flow.response is not None
    assert flow.response.headers["retry-after"] == "7"
    record = scene.record()
    assert record.outcome == "upstream_error"
    assert record.error is not None
    assert (record.error.code, record.error.origin) == ("rate_limit_exceeded", "upstream")


async def test_where_another_key_is_ready_the_sdk_is_asked_to_try_again() -> None:
    keys = [{"name": "main", "value": KEY}, {"name": "second", "value": SECOND}]
    scene = Scene(providers={"openai": {"keys": keys}})
    first = await scene.sent()
    await scene.answered(first, {"error": {"message": "slow"}}, 429, retry_after="60")
    assert first.response is not None
    assert first.response.headers["x-should-retry"] == "true"
    assert "retry-after" not in first.response.headers
    again = await scene.sent()
    await scene.answered(again)
    records = scene.records()
    assert {record.key for record in records} == {"main", "second"}
    assert [record.outcome for record in records] == ["upstream_error", "ok"]


# -- it breaks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "message", "code", "status"),
    [
        pytest.param("connect", "Connection refused", "upstream_unreachable", 502, id="dialling"),
        pytest.param("connect", "Certificate verify failed", "upstream_tls", 502, id="TLS"),
        pytest.param("first_byte", "closed", "upstream_protocol", 502, id="before its answer"),
    ],
)
async def test_an_upstream_that_fails_before_its_answer_is_a_refusal_of_ours(
    scene: Scene, phase: str, message: str, code: str, status: int
) -> None:
    flow = await scene.sent()
    scene.gateway.live[flow].wait_for(phase, scene.now)
    scene.breaks(flow, message)
    assert isinstance(flow.response, Refused)
    assert flow.response.headers["x-passthrough-error"] == code
    assert flow.response.status_code == status
    record = scene.record()
    assert record.outcome == "upstream_error"
    assert record.error is not None
    assert (record.error.type, record.error.origin) == (code, "upstream")


async def test_a_stream_that_breaks_off_is_not_followed_by_an_answer_of_ours(scene: Scene) -> None:
    flow = await scene.sent()
    await scene.begins(flow, *EVENTS[:2])
    scene.breaks(flow)
    assert not isinstance(flow.response, Refused)
    record = scene.record()
    assert record.outcome == "upstream_abort"
    assert record.usage is not None
    assert record.usage.input_tokens == 11
    assert record.response is not None
    assert record.response.body == b"".join(EVENTS[:2]).decode()


async def test_a_stream_that_ends_without_its_last_event_is_an_abort(scene: Scene) -> None:
    flow = await scene.sent()
    await scene.begins(flow, *EVENTS[:2])
    scene.gateway.response(flow)
    record = scene.record()
    assert record.outcome == "upstream_abort"
    assert record.error is not None
    assert record.error.type == "incomplete"


async def test_a_person_who_kills_a_flow_is_told_apart(scene: Scene) -> None:
    flow = await scene.sent()
    scene.breaks(flow, Error.KILLED_MESSAGE)
    record = scene.record()
    assert record.outcome == "error"
    assert record.error is not None
    assert (record.error.type, record.error.origin) == ("killed", "gateway")


async def test_a_person_who_kills_what_is_on_its_way_ends_it(scene: Scene) -> None:
    """mitmproxy marks it alone; and tells of our hanging up as of a failing upstream."""
    flow = await scene.sent()
    await scene.begins(flow, EVENTS[0])
    hung_up: list[http.HTTPFlow] = []
    scene.gateway.egress.hang_up = hung_up.append  # type: ignore[assignment, method-assign]
    scene.gateway.end_overdue()
    assert hung_up == []
    flow.live = True
    flow.kill()
    scene.gateway.end_overdue()
    scene.gateway.end_overdue()
    assert hung_up == [flow]
    scene.breaks(flow, "server closed connection")
    record = scene.record()
    assert record.error is not None
    assert (record.outcome, record.error.type) == ("error", "killed")
    assert flow.error is not None
    assert flow.error.msg == Error.KILLED_MESSAGE  # so that the client gets no page


async def test_a_malformed_request_is_refused_and_its_credentials_are_off(scene: Scene) -> None:
    flow = scene.flow()
    flow.error = Error("malformed")
    await scene.gateway.requestheaders(flow)
    scene.gateway.error(flow)
    assert isinstance(flow.response, Refused)
    assert flow.response.status_code == 400
    assert CLIENT_KEY not in str(flow.get_state())
    assert scene.record().outcome == "refused"


@pytest.mark.parametrize(
    ("after", "phase"),
    [
        pytest.param(601.0, "first_byte", id="no first byte"),
        pytest.param(301.0, "idle", id="silence in a stream"),
    ],
)
async def test_a_deadline_names_its_phase_once(scene: Scene, after: float, phase: str) -> None:
    flow = await scene.sent()
    if phase == "idle":
        await scene.begins(flow, EVENTS[0])
    hung_up: list[http.HTTPFlow] = []
    scene.gateway.egress.proxyserver = lambda: SimpleNamespace(connections={})
    scene.gateway.egress.hang_up = hung_up.append  # type: ignore[assignment, method-assign]
    scene.now += after - 2
    scene.gateway.end_overdue()
    assert hung_up == []
    scene.now += 2
    scene.gateway.end_overdue()
    scene.gateway.end_overdue()
    assert hung_up == [flow]
    scene.breaks(flow)
    record = scene.record()
    assert record.outcome == "timeout"
    assert record.error is not None
    assert record.error.type == "upstream_timeout"
    assert phase in record.error.message


async def test_an_error_of_ours_does_not_end_the_look_after_deadlines(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ValueError(KEY)

    scene.gateway.egress.close_late = fail  # type: ignore[method-assign]
    scene.gateway.end_overdue()
    assert "ValueError at fail" in caplog.text
    assert KEY not in caplog.text


# -- conversations --------------------------------------------------------------------------------


async def _until(true: Callable[[], bool]) -> None:
    """Wait for the writer's thread."""
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


async def _talking(scene: Scene) -> tuple[http.HTTPFlow, websocket.WebSocketData]:
    flow = await scene.sent(scene.flow("/openai_passthrough/v1/realtime?model=m", "GET", None))
    flow.response = http.Response.make(101, b"", {"upgrade": "websocket"})
    scene.gateway.responseheaders(flow)
    flow.websocket = websocket.WebSocketData()
    scene.gateway.response(flow)
    return flow, flow.websocket


@pytest.mark.parametrize(
    ("code", "by_client", "outcome"),
    [
        pytest.param(1000, True, "ok", id="the client says good-bye"),
        pytest.param(1006, True, "client_abort", id="the client is gone"),
        pytest.param(1006, False, "upstream_abort", id="the provider is gone"),
        pytest.param(1011, False, "upstream_error", id="the provider failed"),
    ],
)
async def test_a_conversation_is_one_exchange_from_its_handshake_to_its_end(
    scene: Scene, code: int, by_client: bool, outcome: str
) -> None:
    flow, talk = await _talking(scene)
    for from_client, text in ((True, b'{"type":"hi"}'), (False, b'{"type":"ho"}')):
        talk.messages.append(websocket.WebSocketMessage(Opcode.TEXT, from_client, text))
        scene.gateway.talks.websocket_message(flow)
    assert scene.sink.records == []
    talk.close_code, talk.closed_by_client = code, by_client
    scene.gateway.talks.websocket_end(flow)
    scene.gateway.talks.websocket_end(flow)
    record = scene.record()
    assert record.outcome == outcome
    assert (record.operation, record.stream) == ("realtime", True)
    assert record.request.body == '{"type":"hi"}'
    assert record.response is not None
    assert record.response.body == '{"type":"ho"}'


async def test_a_turn_is_told_as_it_ends_and_the_end_tells_the_rest(scene: Scene) -> None:
    flow, talk = await _talking(scene)
    usage = {"input_tokens": 3, "output_tokens": 4}
    done = json.dumps({"type": "response.done", "response": {"usage": usage}}).encode()
    for number in (1, 2):
        for from_client, text in ((True, b'{"type":"response.create"}'), (False, done)):
            talk.messages.append(websocket.WebSocketMessage(Opcode.TEXT, from_client, text))
            scene.gateway.talks.websocket_message(flow)
        await _until(lambda told=number: len(scene.sink.records) == told)  # type: ignore[misc]
    talk.messages.append(websocket.WebSocketMessage(Opcode.TEXT, True, b'{"type":"bye"}'))
    scene.gateway.talks.websocket_message(flow)
    talk.close_code, talk.closed_by_client = 1000, True
    scene.gateway.talks.websocket_end(flow)
    *turns, own = scene.records()
    assert len({one.id for one in (*turns, own)}) == 3
    assert [(one.part_of, one.turn, one.turns) for one in turns] == [
        (own.id, 1, None), (own.id, 2, None),
    ]  # fmt: skip
    assert (own.part_of, own.turn, own.turns, own.usage) == (None, None, 2, None)
    assert own.request.body == '{"type":"bye"}'
    for one in turns:
        assert (one.request.body, one.response and one.response.headers) == (
            '{"type":"response.create"}', [],
        )  # fmt: skip
        assert one.usage is not None
        assert one.usage.output_tokens == 4
        assert one.model.requested == "m"
        same = ("route", "provider", "key", "client", "operation", "outcome", "stream")
        assert [getattr(one, name) for name in same] == [getattr(own, name) for name in same]
        assert (one.request.url, one.timing_ms.gateway) == (own.request.url, None)


async def test_a_long_conversation_does_not_fill_the_memory(scene: Scene) -> None:
    flow, talk = await _talking(scene)
    for number in range(1000):
        message = websocket.WebSocketMessage(Opcode.TEXT, True, b"%d" % number)
        talk.messages.append(message)
        scene.gateway.talks.websocket_message(flow)
        assert len(talk.messages) <= 400
    assert talk.messages[-1].content == b"999"


# -- start, reload, end ---------------------------------------------------------------------------


async def test_what_is_open_when_the_gateway_stops_is_told_as_it_stands(scene: Scene) -> None:
    flow = await scene.sent()
    await scene.begins(flow, EVENTS[0])
    scene.gateway.finish_all()
    scene.gateway.response(flow)
    record = scene.record()
    assert record.outcome == "error"
    assert record.error is not None
    assert record.error.type == "stopped"


async def test_an_open_exchange_ends_as_it_began_when_the_parts_are_swapped(scene: Scene) -> None:
    flow = await scene.sent()
    document = {"providers": {"openai": {"keys": [{"name": "new", "value": SECOND}]}}}
    new = build(config.parse(document, "file")[0], {}, "file", scene.parts)
    scene.gateway.swap(new)
    await scene.answered(flow, ANSWER | {"echo": KEY})
    other = await scene.sent()
    await scene.answered(other)
    records = scene.records()
    assert [record.key for record in records] == ["main", "new"]
    assert KEY not in repr(records)


async def test_new_prices_hold_from_the_next_record_on(scene: Scene) -> None:
    await scene.answered(await scene.sent())
    document = {
        "providers": {"openai": {"keys": [{"name": "main", "value": KEY}]}},
        "prices": {"gpt-4o": {"input": 1_000_000.0, "output": 0.0}},
    }
    while not scene.sink.records:  # the writer's thread is at work
        time.sleep(0.001)
    scene.gateway.swap(build(config.parse(document, "file")[0], {}, "file", scene.parts))
    await scene.answered(await scene.sent())
    before, after = scene.records()
    assert before.cost is None or before.cost.source != "config"
    assert after.cost is not None
    assert after.cost.amount == pytest.approx(11.0)
    assert after.cost.source == "config"
