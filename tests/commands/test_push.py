"""Weights on the hub: a round trip through a server on the loopback, the page, and everything that is refused."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml  # type: ignore[import-untyped] # no stubs in the package
from tests import hubserver
from tests.conftest import TinyProject
from tests.hubserver import TOKEN, Hub, Repository

from stmulnet import cli, load_model
from stmulnet.commands.model_card import CITATION
from stmulnet.commands.push import push
from stmulnet.errors import CheckpointError, ConfigError, HubError, MissingExtraError
from stmulnet.files import sha256_of, write_json
from stmulnet.models.checkpoint import save_model
from stmulnet.models.hub import HubAddress
from stmulnet.models.verify import random_clip
from stmulnet.models.zoo import create_model

# huggingface_hub sends large files in a way that its own HTTP library calls old
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with a login for it, and a cache of its own."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the newer way of sending large files
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no_token"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with hubserver.serve() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        yield server


def official(tmp_path: Path, provenance: dict[str, Any], **metadata: Any) -> Path:
    """A small network whose header has this provenance."""
    model = create_model("appearance_resnet18", 3, units=(1, 1, 1, 1), width_mult=1 / 16, input_size=32, head_pool=1)
    model.metadata = {"provenance": provenance, **metadata}
    save_model(model, tmp_path / "x.safetensors")
    return tmp_path / "x.safetensors"


def test_round_trip(hub: Hub, tiny_project: TinyProject, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["push", str(tiny_project.weights), "ada/shapes", "--licence", "mit"]) == 0
    printed, said = capsys.readouterr()
    assert re.fullmatch(rf"{hub.address}/ada/shapes/commit/\w+\n", printed)
    assert f"sending model.safetensors ({tiny_project.weights.stat().st_size:,} bytes), README.md (" in said
    assert TOKEN not in printed + said
    stored = list(hub.repositories["ada/shapes"].commits.values())[-1]
    assert stored["model.safetensors"] == tiny_project.weights.read_bytes()
    assert not hub.repositories["ada/shapes"].private
    ours = load_model(tiny_project.weights)
    clips = random_clip(ours.config)
    for address in ("hf://ada/shapes", "hf://ada/shapes@main", "hf://ada/shapes/model.safetensors"):
        theirs = load_model(address)
        assert theirs.class_names == tiny_project.class_names
        with torch.inference_mode():
            assert torch.equal(theirs(*clips).fused, ours(*clips).fused)


def test_a_path_loses_a_slash_and_is_understood(
    hub: Hub, tiny_project: TinyProject, capsys: pytest.CaptureFixture[str]
) -> None:
    push(tiny_project.weights, "ada/shapes")
    capsys.readouterr()
    assert cli.main(["weights", "verify", "hf://ada/shapes"]) == 0
    video = next(tiny_project.videos.rglob("*.avi"))
    assert cli.main(["predict", str(video), "--weights", "hf://ada/shapes", "--frames", "5"]) == 0
    assert load_model(Path("hf://ada/shapes")).class_names == tiny_project.class_names


def test_older_versions_stay_and_can_be_named(hub: Hub, tiny_project: TinyProject, tmp_path: Path) -> None:
    first = push(tiny_project.weights, "ada/shapes").address
    model = load_model(tiny_project.weights)
    torch.nn.init.constant_(model.get_parameter("appearance.head.fc.bias"), 7.0)
    save_model(model, tmp_path / "second.safetensors")
    push(tmp_path / "second.safetensors", "ada/shapes")
    assert first is not None
    bias = "appearance.head.fc.bias"
    assert load_model("hf://ada/shapes").get_parameter(bias)[0] == 7
    assert load_model(f"hf://ada/shapes@{first.rpartition('/')[2]}").get_parameter(bias)[0] != 7


def test_private_repositories(hub: Hub, tiny_project: TinyProject) -> None:
    push(tiny_project.weights, "ada/secret", private=True)
    assert hub.repositories["ada/secret"].private
    push(tiny_project.weights, "ada/secret", private=True)
    push(tiny_project.weights, "ada/open")
    before = len(hub.repositories["ada/open"].commits)
    with pytest.raises(ConfigError, match="ada/open is public already; choose another name"):
        push(tiny_project.weights, "ada/open", private=True)
    assert len(hub.repositories["ada/open"].commits) == before


def test_a_dry_run_sends_nothing(hub: Hub, tiny_project: TinyProject, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["push", str(tiny_project.weights), "ada/shapes", "--dry-run", "--private"]) == 0
    printed, said = capsys.readouterr()
    assert printed.startswith("---\nlibrary_name: stmulnet\n")
    size = f"{tiny_project.weights.stat().st_size:,}"
    assert said.startswith(f"nothing sent; without --dry-run: model.safetensors ({size} bytes), README.md (")
    assert said.endswith("to the private repository ada/shapes\n")
    assert hub.requests == []


def test_a_page_of_your_own(hub: Hub, tiny_project: TinyProject, tmp_path: Path) -> None:
    card = tmp_path / "card.md"
    card.write_text("---\nlicense: mit\n---\n# Grüße\n", encoding="utf-8")
    push(tiny_project.weights, "ada/shapes", card=card)
    stored = list(hub.repositories["ada/shapes"].commits.values())[-1]
    assert stored["README.md"] == card.read_bytes()
    with pytest.raises(ConfigError, match="the licence stands on your own card"):
        push(tiny_project.weights, "ada/shapes", card=card, licence="mit")
    with pytest.raises(ConfigError, match="leave them out with a card of your own"):
        push(tiny_project.weights, "ada/shapes", card=card, metrics=card)
    with pytest.raises(ConfigError, match="the card cannot be read"):
        push(tiny_project.weights, "ada/shapes", card=tmp_path / "none.md")


# --- the page


def test_the_page_says_what_the_header_says(tmp_path: Path) -> None:
    before = {"file": "resnet18.pth", "dataset": "imagenet", "split": None}
    training = {"dataset": "mine", "split": 2, "epochs": 24, "network": "appearance_resnet18", "seed": 3, "data": {}}
    training["data"] = {"training_videos": 192}
    metric = {"top1": 0.625, "list": "validation list of split 2", "protocol": "test protocol, 25 frames"}
    preprocessing = {"frames": {"short_side": 64}, "flow": {"algorithm": "TV-L1", "bound_px": 20.0, "libraries": {}}}
    weights = official(tmp_path, {"appearance": before}, training=training, metric=metric, preprocessing=preprocessing)
    page = push(weights, "ada/some-net", licence="cc-by-4.0", dry_run=True).card
    _, header, body = page.split("---\n", 2)
    assert yaml.safe_load(header)["license"] == "cc-by-4.0"
    assert yaml.safe_load(header)["pipeline_tag"] == "video-classification"
    for part in (
        "# some-net",
        'stmulnet.load_model("hf://ada/some-net")',
        "| appearance stream trained on | split 2 of mine (x.safetensors), started from ImageNet (resnet18.pth) |",
        "| training videos | 192 |",
        "| epochs | 24 |",
        "| frames | short side 64 |",
        "| flow | algorithm TV-L1, bound px 20.0 |",
        "top-1 62.5 % on the validation list of split 2; protocol: test protocol, 25 frames.",
        "## Limits",
        "one of the 3 classes",
        "`cc-by-4.0`.",
        CITATION,
    ):
        assert part in body
    assert str(tmp_path) not in page
    assert "provenance" not in page  # which the rows about the streams say better


def test_licences_are_those_of_the_hub(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = official(tmp_path, {"file": "mine.safetensors", "dataset": None, "split": None})
    assert cli.main(["push", str(weights), "ada/net", "--dry-run", "--licence", "MIT"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("stmulnet push: error: --licence must be one of apache-2.0, mit, ")
    assert ", other, got 'MIT'; others" in said
    page = push(weights, "ada/net", licence="other", dry_run=True).card
    assert "license: other\n" in page
    assert "Another one: ask whoever published these weights" in page


def test_the_page_says_what_is_not_known(tmp_path: Path) -> None:
    weights = official(tmp_path, {"file": "mine.safetensors", "dataset": None, "split": None})
    page = push(weights, "ada/net", dry_run=True).card
    for part in ("an unknown data set", "No figures are recorded", "Not stated: ask whoever published", "not recorded"):
        assert part in page
    assert "license:" not in page


def test_figures_of_evaluate(tiny_project: TinyProject, tmp_path: Path) -> None:
    share = {"value": 0.5, "low": 0.25, "high": 0.75}
    metrics: dict[str, Any] = {"videos": 6, "protocol": "25 frames", "dataset": "shapes", "split": 1}
    metrics["weights"] = [{"sha256": sha256_of(tiny_project.weights)}]
    metrics["streams"] = {"fused": {"top1": share}}
    write_json(tmp_path / "metrics.json", metrics)
    page = push(tiny_project.weights, "ada/net", metrics=tmp_path / "metrics.json", dry_run=True).card
    assert "Test list of split 1 of shapes, 6 videos; protocol: 25 frames." in page
    assert "| fused | 50.0 (25.0 to 75.0) |" in page
    metrics["weights"] = [{"sha256": "another"}]
    write_json(tmp_path / "metrics.json", metrics)
    with pytest.raises(ConfigError, match="the figures are not those of"):
        push(tiny_project.weights, "ada/net", metrics=tmp_path / "metrics.json", dry_run=True)


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"weights": [], "streams": {}}', '{"splits": []}'])
def test_what_holds_no_figures(content: str | None, tiny_project: TinyProject, tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match="no figures of one split"):
        push(tiny_project.weights, "ada/net", metrics=path, dry_run=True)


def test_figures_as_evaluate_writes_them(tiny_project: TinyProject, tmp_path: Path) -> None:
    arguments = ["--dataset", str(tiny_project.dataset), "--weights", str(tiny_project.weights)]
    arguments += ["--frames", "5", "--workers", "0", "--out", str(tmp_path / "test")]
    assert cli.main(["evaluate", *arguments]) == 0
    metrics = tmp_path / "test" / "metrics.json"
    page = push(tiny_project.weights, "ada/net", metrics=metrics, dry_run=True).card
    fused = json.loads(metrics.read_text(encoding="utf-8"))["streams"]["fused"]["top1"]["value"]
    assert f"| fused | {100 * fused:.1f} (" in page
    assert "5 frames" in page


def test_the_citation_is_that_of_the_readme() -> None:
    assert CITATION in README.read_text(encoding="utf-8")


# --- rights


AUTHORS = {"file": "ucf101-img-resnet50-split1-dr0.mat", "dataset": "ucf101", "split": 1}


@pytest.mark.parametrize(
    "provenance",
    [
        AUTHORS,
        {"appearance": AUTHORS},
        {"appearance": {"file": "mine.safetensors", "dataset": "mine", "split": 1, "from": AUTHORS}},
        {"file": "renamed.MAT", "dataset": None, "split": None},
    ],
)
def test_files_of_the_authors_need_rights(
    provenance: dict[str, Any], hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = official(tmp_path, provenance)
    for options in ([], ["--dry-run"]):
        assert cli.main(["push", str(weights), "ada/net", *options]) == 2
        said = capsys.readouterr().err
        assert "The authors state no licence for these files." in said
        assert "say so with --i-have-the-rights" in said
        assert said.count("\n") == 1
    assert hub.requests == []
    assert cli.main(["push", str(weights), "ada/net", "--i-have-the-rights"]) == 0
    assert "you say that you have the rights" in capsys.readouterr().err


def test_training_from_the_authors_streams_needs_rights(tmp_path: Path) -> None:
    training = {"dataset": "mine", "split": 1}
    weights = official(tmp_path, {"appearance": AUTHORS}, training=training)
    with pytest.raises(ConfigError, match=r"comes from ucf101-img-resnet50-split1-dr0.mat"):
        push(weights, "ada/net", dry_run=True)


def test_weights_of_imagenet_are_not_the_authors(tmp_path: Path) -> None:
    before = {"file": "imagenet-resnet-50-dag.mat", "dataset": "imagenet", "split": None}
    weights = official(tmp_path, {"appearance": before}, training={"dataset": "mine", "split": 1})
    assert "started from ImageNet" in push(weights, "ada/net", dry_run=True).card


# --- what is refused


@pytest.mark.parametrize(
    ("weights", "repository", "message"),
    [
        ("x.safetensors", "noslash", "the repository has the form user/name, got 'noslash'"),
        ("x.safetensors", "a/b/c", "the repository has the form user/name"),
        ("x.mat", "ada/x", "`stmulnet convert` makes one of other weights"),
        ("hf://ada/x", "ada/y", "is on the hub already"),
        ("nowhere.safetensors", "ada/x", "nowhere.safetensors: no such file"),
    ],
)
def test_bad_arguments_of_push(weights: str, repository: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["push", weights, repository]) == 2
    assert message in capsys.readouterr().err


def test_push_without_a_login(hub: Hub, tiny_project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="log in with `hf auth login`, or set HF_TOKEN"):
        push(tiny_project.weights, "ada/x")
    assert hub.requests == []


def test_push_with_a_bad_login(
    hub: Hub, tiny_project: TinyProject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_other_secret")
    assert cli.main(["push", str(tiny_project.weights), "ada/x"]) == 2
    printed, said = capsys.readouterr()
    assert "ada/x: " in said
    assert "hf auth login" in said
    assert "secret" not in printed + said
    assert hub.repositories == {}


def test_push_where_others_live(hub: Hub, tiny_project: TinyProject) -> None:
    with pytest.raises(HubError, match=r"eve/x: the hub answered 403 \(.*rights to create a model.*\); log in"):
        push(tiny_project.weights, "eve/x")


def test_no_such_repository_revision_or_file(
    hub: Hub, tiny_project: TinyProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HubError, match=r"hf://ada/none/model.safetensors: no such repository, or a private one"):
        load_model("hf://ada/none")
    push(tiny_project.weights, "ada/shapes")
    with pytest.raises(HubError, match=r"hf://ada/shapes@v2/model.safetensors: the repository has no such branch"):
        load_model("hf://ada/shapes@v2")
    with pytest.raises(HubError, match=r"hf://ada/shapes/other.safetensors: the repository has no such file"):
        load_model("hf://ada/shapes/other.safetensors")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match=r"hf://ada/none/model.safetensors: .* `hf auth login`"):
        load_model("hf://ada/none")


def test_gated_repositories(hub: Hub, tiny_project: TinyProject) -> None:
    push(tiny_project.weights, "ada/shapes")
    hub.repositories["ada/shapes"].gated = True
    with pytest.raises(HubError, match="access must be asked for on the page of the repository"):
        load_model("hf://ada/shapes")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>not found</html>", "not a safetensors file, or damaged"),
        (b"\x02\x00\x00\x00\x00\x00\x00\x00{}", "has no stmulnet header"),
        (b"", "not a safetensors file, or damaged"),
    ],
)
def test_downloads_are_loaded_strictly(content: bytes, message: str, hub: Hub) -> None:
    hub.repositories["eve/net"] = Repository()
    hub.repositories["eve/net"].commit({"model.safetensors": content})
    with pytest.raises(CheckpointError, match=message):
        load_model("hf://eve/net")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://ada", "have the form hf://user/name"),
        ("hf://ada/x@", "have the form hf://user/name"),
        ("hf://ada/x/", "have the form hf://user/name"),
        ("hf:///x", "have the form hf://user/name"),
        ("hf://ada/x/model.pt", "only .safetensors files are read from the hub"),
        ("hf://ada/x/pickle.bin", "only .safetensors files are read from the hub"),
        ("hf://ada/x..y", "hf://ada/x..y/model.safetensors: "),
    ],
)
def test_bad_addresses(address: str, message: str, hub: Hub) -> None:
    with pytest.raises(HubError, match=re.escape(message)):
        load_model(address)
    assert hub.requests == []


def test_addresses() -> None:
    assert HubAddress.parse("hf://a/b@refs%2Fpr%2F1/c/d.safetensors") == HubAddress(
        "a/b", "refs/pr/1", "c/d.safetensors"
    )
    assert str(HubAddress.parse(Path("hf://a/b@v1"))) == "hf://a/b@v1/model.safetensors"


def test_no_network(
    hub: Hub, tiny_project: TinyProject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    push(tiny_project.weights, "ada/shapes")
    load_model("hf://ada/shapes")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(HubError, match=r"the hub cannot be reached \(.*\); check the network, or \$HF_ENDPOINT"):
        load_model("hf://ada/other")
    with pytest.raises(HubError, match="the hub cannot be reached"):
        push(tiny_project.weights, "ada/other")
    capsys.readouterr()
    assert load_model("hf://ada/shapes").class_names == tiny_project.class_names
    commit = list(hub.repositories["ada/shapes"].commits)[-1]
    assert f"taking commit {commit}, fetched before" in capsys.readouterr().err


def test_without_the_extra(tiny_project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    for action in (lambda: load_model("hf://ada/x"), lambda: push(tiny_project.weights, "ada/x")):
        with pytest.raises(MissingExtraError, match=r"pip install 'stmulnet\[hub\]'"):
            action()
