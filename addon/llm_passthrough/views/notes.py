"""Notes on a finished call for whoever looks at its flow: a comment and a marker.

The numbers are known only when the record is made, in the writer's thread: `Notes` is a sink that
hands them back to the event loop, and an addon that knows the flow.
"""

import asyncio
import contextlib
from dataclasses import replace
from weakref import WeakKeyDictionary, WeakValueDictionary

from mitmproxy import ctx, http
from mitmproxy.flow import Flow
from mitmproxy.hooks import UpdateHook

from llm_passthrough.columns import place
from llm_passthrough.record import Cost, Outcome, Record
from llm_passthrough.shown import duration, money, safe
from llm_passthrough.usage import Usage

RECORD = "passthrough_id"
"""Metadata of a flow: the id of its record."""

SIZES = {"request": "passthrough_request_bytes", "response": "passthrough_response_bytes"}
"""Metadata of a flow: how long its two bodies were on the wire; what it holds may be less."""

# Names of mitmproxy's; its pages offer circles to those who mark by hand.
MARKS: dict[Outcome, str] = {
    "ok": ":white_check_mark:",
    "refused": ":no_entry:",
    "upstream_error": ":x:",
    "client_abort": ":scissors:",
    "upstream_abort": ":broken_heart:",
    "timeout": ":hourglass:",
    "error": ":warning:",
}
_LONGEST = 300
_LONGEST_NAME = 80


class Notes:
    """Sink and addon. What a person wrote on a flow stays; what we wrote is written anew."""

    name = "llm_passthrough_notes"
    durable = False

    def __init__(self) -> None:
        # Weak both: a flow that nobody looks at any more needs no note.
        self._flows: WeakValueDictionary[str, http.HTTPFlow] = WeakValueDictionary()
        self._said: WeakKeyDictionary[Flow, tuple[str, str]] = WeakKeyDictionary()
        self._loop: asyncio.AbstractEventLoop | None = None
        # What the turns of each open WebSocket took so far; of the writer's thread alone.
        self._taken: dict[str, tuple[Usage | None, Cost | None]] = {}

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """A flow whose record will come."""
        ident = flow.metadata.get(RECORD)
        if isinstance(ident, str):
            self._loop = asyncio.get_running_loop()
            self._flows[ident] = flow

    def write(self, record: Record, line: bytes) -> None:
        """Called in the writer's thread: what is to be said goes to the event loop.

        A turn of a WebSocket is said of that one's flow, together with those before.
        """
        if record.part_of or record.turns:
            record = self._together(record)
        if self._loop is not None:
            answer = record.response
            sizes = record.request.bytes, answer.bytes if answer else 0
            mark = "" if record.part_of else MARKS[record.outcome]
            told = record.part_of or record.id, comment(record), mark, sizes
            with contextlib.suppress(RuntimeError):  # the loop has ended, nobody looks any more
                self._loop.call_soon_threadsafe(self._note, *told)

    def close(self) -> None:
        """Nothing is held."""

    def own(self, flow: Flow) -> bool:
        """Whether a flow's marker, if there is one, is ours and not a person's."""
        return flow.marked in ("", self._said.get(flow, ("", ""))[1])

    def _together(self, record: Record) -> Record:
        """The record with what all turns of its WebSocket took, as far as they were told."""
        usage, cost = self._taken.pop(record.part_of or record.id, (None, None))
        if usage and record.usage:
            usage += record.usage
        if cost and record.cost:
            cost = replace(cost, amount=cost.amount + record.cost.amount)
        usage, cost = usage or record.usage, cost or record.cost
        if record.part_of:
            self._taken[record.part_of] = usage, cost
        turns, timing = record.turn or record.turns, replace(record.timing_ms, first_token=None)
        return replace(record, turn=None, turns=turns, usage=usage, cost=cost, timing_ms=timing)

    def _note(self, ident: str, text: str, mark: str, sizes: tuple[int, int]) -> None:
        flow = self._flows.get(ident)
        if flow is None:
            return
        if mark:
            del self._flows[ident]  # it is over
        before, marked = self._said.get(flow, ("", ""))
        if flow.comment in ("", before):
            flow.comment = text
        if flow.marked in ("", marked):
            flow.marked = mark
        self._said[flow] = text, mark
        flow.metadata |= dict(zip(SIZES.values(), sizes, strict=True))
        ctx.master.addons.trigger(UpdateHook([flow]))


def comment(record: Record) -> str:
    """A call in one line: `openai gpt-4o · 1,204 in (1,024 cached) / 310 out · $0.0041 · ...`.

    Why it failed comes first, where it did. Everything in a record is redacted, and what came
    from outside is shown without anything that a terminal obeys.
    """
    said = [_why(record), _who(record), place(record.turn, record.turns)]
    said += [_tokens(record), _cost(record), _token_time(record)]
    return safe(" · ".join(word for word in said if word), _LONGEST)


def _why(record: Record) -> str:
    if record.outcome == "ok":
        return ""
    status = record.response.status if record.response else None
    words = [record.outcome.replace("_", " "), *([str(status)] if status else [])]
    text = " ".join(words)
    return f"{text}: {record.error.message}"[:_LONGEST] if record.error else text


def _who(record: Record) -> str:
    model = record.model.requested or record.model.response or record.operation
    words = [word[:_LONGEST_NAME] for word in (record.provider, model) if word]
    return " ".join(words)


def _tokens(record: Record) -> str:
    usage = record.usage
    if usage is None:
        return ""
    cached = f" ({usage.cache_read_tokens:,} cached)" if usage.cache_read_tokens else ""
    given = f"{usage.input_tokens:,} in{cached}" if usage.input_tokens is not None else ""
    made = f"{usage.output_tokens:,} out" if usage.output_tokens is not None else ""
    return " / ".join(word for word in (given, made) if word)


def _cost(record: Record) -> str:
    return money(record.cost.amount, record.cost.currency) if record.cost else ""


def _token_time(record: Record) -> str:
    first = record.timing_ms.first_token
    return f"first token {duration(first)}" if first is not None else ""
