"""The cache in front of a token endpoint: one fetch at a time, refreshed before it expires."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import SecretStr

_LOG = logging.getLogger(__name__)
EARLY = 300.0
"""Seconds before its end at which a token is renewed while it is still used."""
LAST = 10.0
"""Seconds before its end from which a token is not used any more: it could expire on its way."""


class TokenError(Exception):
    """No token: the text names the kind of failure only, an endpoint's answer may hold secrets."""

    def __init__(self, reason: str, late: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.late = late


@dataclass(frozen=True, slots=True)
class Token:
    """An access token and when it ends, in seconds since the epoch."""

    value: SecretStr
    expires_at: float


type Fetch = Callable[[], Token]


class TokenSource:
    """Gives a valid token. `fetch` blocks and so runs in a thread of its own, one at a time.

    `deadline` is how long, in seconds, a request waits for a token; the fetch itself goes on and
    serves those who come later.
    """

    def __init__(
        self,
        label: str,
        fetch: Fetch,
        *,
        clock: Callable[[], float] = time.time,
        deadline: float = 30.0,
    ) -> None:
        self.label = label
        self._fetch = fetch
        self._clock = clock
        self._deadline = deadline
        self._token: Token | None = None
        self._pending: asyncio.Future[Token] | None = None

    async def get(self) -> SecretStr:
        """A token that is valid for at least LAST seconds. Raises TokenError."""
        left = self._token.expires_at - self._clock() if self._token else 0.0
        if self._token is not None and left > LAST:
            if left < EARLY:
                self._refresh()
            return self._token.value
        pending = self._refresh()
        try:
            token = await asyncio.wait_for(asyncio.shield(pending), self._deadline)
        except TimeoutError:
            raise TokenError(f"no answer within {self._deadline:g} s", late=True) from None
        return token.value

    def drop(self, value: SecretStr | None) -> bool:
        """Forget this token, which the provider does not take; whether it was the present one."""
        if self._token is None or value is not self._token.value:
            return False
        self._token = None
        return True

    def _refresh(self) -> asyncio.Future[Token]:
        """The fetch under way, or a new one."""
        if self._pending is None:
            loop = asyncio.get_running_loop()
            self._pending = loop.create_future()
            self._pending.add_done_callback(self._fetched)
            # A daemon: an endpoint that never answers must not hold up the end of the process.
            args = (loop, self._pending)
            threading.Thread(target=self._run, args=args, name=self.label, daemon=True).start()
        return self._pending

    def _run(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Token]) -> None:
        try:
            token = self._fetch()
        except TokenError as error:
            outcome: Token | TokenError = error
        except Exception as error:  # noqa: BLE001 - libraries raise what they like, with bodies in it
            outcome = TokenError(type(error).__name__)
        else:
            outcome = token
        try:
            loop.call_soon_threadsafe(_settle, future, outcome)
        except RuntimeError:
            _LOG.debug("the loop ended before a token came")

    def _fetched(self, future: asyncio.Future[Token]) -> None:
        self._pending = None
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self._token = future.result()
        else:
            _LOG.warning("%s: no token: %s", self.label, error)


def _settle(future: asyncio.Future[Token], outcome: Token | TokenError) -> None:
    if future.done():
        return
    if isinstance(outcome, TokenError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
