"""Pages of ours inside of mitmweb: the list of calls, a call whole, the dashboard.

    site -> store (index of a JSONL log | database)       where records come from
    wishes -> calls, dashboard (series, charts)            lists and sums
    call -> prompt, difference, cachewhy; talk, facts      one call
    render (markup, templates, static) -> handlers         what a browser gets

Records are from outside: whatever they hold is text (see markup.py), and pages carry a policy by
which a browser would run nothing of it either (see handlers.py).
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from llm_passthrough.config import Log

PATH = "/llm"


def install(master: Any, log: Callable[[], Log]) -> str | None:
    """Add the pages to a running mitmweb; their address with its token, None without mitmweb."""
    if getattr(master, "web_url", None) is None:
        return None
    # mitmdump needs none of this.
    from llm_passthrough.pages.handlers import routes
    from llm_passthrough.pages.site import Site

    master.app.add_handlers(r".*", routes(Site(log)))
    return link(master.web_url)


def link(web_url: str) -> str:
    """The address of the pages, in mitmweb's own way to let somebody in."""
    return urlunsplit(urlsplit(web_url)._replace(path=PATH))
