"""What mitmproxy's flows do not say of themselves: how they came in, and who broke them."""

import weakref

from mitmproxy import connection, http

from llm_passthrough.errors import Refusal

_ABSOLUTE: weakref.WeakSet[http.Request] = weakref.WeakSet()
_FAILED: weakref.WeakKeyDictionary[http.HTTPFlow, Refusal | None] = weakref.WeakKeyDictionary()
_RELAYED: weakref.WeakSet[http.HTTPFlow] = weakref.WeakSet()
_UNREACHED: weakref.WeakKeyDictionary[http.HTTPFlow, str] = weakref.WeakKeyDictionary()
_REPLAYED: weakref.WeakKeyDictionary[http.HTTPFlow, connection.Client] = weakref.WeakKeyDictionary()


class Refused(http.Response):
    """An answer that we give ourselves."""


def absolute(request: http.Request) -> None:
    """Note that a request's target came in absolute-form."""
    _ABSOLUTE.add(request)


def arrived_absolute(request: http.Request) -> bool:
    """Whether a request's target was in absolute-form, as clients send it to a proxy."""
    return request in _ABSOLUTE


def replayed(flow: http.HTTPFlow, client: connection.Client) -> None:
    """Note the connection by which a flow is sent again."""
    _REPLAYED[flow] = client


def relayed(flow: http.HTTPFlow) -> None:
    """Note that what a CONNECT asks for is only relayed."""
    _RELAYED.add(flow)


def is_relayed(flow: http.HTTPFlow) -> bool:
    """Whether what a CONNECT asks for is only relayed: then it is dialled before the answer."""
    return flow in _RELAYED


def not_reached(flow: http.HTTPFlow, why: str) -> None:
    """Note why what a CONNECT asks for could not be dialled, in mitmproxy's words."""
    _UNREACHED[flow] = why


def unreached(flow: http.HTTPFlow) -> str | None:
    """Why what a CONNECT asks for could not be dialled; None where it was, or was not tried."""
    return _UNREACHED.get(flow)


def client_of(flow: http.HTTPFlow) -> connection.Client:
    """The connection that a flow's request came by; one that is sent again has a new one, of which
    the flow itself does not know."""
    return _REPLAYED.get(flow, flow.client_conn)


def is_uploading(flow: http.HTTPFlow) -> bool:
    """Whether a request's body has not come to its end; a tunnel has none."""
    return flow.request.timestamp_end is None and flow.request.data.method != b"CONNECT"


def failed_by_client(flow: http.HTTPFlow, refusal: Refusal | None) -> None:
    """Note that it was the client's side that broke, and what he is told; None if he just left."""
    _FAILED[flow] = refusal


def client_failed(flow: http.HTTPFlow) -> bool:
    """Whether it was the client's side of a flow that broke."""
    return flow in _FAILED


def client_fault(flow: http.HTTPFlow) -> Refusal | None:
    """What the client of a flow is told that he did wrong; None for one that just left."""
    return _FAILED.get(flow)
