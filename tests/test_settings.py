"""Secret references and the usual variables: what they give, and that no error shows a value."""

from pathlib import Path

import pytest
from llm_passthrough.settings import (
    SettingError,
    is_reference,
    others_can_read,
    readable_by_others,
    secret,
    text,
    usual_providers,
)

SECRET = "sk-SECRET-0123456789"
ENV = {"KEY": SECRET, "EMPTY": "", "BREAK": f"{SECRET}\r\nX-Evil: 1", "TODO": "ChangeMe"}


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        pytest.param("env.KEY", SECRET, id="env.NAME"),
        pytest.param("${KEY}", SECRET, id="dollar and braces"),
        pytest.param("plain-value", "plain-value", id="plain"),
        pytest.param("sk-env.KEY", "sk-env.KEY", id="a reference is the whole value"),
        pytest.param("environment", "environment", id="a word that only begins alike"),
        pytest.param("", "", id="empty"),
    ],
)
def test_a_reference_gives_its_text(reference: str, value: str) -> None:
    assert text(reference, ENV) == value


@pytest.mark.parametrize(
    ("content", "value"),
    [
        pytest.param(b"sk-file\n", "sk-file", id="the line break of an editor is no part of it"),
        pytest.param(b"sk-file\r\n", "sk-file", id="nor that of another system"),
        pytest.param(b"sk-file", "sk-file", id="no line break"),
        pytest.param(b"sk-file\n\n", "sk-file\n", id="only one is taken off"),
    ],
)
def test_a_file_gives_its_text(tmp_path: Path, content: bytes, value: str) -> None:
    (tmp_path / "key").write_bytes(content)
    assert text(f"file:{tmp_path}/key", {}) == value


def test_a_file_may_lie_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "key").write_text("sk-home")
    assert text("file:~/key", {}) == "sk-home"


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        pytest.param("env.GONE", "variable GONE is not set", id="unset variable"),
        pytest.param("${GONE}", "variable GONE is not set", id="unset variable in braces"),
        pytest.param("env.EMPTY", "variable EMPTY is not set, or empty", id="empty variable"),
        pytest.param("", "the value is empty", id="empty value"),
        pytest.param("env.TODO", "variable TODO is a placeholder", id="placeholder, in any case"),
        pytest.param("changeme", "the value is a placeholder", id="plain placeholder"),
        pytest.param("env.BREAK", "variable BREAK has white space", id="would begin a header"),
        pytest.param(f"{SECRET}\n", "the value has white space", id="line break at the end"),
        pytest.param(f" {SECRET}", "the value has white space", id="space"),
        pytest.param(f"{SECRET}\x00", "the value has white space", id="NUL"),
        pytest.param(f"{SECRET}é", "the value has white space", id="not ASCII"),
        pytest.param(f"env.{SECRET}", "write env.NAME or ${NAME}", id="no name of a variable"),
        pytest.param(f"${SECRET}", "write env.NAME or ${NAME}", id="braces forgotten"),
        pytest.param("env:KEY", "write env.NAME or ${NAME}", id="colon instead of the dot"),
        pytest.param("file:/nowhere/key", "cannot read the file /nowhere/key: No such", id="gone"),
        pytest.param("file:/", "cannot read the file /: Is a directory", id="a folder"),
    ],
)
def test_a_secret_that_cannot_be_used_is_named_and_never_shown(reference: str, said: str) -> None:
    with pytest.raises(SettingError) as caught:
        secret(reference, ENV)
    assert said in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"\n", "is empty", id="a line break only"),
        pytest.param(b"sk-\xff-SECRET", "not UTF-8 text", id="bytes"),
        pytest.param(b"sk-SECRET\nsecond line\n", "has white space", id="two lines"),
    ],
)
def test_a_file_that_holds_no_key_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(SettingError) as caught:
        secret(f"file:{tmp_path}/key", {})
    assert said in str(caught.value)
    assert str(tmp_path / "key") in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_a_secret_is_not_shown_by_its_representation() -> None:
    assert SECRET not in repr(secret("env.KEY", ENV)) + str(secret("env.KEY", ENV))


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        ("env.KEY", True),
        ("${KEY}", True),
        ("file:~/key", True),
        (SECRET, False),
        ("env.not-a-name", False),
        ("", False),
    ],
)
def test_a_value_is_a_reference_or_the_secret_itself(value: str, is_one: bool) -> None:
    assert is_reference(value) is is_one


@pytest.mark.parametrize(
    ("mode", "open_"),
    [(0o600, False), (0o400, False), (0o640, True), (0o604, True), (0o644, True)],
)
def test_a_file_that_others_can_read_is_noticed(tmp_path: Path, mode: int, open_: bool) -> None:
    path = tmp_path / "key"
    path.write_text("sk")
    path.chmod(mode)
    assert others_can_read(path) is open_
    assert readable_by_others(f"file:{path}") == (str(path) if open_ else None)


@pytest.mark.parametrize("reference", ["env.KEY", SECRET, "file:/nowhere/key"])
def test_what_is_no_file_is_readable_by_nobody(reference: str) -> None:
    assert readable_by_others(reference) is None


def key(name: str, **more: object) -> dict[str, object]:
    return {"keys": [{"name": name, "value": f"env.{name}"} | more]}


AZURE = {"endpoint": "env.AZURE_OPENAI_ENDPOINT"}


@pytest.mark.parametrize(
    ("names", "providers"),
    [
        pytest.param("", {}, id="nothing set, no provider"),
        pytest.param("OPENAI_API_KEY", {"openai": key("OPENAI_API_KEY")}, id="openai"),
        pytest.param("ANTHROPIC_API_KEY", {"anthropic": key("ANTHROPIC_API_KEY")}, id="anthropic"),
        pytest.param("GEMINI_API_KEY", {"gemini": key("GEMINI_API_KEY")}, id="gemini"),
        pytest.param("GOOGLE_API_KEY", {"gemini": key("GOOGLE_API_KEY")}, id="gemini's other name"),
        pytest.param(
            "GOOGLE_API_KEY GEMINI_API_KEY", {"gemini": key("GEMINI_API_KEY")}, id="one key of two"
        ),
        pytest.param("AZURE_OPENAI_API_KEY", {}, id="azure needs an endpoint"),
        pytest.param(
            "AZURE_OPENAI_API_KEY AZURE_OPENAI_ENDPOINT",
            {"azure": key("AZURE_OPENAI_API_KEY", azure_key_config=AZURE)},
            id="azure",
        ),
        pytest.param(
            "AZURE_OPENAI_API_KEY AZURE_OPENAI_ENDPOINT OPENAI_API_VERSION",
            {
                "azure": key(
                    "AZURE_OPENAI_API_KEY",
                    azure_key_config=AZURE | {"api_version": "env.OPENAI_API_VERSION"},
                )
            },
            id="azure with a version",
        ),
        pytest.param(
            "VERTEX_API_KEY GOOGLE_CLOUD_PROJECT GOOGLE_CLOUD_LOCATION",
            {
                "vertex": key(
                    "VERTEX_API_KEY",
                    vertex_key_config={
                        "project_id": "env.GOOGLE_CLOUD_PROJECT",
                        "region": "env.GOOGLE_CLOUD_LOCATION",
                    },
                )
            },
            id="vertex",
        ),
    ],
)
def test_the_usual_variables_make_one_key_each(names: str, providers: dict[str, object]) -> None:
    assert usual_providers(dict.fromkeys(names.split(), "x")) == providers


def test_a_usual_variable_that_is_empty_makes_no_key() -> None:
    assert usual_providers({"OPENAI_API_KEY": "", "GEMINI_API_KEY": "", "GOOGLE_API_KEY": ""}) == {}
