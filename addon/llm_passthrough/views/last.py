"""The last calls: older finished ones leave mitmproxy's view, so that it does not grow for ever.

They stay in the records. A flow that a person marked, or that waits for a person, stays.
"""

from collections import OrderedDict
from collections.abc import Callable

from mitmproxy import ctx, exceptions, http
from mitmproxy.addons.view import View
from mitmproxy.flow import Flow
from mitmproxy.utils import human

from llm_passthrough.options import VIEW_BYTES, VIEW_FLOWS

_AROUND = 8 << 10  # what a flow takes besides its bodies


class LastCalls:
    """An addon for a mitmproxy with a `view`; `free` says whether nobody laid hands on a flow.

    What finished is held in its order, with its size in bytes; each finished call makes room for
    itself. It costs the same however many there are.
    """

    name = "llm_passthrough_last"

    def __init__(self, view: View, free: Callable[[Flow], bool]) -> None:
        self._view = view
        self._free = free
        self._held: OrderedDict[str, int] = OrderedDict()
        self._kept: OrderedDict[str, int] = OrderedDict()
        self._bytes = 0

    def configure(self, updated: set[str]) -> None:
        """Refuse a size that is none."""
        if VIEW_BYTES in updated:
            limits()

    def response(self, flow: http.HTTPFlow) -> None:
        """Finished, unless a WebSocket begins."""
        if flow.websocket is None:
            self._finished(flow)

    def error(self, flow: http.HTTPFlow) -> None:
        """Finished."""
        self._finished(flow)

    def websocket_end(self, flow: http.HTTPFlow) -> None:
        """Finished."""
        self._finished(flow)

    def _finished(self, flow: http.HTTPFlow) -> None:
        self._kept.pop(flow.id, None)
        self._drop(flow.id)
        self._hold(flow.id, _size(flow))
        self._look_again()
        most, most_bytes = limits()
        while (most and len(self._held) > most) or (most_bytes and self._bytes > most_bytes):
            ident, size = next(iter(self._held.items()))
            self._drop(ident)
            oldest = self._view.get_by_id(ident)
            if oldest is None:
                continue  # a person removed it
            if self._stays(oldest):
                self._kept[ident] = size
            else:
                self._view.remove([oldest])

    def _look_again(self) -> None:
        """One of those that had to stay is counted again if it need not stay any more."""
        if not self._kept:
            return
        ident, size = self._kept.popitem(last=False)
        flow = self._view.get_by_id(ident)
        if flow is not None and self._stays(flow):
            self._kept[ident] = size
        elif flow is not None:
            self._hold(ident, size)
            self._held.move_to_end(ident, last=False)

    def _stays(self, flow: Flow) -> bool:
        # Its last bytes may still be on their way; with the connection everything has ended.
        under_way = flow.live and flow.client_conn.timestamp_end is None
        return under_way or flow.intercepted or not self._free(flow)

    def _hold(self, ident: str, size: int) -> None:
        self._held[ident] = size
        self._bytes += size

    def _drop(self, ident: str) -> None:
        self._bytes -= self._held.pop(ident, 0)


def limits() -> tuple[int, int]:
    """How many flows and how many bytes of them are kept; 0 is no limit. Raises OptionsError."""
    try:
        most_bytes = human.parse_size(getattr(ctx.options, VIEW_BYTES)) or 0
    except ValueError:
        raise exceptions.OptionsError(f"{VIEW_BYTES} must be a size such as 256m") from None
    return getattr(ctx.options, VIEW_FLOWS), most_bytes


def _size(flow: http.HTTPFlow) -> int:
    sides = (flow.request, flow.response)
    bodies = sum(len(side.raw_content or b"") for side in sides if side is not None)
    messages = flow.websocket.messages if flow.websocket else []
    return _AROUND + bodies + sum(len(message.content) for message in messages)
