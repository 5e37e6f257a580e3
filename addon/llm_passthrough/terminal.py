"""What is printed at the start, and whether anything is: for a person, or for a log."""

import logging
import sys
from typing import Any

from rich.console import Console

from llm_passthrough import banner, said
from llm_passthrough.build import Parts

_LOG = logging.getLogger(__name__)


class Terminal:
    """Where a gateway says where to connect, and tells of calls."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, file=said.steady(sys.stdout))

    def shown(self, master: Any, wish: str) -> Console | None:
        """Where calls are told; a full-screen program has the terminal for itself.

        `wish` is the option `console`: on, off or auto.
        """
        if type(master).__name__ == "ConsoleMaster":
            return None
        asked = wish == "on" or (wish == "auto" and self._console.is_terminal)
        return self._console if asked else None

    def greet(
        self,
        master: Any,
        parts: Parts,
        addresses: list[tuple[str, int]],
        demo: bool,
        calls_url: str | None,
        workers: int,
    ) -> None:
        """Say where to connect: to a person with mitmweb's address and token, to a log without."""
        web_url = getattr(master, "web_url", None)
        console = self.shown(master, parts.config.console)
        if console is not None:
            lines = banner.lines(parts, addresses, demo, web_url, workers)
            lines += [("", f"calls: {calls_url}")] if calls_url else []
            console.print(banner.panel(lines))
            return
        lines = banner.lines(parts, addresses, demo, workers=workers)
        _LOG.info("%s", "; ".join(text for _, text in lines))
        if web_url is not None:
            told = f"mitmweb: {web_url}\ncalls: {calls_url}"
            print(told, file=said.steady(sys.stdout), flush=True)
