"""How long a page inside of mitmweb takes: lists of 50,000 records, a conversation of 200 turns.

Records are made once and written into both stores. The browser is not in it.
"""

import atexit
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from llm_passthrough.config import Log
from llm_passthrough.pages import call, calls
from llm_passthrough.pages.dashboard import Dashboard
from llm_passthrough.pages.index import Index
from llm_passthrough.pages.site import Site
from llm_passthrough.pages.wishes import read
from llm_passthrough.record import Body, Facts
from llm_passthrough.recorder import told
from llm_passthrough.redact import Redactor
from llm_passthrough.sinks.sqlite import Sqlite

from bench.measure import Case, spent
from bench.samples import exchange

_RECORDS = 50_000
_TURNS = 200
_MOST = 1000  # ms
_UNIT = "ms a page"
_NEEDLE = "a needle in it"
_EVERY = 5_000  # one in so many records has the text that is looked for
_CLIENTS = ("agent", "notebook", "ci")


class Place(NamedTuple):
    """Both stores, filled, and the last turn of a conversation."""

    sites: dict[str, Site]
    last: str


def cases(share: float) -> list[Case]:
    """The first page, a filtered one, a search, the dashboard, and a conversation; each store."""
    count = max(int(_RECORDS * share), 20)
    pages: tuple[tuple[str, Callable[[Site], object]], ...] = (
        ("first page", lambda site: _list(site)),
        ("filtered page", lambda site: _list(site, client="ci", outcome="ok", page="2")),
        ("sorted page", lambda site: _list(site, sort="in")),
        ("content search", lambda site: _list(site, grep=_NEEDLE)),
        ("dashboard", lambda site: Dashboard(site).page(read({"since": "3650d"}, calls.now()))),
    )
    found = [Case("pages, index of a log", f"us a record, {count:,}", lambda: _indexed(count))]
    for store in ("jsonl", "sqlite"):
        for name, page in pages:
            run = _timed(count, store, page)
            found.append(Case(f"pages, {store}, {name}", _UNIT, run, goal=_MOST))
        name = f"pages, {store}, conversation of {_TURNS} turns"
        found.append(Case(name, _UNIT, _timed(count, store, _opened(count)), goal=_MOST))
    return found


def _timed(count: int, store: str, page: Callable[[Site], object]) -> Callable[[], float]:
    def run() -> float:
        site = _place(count).sites[store]
        return spent(lambda: page(site)) / 1e3

    return run


def _list(site: Site, **words: str) -> bytes:
    return calls.page(site, read(words, calls.now()))


def _opened(count: int) -> Callable[[Site], object]:
    return lambda site: call.page(site, _place(count).last)


@cache
def _place(count: int) -> Place:
    """Both stores with so many records, the turns of a conversation among them."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    log, database, redactor = folder / "records.jsonl", folder / "records.sqlite", Redactor(())
    sink, last = Sqlite(database, held_bytes=1 << 40), ""
    with log.open("wb") as file:
        for facts in _facts(count):
            record, line = told(facts, redactor)
            file.write(line)
            sink.write(record, line)
            last = record.id if facts.client == "talk" else last
    if not sink.flush(600):
        raise RuntimeError("the database is not written")
    sink.close()
    sites = {"jsonl": _site(log), "sqlite": _site(log, database)}
    _filled(sites["jsonl"])
    return Place(sites, last)


def _site(log: Path, database: Path | None = None) -> Site:
    settings = Log(path=str(log), sqlite=None if database is None else str(database))
    return Site(lambda: settings)


def _filled(site: Site) -> None:
    index = site.store
    while isinstance(index, Index) and index.look():
        pass


def _indexed(count: int) -> float:
    """What reading a log takes, without the rests between."""
    log = _place(count).sites["jsonl"].place
    site = _site(log)
    took = spent(lambda: _filled(site), count)
    site.store.close()
    return took


def _facts(count: int) -> Iterator[Facts]:
    """Calls of a few clients and, evenly among them, a conversation with itself."""
    every = max(count // _TURNS, 1)
    for number in range(count):
        facts = exchange(number)
        facts.client = _CLIENTS[number % len(_CLIENTS)]
        if number % _EVERY == 0:
            facts.request = _body([f"Number {number}: {_NEEDLE}"])
        yield facts
        if number % every == every - 1:
            turn = exchange(count + number)
            body = _body([_said(n) for n in range(2 * (number // every) + 1)])
            yield replace(turn, client="talk", request=body, started=facts.started + 0.005)


def _said(number: int) -> str:
    return f"{number}. " + "What was said at length in this turn of it. " * 12


def _body(texts: list[str]) -> Body:
    roles = "user", "assistant"
    messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]
    body = json.dumps({"model": "gpt-4o", "messages": messages}).encode()
    return Body(body, len(body))
