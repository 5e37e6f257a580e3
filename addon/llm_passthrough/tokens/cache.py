"""The cache in front of a token endpoint: one fetch at a time, refreshed before it expires."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import SecretStr

from llm_passthrough.tokens.discreet import TIMED_OUT, told

_LOG = logging.getLogger(__name__)
EARLY = 300.0
"""Seconds before its end at which a token is renewed while it is still used; a quarter of what
it has left where that is shorter, as some endpoints hand out the rest of an older token."""
LAST = 10.0
"""Seconds before its end from which a token is not used any more: it could expire on its way."""
AGAIN = 30.0
"""Seconds after a failed renewal until the next try, while the old token still serves."""
ANEW = 60.0
"""Seconds after a dropped token in which a refusal of the new one is not the token's fault."""
DEADLINE = 30.0
"""Seconds that a request waits for a token, where nobody says otherwise."""


class TokenError(Exception):
    """No token: the text names the kind of failure only, an endpoint's answer may hold secrets.

    `late` says that there was no answer in time; the fetch may still go on.
    """

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
    """Gives a valid token. `fetch` blocks and so runs in a thread of its own, one at a time."""

    def __init__(
        self,
        label: str,
        fetch: Fetch,
        identity: object = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.label = label
        self.identity = identity
        self._fetch = fetch
        self._clock = clock
        self._token: Token | None = None
        self._renew_at = 0.0
        self._dropped_at: float | None = None
        self._pending: asyncio.Future[Token] | None = None

    def __eq__(self, other: object) -> bool:
        """Two sources are one when they were made from the same settings (`identity`)."""
        if not isinstance(other, TokenSource) or self.identity is None:
            return self is other
        return (self.label, self.identity) == (other.label, other.identity)

    def __hash__(self) -> int:
        return hash(self.label)

    async def get(self, deadline: float = DEADLINE) -> SecretStr:
        """A token that is valid for LAST seconds or more, or one just fetched. Raises TokenError.

        `deadline` is how long, in seconds, a fetch is waited for; it goes on itself, and serves
        those who come later. The same token is the same object, which `drop` wants back.
        """
        held, now = self._token, self._clock()
        if held is not None and now < held.expires_at - LAST:
            if now >= self._renew_at:
                self._refresh()
            return held.value
        pending = self._refresh()
        try:
            token = await asyncio.wait_for(asyncio.shield(pending), deadline)
        except TimeoutError:
            raise TokenError(f"no answer within {deadline:g} s", late=True) from None
        return token.value

    def drop(self, value: SecretStr | None) -> bool:
        """Forget this token, which the provider does not take; whether another try has a chance.

        It has none where this token was fetched in place of one that was refused just before:
        then it is not the token that is refused but what it stands for.
        """
        if value is None:
            return False
        if self._token is None or value is not self._token.value:
            return True
        now = self._clock()
        if self._dropped_at is not None and 0 <= now - self._dropped_at < ANEW:
            return False
        self._token, self._dropped_at = None, now
        return True

    def _refresh(self) -> asyncio.Future[Token]:
        """The fetch under way, or a new one."""
        loop = asyncio.get_running_loop()
        if self._pending is not None and self._pending.get_loop() is loop:
            return self._pending
        self._pending = pending = loop.create_future()
        pending.add_done_callback(self._fetched)
        # A daemon: an endpoint that never answers must not hold up the end of the process.
        thread = threading.Thread(
            target=self._run, args=(loop, pending), name=self.label, daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            _settle(pending, TokenError("no thread can be started"))
        return pending

    def _run(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Token]) -> None:
        try:
            outcome: Token | TokenError = self._fetch()
        except TokenError as error:
            outcome = TokenError(error.reason, error.late)
        except BaseException as error:  # noqa: BLE001 - libraries raise what they like, with bodies
            # in it; one that were let through would leave everybody waiting.
            reason = told(error)
            outcome = TokenError(reason, TIMED_OUT in reason)
        try:
            loop.call_soon_threadsafe(_settle, future, outcome)
        except RuntimeError:
            _LOG.debug("%s: the loop ended before a token came", self.label)

    def _fetched(self, future: asyncio.Future[Token]) -> None:
        if self._pending is future:
            self._pending = None
        if future.cancelled():
            return
        now, error = self._clock(), future.exception()
        if error is None:
            self._token = token = future.result()
            self._renew_at = token.expires_at - min(EARLY, (token.expires_at - now) / 4)
        else:
            self._renew_at = now + AGAIN
            _LOG.warning("%s: no token: %s", self.label, error)


def _settle(future: asyncio.Future[Token], outcome: Token | TokenError) -> None:
    if future.done():
        return
    if isinstance(outcome, TokenError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
