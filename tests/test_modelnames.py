"""The models that a request names: all of them, and what is done to hide one."""

import gzip
import json
import time
import zlib

import pytest
from llm_passthrough.modelnames import NAMELESS, Named, deciding, named, needs_none

JSON = "application/json"
FORM = "multipart/form-data; boundary=b"


def names(
    path: str = "/v1/chat/completions",
    body: object = b"",
    *,
    query: bytes | None = None,
    kind: str = JSON,
    coding: str | None = None,
    provider: str = "openai",
) -> Named:
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    return named(path.encode(), query, kind, coding, content, provider)


@pytest.mark.parametrize(
    ("found", "models"),
    [
        pytest.param(names(body={"model": "a"}), ["a"], id="in the body"),
        pytest.param(names(body={"model": "a"}, kind=""), ["a"], id="in a body of no type"),
        pytest.param(names(body={"model": "a", "x": {"model": "b"}}), ["a"], id="not further in"),
        pytest.param(names(body={"model": "a", "models": ["b", "c"]}), ["a", "b", "c"], id="more"),
        pytest.param(names("/v1/models/a"), ["a"], id="in the path"),
        pytest.param(names("/openai/deployments/a/x", {"model": "b"}), ["a", "b"], id="in both"),
        pytest.param(names("/v1/models/ft:a:b"), ["ft:a:b"], id="with colons"),
        pytest.param(
            names("/v1beta/models/a:generateContent", provider="gemini"), ["a"], id="with a method"
        ),
        pytest.param(
            names("/v1beta/%6Dodels%2Fa:generateContent", provider="gemini"), ["a"], id="escaped"
        ),
        pytest.param(names("/openai/Deployments/a/x"), ["a"], id="a path in capitals"),
        pytest.param(
            names("/models/chat/completions", {"model": "a"}, provider="azure"), ["a"], id="Azure"
        ),
        pytest.param(names("/v1/realtime", query=b"model=a"), ["a"], id="in the query"),
        pytest.param(
            names("/openai/realtime", query=b"x=&mod%65l=a&Deployment=b+c"), ["a", "b c"],
            id="in the query, twice",
        ),
    ],
)  # fmt: skip
def test_a_model_is_found_wherever_it_is_named(found: Named, models: list[str]) -> None:
    assert found == Named(tuple(models))


@pytest.mark.parametrize(
    ("body", "models"),
    [
        pytest.param(b'{"model":"a","model":"b"}', ["a", "b"], id="a name twice"),
        pytest.param(b'{"model" :"b","x":1,"model":"a"}', ["b", "a"], id="in another order"),
        pytest.param(b'{"mod\\u0065l":"b","model":"a"}', ["b", "a"], id="with an escape in it"),
        pytest.param(b'{"model":"a","Model":"b"}', ["a", "b"], id="in capitals"),
        pytest.param(b'{"model":"a\\u0062"}', ["ab"], id="an escape in the value"),
        pytest.param(b'{"contents":[{"role":"model"}],"model":"a"}', ["a"], id="a role"),
        pytest.param(
            b'{"tools":[{"model":1},{"model":2}],"model":"a","model":"b"}', ["a", "b"], id="deeper"
        ),
    ],
)
def test_no_second_name_hides_the_first(body: bytes, models: list[str]) -> None:
    assert names(body=body) == Named(tuple(models))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        pytest.param({}, "names no model", id="none"),
        pytest.param(b"", "names no model", id="no body"),
        pytest.param([{"model": "a"}], "names no model", id="a list"),
        pytest.param(b'[{"model":"a"},{"model":"b"}]', "names no model", id="a list of two"),
        pytest.param(b'{"model":"a"}{"model":"b"}', "as JSON", id="two documents"),
        pytest.param(b"\xff\xfe{\0}\0", "names no model", id="UTF-16"),
        pytest.param({"model": None}, "no plain name", id="null"),
        pytest.param({"model": {"id": "a"}}, "no plain name", id="an object"),
        pytest.param({"model": ""}, "no plain name", id="an empty name"),
        pytest.param({"model": "a" * 257}, "no plain name", id="a very long name"),
        pytest.param({"models": ["a", 1]}, "no plain name", id="a list with a number"),
        pytest.param(b'{"model":' * 2 + b"[" * 100_000, "as JSON", id="far too deep"),
        pytest.param(None, "too long", id="a body that still streams"),
    ],
)
def test_what_is_not_known_is_said_to_be_unknown(body: object, why: str) -> None:
    found = names(body=body)
    assert found.unknown is not None
    assert why in found.unknown
    assert found.names == ()


def test_what_the_path_names_is_enough_while_a_body_streams() -> None:
    assert names("/openai/deployments/a/x", None) == Named(("a",))


def form(*parts: tuple[bytes, bytes]) -> bytes:
    out = b"".join(b"--b\r\n%s\r\n\r\n%s\r\n" % part for part in parts)
    return out + b"--b--\r\n"


FILE = (b'Content-Disposition: form-data; name="file"; filename="a"\r\nContent-Type: x/y', b"data")
A = (b'Content-Disposition: form-data; name="model"', b"a")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(form(FILE, A), Named(("a",)), id="a part"),
        pytest.param(
            form((A[0] + b"\r\nContent-Type: text/plain", b"a")), Named(("a",)), id="with a type"
        ),
        pytest.param(
            form((b"Content-Disposition: form-data; name=model", b"a")), Named(("a",)), id="bare"
        ),
        pytest.param(form(A).replace(b"\r\n", b"\n"), Named(("a",)), id="with line feeds"),
        pytest.param(form(FILE), Named((), "it names no model"), id="none"),
        pytest.param(
            form((A[0], b"a" * 300)), Named((), "it names no model"), id="a very long one"
        ),
        pytest.param(
            form((A[0].replace(b"model", b"mymodel"), b"a")),
            Named((), "it names no model"),
            id="another field",
        ),
        *(
            pytest.param(
                form(A, FILE, (head, b"b")), Named((), "it names its model more than once"), id=name
            )
            for name, head in {
                "twice": A[0],
                "twice, once bare": b"Content-Disposition: form-data; name=model",
                "twice, in capitals": b'content-disposition: form-data; NAME = "Model"',
                "twice, with a file": A[0] + b'; filename="x"',
            }.items()
        ),
    ],
)
def test_a_form_names_its_model_in_one_part(body: bytes, expected: Named) -> None:
    assert names("/v1/audio/transcriptions", body, kind=FORM) == expected


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"content-disposition:" * 50_000, id="one endless line"),
        pytest.param(b'content-disposition:;name="model"\r\n' * 30_000, id="endless headers"),
        pytest.param(b'name="model"' * 80_000, id="nothing but the name"),
        pytest.param(b"\r\n" * 500_000, id="nothing but line breaks"),
    ],
)
def test_no_form_keeps_the_search_for_its_model_busy(body: bytes) -> None:
    begun = time.process_time()
    assert names("/v1/x", body, kind=FORM).names == ()
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    ("body", "coding", "expected"),
    [
        pytest.param(gzip.compress(b'{"model":"a"}'), "gzip", Named(("a",)), id="gzip"),
        pytest.param(b'{"model":"a"}', "identity", Named(("a",)), id="identity"),
        pytest.param(
            b'{"model":"a"}', "gzip", Named((), "it names no model"), id="a lie"
        ),
        pytest.param(
            b'{"model":"a"}', "own", Named((), "its content coding cannot be undone"), id="unknown"
        ),
        pytest.param(
            zlib.compress(b'{"model":"a","x":"' + b"0" * (8 << 20)), "deflate",
            Named((), "its content coding cannot be undone"), id="a bomb",
        ),
    ],
)  # fmt: skip
def test_a_compressed_body_is_read_too(body: bytes, coding: str, expected: Named) -> None:
    assert names(body=body, coding=coding) == expected


@pytest.mark.parametrize(
    ("method", "path", "upgrade", "none"),
    [
        pytest.param("GET", "/v1/models", False, True, id="a list"),
        pytest.param("DELETE", "/v1/files/1", False, True, id="a removal"),
        pytest.param("POST", "/v1/files", False, True, id="a file"),
        pytest.param("POST", "/upload/v1beta/files", False, True, id="an upload"),
        pytest.param("POST", "/v1/chat/completions", False, False, id="a call"),
        pytest.param("POST", "/v1/batches", False, False, id="a batch, whose file names models"),
        pytest.param("POST", "/v1/new", False, False, id="what nobody knows"),
        pytest.param("GET", "/v1/realtime", True, False, id="a WebSocket"),
    ],
)
def test_only_what_runs_no_model_need_not_name_one(
    method: str, path: str, upgrade: bool, none: bool
) -> None:
    assert needs_none(method, path.encode(), upgrade) is none


@pytest.mark.parametrize(
    ("path", "body", "wanted"),
    [
        pytest.param("/v1/x", b'{"model":"a"}', Named(("a",)), id="the body's"),
        pytest.param("/v1/x", b'{"model":"a","model":"b"}', Named(("a", "b")), id="each of them"),
        pytest.param("/v1/models/a", b'{"model":"b"}', Named(("a",)), id="the path's before it"),
        pytest.param("/v1/%6Dodels/a", b"", Named(("a",)), id="an escaped path"),
        pytest.param("/v1/x", b"{}", NAMELESS, id="none"),
        pytest.param("/v1/x", b"", NAMELESS, id="no body"),
        pytest.param("/v1/models/a", None, Named(("a",)), id="a body that still streams"),
    ],
)
def test_a_key_is_chosen_for_what_the_provider_will_take(
    path: str, body: bytes | None, wanted: Named
) -> None:
    assert deciding(path.encode(), None, JSON, None, body, "openai") == wanted


def test_a_key_is_not_chosen_by_what_cannot_be_read() -> None:
    found = deciding(b"/v1/x", None, JSON, "own", b'{"model":"a"}', "openai")
    assert found.unknown == "its content coding cannot be undone"
