"""`llm-passthrough replay`: a recorded call goes out again, through a real gateway."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import made
import pytest
from click.testing import Result
from live.harness import (
    KEYS,
    Gateway,
    Provider,
    Upstream,
    Wire,
    config_for,
    free_port,
    raw,
    request,
)
from llm_passthrough.cli import app
from llm_passthrough.cli.sidebyside import compared
from typer.testing import CliRunner

TOKEN = "token-of-the-team-0123456789"
CHAT = "/openai_passthrough/v1/chat/completions"
PINNED = "x-passthrough-key: openai-main"
GEMINI = "/genai_passthrough/v1beta/models/gemini-2.5-flash"


class Bench:
    """A gateway that knows one client, and its provider."""

    def __init__(self, folder: Path) -> None:
        self.provider = Provider(pace=0.0)
        clients = [{"name": "team", "tokens": [TOKEN]}]
        config = config_for(self.provider.url, clients=clients)
        config["providers"]["openai"]["keys"].append({"name": "other", "value": "sk-other-1234567"})
        config["log"] = {"body_limit": 50_000}
        self.gateway = Gateway(folder, config)

    def call(
        self, target: str, body: object, method: str = "POST", headers: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """Ask once, as a client does, and give the record of it."""
        before = len(self.gateway.records())
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = (f"Authorization: Bearer {TOKEN}", f"Proxy-Authorization: Bearer {TOKEN}")
        answer = raw(self.gateway.port, request(target, content, method, (*fields, *headers)), 10)
        assert answer.startswith(b"HTTP/1.1 ")
        return self.gateway.records(before + 1)[-1]

    def replay(self, *args: str) -> Result:
        """The command, as the team would type it."""
        url, log = f"http://127.0.0.1:{self.gateway.port}", str(self.gateway.records_path)
        command = ["replay", "--gateway", url, "--file", log, *args]
        return CliRunner().invoke(app, command)

    def both(self, *args: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The two records that it prints."""
        result = self.replay(*args, "--json")
        first, again = (json.loads(line) for line in result.stdout.splitlines())
        return first, again

    def stop(self) -> None:
        self.gateway.stop()
        self.provider.stop()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("replay"))
    yield bench
    bench.stop()


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LLM_PASSTHROUGH_TOKEN", TOKEN)


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "model": "gpt-4o"} | more


def test_what_the_client_sent_goes_out_again(bench: Bench) -> None:
    body = b'{ "model" :"gpt-4o",\n "messages":[{"role":"user","content":"Once."}] }'
    headers = ("X-Stainless-Lang: python", "Accept-Encoding: gzip", "Accept: */*")
    record = bench.call(f"{CHAT}?a=%2F&a=", body, headers=(*headers, PINNED))
    result = bench.replay(record["id"], "--key", "openai-main")
    assert result.exit_code == 0, result.output
    first, again = bench.provider.seen[-2:]
    assert again.target == first.target == "/v1/chat/completions?a=%2F&a="
    assert again.body == first.body == body
    sent = [sorted(set(one.headers) - {("Connection", "close")}) for one in (first, again)]
    assert sent[0] == sent[1]
    assert "the answers say the same" in result.output
    assert "gpt-4o" in result.output


def test_both_records_as_json(bench: Bench) -> None:
    record = bench.call(CHAT, chat("As JSON.", stream=True))
    first, again = bench.both(record["id"], "--key", "other")
    assert first == record
    assert again["replay_of"] == record["id"]
    assert again["id"] != record["id"]
    assert (again["client"], again["key"], again["outcome"]) == ("team", "other", "ok")
    assert again["response"]["body"].endswith("data: [DONE]\n\n")
    assert again["timing_ms"]["first_token"] is not None
    assert again in bench.gateway.records()


@pytest.mark.parametrize("id_", [lambda ident: ident[:24], lambda _: "last"], ids=["part", "last"])
def test_a_part_of_the_id_is_enough(bench: Bench, id_: Any) -> None:
    record = bench.call(CHAT, chat("By a part of its id."))
    first, _ = bench.both(id_(record["id"]))
    assert first["id"] == record["id"]


def test_another_model_in_the_body(bench: Bench) -> None:
    record = bench.call(CHAT, chat("Another model."))
    _, again = bench.both(record["id"], "--model", "gpt-4o-mini")
    sent = json.loads(bench.provider.last().body)
    assert sent == chat("Another model.", model="gpt-4o-mini")
    assert again["model"]["requested"] == "gpt-4o-mini"


def test_another_model_in_the_path(bench: Bench) -> None:
    body = {"contents": [{"parts": [{"text": "Hi"}]}]}
    record = bench.call(f"{GEMINI}:streamGenerateContent?alt=sse", body)
    bench.both(record["id"], "--model", "gemini-2.5-pro")
    target = "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse"
    assert bench.provider.last().target == target


def test_another_key(bench: Bench) -> None:
    record = bench.call(CHAT, chat("Another key."), headers=(PINNED,))
    for key, value in (("other", "sk-other-1234567"), ("openai-main", KEYS["openai"])):
        _, again = bench.both(record["id"], "--key", key)
        assert again["key"] == key
        assert ("Authorization", f"Bearer {value}") in bench.provider.last().headers


def test_an_earlier_replay_is_not_taken_for_this_one(bench: Bench, tmp_path: Path) -> None:
    record = bench.call(CHAT, chat("Once more, and once more."))
    _, earlier = bench.both(record["id"])
    log = tmp_path / "log.jsonl"  # the gateway does not write there, and its record does not come
    log.write_text(json.dumps(record) + "\n" + json.dumps(earlier) + "\n")
    _, again = bench.both(record["id"], "--file", str(log))
    assert again["id"] != earlier["id"]
    assert again["timing_ms"]["gateway"] is None, "as it is seen from outside"


@pytest.mark.parametrize("key", ["other", "openai-main"])
def test_without_a_wish_it_is_signed_as_the_first_time(bench: Bench, key: str) -> None:
    pin = f"x-passthrough-key: {key}"
    record = bench.call(CHAT, chat("The same key."), headers=(pin,))
    for _ in range(4):
        result = bench.replay(record["id"], "--json")
        assert [json.loads(line)["key"] for line in result.stdout.splitlines()] == [key, key]
        assert result.stderr == ""


def test_where_the_first_key_is_gone_another_one_signs_and_that_is_said(bench: Bench) -> None:
    record = bench.call(CHAT, chat("A key that is gone."))
    old = record | {"id": f"{record['id'][:20]}00000000", "key": "gone"}
    with bench.gateway.records_path.open("a") as file:
        file.write(json.dumps(old) + "\n")
    result = bench.replay(old["id"], "--json")
    again = json.loads(result.stdout.splitlines()[1])
    assert again["outcome"] == "ok"
    assert f"signed with {again['key']}: the first call's key is not there" in result.stderr


def test_a_call_by_host_goes_by_that_host_again(bench: Bench) -> None:
    record = bench.call("https://api.openai.com/v1/chat/completions", chat("By host."))
    assert record["route"] == "host:api.openai.com"
    _, again = bench.both(record["id"])
    assert again["route"] == "host:api.openai.com"
    assert again["client"] == "team"
    assert json.loads(bench.provider.last().body) == chat("By host.")


@pytest.mark.parametrize(
    ("text", "outcome", "said"),
    [
        pytest.param("error:429", "upstream_error", "429 upstream", id="an error"),
        pytest.param("error:cut", "upstream_abort", "200 upstream_abort", id="broken off"),
    ],
)
def test_what_goes_wrong_again_is_told_so(bench: Bench, text: str, outcome: str, said: str) -> None:
    record = bench.call(CHAT, chat(text, stream=True))
    result = bench.replay(record["id"])
    assert result.exit_code == 1
    assert said in result.output
    assert bench.gateway.records()[-1]["outcome"] == outcome
    assert "Traceback" not in result.output


def test_without_its_token_a_client_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = bench.call(CHAT, chat("Who are you?"))
    monkeypatch.delenv("LLM_PASSTHROUGH_TOKEN")
    count = len(bench.provider.seen)
    result = bench.replay(record["id"])
    assert result.exit_code == 1
    assert "401 refused" in result.output
    assert len(bench.provider.seen) == count


def test_what_was_not_kept_whole_is_not_sent(bench: Bench) -> None:
    record = bench.call(CHAT, chat("x" * 60_000))
    count = len(bench.provider.seen)
    result = bench.replay(record["id"])
    assert result.exit_code == 1
    assert result.stderr.endswith("its body was not kept whole (log.body_limit, log.capture)\n")
    assert len(bench.provider.seen) == count


def test_where_the_gateway_writes_elsewhere_the_call_is_told_as_it_was_seen(
    bench: Bench, tmp_path: Path
) -> None:
    one = made.record("elsewhere", asked=chat("From another log.", stream=True))
    log = made.log(tmp_path / "log.jsonl", [one])
    url = f"http://127.0.0.1:{bench.gateway.port}"
    command = ["replay", "elsewhere", "--gateway", url, "--file", str(log), "--json"]
    result = CliRunner().invoke(app, command)
    again = json.loads(result.stdout.splitlines()[1])
    assert again["replay_of"] == "elsewhere"
    assert again["model"]["response"] == "gpt-4o"
    assert again["timing_ms"]["first_token"] is not None
    assert TOKEN not in result.output


# -- no gateway -------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return made.log(tmp_path / "log.jsonl", [made.record("abc1"), made.record("abc2")])


@pytest.mark.parametrize(
    ("url", "said"),
    [
        pytest.param(f"http://127.0.0.1:{free_port()}", "llm-passthrough serve", id="nobody"),
        pytest.param("127.0.0.1:8080", "must be a URL", id="no URL"),
        pytest.param("http://127.0.0.1:99999", "must be a URL", id="no port"),
        pytest.param("http://", "must be a URL", id="no host"),
    ],
)
def test_no_gateway_is_one_line(log: Path, url: str, said: str) -> None:
    result = CliRunner().invoke(app, ["replay", "abc1", "--file", str(log), "--gateway", url])
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_stranger_gets_no_prompt(log: Path) -> None:
    heard: list[bytes] = []

    def talk(wire: Wire) -> None:
        heard.append(wire.message()[0])
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    stranger = Upstream(talk)
    result = CliRunner().invoke(
        app, ["replay", "abc1", "--file", str(log), "--gateway", stranger.url]
    )
    stranger.stop()
    assert result.exit_code == 2
    assert "is no llm-passthrough gateway" in result.stderr
    assert len(heard) == 1
    assert heard[0].startswith(b"GET /health ")


@pytest.mark.parametrize(
    ("id_", "said"),
    [("x", "no record whose id begins with x"), ("abc", "several records begin with abc")],
)
def test_an_id_that_names_no_call_or_several_is_told(log: Path, id_: str, said: str) -> None:
    result = CliRunner().invoke(app, ["replay", id_, "--file", str(log)])
    assert result.exit_code == 1
    assert said in result.stderr


# -- the comparison ---------------------------------------------------------------------------


def answer(text: str) -> dict[str, Any]:
    return made.told(made.record(answered={"choices": [{"message": {"content": text}}]}))


@pytest.mark.parametrize(
    ("before", "now", "shown"),
    [
        pytest.param("Blue.", "Blue.", "the answers say the same", id="the same"),
        pytest.param(
            "The sky is blue today.", "The sky is grey today.",
            "The sky is [-blue-]{+grey+} today.",
            id="a word",
        ),
        pytest.param("Yes.", "No, never.", "first call\nYes.\n\nreplay\nNo, never.", id="all"),
        pytest.param(
            f"{'same ' * 40}end", f"{'same ' * 40}stop",
            "same same same same same same ... same same same same same same [-end-]{+stop+}",
            id="what is the same is left out",
        ),
        pytest.param("a\x1b[31m b c", "a\x1b[31m b d", "\\x1b", id="what a terminal obeys"),
        pytest.param("x " * 5000, "y", "9,999 characters in all", id="too long to compare"),
    ],
)  # fmt: skip
def test_the_answers_are_compared(before: str, now: str, shown: str) -> None:
    text = compared(answer(before), answer(now)).plain
    assert shown in text
    assert "\x1b" not in text
