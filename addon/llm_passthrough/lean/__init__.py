"""mitmproxy without what a gateway has no use for: the seams that are taken for speed alone.

Nothing here decides anything about a request. What is replaced does what mitmproxy does; where
mitmproxy is not as it is known here, nothing is replaced.
"""

import logging
from collections.abc import Callable

from mitmproxy import http, version
from mitmproxy.coretypes import multidict
from mitmproxy.master import Master
from mitmproxy.proxy import mode_servers, server

from llm_passthrough.lean import messages
from llm_passthrough.lean.handler import Handler
from llm_passthrough.lean.line import Line
from llm_passthrough.lean.master import Lean, Lists, offered, settle

__all__ = ["Lean", "Line", "Lists", "changed", "hasten", "install", "offered"]

_LOG = logging.getLogger(__name__)

# What each function that is replaced calls. Where it calls anything else it does something else.
_KNOWN: tuple[tuple[Callable[..., object], str], ...] = (
    (
        server.ConnectionHandler.server_event,
        "_server_event_lock timeout_watchdog register_activity layer handle_event isinstance "
        "commands OpenConnection connection transports asyncio_utils create_task "
        "open_connection address client peername ConnectionIO RequestWakeup wakeup delay "
        "wakeup_timer add ConnectionCommand SendData writer is_closing write data "
        "CloseTcpConnection close_connection half_close CloseConnection StartHook hook_task name "
        "Log log message level RuntimeError Exception logging ERROR",
    ),
    (server.ConnectionHandler.hook_task, "handle_hook blocking server_event events HookCompleted"),
    (
        server.ConnectionHandler.drain_writers,
        "_drain_lock list transports values writer drain OSError handler cancel",
    ),
    (
        mode_servers.ProxyConnectionHandler.handle_hook,
        "timeout_watchdog disarm args master addons handle_lifecycle isinstance flow Flow "
        "wait_for_resume",
    ),
    (
        http.Headers.__init__,
        "super __init__ fields isinstance bytes TypeError update items _always_bytes replace",
    ),
    (http.Headers.get_all, "_always_bytes super get_all _native"),
    (multidict.MultiDict.get_all, "_kconv fields"),
)


def changed() -> str | None:
    """What of mitmproxy is not as it is known here; None where all is."""
    for function, names in _KNOWN:
        code = getattr(function, "__code__", None)
        if code is None or not {*code.co_names} <= set(names.split()):
            return f"{getattr(function, '__qualname__', function)}"
    return None


def hasten(master: Master) -> None:
    """Let mitmdump do what it does in our way: all its addons stay.

    Those that show what goes on (mitmweb, mitmproxy) stay as they are; so does one that has been
    hastened. Where mitmproxy has changed it is left alone, and that is said.
    """
    if type(master).__name__ != "DumpMaster" or hasattr(master, "lists"):
        return
    if what := changed():
        text = "mitmproxy %s is not one that this gateway knows (%s): the same, with more time"
        _LOG.warning(text, version.VERSION, what)
        return
    install()
    Lists.take(master)
    settle()


def install() -> None:
    """Put ours in the place of mitmproxy's, in this process."""
    mode_servers.ProxyConnectionHandler = Handler  # type: ignore[misc]
    messages.install()
