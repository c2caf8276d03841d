"""The documents are true: their code runs, their commands and options exist, their links lead somewhere."""

import dataclasses
import importlib
import inspect
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml  # type: ignore[import-untyped] # no stubs in the package
from tests.conftest import TinyProject
from tests.models.scoring import st_mulnet
from tests.oracle import files

from stmulnet import cli, create_model
from stmulnet.models.config import FusionConfig, ModelConfig, StreamConfig, TemporalPoolConfig
from stmulnet.models.zoo import model_config

PROJECT = Path(__file__).resolve().parents[1]
README = PROJECT / "README.md"
DOCUMENTS = [README, PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").glob("*.md"))]


def blocks(document: Path, language: str) -> list[str]:
    """Fenced blocks of a language, without their indentation."""
    text = document.read_text(encoding="utf-8")
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def shell_lines() -> Iterator[list[str]]:
    """Words of every command in the documents, without comments and redirections."""
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        inline = re.findall(r"`(stmulnet (?!VERB)[a-z-]+ [^`]*--[^`]*)`", text)
        whole = [block.replace("\\\n", " ") for block in blocks(document, "bash")]  # lines that go on in the next one
        for line in [line for block in whole for line in block.splitlines()] + inline:
            words = shlex.split(line.partition(" > ")[0], comments=True)
            if words:
                yield words


COMMANDS = list(shell_lines())


def function_of(verb: str) -> Callable[..., Any]:
    """What runs a verb of the command line."""
    name = verb.replace("-", "_")
    function: Callable[..., Any] = getattr(importlib.import_module(f"stmulnet.commands.{name}"), name)
    return function


def parse(words: list[str]) -> dict[str, Any]:
    """Arguments of a `stmulnet` command, as its function would get them."""
    _, verb, *rest = words
    module = importlib.import_module(f"stmulnet.commands.{verb.replace('-', '_')}")
    return cli._parse(verb, function_of(verb), getattr(module, "POSITIONAL", ()), rest)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with the YAML file of the README and the configurations."""
    (small,) = blocks(README, "yaml")
    (tmp_path / "small.yaml").write_text(small, encoding="utf-8")
    (tmp_path / "configs").symlink_to(PROJECT / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_on_demo(code: str, workplace: Path, tiny_project: TinyProject) -> None:
    """Run code that uses the weights and a video of the demo, for which the tiny project's are there."""
    weights, video = (workplace / path for path in re.findall(r'"(runs/demo/[^"]+)"', code))
    for path, source in ((weights, tiny_project.weights), (video, tiny_project.videos / Path(*video.parts[-2:]))):
        path.parent.mkdir(parents=True)
        shutil.copy(source, path)
    exec(compile(code, "document", "exec"), {})


def test_python_block_of_the_readme(
    workplace: Path, tiny_project: TinyProject, capsys: pytest.CaptureFixture[str]
) -> None:
    code = blocks(README, "python")[0]
    run_on_demo(code, workplace, tiny_project)
    assert capsys.readouterr().out.startswith(tuple(tiny_project.class_names))


def test_official_weights_of_the_readme(
    workplace: Path, tiny_project: TinyProject, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code = blocks(README, "python")[1]
    weights, video = re.findall(r'"([^"]+\.(?:mat|mp4))"', code)
    files.write(st_mulnet(flow={"dropout": 0.8}), workplace / weights)
    shutil.copy(next(tiny_project.videos.rglob("*.avi")), workplace / video)
    monkeypatch.chdir(workplace)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("class00")


def test_python_block_of_the_data_page(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = (block for block in blocks(PROJECT / "docs" / "data.md", "python") if "make_moving_shapes" in block)
    quick = code.replace("groups_train=4, groups_test=2", "groups_train=1, groups_test=1, size=64, num_frames=4")
    assert quick != code
    exec(compile(quick, "data.md", "exec"), {})
    assert capsys.readouterr().out.startswith("shapes")


def test_clips_of_the_data_page(workplace: Path, tiny_project: TinyProject, capsys: pytest.CaptureFixture[str]) -> None:
    code = next(block for block in blocks(PROJECT / "docs" / "data.md", "python") if "in_folder" in block)
    shutil.copytree(tiny_project.dataset, workplace / "data" / "mine")
    exec(compile(code, "data.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("torch.Size([") and "5, 3, 224, 224]) torch.Size([" in line for line in lines)
    assert any(name in lines[0] for name in tiny_project.class_names)


def test_python_block_of_the_page_on_explanations(
    workplace: Path, tiny_project: TinyProject, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = blocks(PROJECT / "docs" / "explain.md", "python")
    run_on_demo(code, workplace, tiny_project)
    assert capsys.readouterr().out.startswith(tuple(tiny_project.class_names))


NETWORKS = PROJECT / "docs" / "networks.md"


@pytest.mark.parametrize("table", [ModelConfig, StreamConfig, FusionConfig, TemporalPoolConfig])
def test_every_option_of_a_network_is_documented(table: Any) -> None:
    section = NETWORKS.read_text(encoding="utf-8").partition(f"({table.__name__})")[2].partition("\n## ")[0]
    rows = [
        [cell.strip(" `") for cell in row.split(" | ")] for row in re.findall(r"^\| (`.*) \|$", section, re.MULTILINE)
    ]
    fields = dataclasses.fields(table)
    assert [row[0] for row in rows] == [field.name for field in fields]
    for (_, values, default, *_), field in zip(rows, fields, strict=True):
        if isinstance(field.default, str | int | float):
            assert re.match(r"[\w.]+", default.strip("`"))[0] == str(field.default).lower().removesuffix(".0")  # type: ignore[index]
        hint = get_type_hints(table)[field.name]
        for allowed in {text for part in (hint, *get_args(hint)) for text in get_args(part) if isinstance(text, str)}:
            assert f"`{allowed}`" in f"`{values}`"


def test_examples_of_the_page_on_networks(workplace: Path) -> None:
    (code,), (options,) = blocks(NETWORKS, "python"), blocks(NETWORKS, "yaml")
    quick = code.replace('"depth": 152', '"depth": 18').replace(
        "101,", '101, appearance={"depth": 18}, width_mult=1/16,'
    )
    exec(compile("import stmulnet\n" + quick, "networks.md", "exec"), {})
    config = model_config("st_resnet50", 3, **yaml.safe_load(options)["network_options"])
    assert (config.temporal_conv, config.fusion) == (None, FusionConfig(operation="add"))
    (shell,) = re.findall(r"`--network-options '(.*)'`", NETWORKS.read_text(encoding="utf-8"))
    assert model_config("st_resnet50", 3, **yaml.safe_load(shell)).temporal_pool == TemporalPoolConfig("avg", "all")
    scaled = model_config("st_resnet50", 3, fusion={"scale": True}).fusion
    assert scaled is not None
    assert scaled.operation == "multiply"


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_commands_exist(words: list[str], workplace: Path) -> None:
    while re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    if words[0] == "stmulnet":
        assert parse(words)
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    elif words[0] == "curl":  # see the tests of the server
        assert words[-1].endswith("/api/predict")
        assert "video=@clip.avi" in words
    else:
        assert words[:-1] == ["pip", "install", "-c", "constraints.txt"]
        assert words[-1] in (".[train]", ".[serve]")


def test_every_command_is_in_the_readme() -> None:
    text = README.read_text(encoding="utf-8")
    assert [verb for verb in cli.VERBS if f"stmulnet {verb}" not in text and f"make {verb}" not in text] == []


def test_training_example_describes_a_network(workplace: Path) -> None:
    (words,) = [words for words in COMMANDS if "small.yaml" in words]
    values = parse(words)
    assert values["network"] == yaml.safe_load((workplace / "small.yaml").read_text())["network"]
    create_model(values["network"], 3, **values["network_options"])
    assert values["batch_size"] % values["sub_batch_size"] == 0


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_options_exist(document: Path) -> None:
    functions = [function_of(verb) for verb in cli.VERBS]
    known = {"help", "config", "print_config", "version", "strict"}  # --strict: of mypy
    known |= {name for function in functions for name in inspect.signature(function).parameters}
    text = document.read_text(encoding="utf-8")
    text = re.sub(r"python -m benchmarks\.(\w+)", r"python benchmarks/\1.py", text)
    text = re.sub(r"python -m benchmarks\b", "python benchmarks/__main__.py", text)
    benchmark = r"python (benchmarks/\w+\.py)([^`]*)"
    others = rf"{benchmark}|^.*(?:torchrun --|#SBATCH|scontrol).*$"
    named = set(re.findall(r"(?<![\w-])--([a-z][\w-]*)", re.sub(others, "", text, flags=re.MULTILINE)))
    assert {name.replace("-", "_") for name in named} <= known
    for script, options in re.findall(benchmark, text):
        source = (PROJECT / script).read_text(encoding="utf-8")
        assert [name for name in re.findall(r"--[a-z][\w-]*", options) if f'"{name}"' not in source] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_files(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        name, _, heading = target.partition("#")
        if name.startswith(("http:", "https:")):
            continue
        path = document.parent / name if name else document
        assert path.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, target


def test_named_files_of_the_package_exist() -> None:
    text = (PROJECT / "docs" / "REPRODUCTION.md").read_text(encoding="utf-8")
    for name in re.findall(r"`((?:\w+/)*\w+\.py)`", text):
        assert (PROJECT / "src" / "stmulnet" / name).exists() or (PROJECT / name).exists(), name


def test_departures_are_marked_in_the_code() -> None:
    listed = re.findall(r"\*\*(D\d+)\*\* (?!,)", (PROJECT / "docs" / "REPRODUCTION.md").read_text(encoding="utf-8"))
    sources = (path.read_text(encoding="utf-8") for path in (PROJECT / "src").rglob("*.py"))
    marked = [number for text in sources for number in re.findall(r"Deviation (D\d+)?", text)]
    assert sorted(marked) == sorted(set(listed))


def test_version_is_the_same_everywhere() -> None:
    from stmulnet import __version__

    assert yaml.safe_load((PROJECT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == __version__
    assert f"## [{__version__}]" in (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
