"""The clients of a configuration: tokens as references or hashes, each somebody's alone."""

import hashlib
from pathlib import Path

import pytest
from llm_passthrough import config
from llm_passthrough.build import Parts, build
from llm_passthrough.errors import ConfigError

TOKEN, OTHER = "token-of-alice-0123456789", "token-of-bob-0123456789"
HASHED = "sha256:" + hashlib.sha256(TOKEN.encode()).hexdigest()


def parts(*clients: dict[str, object], **env: str) -> Parts:
    return build(config.parse({"clients": list(clients)}, "file")[0], env, "file")


def alice(*tokens: str) -> dict[str, object]:
    return {"name": "alice", "tokens": list(tokens)}


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(TOKEN, id="plain"),
        pytest.param("env.ALICE", id="a variable"),
        pytest.param(HASHED, id="a hash"),
        pytest.param(
            HASHED.replace("a", "A").replace("SHA", "sha").replace("shA", "sha"), id="HEX"
        ),
    ],
)
def test_a_client_is_known_by_its_token(token: str) -> None:
    made = parts(alice(token), ALICE=TOKEN).clients
    assert made.identify([f"Bearer {TOKEN}"]) == "alice"


def test_a_token_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    assert parts(alice(f"file:{file}")).clients.identify([TOKEN]) == "alice"
    file.chmod(0o644)
    assert "chmod 600" in parts(alice(f"file:{file}")).warnings[0]


def test_a_client_may_have_several_tokens_while_it_changes_them() -> None:
    made = parts(alice(HASHED, OTHER), {"name": "bob", "tokens": ["another-token-0123456"]}).clients
    assert [made.identify([token]) for token in (TOKEN, OTHER)] == ["alice", "alice"]
    assert made.identify(["another-token-0123456"]) == "bob"


def test_a_token_of_the_configuration_is_redacted_like_a_key() -> None:
    assert TOKEN not in parts(alice(TOKEN)).redactor(f"x {TOKEN} y")


@pytest.mark.parametrize(
    ("clients", "said"),
    [
        pytest.param([alice("short")], "16 characters", id="too short"),
        pytest.param([alice("sha256:abc")], "64 hex digits", id="no hash"),
        pytest.param([alice("env.NOBODY")], "NOBODY is not set", id="an unset variable"),
        pytest.param([alice("token with spaces 0123")], "white space", id="white space"),
        pytest.param([alice(TOKEN), alice(OTHER)], "clients[1].name: taken", id="a name twice"),
        pytest.param(
            [alice(TOKEN), {"name": "bob", "tokens": [HASHED]}],
            "clients[1].tokens[0]: is another client's too",
            id="a token twice",
        ),
    ],
)
def test_what_is_wrong_is_said_without_the_token(
    clients: list[dict[str, object]], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parts(*clients)
    (line,) = caught.value.lines
    assert said in line
    assert TOKEN not in line


def test_clients_block_other_hosts_unless_the_configuration_says_otherwise() -> None:
    assert parts().forward.other == "tunnel"
    assert parts(alice(TOKEN)).forward.other == "block"
    document = {"clients": [alice(TOKEN)], "forward": {"other": "inspect"}}
    assert build(config.parse(document, "file")[0], {}, "file").forward.other == "inspect"
