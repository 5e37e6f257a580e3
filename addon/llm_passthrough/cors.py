"""What the browser of an allowed web page is told, so that the page may ask and read the answer.

All others are told nothing, which is how a browser is told no (Fetch standard, 3.2; whether a page
is allowed is judged in clients.py). Cookies are never allowed: what a page needs, it sends itself.
"""

import re
from collections.abc import Mapping

from llm_passthrough.clients import METHODS
from llm_passthrough.wire import Fields

_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:[ \t]*,[ \t]*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")
_LONGEST = 4096
_REMEMBER = b"600"  # seconds for which a browser need not ask again
# What a page may read beside the body; all that has `ratelimit` in its name too.
_READABLE = frozenset(
    b"request-id x-request-id apim-request-id x-ms-request-id x-goog-request-id retry-after "
    b"retry-after-ms x-should-retry x-passthrough-error openai-processing-ms openai-version "
    b"location x-goog-upload-url x-goog-upload-control-url x-goog-upload-status "
    b"x-goog-upload-chunk-granularity x-goog-upload-size-received".split()
)


def permission(origin: str) -> Fields:
    """What every answer to a page of this origin says; it must be an allowed one."""
    return ((b"Access-Control-Allow-Origin", origin.encode("latin-1")), (b"Vary", b"Origin"))


def preflight(headers: Mapping[str, str]) -> Fields:
    """What the answer to a browser's question before the request says too."""
    fields = [
        (b"Access-Control-Allow-Methods", ", ".join(sorted(METHODS)).encode()),
        (b"Access-Control-Max-Age", _REMEMBER),
        (b"Vary", b"Access-Control-Request-Method, Access-Control-Request-Headers"),
    ]
    names = headers.get("access-control-request-headers", "").strip()
    if len(names) <= _LONGEST and _NAMES.fullmatch(names):
        fields.append((b"Access-Control-Allow-Headers", names.encode()))
    for network in ("private", "local"):  # https://wicg.github.io/private-network-access/
        if headers.get(f"access-control-request-{network}-network") == "true":
            name = f"Access-Control-Allow-{network.title()}-Network"
            fields.append((name.encode(), b"true"))
    return tuple(fields)


def told(fields: Fields, permission: Fields) -> Fields:
    """The fields of an answer, with what the browser is told; as they are without permission."""
    if not permission:
        return fields
    names = dict.fromkeys(name.lower() for name, _ in fields)
    readable = [name for name in names if name in _READABLE or b"ratelimit" in name]
    exposed = [(b"Access-Control-Expose-Headers", b", ".join(readable))] if readable else []
    return (*fields, *permission, *exposed)
