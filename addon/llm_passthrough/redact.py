"""Redaction: secrets replaced in everything that is written."""

import re
from collections.abc import Callable, Iterable

REDACTED = "[redacted]"
# A shorter text would be found in words of every body; headers do not depend on this.
SHORTEST = 8

type Forms = Callable[[str], set[str]]


class Redactor:
    """Replaces known secrets in texts; `forms` gives the spellings of one.

    Built once at start with the configured secrets; `including` adds those of one exchange.
    """

    def __init__(
        self, secrets: Iterable[str], forms: Forms, base: "Redactor | None" = None
    ) -> None:
        spellings = {
            form for secret in secrets if len(secret) >= SHORTEST for form in forms(secret)
        }
        self._forms = forms
        self._base = base
        ordered = sorted(map(re.escape, spellings), key=len, reverse=True)
        self._pattern = re.compile("|".join(ordered)) if ordered else None

    def including(self, secrets: tuple[str, ...]) -> "Redactor":
        """A redactor that knows these secrets too."""
        return Redactor(secrets, self._forms, self) if secrets else self

    def __call__(self, text: str) -> str:
        """The text with every known secret replaced."""
        if self._base is not None:
            text = self._base(text)
        return self._pattern.sub(REDACTED, text) if self._pattern else text

    def pairs(self, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Header pairs with every known secret replaced."""
        return [(name, self(value)) for name, value in pairs]
