"""Top-level resource names of a JSON body, replaced in place; nothing else in it moves.

Vertex bodies can name a resource (`model`, `cachedContent`, `endpoint`) by its project and
location; where these are the caller's, they have to become the key's. The body is not parsed and
written again: bytes outside the value stay as they are, white space and duplicates included.
"""

import json
import re
from collections.abc import Iterator

_NAMES = frozenset({"model", "cachedContent", "endpoint"})
# Strings and what opens or closes. A string that does not end is taken to the end of the body, and
# all is possessive, so that no body makes this slower than its length.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[{}\[\]:,]', re.S)
_RESOURCE = re.compile(r"projects/([^/]+)/locations/([^/]+)(?=/|\Z)", re.S)


def resources(body: bytes, project: str, region: str | None) -> bytes:
    """The body with each top-level resource name under `project`, and `region` if given."""
    if b"projects" not in body:
        return body
    out, end = [], 0
    for start, stop in _values(body):
        value = _renamed(body[start:stop], project, region)
        if value is not None:
            out += [body[end:start], value]
            end = stop
    return b"".join([*out, body[end:]]) if out else body


def _renamed(token: bytes, project: str, region: str | None) -> bytes | None:
    """A JSON string with another project and location; None where it names none, or the same."""
    match = _RESOURCE.match(_text(token) or "")
    if match is None:
        return None
    old, name = match[0], f"projects/{project}/locations/{region or match[2]}"
    if name == old:
        return None
    if b"\\" in token:
        return json.dumps(name + match.string[match.end() :]).encode()
    # What can be read is not always what can be written: half a surrogate pair, for one.
    before = 1 + len(old.encode("utf-8", "surrogatepass"))
    return b'"' + name.encode("utf-8", "surrogatepass") + token[before:]


def _values(body: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of the string values of the named keys at the top level of an object."""
    depth, key, is_value = 0, None, False
    for token in _TOKEN.finditer(body):
        text = token[0]
        if text in (b"{", b"["):
            depth += 1
            if depth == 1 and text == b"[":
                return
        elif text in (b"}", b"]"):
            depth -= 1
            if depth <= 0:
                return
        elif depth != 1:
            continue
        elif text == b":":
            is_value = True
        elif text == b",":
            key, is_value = None, False
        elif is_value:
            if key is not None and _text(key) in _NAMES:
                yield token.span()
        else:
            key = text


def _text(token: bytes) -> str | None:
    """What a JSON string says, which may be spelt with escapes; None for what is none."""
    try:
        value = json.loads(token.decode("utf-8", "surrogatepass"))
    except ValueError:
        return None
    return value if isinstance(value, str) else None
