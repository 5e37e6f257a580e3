"""Top-level resource names of a JSON body, replaced in place; nothing else in it moves.

Vertex bodies can name a resource (`model`, `cachedContent`, `endpoint`) by its project and
location; where these are the caller's, they have to become the key's. The body is not parsed and
written again: bytes outside the value stay as they are, white space and duplicates included.
"""

import re
from collections.abc import Iterator

_NAMES = frozenset({b'"model"', b'"cachedContent"', b'"endpoint"'})
# Strings (possessive, so that a long one cannot make this slow) and what opens or closes.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\]:,]', re.S)
_RESOURCE = re.compile(rb'"projects/([^/"\\]+)/locations/([^/"\\]+)(?=[/"])')


def resources(body: bytes, project: str, region: str | None) -> bytes:
    """The body with each top-level resource name under `project`, and `region` if given."""
    if b'"projects/' not in body:
        return body
    out, end = [], 0
    for start, stop in _values(body):
        match = _RESOURCE.match(body, start, stop)
        if match is None:
            continue
        location = region.encode() if region else match[2]
        out += [body[end:start], b'"projects/' + project.encode() + b"/locations/" + location]
        end = match.end()
    return b"".join([*out, body[end:]]) if out else body


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
        elif depth != 1:
            continue
        elif text == b":":
            is_value = True
        elif text == b",":
            key, is_value = None, False
        elif is_value:
            if key in _NAMES:
                yield token.span()
        else:
            key = text
