"""Resource names in a JSON body: replaced where they stand, and nothing else is touched."""

import json
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_passthrough.splice import resources

PROJECT, REGION = "key-project", "europe-west4"
THEIRS = "projects/their-project/locations/us-central1"
OURS = f"projects/{PROJECT}/locations/{REGION}"


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        pytest.param(
            f'{{"model":"{THEIRS}/publishers/google/models/m","x":1}}',
            f'{{"model":"{OURS}/publishers/google/models/m","x":1}}',
            id="model",
        ),
        pytest.param(
            f'{{"cachedContent": "{THEIRS}/cachedContents/7"}}',
            f'{{"cachedContent": "{OURS}/cachedContents/7"}}',
            id="cachedContent",
        ),
        pytest.param(
            f'{{"endpoint": "{THEIRS}/endpoints/7"}}',
            f'{{"endpoint": "{OURS}/endpoints/7"}}',
            id="endpoint",
        ),
        pytest.param(f'{{"model":"{THEIRS}"}}', f'{{"model":"{OURS}"}}', id="nothing after it"),
        pytest.param(
            f'{{"model":"{THEIRS}/a","cachedContent":"{THEIRS}/b"}}',
            f'{{"model":"{OURS}/a","cachedContent":"{OURS}/b"}}',
            id="two",
        ),
        pytest.param(
            f'{{"model":"{THEIRS}/a","model":"{THEIRS}/b"}}',
            f'{{"model":"{OURS}/a","model":"{OURS}/b"}}',
            id="duplicates: which one counts is the reader's choice",
        ),
        pytest.param(
            f' {{\r\n\t"model" :\n "{THEIRS}/a" , "x" : [ 1.0e5 ]\n}}\n',
            f' {{\r\n\t"model" :\n "{OURS}/a" , "x" : [ 1.0e5 ]\n}}\n',
            id="white space stays",
        ),
        pytest.param(
            f'{{"before":{{"a":["}}",{{"b":"\\"]"}}]}},"model":"{THEIRS}/a"}}',
            f'{{"before":{{"a":["}}",{{"b":"\\"]"}}]}},"model":"{OURS}/a"}}',
            id="brackets and quotes within strings",
        ),
        pytest.param(
            f'{{"m\\u006fdel":"{THEIRS}/a"}}',
            f'{{"m\\u006fdel":"{OURS}/a"}}',
            id="a name that is spelt with an escape",
        ),
        pytest.param(
            '{"model":"' + THEIRS.replace("/", "\\/") + '\\/a"}',
            f'{{"model":"{OURS}/a"}}',
            id="a value with escaped slashes, as PHP writes them",
        ),
        pytest.param(
            f'{{"model":"{THEIRS}/é","x":"é\\u00e9"}}',
            f'{{"model":"{OURS}/é","x":"é\\u00e9"}}',
            id="letters beyond ASCII",
        ),
        pytest.param(
            f'{{"a":null,"b":true,"c":-1.5E+3,"model":"{THEIRS}/a"}}',
            f'{{"a":null,"b":true,"c":-1.5E+3,"model":"{OURS}/a"}}',
            id="values that are no strings before it",
        ),
    ],
)
def test_a_resource_name_at_the_top_is_replaced_in_place(body: str, sent: str) -> None:
    assert resources(body.encode(), PROJECT, REGION).decode() == sent


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(f'{{"contents":[{{"model":"{THEIRS}/a"}}]}}', id="in a list"),
        pytest.param(f'{{"config":{{"cachedContent":"{THEIRS}/a"}}}}', id="in an object"),
        pytest.param(f'[{{"model":"{THEIRS}/a"}}]', id="a list at the top"),
        pytest.param(f'["model", "{THEIRS}/a"]', id="a list of strings at the top"),
        pytest.param(f'"{THEIRS}/a"', id="a string at the top"),
        pytest.param(f'{{"model":["{THEIRS}/a"]}}', id="a list as the value"),
        pytest.param(f'{{"parent":"{THEIRS}/a"}}', id="another name"),
        pytest.param(f'{{"Model":"{THEIRS}/a"}}', id="the name in another case"),
        pytest.param(f'{{"x":"model","{THEIRS}/a":"model"}}', id="a name as a value"),
        pytest.param(f'{{"model":"x {THEIRS}/a"}}', id="not at the start of the value"),
        pytest.param(f'{{"model":"{THEIRS}" "model":1', id="a comma is missing, no end"),
        pytest.param('{"model":"publishers/google/models/m"}', id="a name without a project"),
        pytest.param('{"model":"projects/p/models/m"}', id="a name without a location"),
        pytest.param('{"model":"projects//locations/l/m"}', id="an empty project"),
        pytest.param('{"model":"projects/p/q/locations/l/m"}', id="a project of two parts"),
        pytest.param(
            f'{{"model":"{OURS}\\/a","x":"\\/"}}', id="the key's own, escapes as they are"
        ),
        pytest.param(f'{{"text":"\\"model\\":\\"{THEIRS}/a\\""}}', id="JSON in a string"),
    ],
)
def test_what_is_no_resource_name_at_the_top_stays(body: str) -> None:
    sent = resources(body.encode(), PROJECT, REGION)
    if json_of(body.encode()) is not None:
        assert sent == body.encode()


def test_without_a_region_the_location_stays_the_clients() -> None:
    sent = resources(f'{{"model":"{THEIRS}/a"}}'.encode(), PROJECT, None)
    assert sent == f'{{"model":"projects/{PROJECT}/locations/us-central1/a"}}'.encode()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"not JSON, projects/", id="a text"),
        pytest.param(b"\xff\xfe projects", id="bytes"),
        pytest.param(f'{{"model":"{THEIRS}/a'.encode(), id="cut in the value"),
        pytest.param(f'{{"model":"{THEIRS}/a\\'.encode(), id="cut in an escape"),
        pytest.param(b'{"model":"projects/\xff/locations/l"}', id="no UTF-8"),
        pytest.param(f'{{"x":1}} {{"model":"{THEIRS}/a"}}'.encode(), id="a second document"),
        pytest.param(f'}}}}{{"model":"{THEIRS}/a"}}'.encode(), id="closed before it is opened"),
        pytest.param(b'{"model":"projects/\t/locations/l"}', id="a raw control character"),
        pytest.param(f'{{"model":"{THEIRS}/a"}}'.encode("utf-16"), id="UTF-16"),
    ],
)
def test_a_body_that_cannot_be_read_goes_on_as_it_is(body: bytes) -> None:
    assert resources(body, PROJECT, REGION) == body


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(b'"projects/\xed\xa0\x80/locations/l/m"', id="in the project, as bytes"),
        pytest.param(b'"projects/p/locations/\xed\xa0\x80/m"', id="in the location, as bytes"),
        pytest.param(b'"projects/p/locations/\\ud800/m\\udfff"', id="as escapes"),
    ],
)
@pytest.mark.parametrize("region", [None, REGION])
def test_half_a_surrogate_pair_does_no_harm(token: bytes, region: str | None) -> None:
    sent = resources(b'{"model":' + token + b"}", PROJECT, region)
    assert sent.startswith(b'{"model":"projects/key-project/locations/')


# -- properties ---------------------------------------------------------------------------------

PART = st.text(alphabet='abc-7.:_é"\\\n😀', min_size=1, max_size=6)
NAME = st.builds(
    "projects/{}/locations/{}{}".format, PART, PART, st.sampled_from(["", "/m", "//é"])
)
LEAF = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), NAME
)
KEY = st.text(max_size=6) | st.sampled_from(["model", "cachedContent", "endpoint", "parent"])
VALUE = st.recursive(
    LEAF, lambda part: st.lists(part, max_size=3) | st.dictionaries(KEY, part, max_size=3)
)
# An object as its pairs, so that names may come twice; and how it is written.
PAIRS = st.lists(st.tuples(KEY, VALUE), max_size=6)
GAP = st.sampled_from(["", " ", "\n\t", "\r\n  "])


def expected(pairs: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """What the pairs should say afterwards, by the plainest means."""
    result = []
    for name, value in pairs:
        parts = value.split("/", 4) if isinstance(value, str) else []
        named = len(parts) >= 4 and (parts[0], parts[2]) == ("projects", "locations")
        if name in ("model", "cachedContent", "endpoint") and named and parts[1] and parts[3]:
            value = "/".join(["projects", PROJECT, "locations", REGION, *parts[4:]])
        result.append((name, value))
    return result


def json_of(body: bytes) -> Any:
    try:
        return json.loads(body, object_pairs_hook=list)
    except ValueError:
        return None


@given(PAIRS, GAP, st.booleans(), st.booleans())
def test_only_the_values_of_resource_names_change(
    pairs: list[tuple[str, Any]], gap: str, ascii_only: bool, slashes: bool
) -> None:
    def spelt(value: object) -> str:
        written = json.dumps(value, ensure_ascii=ascii_only)
        return written.replace("/", "\\/") if slashes else written

    def written(values: list[tuple[str, Any]], spell: Callable[[int, object], str]) -> str:
        members = [
            f"{gap}{spelt(name)}{gap}:{gap}{spell(number, value)}"
            for number, (name, value) in enumerate(values)
        ]
        return "{" + f"{gap},".join(members) + gap + "}" + gap

    body = written(pairs, lambda _, value: spelt(value)).encode("utf-8", "surrogatepass")
    sent = resources(body, PROJECT, REGION)
    after = expected(pairs)
    assert json_of(sent) == json_of(json_bytes(after))

    # Byte for byte: the frame around the changed values is the client's own.
    def spell(number: int, value: object) -> str:
        return "\0" if after[number] != pairs[number] else spelt(value)

    frame = written(pairs, spell).encode("utf-8", "surrogatepass").split(b"\0")
    position = 0
    for number, part in enumerate(frame):
        found = sent.startswith(part, position) if number == 0 else sent.find(part, position) >= 0
        assert found
        position = sent.find(part, position) + len(part)
    assert position == len(sent) or frame[-1] == b""
    if len(frame) == 1:
        assert sent == body


def json_bytes(pairs: list[tuple[str, Any]]) -> bytes:
    members = [f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs]
    return ("{" + ",".join(members) + "}").encode()


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_no_body_makes_it_fail(before: bytes, after: bytes) -> None:
    for body in (before, before + THEIRS.encode() + after, b'{"model":"projects/' + after):
        assert isinstance(resources(body, PROJECT, REGION), bytes)


@given(st.text(alphabet='{}[]:,"\\ amodelprojects/tin', max_size=80))
def test_no_broken_json_makes_it_fail(text: str) -> None:
    assert isinstance(resources(f'{{"model":"{THEIRS}",{text}'.encode(), PROJECT, REGION), bytes)


@given(PAIRS, st.data())
def test_a_second_pass_finds_nothing_to_change(
    pairs: list[tuple[str, Any]], data: st.DataObject
) -> None:
    once = resources(json_bytes(pairs), PROJECT, REGION)
    assert resources(once, PROJECT, REGION) == once


# -- length -------------------------------------------------------------------------------------


def steps(body: bytes) -> tuple[int, bytes]:
    """How many lines of Python the search takes, a measure that no clock has a part in; and what it
    gives."""
    count, here = 0, threading.get_ident()

    def count_line(*_: object) -> None:
        nonlocal count
        count += threading.get_ident() == here

    # Beside a tracer, not in its place: coverage goes on measuring.
    watch = sys.monitoring
    watch.use_tool_id(watch.PROFILER_ID, "steps")
    try:
        watch.register_callback(watch.PROFILER_ID, watch.events.LINE, count_line)
        watch.set_events(watch.PROFILER_ID, watch.events.LINE)
        sent = resources(body, PROJECT, REGION)
    finally:
        watch.set_events(watch.PROFILER_ID, 0)
        watch.free_tool_id(watch.PROFILER_ID)
    return count, sent


SIZE = 1 << 20


@pytest.mark.parametrize(
    "filling",
    [
        pytest.param(b"a" * SIZE, id="plain, as base64 is"),
        pytest.param(b'\\"' * (SIZE // 2), id="escaped quotes"),
        pytest.param(b"\\\\" * (SIZE // 2), id="escaped backslashes"),
        pytest.param(b"\\/" * (SIZE // 2), id="escaped slashes"),
    ],
)
@pytest.mark.parametrize(
    "end",
    [
        pytest.param(b'"', id="that ends"),
        pytest.param(b"", id="without an end"),
        pytest.param(b"\\", id="cut in an escape"),
    ],
)
def test_a_huge_string_is_passed_in_one_step(filling: bytes, end: bytes) -> None:
    # Taken from each of its quotes anew, a megabyte would take minutes.
    head = f'{{"model":"{THEIRS}/a","data":"'.encode()
    body = head + filling + end
    lines, sent = steps(body)
    assert lines < 200
    assert sent.startswith(f'{{"model":"{OURS}/a","data":"'.encode())
