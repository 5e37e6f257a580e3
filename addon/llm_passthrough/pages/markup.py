"""Text from outside as HTML: escaped, and what would hide or turn it made visible.

The one place whose HTML the templates take as it is.
"""

import re
from html import escape

# Control characters, what turns the writing direction, what has no width, tag characters and
# other ways to write what nobody sees. Tabs and line breaks stay; a joiner stays where it joins.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b"
    "\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
    "|(?<![\u0300-\U0010ffff])[\u200c\u200d]"
)


def visible(text: object) -> str:
    """A text as HTML, in which nothing is markup and nothing is hidden."""
    shown = escape(str(text).replace("\r\n", "\n"))
    if shown.isascii() and shown.isprintable():
        return shown
    return _UNSEEN.sub(_mark, shown)


def plain(text: object) -> str:
    """The same as text, for attributes and for what a script shows."""
    return _UNSEEN.sub(lambda match: _name(match[0]), str(text))


def _mark(match: re.Match[str]) -> str:
    return f'<b class="unseen">{_name(match[0])}</b>'


def _name(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
