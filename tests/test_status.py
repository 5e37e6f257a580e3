"""What the gateway says about itself: ready or not and why, and no secret."""

import json

import pytest
from llm_passthrough import __version__, config
from llm_passthrough.build import build
from llm_passthrough.routes import Routes
from llm_passthrough.sinks.writer import Tally
from llm_passthrough.status import Page, State
from llm_passthrough.status import page as page_of

ENV = {"OPENAI_API_KEY": "sk-SECRET-0123456789"}


def routes(env: dict[str, str]) -> Routes:
    return build(config.load(None, env)[0], env, "test").routes


def page(table: Routes, target: bytes, tally: Tally | None) -> Page | None:
    return page_of(table, "GET", target, State(tally or Tally(), 0.0))


READY, EMPTY = routes(ENV), routes({})
ANTHROPIC = "not ready: set ANTHROPIC_API_KEY, or add a key under providers.anthropic.keys"


def test_the_root_lists_the_routes() -> None:
    code, told = page(READY, b"/", None) or (0, {})
    assert code == 200
    assert (told["name"], told["version"]) == ("llm-passthrough", __version__)
    listed = told["routes"]
    assert isinstance(listed, dict)
    assert listed["/openai_passthrough"] == {"providers": {"openai": "ready"}}
    assert listed["/anthropic_passthrough"] == {"providers": {"anthropic": ANTHROPIC}}
    assert set(listed["/genai_passthrough"]["providers"]) == {"gemini", "vertex"}


@pytest.mark.parametrize("path", [b"/anthropic_passthrough", b"/anthropic_passthrough/"])
def test_a_bare_prefix_says_whether_it_is_ready_or_what_is_missing(path: bytes) -> None:
    assert page(READY, path, None) == (
        200,
        {"route": "/anthropic_passthrough", "providers": {"anthropic": ANTHROPIC}},
    )


@pytest.mark.parametrize(
    "path",
    [
        b"/openai_passthrough/v1",
        b"/openai_passthrough//",
        b"/health/",
        b"//",
        b"",
        b"/HEALTH",
        b"/\xff",
    ],
)
def test_what_is_no_page_of_ours_is_left_to_the_routes(path: bytes) -> None:
    assert page(READY, path, None) is None


@pytest.mark.parametrize(
    ("table", "tally", "code", "status", "log"),
    [
        pytest.param(READY, None, 200, "ready", {"state": "ok"}, id="ready"),
        pytest.param(EMPTY, None, 200, "no provider is ready", {"state": "ok"}, id="no key"),
        pytest.param(
            READY,
            Tally(written=3, dropped=1),
            200,
            "ready",
            {"state": "ok", "written": 3, "dropped": 1, "failed": 0},
            id="with counts",
        ),
        pytest.param(
            READY,
            Tally(written=3, failed=2, fault="jsonl: No space left on device"),
            503,
            "failing",
            {
                "state": "jsonl: No space left on device",
                "written": 3,
                "dropped": 0,
                "failed": 2,
            },
            id="records cannot be written",
        ),
    ],
)
def test_health_is_about_records_and_says_which_providers_are_ready(
    table: Routes, tally: Tally | None, code: int, status: str, log: dict[str, object]
) -> None:
    answered, told = page(table, b"/health", tally) or (0, {})
    assert (answered, told["status"]) == (code, status)
    told_log = told["log"]
    assert isinstance(told_log, dict)
    assert log.items() <= told_log.items()
    providers = told["providers"]
    assert isinstance(providers, dict)
    assert set(providers) == {"openai", "anthropic", "azure", "gemini", "vertex"}


def test_at_the_end_health_says_so() -> None:
    code, told = page_of(READY, "GET", b"/health", State(Tally(), 0.0, draining=True)) or (0, {})
    assert (code, told["status"]) == (503, "draining")


@pytest.mark.parametrize("path", [b"/", b"/health", b"/openai_passthrough"])
def test_no_page_shows_a_secret(path: bytes) -> None:
    assert "SECRET" not in json.dumps(page(READY, path, Tally()))


def test_who_is_not_on_this_machine_is_told_nothing_about_keys() -> None:
    local, remote = (
        page_of(READY, "GET", b"/health?keys", State(Tally(), 0.0, here)) or (0, {})
        for here in (True, False)
    )
    assert "keys" in local[1]
    assert "keys" not in remote[1]


def test_a_database_that_fails_is_told_and_makes_nothing_unhealthy() -> None:
    words = "database is locked; 2 records wait"
    code, told = page(READY, b"/health", Tally(written=3, beside={"sqlite": lambda: words})) or (
        0,
        {},
    )
    assert (code, told["status"]) == (200, "ready")
    log = told["log"]
    assert isinstance(log, dict)
    assert (log["state"], log["sqlite"]) == ("ok", words)
