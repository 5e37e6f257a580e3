"""Asking what listens on a port: a gateway, something else, or nobody."""

import json
from collections.abc import Callable

import pytest
from live.harness import Upstream, Wire, free_port
from llm_passthrough.cli.running import NoGatewayError, running, settled, written
from llm_passthrough.cli.variables import PREFIXES

LISTED = {
    "/an": {"providers": {"anthropic": "ready"}},
    "/openai_passthrough": {"providers": {"openai": "ready"}},
    "/ob": {"providers": {"openai": "ready"}},
    "/azure_passthrough": {"providers": {"azure": "not ready: no key"}},
    "/genai_passthrough": {"providers": {"gemini": "ready", "vertex": "ready"}},
    "/groq": {"providers": {"groq": "ready"}},
}


def answering(pages: dict[str, object], status: int = 200) -> Callable[[Wire], None]:
    def talk(wire: Wire) -> None:
        path = wire.sock.recv(65536).split(b" ")[1].decode()
        body = json.dumps(pages.get(path)).encode()
        wire.send(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))

    return talk


def test_nobody_listens() -> None:
    port = free_port()
    assert running("127.0.0.1", port) is None
    assert written("127.0.0.1", port) is None


@pytest.mark.parametrize(
    "status",
    [pytest.param(200, id="well"), pytest.param(503, id="its records cannot be written")],
)
def test_a_gateway_says_its_prefixes_and_what_it_has_written(status: int) -> None:
    pages = {"/health": {"status": "x", "log": {"written": 7}}, "/": {"routes": LISTED}}
    upstream = Upstream(answering(pages, status))
    found = running("127.0.0.1", upstream.port)
    assert found is not None
    assert found.prefixes == dict(PREFIXES) | {"anthropic": "/an"}
    assert found.written == settled("127.0.0.1", upstream.port) == 7
    upstream.stop()


@pytest.mark.parametrize(
    "talk",
    [
        pytest.param(lambda wire: wire.send(b"SSH-2.0-x\r\n"), id="no HTTP"),
        pytest.param(lambda wire: None, id="it closes"),
        pytest.param(answering({}), id="null"),
        pytest.param(answering({"/health": {"status": "ok"}, "/": []}), id="another one's health"),
        pytest.param(answering({"/health": {"log": {"written": 1}}, "/": {"routes": {}}}), id="no"),
    ],
)
def test_what_is_no_gateway_is_said(talk: Callable[[Wire], None]) -> None:
    upstream = Upstream(talk)
    with pytest.raises(NoGatewayError, match="is no llm-passthrough gateway"):
        running("127.0.0.1", upstream.port)
    assert written("127.0.0.1", upstream.port) is None
    upstream.stop()
