"""What a person sees in mitmweb and in the console: comments, markers, conversations."""

from typing import Any

from mitmproxy import contentviews, exceptions, http

from llm_passthrough.errors import ConfigError
from llm_passthrough.tee import Tee
from llm_passthrough.views.contents import Conversation
from llm_passthrough.views.last import LastCalls, limits
from llm_passthrough.views.notes import RECORD, Notes

__all__ = ["RECORD", "LastCalls", "Notes", "addons", "keep"]

_COLUMNS = "web_columns"


def addons(master: Any) -> tuple[Notes, LastCalls] | tuple[()]:
    """What a mitmproxy of this kind needs for those who look at it: nothing where nobody can.

    Raises ConfigError when an option of ours is wrong.
    """
    contentviews.add(Conversation())
    if not hasattr(master, "view"):
        return ()
    try:
        limits()
    except exceptions.OptionsError as error:
        raise ConfigError(f"mitmproxy option {error}") from None
    opts = master.options
    if _COLUMNS in opts and not opts.has_changed(_COLUMNS):
        opts.update(**{_COLUMNS: [*getattr(opts, _COLUMNS), "comment"]})
    notes = Notes()
    return notes, LastCalls(master.view, notes.own)


def keep(flow: http.HTTPFlow, sent: Tee | None, got: Tee | None) -> None:
    """Put the copies of what was streamed into the flow, for people who look at it."""
    if flow.websocket is not None:
        return  # it has its messages
    if sent is not None:
        flow.request.data.content = sent.copy
    if got is not None and flow.response is not None:
        flow.response.data.content = got.copy
