"""What the fuzzer takes for a fault: keys, credentials and bytes where they should not be."""

import re
from collections.abc import Iterator, Sequence
from urllib.parse import unquote_to_bytes

from live.fuzzground import Ground
from live.fuzzsaying import Told
from live.harness import CLIENT_KEY, KEYS
from live.oracles import found
from live.scene import CREDENTIALS, NEVER_SENT

_LINE = re.compile(rb"[A-Z]+ /[!-~]* HTTP/1\.[01]")
_FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+: ?[\t\x20-\x7e\x80-\xff]*")


def judge(ground: Ground, told: Sequence[Told]) -> str | None:
    """What is wrong with what these cases did, or None. Some were at the same time."""
    faults = (fault for fault in _faults(ground, told) if fault.startswith(ground.blamed))
    return next(faults, None)


def _faults(ground: Ground, told: Sequence[Told]) -> Iterator[str]:
    sent = b"\n".join(each.data + (each.tunnel or "").encode() for each in told)
    for each in told:
        if keys := found(KEYS.values(), each.heard):
            yield f"O1: the client got {keys}"
        if each.fault:
            yield each.fault
    if ground.evil.connections:
        yield f"O3: somebody evil was dialled, and heard {ground.evil.received}"
    for number, head, body in ground.seen():
        for fault in _faults_sent(ground.whose[number], head, body, sent):
            yield f"{fault}: {(head + body)[:400]!r}"
        # In a tunnel each path is the provider's own.
        if b"/smuggled" in head[:20] and not any(each.tunnel for each in told):
            yield f"a request inside of another one: {head!r}"


def _faults_sent(own: frozenset[str], head: bytes, body: bytes, sent: bytes) -> Iterator[str]:
    """What is wrong with a request that reached a provider."""
    whole = head + body
    line, *fields = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    names = [each.partition(b":")[0].decode("latin-1").lower() for each in fields]
    keys = [name for name, key in KEYS.items() if found([key], whole)]
    if found([CLIENT_KEY], whole):
        yield "O2: the client's credential went to a provider"
    if len(keys) != 1 or not set(keys) <= own or whole.count(KEYS[keys[0]].encode()) != 1:
        yield f"O1: the keys of {keys or 'nobody'}, not one of {sorted(own)} once"
    elif _asked(keys[0]) not in unquote_to_bytes(unquote_to_bytes(sent)).lower():
        yield f"O1: the key of {keys[0]}, which nobody asked for"
    if sum(name in CREDENTIALS for name in names) != 1 or found(KEYS.values(), line):
        yield "O1: not one credential, in a header of its own"
    if not _LINE.fullmatch(line) or not all(map(_FIELD.fullmatch, fields)):
        yield "no plain request"
    asks_socket = {b"upgrade: websocket", b"connection: upgrade"} <= {f.lower() for f in fields}
    hop = [name for name in names if NEVER_SENT.match(name)]
    if names.count("host") != 1 or set(hop) != ({"upgrade"} if asks_socket else set()):
        yield "not one Host, or a header of another hop"
    if len({"content-length", "transfer-encoding"} & set(names)) > 1:
        yield "two lengths"


def _asked(provider: str) -> bytes:
    """What stands in each request that may get a provider's key."""
    named = {"openai": b"openai", "gemini": b"genai_passthrough", "vertex": b"genai_passthrough"}
    return named.get(provider, f"{provider}_passthrough".encode())
