"""The list of calls: its page, and what goes on top of it while somebody looks."""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from llm_passthrough.ledger import Entry, LedgerError
from llm_passthrough.ledger.filters import OUTCOMES
from llm_passthrough.ledger.lines import epoch
from llm_passthrough.pages.cells import AGAIN, COLUMNS, cells, when
from llm_passthrough.pages.render import render
from llm_passthrough.pages.site import Site
from llm_passthrough.pages.store import Names, Page, State
from llm_passthrough.pages.wishes import FILTERS, PAGE, SPAN, Wish

_MOST_NEWS = 100


def filters(names: Names, wish: Wish, action: str, *kept: str) -> dict[str, Any]:
    """What the form of filters needs; `kept` are the other words of the address that stay."""
    return {
        "action": action,
        "wish": wish,
        "names": names,
        "outcomes": ["failed", *OUTCOMES],
        "choices": _choices,
        "kept": kept,
        "filtered": any(name in wish.given for name in (*FILTERS, *SPAN)),
    }


def page(site: Site, wish: Wish) -> bytes:
    """The page of a list."""
    store, fault = site.store, None
    state, names, found, cursor, older = State(), Names(), Page([]), 0, None
    try:
        # The cursor first: what comes in between is then shown twice, not missed.
        _, cursor = store.since(None)
        state, found, names = store.state(), store.page(wish), store.names()
        state = store.state() if state.ready else state
        fault, older = state.fault, site.older()
    except LedgerError as error:
        fault = str(error)
    return render(
        "list.html",
        title="Calls",
        here="calls",
        page=found,
        page_size=PAGE,
        columns=COLUMNS,
        cells=cells,
        again=AGAIN,
        state=state,
        cursor=cursor,
        when=when,
        place=site.place,
        older=older,
        fault=fault,
        **filters(names, wish, "/llm", "sort", "order"),
    )


def news(site: Site, wish: Wish, cursor: int | None, told: bytes) -> tuple[bytes, int]:
    """What a script is told about calls since the cursor, and the next one.

    Nothing when that is what it was told before (`told`).
    """
    store = site.store
    try:
        fresh, after = store.since(cursor)
        state = store.state()
    except LedgerError:
        return told, cursor or 0
    wanted = list(_wanted(fresh, wish))
    calls = [{"id": entry.row.id, "cells": cells(entry.row)} for entry in wanted[-_MOST_NEWS:]]
    total = None
    if wanted and wish.is_live and wish.filter.grep is None:
        count = store.page(wish).total
        total = None if count is None else f"{count:,} {'call' if count == 1 else 'calls'}"
    reading = "" if state.ready else f"reading the log, {int(state.share * 100)} %"
    value = {"calls": calls, "total": total, "reading": reading, "ready": state.ready}
    return json.dumps(value).encode(), after


def _wanted(entries: Iterable[Entry], wish: Wish) -> Iterable[Entry]:
    for entry in entries:
        began = epoch(entry.row.time)
        if began is not None and wish.span.holds(began) and wish.filter(entry):
            yield entry


def _choices(names: list[str], chosen: str | None) -> list[str]:
    """The names to choose from; what is chosen is there even when nothing has it."""
    return names if not chosen or chosen in names else [*names, chosen]


def now() -> datetime:
    """The local time with its offset."""
    return datetime.now().astimezone()
