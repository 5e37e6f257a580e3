"""Requests for the fuzzer: valid ones, and what can be done to them. Bytes only, no socket.

A case is a valid request and a few mutations, each with a seed of its own, so that it can be made
again with some of them left out. {GW}, {EV} and {PR} stand for the gateway, somebody evil and a
provider's name.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from live.harness import CLIENT_KEY

CLIENT = CLIENT_KEY.encode()
BODY = (
    b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}],'
    b'"contents":[{"role":"user","parts":[{"text":"hi"}]}]}'
)
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: {GW}\r\nX-Smuggled: 1\r\n\r\n"


def _content(data: bytes) -> bytes:
    """Bytes of a body: without the credential."""
    return data.replace(CLIENT, b"x" * len(CLIENT))


@dataclass
class Message:
    """A request that is still to be spoilt. `body` is as it goes on the wire.

    `whole`: an answer is due without anything more; `tunnel`: the host to whose tunnel it is sent.
    """

    method: bytes
    target: bytes
    lines: list[bytes]
    body: bytes = b""
    version: bytes = b" HTTP/1.1"
    end: bytes = b"\r\n"
    before: bytes = b""
    after: bytes = b""
    whole: bool = True
    tunnel: str | None = None

    def data(self) -> bytes:
        """All of it. A credential that a mutation has put into the body is none: what a client
        writes there goes where he sends it."""
        lines = [self.method + b" " + self.target + self.version, *self.lines, b"", b""]
        head, blank, rest = self.end.join(lines).partition(b"\r\n\r\n")
        chunked = any(line.lower().startswith(b"transfer-encoding") for line in self.lines)
        body = self.body if chunked else _content(self.body)  # there may be trailers
        return self.before + head + blank + _content(rest) + body + self.after


@dataclass(frozen=True)
class Case:
    """Which valid request, and what is done to it: names of mutations, each with its seed."""

    base: int
    steps: tuple[tuple[str, int], ...]
    kept: bytes | None = field(default=None, repr=False)

    def message(self) -> Message:
        """What is sent; the same for the same case."""
        message = BASES[self.base % len(BASES)]()
        for name, seed in self.steps:
            MUTATIONS[name](random.Random(seed), message)
        if self.kept is not None:  # cut down further, byte by byte
            return Made(message, self.kept)
        return message

    def without(self, step: int) -> "Case":
        """The same with one mutation less."""
        return replace(self, steps=self.steps[:step] + self.steps[step + 1 :])


class Made(Message):
    """A message whose bytes are given."""

    def __init__(self, of: Message, data: bytes) -> None:
        super().__init__(of.method, of.target, of.lines, whole=False, tunnel=of.tunnel)
        self._data = data

    def data(self) -> bytes:
        """All of it."""
        return self._data


def case(chance: random.Random) -> Case:
    """One case of those that chance gives."""
    names = list(MUTATIONS)
    steps = [(chance.choice(names), chance.getrandbits(32)) for _ in range(chance.choice(_MANY))]
    return Case(chance.randrange(len(BASES)), tuple(steps))


_MANY = (0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 6)

# -- valid requests --------------------------------------------------------------------------------


def _to(target: str, method: str = "POST", host: str = "{GW}", *more: str) -> Message:
    lines = [f"Host: {host}", f"Authorization: Bearer {CLIENT_KEY}", "Connection: close", *more]
    body = b"" if method in ("GET", "HEAD", "DELETE", "OPTIONS", "CONNECT") else BODY
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return Message(method.encode(), target.encode(), [line.encode() for line in lines], body)


def _socket() -> Message:
    lines = ("Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAA=")
    message = _to("/openai_passthrough/v1/realtime?model=m", "GET", "{GW}", *lines)
    message.lines[2] = b"Connection: Upgrade"
    message.whole = False
    return message


def _connect(host: str) -> Message:
    message = _to(host, "CONNECT", host)
    message.whole = False
    return message


def _inside() -> Message:
    message = _to("/v1/chat/completions", "POST", "{PR}")
    message.tunnel = "api.openai.com"
    return message


_MODEL = "models/m:generateContent"
_VERTEX = f"/genai_passthrough/v1/projects/p/locations/us-east1/publishers/google/{_MODEL}"
BASES: tuple[Callable[[], Message], ...] = (
    lambda: _to("/openai_passthrough/v1/chat/completions"),
    lambda: _to("/openai_passthrough/v1/models?limit=2", "GET"),
    lambda: _to("/anthropic_passthrough/v1/messages"),
    lambda: _to("/azure_passthrough/openai/deployments/d/chat/completions?api-version=1"),
    lambda: _to(f"/genai_passthrough/v1beta/{_MODEL}"),
    lambda: _to(_VERTEX),
    lambda: _to(f"/genai_passthrough/v1beta1/publishers/google/{_MODEL}?alt=sse"),
    lambda: _to("/openai_passthrough/v1/files/f", "DELETE"),
    lambda: _to("/anthropic_passthrough", "HEAD"),
    lambda: _to("/health", "GET"),
    lambda: _to("http://{PR}/v1/chat/completions", "POST", "{PR}"),
    lambda: _to("https://{PR}/v1/models", "GET", "{PR}"),
    lambda: _to("http://{GW}/openai_passthrough/v1/models", "GET"),
    _inside,
    _inside,
    lambda: _connect("{PR}:443"),
    _socket,
)

# -- what can be done to them ----------------------------------------------------------------------

type Mutation = Callable[[random.Random, Message], None]
MUTATIONS: dict[str, Mutation] = {}


def mutation(function: Mutation) -> Mutation:
    """Enter a mutation into the table, by its name."""
    MUTATIONS[function.__name__] = function
    return function


_CONTROL = [bytes([code]) for code in (*range(0x20), 0x20, 0x7F, 0x80, 0x85, 0xA0, 0xFF)]
_DOTS = b"/../ /..%2f /%2e%2e/ /.%2e/ /%252e%252e/ /..;/ /..%5c /..%00/ /./ /..".split()
_ODD = [
    *rb"""@{EV} :1@{EV} \@{EV} .evil.test -evil.test //{EV} /\{EV} ///{EV} %2f%2f{EV} ;@{EV}
    #@{EV} ?@{EV} #{EV} %23@{EV} %40{EV} /@{EV}/ /http://{EV}/ %0d%0aHost:{EV} %00 %20
    // /// %2F %5c \ ? # & ; : * ~ %zz %2 % + ?? ?a=1?b=2 &key=1""".split(),
    *_DOTS,
    *_CONTROL,
]
_PREFIXES = b"openai anthropic azure genai OpenAI %6fpenai bedrock".split()
_HOSTS = [
    *rb"""{EV} {PR} {GW} {PR}@{EV} {GW}@{EV} {EV}:443 {PR}:443 {PR}:80 {PR}. {PR}.evil.test
    evil.test localhost LOCALHOST localhost.evil.test 127.0.0.1.evil.test 127.1 0.0.0.0
    2130706433 0x7f000001 [::1] [::ffff:127.0.0.66] 169.254.169.254 [fd00:ec2::254]
    {GW},{EV} {GW}/ {GW}#{EV} {GW}\@{EV} mitm.it x:99999 x:-1 : @ [ %31""".split(),
    *(b"", b" ", b"\x00", b"a b", b"\xc3\xa9.test"),
]
_SCHEMES = rb"http:// https:// HTTP:// ftp:// ws:// file:/// http:/ http:\\ //".split()
_METHODS = [
    *b"GET HEAD OPTIONS PUT PATCH DELETE TRACE CONNECT PRI get Post connect M-SEARCH".split(),
    *(b"GET\tx", b"POST\x00", b"\x7f", b"M" * 5000),
]
_VERSIONS = [
    *(b" HTTP/1.0", b" HTTP/1.1 ", b" HTTP/9.9", b" HTTP/2.0", b" http/1.1", b" HTTP/1.1x", b""),
    *(b" ", b" HTTP/1.1 HTTP/1.1", b" HTTP/0.9", b"  HTTP/1.1", b"\tHTTP/1.1", b" HTTP/3"),
]
_KEY_NAMES = b"""Authorization AUTHORIZATION authorization Proxy-Authorization X-Api-Key X_Api_Key
    x-api-key Api-Key api_key X-Goog-Api-Key x_goog-api_key Cookie
    Ocp-Apim-Subscription-Key""".split()
_KEY_PARAMETERS = b"""key KEY api_key Api-Key access_token subscription-key k%65y %6bey
    api%5fkey""".split()
_FIELDS = [
    *b"""X-Forwarded-Host: {EV}|X-Forwarded-For: 6.6.6.6|Forwarded: host={EV}|Via: 1.1 {EV}
X-Original-URL: http://{EV}/|X-Rewrite-URL: http://{EV}/|X-HTTP-Method-Override: DELETE
Origin: https://evil.test|Origin: null|Origin: http://{GW}|Referer: https://evil.test/
Sec-Fetch-Site: cross-site|Sec-Fetch-Site: none|Access-Control-Request-Method: POST
Upgrade: h2c|Upgrade: websocket|Upgrade: H2C, foo|HTTP2-Settings: AAMAAABk|TE: trailers
Trailer: X-Api-Key|Keep-Alive: timeout=5|Proxy-Connection: keep-alive|Expect: 100-continue
Expect: 200-ok|Max-Forwards: 0|Range: bytes=0-|Connection: authorization, host
Connection: content-length|Connection: upgrade|OpenAI-Organization: org-evil|OpenAI-Project: p
x-goog-user-project: evil|azure-endpoint: https://{EV}|Content-Encoding: gzip
Content-Type: text/plain|x-passthrough-key: nobody|x-passthrough-capture: none
x-passthrough-replay: x|X-A: [openai/openai-main]|X-A: Bearer [openai/openai-main]
X-A: [client/1]|x-goog-upload-url: http://{EV}/|Location: http://{EV}/|Alt-Svc: h3=":443"
X-Empty:|: no name|no colon""".replace(b"\n", b"|").split(b"|"),
    b"Sec-WebSocket-Protocol: realtime, openai-insecure-api-key." + CLIENT,
    b"Sec-WebSocket-Protocol: openai-insecure-api-key." + CLIENT + b", x",
    *(b"X-Long: " + b"x" * 9000, b" folded", b"\tfolded"),
]
_CODINGS = (
    *(b"chunked", b"Chunked", b"xchunked", b"identity", b"gzip, chunked", b"chunked, identity"),
    *(b"\x0bchunked", b" chunked ", b'"chunked"', b"chunked;q=1", b"", b"chunked\r\n x"),
)
_TE = [
    *(b"Transfer-Encoding: " + value for value in _CODINGS),
    *(b"Transfer-Encoding : chunked", b"Transfer_Encoding: chunked"),
    *(b"Transfer-Encoding:\r\n chunked", b"X: y\rTransfer-Encoding: chunked"),
    b"X: y\nTransfer-Encoding: chunked",
]
_BODIES = [
    *(b"", b"[" * 9000, b'{"model":"a","model":"b"}', b'{"model":' + b"9" * 5000 + b"}", b"NaN"),
    *(b'{"model":"projects/p/locations/x/y"}', b'{"api_base":"http://{EV}"}', b"\xff\xfe\x00"),
    *(b'{"model":"\\ud800"}', b'{"cachedContent":"projects/x/locations/y/cachedContents/1"}'),
]
_LENGTHS = [*b"0 1 5 +5 -1 0x5 5,5 05 99 5_0 1e1 \xb2".split(), b"", b" ", b"9" * 30, b"5\x00"]


def _free(message: Message) -> int:
    """How much of a target may be spoilt: not a credential's parameter, which would then be one
    that nobody knows, and rightly go on."""
    query = message.target.find(b"?")
    return query if query >= 0 and CLIENT in message.target else len(message.target)


def _path_at(chance: random.Random, message: Message, piece: bytes) -> None:
    at = chance.randint(0, _free(message))
    message.target = message.target[:at] + piece + message.target[at:]


def _plain_lines(message: Message) -> list[int]:
    """The lines without a credential: what is spoilt in one of those may go on as a header that
    nobody knows, and that is right."""
    return [at for at, line in enumerate(message.lines) if CLIENT not in line]


def _framed(message: Message) -> list[bytes]:
    """The lines without those that say how long the body is."""
    return [
        line for line in message.lines
        if not line.lower().startswith((b"content-length", b"transfer-encoding"))
    ]  # fmt: skip


@mutation
def odd_after_prefix(chance: random.Random, message: Message) -> None:
    """Something that could begin a host right behind the prefix."""
    head, mark, rest = message.target.partition(b"_passthrough")
    message.target = head + mark + chance.choice(_ODD) + rest


@mutation
def odd_in_path(chance: random.Random, message: Message) -> None:
    """Something odd anywhere in the target."""
    _path_at(chance, message, chance.choice(_ODD))


@mutation
def another_prefix(chance: random.Random, message: Message) -> None:
    """Out of one prefix into another."""
    other = b"/" + chance.choice(_PREFIXES) + b"_passthrough/v1/x"
    message.target = chance.choice([message.target, b"", b"/openai_passthrough"]) + (
        chance.choice(_DOTS).rstrip(b"/") + other
    )


@mutation
def encoded(chance: random.Random, message: Message) -> None:
    """Some bytes of the target as %XX, once or twice."""
    out = []
    free = _free(message)
    for byte in message.target[:free]:
        escape = b"%%%02x" % byte if chance.random() < 0.1 else bytes([byte])
        out.append(b"%25" + escape[1:] if len(escape) > 1 and chance.random() < 0.3 else escape)
    message.target = b"".join(out) + message.target[free:]


@mutation
def region(chance: random.Random, message: Message) -> None:
    """A Vertex location that is none."""
    odd = chance.choice([b"evil.test%2f", b"{EV}", b"x@{EV}", b"US", b"..", b"us-east1%00", b""])
    body = b'{"model":"projects/evil/locations/%s/publishers/google/models/m"}' % odd
    if chance.random() < 0.5:
        message.target = message.target.replace(b"us-east1", odd)
    elif message.body:
        message.body = body
        message.lines = [*_framed(message), b"Content-Length: %d" % len(body)]


@mutation
def absolute(chance: random.Random, message: Message) -> None:
    """The target as a URL."""
    path = message.target if message.target.startswith(b"/") else b"/v1/models"
    message.target = chance.choice(_SCHEMES) + chance.choice(_HOSTS) + path


@mutation
def method(chance: random.Random, message: Message) -> None:
    """Another method; the answer to some is a tunnel, or never comes."""
    message.method, message.whole = chance.choice(_METHODS), False


@mutation
def authority(chance: random.Random, message: Message) -> None:
    """A tunnel to somewhere."""
    message.method, message.whole = b"CONNECT", False
    message.target = chance.choice(_HOSTS) + chance.choice([b"", b":443", b":80", b":22", b":0"])


@mutation
def version(chance: random.Random, message: Message) -> None:
    """Another version, or none."""
    message.version, message.whole = chance.choice(_VERSIONS), False


@mutation
def host(chance: random.Random, message: Message) -> None:
    """Another Host, none, or two."""
    line = b"Host: " + chance.choice(_HOSTS)
    rest = [each for each in message.lines if not each.startswith(b"Host:")]
    kept = message.lines if chance.random() < 0.3 else rest
    message.lines = chance.choice([[line, *kept], [*kept, line], rest])


@mutation
def a_field(chance: random.Random, message: Message) -> None:
    """A header that asks for something, or is none."""
    line = chance.choice(_FIELDS)
    message.whole &= b":" in line and b"pgrade" not in line and line[:1].strip() != b""
    message.lines.insert(chance.randint(0, len(message.lines)), line)


@mutation
def a_credential(chance: random.Random, message: Message) -> None:
    """The client's credential in one more place."""
    value = chance.choice([CLIENT, b"Bearer " + CLIENT, b"Basic " + CLIENT, b"key=" + CLIENT])
    message.lines.append(chance.choice(_KEY_NAMES) + b": " + value)


@mutation
def a_credential_in_the_query(chance: random.Random, message: Message) -> None:
    """And in the target."""
    if message.method == b"CONNECT":
        return
    mark = b"&" if b"?" in message.target else b"?"
    message.target += mark + chance.choice(_KEY_PARAMETERS) + b"=" + CLIENT
    message.target += chance.choice([b"", b"&a=1", b"&&", b"&key"])


@mutation
def a_line_twice(chance: random.Random, message: Message) -> None:
    """A header twice."""
    message.lines.insert(0, chance.choice(message.lines))


@mutation
def lines_in_another_order(chance: random.Random, message: Message) -> None:
    """The headers shuffled."""
    chance.shuffle(message.lines)


@mutation
def a_line_spoilt(chance: random.Random, message: Message) -> None:
    """A byte that does not belong there, in a header's name or value."""
    at = chance.choice(_plain_lines(message) or [0])
    line = message.lines[at]
    where = chance.randint(0, len(line))
    if CLIENT not in line:
        message.lines[at] = line[:where] + chance.choice(_CONTROL) + line[where:]
        message.whole = False


@mutation
def a_fold(chance: random.Random, message: Message) -> None:
    """A header over two lines."""
    at = chance.choice(_plain_lines(message) or [0])
    name, mark, value = message.lines[at].partition(b":")
    if CLIENT not in value:
        message.lines[at] = name + mark + chance.choice([b"\r\n", b"\n", b"\r"]) + b" " + value
        message.whole = False


@mutation
def length(chance: random.Random, message: Message) -> None:
    """A Content-Length that is wrong, or one too many."""
    lines = _framed(message) if chance.random() < 0.6 else message.lines
    message.lines = [*lines, b"Content-Length: " + chance.choice(_LENGTHS)]
    message.whole = False


@mutation
def coding(chance: random.Random, message: Message) -> None:
    """A Transfer-Encoding, alone or beside a length."""
    lines = _framed(message) if chance.random() < 0.6 else message.lines
    message.lines = [*lines, chance.choice(_TE)]
    message.body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(message.body), _content(message.body))
    message.whole = False


@mutation
def chunks(chance: random.Random, message: Message) -> None:
    """Chunks, some of them odd."""
    message.lines = [*_framed(message), b"Transfer-Encoding: chunked"]
    size = chance.choice(
        [b"%x", b"%X", b"0%x", b"0x%x", b"+%x", b" %x", b"%x ", b"%x;a=b", b"%x;\n"]
    )
    end = chance.choice([b"\r\n", b"\n", b"", b"\r\n\r\n", b"x"])
    last = chance.choice([
        b"0\r\n\r\n", b"0\r\n", b"", b"0\r\nX-Api-Key: " + CLIENT + b"\r\n\r\n",
        b"0\r\nHost: {EV}\r\nContent-Length: 5\r\n\r\n", b"00\r\n\r\n", b"fffffffffffffffff\r\n",
    ])  # fmt: skip
    cut = len(message.body) // 2
    parts = [part for part in (message.body[:cut], message.body[cut:]) if part]
    message.body = b"".join(size % len(part) + b"\r\n" + part + end for part in parts) + last
    message.whole = False


@mutation
def smuggled(chance: random.Random, message: Message) -> None:
    """A second request where a reader that counts otherwise would find one."""
    inner = SMUGGLED
    message.whole = False
    kind = chance.randrange(4)
    if kind == 0:
        lines = [b"Content-Length: %d" % len(inner), b"Transfer-Encoding: chunked"]
        message.lines, message.body = [*_framed(message), *lines], b"0\r\n\r\n" + inner
    elif kind == 1:
        message.lines, message.body = _framed(message), inner
    elif kind == 2:
        message.lines = [*_framed(message), b"Content-Length: %d" % len(inner)]
        message.body = inner
    else:
        message.lines.insert(1, b"X-A: b\r\n\r\n" + inner + b"X: y")


@mutation
def pipelined(chance: random.Random, message: Message) -> None:
    """Another request behind it."""
    other = BASES[chance.randrange(len(BASES) - 2)]()
    if chance.random() < 0.5:
        MUTATIONS[chance.choice(["odd_after_prefix", "absolute", "host", "method"])](chance, other)
    message.lines = [line for line in message.lines if not line.startswith(b"Connection:")]
    message.after, message.whole = other.data(), False


@mutation
def ends_of_lines(chance: random.Random, message: Message) -> None:
    """Lines that end otherwise."""
    message.end, message.whole = chance.choice([b"\n", b"\r", b"\r\r\n", b"\n\r"]), False


@mutation
def before(chance: random.Random, message: Message) -> None:
    """Something before the request."""
    odd = [
        b"\r\n",
        b"\n",
        b"\r\n" * 5,
        b" ",
        b"\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01",
    ]
    message.before, message.whole = chance.choice(odd), False


@mutation
def a_byte(chance: random.Random, message: Message) -> None:
    """Any byte of the request line is another one."""
    at = chance.randrange(_free(message) or 1)
    other = bytes([chance.randrange(256)])
    message.target = message.target[:at] + other + message.target[at + 1 :]
    message.whole = False


@mutation
def content(chance: random.Random, message: Message) -> None:
    """Another body, rightly framed."""
    body = chance.choice(_BODIES)
    message.body = body
    message.lines = [*_framed(message), b"Content-Length: %d" % len(body)]


@mutation
def cut_off(chance: random.Random, message: Message) -> None:
    """The end of it never comes."""
    data = message.body or b"\r\n"
    message.body, message.whole = data[: chance.randrange(len(data))], False
