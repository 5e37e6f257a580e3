"""Redaction: secrets replaced in everything that is written, in every spelling they may have."""

import base64
import json
import re
from collections.abc import Iterable
from urllib.parse import quote

REDACTED = "[redacted]"
# A shorter text would be found in words of every body; headers do not depend on this.
SHORTEST = 8
_HEX = re.compile(r"%[0-9A-F]{2}")
_URL_SAFE = str.maketrans("+/", "-_")

type Pairs = list[tuple[str, str]]


class Redactor:
    """Replaces known secrets in texts.

    Built once at start with the configured secrets; `including` adds those of one exchange. A
    text is one character a byte (latin-1) or Unicode: the spellings are ASCII where secrets are.
    """

    def __init__(self, secrets: Iterable[str], base: "Redactor | None" = None) -> None:
        found = {form for secret in secrets if len(secret) >= SHORTEST for form in forms(secret)}
        if base is not None:
            found.update(base._forms)
        # The longest first, as one secret may be a part of another.
        self._forms: tuple[str, ...] = tuple(sorted(found, key=len, reverse=True))
        # Most clients send the same credential with every call.
        self._last: tuple[tuple[str, ...], Redactor] = ((), self)

    def including(self, secrets: tuple[str, ...]) -> "Redactor":
        """A redactor that knows these secrets too; that of the last call is used again."""
        if not secrets:
            return self
        known, last = self._last
        if known != secrets:
            last = Redactor(secrets, self)
            self._last = secrets, last
        return last

    def __call__(self, text: str, *, cut: bool = False) -> str:
        """The text with every known secret replaced; where it was cut, also a secret's start."""
        # One search a spelling is many times faster than one regular expression of them all.
        for form in self._forms:
            if form in text:
                text = text.replace(form, REDACTED)
        return self._without_start(text) if cut else text

    def pairs(self, pairs: Pairs) -> Pairs:
        """Header pairs with every known secret replaced."""
        whole = "\n".join(part for pair in pairs for part in pair)
        if self(whole) == whole:
            return pairs
        return [(self(name), self(value)) for name, value in pairs]

    def _without_start(self, text: str) -> str:
        for form in self._forms:
            for length in range(min(len(form) - 1, len(text)), SHORTEST - 1, -1):
                if text.endswith(form[:length]):
                    return text[:-length] + REDACTED
        return text


def forms(secret: str) -> set[str]:
    """The spellings in which a secret could turn up in a text: plain, percent-encoded, as JSON
    escapes it, and in base64, also as a part of something longer (`Bearer <key>`).
    """
    raw = secret.encode("latin-1", "replace")
    percent = quote(raw, safe="")
    escaped = json.dumps(secret)[1:-1]
    found = {secret, percent, _HEX.sub(_lower, percent), escaped, escaped.replace("/", "\\/")}
    for before in range(3):
        code = _base64_inside(raw, before)
        found |= {code, code.translate(_URL_SAFE)}
    return found


def _lower(match: re.Match[str]) -> str:
    return match[0].lower()


def _base64_inside(raw: bytes, before: int) -> str:
    """base64 of `raw` with `before` bytes in front: only what no neighbour has a part in."""
    code = base64.b64encode(bytes(before) + raw).decode().rstrip("=")
    shared_end = (before + len(raw)) % 3 > 0
    return code[(0, 2, 3)[before] : len(code) - shared_end]
