"""The command table: exit codes, one-line errors, quick help."""

import subprocess
import sys
from pathlib import Path

import pytest

from stmulnet import __version__, cli


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(verb in printed for verb in cli.VERBS)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_of_every_verb_comes_from_its_function(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([verb, "--help"])
    assert stop.value.code == 0
    assert f"stmulnet {verb}" in capsys.readouterr().out


def test_options_are_written_with_hyphens_and_read_either_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["extract", "--help"])
    assert "--short-side SHORT_SIDE" in capsys.readouterr().out
    for option in ("--short-side=8", "--short_side=8"):
        assert cli.main(["extract", str(tmp_path), str(tmp_path / "out"), option]) == 2
        assert "short_side" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"stmulnet {__version__}\n"


def test_no_command_shows_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "usage: stmulnet COMMAND" in capsys.readouterr().out


def test_unknown_command_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fly"]) == 2
    assert capsys.readouterr().err.startswith("stmulnet: error: no command 'fly'; one of: demo, extract")


def test_bad_option_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--network", "x", "--epochs", "many"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("stmulnet train: error: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["extract", "a", "b", "--frobnicate", "1"], "unrecognized arguments: --frobnicate 1"),
        (["extract", "a"], "missing: OUT"),
        (["train", "--network", "x", "--out", "y"], "missing: --dataset"),
        (["extract", "a", "b", "--short-side"], "argument --short-side: expected one argument"),
        (["extract", "a", "b", "--short-side", "1.5"], "--short-side must be a whole number, got 1.5"),
        (["extract", "a", "b", "--workers", "many"], "--workers must be a whole number or null, got many"),
        (
            ["annotate", "a", "b", "--splits", "9"],
            "--splits must be a list of whole numbers such as [1, 2] or null, got 9",
        ),
        (["train", "--strides", "5"], "--strides must be a list of 2 whole numbers, got 5"),
        (["train", "--device", "tpu"], "--device must be one of auto, cpu, cuda, got tpu"),
        (["train", "--network-options", "x"], "--network-options must be a table such as {name: value} or null, got x"),
        (["predict", "b\udcff.avi", "--weights", "x"], "VIDEOS: the name of the file is not UTF-8; rename it"),
        (["extract", "--config", "nowhere.yaml"], "--config: File does not exist"),
    ],
)
def test_messages_are_in_the_users_words(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"stmulnet {arguments[0]}: error: {message}")
    assert error.endswith(f"(see stmulnet {arguments[0]} --help)\n")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"shortside: 3", "no option 'shortside'; there are videos, out, short_side"),
        (b"short_side: abc", "--short-side must be a whole number, got abc"),
        (b"short_side: [", "needs a YAML file"),
        (b"plain text", "needs a YAML file with a line 'option: value' per option, got: plain text"),
        (b"", "got: no text"),
        (b"\xff\xfe\x00", "got: no text"),
    ],
)
def test_bad_configuration_files(
    content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.yaml").write_bytes(content)
    assert cli.main(["extract", "a", "b", "--config", str(tmp_path / "x.yaml")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_trouble_of_the_system_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from stmulnet.commands import demo

    def full(*, seed: int = 0) -> None:
        raise OSError(28, "No space left on device", "/there/x")

    monkeypatch.setattr(cli, "_drop_output", lambda: None)  # pytest keeps its stdout
    monkeypatch.setattr(demo, "demo", full)
    assert cli.main(["demo"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("stmulnet demo: error: /there/x: No space left on device; check that")
    assert error.count("\n") == 1


def test_interruption_has_its_own_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from stmulnet.commands import demo

    def interrupted(*, seed: int = 0) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "demo", interrupted)
    assert cli.main(["demo"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_help_does_not_load_torch() -> None:
    code = "import sys, stmulnet.cli; stmulnet.cli.main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0
