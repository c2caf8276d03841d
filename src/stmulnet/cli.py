"""The command line: a table of verbs; only the chosen verb's module is imported."""

import contextlib
import importlib
import inspect
import io
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from types import FrameType
from typing import Any, TextIO, get_args, get_origin, get_type_hints

from stmulnet.console import notice
from stmulnet.errors import ConfigError, StmulnetError, WeightFileWarning
from stmulnet.values import in_words

EXIT_DONE, EXIT_FAILURES, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130

VERBS = {
    "demo": "make a small data set, train four networks on it, evaluate and report (minutes on a CPU)",
    "extract": "frames and optical flow of videos",
    "import-archive": "frames and flow from archives, such as the official ones",
    "verify": "whether frames, flow and annotations are complete and readable; repair",
    "annotate": "split lists and extracted frames to annotation files",
    "pack": "a data set's millions of images to tens of tar shards with an index",
    "train": "train a network",
    "ablate": "train variants of a network over several seeds and compare them in a table",
    "evaluate": "the test protocol over a test list",
    "predict": "recognise the action in video files",
    "explain": "why a network answers what it answers: gate maps, Grad-CAM, frames that count, as a page",
    "timeline": "what is recognised when in a long video",
    "live": "recognise what a camera or an rtsp stream shows, as it happens",
    "serve": "a web page and an HTTP interface that recognise actions",
    "convert": "weights between the authors' MatConvNet files (.mat) and .safetensors",
    "weights": "list, fetch and verify the authors' weight files",
    "export": "a network as an ONNX file, or a program of torch.export",
    "bench": "how fast this machine is, and how much of it the package uses",
    "push": "weights and a page about them onto the Hugging Face Hub",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (0 done, 1 failures, 2 bad input, 130 interrupted)."""
    for stream in (sys.stdout, sys.stderr):  # a class or file name that the terminal cannot show is no reason to stop
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return EXIT_DONE if arguments else EXIT_BAD_INPUT
    if arguments[0] == "--version":
        from stmulnet import __version__

        print(f"stmulnet {__version__}")
        return EXIT_DONE
    verb, *rest = arguments
    if verb not in VERBS:
        notice(f"stmulnet: error: no command {verb!r}; one of: {', '.join(VERBS)}")
        return EXIT_BAD_INPUT
    return _run(verb, rest)


def usage() -> str:
    """The text of ``stmulnet --help``."""
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}} {summary}" for verb, summary in VERBS.items()]
    return "\n".join(
        [
            "usage: stmulnet COMMAND [options]     (stmulnet COMMAND --help for its options)",
            "",
            "Spatiotemporal multiplier networks for video action recognition.",
            "",
            "commands:",
            *lines,
            "",
            "exit codes: 0 done, 1 finished with failures, 2 bad input, 130 interrupted",
        ]
    )


def _run(verb: str, arguments: list[str]) -> int:
    warnings.showwarning = _show_warning
    try:
        with _heeding_signals():
            result = _call(verb, arguments)
            sys.stdout.flush()  # a full disk or a closed pipe shows here, not in the interpreter's last moments
    except StmulnetError as error:
        notice(f"stmulnet {verb}: error: {_one_line(error)}")
        return EXIT_BAD_INPUT
    except KeyboardInterrupt as interruption:  # may say what is kept, and how to go on
        notice(": ".join([f"stmulnet {verb}: interrupted", *map(_one_line, interruption.args)]))
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output (head, less) has left
        _drop_output()
        return EXIT_DONE
    except OSError as error:  # a full disk, missing permissions: the system's word, and nothing to see in our code
        _drop_output()
        notice(f"stmulnet {verb}: error: {_system_problem(error)}; check that the place exists, is writable, has room")
        return EXIT_BAD_INPUT
    return int(getattr(result, "exit_code", EXIT_DONE))


def _call(verb: str, arguments: list[str]) -> Any:
    """What the function of a verb returns; its errors have the names of its options as they are written here."""
    module = importlib.import_module(f"stmulnet.commands.{verb.replace('-', '_')}")
    function: Callable[..., Any] = getattr(module, verb.replace("-", "_"))
    positional = getattr(module, "POSITIONAL", ())
    values = _parse(verb, function, positional, arguments)
    try:
        return function(**values)
    except ConfigError as error:
        raise ConfigError(_with_options(str(error), values, positional)) from error


def _with_options(problem: str, names: Iterable[str], positional: Sequence[str]) -> str:
    """``"batch_size must be ..."`` as ``"--batch-size must be ..."``.

    Names with an underscore are the options' wherever they stand, but for parts of paths. Others are words that mean
    other things too: only at the beginning of what "must" be otherwise are they options.
    """
    ordered = sorted(names, key=len, reverse=True)
    long = "|".join(name for name in ordered if "_" in name)
    patterns = [
        rf"^(?:{'|'.join(ordered)})(?= (?:must|needs|takes|is one of) )",
        *([rf"(?<![\w./-])(?:{long})(?![\w/-]|\.\w)"] if long else []),
    ]
    for pattern in patterns:
        problem = re.sub(pattern, lambda match: _shown(match[0], positional), problem)
    return problem


def _shown(name: str, positional: Sequence[str]) -> str:
    """An argument as the command line has it."""
    return name.upper() if name in positional else "--" + name.replace("_", "-")


@contextlib.contextmanager
def _heeding_signals() -> Iterator[None]:
    """Let Ctrl-C, and alike the end signal of a job scheduler, raise KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # not where a shell's background job is to ignore it
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, _interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Ours concern the user's files, not a line of code."""
    if issubclass(category, WeightFileWarning):
        notice(f"warning: {message}")
    else:
        notice(warnings.formatwarning(message, category, filename, lineno, line).rstrip())


def options_of_table(verb: str, function: Callable[..., Any], table: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a verb's function from a table of its options, with the defaults, as from a ``--config`` file.

    Raises:
        ConfigError: An option that does not exist or has another type.
    """
    return _values(verb, function, (), lambda parser: parser.parse_object(table))


def _parse(verb: str, function: Callable[..., Any], positional: Sequence[str], arguments: list[str]) -> dict[str, Any]:
    """Arguments of ``function`` from its signature; ``--config FILE.yaml`` gives any of them."""
    words = [_with_underscores(argument) for argument in arguments]
    return _values(verb, function, positional, lambda parser: parser.parse_args(words))


def _values(
    verb: str, function: Callable[..., Any], positional: Sequence[str], parse: Callable[[Any], Any]
) -> dict[str, Any]:
    from jsonargparse import ArgumentError

    parser = _make_parser(verb, function, positional)
    try:
        values: dict[str, Any] = parser.instantiate(parse(parser)).as_dict()
    except (ArgumentError, UnicodeError) as error:
        options = {name: hint for name, hint in get_type_hints(function).items() if name != "return"}
        raise ConfigError(f"{_plain(_one_line(error), options, positional)} (see stmulnet {verb} --help)") from error
    values.pop("config", None)
    return values


def _plain(problem: str, options: dict[str, Any], positional: Sequence[str]) -> str:
    """Say what jsonargparse says without its terms."""
    shown = partial(_shown, positional=positional)
    if match := re.match(r"Parser key \"(\w+)\"(?: element \d+)?: (.*)", problem):
        name, detail = match.groups()
        if name in options and "alue: " in detail:
            hint = _positional(options[name], optional=False)["type"] if name in positional else options[name]
            return f"{shown(name)} must be {in_words(hint)}, got {detail.rpartition('alue: ')[2]}"
        if "surrogates" in detail:
            detail = "the name of the file is not UTF-8; rename it"
        return f"{shown(name)}: {detail}"
    if match := re.match(r"Option '(.*)' is not accepted", problem):
        return f"--config: no option {match[1]!r}; there are {', '.join(options)}"
    if match := re.match(r"the following arguments are required: (.*)", problem):
        return f"missing: {', '.join(shown(name) for name in match[1].split(', '))}"
    if match := re.match(r"(?:Problems parsing config:|Unexpected config:?|('utf-8' codec)) ?(.*)", problem):
        found = "no text" if match[1] or not match[2] else match[2]
        return f"--config needs a YAML file with a line 'option: value' per option, got: {found}"
    return re.sub(r"--\w+", lambda option: shown(option[0][2:]), problem)


def _system_problem(error: OSError) -> str:
    problem = error.strerror or _one_line(error)
    return f"{error.filename}: {problem}" if error.filename else problem


def _drop_output() -> None:
    """What is still in the buffer of stdout cannot be written: keep the interpreter from trying again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _make_parser(verb: str, function: Callable[..., Any], positional: Sequence[str]) -> Any:
    from docstring_parser import parse as parse_docstring
    from jsonargparse import ArgumentParser

    class Parser(ArgumentParser):
        def format_help(self, *arguments: Any, **options: Any) -> str:
            text = re.sub(
                r"--[a-z_]+", lambda match: match[0].replace("_", "-"), super().format_help(*arguments, **options)
            )
            return text.replace("<class 'Path'>", "path")

    docstring = parse_docstring(inspect.getdoc(function) or "")
    summary = (docstring.short_description or "").replace("\n", " ")
    described = {parameter.arg_name: _one_line(parameter.description or "") for parameter in docstring.params}
    parser = Parser(prog=f"stmulnet {verb}", description=summary, exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML file with any of the options below")
    hints = get_type_hints(function)
    parameters = inspect.signature(function).parameters
    for name in positional:
        options = _positional(hints[name], optional=parameters[name].default is None)
        parser.add_argument(name, help=described.get(name), **options)
    flags = [name for name in parameters if hints[name] is bool]
    parser.add_function_arguments(function, as_positional=False, skip={*positional, *flags})
    parser._action_groups[-1].title = "settings"
    for name in flags:  # `--json` alone; jsonargparse by itself wants `--json true`
        parser.add_argument(f"--{name}", action="store_true", help=described.get(name))
    return parser


def _positional(hint: Any, *, optional: bool) -> dict[str, Any]:
    """What argparse needs to know about an argument without a name; an optional one may be left out."""
    for part in (hint, *get_args(hint)):
        if get_origin(part) is list:
            several = {"nargs": "*", "default": None} if optional else {"nargs": "+"}
            return {"type": get_args(part)[0], **several}
    return {"type": hint, "nargs": "?", "default": None} if optional else {"type": hint}


def _with_underscores(argument: str) -> str:
    """``--short-side=64`` and ``--short_side=64`` are the same option."""
    if not argument.startswith("--"):
        return argument
    option, equals, value = argument.partition("=")
    return "--" + option[2:].replace("-", "_") + equals + value


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


if __name__ == "__main__":
    sys.exit(main())
