"""A client's connection as `serve` handles it, but with addons of its own: for the self-test."""

import asyncio
from collections.abc import Sequence
from typing import Any

from mitmproxy.proxy import mode_specs
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode

from llm_passthrough.lean.handler import Handler
from llm_passthrough.lean.master import Hook


class Line(Handler):
    """As decoy.Line, which is mitmproxy's; `options` are the plain ones of a lean master."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        options: Any,
        addons: Sequence[object],
        faults: list[str],
    ) -> None:
        stage: Any = _Stage(options, (self, *addons))
        super().__init__(stage, reader, writer, options, mode_specs.ProxyMode.parse("regular"))
        self._faults = faults

    def next_layer(self, data: Any) -> None:
        """HTTP, as on a port of mitmproxy's regular mode."""
        data.layer = HttpLayer(data.context, HTTPMode.regular)

    def log(self, message: str, level: int = 0, exc_info: object = None) -> None:
        """Only a crash is of interest."""
        if exc_info is not None:
            self._faults.append(message)


class _Stage:
    """What a handler needs of its master: options, and the hooks of these addons in lists."""

    def __init__(self, options: Any, addons: Sequence[object]) -> None:
        self.plain = options
        self.lists = self
        self._addons = addons

    def of(self, name: str) -> tuple[Hook, ...]:
        """What a hook calls, in order."""
        found = (getattr(addon, name, None) for addon in self._addons)
        return tuple(hook for hook in found if hook is not None)
