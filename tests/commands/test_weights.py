import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import TinyProject
from tests.fileserver import FileServer, serve

import stmulnet.download
from stmulnet import cli, create_model, save_model
from stmulnet.commands.weights import weights
from stmulnet.errors import CheckpointError, ConfigError
from stmulnet.files import sha256_of
from stmulnet.models.catalog import entries
from stmulnet.models.config import ModelConfig, StreamConfig
from stmulnet.models.multiplier import build_network
from stmulnet.models.verify import describe, random_clip, verify_file

NAMES = ("ucf101-img-resnet50-split1-dr0.mat", "ucf101-flow-resnet50-split1-dr0.8.mat")
TINY: dict[str, Any] = {
    "units": (1, 2, 1, 1),
    "width_mult": 1 / 32,
    "input_size": 64,
    "head_pool": "global",
    "fusion": None,
}
INTERRUPT_LIMIT_SEC = 20.0


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and an empty current folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("STMULNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(stmulnet.download, "WAIT_SEC", 0.001)
    return tmp_path / "cache"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> Iterator[FileServer]:
    """A mirror that has the two files of `NAMES`."""
    with serve() as plan:
        monkeypatch.setenv("STMULNET_MIRROR", plan.address)
        for name in NAMES:
            plan.files[f"st-mul/ts-base/{name}"] = b"\x89HDF\r\n\x1a\n" + rng.bytes(200_000)
        yield plan


# --- list


def test_list_shows_names_whole_and_what_is_here(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache.mkdir()
    (cache / NAMES[0]).touch()
    assert cli.main(["weights", "list"]) == 0
    printed = capsys.readouterr().out
    lines = {line.split()[1]: line.split()[-2] for line in printed.splitlines() if line.startswith("│")}
    assert set(lines) == {entry.name for entry in entries()}
    assert [name for name, here in lines.items() if here == "yes"] == [NAMES[0]]
    assert "The authors state no licence for these files." in printed
    assert str(cache) in printed


def test_list_of_one_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    summary = weights("list", dataset="hmdb51")
    assert {entry.dataset for entry in summary.listed} == {"hmdb51"}
    assert len(summary.listed) == len(entries()) / 2
    assert "ucf101" not in capsys.readouterr().out


def test_list_needs_no_torch() -> None:
    code = "import sys, stmulnet.cli; stmulnet.cli.main(['weights', 'list']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0


# --- arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["paint"], "ACTION must be one of list, fetch, verify, got paint"),
        ([], "missing: ACTION"),
        (["fetch"], "nothing to fetch: name one or more files"),
        (["verify"], "nothing to verify: name one or more files"),
        (["list", "x"], "list takes no names, got x; --dataset"),
        (["list", "--mirror", "x"], "--mirror is for fetch, not for list; leave it out"),
        (["fetch", NAMES[0], "--dataset", "ucf101"], "--dataset is for list, not for fetch"),
        (["verify", "x", "--out", "y"], "--out is for fetch, not for verify"),
        (["list", "--dataset", "kinetics"], "--dataset must be one of ucf101, hmdb51 or null, got kinetics"),
        (["fetch", "ucf101-img-resnet50"], "no published weight file is called 'ucf101-img-resnet50'; did you mean"),
        (["verify", "nowhere.mat"], "nowhere.mat: no such weight file, neither as given nor in experiment"),
        (["verify", NAMES[0]], f"{NAMES[0]}: not here yet, neither as given nor in experiment"),
        (["fetch", "foo"], "no published weight file is called 'foo'; `stmulnet weights list` names all"),
        (["verify", "."], ".: is a folder; name the weight file in it"),
    ],
)
def test_bad_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["weights", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"stmulnet weights: error: {message}")
    assert error.count("\n") == 1


def test_unknown_action_in_python() -> None:
    with pytest.raises(ConfigError, match="weights can list, fetch, verify, not 'paint'"):
        weights("paint")  # type: ignore[arg-type]


# --- fetch


def test_fetch_prints_paths_and_says_that_there_is_no_licence(
    server: FileServer, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["weights", "fetch", *NAMES, NAMES[0]]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [str(cache / name) for name in NAMES]
    assert "The authors state no licence" in captured.err
    for name in NAMES:
        assert f"{name}: SHA-256 {sha256_of(cache / name)}" in captured.err
    assert len(server.requests) == 2


def test_fetch_by_options(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STMULNET_MIRROR")
    out = tmp_path / "out"
    assert cli.main(["weights", "fetch", NAMES[1], "--mirror", server.address, "--out", str(out)]) == 0
    assert [path.name for path in out.iterdir()] == [NAMES[1]]


def test_one_missing_file_does_not_keep_the_others(
    server: FileServer, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files.pop(f"st-mul/ts-base/{NAMES[0]}")
    assert cli.main(["weights", "fetch", *NAMES]) == 1
    assert (cache / NAMES[1]).is_file()
    assert f"stmulnet weights: {server.address}/st-mul/ts-base/{NAMES[0]}: the server" in capsys.readouterr().err


def test_a_single_missing_file_is_bad_input(server: FileServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.files.clear()
    assert cli.main(["weights", "fetch", NAMES[0]]) == 2
    said = capsys.readouterr().err
    assert "answers 404 Not Found. Give another base address or a folder" in said
    assert "licence" not in said  # of files that were got


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_keeps_what_has_arrived(server: FileServer, cache: Path) -> None:
    server.hang = True
    part = cache / f"{NAMES[0]}.part"
    process = subprocess.Popen(
        [sys.executable, "-m", "stmulnet", "weights", "fetch", NAMES[0]],
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    try:
        limit = time.monotonic() + INTERRUPT_LIMIT_SEC
        while not (part.exists() and part.stat().st_size > 50_000) and time.monotonic() < limit:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=INTERRUPT_LIMIT_SEC)
    finally:
        process.kill()
    assert process.returncode == 130
    assert f"interrupted; the first 0.1 MB are kept in {part}, the same command fetches the rest" in error
    server.hang = False
    assert cli.main(["weights", "fetch", NAMES[0]]) == 0
    assert (server.asked_for()[-1] or "").startswith("bytes=")
    assert (cache / NAMES[0]).read_bytes() == server.files[f"st-mul/ts-base/{NAMES[0]}"]


# --- verify


def test_verify_describes_and_runs_a_two_stream_network(
    tiny_project: TinyProject, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["weights", "verify", str(tiny_project.weights)]) == 0
    printed = capsys.readouterr().out
    for part in (
        str(tiny_project.weights),
        f"{sha256_of(tiny_project.weights)} (none recorded",
        "all values finite",
        "units 1, 2, 2, 2 (bottleneck), width 0.125",
        "multiply, motion to appearance, at res3, res4, res5",
        "inserted in appearance res3b, res4b, res5b; motion res3b, res4b, res5b",
        "max over windows of 5 frames, stride 1",
        "spatial average        global",
        f"{tiny_project.class_names[0]} ... {tiny_project.class_names[-1]}",
        "not stated; further facts: preprocessing",
        "5 frames of noise, 64x64",
        "every check passed",
    ):
        assert part in printed
    for stream in ("appearance", "motion", "fused"):
        assert f"{stream} scores" in printed


@pytest.mark.parametrize("stream", ["appearance", "motion"])
def test_verify_a_single_stream(stream: str, tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    model = create_model(f"{stream}_resnet50", 3, **TINY)
    before = {"file": "x.mat", "dataset": None, "split": None}
    model.metadata = {"provenance": {stream: {"file": "y.mat", "dataset": "ucf101", "split": 1, "from": before}}}
    save_model(model, path)
    found = verify_file(path)
    assert found.problems == []
    assert found.facts["provenance"] == f"{stream} (file y.mat, dataset ucf101, split 1, from (file x.mat))"
    assert found.facts["classes"] == "3, without names"
    model.class_names = ["run", "jump", "wave"]
    assert describe(model)["classes"] == "3: run, jump, wave"
    assert {name for name in found.facts if "scores" in name} == {f"{stream} scores"}
    assert {name for name in found.facts if "stream" in name} == {f"{stream} stream"}
    assert found.facts["parameters"] == f"{sum(parameter.numel() for parameter in model.parameters()):,}"


def test_networks_in_words() -> None:
    with torch.device("meta"):
        deep = describe(build_network(ModelConfig(51, appearance=StreamConfig(), motion=StreamConfig((3, 8, 36, 3)))))
        plain: dict[str, Any] = {"fusion": None, "temporal_pool": None, "head_pool": 7}
        late = describe(build_network(ModelConfig(2, temporal_conv="pointwise", **plain)))
    assert deep["motion stream"].startswith("ResNet-152, units 3, 8, 36, 3 (bottleneck)")
    assert deep["temporal convolutions"].endswith("appearance res2b, res3b, res4b, res5b; motion res2b, res5b")
    assert deep["spatial average"] == "7x7, stride 1"
    assert late["connection"] == "none (late fusion)"
    assert late["temporal pooling"] == "none"
    assert late["temporal convolutions"].startswith("the 1x1 convolutions of appearance res2b")


def test_the_clip_is_as_long_as_the_network_needs() -> None:
    config = ModelConfig.from_dict(
        {**ModelConfig(2).to_dict(), "temporal_pool": {"kind": "max", "window": 9, "stride": 2}}
    )
    rgb, flow = random_clip(config)
    assert rgb.shape == (1, 9, 3, 224, 224)
    assert flow.shape == (1, 9, 20, 224, 224)
    assert rgb.dtype == flow.dtype == torch.uint8
    assert torch.equal(rgb, random_clip(config)[0])
    assert random_clip(ModelConfig(2, temporal_pool=None))[0].shape[1] == 5


def test_scores_that_are_not_finite_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = create_model("appearance_resnet50", 3, **TINY)
    torch.nn.init.constant_(model.get_parameter("appearance.conv1.weight"), 3e38)
    save_model(model, tmp_path / "huge.safetensors")
    assert cli.main(["weights", "verify", str(tmp_path / "huge.safetensors")]) == 1
    assert "PROBLEM" in (printed := capsys.readouterr().out)
    assert "appearance scores of a clip are not finite" in printed


def test_a_damaged_file_fails_and_the_next_is_still_verified(
    tiny_project: TinyProject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(tiny_project.weights.read_bytes()[:-100])
    assert cli.main(["weights", "verify", "nope.mat", str(damaged), str(tiny_project.weights)]) == 1
    printed, said = capsys.readouterr()
    assert said.startswith("stmulnet weights: nope.mat: no such weight file")
    assert "cannot be loaded" in printed
    assert "every check passed" in printed


def test_the_recorded_sum_is_compared(server: FileServer, cache: Path) -> None:
    weights("fetch", [NAMES[0]])
    assert verify_file(cache / NAMES[0]).facts["SHA-256"].endswith("(as at the first fetch)")
    (cache / NAMES[0]).write_bytes(b"something else")
    summary = weights("verify", [NAMES[0]])
    assert summary.exit_code == 1
    assert "at the first fetch: damaged, or another file of that name" in summary.verified[cache / NAMES[0]].problems[0]


def test_errors_are_those_of_the_package() -> None:
    with pytest.raises(CheckpointError, match="no such weight file"):
        weights("verify", ["nowhere.safetensors"])


def test_verify_an_official_layout(shared_dir: Path) -> None:
    path = shared_dir / "fixtures" / "matconvnet" / "ucf101ST-MulNet-imgtiny-flowtiny-final-split=1.mat"
    found = verify_file(path)
    assert found.problems == []
    for stream in ("appearance", "motion"):
        assert "units 2, 2, 2, 3 (bottleneck), width 0.125, caffe geometry" in found.facts[f"{stream} stream"]
    assert found.facts["motion stream"].endswith("dropout 0.8")
    assert found.facts["connection"] == "multiply, motion to appearance, at res2, res3, res4, res5"
    assert found.facts["classes"].startswith("11: class001 ... ")
    assert "dataset ucf101, split 1" in found.facts["provenance"]
