"""Guards around the hooks: an error of ours answers the client, and never shows its text.

mitmproxy logs an exception that leaves a hook, with its text, and sends the request on.
"""

import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, Protocol

from mitmproxy import http

from llm_passthrough.errors import Refusal
from llm_passthrough.exchange import Exchange
from llm_passthrough.pace import Pace

_LOG = logging.getLogger(__name__)


class FrontDoor(Protocol):
    """What the guards need of the addon whose hooks they stand around."""

    @property
    def live(self) -> MutableMapping[http.HTTPFlow, Exchange]:
        """The exchanges that are open."""

    @property
    def pace(self) -> Pace:
        """How fast refusals are answered."""

    def refuse(self, flow: http.HTTPFlow, refusal: Refusal) -> None:
        """Answer the client."""


def guarded(hook: Callable[..., Any]) -> Callable[..., Any]:
    """For hooks that decide: whatever goes wrong, the client is answered and nothing is sent."""
    return _waiting(hook) if iscoroutinefunction(hook) else _plain(hook)


def _plain(hook: Callable[..., None]) -> Callable[..., None]:
    @wraps(hook)
    def guard(self: FrontDoor, flow: http.HTTPFlow) -> None:
        entered = time.perf_counter()
        try:
            hook(self, flow)
        except BaseException as error:  # noqa: BLE001 - _caught says which of them may go on
            _caught(self, flow, error)
        _timed(self, flow, entered)

    return guard


def _waiting(hook: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @wraps(hook)
    async def guard(self: FrontDoor, flow: http.HTTPFlow) -> None:
        entered = time.perf_counter()
        try:
            await hook(self, flow)
        except BaseException as error:  # noqa: BLE001 - a CancelledError must not let it pass either
            _caught(self, flow, error)
            refused = isinstance(error, Refusal)
        else:
            refused = False
        _timed(self, flow, entered)
        if refused:
            await self.pace.hold(flow, self.live.get(flow))

    return guard


def _timed(gateway: FrontDoor, flow: http.HTTPFlow, entered: float) -> None:
    if exchange := gateway.live.get(flow):
        exchange.own_time += time.perf_counter() - entered


def _caught(gateway: FrontDoor, flow: http.HTTPFlow, error: BaseException) -> None:
    """Answer the client; only what ends the process goes on, and it shows nothing either."""
    if isinstance(error, Refusal):
        _refuse(gateway, flow, error)
    elif isinstance(error, KeyboardInterrupt | SystemExit):
        _fail(gateway, flow, None)
        raise error
    else:
        _fail(gateway, flow, error)


def quiet(hook: Callable[..., None]) -> Callable[..., None]:
    """For hooks that only tell: what goes wrong is logged by its kind and stays here."""

    @wraps(hook)
    def guard(self: FrontDoor, flow: http.HTTPFlow) -> None:
        try:
            hook(self, flow)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - its text may hold a secret
            _LOG.error("%s in %s", where(error), hook.__name__)

    return guard


def unraised[**P](hook: Callable[P, None]) -> Callable[P, None]:
    """For hooks about connections: what goes wrong is logged by its kind and stays here."""

    @wraps(hook)
    def guard(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            hook(*args, **kwargs)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - its text may hold a secret
            _LOG.error("%s in %s", where(error), hook.__name__)

    return guard


def _fail(gateway: FrontDoor, flow: http.HTTPFlow, error: BaseException | None) -> None:
    """An error of ours: answer 500 with a reference to the log, in which only its kind is."""
    exchange = gateway.live.get(flow)
    reference = exchange.id if exchange else "no exchange"
    _LOG.error("%s: %s", reference, where(error))
    _refuse(gateway, flow, Refusal("internal", f"the gateway failed; see its log for {reference}"))


def _refuse(gateway: FrontDoor, flow: http.HTTPFlow, refusal: Refusal) -> None:
    try:
        gateway.refuse(flow, refusal)
    except BaseException as error:  # noqa: BLE001 - without an answer the flow must still not go on
        _LOG.error("%s while refusing", where(error))
        flow.kill()


def where(error: BaseException | None) -> str:
    """The kind of an error and the function it came from; its text may hold a secret."""
    if error is None:
        return "an interrupt"
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace else ""
    return type(error).__name__ + place
