"""The benchmarks run, and measure what they say; how quick anything is, no test asserts."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from xml.etree import ElementTree

import pytest
import typer
from typer.testing import CliRunner

from bench import goals, measure, picture, process, profiling, readme, soak
from bench.__main__ import ALONE, CALLS, main
from bench.call import LONG, Order
from bench.contenders import BARE, DIRECT, LITELLM, MADE, NGINX, SERVE, WORKERS, installed
from bench.goals import GOALS, Verdict
from bench.load import Loader
from bench.machine import Machine, Watch
from bench.measure import Case, Result
from bench.provider import Provider

ROOT = Path(__file__).resolve().parents[1]
app = typer.Typer()
app.command()(main)


def bench(*arguments: object) -> str:
    run = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert run.exit_code == 0, run.output
    return run.output


# -- the client that takes the time -----------------------------------------------------------


@dataclass
class Relay:
    """A gateway that does what it is told to the chunks of answers, and counts what goes by."""

    upstream: int
    change: Callable[[list[bytes]], list[bytes]] = list
    late: float = 0.0
    sliced: int = 0
    connections: int = 0
    up: int = 0
    down: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        far, near = await asyncio.open_connection("127.0.0.1", self.upstream)
        upwards = asyncio.create_task(self.upwards(reader, near))
        self.tasks.add(upwards)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await far.readuntil(b"\r\n\r\n")
                writer.write(head)
                if b"chunked" in head:
                    await self.chunks(far, writer)
                else:
                    await self.body(far, writer, int(head.lower().split(b"length: ")[1].split()[0]))
        writer.close()

    async def upwards(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            self.up += len(data)
            near.write(data)
            await near.drain()
        near.close()

    async def body(
        self, far: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int
    ) -> None:
        while left:
            data = await far.read(min(left, 1 << 16))
            left -= len(data)
            self.down += len(data)
            writer.write(data)
            await writer.drain()

    async def chunks(self, far: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held: list[bytes] = []
        while True:
            size = int(await far.readline(), 16)
            held.append((await far.readexactly(size + 2))[:size])
            passed = self.change(held)
            if passed or not size:
                held = []
                await asyncio.sleep(self.late)
            for chunk in passed:
                raw = b"%x\r\n%s\r\n" % (len(chunk), chunk)
                for at in range(0, len(raw), self.sliced or len(raw)):
                    writer.write(raw[at : at + (self.sliced or len(raw))])
                    await asyncio.sleep(0)
            if not size:
                return


@contextlib.asynccontextmanager
async def relayed(**how: object) -> AsyncIterator[tuple[Relay, Loader, Order]]:
    """A relay in front of a provider, a client, and an order for ten events."""
    loop = asyncio.get_running_loop()
    provider = await loop.create_server(Provider, "127.0.0.1", 0)
    relay = Relay(provider.sockets[0].getsockname()[1], **how)  # type: ignore[arg-type]
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    loader = Loader()
    try:
        port = server.sockets[0].getsockname()[1]
        yield relay, loader, Order(port, "/", "localhost", "10/0.01", calls=1)
    finally:
        loader.close()
        server.close()
        provider.close()
        await asyncio.gather(*relay.tasks)


def lose(chunks: list[bytes]) -> list[bytes]:
    return [] if b'" 4"' in chunks[-1] else chunks


def merge(chunks: list[bytes]) -> list[bytes]:
    return [] if b'" 4"' in chunks[-1] else [b"".join(chunks)]


def drop(chunks: list[bytes]) -> list[bytes]:
    return [chunk for chunk in chunks if b'" 4"' not in chunk]


@pytest.mark.parametrize(
    ("how", "lost", "merged"),
    [
        pytest.param({}, 0, 0, id="what passes everything on loses and merges nothing"),
        pytest.param({"sliced": 7}, 0, 0, id="where the bytes are cut does not matter"),
        pytest.param({"change": lose}, 0, 0, id="two chunks sent together are still two"),
        pytest.param({"change": merge}, 0, 1, id="two events in one chunk are merged"),
        pytest.param({"change": drop}, 1, 0, id="an event that does not come is lost"),
    ],
)
async def test_events_that_are_lost_or_merged_are_counted(
    how: dict[str, object], lost: int, merged: int
) -> None:
    async with relayed(**how) as (_, loader, order):
        outcome = await loader.carry_out(order)
    assert (outcome.lost, outcome.merged, outcome.faults) == (lost, merged, [])
    assert len(outcome.delays) == 10 - lost


async def test_an_events_way_and_the_time_to_the_first_are_measured() -> None:
    async with relayed(late=0.03) as (_, loader, order):
        outcome = await loader.carry_out(order)
    assert len(outcome.first) == 1
    assert outcome.first[0] >= 0.03
    assert median(outcome.delays) >= 0.03
    assert outcome.seconds[0] >= 10 * 0.01


@pytest.mark.parametrize(
    ("change", "connections", "calls"),
    [
        pytest.param({"calls": 12}, 3, 12, id="connections are kept, also for the next order"),
        pytest.param({"calls": 12, "keep": False}, 24, 12, id="each call has its own connection"),
        pytest.param({"calls": 3, "seconds": 0.05}, 3, 3, id="as many as go into a time"),
        pytest.param({"calls": 3, "pause": 0.02, "seconds": 0.01}, 3, 3, id="none in a pause"),
    ],
)
async def test_an_order_is_for_calls_and_connections(
    change: dict[str, object], connections: int, calls: int
) -> None:
    async with relayed() as (relay, loader, order):
        order = replace(order, want="64", connections=3, **change)
        outcomes = [await loader.carry_out(order) for _ in range(2)]
    assert relay.connections == connections
    assert all(len(outcome.seconds) >= calls for outcome in outcomes)
    if not order.seconds:
        assert all(len(outcome.seconds) == calls for outcome in outcomes)
    assert all(outcome.took > 0.9 * order.seconds and not outcome.faults for outcome in outcomes)


async def test_long_bodies_go_up_and_down_whole() -> None:
    async with relayed() as (relay, loader, order):
        order = replace(order, want=f"{LONG + 1}", size=LONG + 5)
        outcome = await loader.carry_out(order)
    assert relay.down == LONG + 1
    assert LONG + 5 < relay.up < LONG + 2000
    assert len(outcome.seconds) == 1


async def test_connections_of_an_order_that_was_given_up_are_not_used_again() -> None:
    async with relayed() as (relay, loader, order):
        order = replace(order, want="64", connections=2, calls=2)
        await loader.carry_out(order)
        loader.give_up(order)
        await loader.carry_out(order)
    assert relay.connections == 4


async def test_streams_are_held_open_until_the_next_order() -> None:
    async with relayed() as (relay, loader, order):
        order = replace(order, want="2/60", connections=3, hold=True)
        await loader.carry_out(order)
        await loader.carry_out(replace(order, more=True))
        held = [task for task in relay.tasks if not task.done()]
    assert len(held) == 6


# -- a whole run ------------------------------------------------------------------------------


@pytest.mark.skipif(not process.available(), reason="processes do not tell here what they use")
def test_every_case_runs_and_is_told_on_the_screen_in_a_file_a_picture_and_a_readme(
    tmp_path: Path,
) -> None:
    file, drawn, text = tmp_path / "x.json", tmp_path / "x.svg", tmp_path / "README.md"
    text.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nbehind\n")
    ways = installed([DIRECT, NGINX, SERVE])
    shown = bench(
        *("--share", 0.0005, "--rounds", 1, "--json", file, "--svg", drawn, "--readme", text),
        *(word for way in ways for word in ("--contender", way)),
    )
    told = json.loads(file.read_text())
    results = {row["name"]: row for row in told["results"]}
    expected = [case for group in CALLS for case in group(0.0005, ways)]
    expected += [case for group in ALONE for case in group(0.0005) if case.column not in MADE]
    assert list(results) == [case.name for case in expected]
    for case in expected:
        row = results[case.name]
        assert (case.row or case.name) in shown
        assert len(row["values"]) == 1
        assert (row["ratio"] is None) <= (row["against"] is None)
        assert row["median"] > 0 or case.unit.startswith(("MB", "of ", "ms more")), case.name
    assert results["events lost or merged: serve"]["median"] == 0
    assert told["machine"]["cores"] == os.cpu_count()
    assert {one["goal"] for one in told["goals"]} < {goal.text for goal in GOALS}
    assert "Processor time" not in drawn.read_text()  # there is no bare mitmdump to compare with
    assert ">serve<" in drawn.read_text()
    assert text.read_text().startswith(f"before\n{readme.BEGIN}\nMeasured on ")
    assert text.read_text().endswith(f"{readme.END}\nbehind\n")
    assert "| 1 KB, 16 connections |" in text.read_text()


def test_only_the_cases_that_are_named_run_and_what_they_are_compared_with(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    bench("--share", 0.0005, "--rounds", 3, "--only", "gemini, ch", "--json", file)
    results = json.loads(file.read_text())["results"]
    assert [row["name"] for row in results] == ["bare tee, chunk", "gemini, chunk"]
    assert all(len(row["values"]) == 3 for row in results)


@pytest.mark.parametrize("option", ["--only", "--profile", "--contender"])
def test_a_name_that_there_is_not_is_refused(option: str) -> None:
    assert CliRunner().invoke(app, [option, "nonsense"]).exit_code == 2


# -- what is made of the numbers --------------------------------------------------------------


def result(
    name: str, *values: float, ratio: float | None = None, more: float | None = None
) -> Result:
    row, _, column = name.rpartition(": ")
    case = Case(name, "ms", lambda: 0.0, row=row, column=column)
    return Result(case, values, ratio, more)


def test_a_ratio_and_a_difference_are_of_the_same_round() -> None:
    """A round in which the machine was slow is slow for both."""
    numbers = {"a": iter([1.0, 10.0, 100.0]), "b": iter([2.0, 20.0, 100.0])}
    cases = [
        Case("a", "ms", lambda: next(numbers["a"])),
        Case("b", "ms", lambda: next(numbers["b"]), against="a", beyond="a"),
    ]
    _, found = measure.measured(cases, 3)
    assert (found.ratio, found.more, found.median) == (2.0, 1.0, 20.0)


def test_a_case_that_fails_is_told_and_the_others_go_on() -> None:
    def fails() -> float:
        raise RuntimeError("no answer")

    told: dict[str, str] = {}
    cases = [Case("a", "ms", fails), Case("b", "ms", lambda: 2.0, against="a", beyond="a")]
    (found,) = measure.measured(cases, 2, failed=told.__setitem__)
    assert told == {"a": "no answer"}
    assert (found.values, found.ratio, found.more) == ((2.0, 2.0), None, None)


def test_every_goal_is_about_cases_that_there_are() -> None:
    cases = [case for group in CALLS for case in group(1, [*MADE])]
    results = [
        Result(case, (7.0,), 2.0 if case.against else None, 3.0 if case.beyond else None)
        for case in cases
    ]
    assert [verdict.goal for verdict in goals.verdicts(results)] == list(GOALS)
    assert goals.verdicts([]) == []


@pytest.mark.parametrize(
    ("text", "value", "met", "wanted"),
    [
        pytest.param("a connection a call", 0.5, True, "≤ 0.5", id="at the most"),
        pytest.param("a connection a call", 0.51, False, "≤ 0.5", id="above the most"),
        pytest.param("LiteLLM", 10.0, True, "≥ 10", id="at the least"),
        pytest.param("LiteLLM", 9.9, False, "≥ 10", id="below the least"),
        pytest.param("lost", 0.0, True, "≤ 0", id="none"),
        pytest.param("lost", 1.0, False, "≤ 0", id="one of none"),
    ],
)
def test_a_goal_is_met_or_missed(text: str, value: float, met: bool, wanted: str) -> None:
    goal = next(goal for goal in GOALS if text in goal.text)
    assert (Verdict(goal, value).met, Verdict(goal, value).wanted) == (met, wanted)


RATE = "1 KB, 64 connections, calls a second"


def test_a_rate_beside_another_gateways_is_of_the_same_round() -> None:
    results = [result(f"{RATE}: {SERVE}", 100, 30), result(f"{RATE}: {LITELLM}", 10, 1)]
    (found,) = goals.verdicts(results)
    assert ("LiteLLM" in found.goal.text, found.value) == (True, 20.0)


def test_the_picture_is_svg_with_bars_as_long_as_the_numbers_and_for_dark_pages_too() -> None:
    names = {BARE: 400, SERVE: 200, WORKERS: 300, LITELLM: 20}
    results = [result(f"{RATE}: {name}", value) for name, value in names.items()]
    results.append(result(f"{RATE}: {NGINX}", 9000))  # beside it, all others would be dots
    results += [result(f"1 KB, 16 connections: {SERVE}", 5.0, ratio=0.5)]
    text = picture.svg(results, "on <this> machine")
    root = ElementTree.fromstring(text)
    bars = [node for node in root.iter() if node.tag.endswith("rect")]
    widths = [float(bar.get("width", "")) for bar in bars[1:]]
    assert widths == pytest.approx([widths[0] * value / 400 for value in names.values()], abs=0.2)
    assert [bar.get("class") for bar in bars[1:]] == ["other", "ours", "ours", "other"]
    assert "prefers-color-scheme: dark" in text
    assert all(name in "".join(root.itertext()) for name in names)


def test_the_readme_has_the_place_that_is_written_to(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text((ROOT / "README.md").read_text(encoding="utf-8"), encoding="utf-8")
    readme.write(file, "new\n")
    assert f"{readme.BEGIN}\nnew\n{readme.END}" in file.read_text(encoding="utf-8")
    file.write_text("no marks\n")
    with pytest.raises(ValueError, match=r"README\.md has no"):
        readme.write(file, "new\n")


def test_what_was_measured_on_is_said() -> None:
    found = Watch().machine()
    assert isinstance(found, Machine)
    assert f"Python {found.python}, mitmproxy {found.mitmproxy}" in found.line()


# -- where a program spends its time ----------------------------------------------------------

_PROGRAM = """
import os, signal, threading, time

def burn(seconds):
    begun = time.thread_time()
    while time.thread_time() - begun < seconds:
        pass

def main():
    os.kill(os.getpid(), signal.SIGRTMIN)
    thread = threading.Thread(target=lambda: burn(0.1), name="beside")
    thread.start()
    burn(0.3)
    thread.join()
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGRTMIN)
"""


def test_a_profile_says_which_function_of_which_thread_had_the_processor(tmp_path: Path) -> None:
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "program.py").write_text(_PROGRAM)
    file = tmp_path / "samples.json"
    path = os.pathsep.join((str(ROOT), str(tmp_path / "site-packages")))
    subprocess.run(
        [sys.executable, "-P", "-m", "bench.sampler", str(file), "program:main"],
        env=os.environ | {"PYTHONPATH": path},
        check=True,
        timeout=60,
    )
    told = json.loads(file.read_text())
    assert told["threads"]["MainThread"] == pytest.approx(0.3, abs=0.05)
    assert told["threads"]["beside"] == pytest.approx(0.1, abs=0.05)
    (burn,) = [row for row in told["functions"] if row[1].endswith("program.py: burn")]
    assert burn[0] == "program"
    assert burn[2] == pytest.approx(0.4, abs=0.1)
    titles = [table.title for table in profiling.tables(told)]
    assert titles == ["by thread", "by package", "by function"]


# -- mixed traffic ----------------------------------------------------------------------------


def test_a_soak_of_some_requests_ends_well(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with its end and its record, and no file left open; scripts/soak does 200,000."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT / "addon"), str(ROOT))))
    soak.main(requests=60, clients=8, minutes=None, seed=1)
    said = capsys.readouterr().out
    assert "61 requests in" in said
    assert "every request ended and has its record; no file was left open" in said
