"""The line to Redis, by which gateways on several machines tell each other: nothing waits for it.

One channel carries what is new. For who comes later the sums of all machines stand in one hash,
and each key that rests in a key of Redis' own that expires when the rest is over. Where Redis does
not answer everything is dropped, and told as a whole when it is there again.
"""

import asyncio
import contextlib
import importlib.util
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from llm_passthrough.settings import SettingError, secret

_LOG = logging.getLogger(__name__)
MISSING = "needs redis; pip install 'llm-passthrough[redis]'"
LONGEST = 1 << 20
"""Bytes of a message; a longer one is not looked at."""
_CHANNEL, _SUMS, _REST = "llm-passthrough", "llm-passthrough:used", "llm-passthrough:rest:"
_KEPT = 32 * 86_400
"""Seconds for which sums stay after the last one was told: longer than any month."""
_MOST_SUMS = 20_000
_WAITING = 1000
_PATIENCE, _IDLE = 5.0, 5.0
"""Seconds for which Redis may be silent, and after which it is asked whether it is there."""
_FIRST, _LONGEST = 0.25, 15.0
"""Pauses between two tries, in seconds; each is twice the one before."""


@dataclass(frozen=True, slots=True)
class News:
    """A `message` to all; what is to be kept of it: `sums`, and by its name a rest and its
    milliseconds, 0 where it is over."""

    message: bytes
    sums: Mapping[str, str] = field(default_factory=dict)
    rests: Mapping[str, tuple[str, int]] = field(default_factory=dict)


class Side(Protocol):
    """Who is at our end of the line. What it hears may be anything, and must not make it raise."""

    def hear(self, message: bytes) -> None:
        """Somebody told this; perhaps we ourselves."""

    def names(self) -> list[str]:
        """The rests that are of interest, by name."""

    def restore(
        self, sums: Mapping[bytes, bytes], rests: Mapping[str, tuple[bytes, int]]
    ) -> list[bytes]:
        """What is kept; which sums are of no more use."""

    def everything(self) -> News:
        """All that is known here, and not kept there."""


def installed() -> bool:
    """Whether the library is there."""
    return importlib.util.find_spec("redis") is not None


def url_of(reference: str, env: Mapping[str, str]) -> tuple[SecretStr, list[SecretStr]]:
    """The URL behind a reference, and what of it must be shown nowhere. Raises SettingError."""
    found = secret(reference, env)
    whole = found.get_secret_value()
    try:
        url = urlsplit(whole)
        good = url.scheme in ("redis", "rediss") and url.hostname and url.port != 0
        good = good and url.path.strip("/").isdecimal() if url.path.strip("/") else good
    except ValueError:  # its text may hold the password
        good = False
    if not good or url.query or url.fragment:
        raise SettingError("must be a URL such as redis://host:6379/0 or rediss://user:pw@host")
    if not url.password:
        return found, []
    return found, [found, *map(SecretStr, {url.password, unquote(url.password)})]


class Bus:
    """`state` is `ok`, or `away` while nobody hears us."""

    def __init__(self, url: SecretStr, side: Side) -> None:
        self.state: Literal["ok", "away"] = "away"
        self._url, self._side = url, side
        self._said = False
        self._queue: asyncio.Queue[News] = asyncio.Queue(_WAITING)

    def tell(self, news: News) -> None:
        """Tell it soon, or, while Redis is away, not at all."""
        with contextlib.suppress(asyncio.QueueFull):
            self._queue.put_nowait(news)

    async def follow(self) -> None:
        """Stay connected, until cancelled."""
        pause = _FIRST
        while True:
            try:
                await self._serve()
            except Exception as error:  # noqa: BLE001 - whatever it is, calls go on without Redis
                pause = _FIRST if self.state == "ok" else min(pause * 2, _LONGEST)
                self._is_away(error)
            await asyncio.sleep(pause)

    def _is_away(self, error: BaseException) -> None:
        """Say so once; what an error says could quote the URL."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        self.state = "away"
        if not self._said:
            text = "share.redis: Redis is away (%s); this gateway goes on with what it knows itself"
            _LOG.warning(text, type(error).__name__)
        self._said = True

    async def _serve(self) -> None:
        client = self._client()
        async with client, client.pubsub() as heard:
            await heard.subscribe(_CHANNEL)
            await heard.get_message(timeout=_PATIENCE)  # from now on nothing is missed
            await self._catch_up(client)
            self.state = "ok"
            if self._said:
                _LOG.warning("share.redis: Redis is back")
            self._said = False
            async with asyncio.TaskGroup() as both:
                both.create_task(self._listen(heard))
                both.create_task(self._send(client))

    def _client(self) -> Any:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        return Redis.from_url(
            self._url.get_secret_value(),
            socket_timeout=_PATIENCE,
            socket_connect_timeout=_PATIENCE,
            health_check_interval=_IDLE,
            retry=Retry(NoBackoff(), 0),  # we try again ourselves, and say so
        )

    async def _listen(self, heard: Any) -> None:
        while True:
            said = await heard.get_message(ignore_subscribe_messages=True, timeout=_IDLE)
            if said is not None:
                self._side.hear(said["data"])
            await asyncio.sleep(0)  # a flood leaves room for calls

    async def _send(self, client: Any) -> None:
        while True:
            try:
                news = await asyncio.wait_for(self._queue.get(), _IDLE)
            except TimeoutError:
                await client.ping()
            else:
                await self._write(client, news)

    async def _write(self, client: Any, news: News) -> None:
        pipe = client.pipeline(transaction=False)
        if news.sums:
            pipe.hset(_SUMS, mapping=dict(news.sums))
            pipe.expire(_SUMS, _KEPT)
        for name, (value, left) in news.rests.items():
            if left > 0:
                pipe.set(_REST + name, value, px=left)
            else:
                pipe.delete(_REST + name)
        pipe.publish(_CHANNEL, news.message)
        await pipe.execute()

    async def _catch_up(self, client: Any) -> None:
        """Learn what is kept, then tell what is not."""
        sums = await client.hgetall(_SUMS) if await client.hlen(_SUMS) <= _MOST_SUMS else {}
        names = self._side.names()
        pipe = client.pipeline(transaction=False)
        for name in names:
            pipe.get(_REST + name)
            pipe.pttl(_REST + name)
        found = await pipe.execute() if names else []
        kept = zip(names, found[::2], found[1::2], strict=True)
        rests = {name: (value, left) for name, value, left in kept if value and left > 0}
        if over := self._side.restore(sums, rests):
            await client.hdel(_SUMS, *over)
        while not self._queue.empty():
            self._queue.get_nowait()
        await self._write(client, self._side.everything())
