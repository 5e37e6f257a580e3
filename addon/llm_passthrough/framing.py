"""What an answer's headers say about its body: whether it is streamed, and where it ends."""

from collections.abc import Mapping

_STREAMED_TYPES = (
    "text/event-stream",
    "application/x-ndjson",
    "application/octet-stream",
    "audio/",
    "video/",
)


def is_streamed(headers: Mapping[str, str], longest: int) -> bool:
    """Whether an answer is passed on as it comes: by its type, without a length, or too long.

    A buffered answer is at most `longest` bytes. Names are looked up in any case.
    """
    kind, length = headers.get("content-type", "").lower(), headers.get("content-length", "")
    if kind.startswith(_STREAMED_TYPES) or not length.isdigit():
        return True
    return int(length) > longest


def ends_with_connection(headers: Mapping[str, str]) -> bool:
    """Whether only the end of the connection says where a body ends (RFC 9112 6.3)."""
    return "content-length" not in headers and "transfer-encoding" not in headers
