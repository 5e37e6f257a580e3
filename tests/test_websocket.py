"""How much of a WebSocket's messages is kept with its flow."""

import pytest
from llm_passthrough.websocket import keep_last
from mitmproxy.websocket import WebSocketMessage


def message(size: int) -> WebSocketMessage:
    return WebSocketMessage(1, True, b"x" * size)


@pytest.mark.parametrize(
    ("sizes", "kept"),
    [
        pytest.param([10] * 400, 400, id="small ones, not too many"),
        pytest.param([10] * 401, 200, id="small ones, too many"),
        pytest.param([100_000] * 20, 20, id="large ones, not too many"),
        pytest.param([100_000] * 100, 83, id="large ones, too many"),
        pytest.param([10, 10, 20 << 20], 1, id="one that is larger than all may be"),
        pytest.param([20 << 20, 10], 2, id="until the next large one comes"),
    ],
)
def test_the_last_messages_are_kept(sizes: list[int], kept: int) -> None:
    messages: list[WebSocketMessage] = []
    for size in sizes:
        messages.append(message(size))
        last = messages[-1]
        keep_last(messages)
    assert messages[-1] is last
    assert len(messages) == kept or (kept == 200 and len(messages) <= 400)
