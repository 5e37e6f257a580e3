"""One call whole: its conversation, what is new in it, and what became of the prompt cache."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from llm_passthrough.columns import Row
from llm_passthrough.conversation import loads, tools, turns
from llm_passthrough.conversation.values import as_dict
from llm_passthrough.pages import cachewhy, facts, neighbours, repeats
from llm_passthrough.pages.cells import tone, when
from llm_passthrough.pages.difference import Difference, difference, lines
from llm_passthrough.pages.prompt import Prompt, prompt
from llm_passthrough.pages.render import render
from llm_passthrough.pages.site import Site
from llm_passthrough.pages.store import Store
from llm_passthrough.pages.talk import Said, talk
from llm_passthrough.shown import duration, money, tokens

_FOLDED_FROM = 3


def page(site: Site, id_: str) -> bytes | None:
    """The page of a call; None when there is no such record. May raise LedgerError."""
    entry = site.store.find(id_)
    record = entry.record() if entry else {}
    if entry is None or not record:
        return None
    now = prompt(record)
    before, old = neighbours.before(site.store, entry, now)
    changed = difference(before, now) if before else None
    own = groups(talk(turns(record), turns(old)))
    parts = list(_parts(site.store, entry.row)) if entry.row.turns else []
    response = as_dict(record.get("response"))
    status = " ".join(str(w) for w in (response.get("status"), record.get("outcome")) if w)
    total = as_dict(record.get("timing_ms")).get("total")
    return render(
        "call.html",
        title=facts.model(record),
        here="call",
        id=entry.row.id,
        record=record,
        model=facts.model(record),
        status=status,
        tone=tone(entry.row.outcome),
        tone_of=tone,
        error=facts.error(record),
        beside=repeats.beside(site.store, entry.row, record),
        repetitions=repeats.repetitions(site.store, entry.row.id),
        kept=facts.kept(record),
        usage=facts.usage(record),
        total=duration(total) if isinstance(total, int | float) else "",
        speed=facts.speed(record),
        timeline=facts.timeline(record),
        facts=facts.facts(record),
        report=_report(record, now, before, changed),
        changed=changed,
        before_id=before.id if before else neighbours.part_before(site.store, entry.row),
        next_id=neighbours.after(site.store, entry, now),
        whole_id=_whole(site.store, entry.row),
        gap=_gap(before, now),
        told=_told(changed) if changed else "",
        diffs=list(_diffs(before, now, changed)) if before and changed else [],
        tools=tools(loads(_text(record))),
        parts=[*parts, Section(own)] if own or not parts else parts,
        left_out=(entry.row.turns or 0) - len(parts),
        fresh=before is not None,
    )


def raw(site: Site, id_: str) -> bytes | None:
    """Request and answer as they went; None when there is no such record."""
    entry = site.store.find(id_)
    record = entry.record() if entry else {}
    if entry is None or not record:
        return None
    return render(
        "raw.html",
        title=facts.model(record),
        here="call",
        id=entry.row.id,
        model=facts.model(record),
        sides=list(facts.raw(record)),
    )


@dataclass(frozen=True, slots=True)
class Section:
    """A piece of a conversation: of a WebSocket a turn, which has a page of its own."""

    groups: list[tuple[str, list[Said]]]
    id: str = ""
    title: str = ""


def _parts(store: Store, row: Row) -> Iterator[Section]:
    """The turns of a WebSocket, as many as a page holds and some time allows."""
    for one in neighbours.parts(store, row):
        words = [
            one.row.place,
            when(one.row.time),
            one.row.outcome if one.row.outcome != "ok" else "",
        ]
        words += [f"{tokens(one.row.input_tokens)} in / {tokens(one.row.output_tokens)} out"]
        words += [money(one.row.cost, one.row.currency)] if one.row.cost is not None else []
        title = " · ".join(word for word in words if word)
        yield Section(groups(talk(turns(one.record()))), one.row.id, title)


def _whole(store: Store, row: Row) -> str:
    """The id of the WebSocket that a turn is part of, if that has its record already."""
    return row.part_of if row.part_of and store.find(row.part_of) else ""


def groups(said: Sequence[Said]) -> list[tuple[str, list[Said]]]:
    """The messages, in runs of old ones that are folded and of others.

    What the tools are stands above: their turn is left out.
    """
    found: list[tuple[str, list[Said]]] = []
    for old, run in groupby((one for one in said if one.role != "tools"), lambda one: one.old):
        messages = list(run)
        folded = old and len(messages) >= _FOLDED_FROM
        found.append(("old" if folded else "", messages))
    return found


def _report(
    record: Mapping[str, Any], now: Prompt, before: Prompt | None, changed: Difference | None
) -> cachewhy.Report | None:
    """What became of the cache, for calls that have to do with one."""
    if not now.messages or record.get("outcome") == "refused" or now.input_tokens is None:
        return None
    return cachewhy.report(now, before, changed)


def _gap(before: Prompt | None, now: Prompt) -> str:
    if before is None or before.began is None or now.began is None:
        return ""
    return duration((now.began - before.began) * 1000)


def _told(changed: Difference) -> str:
    """What is different, in a line."""
    words = [f"{changed.added} new {'message' if changed.added == 1 else 'messages'}"]
    if not (changed.added or changed.lost):
        words = ["the same messages"]
    if changed.lost:
        words.append(f"{changed.lost} of the old ones changed or gone, from {changed.same + 1} on")
    for name, change in (("system prompt", changed.system), ("tools", changed.tool)):
        words.append(f"{name} {'unchanged' if change is None else 'changed'}")
    words += [f"{name} changed" for name, _, _ in (*changed.settings, *changed.headers)]
    if changed.model is not None:
        words.append(f"model {changed.model[0]} → {changed.model[1]}")
    return "; ".join(words)


def _diffs(
    before: Prompt, now: Prompt, changed: Difference
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """What changed line by line, by the names of the parts."""
    if changed.system is not None:
        yield "system prompt", lines(before.system, now.system)
    if changed.tool is not None:
        yield "tools", lines((t.text for t in before.tools), (t.text for t in now.tools))
    if changed.lost and changed.added:
        here = slice(changed.same, changed.same + 1)
        old, new = before.messages[here], now.messages[here]
        told = lines((m.text for m in old), (m.text for m in new))
        yield f"message {changed.same + 1}", told


def _text(record: Mapping[str, Any]) -> str:
    request = as_dict(record.get("request"))
    body = request.get("body")
    return body if isinstance(body, str) and request.get("encoding") != "base64" else ""
