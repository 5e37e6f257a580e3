"""What looking costs: the tee with a reader, as a ratio to the bare tee.

`python scripts/bench_tee.py` prints one line a case: microseconds a chunk (or a whole answer) of
this process's own time, with a reader and without, and the ratio. Numbers differ from machine to
machine; the ratio hardly does.
"""

import json
import time
from collections.abc import Callable

from llm_passthrough.dialects import reader
from llm_passthrough.tee import Tee

EVENTS = 5000
ROUNDS = 7

CHAT = (
    '{"id":"chatcmpl-AbCdEfGh","object":"chat.completion.chunk","created":1700000000,'
    '"model":"gpt-4o-2024-08-06","service_tier":"default","choices":[{"index":0,'
    '"delta":{"content":" hello %d"},"logprobs":null,"finish_reason":null}],"usage":null}'
)
MESSAGES = (
    '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" hello %d"}}'
)
RESPONSES = (
    '{"type":"response.output_text.delta","sequence_number":%d,"item_id":"msg_0123456789abcdef",'
    '"output_index":0,"content_index":0,"delta":" hello","logprobs":[]}'
)
GEMINI = (
    '{"candidates":[{"content":{"parts":[{"text":"hello %d"}],"role":"model"},"index":0}],'
    '"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":42,"totalTokenCount":51},'
    '"modelVersion":"gemini-2.5-flash","responseId":"abcdefgh"}'
)
TEXT = json.dumps(
    {
        "id": "x",
        "model": "gpt-4o",
        "choices": [{"index": 0, "message": {"content": 'Lorem "ipsum"\n' * 6000}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }
).encode()
NUMBERS = json.dumps(
    {
        "data": [
            {"index": row, "embedding": [place * 0.00731 - row for place in range(1536)]}
            for row in range(3)
        ],
        "usage": {"prompt_tokens": 8, "total_tokens": 8},
    }
).encode()


def events(template: str, end: str = "\n") -> list[bytes]:
    return [f"data: {template % number}{end}{end}".encode() for number in range(EVENTS)]


def pieces(body: bytes) -> list[bytes]:
    return [body[at : at + 16384] for at in range(0, len(body), 16384)]


def bare(chunks: list[bytes]) -> None:
    tee = Tee(1 << 20, time.monotonic)
    for chunk in chunks:
        tee(chunk)


def looking(path: bytes, kind: str) -> Callable[[list[bytes]], None]:
    def run(chunks: list[bytes]) -> None:
        tee = Tee(1 << 20, time.monotonic)
        it = reader(path, None, "openai", kind, 200)
        assert it is not None
        for chunk in chunks:
            tee(chunk)
            it.feed(chunk, tee.last or 0.0)
        it.end()

    return run


def best(run: Callable[[list[bytes]], None], chunks: list[bytes]) -> float:
    """The quickest of several rounds, in microseconds."""
    times = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        run(chunks)
        times.append(time.process_time() - begun)
    return min(times) * 1e6


SSE = "text/event-stream"
JSON = "application/json"
CASES = (
    ("chat, an event", b"/v1/chat/completions", SSE, events(CHAT), EVENTS),
    ("messages, an event", b"/v1/messages", SSE, events(MESSAGES), EVENTS),
    ("responses, an event", b"/v1/responses", SSE, events(RESPONSES), EVENTS),
    ("gemini, an event", b"/models/g:streamGenerateContent", SSE, events(GEMINI, "\r\n"), EVENTS),
    ("chat, 100 KB whole", b"/v1/chat/completions", JSON, pieces(TEXT), 1),
    ("embeddings, 100 KB whole", b"/v1/embeddings", JSON, pieces(NUMBERS), 1),
)


def main() -> None:
    print(f"{'':26}{'looking':>10}{'bare':>10}{'ratio':>8}   microseconds")
    for name, path, kind, chunks, count in CASES:
        looked = best(looking(path, kind), chunks) / count
        plain = best(bare, chunks) / count
        print(f"{name:26}{looked:10.2f}{plain:10.2f}{looked / plain:8.1f}")


if __name__ == "__main__":
    main()
