"""The content view `Conversation`: mitmproxy shows the bodies of LLM APIs as what is said in them.

It is chosen by itself for the operations that are a conversation, and it never fails: what cannot
be read so is shown as text. It reads a bounded start of a body, for mitmproxy waits meanwhile.
"""

import logging

from mitmproxy import http
from mitmproxy.contentviews import Contentview, Metadata

from llm_passthrough.bodies import decoded
from llm_passthrough.conversation.values import size
from llm_passthrough.dialects import operation
from llm_passthrough.views import transcript
from llm_passthrough.views.notes import RECORD, SIZES
from llm_passthrough.views.outline import outline, plain

_LOG = logging.getLogger(__name__)

# The operations whose request and answer are what people and models say.
_TALKS = frozenset(
    "chat completions responses messages complete generate_content converse invoke interactions"
    " count_tokens input_tokens".split()
)
_SOCKETS = frozenset({"realtime", "responses"})
_KINDS = (
    "text/event-stream",
    "application/json",
    "application/x-ndjson",
    "application/vnd.amazon.eventstream",
)
# How much of a body is read: a stream takes longer, for each of its events is read.
_MOST, _MOST_OF_STREAM = 8 << 20, 1 << 20
_LONGEST_TEXT = 1 << 20
_START = 4096  # as much tells what kind of content it is


class Conversation(Contentview):
    """Requests, answers and WebSocket messages of LLM APIs."""

    name = "Conversation"
    syntax_highlight = "yaml"

    def prettify(self, data: bytes, metadata: Metadata) -> str:
        """The conversation; else the text with a note why it is none."""
        try:
            notes, content = _readable(data, metadata)
            shown = _shown(content, metadata, whole=not notes)
            if shown is None:
                return _commented([*notes, "this is no conversation"], _text(content))
            return _commented(notes, outline(_named(metadata) | shown))
        except Exception as error:  # noqa: BLE001 - whatever a body holds, a person sees something
            _LOG.debug("%s in a content view", type(error).__name__)
            return _commented(["this could not be read as a conversation"], _text(data))

    def render_priority(self, data: bytes, metadata: Metadata) -> float:
        """Above mitmproxy's own views for what is a conversation, else below all of them."""
        flow = metadata.flow
        if not data or not isinstance(flow, http.HTTPFlow):
            return -1
        what = operation(flow.request.path.partition("?")[0])
        if metadata.websocket_message is not None:
            return 2 if what in _SOCKETS and _begins(data) == b"{" else -1
        fits = (metadata.content_type or "").lower() in _KINDS or _begins(data) in (b"{", b"[")
        return 2 if what in _TALKS and fits else -1


def _shown(content: bytes, metadata: Metadata, whole: bool) -> transcript.Json | None:
    flow, message = metadata.flow, metadata.http_message
    path = flow.request.path.partition("?")[0] if isinstance(flow, http.HTTPFlow) else ""
    if metadata.websocket_message is not None:
        return transcript.event(content)
    if isinstance(message, http.Response):
        kind = message.headers.get("content-type", "")
        pairs = list(message.headers.items(multi=True))
        given = transcript.Answer(content, message.status_code, kind, pairs, whole)
        return transcript.answer(given, path)
    return transcript.request(content, path)


def _named(metadata: Metadata) -> transcript.Json:
    """The id by which `llm-passthrough logs show` finds the call."""
    ident = metadata.flow.metadata.get(RECORD) if metadata.flow else None
    shown = isinstance(ident, str) and metadata.websocket_message is None
    return {"record": ident} if shown else {}


def _readable(data: bytes, metadata: Metadata) -> tuple[list[str], bytes]:
    """As much of the content as is read, and notes on what is missing of it."""
    notes: list[str] = []
    message = metadata.http_message
    raw = message.raw_content if message is not None else None
    if message is not None and raw is not None:
        if (went := _went_by(metadata, message)) > len(raw):
            notes.append(f"cut off: {size(len(raw))} of {size(went)} were kept")
        coding = message.headers.get("content-encoding")
        if coding and data is raw:  # mitmproxy decodes what is whole, or nothing
            data, _ = decoded(data, coding, _MOST)
    whole = _begins(data) == b"{" and b"\n{" not in data[:_START]
    most = _MOST if whole else _MOST_OF_STREAM
    if len(data) > most:
        notes.append(f"only the first {size(most)} of {size(len(data))} are shown")
        data = data[:most]
    return notes, data


def _went_by(metadata: Metadata, message: http.Message) -> int:
    side = "response" if isinstance(message, http.Response) else "request"
    told = metadata.flow.metadata.get(SIZES[side]) if metadata.flow else None
    return told if isinstance(told, int) else 0


def _begins(data: bytes) -> bytes:
    return data[:_START].lstrip()[:1]


def _text(content: bytes) -> str:
    shown = content[:_LONGEST_TEXT].decode("utf-8", "backslashreplace")
    more = len(content) - _LONGEST_TEXT
    return plain(shown) + (f"\n# {size(more)} more" if more > 0 else "")


def _commented(notes: list[str], text: str) -> str:
    return "".join(f"# {note}\n" for note in notes) + text
