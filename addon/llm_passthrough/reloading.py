"""Reads the configuration again when its file changes, and swaps all parts at once."""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from mitmproxy.log import ALERT

from llm_passthrough import config, layer, said
from llm_passthrough.build import build
from llm_passthrough.errors import ConfigError
from llm_passthrough.gateway import Gateway
from llm_passthrough.guard import where

_LOG = logging.getLogger(__name__)
_LOOK_EVERY = 1.0
"""Seconds between two looks at the file."""
# What a reload cannot change: the sockets and the files are open.
_SOCKETS = ("host", "port", "web_port", "workers")
_AT_ONCE = ("capture", "body_limit", "required")


class Reloading:
    """Keeps a gateway to what its file says."""

    def __init__(
        self, gateway: Gateway, file: Path | None, asked: config.Config, env: Mapping[str, str]
    ) -> None:
        self._gateway = gateway
        self._file = file
        self._sockets = _sockets(asked)
        self._env = env

    def reload(self) -> bool:
        """Read the configuration again and swap all parts at once; whether it was done.

        What is wrong is said, and everything stays as it was. Open exchanges end as they began.
        """
        if self._file is None:
            # A terminal that hangs up asks for this too, and must not end the gateway.
            _LOG.warning("there is no configuration file to read again")
            return False
        try:
            asked, warnings = config.load(self._file, self._env)
            settings = _as_running(asked, self._gateway.parts.config)
            parts = build(settings, self._env, str(self._file), self._gateway.parts)
        except ConfigError as error:
            return _unchanged(*error.lines)
        except Exception as error:  # noqa: BLE001 - its text may hold a secret; the old one goes on
            return _unchanged(where(error))
        if asked.log != settings.log:
            warnings = [*warnings, "log: takes effect at the next start, but for what is captured"]
        if asked.share != settings.share:
            warnings = [*warnings, "share: takes effect at the next start"]
        before, self._sockets = self._sockets, _sockets(asked)
        if before != self._sockets:
            warnings = [*warnings, "listen: host, ports and workers take effect at the next start"]
        for warning in (*warnings, *parts.warnings):
            _LOG.warning("%s", warning)
        layer.install(settings.limits)
        said.knows(parts.redactor)
        self._gateway.swap(parts)
        _LOG.log(ALERT, "the configuration was read again")
        return True

    async def follow(self) -> None:
        """Reload when the file changes, until cancelled."""
        if self._file is None:
            return
        seen = _stamp(self._file)
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            now = _stamp(self._file)
            if now is not None and now != seen:
                seen = now
                self.reload()


def _sockets(settings: config.Config) -> tuple[object, ...]:
    return tuple(getattr(settings.listen, name) for name in _SOCKETS)


def _as_running(new: config.Config, old: config.Config) -> config.Config:
    """The new configuration with the sockets and the files of the old one."""
    listen = {name: getattr(old.listen, name) for name in _SOCKETS}
    log = {name: getattr(new.log, name) for name in _AT_ONCE}
    return new.model_copy(
        update={
            "listen": new.listen.model_copy(update=listen),
            "log": old.log.model_copy(update=log),
            "share": old.share,
        }
    )


def _unchanged(*lines: str) -> bool:
    """Say what is wrong with a configuration that was read again."""
    for line in lines:
        _LOG.error("%s", line)
    _LOG.error("the configuration was not changed; the gateway goes on with the old one")
    return False


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file does: also when it is replaced by another one in one step."""
    try:
        status = path.stat()
    except OSError:
        return None  # an editor may be in the middle of replacing it
    return status.st_ino, status.st_mtime_ns, status.st_size
