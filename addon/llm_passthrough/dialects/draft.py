"""What is known so far of an answer, and the small hands with which dialects fill it in."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from llm_passthrough.usage import Counts, Object, Reading, Usage

_NAME = 512  # no model, id or tool has a longer name
_MESSAGE = 500
_MOST = 256  # tool calls, choices and notes that are told apart
_NOTHING: Object = {}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one wire format is read.

    `see` takes one message of it: the whole answer, or one event of a stream. `array` says that it
    may stream one JSON array. `counted` is False where an answer shows the usage of another call.
    `ends` is whether a stream of it ends with a mark; where services mostly send one, a finish
    reason without it leaves open whether all is there.
    """

    see: Callable[["Draft", Object], None]
    array: bool = False
    counted: bool = True
    ends: Literal["always", "mostly", "never"] = "always"


class Draft:
    """A reading in the making; its size does not grow with the length of the stream."""

    __slots__ = (
        "_calls", "_counts", "_finish", "_notes", "_raw", "_spare", "_standing", "_tools", "at",
        "begun", "ended", "error", "error_type", "event", "first", "id", "model", "over", "sum",
        "tier",
    )  # fmt: skip

    def __init__(self) -> None:
        self.model: str | None = None
        self.id: str | None = None
        self.tier: str | None = None
        self.ended = False  # the protocol said that this is all
        self.event = b""  # the name of the event that is being read
        self.at: float | None = None  # when it came; None for a whole answer
        self.first: float | None = None
        self.error: tuple[str | None, str | None, str | None] | None = None
        self.error_type: str | None = None  # where only a header says it
        self.sum: Usage | None = None  # of answers that are over, on a websocket
        self.begun = False  # on a websocket: an answer is under way
        self.over = False  # on a websocket: a turn ended with the message that was read last
        self._standing: str | None = None  # the model that the whole websocket is for
        self._raw: dict[str, Any] = {}
        self._counts: Counts | None = None
        self._spare: tuple[Object, Counts] | None = None
        self._finish: dict[int, str] = {}
        self._tools: list[str] = []
        self._calls: dict[Any, Any] = {}
        self._notes: list[str] = []

    def head(self, model: Any = None, ident: Any = None, tier: Any = None) -> None:
        """The first name that is not empty stands; an empty one is better than none."""
        if model and not self.model and isinstance(model, str):
            self.model = clean(model)
        if ident is not None and not self.id and isinstance(ident, str):
            self.id = clean(ident)
        if tier and isinstance(tier, str):
            self.tier = clean(tier)

    def heard(self) -> None:
        """Content has come: text, thinking, a tool call, audio."""
        if self.first is None:
            self.first = self.at

    def spent(self, usage: Any, counts: Counts) -> None:
        """A usage object. What a later one says stands; what it leaves out stays as it was."""
        if isinstance(usage, dict):
            if None in usage.values():
                usage = {name: count for name, count in usage.items() if count is not None}
            self._raw.update(usage)
            self._counts = counts
        elif usage is not None:
            self.note("usage is not an object")

    def spare(self, usage: Object, counts: Counts) -> None:
        """Counts of someone between, for an answer that has none of its own."""
        self._spare = (usage, counts)

    def stand(self, model: Any) -> None:
        """A websocket is for this model, whatever its answers say of it."""
        if model and isinstance(model, str):
            self._standing = clean(model)
            self.head(model)

    def begin(self) -> None:
        """An answer of many begins, on a websocket."""
        self.begun, self.ended = True, False

    def turn(self) -> None:
        """One answer of many is over, on a websocket."""
        self.add_up()
        self.over, self.begun, self.ended = True, False, True

    def next(self) -> "Draft":
        """The draft of the turn that follows on this one."""
        draft = Draft()
        draft.stand(self._standing)
        draft.ended = True  # so far: nothing has begun
        return draft

    def add_up(self) -> None:
        """What is told of a usage from now on comes on top of it."""
        usage = self._usage()
        if usage is not None:
            self.sum = usage if self.sum is None else self.sum + usage
        self._raw = {}
        self._calls = {}

    def finish(self, reason: Any, index: Any = 0) -> None:
        if isinstance(reason, str) and reason and (len(self._finish) < _MOST):
            self._finish[index if isinstance(index, int) else 0] = clean(reason)

    @property
    def finished(self) -> bool:
        return bool(self._finish)

    def tool(self, name: Any, key: Any, ident: Any = None) -> None:
        """A call of a tool. Pieces of one call share `key`, unless they bring a new `ident`."""
        if not isinstance(name, str) or not name:
            return
        if key in self._calls:
            known = self._calls[key]
            if not ident or not known or ident == known:
                return
        if len(self._tools) < _MOST:
            self._calls[key] = clean(ident) if isinstance(ident, str) else None
            self._tools.append(clean(name))
        else:
            self.note(f"more than {_MOST} tool calls")

    def note(self, text: str) -> None:
        if text not in self._notes and len(self._notes) < 8:
            self._notes.append(text)

    def fault(self, kind: Any, code: Any, message: Any) -> None:
        """What went wrong; the first error of an answer stands."""
        if self.error is None:
            self.error = (_text(kind), _text(code), _text(message, _MESSAGE))

    def _usage(self) -> Usage | None:
        notes: list[str] = []
        usage = self._counts.read(self._raw, notes) if self._raw and self._counts else None
        if usage is None and self._spare is not None:
            usage = self._spare[1].read(self._spare[0], notes)
        for text in notes:
            self.note(text)
        return usage

    def reading(self, complete: bool | None, counted: bool) -> Reading:
        usage = self._usage() if counted else None
        if self.sum is not None and counted:
            usage = self.sum if usage is None else self.sum + usage
        kind, code, message = self.error or (None, None, None)
        return Reading(
            model=self.model,
            response_id=self.id,
            finish_reasons=tuple(reason for _, reason in sorted(self._finish.items())),
            usage=usage,
            tool_calls=tuple(self._tools),
            first_token_at=self.first,
            complete=complete,
            error_type=kind or (self.error_type if self.error else None),
            error_code=code,
            error_message=message,
            service_tier=self.tier,
            unread="; ".join(self._notes) or None,
        )


def clean(text: str, most: int = _NAME) -> str:
    """A text that can be written: short, without halves of surrogate pairs."""
    text = text[:most]
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _text(value: Any, most: int = _NAME) -> str | None:
    if isinstance(value, str):
        return clean(value, most) or None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value) if abs(value) < 1e15 else None
    return None


def child(value: Object, *keys: str) -> Object:
    """The object under these keys, or an empty one."""
    found: Any = value
    for key in keys:
        found = found.get(key)
        if not isinstance(found, dict):
            return _NOTHING
    return found  # type: ignore[no-any-return]  # narrowed by the loop


def children(value: Object, key: str) -> Iterator[tuple[int, Object]]:
    """The objects in the list under this key, each with its place."""
    rows = value.get(key)
    if isinstance(rows, list):
        for place, row in enumerate(rows):
            if isinstance(row, dict):
                yield place, row


def index_of(row: Object, place: int) -> int:
    """The index that a row gives itself, else its place in the list."""
    index = row.get("index", place)
    return int(index) if isinstance(index, int | float) and 0 <= index < _MOST else place


def stored(dialect: Dialect) -> Dialect:
    """An answer that shows an earlier call again: read it, but its usage is not this call's."""
    return replace(dialect, counted=False)
