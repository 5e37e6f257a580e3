"""What looking at an answer costs: the tee with an ear, beside the bare tee."""

import time
from collections.abc import Callable, Sequence
from functools import partial

from llm_passthrough.dialects import reader
from llm_passthrough.listen import Ear
from llm_passthrough.tee import Tee

from bench.measure import Case, spent
from bench.samples import CHAT, GEMINI, MESSAGES, RESPONSES, events, number_answer, text_answer

_LIMIT = 1 << 20
_EVENTS = "text/event-stream"
_JSON = "application/json"
_CHUNK = "us a chunk"
_ANSWER = "us an answer"
_MOST_CHUNK = 15  # microseconds
_MOST_ANSWER = 1000


def cases(share: float) -> list[Case]:
    """Each dialect's stream, an event a chunk, and whole answers of 100 KB."""
    count = max(int(5000 * share), 3)
    rows = (
        ("chat", b"/v1/chat/completions", events(CHAT, count)),
        ("messages", b"/v1/messages", events(MESSAGES, count, "content_block_delta")),
        ("responses", b"/v1/responses", events(RESPONSES, count, "response.output_text.delta")),
        ("gemini", b"/models/g:streamGenerateContent", events(GEMINI, count, end="\r\n")),
    )
    found = [Case("bare tee, chunk", _CHUNK, lambda: _bare(rows[0][2], count))]
    for name, path, chunks in rows:
        run = partial(_heard, path, _EVENTS, chunks, count)
        found.append(Case(f"{name}, chunk", _CHUNK, run, "bare tee, chunk", _MOST_CHUNK))
    whole = (
        ("chat", b"/v1/chat/completions", text_answer()),
        ("embeddings", b"/v1/embeddings", number_answer()),
    )
    found.append(Case("bare tee, 100 KB", _ANSWER, lambda: _bare(whole[0][2])))
    for name, path, chunks in whole:
        run = partial(_heard, path, _JSON, chunks)
        found.append(Case(f"{name}, 100 KB", _ANSWER, run, "bare tee, 100 KB", _MOST_ANSWER))
    return found


def _bare(chunks: Sequence[bytes], count: int = 1) -> float:
    return spent(lambda: through(Tee(_LIMIT, time.monotonic), chunks), count)


def _heard(path: bytes, kind: str, chunks: Sequence[bytes], count: int = 1) -> float:
    ear = listening(path, kind)

    def run() -> None:
        through(Tee(_LIMIT, time.monotonic, ear), chunks)
        ear.end()

    return spent(run, count)


def listening(path: bytes, kind: str) -> Ear:
    """What listens to the answer of a request to this path."""
    found = reader(path, None, "openai", kind, 200)
    assert found is not None
    return Ear(found, None)


def through(tee: Callable[[bytes], bytes], chunks: Sequence[bytes]) -> None:
    """Pass chunks through a tee."""
    for chunk in chunks:
        tee(chunk)
