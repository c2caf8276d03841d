"""The command table: exit codes, one-line errors, quick help."""

import signal
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
        assert "error: --short-side must be" in capsys.readouterr().err


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
        (["train", "--precision", "half"], "--precision must be one of float32, bf16, fp16, got half"),
        (["train", "--network-options", "x"], "--network-options must be a table such as {name: value} or null, got x"),
        (["bench", "flow", "nonsense"], "PARTS must be one of network, frames, training, flow, predict, got nonsense"),
        (["extract", "b\udcff.avi", "x"], "VIDEOS: the name of the file is not UTF-8; rename it"),
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
    ("arguments", "message"),
    [
        (["predict", "{video}", "--weights", "x", "--frames", "0"], "--frames must be 1 or more, got 0"),
        (["predict", "{video}", "--weights", "x", "--live-seconds", "0"], "--live-seconds must be above 0, got 0.0"),
        (["explain", "{video}", "--weights", "x", "--out", "{out}", "--frames", "0"], "--frames must be 1 or more"),
        (["serve", "--weights", "x", "--frames", "0"], "--frames must be 1 or more, got 0"),
        (["serve", "--weights", "x", "--max-seconds", "0"], "--max-seconds must be 1 or more, got 0"),
        (["serve", "--weights", "x", "--waiting", "-1"], "--waiting must be 0 or more, got -1"),
        (
            ["train", "--dataset", "d", "--network", "n", "--out", "{out}", "--batch-size", "3"],
            "--batch-size 3 must be a multiple of --sub-batch-size 4",
        ),
        (["evaluate", "--examples", "-1"], "--examples must be 0 or more, got -1"),
        (
            ["evaluate", "--scores", "x", "--weights", "y"],
            "scores are measured as they were saved: leave out --weights",
        ),
        (["demo", "--out", "{out}", "--workers", "0"], "--workers must be 1 or more, got 0; one per core if not given"),
        (["demo", "--out", "{out}", "--seed", "-1"], "--seed must be 0 or more, got -1"),
    ],
)
def test_errors_name_options_as_they_were_typed(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = tmp_path / "batch_size.mp4"
    video.write_bytes(b"")
    filled = [word.format(video=video, out=tmp_path / "out") for word in arguments]
    assert cli.main(filled) == 2
    error = capsys.readouterr().err
    assert f"stmulnet {arguments[0]}: error: {message}" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_only_names_of_options_are_written_as_options() -> None:
    names = ["frames", "batch_size", "weights"]
    for problem, shown in (
        ("batch_size, or input_size 7", "--batch-size, or input_size 7"),
        (
            "runs/batch_size/x: no batch_size.json; give batch_size.",
            "runs/batch_size/x: no batch_size.json; give --batch-size.",
        ),
        (
            "frames of 3x3 px are too small; frames must be larger",
            "frames of 3x3 px are too small; frames must be larger",
        ),
        ("weights must be there", "WEIGHTS must be there"),
    ):
        assert cli._with_options(problem, names, ["weights"]) == shown


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
        raise KeyboardInterrupt(*said)

    monkeypatch.setattr(demo, "demo", interrupted)
    said: tuple[str, ...] = ()
    assert cli.main(["demo"]) == 130
    assert capsys.readouterr().err == "stmulnet demo: interrupted\n"
    said = ("2 of 3 done; the same command again goes on",)
    assert cli.main(["demo"]) == 130
    assert capsys.readouterr().err == "stmulnet demo: interrupted: 2 of 3 done; the same command again goes on\n"


def test_the_end_signal_of_a_scheduler_is_an_interruption(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from stmulnet.commands import demo

    def ended(*, seed: int = 0) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(demo, "demo", ended)
    before = signal.getsignal(signal.SIGTERM)
    assert cli.main(["demo"]) == 130
    assert capsys.readouterr().err == "stmulnet demo: interrupted\n"
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("module", "status"), [("stmulnet.cli", -signal.SIGINT), ("stmulnet.commands.demo", 130)])
def test_ctrl_c_during_the_imports_shows_no_traceback(module: str, status: int) -> None:
    """A finder of modules sends it in the middle of them; shells tell either as 130."""
    code = f"""
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
class Finder:
    def find_spec(self, name, *_):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Finder())
sys.argv = ["stmulnet", "demo"]
runpy.run_module("stmulnet", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert done.stderr == ("" if status < 0 else "stmulnet demo: interrupted\n")


def test_help_does_not_load_torch() -> None:
    code = "import sys, stmulnet.cli; stmulnet.cli.main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0
