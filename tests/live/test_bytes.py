"""Byte for byte: the same request straight to a provider and through the gateway, compared.

Both go to a raw socket, so that nothing is read in between; what may differ is what the contract
names, and `through` is that contract.
"""

import gzip
import json
import threading
from collections.abc import Iterator

import pytest

from live.harness import CLIENT_KEY, KEYS, Gateway, Upstream, Wire, config_for

OURS = f"Authorization: Bearer {KEYS['openai']}".encode()
THEIRS = f"Authorization: Bearer {CLIENT_KEY}".encode()
PREFIX = b"/openai_passthrough"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Recorder(Upstream):
    """Keeps each request as (head, body) and answers all of them with `answer`."""

    def __init__(self) -> None:
        super().__init__(self._serve_all)
        self.answer = OK
        self.ends = False
        self.seen: list[tuple[bytes, bytes]] = []

    def _serve_all(self, wire: Wire) -> None:
        while True:
            try:
                self.seen.append(wire.message())
            except (EOFError, ConnectionError):
                return
            wire.send(self.answer)
            if self.ends:
                return


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.stop()


@pytest.fixture(scope="module")
def gateway(recorder: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("bytes"), config_for(recorder.url))
    yield gateway
    gateway.stop()


@pytest.fixture(autouse=True)
def _plain_answers(recorder: Recorder) -> None:
    recorder.answer, recorder.ends = OK, False


def send(port: int, data: bytes, answers: bool = True) -> bytes:
    """Send a request on its own connection; the whole answer."""
    with Wire.to(port) as wire:
        wire.send(data)
        head, body = wire.message() if answers else (wire.until(b"\r\n\r\n"), b"")
        return head + body


def through(head: bytes, port: int) -> bytes:
    """The head that the provider has to see for the head that a client sent."""
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    gone = (b"authorization:", b"connection: keep-alive", b"x-passthrough-", b"keep-alive:", b"te:")
    kept = [line for line in lines if not line.lower().startswith(gone)]
    named = [
        line.partition(b":")[0] + b": 127.0.0.1:%d" % port if _is(line, b"host") else line
        for line in kept
    ]
    return b"\r\n".join([first.replace(PREFIX, b"", 1), *named, OURS]) + b"\r\n\r\n"


def _is(line: bytes, name: bytes) -> bool:
    return line.lower().startswith(name + b":")


def request(
    target: bytes, *lines: bytes, method: bytes = b"POST", body: bytes | None = b"{}"
) -> bytes:
    length = [] if body is None else [b"Content-Length: %d" % len(body)]
    head = [method + b" " + PREFIX + target + b" HTTP/1.1", b"Host: localhost", *lines, *length]
    return b"\r\n".join([*head, b"", b""]) + (body or b"")


AUTH = (THEIRS,)
REQUESTS = [
    # targets
    pytest.param(request(b"/v1/a%2Fb/c", *AUTH), id="an escaped slash stays escaped"),
    pytest.param(request(b"/v1/a%2fb%7E~", *AUTH), id="escapes keep their case and are not undone"),
    pytest.param(request(b"/v1//a///b/", *AUTH), id="repeated and last slashes stay"),
    pytest.param(request(b"/v1/a/./b", *AUTH), id="a dot segment is not resolved"),
    pytest.param(request(b"/v1/a+b%20c?q=a+b%20c", *AUTH), id="plus and %20 are two things"),
    pytest.param(request(b"/v1/x?a=1&a=2&b=&c&&d==&a=3", *AUTH), id="repeated, empty, bare ones"),
    pytest.param(request(b"/v1/x?", *AUTH), id="an empty query keeps its question mark"),
    pytest.param(request(b"/v1/x?&", *AUTH), id="a query of one ampersand"),
    pytest.param(request(b"/v1/x??b=/?&c=:@!$'()*,;", *AUTH), id="what a query may hold"),
    pytest.param(request(b"/v1/x?keys=1&monkey=2&KEYX=3", *AUTH), id="names that only hold key"),
    pytest.param(request(b"/v1/m:do@1;p=1,2!$&'()*", *AUTH), id="what a path may hold"),
    pytest.param(request(b"/v1/%E2%82%AC/%00%FF", *AUTH), id="escaped bytes that are no text"),
    pytest.param(request(b"/v1/" + b"a" * 7000 + b"?q=" + b"b" * 7000, *AUTH), id="a long target"),
    pytest.param(request(b'/v1/x?a=1"<>^`{|}', *AUTH), id="raw characters that clients do send"),
    # headers
    pytest.param(
        request(b"/v1/x", b"b: 1", b"A: 2", THEIRS, b"b: 3", b"a: 4"), id="order and repetition"
    ),
    pytest.param(
        request(b"/v1/x", b"X-lOwEr-UPPER: v", b"x_under: 1", *AUTH), id="spelling of names"
    ),
    pytest.param(request(b"/v1/x", b"X-Empty: ", *AUTH), id="an empty value"),
    pytest.param(request(b"/v1/x", b"X-V: a  b\tc", *AUTH), id="inner blanks of a value"),
    pytest.param(request(b"/v1/x", b"X-V: \xc3\xa9\xff", *AUTH), id="8-bit bytes in a value"),
    pytest.param(request(b"/v1/x", b"X-V: " + b"v" * 30_000, *AUTH), id="a long value"),
    pytest.param(
        request(b"/v1/x", *[b"X-%d: %d" % (n, n) for n in range(90)], *AUTH), id="many headers"
    ),
    pytest.param(
        request(b"/v1/x", b"Accept-Encoding: br;q=1.0, gzip;q=0.8, *;q=0.1", *AUTH),
        id="accept-encoding is the client's",
    ),
    pytest.param(
        request(b"/v1/x", b"User-Agent: a (b; c) d/1", b"Accept: */*", b"Accept: a/b", *AUTH),
        id="user-agent and accept",
    ),
    pytest.param(
        request(b"/v1/x", b"anthropic-beta: a,b", b"OpenAI-Beta: x=y", *AUTH), id="beta headers"
    ),
    pytest.param(
        request(b"/v1/x", b"Connection: keep-alive", b"Keep-Alive: timeout=5", *AUTH),
        id="hop-by-hop headers stop here",
    ),
    pytest.param(
        request(b"/v1/x", b"Connection: close", *AUTH), id="that the connection ends is passed on"
    ),
    pytest.param(
        request(b"/v1/x", b"x-passthrough-capture: none", *AUTH), id="our control headers stop here"
    ),
    pytest.param(
        request(b"/v1/x", b"authorization: Basic eA==", b"AUTHORIZATION: b", *AUTH),
        id="a credential however it is spelt",
    ),
    pytest.param(
        request(b"/v1/x", b'If-None-Match: "x"', b"Range: bytes=0-", *AUTH), id="conditions"
    ),
    # bodies
    pytest.param(
        request(b"/v1/x", *AUTH, body=b'{ "a" :\t1 ,\r\n"a": 1.0e0, "b":"\\u00e9\xc3\xa9" } \n'),
        id="odd JSON: blanks, a key twice, number forms, escapes",
    ),
    pytest.param(request(b"/v1/x", *AUTH, body=b'{"a":"\xff\xfe\x00"}'), id="invalid UTF-8"),
    pytest.param(request(b"/v1/x", *AUTH, body=b"\xef\xbb\xbf{}"), id="a byte order mark"),
    pytest.param(request(b"/v1/x", *AUTH, body=b"{not json"), id="no JSON at all"),
    pytest.param(request(b"/v1/x", *AUTH, body=bytes(range(256)) * 400), id="every byte"),
    pytest.param(
        request(b"/v1/x", b"Content-Encoding: gzip", *AUTH, body=gzip.compress(b"{}" * 99)),
        id="a gzip body",
    ),
    pytest.param(
        request(b"/v1/x", b"Content-Encoding: gzip", *AUTH, body=b"no gzip"),
        id="a body that is not the gzip that it says",
    ),
    pytest.param(request(b"/v1/x", *AUTH, body=b""), id="no bytes, and a length that says so"),
    pytest.param(request(b"/v1/x", *AUTH, body=None), id="a POST without length and body"),
    pytest.param(request(b"/v1/x", *AUTH, body=b"x" * 3_000_000), id="three megabytes"),
    pytest.param(
        request(
            b"/v1/files",
            b"Content-Type: multipart/form-data; boundary=b",
            *AUTH,
            body=b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--b--\r\n',
        ),
        id="a form",
    ),
    # methods
    pytest.param(request(b"/v1/x", *AUTH, method=b"GET", body=None), id="GET"),
    pytest.param(request(b"/v1/x", *AUTH, method=b"GET", body=b'{"a":1}'), id="GET with a body"),
    pytest.param(request(b"/v1/x", *AUTH, method=b"DELETE", body=None), id="DELETE"),
    pytest.param(request(b"/v1/x", *AUTH, method=b"DELETE", body=b"{}"), id="DELETE with a body"),
    pytest.param(request(b"/v1/x", *AUTH, method=b"OPTIONS", body=None), id="OPTIONS"),
    pytest.param(request(b"/v1/x", *AUTH, method=b"PATCH"), id="PATCH"),
    pytest.param(request(b"/v1/x", *AUTH, method=b"PUT"), id="PUT"),
]


@pytest.mark.parametrize("data", REQUESTS)
def test_a_request_differs_from_a_direct_one_only_in_what_the_contract_names(
    recorder: Recorder, gateway: Gateway, data: bytes
) -> None:
    recorder.seen.clear()
    direct = send(recorder.port, data)
    answered = send(gateway.port, data)
    (sent_head, sent_body), (head, body) = recorder.seen
    assert sent_head + sent_body == data
    assert head == through(sent_head, recorder.port)
    assert body == sent_body
    assert answered == direct


def test_a_head_request_is_passed_on_and_its_answer_has_no_body(
    recorder: Recorder, gateway: Gateway
) -> None:
    recorder.answer = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 1234\r\n\r\n"
    recorder.seen.clear()
    data = request(b"/v1/x?a=%2F", THEIRS, method=b"HEAD", body=None)
    assert send(gateway.port, data, answers=False) == recorder.answer
    assert recorder.seen[0][0] == through(data, recorder.port)


def test_openai_paths_without_a_version_get_it_and_nothing_else_moves(
    recorder: Recorder, gateway: Gateway
) -> None:
    recorder.seen.clear()
    send(gateway.port, request(b"/files/a%2Fb?x=+", THEIRS))
    assert recorder.seen[0][0].split(b" ")[1] == b"/v1/files/a%2Fb?x=+"


@pytest.mark.parametrize(
    ("query", "left"),
    [
        pytest.param(b"?key=K", b"", id="the only parameter"),
        pytest.param(b"?a=1&key=K&b=%2F", b"?a=1&b=%2F", id="between two others"),
        pytest.param(b"?%6Bey=K&alt=sse", b"?alt=sse", id="with an escaped name"),
        pytest.param(b"?key=K&key=L&&a", b"?&a", id="twice, and an empty one that stays"),
        pytest.param(b"?access_token=K&api_key=L&x=+", b"?x=+", id="other names of keys"),
    ],
)
def test_a_key_in_the_query_goes_and_the_rest_of_the_query_stays(
    recorder: Recorder, gateway: Gateway, query: bytes, left: bytes
) -> None:
    recorder.seen.clear()
    path = b"/v1beta/models/m:generateContent"
    send(gateway.port, request(path + query).replace(PREFIX, b"/genai_passthrough"))
    head = recorder.seen[0][0]
    assert head.split(b" ")[1] == path + left
    assert head.endswith(f"\r\nx-goog-api-key: {KEYS['gemini']}\r\n\r\n".encode())


def test_a_chunked_body_arrives_whole(recorder: Recorder, gateway: Gateway) -> None:
    recorder.seen.clear()
    head = b"\r\n".join(
        [
            b"POST " + PREFIX + b"/v1/x HTTP/1.1",
            b"Host: localhost",
            THEIRS,
            b"Transfer-Encoding: chunked",
            b"",
            b"",
        ]
    )
    send(gateway.port, head + b"3\r\nabc\r\n5;x=y\r\n\r\n\xff01\r\n0\r\n\r\n")
    assert recorder.seen[0][1] == b"abc\r\n\xff01"


def test_every_byte_may_come_alone(recorder: Recorder, gateway: Gateway) -> None:
    recorder.seen.clear()
    data = request(b"/v1/x?a=1", b"X-V: 1", THEIRS, body=b'{"a": "\xc3\xa9"}')
    with Wire.to(gateway.port) as wire:
        for byte in data:
            wire.send(bytes([byte]))
        assert b" 200 " in wire.message()[0]
    head, body = recorder.seen[0]
    assert head == through(data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n", recorder.port)
    assert body == b'{"a": "\xc3\xa9"}'


# -- answers --------------------------------------------------------------------------------------


def answer(status: bytes, *lines: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"HTTP/1.1 " + status, *lines, b"", b""]) + body


ANSWERS = [
    # answer, the header lines that are dropped
    pytest.param(answer(b"200 OK", b"Content-Length: 2", body=b"{}"), (), id="200 with a length"),
    pytest.param(answer(b"201 Whatever You Like", b"Content-Length: 0"), (), id="a reason phrase"),
    pytest.param(answer(b"204 No Content", b"X-A: 1"), (), id="204"),
    pytest.param(answer(b"304 Not Modified", b'ETag: "x"'), (), id="304"),
    pytest.param(answer(b"404 Not Found", b"Content-Length: 3", body=b"\xff\x00\n"), (), id="404"),
    pytest.param(
        answer(b"429 Too Many Requests", b"Retry-After: 7", b"Content-Length: 2", body=b"[]"),
        (),
        id="429 with retry-after",
    ),
    pytest.param(
        answer(b"529 ", b"x-should-retry: true", b"Content-Length: 0"), (), id="an empty reason"
    ),
    pytest.param(
        answer(
            b"200 OK",
            b"B: 1",
            b"a: 2",
            b"b: 3",
            b"X-cAsE: \xff",
            b"x_u: v",
            b"X-Empty: ",
            b"Content-Length: 0",
        ),
        (),
        id="order, repetition and spelling of headers",
    ),
    pytest.param(
        answer(
            b"200 OK",
            b"Set-Cookie: a=b",
            b"X-Request-Id: r",
            b"Alt-Svc: h3",
            b"Strict-Transport-Security: max-age=1",
            b"Access-Control-Allow-Origin: *",
            b"X-RateLimit-Remaining-Tokens: 5",
            b"x-api-key: echo",
            b"Via: 1.1 google",
            b"Server: x",
            b"Content-Length: 0",
        ),
        (b"set-cookie", b"alt-svc", b"strict-tr", b"access-control", b"x-api-key"),
        id="what belongs to the hop, the browser or our account is dropped",
    ),
    pytest.param(
        answer(b"200 OK", b"X-Echo: " + KEYS["openai"].encode(), b"Content-Length: 0"),
        (b"x-echo",),
        id="a header that holds our key is dropped",
    ),
    pytest.param(
        answer(
            b"200 OK", b"Transfer-Encoding: chunked", body=b"3\r\na\r\n\r\n2\r\nbc\r\n0\r\n\r\n"
        ),
        (),
        id="chunked",
    ),
    pytest.param(
        answer(
            b"200 OK",
            b"Content-Encoding: gzip",
            b"Content-Length: 20",
            body=b"\x1f\x8b\x08\x00 is not really gzip"[:20],
        ),
        (),
        id="an encoding is not undone, not even a broken one",
    ),
    pytest.param(
        answer(b"200 OK", b"Content-Length: 3000000", body=b"\xffz\x00" * 1_000_000),
        (),
        id="longer than what is buffered",
    ),
]


@pytest.mark.parametrize(("sent", "dropped"), ANSWERS)
def test_an_answer_differs_from_a_direct_one_only_in_what_the_contract_drops(
    recorder: Recorder, gateway: Gateway, sent: bytes, dropped: tuple[bytes, ...]
) -> None:
    recorder.answer = sent
    data = request(b"/v1/x", THEIRS)
    direct, via = send(recorder.port, data), send(gateway.port, data)
    head, mark, body = direct.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not (dropped and _drops(line, dropped))]
    assert via == b"\r\n".join(lines) + mark + body


def _drops(line: bytes, dropped: tuple[bytes, ...]) -> bool:
    return line.lower().startswith(dropped)


def test_an_answer_that_lasts_until_the_connection_ends_ends_the_clients_too(
    recorder: Recorder, gateway: Gateway
) -> None:
    recorder.answer = answer(b"200 OK", b"X-A: 1", body=b"until\x00the end")
    recorder.ends = True
    with Wire.to(gateway.port) as wire:
        wire.send(request(b"/v1/x", THEIRS))
        head, body = wire.until(b"\r\n\r\n"), wire.rest()
    assert head.startswith(b"HTTP/1.1 200 OK\r\nX-A: 1\r\n")
    assert b"content-length" not in head.lower()
    if b"chunked" in head.lower():
        pieces = body.split(b"\r\n")
        body = b"".join(pieces[1:-3:2])
    assert body == b"until\x00the end"


def test_answers_come_in_order_on_one_connection(recorder: Recorder, gateway: Gateway) -> None:
    recorder.seen.clear()
    with Wire.to(gateway.port) as wire:
        for number in range(20):
            wire.send(request(b"/v1/x?%d" % number, THEIRS))
            assert wire.message()[1] == b"{}"
    assert [head.split(b" ")[1] for head, _ in recorder.seen] == [
        b"/v1/x?%d" % n for n in range(20)
    ]


def test_the_record_has_the_body_and_not_the_keys(recorder: Recorder, gateway: Gateway) -> None:
    body = json.dumps({"model": "bytes-recorded", "echo": CLIENT_KEY}).encode()
    recorder.answer = answer(
        b"200 OK", b"Content-Length: %d" % len(KEYS["openai"]), body=KEYS["openai"].encode()
    )
    send(gateway.port, request(b"/v1/x", THEIRS, body=body))
    record = gateway.record_of("bytes-recorded")
    assert record["request"]["bytes"] == len(body)
    told = json.dumps(record)
    assert CLIENT_KEY not in told
    assert KEYS["openai"] not in told


def test_many_clients_at_once_get_each_his_own(recorder: Recorder, gateway: Gateway) -> None:
    wrong: list[bytes] = []
    recorder.seen.clear()

    def one(number: int) -> None:
        data = request(b"/v1/x?%d" % number, THEIRS, body=b"%d" % number)
        if send(gateway.port, data) != OK:
            wrong.append(data)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not wrong
    assert sorted(recorder.seen) == sorted(
        (
            through(
                request(b"/v1/x?%d" % n, THEIRS, body=b"%d" % n)[: -len(b"%d" % n)], recorder.port
            ),
            b"%d" % n,
        )
        for n in range(40)
    )
