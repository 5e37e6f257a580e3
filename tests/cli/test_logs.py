"""`llm-passthrough logs`: what a person sees of the records, what a pipe gets, what no one does."""

import csv
import io
import json
import os
import re
import shlex
import shutil
import sqlite3
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import made
import pytest
from click.testing import Result
from llm_passthrough.cli import app
from llm_passthrough.cli.logs_filters import moment
from llm_passthrough.cli.logs_stats import Times
from llm_passthrough.cli.logs_view import json_line, safe, safe_lines
from llm_passthrough.columns import Row
from llm_passthrough.record import Cost, Fault, Record, line
from llm_passthrough.sinks.sqlite import Sqlite
from llm_passthrough.usage import Usage
from typer.testing import CliRunner

NOW = datetime(2026, 9, 21, 12, tzinfo=UTC)
T = NOW.timestamp()
HOUR = 3600


@pytest.fixture(autouse=True)
def _place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A home of its own, a wide console, and local time two hours before UTC's."""
    monkeypatch.setenv("TZ", "UTC-2")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def run(*args: object) -> Result:
    """The command, as a person would type it."""
    return CliRunner().invoke(app, ["logs", *map(str, args)])


def shown(*args: object) -> str:
    """What it writes to stdout; it must end well and say nothing else."""
    result = run(*args)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


def objects(*args: object) -> list[dict[str, Any]]:
    return [json.loads(text) for text in shown(*args, "--json").splitlines()]


def ids(*args: object) -> list[str]:
    return [one["id"] for one in objects("list", *args)]


def a_day() -> list[Record]:
    """Calls of two days, of all sorts; an id says what is odd about it."""

    def call(id_: str, hours_ago: float, cost: float | None = None, **changes: Any) -> Record:
        return made.record(
            id_,
            T - hours_ago * HOUR,
            cost=None if cost is None else Cost(cost, "USD", "table"),
            **changes,
        )

    messages = {"path": b"/v1/messages", "provider": "anthropic", "key": "claude"}
    return [
        call("old", 50, 9.99),
        call("dear", 30, 2.5, usage=made.usage(input_tokens=900_000, output_tokens=20)),
        call("cheap", 29, 0.0004, usage=made.usage(input_tokens=10, output_tokens=5)),
        call("claude", 5, 0.25, asked={"model": "claude-sonnet-4-5"}, client="ci", **messages),
        call("limited", 4, status=429, outcome="upstream_error", total=0.2),
        call(
            "refused",
            3,
            status=503,
            outcome="refused",
            fault=Fault("no_key", "set OPENAI_API_KEY", "gateway"),
        ),
        call("slow", 2, total=120.0, first_token=90_000.0),
        call("gone", 1, status=None, outcome="client_abort"),
        call(
            "stream",
            0.5,
            0.01,
            answered="".join(
                f'data: {{"choices":[{{"delta":{{"content":"{word}"}}}}]}}\n\n'
                for word in ("The Capi", "tal of ", "France")
            ),
            response_headers=((b"content-type", b"text/event-stream"),),
        ),
    ]


def as_jsonl(folder: Path, records: list[Record]) -> Path:
    return made.log(folder / "records.jsonl", records)


def as_sqlite(folder: Path, records: list[Record]) -> Path:
    sink = Sqlite(folder / "records.sqlite")
    for one in records:
        sink.write(one, line(one))
    sink.close()
    return folder / "records.sqlite"


@pytest.fixture(scope="module", params=[as_jsonl, as_sqlite], ids=["jsonl", "sqlite"])
def day(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The day as a log, both ways; nobody writes to it."""
    path: Path = request.param(tmp_path_factory.mktemp("day"), a_day())
    return path


@pytest.fixture
def log(day: Path, tmp_path: Path) -> Path:
    """A copy of the day's log."""
    shutil.copytree(day.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / day.name


@pytest.fixture
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noon UTC, which is two in the afternoon here."""
    local = NOW.astimezone()
    for module in ("list", "stats", "export"):
        monkeypatch.setattr(f"llm_passthrough.cli.logs_{module}.now", lambda: local)


EVERYTHING = ["stream", "gone", "slow", "refused", "limited", "claude", "cheap", "dear", "old"]


# -- the two commands -------------------------------------------------------------------------


@pytest.mark.usefixtures("_now")
def test_yesterdays_dearest_call_and_its_conversation_are_two_commands(tmp_path: Path) -> None:
    dear = made.record(
        "",
        T - 30 * HOUR,
        asked={"model": "gpt-4o", "messages": [{"role": "user", "content": "Why?"}]},
        answered={"choices": [{"message": {"role": "assistant", "content": "Because."}}]},
        cost=Cost(3.21, "USD", "table"),
    )
    log = as_jsonl(tmp_path, [*a_day(), dear])
    first = shown(
        *("list", "--since", "yesterday", "--until", "yesterday"),
        *("--sort", "cost", "--limit", 1, "-f", log),
    )
    assert "$3.21" in first
    (id_,) = re.findall(r"\b[0-9a-f]{16}\b", first)
    second = shown("show", id_, "-f", log)
    assert "Why?" in second
    assert "Because." in second
    assert "$3.21 (table)" in second


# -- list -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param((), EVERYTHING, id="the newest first"),
        pytest.param(("--limit", 2), EVERYTHING[:2], id="so many"),
        pytest.param(("--since", "3h"), ["stream", "gone", "slow", "refused"], id="hours"),
        pytest.param(("--since", "2d"), EVERYTHING[:-1], id="days"),
        pytest.param(("--since", "today"), EVERYTHING[:6], id="since today"),
        pytest.param(
            ("--since", "yesterday", "--until", "yesterday"), ["cheap", "dear"], id="a day"
        ),
        pytest.param(("--until", "2026-09-20"), ["cheap", "dear", "old"], id="until a date"),
        pytest.param(("--until", "3h"), EVERYTHING[4:], id="until hours ago"),
        pytest.param(
            ("--since", "2026-09-21T11:00"), ["stream", "gone", "slow", "refused"], id="local"
        ),
        pytest.param(("--since", "2026-09-21T11:00Z"), ["stream", "gone"], id="UTC"),
        pytest.param(("--provider", "Anthropic"), ["claude"], id="provider"),
        pytest.param(("--model", "SONNET"), ["claude"], id="a part of a model"),
        pytest.param(("--model", "claude-*-4-5"), ["claude"], id="a glob"),
        pytest.param(("--model", "claude-*-4"), [], id="a glob fits the whole name"),
        pytest.param(("--client", "ci"), ["claude"], id="client"),
        pytest.param(("--status", "429"), ["limited"], id="status"),
        pytest.param(("--status", "4xx,503"), ["refused", "limited"], id="statuses"),
        pytest.param(("--outcome", "refused"), ["refused"], id="outcome"),
        pytest.param(("--outcome", "failed"), ["gone", "refused", "limited"], id="failed"),
        pytest.param(("--outcome", "ok", "--since", "6h"), ["stream", "slow", "claude"], id="ok"),
        pytest.param(("--grep", "openai_API_key"), ["refused"], id="text, in any case"),
        pytest.param(("--grep", "capital of france"), ["stream"], id="text spread over a stream"),
        pytest.param(("--sort", "cost", "-n", 3), ["old", "dear", "claude"], id="by cost"),
        pytest.param(("--sort", "tokens", "-n", 2), ["dear", "cheap"], id="by tokens"),
        pytest.param(("--sort", "duration", "-n", 1), ["slow"], id="by duration"),
        pytest.param(("--provider", "nobody"), [], id="nothing"),
    ],
)
@pytest.mark.usefixtures("_now")
def test_list_shows_what_is_asked_for(
    options: tuple[object, ...], expected: list[str], log: Path
) -> None:
    assert ids("-f", log, *options) == expected


@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        pytest.param('say "hi"', json.dumps('say "hi"'), id="quotes"),
        pytest.param("a\nb", json.dumps("a\nb"), id="a line break"),
        pytest.param("Grüße", json.dumps("Grüße"), id="escaped by the client"),
        pytest.param("grüsse ÄÖ", json.dumps("Grüsse ÄÖ", ensure_ascii=False), id="not escaped"),
        pytest.param("C:\\temp", json.dumps("C:\\temp"), id="a backslash"),
    ],
)
def test_grep_finds_a_text_however_json_writes_it(text: str, spelling: str, tmp_path: Path) -> None:
    asked = f'{{"messages": [{{"role": "user", "content": {spelling}}}]}}'
    log = as_jsonl(tmp_path, [made.record("hit", T, asked=asked), made.record("miss", T + 1)])
    assert ids("-f", log, "--grep", text) == ["hit"]


def test_a_list_is_a_table_for_a_person(log: Path) -> None:
    text = shown("list", "-f", log)
    rows = {row.split()[2]: row for row in text.splitlines()[1:]}
    assert list(rows) == EVERYTHING
    assert rows["claude"].startswith("2026-09-21 09:00:00  claude")  # local time
    assert "$0.2500" in rows["claude"]
    assert "900.0k" in rows["dear"]
    assert "503 refused" in rows["refused"]
    assert "--- client_abort" in rows["gone"]
    assert "120.0 s" in rows["slow"]
    assert "90.0 s" in rows["slow"]


@pytest.mark.parametrize("width", [60, 80, 100, 130, 200])
def test_the_id_is_whole_however_narrow_the_terminal(
    width: int, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = shown("list", "-f", log)
    assert all(len(row) <= width for row in text.splitlines())
    assert [row.split()[2] for row in text.splitlines()[1:]] == EVERYTHING


def test_a_pipe_gets_lines_that_are_not_cut(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS")
    assert "bytes" in shown("list", "-f", log).splitlines()[0]


def test_an_empty_list_says_so(log: Path) -> None:
    assert shown("list", "-f", log, "--provider", "nobody") == "no calls\n"
    assert shown("list", "-f", log, "--provider", "nobody", "--json") == ""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(("--since", "soon"), "must be one of: 2h, 3d", id="time"),
        pytest.param(("--until", "2026-13-01"), "must be one of: 2h, 3d", id="date"),
        pytest.param(("--status", "ok"), "must be such as 429, 5xx", id="status"),
        pytest.param(("--outcome", "bad"), "must be of: ok, refused", id="outcome"),
        pytest.param(("--sort", "name"), "is not one of", id="sort"),
        pytest.param(("--limit", "0"), "Invalid value for '--limit'", id="limit"),
    ],
)
def test_a_wrong_option_says_what_is_right(
    options: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    result = run("list", "-f", as_jsonl(tmp_path, []), *options)
    assert result.exit_code == 2
    assert words in " ".join(re.sub(r"[│╭╮╰╯─]", " ", result.stderr).split())


# -- where from -------------------------------------------------------------------------------


def test_without_a_file_the_usual_log_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "home" / ".llm-passthrough"
    folder.mkdir(parents=True)
    as_jsonl(folder, a_day())
    assert ids() == EVERYTHING


def test_a_configuration_names_the_log(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    as_jsonl(tmp_path / "logs", a_day())
    config = tmp_path / "gateway.yaml"
    config.write_text(f"log: {{ path: {tmp_path}/logs/records.jsonl }}\n")
    assert ids("--config", config) == EVERYTHING


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        pytest.param(
            lambda folder: [], 1, "no records here yet; name a file with --file", id="none"
        ),
        pytest.param(lambda folder: ["-f", folder], 1, "no records in this folder", id="folder"),
        pytest.param(lambda folder: ["-c", folder / "x.yaml"], 2, "cannot be read", id="config"),
        pytest.param(
            lambda folder: ["-f", "/dev/null"], 1, "neither a file nor a folder", id="device"
        ),
    ],
)
@pytest.mark.parametrize("command", ["list", "stats", "export", "show last"])
def test_what_cannot_be_read_is_one_line(
    command: str, options: Callable[[Path], list[object]], code: int, words: str, tmp_path: Path
) -> None:
    result = run(*command.split(), *options(tmp_path))
    assert result.exit_code == code
    assert result.stdout == ""
    assert words in result.stderr
    assert result.stderr.startswith("llm-passthrough: ")
    assert result.stderr.count("\n") == 1


def test_lines_that_are_no_record_are_counted_on_stderr(tmp_path: Path) -> None:
    log = as_jsonl(tmp_path, a_day())
    with log.open("ab") as file:
        file.write(b'{"torn\n{"torn again\n')
    result = run("list", "-f", log)
    assert result.exit_code == 0
    assert result.stderr == "llm-passthrough: 2 lines are no record, and passed over\n"


# -- show -------------------------------------------------------------------------------------

SHOWN = made.record(
    "",
    T,
    asked={
        "model": "claude-sonnet-4-5",
        "system": "Be brief.",
        "tools": [{"name": "look"}],
        "messages": [
            {"role": "user", "content": "What is it?"},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {"at": 1}}],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "a cat"}],
            },
        ],
    },
    answered={
        "type": "message",
        "content": [
            {"type": "thinking", "thinking": "It is a cat."},
            {"type": "text", "text": "A [bold]cat[/bold] :smile:\n\tof   two\nlines."},
        ],
    },
    path=b"/v1/messages",
    provider="anthropic",
    usage=made.usage(input_tokens=1200, output_tokens=30, cache_read_tokens=1000),
    cost=Cost(0.012345, "USD", "genai-prices"),
    model="claude-sonnet-4-5-20250929",
    first_token=650.0,
    session={"session_id": "s-1"},
)


def test_show_tells_the_call_and_its_conversation(tmp_path: Path) -> None:
    text = shown("show", SHOWN.id[:10], "-f", as_jsonl(tmp_path, [*a_day(), SHOWN]))
    head, _, conversation = text.partition("\n\n")
    assert head.splitlines() == [
        f"call     {SHOWN.id}  2026-09-21 14:00:00  "
        "default  /openai_passthrough  anthropic  team  messages",
        "model    claude-sonnet-4-5 (answered by claude-sonnet-4-5-20250929)",
        f"request  POST https://api.openai.com/v1/chat/completions  {SHOWN.request.bytes} B",
        f"answer   ok  200  {SHOWN.response.bytes if SHOWN.response else 0} B",
        "usage    input 1200, output 30, cache read 1000",
        "cost     $0.0123 (genai-prices)",
        "timing   total 1.0 s, first byte 500 ms, first token 650 ms, gateway 0 ms",
        "session  session_id s-1",
    ]
    said = [row.rstrip("─ ") for row in conversation.splitlines() if row]
    assert said == [
        "── system",
        "Be brief.",
        "── tools",
        "look",
        "── user",
        "What is it?",
        "── assistant",
        '[tool call look] {"at": 1}',
        "── user",
        "[tool result t1] a cat",
        "── assistant",
        "[thinking] It is a cat.",
        "A [bold]cat[/bold] :smile:",
        "    of   two",
        "lines.",
    ]


def test_show_last_is_the_newest(log: Path) -> None:
    assert "The Capital of France" in shown("show", "last", "-f", log)


def test_show_as_json_is_the_record(log: Path) -> None:
    (one,) = [record for record in a_day() if record.id == "claude"]
    assert json.loads(shown("show", "claude", "-f", log, "--json")) == made.told(one)


def test_an_error_is_shown(log: Path) -> None:
    assert "error    no_key (gateway): set OPENAI_API_KEY" in shown("show", "refused", "-f", log)


def test_a_prefix_that_fits_several_lists_them(log: Path) -> None:
    result = run("show", "c", "-f", log)
    assert result.exit_code == 1
    assert [row.split()[0] for row in result.stderr.splitlines()[1:]] == ["claude", "cheap"]
    assert run("show", "nothing", "-f", log).stderr.strip().endswith("begins with nothing")


def test_a_whole_id_wins_over_longer_ones(tmp_path: Path) -> None:
    log = as_jsonl(tmp_path, [made.record("abc", T), made.record("abcd", T + 1)])
    assert "call     abc " in shown("show", "abc", "-f", log)


def test_a_long_text_is_cut_unless_all_is_asked_for(tmp_path: Path) -> None:
    log = as_jsonl(tmp_path, [made.record("long", T, asked={"input": "x" * 50_000})])
    assert "... 50.0 kB in all; --full shows them" in shown("show", "long", "-f", log)
    assert "x" * 50_000 in shown("show", "long", "-f", log, "--full")


def test_what_later_versions_add_is_shown_too(tmp_path: Path) -> None:
    value = made.told(SHOWN)
    value["usage"] |= {"input_audio_tokens": 7, "audio_seconds": 1.5}
    value["tool_calls"] = ["look", {"name": "go"}]
    value["timing_ms"]["queue"] = 3.0
    log = tmp_path / "records.jsonl"
    log.write_text(json.dumps(value) + "\n")
    text = shown("show", SHOWN.id, "-f", log)
    assert "input audio 7, audio seconds 1.5" in text
    assert "tools    look, go" in text
    assert "queue 3 ms" in text


# -- stats ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        pytest.param("provider", {"openai": 8, "anthropic": 1}, id="provider"),
        pytest.param("model", {"gpt-4o": 8, "claude-sonnet-4-5": 1}, id="model"),
        pytest.param("client", {"default": 8, "ci": 1}, id="client"),
        pytest.param("key", {"team": 8, "claude": 1}, id="key"),
        pytest.param("day", {"2026-09-19": 1, "2026-09-20": 2, "2026-09-21": 6}, id="local day"),
    ],
)
def test_stats_group_calls(by: str, expected: dict[str, int], log: Path) -> None:
    found = {one[by]: one["calls"] for one in objects("stats", "--by", by, "-f", log)}
    assert found == expected


def test_stats_sum_up_what_is_known_and_only_that(log: Path) -> None:
    openai, anthropic = objects("stats", "--by", "provider", "-f", log)
    assert openai == {
        "provider": "openai",
        "calls": 8,
        "errors": 3,
        "counted_calls": 2,
        "input_tokens": 900_010,
        "output_tokens": 25,
        "cache_read_tokens": None,
        "priced_calls": 4,
        "cost": {"USD": 12.5004},
        "total_ms_p50": pytest.approx(1000, rel=0.011),
        "total_ms_p95": pytest.approx(120_000, rel=0.011),
        "first_token_ms_p50": pytest.approx(90_000, rel=0.011),
        "first_token_ms_p95": pytest.approx(90_000, rel=0.011),
    }
    assert anthropic["input_tokens"] is None
    assert anthropic["first_token_ms_p50"] is None


@pytest.mark.usefixtures("_now")
def test_stats_take_the_same_filters(log: Path) -> None:
    found = objects("stats", "--by", "provider", "-f", log, "--since", "3h", "--outcome", "failed")
    assert [one["calls"] for one in found] == [2]


def test_stats_are_a_table_with_bars_for_a_person(log: Path) -> None:
    text = shown("stats", "--by", "provider", "-f", log)
    title, openai, anthropic, everything = text.splitlines()
    assert title.split()[:3] == ["provider", "calls", "errors"]
    assert openai.count("█") == 16
    assert anthropic.count("█") == 2
    assert "$12.50 (4/8)" in openai
    assert everything.split()[:3] == ["all", "9", "3"]


def test_currencies_are_never_mixed(tmp_path: Path) -> None:
    costs = [Cost(1.0, "USD", "a"), Cost(2.0, "EUR", "b"), Cost(0.5, "USD", "a")]
    log = as_jsonl(tmp_path, [made.record(f"{n}", T + n, cost=one) for n, one in enumerate(costs)])
    (found,) = objects("stats", "-f", log)
    assert found["cost"] == {"USD": 1.5, "EUR": 2.0}
    assert "$1.50 + EUR 2.00" in shown("stats", "-f", log)


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_quantile_is_right_to_one_percent(share: float) -> None:
    values = [1.03**number for number in range(500)]
    times = Times()
    for value in values:
        times.add(value)
    exact = values[-(-int(share * 1000) * 500 // 1000) - 1]
    assert times.quantile(share) == pytest.approx(exact, rel=0.011)


def test_a_quantile_of_nothing_is_unknown_and_zero_is_something() -> None:
    times = Times()
    assert times.quantile(0.5) is None
    times.add(None)
    assert times.quantile(0.5) is None
    times.add(0.0)
    assert times.quantile(0.5) == pytest.approx(0, abs=0.01)


# -- tail -------------------------------------------------------------------------------------


def test_tail_shows_the_last_ones_and_ends_when_told_not_to_wait(log: Path) -> None:
    text = shown("tail", "-f", log, "-n", 3, "--no-follow")
    assert [row.split()[2] for row in text.splitlines()] == ["slow", "gone", "stream"]
    assert [
        one["id"] for one in objects("tail", "-f", log, "-n", 9, "--no-follow", "--client", "ci")
    ] == ["claude"]


def test_tail_shows_what_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "records.jsonl"
    steps = iter(a_day())

    def sleep(_: float) -> None:
        one = next(steps, None)
        if one is None:
            raise KeyboardInterrupt
        with log.open("ab") as file:
            file.write(line(one))

    monkeypatch.setattr("llm_passthrough.cli.logs_tail.time.sleep", sleep)
    result = run("tail", "-f", log)
    assert [row.split()[2] for row in result.stdout.splitlines()] == EVERYTHING[::-1]
    assert result.exit_code == 130
    assert result.stderr == ""


# -- export -----------------------------------------------------------------------------------


def test_jsonl_is_the_records_the_oldest_first(log: Path) -> None:
    assert shown("export", "-f", log).encode() == made.lines(a_day())


def test_export_takes_filters_a_limit_and_an_id(log: Path) -> None:
    def exported(*options: object) -> list[str]:
        return [json.loads(row)["id"] for row in shown("export", "-f", log, *options).splitlines()]

    assert exported("--status", "429") == ["limited"]
    assert exported("-n", 2) == ["old", "dear"]
    assert exported("--id", "cheap") == ["cheap"]


def test_csv_has_the_columns_of_the_table(log: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(shown("export", "-f", log, "--format", "csv"))))
    assert [row["id"] for row in rows] == EVERYTHING[::-1]
    claude = rows[3]
    assert (claude["provider"], claude["cost"], claude["input_tokens"]) == ("anthropic", "0.25", "")


def test_csv_holds_no_formula(tmp_path: Path) -> None:
    log = as_jsonl(tmp_path, [made.record("x", T, asked={"model": '=HYPERLINK("http://a")'})])
    (row,) = csv.DictReader(io.StringIO(shown("export", "-f", log, "--format", "csv")))
    assert row["model_requested"] == '\'=HYPERLINK("http://a")'


def test_har_has_an_entry_for_each_call(log: Path) -> None:
    har = json.loads(shown("export", "-f", log, "--format", "har"))["log"]
    assert har["version"] == "1.2"
    assert len(har["entries"]) == 9
    first, gone = har["entries"][0], har["entries"][7]
    assert first["startedDateTime"] == "2026-09-19T10:00:00.000Z"
    assert first["time"] == 1000.0
    assert first["timings"] == {"send": 0, "wait": 500.0, "receive": 500.0}
    assert first["request"]["postData"] == {
        "mimeType": "application/json",
        "text": '{"model": "gpt-4o", "messages": []}',
    }
    assert {"name": "Authorization", "value": "Bearer [openai/team]"} in first["request"]["headers"]
    assert gone["response"]["status"] == 0


def test_an_empty_har_is_one_too(log: Path) -> None:
    har = json.loads(shown("export", "-f", log, "--format", "har", "--provider", "nobody"))
    assert har["log"]["entries"] == []


NASTY = 'it\'s\n$(touch owned) `touch owned` "x" \\ @/etc/passwd \x1b]0;owned\x07 é \u202e !! %'


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"model": "gpt-4o"}', id="plain"),
        pytest.param(b"@/etc/passwd", id="what curl would take for a file"),
        pytest.param(NASTY.encode(), id="what a shell or a terminal would run"),
        pytest.param(bytes(range(256)), id="binary"),
        pytest.param(b"", id="nothing"),
    ],
)
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_a_curl_command_sends_what_was_sent_and_does_nothing_else(
    body: bytes, tmp_path: Path
) -> None:
    """bash runs it with a `curl` that only writes down its words and what it reads."""
    one = made.record(
        "x",
        T,
        asked=body,
        url="https://api.openai.com/v1/[a]?q='\"",
        request_headers=(
            (b"Authorization", b"Bearer [openai/team]"),
            (b"X-Empty", b""),
            (b"X-Quote", b"it's $HOME"),
            (b"Host", b"api.openai.com"),
            (b"Content-Length", b"9"),
        ),
    )
    text = shown("export", "-f", as_jsonl(tmp_path, [one]), "--format", "curl")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    (tmp_path / "curl").write_text(
        f"#!/bin/sh\ncd {shlex.quote(str(tmp_path))}\n"
        "for word; do printf '%s\\0' \"$word\"; done >words\n"
        'case "$*" in *"binary @-"*) cat >stdin;; esac\n'
    )
    (tmp_path / "curl").chmod(0o755)
    (tmp_path / "empty").mkdir()
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", text], check=True, cwd=tmp_path / "empty", env=env)
    assert list((tmp_path / "empty").iterdir()) == []
    words = (tmp_path / "words").read_bytes().split(b"\0")[:-1]
    head = [b"--globoff", b"--path-as-is", b"-X", b"POST", b"--url"]
    assert words[:6] == [*head, b"https://api.openai.com/v1/[a]?q='\""]
    headers = [words[at + 1] for at, word in enumerate(words) if word == b"-H"]
    assert headers == [b"Authorization: Bearer [openai/team]", b"X-Empty;", b"X-Quote: it's $HOME"]
    if words[-2:] == [b"--data-binary", b"@-"]:
        assert (tmp_path / "stdin").read_bytes() == body
    elif body:
        assert words[-2:] == [b"--data-raw", body]


def test_a_request_that_was_never_sent_is_no_command(tmp_path: Path) -> None:
    log = as_jsonl(tmp_path, [made.record("x", T, url=None)])
    text = shown("export", "-f", log, "--format", "curl")
    assert text == "# x 2026-09-21T12:00:00.000Z: never sent\n"


def test_a_turn_of_a_websocket_is_told_as_one_in_every_format(tmp_path: Path) -> None:
    one = made.record("x", T, status=101, part_of="whole", turn=2)
    file = made.log(tmp_path / "records.jsonl", [one])
    text = shown("export", "-f", file, "--format", "curl")
    assert text == "# x 2026-09-21T12:00:00.000Z: said on a WebSocket\n"
    (entry,) = json.loads(shown("export", "-f", file, "--format", "har"))["log"]["entries"]
    assert entry["comment"] == "x ok turn 2 of whole"
    (row,) = csv.DictReader(io.StringIO(shown("export", "-f", file, "--format", "csv")))
    assert (row["part_of"], row["turn"], row["turns"]) == ("whole", "2", "")
    for command in ("list", "tail"):
        more = ("--no-follow",) if command == "tail" else ()
        assert "gpt-4o turn 2" in shown(command, "-f", file, *more)


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "open"])
def test_a_websocket_is_shown_turn_by_turn(tmp_path: Path, closed: bool) -> None:
    whole = made.id_at(T)
    usage, cost = Usage(input_tokens=10, output_tokens=20), Cost(0.5, "USD", "list")
    records = [
        made.record(
            made.id_at(T + n), T + n, asked={"type": "response.create", "input": f"question {n}"},
            status=101, part_of=whole, turn=n, usage=usage, cost=cost if n == 1 else None,
            outcome="ok" if n == 1 else "upstream_error",
        )
        for n in (1, 2)
    ]  # fmt: skip
    if closed:
        records.append(made.record(whole, T, asked=b"", status=101, turns=2, total=5.0))
    file = made.log(tmp_path / "records.jsonl", records)
    text = shown("show", "-f", file, whole)
    assert ("not closed" in text) is not closed
    parts = (
        "2 turns, below",
        "turn 1",
        "in 10, out 20, $0.50",
        "question 1",
        "turn 2",
        "upstream_error",
        "question 2",
        "2 turns in all: in 20, out 40, cost $0.50",
    )
    places = [text.index(part) for part in parts]  # fmt: skip
    assert places == sorted(places)
    assert json.loads(shown("show", "--json", "-f", file, records[0].id))["turn"] == 1
    assert run("show", "--json", "-f", file, made.id_at(T + 9)).exit_code == 1
    assert run("show", "-f", file, made.id_at(T + 9)).exit_code == 1


def test_a_database_made_from_the_log_is_the_one_that_the_gateway_wrote(tmp_path: Path) -> None:
    """K15: also with counts beyond 64 bits, texts that are not ASCII, bodies that are no text."""
    said = {"messages": [{"role": "user", "content": "Grüße \U0001f600"}]}
    odd = [
        made.record("grüße", T - 1, asked=said, usage=made.usage(input_tokens=1 << 63)),
        made.record("binary", T - 2, asked=bytes(range(256)), answered=b"\xff" * 50),
        made.record("turn", T - 3, asked=said | {"previous_response_id": "r"}, part_of="x", turn=2),
        made.record("none", T - 4, status=None, outcome="client_abort", provider=None, key=None),
        made.record("escapes", T - 5, client_path=b"/\xff%00\\\x7f", asked=b'"\xed\xa0\x80"'),
    ]
    records = [*a_day(), *odd]
    target = tmp_path / "made.sqlite"
    assert (
        shown("export", "--format", "sqlite", "-o", target, "-f", as_jsonl(tmp_path, records)) == ""
    )
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.glob("made.*")] == ["made.sqlite"]
    tables = []
    for path in (target, as_sqlite(tmp_path, records)):
        with closing(sqlite3.connect(path)) as connection:
            query = "SELECT sql FROM sqlite_schema ORDER BY name"
            schema = connection.execute(query).fetchall()
            tables.append((schema, connection.execute("SELECT * FROM records").fetchall()))
    assert tables[0] == tables[1]
    assert len(tables[0][1]) == len(records)


def test_a_database_is_exported_to_a_new_file_only(log: Path, tmp_path: Path) -> None:
    assert "name it with --output" in run("export", "--format", "sqlite", "-f", log).stderr
    target = tmp_path / "there.sqlite"
    target.write_text("theirs")
    result = run("export", "--format", "sqlite", "-f", log, "-o", target)
    assert (result.exit_code, target.read_text()) == (1, "theirs")


def test_an_exported_file_is_new_and_for_this_user_alone(log: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    old = os.umask(0)
    try:
        assert shown("export", "-f", log, "-o", target) == ""
    finally:
        os.umask(old)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert target.read_bytes() == made.lines(a_day())
    again = run("export", "-f", log, "-o", target)
    assert again.exit_code == 1
    assert "is there already; name a new file" in again.stderr
    assert "cannot be written" in run("export", "-f", log, "-o", tmp_path / "no" / "x").stderr


# -- what nobody sees -------------------------------------------------------------------------

EVIL = "\x1b[2J\x1b]0;owned\x07\x9b31m\x7f\u202edrow\u2066\u200b\r\b\x85\u2028[red]x[/red]"
_RAW = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]"
)


def evil() -> Record:
    """Control characters everywhere where a client or a provider can put them."""
    return made.record(
        "01a2" + EVIL,
        T,
        asked={
            "model": EVIL,
            "messages": [{"role": EVIL, "content": EVIL}, {"role": "tool", "name": EVIL}],
            "tools": [{"name": EVIL}],
        },
        answered={"choices": [{"message": {"role": EVIL, "content": EVIL, "reasoning": EVIL}}]},
        client=EVIL,
        provider=EVIL,
        key=EVIL,
        route=EVIL,
        detected_by=EVIL,
        url="https://a/" + EVIL,
        outcome="error",
        fault=Fault(EVIL, EVIL, "upstream"),
        cost=Cost(1.0, EVIL, EVIL),
        session={EVIL: EVIL},
        model=EVIL,
    )


@pytest.mark.parametrize(
    "command",
    [
        "list",
        "list --json",
        "list --grep owned",
        "tail --no-follow",
        "tail --no-follow --json",
        "show last",
        "show last --full",
        "show last --json",
        *(f"stats --by {by}" for by in ("provider", "model", "client", "day", "key")),
        "stats --json",
        *(f"export --format {name}" for name in ("jsonl", "csv", "har", "curl")),
    ],
)
@pytest.mark.parametrize("color", [False, True], ids=["pipe", "terminal"])
def test_no_control_character_of_a_record_reaches_the_terminal(
    command: str, color: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if color:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm-256color")
    text = shown(*command.split(), "-f", as_jsonl(tmp_path, [evil()]))
    assert "owned" in text or "stats" in command
    if color:
        text = re.sub(r"\x1b\[[0-9;]*m", "", text)  # colours of ours; those of the record are text
    assert not _RAW.search(text)


def test_markup_of_a_record_is_text(tmp_path: Path) -> None:
    text = shown("show", "last", "-f", as_jsonl(tmp_path, [evil()]))
    assert "[red]x[/red]" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("plain Grüße 你好 🙂", "plain Grüße 你好 🙂", id="what can be printed"),
        pytest.param("a\u00a0b\u3000c", "a b c", id="wide spaces"),
        pytest.param("a\x1b[0mb", "a\\x1b[0mb", id="escape"),
        pytest.param("a\nb\tc", "a\\nb\\tc", id="line break and tab"),
        pytest.param("\u202e\ud800", "\\u202e\\ud800", id="direction, and half a character"),
    ],
)
def test_safe_text_is_one_line(text: str, expected: str) -> None:
    assert safe(text) == expected


def test_safe_lines_keep_their_lines() -> None:
    assert safe_lines("a\r\nb\n\tc\rd") == "a\nb\n    c\\rd"


def test_json_for_a_terminal_means_the_same() -> None:
    value = {"a\x7f": ["\x9b", "\u202e", "ü", "\x1b"]}
    text = json_line(json.dumps(value, ensure_ascii=False))
    assert json.loads(text) == value
    assert "ü" in text
    assert not _RAW.search(text)


# -- time -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "begins", "ends"),
    [
        pytest.param("90s", timedelta(seconds=-90), None, id="seconds"),
        pytest.param("5m", timedelta(minutes=-5), None, id="minutes"),
        pytest.param("2h", timedelta(hours=-2), None, id="hours"),
        pytest.param("3D", timedelta(days=-3), None, id="days, in capitals"),
        pytest.param("1w", timedelta(days=-7), None, id="weeks"),
        pytest.param("now", timedelta(), None, id="now"),
        pytest.param("today", timedelta(hours=-14), timedelta(hours=10), id="today"),
        pytest.param("yesterday", timedelta(hours=-38), timedelta(hours=-14), id="yesterday"),
        pytest.param("2026-09-21", timedelta(hours=-14), timedelta(hours=10), id="a date"),
        pytest.param("2026-09-21T12:00:00Z", timedelta(), None, id="UTC"),
        pytest.param("2026-09-21 14:00", timedelta(), None, id="local"),
        pytest.param("2026-09-21T07:00-05:00", timedelta(), None, id="another offset"),
    ],
)
def test_a_moment_is_said_in_many_ways(
    text: str, begins: timedelta, ends: timedelta | None
) -> None:
    local = NOW.astimezone()
    assert moment(text, local) == T + begins.total_seconds()
    last = begins if ends is None else ends
    assert moment(text, local, is_end=True) == T + last.total_seconds()


def test_a_day_of_25_hours_is_one_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    local = datetime(2026, 10, 26, 12, tzinfo=UTC).astimezone()
    if local.utcoffset() != timedelta(hours=1):
        pytest.skip("this system knows no time zones")
    length = moment("yesterday", local, is_end=True) - moment("yesterday", local)
    assert length == 25 * HOUR


# -- the page about it ------------------------------------------------------------------------

PAGE = Path(__file__).resolve().parents[2] / "docs" / "records.md"


def _code(language: str) -> str:
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.S))


def test_the_page_names_every_field_and_every_column() -> None:
    text = PAGE.read_text()
    whole = made.told(SHOWN) | {"error": {"type": 0, "message": 0, "origin": 0}}
    groups = ("request", "model", "cost", "timing_ms", "error")
    fields = [name for name in whole if name not in groups]
    fields += [f"{group}.{name}" for group in groups for name in whole[group]]
    assert not [name for name in (*fields, *Row._fields) if f"`{name}`" not in text]


def test_the_sql_of_the_page_runs(tmp_path: Path) -> None:
    with closing(sqlite3.connect(as_sqlite(tmp_path, [*a_day(), SHOWN]))) as connection:
        queries = [query for query in _code("sql").split(";") if query.strip()]
        answers = [connection.execute(query).fetchall() for query in queries]
    assert len(answers) == 4
    assert ("set OPENAI_API_KEY", 1) in answers[2]


@pytest.mark.skipif(shutil.which("jq") is None, reason="no jq")
def test_the_jq_of_the_page_runs(tmp_path: Path) -> None:
    as_jsonl(tmp_path, [*a_day(), SHOWN])
    commands = [row for row in _code("sh").splitlines() if row.startswith("jq ")]
    assert len(commands) == 3
    for command in commands:
        done = subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True, capture_output=True)
        assert done.stdout


def test_the_logs_commands_of_the_page_run(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    commands = [
        shlex.split(row.partition("|")[0].partition("#")[0])[2:]
        for row in _code("sh").splitlines()
        if row.startswith("llm-passthrough logs ")
    ]
    assert len(commands) == 4
    for command in commands:
        words = ["claude" if re.fullmatch("[0-9a-f]{16}", word) else word for word in command]
        assert run(*words, "-f", log).exit_code == 0
