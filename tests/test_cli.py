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
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--network", "x", "--epochs", "many"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("stmulnet train: error: ")
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
