"""The threat catalogue against the real gateway: raw bytes in, and what came of them.

A row's id is the catalogue's: A host steering and key exfiltration, B parsing, C tunnels,
D relaying, E browsers. The oracles of oracles.py are asked after every row.
"""

import dataclasses
import re
from pathlib import Path

import pytest

from live.harness import CLIENT_KEY, KEYS, Gateway, config_for, free_port
from live.oracles import Listener, found, talk
from live.scene import (
    BODY,
    CANNED_KEY,
    CHAT,
    CREDENTIALS,
    PROJECT,
    Case,
    Scene,
    ask,
    check,
    get,
    named,
    one,
)

# -- A: host steering and key exfiltration ---------------------------------------------------------

GEN = "publishers/google/models/gemini-x:generateContent"
STEERING = [
    pytest.param(Case(ask("/openai_passthrough@{EV}/v1/x"), (404,)), id="A01-userinfo"),
    pytest.param(Case(ask("/openai_passthrough:1@{EV}/"), (404,)), id="A02-password"),
    pytest.param(Case(ask("/openai_passthrough\\@{EV}/"), (400,)), id="A04-backslash-at"),
    pytest.param(Case(ask("/openai_passthrough.evil.test/v1"), (404,)), id="A05-dot-suffix"),
    pytest.param(Case(ask("/openai_passthrough-evil.test/"), (404,)), id="A05-dash-suffix"),
    pytest.param(Case(ask("/openai_passthroughevil.test/"), (404,)), id="A05-no-slash"),
    pytest.param(
        Case(ask("/openai_passthrough//{EV}/v1/x"), (404,), "/v1//{EV}/v1/x"), id="A06-two-slashes"
    ),
    pytest.param(
        Case(ask("/anthropic_passthrough//{EV}/v1/x"), (404,), "//{EV}/v1/x"),
        id="A06-two-slashes-as-they-are",
    ),
    pytest.param(Case(ask("/openai_passthrough/\\{EV}/x"), (400,)), id="A06-slash-backslash"),
    pytest.param(
        Case(ask("/anthropic_passthrough///{EV}"), (404,), "///{EV}"), id="A06-three-slashes"
    ),
    *(
        pytest.param(Case(ask(f"/openai_passthrough{rest}"), (400,)), id=f"A07-{name}")
        for name, rest in {
            "dots": "/../azure_passthrough/openai/x",
            "encoded-slashes": "/..%2f..%2fazure_passthrough",
            "encoded-dots": "/%2e%2e/x",
            "half-encoded": "/.%2e/",
            "half-encoded-other-half": "/%2e./azure_passthrough/openai/x",
            "twice-encoded": "/%252e%252e/x",
            "at-the-end": "/v1/..",
            "upper-case": "/%2E%2E/x",
            "backslash": "/..%5cx",
        }.items()
    ),
    pytest.param(Case(ask("/x/../openai_passthrough/v1/x"), (400,)), id="A07-before-the-prefix"),
    *(
        pytest.param(
            Case(ask(f"/openai_passthrough/v1{byte}/x"), (400,), records=None),
            id=f"A09-{ord(byte):02x}",
        )
        for byte in "\x00\x01\x08\t\x0b\x0c\x1b\x7f\x80\x85\xa0\xff"
    ),
    pytest.param(Case(ask("/openai_passthrough/v1#@{EV}/x"), (400,)), id="A10-fragment"),
    pytest.param(
        Case(ask("/openai_passthrough/v1/models?@{EV}"), (405,), "/v1/models?@{EV}"), id="A10-query"
    ),
    pytest.param(
        Case(get("http://{EV}/openai_passthrough/v1/x", host="{EV}"), (403,)),
        id="A11-our-path-at-a-foreign-host",
    ),
    pytest.param(
        Case(get("http://{EV}/x", host="{PR}"), (403,)), id="A12-url-foreign-host-provider"
    ),
    pytest.param(
        Case(get("http://{PR}/x", host="{EV}"), (403,)), id="A12-url-provider-host-foreign"
    ),
    pytest.param(
        Case(get("http://{EV}/openai_passthrough/v1/models", host="{GW}"), (403,)),
        id="A12-url-foreign-host-ours",
    ),
    pytest.param(
        Case(get("http://{PR}@{EV}/x", host="{PR}"), (400,), records=None), id="A13-userinfo-url"
    ),
    pytest.param(
        Case(get("http://{GW}@{EV}/openai_passthrough/v1/models"), (400,), records=None),
        id="A13-userinfo-url-ours",
    ),
    pytest.param(
        Case(get("/openai_passthrough/v1/models", host="{PR}@{EV}"), (400,), records=None),
        id="A13-userinfo-host",
    ),
    pytest.param(
        Case(
            ask(
                CHAT,
                "X-Forwarded-Host: {EV}",
                "X-Forwarded-For: 6.6.6.6",
                "X-Original-URL: http://{EV}/",
                "X-Rewrite-URL: http://{EV}/",
                "Forwarded: host={EV}",
                "Via: 1.1 {EV}",
                "X-HTTP-Method-Override: DELETE",
            ),
            (200,),
            "/v1/chat/completions",
        ),
        id="A14-headers-that-name-another-host",
    ),
    *(
        pytest.param(
            Case(
                ask(f"/genai_passthrough/v1/projects/{PROJECT}/locations/{region}/{GEN}"),
                (400,),
                records=None,
            ),
            id=f"A15-{name}",
        )
        for name, region in {
            "encoded-slash": "evil.test%2f",
            "dot": "evil.test",
            "userinfo": "x@evil.test",
            "fragment-encoded": "evil.test%23",
            "question-mark-encoded": "evil.test%3f",
            "port": "us-central1%3a1",
            "line-break-encoded": "us-central1%0d%0aX",
            "null-encoded": "us-central1%00",
            "upper-case": "US-CENTRAL1",
        }.items()
    ),
    pytest.param(
        Case(
            ask(
                CHAT,
                "Connection: close, authorization, x-api-key, host, content-length, x-a",
                "X-Api-Key: nominated",
                "X-A: nominated",
            ),
            (200,),
            "/v1/chat/completions",
            header=("Authorization", f"Bearer {KEYS['openai']}"),
        ),
        id="A24-nominated-credentials",
    ),
    *(
        pytest.param(Case(get(target), (404,)), id=f"A27-{target}")
        for target in (
            "/bedrock_passthrough/x",
            "/favicon.ico",
            "/metrics",
            "/OPENAI_PASSTHROUGH/v1/models",
            "/%6fpenai_passthrough/v1/models",
            "/health/x",
        )
    ),
    pytest.param(Case(ask("/"), (404,)), id="A27-post-to-the-root"),
    pytest.param(Case(ask("*", method="OPTIONS"), (404, 400), records=None), id="A27-asterisk"),
]


@pytest.mark.parametrize("case", STEERING)
def test_no_target_steers_a_key_anywhere_else(scene: Scene, case: Case) -> None:
    check(scene, case)


@pytest.mark.parametrize(
    ("path_region", "body"),
    [
        pytest.param(
            "us-central1",
            b'{"model":"projects/our-project/locations/europe-west4/publishers/google/models/m"}',
            id="A17-the-body-names-another-location",
        ),
        pytest.param(
            "us-central1",
            b'{"model":"projects/evil/locations/us-central1/publishers/google/models/m"}',
            id="A17-the-body-names-another-project",
        ),
        pytest.param(
            "us-central1",
            b'{"cachedContent":"projects/evil/locations/us-central1/cachedContents/1"}',
            id="A17-the-body-names-a-cache-of-another-project",
        ),
    ],
)
def test_a_vertex_request_names_one_project_and_one_location(
    scene: Scene, path_region: str, body: bytes
) -> None:
    path = f"/genai_passthrough/v1/projects/evil/locations/{path_region}/{GEN}"
    heard, seen = scene.run(ask(path, body=body))
    if not seen:
        assert heard.status in (400, 403)
        return
    path_names = re.search(r"projects/([^/]+)/locations/([^/]+)", one(seen).target)
    body_names = re.search(rb"projects/([^/]+)/locations/([^/]+)", one(seen).body)
    assert path_names is not None
    assert body_names is not None
    assert path_names[1] == PROJECT
    assert [part.decode() for part in body_names.groups()] == list(path_names.groups())


def test_the_project_in_a_vertex_path_is_always_ours(scene: Scene) -> None:
    """A17: another project than the configured one is replaced."""
    path = f"/genai_passthrough/v1/projects/evil/locations/europe-west4/{GEN}"
    heard, seen = scene.run(ask(path))
    assert heard.status == 200
    assert one(seen).target == f"/v1/projects/{PROJECT}/locations/europe-west4/{GEN}"


def test_nothing_that_a_client_says_moves_azure(scene: Scene) -> None:
    """A18: endpoint, api_base, base_url and resource are data."""
    evil = b'{"api_base":"http://127.0.0.66","base_url":"https://evil.test","resource":"evil",'
    body = evil + BODY[1:]
    path = "/openai/deployments/d/chat/completions"
    heard, seen = scene.run(
        ask(
            f"/azure_passthrough{path}?endpoint=http://{{EV}}&api-version=1",
            "azure-endpoint: https://{EV}",
            body=body,
        )
    )
    assert heard.status == 200
    assert (
        one(seen).target
        == scene.fill(f"{path}?endpoint=http://{{EV}}&api-version=1".encode()).decode()
    )
    assert one(seen).body == body
    assert named(one(seen), "api-key") == [KEYS["azure"]]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(scene: Scene, status: int) -> None:
    """A20: it goes to the client, without a key in it."""
    scene.answer = (
        f"HTTP/1.1 {status} Moved\r\nLocation: https://{scene.evil.name}/steal\r\n"
        f"X-Echo: {CANNED_KEY}\r\nContent-Length: 0\r\n\r\n"
    ).encode()
    received = len(scene.canned.received)
    heard, _ = scene.run(ask("/canned/v1/x"))
    assert heard.status == status
    assert CANNED_KEY.encode() not in heard.data
    assert len(scene.canned.received) == received + 1
    assert heard.header("location") in (None, f"https://{scene.evil.name}/steal")


def test_a_redirect_on_the_provider_comes_back_through_the_route(scene: Scene) -> None:
    """A20: a client that follows it stays with the gateway."""
    scene.answer = (
        f"HTTP/1.1 307 Moved\r\nLocation: http://{scene.canned.name}/v1/y?a=1\r\n"
        "Content-Length: 0\r\n\r\n"
    ).encode()
    heard, _ = scene.run(ask("/canned/v1/x"))
    assert heard.header("location") == f"http://127.0.0.1:{scene.gateway.port}/canned/v1/y?a=1"


def test_an_upload_url_comes_back_through_the_route_and_works(scene: Scene) -> None:
    """A21: and holds no key."""
    body = b'{"file":{"displayName":"x"}}'
    heard, seen = scene.run(
        ask(
            "/genai_passthrough/upload/v1beta/files",
            "X-Goog-Upload-Protocol: resumable",
            "X-Goog-Upload-Command: start",
            "X-Goog-Upload-Header-Content-Length: 4",
            "X-Goog-Upload-Header-Content-Type: text/plain",
            body=body,
        )
    )
    assert heard.status == 200, heard.data
    url = heard.header("x-goog-upload-url")
    base = f"http://127.0.0.1:{scene.gateway.port}"
    assert url is not None
    assert url.startswith(f"{base}/genai_passthrough/upload/v1beta/files?")
    assert named(one(seen), "x-goog-api-key") == [KEYS["gemini"]]
    heard, seen = scene.run(
        ask(
            url.removeprefix(base),
            "X-Goog-Upload-Command: upload, finalize",
            "X-Goog-Upload-Offset: 0",
            body=b"data",
            auth=False,
        )
    )
    assert heard.status == 200, heard.data
    assert one(seen).body == b"data"


@pytest.mark.parametrize("header", ["X-Goog-Upload-URL", "X-Goog-Upload-Control-URL"])
def test_an_upload_url_on_another_host_is_dropped(scene: Scene, header: str) -> None:
    """A21: a client would send his file there."""
    scene.answer = (
        f"HTTP/1.1 200 OK\r\n{header}: http://{scene.evil.name}/upload?upload_id=1\r\n"
        "Content-Length: 0\r\n\r\n"
    ).encode()
    heard, _ = scene.run(ask("/canned/upload/v1beta/files"))
    assert heard.status == 200
    assert heard.header(header) is None


def test_a_google_token_chooses_vertex_and_goes_nowhere(scene: Scene) -> None:
    """A22: the client's OAuth token is never forwarded."""
    token = f"ya29.{CLIENT_KEY}"
    heard, seen = scene.run(
        ask(
            "/genai_passthrough/v1/models/gemini-x:generateContent",
            f"Authorization: Bearer {token}",
            auth=False,
        )
    )
    assert heard.status == 200, heard.data
    assert named(one(seen), "authorization") == [f"Bearer {KEYS['vertex']}"]
    place = f"/v1/projects/{PROJECT}/locations/us-central1"
    assert one(seen).target == f"{place}/publishers/google/models/gemini-x:generateContent"


@pytest.mark.parametrize(
    ("path", "signed"),
    [
        pytest.param(CHAT, ("Authorization", f"Bearer {KEYS['openai']}"), id="A23-openai"),
        pytest.param(
            "/anthropic_passthrough/v1/messages",
            ("x-api-key", KEYS["anthropic"]),
            id="A23-anthropic",
        ),
        pytest.param(
            "/azure_passthrough/openai/v1/chat/completions",
            ("api-key", KEYS["azure"]),
            id="A23-azure",
        ),
        pytest.param(
            "/genai_passthrough/v1beta/models/m:generateContent",
            ("x-goog-api-key", KEYS["gemini"]),
            id="A23-gemini",
        ),
        pytest.param(
            f"/genai_passthrough/v1/projects/p/locations/us-east1/{GEN}",
            ("Authorization", f"Bearer {KEYS['vertex']}"),
            id="A23-vertex",
        ),
    ],
)
def test_of_many_credentials_none_is_left_and_ours_is_the_only_one(
    scene: Scene, path: str, signed: tuple[str, str]
) -> None:
    """A23: every spelling, every place, and twice."""
    names = (
        "Authorization", "AUTHORIZATION", "Proxy-Authorization", "X_Api_Key", "x-api-key",
        "X-API-KEY", "api-key", "Api_Key", "x-goog-api-key", "X-Goog_Api-Key", "Cookie",
        "Ocp-Apim-Subscription-Key",
    )  # fmt: skip
    query = "&".join(
        f"{name}={CLIENT_KEY}"
        for name in (
            "key",
            "KEY",
            "api_key",
            "Api-Key",
            "access_token",
            "subscription-key",
            "k%65y",
        )
    )
    heard, seen = scene.run(
        ask(f"{path}?{query}&a=1&&a=2", *(f"{name}: {CLIENT_KEY}" for name in names))
    )
    assert heard.status == 200, heard.data
    assert one(seen).target.endswith("?a=1&&a=2")
    credentials = [
        pair for pair in one(seen).headers if KEYS.keys() and pair[0].lower() in CREDENTIALS
    ]
    assert credentials == [signed]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("OpenAI-Organization", False),
        ("OpenAI-Project", False),
        ("openai_organization", False),
        ("x-goog-user-project", False),
        ("anthropic-beta", True),
        ("OpenAI-Beta", True),
        ("x-stainless-lang", True),
    ],
)
def test_headers_of_the_clients_account_stop_here(scene: Scene, name: str, kept: bool) -> None:
    """A26: those that bill somebody are removed, all others go on."""
    heard, seen = scene.run(ask(CHAT, f"{name}: evil"))
    assert heard.status == 200
    assert named(one(seen), name) == (["evil"] if kept else [])


def test_two_requests_on_one_connection_get_each_its_own_key(scene: Scene) -> None:
    """A28: decided per request, never per connection; the providers are at two addresses."""
    asks = (
        ask(CHAT, "Connection: keep-alive"),
        ask("/anthropic_passthrough/v1/messages", "Connection: keep-alive"),
        ask(CHAT, "Connection: keep-alive"),
        ask("/genai_passthrough/v1beta/models/m:generateContent"),
    )
    heard, seen = scene.run(b"".join(asks), records=4, answers=4)
    assert heard.statuses == [200] * 4
    got = sorted((found(KEYS.values(), each.head), each in scene.second.seen) for each in seen)
    assert got == [
        ([KEYS["anthropic"]], True),
        ([KEYS["gemini"]], False),
        ([KEYS["openai"]], False),
        ([KEYS["openai"]], False),
    ]


def test_a_key_that_would_break_a_header_stops_the_start(tmp_path: Path) -> None:
    """A25: with exit code 2 and a line a key, and no value is printed."""
    bad = (
        "sk-BAD\r\nX-Evil: 1",
        "sk-BAD\n",
        "sk-BAD key",
        "sk-BAD\u00e9",
        "sk-BAD\x00",
        "\x7fsk-BAD",
    )
    config = config_for("http://127.0.0.1:9")
    keys = [{"name": f"key-{number}", "value": value} for number, value in enumerate(bad)]
    config["providers"]["openai"]["keys"] = keys
    gateway = Gateway(tmp_path, config, wait=False)
    assert gateway.process.wait(30) == 2, gateway.output
    for number in range(len(bad)):
        assert f"providers.openai.keys[{number}].value" in gateway.output
    for never in ("BAD", "X-Evil", "Traceback"):
        assert never not in gateway.output


# -- B: parsing ------------------------------------------------------------------------------------


def framed(*headers: str, body: bytes = b"", method: str = "POST") -> bytes:
    """A request to a chat whose framing is the case's own."""
    lines = [f"{method} {CHAT} HTTP/1.1", "Host: {GW}", f"Authorization: Bearer {CLIENT_KEY}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + body


TE = "Transfer-Encoding"
CHUNKED = b"%x;a=b\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
LENGTHS = {
    "twice": ("Content-Length: 2", "Content-Length: 2"),
    "two-values": ("Content-Length: 0", "Content-Length: 2"),
    "list": ("Content-Length: 2, 2",),
    "plus": ("Content-Length: +2",),
    "hex": ("Content-Length: 0x2",),
    "minus": ("Content-Length: -1",),
    "empty": ("Content-Length:",),
    "long": (f"Content-Length: {'1' * 5000}",),
}
CODINGS = {
    "unknown": (f"{TE}: xchunked",),
    "list": (f"{TE}: chunked, identity",),
    "twice": (f"{TE}: chunked", f"{TE}: chunked"),
    "identity": (f"{TE}: identity",),
    "space-before-colon": (f"{TE} : chunked",),
}
PARSING = [
    pytest.param(
        Case(
            framed("Content-Length: 6", f"{TE}: chunked", body=b"0\r\n\r\nX"), (400,), records=None
        ),
        id="B01-length-and-chunked",
    ),
    pytest.param(
        Case(
            framed(f"{TE}: chunked", "Content-Length: 4", body=b"5c\r\nGPOST / HTTP/1.1\r\n\r\n"),
            (400,),
            records=None,
        ),
        id="B02-chunked-and-length",
    ),
    *(
        pytest.param(Case(framed(*lines, body=b"{}"), (400,), records=None), id=f"B03-{name}")
        for name, lines in LENGTHS.items()
    ),
    *(
        pytest.param(
            Case(framed(*lines, body=b"2\r\n{}\r\n0\r\n\r\n"), (400,), records=None),
            id=f"B04-{name}",
        )
        for name, lines in CODINGS.items()
    ),
    pytest.param(
        Case(
            framed(f"{TE}: chunked", body=CHUNKED).replace(b"HTTP/1.1", b"HTTP/1.0"),
            (400,),
            records=None,
        ),
        id="B04-http-1.0",
    ),
    pytest.param(
        Case(framed(f"{TE}:\r\n chunked", body=b"2\r\n{}\r\n0\r\n\r\n"), (400,), records=None),
        id="B06-folded",
    ),
    pytest.param(
        Case(
            framed(f"{TE}: chunked", "Connection: close", body=CHUNKED),
            (200,),
            "/v1/chat/completions",
        ),
        id="B11-chunk-extension",
    ),
    *(
        pytest.param(
            Case(framed(f"{TE}: chunked", body=body), (400, None), records=None), id=f"B11-{name}"
        )
        for name, body in {
            "bare-line-feed": b"2;\nxx\r\n0\r\n\r\n",
            "hex-prefix": b"0x2\r\n{}\r\n0\r\n\r\n",
            "minus": b"-2\r\n{}\r\n0\r\n\r\n",
            "too-short": b"1\r\n{}\r\n0\r\n\r\n",
        }.items()
    ),
    pytest.param(
        Case(ask(CHAT, "Connection: close, Upgrade, HTTP2-Settings", "Upgrade: h2c",
                 "HTTP2-Settings: AAMAAABkAAQAAP__"), (200,), "/v1/chat/completions"),
        id="B17-h2c",
    ),
    pytest.param(
        Case(ask(CHAT, "Connection: close, Upgrade", "Upgrade: H2C, foo"), (200,),
             "/v1/chat/completions"),
        id="B17-h2c-in-a-list",
    ),
    pytest.param(
        Case(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, None), records=None), id="B17-preface"
    ),
    pytest.param(
        Case(ask(CHAT, "Expect: 200-ok"), (200, 417), "/v1/chat/completions"), id="B18-unknown"
    ),
    pytest.param(
        Case(ask("http://{PR}/v1/models", version="HTTP/1.0", host=None), (403,)),
        id="B19-absolute-form-without-host",
    ),
    pytest.param(
        Case(ask(CHAT, version="HTTP/9.9"), (400, 505), records=None), id="B19-unknown-version"
    ),
    pytest.param(
        Case(b"GET " + CHAT.encode() + b"\r\n\r\n", (400,), records=None), id="B19-no-version"
    ),
    pytest.param(Case(ask(CHAT, method="TRACE"), (405,)), id="B24-trace"),
    pytest.param(Case(ask(CHAT, method="connect"), (400, 403, 405), records=None), id="B24-case"),
    pytest.param(Case(ask(CHAT, method="post"), (405,)), id="B24-lower-case"),
    pytest.param(Case(ask(CHAT, method="M" * 5000), (405, 400), records=None), id="B24-long"),
    pytest.param(
        Case(ask("/openai_passthrough/v1/files/f", method="DELETE"), (404,), "/v1/files/f"),
        id="B24-delete-is-allowed",
    ),
    pytest.param(
        Case(
            ask(CHAT, "Proxy-Connection: keep-alive", "TE: trailers", "Keep-Alive: timeout=5",
                f"Proxy-Authorization: Basic {CLIENT_KEY}", "Trailer: X-A"),
            (200,),
            "/v1/chat/completions",
        ),
        id="B25-hop-by-hop",
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", PARSING)
def test_what_can_be_read_in_two_ways_is_refused_or_made_plain(scene: Scene, case: Case) -> None:
    check(scene, case)


@pytest.mark.parametrize("value", ["b\x00c", "\x7f", "\x1b[31m", "a\rb", "\x01"])
def test_a_control_character_in_a_value_is_refused(scene: Scene, value: str) -> None:
    """B09."""
    check(scene, Case(ask(CHAT, f"X-A: {value}"), (400,), records=None))


def test_a_vertical_tab_before_a_coding_is_refused_or_made_plain(scene: Scene) -> None:
    """B05."""
    data = framed(f"{TE}: \x0bchunked", "Connection: close", body=CHUNKED)
    heard, seen = scene.run(data, records=None)
    assert heard.status in (200, 400)
    for each in seen:
        assert named(each, TE) in ([], ["chunked"])
        assert each.body == BODY


def test_a_request_with_bare_line_feeds_is_sent_with_proper_ends(scene: Scene) -> None:
    """B10: or refused."""
    heard, seen = scene.run(ask(CHAT).replace(b"\r\n", b"\n"), records=None)
    assert heard.status in (200, 400)
    for each in seen:
        assert b"\n" not in each.head.replace(b"\r\n", b"")


@pytest.mark.parametrize("breaks", [b"\r\n", b"\r\n\r\n"])
def test_empty_lines_before_a_request_do_not_hang(scene: Scene, breaks: bytes) -> None:
    """B14: served or refused (RFC 9112 2.2)."""
    heard, _ = scene.run(breaks + ask(CHAT), records=None)
    assert heard.status in (200, 400)


def test_of_two_pipelined_requests_each_is_judged(scene: Scene) -> None:
    """B15: the second names a metadata service."""
    first = ask(CHAT, "Connection: keep-alive")
    second = get("http://169.254.169.254/latest/meta-data/", host="169.254.169.254")
    heard, seen = scene.run(first + second, records=2, answers=2)
    assert heard.statuses == [200, 403]
    assert one(seen).target == "/v1/chat/completions"


@pytest.mark.parametrize(
    ("target", "invited"),
    [
        pytest.param(CHAT, True, id="B18-served"),
        pytest.param("/nowhere/x", False, id="B18-no-route"),
    ],
)
def test_only_who_is_served_is_invited_to_send_a_body(
    scene: Scene, target: str, invited: bool
) -> None:
    data = ask(target, "Expect: 100-continue").removesuffix(BODY)
    scene.oracles.mark()
    heard = talk(scene.gateway.port, scene.fill(data), BODY)
    scene.oracles.check(heard.data, 1)
    assert (b"HTTP/1.1 100 " in heard.data) is invited
    assert heard.status == (200 if invited else 404)
    assert len(scene.oracles.new()) == invited


# -- C, D: tunnels, relaying -----------------------------------------------------------------------


def connect(target: str, host: str | None = None, then: bytes = b"") -> bytes:
    lines = f"CONNECT {target} HTTP/1.1\r\nHost: {host or target}\r\n"
    return f"{lines}Proxy-Authorization: Basic {CLIENT_KEY}\r\n\r\n".encode() + then


RELAYING = [
    pytest.param(Case(get("http://{PR}/v1/models", host="{PR}"), (403,)), id="C07-in-clear"),
    *(
        pytest.param(Case(connect(f"{{PR}}:{port}"), (403,)), id=f"C08-port-{port}")
        for port in (22, 80, 8443)
    ),
    pytest.param(Case(connect("{EV}", then=b"\x00\x01\x02garbage\xff"), (403,)), id="C09-garbage"),
    pytest.param(Case(connect("{EV}", then=b"SSH-2.0-x\r\n"), (403,)), id="C09-ssh"),
    pytest.param(
        Case(connect("{EV}", then=connect("{PR}:443")), (403,)), id="C11-after-one-refused"
    ),
    pytest.param(Case(connect("{PR}"), (400,), records=None), id="C11-without-a-port"),
    pytest.param(
        Case(connect("{EV}", then=ask(CHAT, host="{EV}")), (403,), records=2),
        id="C15-our-path-in-a-tunnel",
    ),
    *(
        pytest.param(Case(get(f"http://{host}{path}", host=host), (403,)), id=f"D01-{host}")
        for host, path in {
            "169.254.169.254": "/latest/meta-data/",
            "metadata.google.internal": "/",
            "[fd00:ec2::254]": "/latest/",
        }.items()
    ),
    pytest.param(
        Case(get("http://example.invalid/", host="example.invalid"), (403,)), id="D04-get"
    ),
    pytest.param(Case(connect("example.invalid:443"), (403,)), id="D04-connect"),
    pytest.param(Case(get("/", host="mitm.it"), (404, 421)), id="D07-onboarding"),
    pytest.param(Case(get("/cert/pem", host="mitm.it"), (404, 421)), id="D07-certificate"),
    pytest.param(Case(get("http://mitm.it/", host="mitm.it"), (403, 404)), id="D07-absolute"),
]


@pytest.mark.parametrize("case", RELAYING)
def test_it_is_no_relay(scene: Scene, case: Case) -> None:
    check(scene, case)


def test_after_a_refused_connect_nothing_is_relayed(scene: Scene) -> None:
    """C09: the bytes that follow are no tunnel's."""
    connections = scene.evil.connections
    scene.oracles.mark()
    heard = talk(scene.gateway.port, scene.fill(connect("{EV}")), b"SSH-2.0-x\r\n")
    scene.oracles.check(heard.data)
    assert heard.status == 403
    assert scene.evil.connections == connections


def test_mitmwebs_own_port_is_not_reached_through_the_gateway(scene: Scene, tmp_path: Path) -> None:
    """D03: any other port of this machine is one of those that are refused."""
    other = Listener()
    for data in (get(f"http://{other.name}/flows", host=other.name), connect(other.name)):
        heard, _ = scene.run(data)
        assert heard.status in (403, 404)
    assert other.connections == 0
    other.stop()


def test_a_provider_at_the_gateways_own_address_stops_the_start(tmp_path: Path) -> None:
    """D06: every request would go round in a circle."""
    port = free_port()
    config = config_for(f"http://127.0.0.1:{port}")
    gateway = Gateway(tmp_path, config, port=port, wait=False)
    assert gateway.process.wait(30) == 2
    assert "providers.openai.network_config.base_url" in gateway.output
    assert "own address" in gateway.output


# -- E: browsers -----------------------------------------------------------------------------------

EVIL = "Origin: https://evil.test"
BROWSERS = [
    pytest.param(
        Case(
            ask(CHAT, EVIL, "Sec-Fetch-Site: cross-site", "Content-Type: text/plain"),
            (403,),
        ),
        id="E01-cross-site-post",
    ),
    pytest.param(Case(ask(CHAT, EVIL, "Content-Type: text/plain"), (403,)), id="E02-no-sec-fetch"),
    pytest.param(Case(ask(CHAT, "Origin: null"), (403,)), id="E02-origin-null"),
    pytest.param(
        Case(ask(CHAT, "Origin: http://localhost:3000"), (403,)), id="E02-another-port-of-ours"
    ),
    pytest.param(Case(ask(CHAT, "Referer: https://evil.test/x"), (403,)), id="E02-referer"),
    pytest.param(Case(ask(CHAT, "Sec-Fetch-Site: same-site"), (403,)), id="E01-same-site"),
    pytest.param(
        Case(ask("http://{GW}" + CHAT, "Origin: http://evil.test", host="evil.test"), (403, 421)),
        id="E02-absolute-form-with-the-pages-own-host",
    ),
    *(
        pytest.param(
            Case(ask(CHAT, origin, "Access-Control-Request-Method: POST",
                     "Access-Control-Request-Private-Network: true", method="OPTIONS", body=b""),
                 (403, 204)),
            id=f"E04-preflight-{name}",
        )
        for name, origin in {"foreign": EVIL, "ours": "Origin: http://{GW}"}.items()
    ),
    *(
        pytest.param(Case(ask(CHAT, host=host), (421,)), id=f"E07-{host}")
        for host in (
            "evil.test",
            "evil.test:{PORT}",
            "localhost.evil.test",
            "127.0.0.1.evil.test",
            "2130706433",
            "0.0.0.0",
            "127.0.0.66",
        )
    ),
    pytest.param(
        Case(get("/openai_passthrough/v1/models", "Sec-Fetch-Dest: image",
                 "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Site: cross-site"), (403,)),
        id="E08-image",
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", BROWSERS)
def test_a_web_page_cannot_spend_a_key(scene: Scene, case: Case) -> None:
    port = str(scene.gateway.port).encode()
    check(scene, dataclasses.replace(case, data=case.data.replace(b"{PORT}", port)))


def test_a_refused_web_page_is_told_nothing_that_lets_it_read(scene: Scene) -> None:
    """E04: no Access-Control-* header of ours, ever."""
    heard, _ = scene.run(ask(CHAT, EVIL))
    assert b"access-control-" not in heard.data.lower()


def test_a_cross_site_post_is_refused_before_its_body(scene: Scene) -> None:
    """E01: the body never comes, the answer does."""
    data = ask(CHAT, EVIL, body=b"").replace(b"Content-Length: 0", b"Content-Length: 50")
    heard, seen = scene.run(data, records=None)
    assert heard.status == 403
    assert not seen


def test_what_a_provider_says_to_browsers_stops_here(scene: Scene) -> None:
    """E05."""
    scene.answer = (
        b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nSet-Cookie: a=b\r\n"
        b'Alt-Svc: h3=":443"\r\nStrict-Transport-Security: max-age=1\r\n'
        b"Access-Control-Allow-Private-Network: true\r\nX-Kept: yes\r\nContent-Length: 2\r\n\r\n{}"
    )
    heard, _ = scene.run(ask("/canned/v1/x"))
    assert heard.header("x-kept") == "yes"
    for gone in (b"access-control", b"set-cookie", b"alt-svc", b"strict-transport"):
        assert gone not in heard.data.lower()
