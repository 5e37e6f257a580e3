"""The configuration file: what loads, and how each fault is told with its place and its mend."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_passthrough import config
from llm_passthrough.build import build
from llm_passthrough.config import Config
from llm_passthrough.config.faults import section_of
from llm_passthrough.config.reading import document_of
from llm_passthrough.errors import ConfigError
from pydantic import BaseModel

EXAMPLE = Path(__file__).resolve().parent.parent / "gateway.example.yaml"
SECRET = "sk-SECRET-0123456789"

type Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a configuration file that its owner alone can read."""

    def write(content: str | bytes) -> Path:
        path = tmp_path / "gateway.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(0o600)
        return path

    return write


def faults(path: Path) -> list[str]:
    """The faults of a file, each without the folder of the file."""
    with pytest.raises(ConfigError) as caught:
        config.load(path, {})
    return [line.removeprefix(f"{path.parent}/") for line in caught.value.lines]


# -- what loads -------------------------------------------------------------------------------


def test_a_small_file_leaves_the_rest_at_its_defaults(write: Write) -> None:
    loaded, warnings = config.load(write("providers: {openai: {keys: [{value: env.A}]}}"), {})
    assert loaded.providers.openai.keys[0].value == "env.A"
    assert loaded.listen == Config().listen
    assert (loaded.listen.host, loaded.listen.port) == ("127.0.0.1", 8080)
    assert warnings == []


def test_without_a_file_the_usual_variables_make_the_configuration() -> None:
    loaded, warnings = config.load(None, {"OPENAI_API_KEY": SECRET})
    assert loaded.providers.openai.keys[0].value == "env.OPENAI_API_KEY"
    assert loaded.providers.anthropic.keys == ()
    assert warnings == []


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("\ufefflog: {capture: none}", id="byte order mark"),
        pytest.param("log:\r\n  capture: none\r\n", id="line ends of another system"),
        pytest.param('{"log": {"capture": "none"}}', id="JSON is YAML"),
        pytest.param("# first\n---\nlog: {capture: none}\n...\n", id="marks of a document"),
        pytest.param("x: &a {capture: none}\nlog: *a".replace("x:", "log_:"), id="anchor"),
    ],
)
def test_a_file_may_be_written_in_different_ways(write: Write, content: str) -> None:
    if "log_" in content:
        assert faults(write(content)) == ["gateway.yaml:1: log_: unknown option; did you mean log?"]
    else:
        assert config.load(write(content), {})[0].log.capture == "none"


@pytest.mark.parametrize("version", ["2024-10-21", "2025-04-01-preview", "'2024-10-21'"])
def test_a_version_that_looks_like_a_date_stays_text(write: Write, version: str) -> None:
    keys = f"keys: [{{value: env.A, azure_key_config: {{api_version: {version}}}}}]"
    loaded = config.load(write(f"providers: {{azure: {{{keys}}}}}"), {})[0]
    azure = loaded.providers.azure.keys[0].azure_key_config
    assert azure is not None
    assert azure.api_version == version.strip("'")


def test_a_few_aliases_are_fine(write: Write) -> None:
    text = "timeouts: {connect: &t 5, first_byte: *t, idle: *t}"
    timeouts = config.load(write(text), {})[0].timeouts
    assert (timeouts.connect, timeouts.first_byte, timeouts.idle) == (5, 5, 5)


# -- faults: one line each, with file:line, place and mend ------------------------------------


def key(option: str) -> str:
    return f"providers:\n  openai:\n    keys:\n      - value: env.A\n        {option}\n"


KEY = "gateway.yaml:5: providers.openai.keys[0]"
ROUTE = "routes:\n  - prefix: /a\n    upstream: https://a\n    "


@pytest.mark.parametrize(
    ("content", "line"),
    [
        pytest.param("lisen: {}", ":1: lisen: unknown option; did you mean listen?", id="part"),
        pytest.param("log:\n  pth: x", ":2: log.pth: unknown option; did you mean path?", id="log"),
        pytest.param("log:\n  q9: x", ":2: log: unknown option, not shown", id="no name"),
        pytest.param("log:\n  zzz: x", ":2: log.zzz: unknown option", id="nothing is near"),
        pytest.param(
            "providers:\n  opnai: {}",
            ":2: providers.opnai: unknown option; did you mean openai?",
            id="provider",
        ),
        pytest.param(
            ROUTE + "keys: [{vlue: x}]",
            ":4: routes[0].keys[0].vlue: unknown option; did you mean value?",
            id="option in a list in a list",
        ),
        pytest.param(
            "providers: {vertex: {keys: [{vertex_key_config: {regin: x}}]}}",
            ":1: providers.vertex.keys[0].vertex_key_config.regin: unknown option; "
            "did you mean region?",
            id="option of an optional part",
        ),
        pytest.param(
            "log: {path: {a: b}}", ":1: log.path: must be text; put it in quotes", id="no text"
        ),
        pytest.param("log:", ":1: log: is empty; give it a value, or remove it", id="empty part"),
        pytest.param("log:\n  path:", ":2: log.path: is empty;", id="empty option"),
        pytest.param("log: [a]", ":1: log: must be a mapping of options", id="list for a part"),
        pytest.param("routes: {a: b}", ":1: routes: must be a list", id="mapping for a list"),
        pytest.param("routes: [a]", ":1: routes[0]: must be a mapping of options", id="entry"),
        pytest.param("listen: {port: http}", ":1: listen.port: must be a whole number", id="word"),
        pytest.param("listen: {port: 1.5}", ":1: listen.port: must be a whole number", id="1.5"),
        pytest.param(
            "listen: {port: 65536}",
            ":1: listen.port: must be less than or equal to 65535",
            id="port too large",
        ),
        pytest.param("listen: {port: [1]}", ":1: listen.port: must be a whole number", id="list"),
        pytest.param("timeouts: {idle: x}", ":1: timeouts.idle: must be a number", id="no number"),
        pytest.param("timeouts: {idle: {}}", ":1: timeouts.idle: must be a number", id="mapping"),
        pytest.param("timeouts: {idle: 0}", ":1: timeouts.idle: must be greater than 0", id="zero"),
        pytest.param("timeouts: {idle: .inf}", ":1: timeouts.idle: must be less than", id="inf"),
        pytest.param("log: {required: 2}", ":1: log.required: must be true or false", id="bool"),
        pytest.param("log: {required: []}", ":1: log.required: must be true or false", id="list?"),
        pytest.param(
            "log: {capture: all}",
            ":1: log.capture: must be 'none', 'usage' or 'full'",
            id="no such choice",
        ),
        pytest.param("log: {rotate_hours: .inf}", ":1: log.rotate_hours: must be", id="for ever"),
        pytest.param('log: {path: "a\\0"}', ":1: log.path: must be the path of a file", id="NUL"),
        pytest.param(
            "log: {queue: 0}", ":1: log.queue: must be greater than or equal to 1", id="queue"
        ),
        pytest.param("routes: [{prefix: /a}]", ":1: routes[0].upstream: is missing", id="missing"),
        pytest.param("1: a", ":1: the file: an option's name is text; put it in quotes", id="1"),
        pytest.param("null: a", ":1: the file: an option's name is text", id="null for a name"),
        pytest.param("log: {[a, b]: c}", ":1: log: an option's name is text", id="list for a name"),
        pytest.param(
            "providers: {azure: {client_credentials: forward}}",
            ":1: providers.azure: client_credentials: forward is refused for azure; remove it",
            id="azure never forwards",
        ),
        pytest.param(
            ROUTE + "auth: {form: Bearer}",
            ":4: routes[0].auth.form: must contain {key} exactly once",
            id="form without a place",
        ),
        pytest.param(
            ROUTE + "auth: {form: '{key} {key}'}",
            ":4: routes[0].auth.form: must contain {key} exactly once",
            id="form with two places",
        ),
        pytest.param(
            ROUTE + "auth: {header: 'X Y'}",
            ":4: routes[0].auth.header: must be a header name without spaces",
            id="header name",
        ),
        pytest.param(
            ROUTE + "name: 9lives",
            ":4: routes[0].name: must begin with a small letter",
            id="name of a route",
        ),
        pytest.param(
            "providers:\n  openai:\n    network_config:\n      extra_headers:\n        X Y: z",
            ":5: providers.openai.network_config.extra_headers.X Y: must be a header name",
            id="name of an extra header",
        ),
        pytest.param(
            'providers: {openai: {network_config: {extra_headers: {X: "a\\r\\nY: b"}}}}',
            ":1: providers.openai.network_config.extra_headers.X: must be printable ASCII",
            id="value of an extra header",
        ),
        pytest.param(
            "listen: {allowed_hosts: ['http://a:1']}",
            ":1: listen.allowed_hosts[0]: must be a host name without scheme and port",
            id="host with a scheme",
        ),
        pytest.param(
            "listen: {allowed_origins: ['*']}",
            ":1: listen.allowed_origins[0]: must be one origin",
            id="every origin",
        ),
        pytest.param(
            "listen: {allowed_origins: ['null']}",
            ":1: listen.allowed_origins[0]: must be one origin",
            id="the origin of a sandboxed page",
        ),
        pytest.param(
            "listen: {allowed_origins: ['https://a.test/']}",
            ":1: listen.allowed_origins[0]: must be one origin in small letters without a path",
            id="origin with a path",
        ),
    ],
)
def test_a_fault_names_its_line_its_place_and_its_mend(
    write: Write, content: str, line: str
) -> None:
    (told,) = faults(write(content))
    assert told.startswith("gateway.yaml" + line)


@pytest.mark.parametrize(
    ("option", "told"),
    [
        pytest.param("name: ''", ".name: must be 1 to 64 printable ASCII", id="empty name"),
        pytest.param("name: é", ".name: must be 1 to 64 printable ASCII", id="name beyond ASCII"),
        pytest.param("weight: -1", ".weight: must be greater than or equal to 0", id="negative"),
        pytest.param("weight: .inf", ".weight: must be less than or equal to", id="infinite"),
        pytest.param("weight: .nan", ".weight: must be", id="not a number"),
        pytest.param("weight: heavy", ".weight: must be a number", id="word for a weight"),
        pytest.param("models: gpt-4o", ".models: must be a list", id="text for a list"),
        pytest.param("models:", ".models: is empty; give it a value", id="all models left out"),
        pytest.param("models: [1]", ".models[0]: must be text; put it in quotes", id="number"),
        pytest.param("enabled: maybe", ".enabled: must be true or false", id="neither"),
        pytest.param(
            "organization: 'a\tb'", ".organization: must be printable ASCII", id="account header"
        ),
        pytest.param("azure_key_config: x", ".azure_key_config: must be a mapping", id="mapping"),
    ],
)
def test_a_fault_of_a_key_names_the_key(write: Write, option: str, told: str) -> None:
    (line,) = faults(write(key(option)))
    assert line.startswith(KEY + told)


@pytest.mark.parametrize(
    "prefix",
    ["a", "/", "/a/", "//a", "/a//b", "/..", "/a/..", "/.", "/a b", "/a?b", "/ä", "/a%2Fb", "/a\n"],
)
def test_a_prefix_is_plain_segments(write: Write, prefix: str) -> None:
    (line,) = faults(write(f"prefixes:\n  openai: [{json.dumps(prefix)}]"))
    assert line.startswith("gateway.yaml:2: prefixes.openai[0]: must be a path of letters")


@pytest.mark.parametrize("prefix", ["/a", "/a/b", "/v1.5", "/my_api-2", "/~me"])
def test_other_prefixes_are_free(write: Write, prefix: str) -> None:
    assert config.load(write(f"prefixes: {{openai: [{prefix}]}}"), {})[0].prefixes.openai == (
        prefix,
    )


@pytest.mark.parametrize(
    ("content", "line"),
    [
        pytest.param("a:\n\tb: c", ":2:1: not valid YAML: a tab; indent with spaces", id="tab"),
        pytest.param("log:\n  path: a\n  path: b", ":3: path stands twice", id="twice"),
        pytest.param("log: {path: a, 'path': b}", ":1: path stands twice", id="twice, in quotes"),
        pytest.param("log: {1: a, 1: b}", ":1: an option stands twice", id="twice, no name"),
        pytest.param(":\n?", ":2: an option stands twice", id="twice, at the end"),
        pytest.param("log: {}\nlog: {}", ":2: log stands twice in this part; keep one", id="part"),
        pytest.param("a: !!python/object/apply:os.system [ls]", ":1: a tag", id="Python object"),
        pytest.param("a:\n  !x {}", ":2: a tag (such as !!python); remove it", id="any tag"),
        pytest.param("a: *b", ":1:4: not valid YAML: an alias (*name) without its", id="no anchor"),
        pytest.param("a: 'b", ":1:6: not valid YAML: the text in quotes", id="open quotes"),
        pytest.param("a: @b", ":1:4: not valid YAML: a character that begins no plain", id="at"),
        pytest.param("a: b: c", ":1:5: not valid YAML: a ':' where none may stand", id="colon"),
        pytest.param('a: "\\q"', ":1:6: not valid YAML: an unknown escape", id="escape"),
        pytest.param("a: 1\n---\nb: 1", ":2:1: not valid YAML: a second document", id="two files"),
        pytest.param("a: [1\nb: 2", ":2:", id="open list"),
        pytest.param("? {a: b}\n: c", ":1:3: not valid YAML: found unhashable key", id="mapping"),
        pytest.param("log:\n  path: a\0b", ":2: a control character; remove it", id="NUL"),
        pytest.param("a: " + "[" * 50, ":1: nested too deeply", id="deep"),
        pytest.param("a: 1" + "0" * 5000, ":1: not valid YAML", id="a number without end"),
        pytest.param("", ":1: the file is empty; see gateway.example.yaml", id="empty"),
        pytest.param(" \n\n", ":1: the file is empty; see gateway.example.yaml", id="blank"),
        pytest.param("- a", ":1: the file must be a mapping of options", id="list"),
        pytest.param("text", ":1: the file must be a mapping of options", id="text"),
        pytest.param("# nothing", ":1: the file must be a mapping of options", id="comments only"),
        pytest.param(b"log:\n  path: \xff", ":2: not UTF-8; save the file as UTF-8", id="bytes"),
        pytest.param(b"#" * (1 << 20) + b"\n", ": larger than 1048576 bytes", id="1 MiB and more"),
        pytest.param(
            "a: &a [x]\nb: [" + "*a, " * 65 + "]",
            ":2: more than 64 aliases; write them out",
            id="aliases that could grow",
        ),
    ],
)
def test_a_file_that_is_no_plain_yaml_is_refused(
    write: Write, content: str | bytes, line: str
) -> None:
    (told,) = faults(write(content))
    assert told.startswith("gateway.yaml" + line)


def test_aliases_of_aliases_do_not_grow(write: Write) -> None:
    levels = "\n".join(f"x{n}: &x{n} [{f'*x{n - 1}, ' * 9}]" for n in range(1, 7))
    assert len(faults(write(f"x0: &x0 [a]\n{levels}"))) == 7


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("nowhere.yaml", "cannot be read: No such file or directory", id="no file"),
        pytest.param(".", "cannot be read: Is a directory", id="a folder"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path / name, {})
    assert caught.value.lines == (f"{tmp_path / name}: {said}",)


def test_all_faults_are_told_at_once(write: Write) -> None:
    assert len(faults(write("a: 1\nlog: {b: 1}\nlisten: {port: x}"))) == 3


def test_of_very_many_faults_the_first_are_told(write: Write) -> None:
    told = faults(write("\n".join(f"zz{'a' * n}: 1" for n in range(25))))
    assert len(told) == 21
    assert told[-1] == "gateway.yaml: and 5 more faults"


def test_a_fault_without_a_file_names_where_it_came_from() -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse({"providers": {"openai": {"keys": [{"weight": "x"}]}}}, "environment")
    assert caught.value.lines == ("environment: providers.openai.keys[0].weight: must be a number",)


def test_a_fault_of_a_merged_option_names_the_part(write: Write) -> None:
    text = "log: &l\n  pth: a\ntimeouts:\n  <<: *l\n"
    assert faults(write(text)) == [
        "gateway.yaml:2: log.pth: unknown option; did you mean path?",
        "gateway.yaml:3: timeouts.pth: unknown option",
    ]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(f"providers: {{openai: {{keys: [{SECRET}]}}}}", id="key without its option"),
        pytest.param(f"providers: {{openai: {{keys: {SECRET}}}}}", id="for the list"),
        pytest.param(f"providers: {{openai: {{keys: [{{name: a, {SECRET}}}]}}}}", id="as a name"),
        pytest.param(key(f"weight: {SECRET}"), id="in the wrong option"),
        pytest.param(key(f"{SECRET}: x"), id="as the name of an option"),
        pytest.param(key(f"value: {SECRET}"), id="twice"),
        pytest.param(key(f"name: {SECRET}: x"), id="with a colon"),
        pytest.param(f"a: *{SECRET}", id="with a star"),
        pytest.param(f"a: *b\"{SECRET}'", id="with a star and quotes"),
        pytest.param(f"a: !{SECRET} b", id="with an exclamation mark"),
        pytest.param(f"a: '{SECRET}", id="in open quotes"),
        pytest.param(f'a: "\\q{SECRET}"', id="after a wrong escape"),
        pytest.param(f"%{SECRET}\n---\na: b", id="as a directive"),
        pytest.param(f"? [{SECRET}]\n: a", id="in a list as a name"),
        pytest.param(f"log: {{capture: {SECRET}}}", id="for a choice"),
        pytest.param(ROUTE + f"auth: {{form: {SECRET}}}", id="in the form"),
        pytest.param(ROUTE + f"auth: {{header: '{SECRET} a'}}", id="in the header"),
    ],
)
def test_no_fault_shows_a_value(write: Write, content: str) -> None:
    for line in faults(write(content)):
        assert SECRET not in line


# Text that looks enough like our file to get past the first check.
WORDS = "providers openai keys log port *a &a !!int : - { } [ ] , ' # | > % @ 1 ~ << ? --- é 0x1F"
PIECES = st.sampled_from(
    [*WORDS.split(), "2024-99-99", "\t", "\n", "  ", ": ", "- ", '"', "\0", "\u2028", "\x85"]
)


@given(st.lists(PIECES, max_size=20).map("".join))
def test_any_text_loads_or_is_told_in_lines(
    tmp_path_factory: pytest.TempPathFactory, content: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(content)
    lines: tuple[str, ...] = ()
    try:
        config.load(path, {})
    except ConfigError as error:
        lines = error.lines
    assert all(line.startswith(f"{path}:") for line in lines)


# -- warnings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "mode", "warned"),
    [
        pytest.param(SECRET, 0o644, True, id="key in a file for all"),
        pytest.param(SECRET, 0o600, False, id="key in a file for its owner"),
        pytest.param("env.A", 0o644, False, id="reference in a file for all"),
    ],
)
@pytest.mark.parametrize("where", ["providers", "routes"])
def test_a_file_with_keys_that_others_can_read_is_warned_of(
    write: Write, value: str, mode: int, warned: bool, where: str
) -> None:
    entry = {"keys": [{"value": value}]}
    route = {"prefix": "/a", "upstream": "https://a"} | entry
    document = {"providers": {"openai": entry}} if where == "providers" else {"routes": [route]}
    path = write(json.dumps(document))
    path.chmod(mode)
    warning = f"{path}: other users can read it and it holds keys; chmod 600 it"
    assert config.load(path, {})[1] == ([warning] if warned else [])


# -- the example ------------------------------------------------------------------------------


def options(section: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Every (section, option) that can stand in the file, from the models."""
    for name, field in section.model_fields.items():
        yield section.__name__, name
        inner = section_of(field.annotation)
        if inner is not None:
            yield from options(inner)


def used(section: type[BaseModel], document: Any) -> Iterator[tuple[str, str]]:
    """Every (section, option) that does stand in a document."""
    for entry in document if isinstance(document, list) else [document]:
        for name, value in entry.items():
            yield section.__name__, name
            inner = section_of(section.model_fields[name].annotation)
            if inner is not None:
                yield from used(inner, value)


def example() -> dict[str, Any]:
    document = document_of(EXAMPLE, EXAMPLE.read_text())
    assert isinstance(document, dict)
    return document


@pytest.fixture(scope="module")
def shown() -> Config:
    """The example as it is read."""
    return config.load(EXAMPLE, {})[0]


def test_the_example_loads_without_any_secret() -> None:
    assert config.load(EXAMPLE, {})[1] == []


def test_the_example_names_every_option() -> None:
    assert set(options(Config)) - set(used(Config, example())) == set()


def test_the_example_explains_every_option_and_says_its_default() -> None:
    explained: set[str] = set()
    for line in EXAMPLE.read_text().splitlines():
        code, _, comment = line.partition("  # ")
        if "Default" in comment or "Required" in comment:
            explained.add(code.strip().removeprefix("- ").partition(":")[0])
    values = {
        name for section, name in options(Config) if section not in ("Config", "Providers")
    } - {"auth", "network_config", "azure_key_config", "vertex_key_config"}
    assert values - explained == set()


@pytest.mark.parametrize("part", ["listen", "forward", "log", "timeouts", "limits", "console"])
def test_the_example_shows_the_defaults(shown: Config, part: str) -> None:
    assert getattr(shown, part) == getattr(Config(), part)


def test_a_gateway_can_be_built_from_the_example(shown: Config) -> None:
    names = "OPENAI ANTHROPIC AZURE_OPENAI GEMINI VERTEX GROQ".split()
    env = {f"{name}_API_KEY": f"{name}-0123456789" for name in names}
    env |= {
        "AZURE_OPENAI_ENDPOINT": "https://example.openai.azure.com",
        "GOOGLE_CLOUD_PROJECT": "example-project",
    }
    parts = build(shown, env, "example")
    assert "/groq" in {route.prefix for route in parts.routes.table}
    assert all(up.missing is None for route in parts.routes.table for up in route.upstreams)
    assert parts.warnings == ()
