"""How many workers: the option, else the file; what cannot be is said in one line."""

import json
from pathlib import Path

import pytest
import typer
from llm_passthrough.cli.workers import count, processors


def written(folder: Path, workers: object) -> Path:
    file = folder / "gateway.yaml"
    file.write_text(json.dumps({"listen": {"workers": workers}}))
    return file


@pytest.mark.parametrize(
    ("option", "in_file", "demo", "expected"),
    [
        pytest.param(None, None, False, 1, id="nothing"),
        pytest.param("3", None, False, 3, id="the option"),
        pytest.param(None, 4, False, 4, id="the file"),
        pytest.param("2", 4, False, 2, id="the option before the file"),
        pytest.param("auto", 4, False, processors(), id="as many as processors"),
        pytest.param(None, "auto", False, processors(), id="the same in the file"),
        pytest.param(None, 4, True, 1, id="the demo has no file"),
        pytest.param("1", None, True, 1, id="one, with the demo"),
        pytest.param(None, "many", False, 1, id="a fault, which the start says"),
    ],
)
@pytest.mark.parametrize("by_variable", [False, True])
def test_the_option_goes_before_the_file(
    tmp_path: Path,
    option: str | None,
    in_file: object,
    demo: bool,
    expected: int,
    by_variable: bool,
) -> None:
    file = written(tmp_path, in_file) if in_file else None
    env = {"LLM_PASSTHROUGH_CONFIG": str(file)} if file and by_variable else {}
    assert count(option, None if by_variable else file, demo, env) == expected


def test_a_file_that_is_not_there_is_said_by_the_start(tmp_path: Path) -> None:
    assert count(None, tmp_path / "none.yaml", False, {}) == 1


@pytest.mark.parametrize(
    ("option", "demo", "says"),
    [
        pytest.param("0", False, "must be a number from 1 to 64", id="none"),
        pytest.param("65", False, "must be a number from 1 to 64", id="too many"),
        pytest.param("-1", False, "or auto", id="less than none"),
        pytest.param("\u0662", False, "or auto", id="digits of elsewhere"),
        pytest.param("2", True, "leave --demo out", id="the demo"),
    ],
)
def test_what_cannot_be_ends_with_one_line(
    option: str, demo: bool, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended:
        count(option, None, demo, {})
    assert ended.value.exit_code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("llm-passthrough: --workers: ")
    assert says in line
