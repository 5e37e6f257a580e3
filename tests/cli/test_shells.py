"""Variables as shell lines: a real shell reads back what was meant, whatever is in a value."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from llm_passthrough.cli.shells import Shell, lines

NASTY = {
    "PLAIN": "http://127.0.0.1:8080/openai_passthrough/v1",
    "EMPTY": "",
    "SPACES": "a  b ",
    "QUOTES": """it's "quoted" `here`""",
    "DOLLAR": "$HOME ${HOME} $(id) !x %PATH%",
    "BACKSLASH": "C:\\path\\new 'x'",
    "PARTS": "a|b;c&d>e#f*g",
    "TYPOGRAPHIC": "\u2018a\u2019 \u201ab\u201b",
}


def read_back(program: list[str], text: str) -> dict[str, str]:
    env = {"PATH": os.environ["PATH"], "GONE": "still there"}
    script = f"{text}\nexec env -0"
    got = subprocess.run([*program, "-c", script], env=env, capture_output=True, check=True).stdout
    return dict(pair.split("=", 1) for pair in got.decode().split("\0") if pair)


@pytest.mark.parametrize(
    ("shell", "program"),
    [
        pytest.param(Shell.bash, "bash", id="bash"),
        pytest.param(Shell.bash, "sh", id="sh"),
        pytest.param(Shell.bash, "zsh", id="zsh"),
        pytest.param(Shell.fish, "fish", id="fish"),
    ],
)
def test_a_shell_reads_back_every_value(shell: Shell, program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not here")
    got = read_back([program], "\n".join(lines(shell, NASTY | {"GONE": None})))
    assert {name: got.get(name) for name in NASTY} == NASTY
    assert "GONE" not in got


@pytest.mark.parametrize(
    ("shell", "value", "line"),
    [
        pytest.param(Shell.fish, "it's\\", "set -gx X 'it\\'s\\\\'", id="fish"),
        pytest.param(Shell.fish, "$HOME (id)", "set -gx X '$HOME (id)'", id="fish expands nothing"),
        pytest.param(Shell.fish, None, "set -e X", id="fish removes"),
        pytest.param(Shell.powershell, "it's $x", "$env:X = 'it''s $x'", id="PowerShell"),
        pytest.param(
            Shell.powershell, "a\u2019b", "$env:X = 'a\u2019\u2019b'", id="its other quotes"
        ),
        pytest.param(
            Shell.powershell, None, "Remove-Item -ErrorAction Ignore Env:X", id="it removes"
        ),
        pytest.param(Shell.dotenv, "http://h:1/a", "X=http://h:1/a", id="a file for Docker too"),
        pytest.param(Shell.dotenv, "-Da=b|c -Dx=[::1]", "X=-Da=b|c -Dx=[::1]", id="inner spaces"),
        pytest.param(Shell.dotenv, " a ", "X=' a '", id="outer spaces"),
        pytest.param(Shell.dotenv, "a b # c", "X='a b # c'", id="a file with spaces"),
        pytest.param(Shell.dotenv, 'it\'s "a"', 'X="it\'s \\"a\\""', id="a file with both quotes"),
        pytest.param(Shell.dotenv, "", "X=", id="a file with nothing"),
    ],
)
def test_a_line_is_quoted_as_its_reader_wants(shell: Shell, value: str | None, line: str) -> None:
    assert lines(shell, {"X": value}) == [line]


def test_a_file_of_variables_cannot_remove_one() -> None:
    assert lines(Shell.dotenv, {"GONE": None}) == []


def test_node_reads_a_file_of_variables(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not here")
    values = {name: NASTY[name] for name in ("PLAIN", "SPACES", "DOLLAR", "PARTS", "TYPOGRAPHIC")}
    file = tmp_path / ".env"
    file.write_text("\n".join(lines(Shell.dotenv, values)) + "\n")
    code = "process.stdout.write(process.argv.slice(1).map(n => process.env[n]).join('\\0'))"
    got = subprocess.run(
        [node, f"--env-file={file}", "-e", code, *values], capture_output=True, check=True
    ).stdout
    assert got.decode().split("\0") == list(values.values())
