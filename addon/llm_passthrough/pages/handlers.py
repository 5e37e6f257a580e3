"""The pages inside of mitmweb: who may see them, and what a browser may do with them.

They stand behind mitmweb's own token (mitmproxy.tools.web.app.RequestHandler). Nothing here writes.
"""

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

from mitmproxy.tools.web.app import RequestHandler
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError

from llm_passthrough.ledger import LedgerError
from llm_passthrough.pages import call, calls
from llm_passthrough.pages.dashboard import Dashboard
from llm_passthrough.pages.render import STATIC, render
from llm_passthrough.pages.site import Site
from llm_passthrough.pages.wishes import Wish, read

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
# A picture or a file that is opened by itself does nothing; pygal's plots have their own style.
_POLICY_OF_FILES = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
_NEWS_EVERY = 0.5
_SIGN_OF_LIFE = 15.0


class Page(RequestHandler):
    """What all pages have in common."""

    def initialize(self, site: Site, dashboard: Dashboard) -> None:
        """Called by tornado for each request."""
        self.site = site
        self.dashboard = dashboard

    def set_default_headers(self) -> None:
        """Stricter than mitmweb's own: nothing inline, nothing from outside, nothing kept."""
        super().set_default_headers()  # type: ignore[no-untyped-call]
        self.set_header("Content-Security-Policy", _POLICY)
        self.set_header("Referrer-Policy", "no-referrer")  # the address may have the token
        self.set_header("Cross-Origin-Opener-Policy", "same-origin")
        self.set_header("Cross-Origin-Resource-Policy", "same-origin")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")

    def auth_fail(self, invalid_password: bool) -> None:
        """Say how to get in."""
        self.finish(render("locked.html"))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """An error without its text, which may be about a record."""
        text = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        told = str(text) if isinstance(text, LedgerError) else self._reason
        self.finish(render("said.html", title=str(status_code), here="", text=told))

    def wish(self) -> Wish:
        """The list that the address asks for."""
        words = {name: self.get_query_argument(name) for name in self.request.query_arguments}
        return read(words, calls.now())

    async def show(self, make: Callable[[], bytes | None]) -> None:
        """Answer with what is made in a thread; 404 for None."""
        if self.get_query_argument("token", None) is not None:
            # The cookie is set: the token need not stand in the address bar and the history.
            words = self.wish().link()
            self.redirect(self.request.path + (words if len(words) > 1 else ""))
            return
        made = await self.site.work(make)
        if made is None:
            raise HTTPError(404, reason="there is no such record (any more)")
        await self.finish(made)


class Calls(Page):
    """The list."""

    async def get(self) -> None:
        """One page of it."""
        wish = self.wish()
        await self.show(lambda: calls.page(self.site, wish))


class News(Page):
    """Calls as they end, as server-sent events (WHATWG HTML 9.2)."""

    gone = False

    def on_connection_close(self) -> None:
        """The browser left."""
        self.gone = True

    async def get(self) -> None:
        """Until the browser leaves."""
        self.set_header("Content-Type", "text/event-stream; charset=utf-8")
        # The browser leaves, or mitmproxy ends and cancels what is still waiting.
        with contextlib.suppress(StreamClosedError, asyncio.CancelledError):
            await self._tell(self.wish(), self._cursor())

    async def _tell(self, wish: Wish, cursor: int | None) -> None:
        told, quiet = b"", 0.0
        while not self.gone:
            task = partial(calls.news, self.site, wish, cursor, told)
            found, cursor = await self.site.work(task)
            quiet += _NEWS_EVERY
            if found != told or b'"cells"' in found:
                told, quiet = found, 0.0
                self.write(b"id: %d\ndata: %s\n\n" % (cursor or 0, found))
            elif quiet >= _SIGN_OF_LIFE:
                quiet = 0.0
                self.write(b": still here\n\n")
            await self.flush()
            await asyncio.sleep(_NEWS_EVERY)

    def _cursor(self) -> int | None:
        """Where it goes on: after what the browser had last, or what its page showed."""
        text = self.request.headers.get("Last-Event-ID") or self.get_query_argument("cursor", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


class Call(Page):
    """One call."""

    async def get(self, id_: str) -> None:
        """Its conversation."""
        await self.show(lambda: call.page(self.site, id_))


class Raw(Page):
    """Request and answer of a call as they went."""

    async def get(self, id_: str) -> None:
        """Both as text."""
        await self.show(lambda: call.raw(self.site, id_))


class Record(Page):
    """The record of a call, to be saved."""

    async def get(self, id_: str) -> None:
        """JSON, as it is in the log."""
        found = await self.site.work(lambda: self.site.store.find(id_))
        text = await self.site.work(found.text) if found else b""
        if not text:
            raise HTTPError(404, reason="there is no such record (any more)")
        self.set_header("Content-Type", "application/json")
        self.set_header("Content-Security-Policy", _POLICY_OF_FILES)
        self.set_header("Content-Disposition", "attachment; filename=record.json")
        await self.finish(text)


class Stats(Page):
    """The dashboard."""

    async def get(self) -> None:
        """The page."""
        wish = self.wish()
        await self.show(lambda: self.dashboard.page(wish))


class Plot(Page):
    """A plot of the dashboard."""

    async def get(self, name: str) -> None:
        """SVG."""
        wish, dark = self.wish(), self.get_query_argument("dark", "") == "1"
        made = await self.site.work(lambda: self.dashboard.plot(name, wish, dark=dark))
        if made is None:
            raise HTTPError(404, reason="there is no such plot")
        self.set_header("Content-Type", "image/svg+xml")
        self.set_header("Content-Security-Policy", _POLICY_OF_FILES)
        await self.finish(made)


class Static(Page):
    """What the pages load."""

    def get(self, name: str) -> None:
        """A file of the table."""
        if name not in STATIC:
            raise HTTPError(404)
        kind, content = STATIC[name]
        self.set_header("Content-Type", kind)
        self.set_header("Cache-Control", "no-cache")
        self.write(content)


def routes(site: Site) -> list[tuple[str, type[Page], dict[str, Any]]]:
    """The pages and their addresses."""
    given = {"site": site, "dashboard": Dashboard(site)}
    table: list[tuple[str, type[Page]]] = [
        (r"/llm/?", Calls),
        (r"/llm/events", News),
        (r"/llm/stats/?", Stats),
        (r"/llm/stats/([a-z]+)\.svg", Plot),
        (r"/llm/static/([a-z]+\.[a-z]+)", Static),
        (r"/llm/([^/]+)/raw", Raw),
        (r"/llm/([^/]+)/record\.json", Record),
        (r"/llm/([^/]+)", Call),
    ]
    return [(path, handler, given) for path, handler in table]
