"""`llm-passthrough clients`: the file is changed in place, a token is shown once."""

import base64
import hashlib
import json
import os
import re
import stat
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from llm_passthrough import config
from llm_passthrough.cli import app, clients_file
from llm_passthrough.errors import ConfigError
from llm_passthrough.record import Cost, Usage
from made import log, record
from typer.testing import CliRunner

OLD = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
SOURCE = f"""\
# The team's gateway.
listen:
  port: 8080   # as everywhere

clients:
  # From finance.
  - name: alice   # the first
    tokens: ["{OLD}"]  # of last year
    models: ['gpt-*']

  - name: bob
    tokens:
      - {OLD.replace("2c", "3c")}

providers:
  openai:
    keys: [{{name: main, value: env.NOT_SET_HERE}}]   # a reference
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(SOURCE)
    path.chmod(0o640)
    return path


def clients(file: Path | None, *arguments: str) -> Result:
    given = [*arguments, *(["--config", str(file)] if file else [])]
    return CliRunner().invoke(app, ["clients", *given], env={"COLUMNS": "300"})


def done(file: Path, *arguments: str) -> str:
    """What a command that succeeds prints; a token, where it makes one."""
    result = clients(file, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def tokens(file: Path, name: str) -> list[tuple[str, str | None]]:
    entries = config.load(file, {})[0].clients
    (entry,) = [entry for entry in entries if entry.name == name]
    return [(token.value, token.expires) for token in entry.tokens]


def hashed(token: str) -> str:
    return f"sha256:{hashlib.sha256(token.strip().encode()).hexdigest()}"


def test_a_new_client_is_written_behind_the_others_and_all_else_stays(file: Path) -> None:
    printed = done(file, "add", "carol")
    assert re.fullmatch(r"llmp_[\w-]{43}\n", printed)
    assert tokens(file, "carol") == [(hashed(printed), None)]
    text = file.read_text()
    assert printed.strip() not in text
    assert [line for line in SOURCE.splitlines() if line not in text.splitlines()] == []
    assert text.index("bob") < text.index("carol") < text.index("providers")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert os.listdir(file.parent) == ["gateway.yaml"]


def test_a_token_may_be_given_a_last_day(file: Path) -> None:
    printed = done(file, "add", "carol", "--expires", "2031-02-03")
    assert tokens(file, "carol") == [(hashed(printed), "2031-02-03")]


def test_the_first_client_changes_who_may_call_and_that_is_said(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    for source in ("listen: {port: 1}  # one\n", "clients: []\nlisten: {port: 1}  # one\n"):
        file.write_text(source)
        result = clients(file, "add", "alice")
        assert "everybody who calls has to send a token" in result.stderr
        assert "# one" in file.read_text()
        assert len(tokens(file, "alice")) == 1


def test_an_old_token_is_good_beside_the_new_one_until_it_is_dropped(file: Path) -> None:
    first, second = done(file, "rotate", "alice"), done(file, "rotate", "alice")
    assert first != second
    assert tokens(file, "alice") == [(OLD, None), (hashed(first), None), (hashed(second), None)]
    assert done(file, "rotate", "alice", "--drop-old") == ""
    assert tokens(file, "alice") == [(hashed(second), None)]
    assert "# From finance." in file.read_text()


def test_with_a_grace_the_old_tokens_end_by_themselves(file: Path) -> None:
    first = done(file, "rotate", "alice", "--grace", "1")
    second = done(file, "rotate", "alice", "--grace", "7")
    today = datetime.now(UTC).date()
    soon, later = (str(today + timedelta(days=days)) for days in (1, 7))
    assert tokens(file, "alice") == [(OLD, soon), (hashed(first), later), (hashed(second), None)]


def test_a_client_that_is_removed_is_gone(file: Path) -> None:
    assert done(file, "remove", "alice") == ""
    assert [entry.name for entry in config.load(file, {})[0].clients] == ["bob"]
    result = clients(file, "remove", "bob")
    assert "everybody on this machine may call now" in result.stderr
    assert config.load(file, {})[0].clients == ()


def test_json_stays_json(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"log": {"path": "é"}}))
    printed = done(file, "add", "alice")
    document = json.loads(file.read_text())
    assert document["clients"] == [{"name": "alice", "tokens": [hashed(printed)]}]
    assert document["log"] == {"path": "é"}


def test_line_ends_stay_as_they_are(file: Path) -> None:
    file.write_bytes(SOURCE.replace("\n", "\r\n").encode())
    done(file, "add", "carol")
    text = file.read_bytes()
    assert text.count(b"\n") == text.count(b"\r\n")
    assert b"# From finance.\r\n" in text


def test_where_the_file_is_a_link_its_target_is_changed(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.yaml"
    link.symlink_to(file)
    done(link, "add", "carol")
    assert link.is_symlink()
    assert len(tokens(file, "carol")) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("add", "alice"), "a client has this name", id="a name that is taken"),
        pytest.param(("add", "a b"), "clients[2].name: must begin with", id="a name that is none"),
        pytest.param(
            ("add", "carol", "--expires", "soon"), "clients[2].tokens[0].expires", id="no day"
        ),
        pytest.param(("rotate", "carol"), "no client has this name; there are: alice, bob", id="x"),
        pytest.param(("remove", "carol"), "there are: alice, bob", id="nobody to remove"),
        pytest.param(
            ("rotate", "bob", "--drop-old", "--grace", "1"), "exclude each other", id="both ways"
        ),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    file: Path, arguments: tuple[str, ...], said: str
) -> None:
    result = clients(file, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "llmp_" not in result.output
    assert file.read_text() == SOURCE


@pytest.mark.parametrize(
    ("source", "said"),
    [
        pytest.param("clients: [\n", "not valid YAML", id="no YAML"),
        pytest.param("clients:\n", "is empty", id="a part without a value"),
        pytest.param("listen: {prot: 1}\n", "did you mean port?", id="a misspelt option"),
        pytest.param("a: !!python/object:os.x {}\n", "a tag", id="a tag"),
    ],
)
def test_a_broken_file_is_told_of_and_stays(tmp_path: Path, source: str, said: str) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(source)
    result = clients(file, "add", "alice")
    assert (result.exit_code, file.read_text()) == (2, source)
    assert said in result.stderr


def test_the_last_client_stays_where_other_machines_may_call(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(f"listen: {{host: 0.0.0.0}}\nclients: [{{name: a, tokens: ['{OLD}']}}]\n")
    result = clients(file, "remove", "a")
    assert result.exit_code == 2
    assert "only loopback" in result.stderr
    assert len(tokens(file, "a")) == 1


def test_without_a_file_there_is_nothing_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLM_PASSTHROUGH_CONFIG", raising=False)
    for arguments in (("add", "a"), ("list",)):
        result = clients(None, *arguments)
        assert (result.exit_code, "--config" in result.stderr) == (2, True)


def test_the_file_may_be_named_by_the_environment(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_PASSTHROUGH_CONFIG", str(file))
    assert clients(None, "add", "carol").exit_code == 0
    assert len(tokens(file, "carol")) == 1


def test_what_somebody_else_wrote_meanwhile_is_not_lost(file: Path) -> None:
    def how(entries: list[Any]) -> None:
        file.write_text(SOURCE + "# new\n")

    with pytest.raises(ConfigError, match="somebody else changed it"):
        clients_file.change(file, how)
    assert file.read_text().endswith("# new\n")


def test_a_folder_that_cannot_be_written_is_said(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace(source: str, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", replace)
    result = clients(file, "add", "carol")
    assert (result.exit_code, "cannot be written: Permission denied" in result.stderr) == (2, True)
    assert os.listdir(file.parent) == ["gateway.yaml"]


# -- list -----------------------------------------------------------------------------------------

LISTED = """
log: {{path: {path}}}
clients:
  - name: alice
    tokens: [{{value: "{old}", expires: 2025-01-01}}, {{value: "{new}", expires: 2931-01-01}}]
    routes: [/openai_passthrough]
    models: [gpt-*]
    blacklisted_models: ["*-pro"]
    keys: []
    requests_per_minute: 1000
    tokens_per_minute: 2000
    budget: {{daily: 5, monthly: 100, unpriced: 0.5}}
    capture: usage
  - {{name: bob, enabled: false, tokens: ["{bob}"]}}
"""


def test_the_list_shows_rules_and_what_is_used_and_nothing_of_a_token(tmp_path: Path) -> None:
    path = tmp_path / "log" / "records.jsonl"
    path.parent.mkdir()
    now = time.time()
    cost, usage = Cost(1.25, "USD", "config"), Usage(input_tokens=1000, output_tokens=234)
    log(path, [record(started=now - 1, client="alice", cost=cost, usage=usage),
               record(started=now - 2, client="alice", id="0" * 28)])  # fmt: skip
    file = tmp_path / "gateway.yaml"
    hashes = {name: hashed(name) for name in ("old", "new", "bob")}
    file.write_text(LISTED.format(path=path, **hashes))
    printed = done(file, "list")
    alice, bob = map(str.strip, printed.splitlines()[1:3])
    assert alice.split("  ")[0] == "alice"
    for told in (
        "2, 1 expired, one to 2931-01-01", "1,234", "$1.75 of $5", "$1.75 of $100",
        "routes: /openai_passthrough; models: gpt-*; keys: none; not *-pro; "
        "1,000 requests a minute; 2,000 tokens a minute; capture: usage",
    ):  # fmt: skip
        assert told in alice
    assert re.match(r"bob \(off\) +1 +0 +0 +\$0\.00 +\$0\.00 +none", bob)
    for token in hashes.values():
        assert token[-6:] not in printed


def test_what_is_used_is_unknown_where_the_records_cannot_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "records.jsonl"
    folder.mkdir()
    for name in ("a.sqlite", "b.sqlite"):
        (folder / name).write_bytes(b"")
    file = tmp_path / "gateway.yaml"
    file.write_text(f"log: {{path: {folder}}}\nclients: [{{name: a, tokens: ['{OLD}']}}]\n")
    assert re.search(r"a +1 +- +- +- +- +none", done(file, "list"))


def test_a_broken_file_has_no_list(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("clients: 5\n")
    result = clients(file, "list")
    assert (result.exit_code, "must be a list" in result.stderr) == (2, True)


def test_a_token_that_is_made_cannot_be_guessed() -> None:
    """G03: 256 bits of chance, each of them as often one as zero."""
    tokens = [clients_file.new_token()[0] for _ in range(500)]
    values = [base64.urlsafe_b64decode(token.removeprefix("llmp_") + "=") for token in tokens]
    assert {len(value) for value in values} == {32}
    assert len(set(values)) == len(values)
    for bit in range(256):
        ones = sum(value[bit // 8] >> bit % 8 & 1 for value in values)
        assert 100 < ones < 400  # 13 standard deviations
