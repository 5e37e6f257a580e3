"""A WebSocket is recorded turn by turn, while it is open: real clients, the demo provider."""

import asyncio
import contextlib
import json
import signal
import struct
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import openai
import pytest
import websockets
from google import genai

from live.harness import (
    BIN,
    CLIENT_KEY,
    Gateway,
    Provider,
    Upstream,
    Wire,
    clean_environment,
    config_for,
    ended,
    resident,
)
from live.test_websocket import accept, frame, read_frame, upgrade

pytestmark = pytest.mark.usefixtures("own_environment")


def realtime(gateway: Gateway) -> Generator[str]:
    with sdk(gateway).realtime.connect(model="gpt-realtime") as connection:
        for word in ("first", "second"):
            content: Any = [{"type": "input_text", "text": f"the {word} question"}]
            connection.conversation.item.create(
                item={"type": "message", "role": "user", "content": content}
            )
            connection.response.create()
            assert "response.done" in (event.type for event in connection)
            yield word


def responses(gateway: Gateway) -> Generator[str]:
    with sdk(gateway).responses.connect() as connection:
        for word in ("first", "second", "third"):
            connection.response.create(model="gpt-4o", input=f"the {word} question")
            assert "response.completed" in (event.type for event in connection)
            yield word


def sdk(gateway: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/openai_passthrough/v1", api_key=CLIENT_KEY)


def live(gateway: Gateway) -> Generator[str]:
    """It dials wss:// whatever the base URL says, and takes SSL_CERT_FILE."""
    options = genai.types.HttpOptions(base_url=f"{gateway.url}/genai_passthrough")
    config: Any = {"response_modalities": ["TEXT"]}
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        patch.setenv("SSL_CERT_FILE", str(gateway.folder / "mitm" / "mitmproxy-ca-cert.pem"))
        client = genai.Client(vertexai=False, api_key=CLIENT_KEY, http_options=options)
        connection = client.aio.live.connect(model="gemini-live-2.5-flash", config=config)
        session = runner.run(connection.__aenter__())
        for word in ("first", "second"):
            runner.run(turn(session, word))
            yield word
        runner.run(connection.__aexit__(None, None, None))


async def turn(session: Any, word: str) -> None:
    turns = {"role": "user", "parts": [{"text": f"the {word} question"}]}
    await session.send_client_content(turns=turns, turn_complete=True)
    async for _ in session.receive():
        pass


@pytest.mark.parametrize(
    ("client", "model"),
    [
        pytest.param(realtime, "gpt-realtime", id="OpenAI's realtime client"),
        pytest.param(responses, "gpt-4o", id="OpenAI's Responses over a WebSocket"),
        pytest.param(live, "models/gemini-live-2.5-flash", id="Google's Live client"),
    ],
)
def test_a_turn_is_on_disk_with_its_usage_while_the_socket_is_open(
    gateway: Gateway, client: Callable[[Gateway], Generator[str]], model: str
) -> None:
    told = len(gateway.records())
    with contextlib.closing(client(gateway)) as talking:
        assert next(talking) == "first"
        (first,) = gateway.records(told + 1)[told:]
        assert (first["turn"], first["turns"], first["outcome"]) == (1, None, "ok")
        assert "the first question" in first["request"]["body"]
        assert first["usage"]["input_tokens"]
        assert next(talking) == "second"
    first, second, own = gateway.records(told + 3)[told:]
    assert (own["id"], own["turns"], own["usage"]) == (first["part_of"], 2, None)
    assert (second["part_of"], second["turn"]) == (own["id"], 2)
    assert "the second question" in second["request"]["body"]
    assert "the first question" not in json.dumps(second["request"])
    for turn in (first, second):
        same = ("client", "route", "provider", "key", "operation", "detected_by")
        assert [turn[name] for name in same] == [own[name] for name in same]
        assert turn["model"]["requested"] == model
        assert turn["finish_reasons"] == ([] if client is live else ["completed"])
        assert own["time"] <= turn["time"]
        timing = turn["timing_ms"]
        assert 0 < timing["first_token"] <= timing["total"] < own["timing_ms"]["total"]
        assert timing["first_byte"] <= timing["first_token"]
    assert CLIENT_KEY not in json.dumps([first, second, own])


def shown(gateway: Gateway, *words: str) -> str:
    """What `logs` prints about the gateway's records."""
    command = [str(BIN / "llm-passthrough"), "logs", *words, "-f", str(gateway.records_path)]
    done = ended(command, clean_environment(), gateway.folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_who_kills_the_gateway_loses_no_turn_that_ended(provider: Provider, tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, config_for(provider.url))
    talking = responses(gateway)
    assert next(talking) == "first"
    gateway.records(1)
    gateway.process.send_signal(signal.SIGKILL)
    gateway.process.wait(10)
    with pytest.raises(websockets.ConnectionClosed):
        next(talking)
    (turn,) = gateway.records()
    assert turn["usage"]["output_tokens"]
    whole = shown(gateway, "show", turn["part_of"])
    assert "not closed" in whole
    assert "the first question" in whole


def test_the_whole_conversation_is_shown_turn_by_turn(gateway: Gateway) -> None:
    told = len(gateway.records())
    assert list(responses(gateway)) == ["first", "second", "third"]
    *turns, own = gateway.records(told + 4)[told:]
    whole = shown(gateway, "show", own["id"])
    texts = ("turn 1", "the first question", "turn 2", "the second question", "turn 3")
    places = [whole.index(text) for text in texts]
    assert places == sorted(places)
    tokens = sum(turn["usage"]["input_tokens"] for turn in turns)
    assert f"3 turns in all: in {tokens}, " in whole
    third = shown(gateway, "show", turns[2]["id"])
    assert f"{own['id']}, its turn 3" in third
    assert "the third question" in third
    assert "the second question" not in third


def test_a_session_of_many_turns_takes_no_more_memory_than_one_of_few(
    upstream: Upstream, tmp_path: Path
) -> None:
    usage = {"input_tokens": 3, "output_tokens": 4}
    done: dict[str, Any] = {"type": "response.completed", "response": {"usage": usage}}
    answer = frame(1, json.dumps(done | {"pad": "x" * 100_000}).encode())

    def talk(wire: Wire) -> None:
        accept(wire)
        with contextlib.suppress(EOFError):
            while read_frame(wire)[0] == 1:
                wire.send(answer)
        wire.send(frame(8, struct.pack("!H", 1000)))
        wire.rest()

    upstream.talk = talk
    gateway = Gateway(tmp_path, config_for(upstream.url))
    try:
        with Wire.to(gateway.port) as wire:
            wire.send(upgrade("/openai_passthrough/v1/responses"))
            wire.until(b"\r\n\r\n")

            def turns(number: int) -> int:
                for _ in range(number):
                    wire.send(frame(1, b'{"type":"response.create"}', mask=b"mask"))
                    read_frame(wire)
                gateway.records(number)
                return resident(gateway.process.pid)

            few = turns(210)  # mitmproxy's own list of messages has been cut once
            assert turns(100) - few < 5 << 20
            wire.send(frame(8, struct.pack("!H", 1000), mask=b"mask"))
        own = gateway.records(311)[-1]
        assert (own["turns"], own["usage"]) == (310, None)
    finally:
        gateway.stop()
