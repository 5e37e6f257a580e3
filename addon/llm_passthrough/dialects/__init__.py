"""What operation a request is, by its path alone (never by the name of a model), and its reader.

One row an operation: its name, the end of its path, and the dialect of its answer. Of an answer
without a dialect only errors are read.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from llm_passthrough.dialects.anthropic import MESSAGES
from llm_passthrough.dialects.bedrock import CONVERSE, INVOKE
from llm_passthrough.dialects.cohere import COHERE
from llm_passthrough.dialects.draft import Dialect, stored
from llm_passthrough.dialects.faults import FAILURE
from llm_passthrough.dialects.google import CONTENT, INTERACTIONS, LIVE, PREDICTION
from llm_passthrough.dialects.ollama import OLLAMA
from llm_passthrough.dialects.openai import CHAT, INPUT, MEDIA, OBJECT
from llm_passthrough.dialects.reading import AnswerReader, Reader
from llm_passthrough.dialects.responses import RESPONSES, SOCKET

__all__ = ["Reader", "operation", "reader"]

# OpenAI, Azure and everything that is compatible: the first row that fits the end of the path.
_ROWS: tuple[tuple[str, str, Dialect | None], ...] = (
    ("chat", r"/chat/completions", CHAT),
    ("chat", r"/chat/completions/[^/]+(/messages)?", stored(CHAT)),
    ("chat", r"/api/chat", OLLAMA),
    ("chat", r"/v[12]/chat", INVOKE),  # Cohere's own and compatible ones, told by the answer
    ("completions", r"/completions", CHAT),
    ("completions", r"/api/generate", OLLAMA),
    ("completions", r"/v1/generate", COHERE),
    ("input_tokens", r"/responses/input_tokens", None),
    ("responses", r"/responses(/compact)?", RESPONSES),
    ("responses", r"/responses/[^/]+(/(cancel|input_items|compact))?", stored(RESPONSES)),
    ("embeddings", r"/embeddings|/multimodalembeddings", INPUT),
    ("embeddings", r"/api/(embed|embeddings)", OLLAMA),
    ("embeddings", r"/v[12]/embed", COHERE),
    ("rerank", r"/v[12]/rerank", INVOKE),
    ("rerank", r"/rerank", INPUT),
    ("images", r"/images(/(generations|edits|variations))?", MEDIA),
    ("speech", r"/audio/speech", MEDIA),
    ("transcription", r"/audio/(transcriptions|translations)", MEDIA),
    ("videos", r"/videos(/.*)?", OBJECT),
    ("moderations", r"/moderations", INPUT),
    ("realtime", r"/realtime/(sessions|client_secrets|transcription_sessions|calls(/.*)?)", OBJECT),
    ("realtime", r"/realtime(/.*)?", SOCKET),
    ("realtime", r"/ws/google\..+", LIVE),
    ("count_tokens", r"/messages/count_tokens|/count-tokens:rawPredict|:countTokens", None),
    ("count_tokens", r":computeTokens|/count-tokens|/tokenize", None),
    ("message_batches", r"/messages/batches(/.*)?", OBJECT),
    (
        "messages",
        r"/messages|/publishers/anthropic/models/[^/:]+:(rawPredict|streamRawPredict)",
        MESSAGES,
    ),
    ("complete", r"/v1/complete", MESSAGES),
    ("generate_content", r":(generateContent|streamGenerateContent)", CONTENT),
    ("embed_content", r":(embedContent|batchEmbedContents|asyncBatchEmbedContent)", CONTENT),
    ("predict", r":(rawPredict|streamRawPredict)", INVOKE),
    ("predict", r":(predict|predictLongRunning)", PREDICTION),
    ("converse", r"/converse(-stream)?", CONVERSE),
    ("invoke", r"/model/[^/]+/invoke(-with-response-stream)?|/invocations", INVOKE),
    ("guardrail", r"/guardrail/[^/]+/version/[^/]+/apply", None),
    ("uploads", r"/uploads(/.*)?|/upload/[^/]+/files", OBJECT),
    ("vector_stores", r"/vector_stores(/.*)?", OBJECT),
    ("files", r"/files/[^/]+/content|/files/[^/]+:download", None),
    ("files", r"/files(/.*)?", OBJECT),
    ("batches", r"/(batches|batchPredictionJobs)(/.*)?|:batchGenerateContent", OBJECT),
    ("cached_contents", r"/cachedContents(/.*)?", OBJECT),
    # Fetching a background interaction is the only place where its usage is told.
    ("interactions", r"/interactions(/.*)?", INTERACTIONS),
    ("assistants", r"/(assistants|threads)(/.*)?", OBJECT),
    ("conversations", r"/conversations(/.*)?", OBJECT),
    ("fine_tuning", r"/fine_tuning/.*", OBJECT),
    ("models", r"/models(/[^/:]+)?", None),
)
_TABLE = tuple((name, re.compile(rf"(?:{pattern})\Z"), how) for name, pattern, how in _ROWS)
_LONGEST = 512
_SOCKETS = (RESPONSES, SOCKET, LIVE)
# Bytes that are no text: there is nothing in them to read.
_OPAQUE = ("audio/", "image/", "video/", "multipart/", "application/zip", "application/pdf")


def operation(path: str) -> str | None:
    """The operation of a path without its query, such as `chat` or `generate_content`."""
    row = _row(path)
    return row and row[0]


def reader(
    path: bytes,
    provider: str | None,
    shape: str,
    content_type: str,
    status: int,
    headers: Iterable[tuple[str, str]] = (),
) -> Reader | None:
    """A reader for the answer to a request, or None where there is nothing to read.

    `path` is the raw path after the route's prefix; a query behind it does no harm. The answer's
    own `headers` are needed for Amazon Bedrock only. A websocket (`status` 101) is fed one whole
    message at a time.
    """
    if status >= 400:
        return AnswerReader(FAILURE, content_type, status, headers)
    if content_type.lower().startswith(_OPAQUE) or (status < 200 and status != 101):
        return None
    row = _row(path.partition(b"?")[0].decode("latin-1"))
    if row is None or row[1] is None:
        return None
    dialect = row[1]
    if status == 101:
        if dialect not in _SOCKETS:
            return None
        dialect = SOCKET if dialect is RESPONSES else dialect
    if dialect is not CONVERSE and dialect is not INVOKE:
        headers = ()  # Amazon Bedrock's alone are read
    return AnswerReader(dialect, content_type, status, headers)


def _row(path: str) -> tuple[str, Dialect | None] | None:
    return _found(path[-_LONGEST:])  # bounds the search; no operation's path is that long


@lru_cache(maxsize=1024)
def _found(end: str) -> tuple[str, Dialect | None] | None:
    return next(((name, how) for name, pattern, how in _TABLE if pattern.search(end)), None)
