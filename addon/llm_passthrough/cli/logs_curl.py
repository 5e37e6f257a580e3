"""A record's request as a curl command; the key in it stays replaced by its name."""

import re
import shlex
from typing import Any

from llm_passthrough.cli.logs_view import safe

_WEBSOCKET = 101
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# curl works these out by itself, for the body that it sends.
_OWN = frozenset(
    "host content-length transfer-encoding connection accept-encoding content-encoding".split()
)
_PLAIN = re.compile(r"[ -~\n\u00a1-\ufffd]*")


def curl(record: dict[str, Any]) -> str:
    """A comment and a command; only the comment where the request is not recorded, or was no
    request but a conversation."""
    request = record.get("request")
    request = request if isinstance(request, dict) else {}
    comment = f"# {safe(str(record.get('id')))} {safe(str(record.get('time')))}"
    url = request.get("url")
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        return f"{comment}: never sent"
    answer = record.get("response")
    if isinstance(answer, dict) and answer.get("status") == _WEBSOCKET:
        return f"{comment}: said on a WebSocket"
    words = ["curl", "--globoff", "--path-as-is", "-X", quoted(str(request.get("method")))]
    lines = [" ".join((*words, "--url", quoted(url)))]
    lines += [f"-H {quoted(header)}" for header in _headers(request)]
    if request.get("truncated"):
        comment += " (the recorded body is not whole)"
    body, before = request.get("body"), ""
    if isinstance(body, str) and request.get("encoding") == "base64":
        before = f"printf %s {quoted(body)} | base64 -d | "
        lines.append("--data-binary @-")
    elif isinstance(body, str):
        lines.append(f"--data-raw {quoted(body)}")
    return f"{comment}\n{before}" + " \\\n  ".join(lines)


def quoted(text: str) -> str:
    """One word of a shell command; what a terminal could obey is escaped ($'...', as bash does)."""
    if _PLAIN.fullmatch(text) and safe(text.replace("\n", "")) == text.replace("\n", ""):
        return shlex.quote(text)
    return "$'" + "".join(map(_escaped, text)) + "'"


def _escaped(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "replace"))


def _headers(request: dict[str, Any]) -> list[str]:
    pairs = request.get("headers")
    found = []
    for pair in pairs if isinstance(pairs, list) else []:
        match pair:
            case [str(name), str(value)] if _TOKEN.fullmatch(name) and name.lower() not in _OWN:
                # A header without a value is written with a semicolon; a colon would remove it.
                found.append(f"{name}: {value}" if value.strip() else f"{name};")
    return found
