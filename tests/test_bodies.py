"""Bodies made readable: decompressed within bounds, as text or base64, and their model."""

import base64
import gzip
import json
import time
import tracemalloc
import zlib
from collections.abc import Callable

import brotli
import pytest
from llm_passthrough.bodies import decoded, readable, top_level, zstd

TEXT = b'{"model": "m", "text": "' + b"hello " * 50 + b'"}'


def deflated_raw(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        pytest.param(None, bytes, id="none"),
        pytest.param("", bytes, id="empty"),
        pytest.param("identity", bytes, id="identity"),
        pytest.param("gzip", gzip.compress, id="gzip"),
        pytest.param(" GZip ", gzip.compress, id="gzip in another spelling"),
        pytest.param("x-gzip", gzip.compress, id="x-gzip"),
        pytest.param("deflate", zlib.compress, id="deflate"),
        pytest.param("deflate", deflated_raw, id="deflate without its wrapper"),
        pytest.param("br", brotli.compress, id="brotli"),
        pytest.param("zstd", zstd.compress, id="zstd"),
        pytest.param("identity, gzip", gzip.compress, id="gzip and nothing"),
        pytest.param("gzip, br", lambda data: brotli.compress(gzip.compress(data)), id="two"),
        pytest.param(
            "gzip",
            lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:]),
            id="gzip in two members",
        ),
        pytest.param(
            "zstd",
            lambda data: zstd.compress(data[:9]) + zstd.compress(data[9:]),
            id="zstd in two frames",
        ),
        pytest.param("gzip", lambda data: gzip.compress(data) + b"\0\0junk", id="junk behind it"),
    ],
)
def test_a_body_is_decoded(encoding: str | None, pack: Callable[[bytes], bytes]) -> None:
    assert decoded(pack(TEXT), encoding, 10_000) == (TEXT, False)


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        pytest.param("gzip", TEXT, id="not gzip at all"),
        pytest.param("deflate", b"\xff\xff\xff", id="not deflate at all"),
        pytest.param("br", b"not brotli at all", id="not brotli at all"),
        pytest.param("zstd", TEXT, id="not zstd at all"),
        pytest.param("rot13", TEXT, id="a name that Python knows and HTTP does not"),
        pytest.param("gzip, rot13", gzip.compress(TEXT), id="one of two is unknown"),
        pytest.param("gzip, gzip", gzip.compress(TEXT), id="the second of two fails"),
    ],
)
def test_what_cannot_be_decoded_stays_as_it_was_on_the_wire(encoding: str, data: bytes) -> None:
    assert decoded(data, encoding, 10_000) == (data, False)


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        pytest.param("gzip", gzip.compress, id="gzip"),
        pytest.param("deflate", deflated_raw, id="deflate"),
        pytest.param("br", brotli.compress, id="brotli"),
        pytest.param("zstd", zstd.compress, id="zstd"),
    ],
)
def test_a_bomb_is_cut_at_the_limit(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    bomb = pack(bytes(4 << 20))
    tracemalloc.start()
    try:
        out, cut = decoded(bomb, encoding, 1000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (out, cut) == (bytes(1000), True)
    assert peak < 1 << 20


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_bomb_of_many_small_members_is_given_up(encoding: str) -> None:
    member = gzip.compress(b"") if encoding == "gzip" else zstd.compress(b"")
    begun = time.process_time()
    assert decoded(member * ((1 << 20) // len(member)), encoding, 1000) == (b"", False)
    assert time.process_time() - begun < 5


def test_a_body_that_was_cut_is_decoded_as_far_as_it_goes() -> None:
    packed = gzip.compress(TEXT)
    out, _ = decoded(packed[:-12], "gzip", 10_000)
    assert TEXT.startswith(out)
    assert out


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"", ("", "utf-8"), id="empty"),
        pytest.param("grüß 🙂".encode(), ("grüß 🙂", "utf-8"), id="UTF-8"),
        pytest.param("grü".encode()[:-1], ("gr", "utf-8"), id="cut inside a character"),
        pytest.param(b"a\xffb", (base64.b64encode(b"a\xffb").decode(), "base64"), id="no UTF-8"),
        pytest.param(b"a\0b", (base64.b64encode(b"a\0b").decode(), "base64"), id="a NUL"),
        pytest.param(
            b"\xed\xa0\x80", (base64.b64encode(b"\xed\xa0\x80").decode(), "base64"), id="surrogate"
        ),
    ],
)
def test_bytes_become_text_or_base64(data: bytes, expected: tuple[str, str]) -> None:
    assert readable(data) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b"[" * 200_000, {}, id="deep arrays"),
        pytest.param(b'{"a":' * 100_000, {}, id="deep objects"),
        pytest.param(b'{"n":' + b"9" * 5000 + b"}", {}, id="a number of 5000 digits"),
        pytest.param(b'{"model":"\\ud800"}', {}, id="half a surrogate pair"),
        pytest.param(b'\xef\xbb\xbf{"a":1}', {}, id="a byte order mark"),
        pytest.param(b'{"a":"\xff"}', {}, id="no UTF-8"),
        pytest.param(b"", {}, id="empty"),
        pytest.param(b"null", {}, id="null"),
        pytest.param(b'{"a":1,"b":[2,{"c"', {"a": 1, "b": [2, {}]}, id="as much as is there"),
        pytest.param(
            b'{"big":1180591620717411303424,"z":-0,"e":1e400}',
            {"big": 2**70, "z": 0, "e": float("inf")},
            id="odd numbers",
        ),
    ],
)
def test_the_top_level_of_anything_is_read_or_is_empty(
    body: bytes, expected: dict[str, object]
) -> None:
    assert top_level(body) == expected


def test_a_large_image_in_a_body_does_not_matter() -> None:
    body = json.dumps({"model": "m", "image": "A" * (5 << 20)}).encode()
    assert top_level(body)["model"] == "m"
