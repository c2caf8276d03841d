"""The file of an ablation: what it says, what is refused; the files in configs/ablations."""

from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped] # the stubs are a package of their own

from stmulnet.cli import options_of_table
from stmulnet.commands import demo
from stmulnet.commands.train import config_of, train
from stmulnet.datasets.moving_shapes import BINDING_CLASSES, CLASSES, PAIR_CLASSES
from stmulnet.errors import ConfigError
from stmulnet.models.config import ModelConfig
from stmulnet.models.zoo import model_config
from stmulnet.training.ablation import Ablation, Scored, merged, read_ablation

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SHIPPED = sorted((CONFIGS / "ablations").glob("*.yaml"))
SMALL: dict[str, Any] = {
    "question": "Which?",
    "seeds": [0, 1],
    "variants": {"one": {"network": "st_mulnet_resnet50"}, "Other (2)": {"network": "two_stream_resnet50"}},
    "evaluate": {"list": "test"},
}


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "which.yaml"
    content = {name: value for name, value in (SMALL | changes).items() if value is not None}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_options_are_merged(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "weight_decay: 1e-3\nbatch_size: 8\nnetwork_options: {units: [2, 2, 2, 2], fusion: {stages: [3], scale: yes}}\n"
    )
    (tmp_path / "sub").mkdir()
    variants: dict[str, Any] = {
        "as it is": None,
        "add": {"network_options": {"fusion": {"operation": "add", "stages": [4]}, "temporal_conv": None}},
        "apart": {"network_options": {"fusion": None}, "batch_size": 2},
    }
    more = {"base": "../base.yaml", "train": {"batch_size": 4, "network_options": {"dropout": 0.5}}}
    found = read_ablation(write(tmp_path / "sub", variants=variants, **more))
    common = {"weight_decay": 0.001, "batch_size": 4}
    network: dict[str, Any] = {"units": [2, 2, 2, 2], "dropout": 0.5}
    fusion = {"stages": [3], "scale": True}
    adding = {"stages": [4], "scale": True, "operation": "add"}
    assert [variant.options for variant in found.variants] == [
        common | {"network_options": network | {"fusion": fusion}},
        common | {"network_options": network | {"fusion": adding, "temporal_conv": None}},
        common | {"network_options": network | {"fusion": None}, "batch_size": 2},
    ]
    assert [variant.slug for variant in found.variants] == ["as-it-is", "add", "apart"]
    assert [variant.changes for variant in found.variants] == [{}, variants["add"], variants["apart"]]
    assert (found.reference, found.groups, found.dataset, found.scored) == ("as it is", {}, None, Scored(0, 0, 25))


def test_merging_leaves_its_arguments_alone() -> None:
    base, changes = {"a": {"b": 1, "c": [2]}}, {"a": {"c": [3]}, "d": {"e": []}}
    result = merged(base, changes)
    assert result == {"a": {"b": 1, "c": [3]}, "d": {"e": []}}
    result["d"]["e"].append(1)
    result["a"]["c"].append(1)
    assert (base, changes) == ({"a": {"b": 1, "c": [2]}}, {"a": {"c": [3]}, "d": {"e": []}})


def test_a_grid_has_all_combinations(tmp_path: Path) -> None:
    grid = {"network_options.fusion.operation": ["multiply", "add"], "network_options.temporal_conv": ["center", None]}
    found = read_ablation(
        write(tmp_path, variants=None, grid=grid, evaluate={"holdout": 0.25, "seed": 3, "frames": 10})
    )
    assert {variant.name: variant.changes["network_options"] for variant in found.variants} == {
        "operation multiply, temporal_conv center": {"fusion": {"operation": "multiply"}, "temporal_conv": "center"},
        "operation multiply, temporal_conv none": {"fusion": {"operation": "multiply"}, "temporal_conv": None},
        "operation add, temporal_conv center": {"fusion": {"operation": "add"}, "temporal_conv": "center"},
        "operation add, temporal_conv none": {"fusion": {"operation": "add"}, "temporal_conv": None},
    }
    assert found.reference == "operation multiply, temporal_conv center"
    assert found.scored == Scored(0.25, 3, 10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": None}, r"which\.yaml: question missing; needed are question, seeds, evaluate"),
        ({"sedes": [1]}, r"no sedes; there are question, seeds, evaluate, dataset, base"),
        ({"seeds": 3}, "seeds must be a list, got 3"),
        ({"seeds": [0, 0]}, r"seeds must be different whole numbers, such as \[0, 1, 2\], got \[0, 0\]"),
        ({"seeds": [-1]}, "seeds must be different whole numbers"),
        ({"question": ["x"]}, r"question must be a text, got \['x'\]"),
        ({"variants": {}}, "one variant or more is needed"),
        ({"grid": {"x": [1]}}, "give variants, or a grid"),
        ({"variants": None}, "give variants, or a grid"),
        ({"variants": None, "grid": {"momentum": 0.9}}, r"grid: momentum needs a list of values, got 0\.9"),
        ({"variants": {"a b": {}, "A-B": {}}}, r"'A-B' gives 'a-b', as does 'a b'"),
        ({"variants": {"one": {}, "???": {}}}, r"folder of letters and digits: '\?\?\?' gives ''"),
        (
            {"variants": {"one": {}, "two": {"seed": 3}}},
            r"which\.yaml, two: seed is set for all variants alike, by seeds",
        ),
        ({"train": {"resume": True}}, "train: resume is set for all variants alike, by the command, which goes on"),
        ({"variants": {"one": {}, "two": 3}}, "two: needs a table of options of `stmulnet train`, got 3"),
        ({"train": {"dataset": "x"}}, "train: dataset is set for all variants alike, by dataset, or --dataset"),
        ({"reference": "two"}, r"reference 'two' is no variant; there are 'one', 'Other \(2\)'"),
        ({"groups": {"moving": "Run"}}, "groups: moving needs a list of classes, got 'Run'"),
        ({"evaluate": {}}, r"evaluate: give a holdout, .* or list: test; got \{\}"),
        ({"evaluate": {"list": "train"}}, "evaluate: give a holdout"),
        ({"evaluate": {"list": "test", "holdout": 0.3}}, "evaluate: give a holdout"),
        ({"evaluate": {"list": "test", "seed": 3}}, "seed is that of a holdout"),
        ({"evaluate": {"holdout": 1}}, "holdout must be above 0 and below 1, got 1"),
        ({"evaluate": {"holdout": "all"}}, "holdout must be a number, got 'all'"),
        ({"evaluate": {"test": True}}, "evaluate: no test; there are holdout, seed, list, frames"),
        ({"base": "none.yaml"}, r"none\.yaml: cannot be read \(No such file"),
    ],
)
def test_bad_files_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        read_ablation(write(tmp_path, **changes))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "needs lines 'name: value'"),
        ("", "needs lines 'name: value'"),
        ("a: [", r"not a YAML file \(while parsing"),
        ("variants:\n  add: {momentum: 0.9}\n  add: {}", r"'add' is there twice \(line 2\)"),
    ],
)
def test_bad_text_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "which.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_ablation(tmp_path / "which.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_ablation(tmp_path)


def networks(ablation: Ablation, num_classes: int) -> dict[str, ModelConfig]:
    """The network of each variant, after the checks of `train`."""
    found = {}
    for variant in ablation.variants:
        table = {**variant.options, "dataset": str(ablation.dataset), "out": "x", "seed": 0}
        config = config_of(options_of_table("train", train, table))
        found[variant.name] = model_config(config.network, num_classes, **config.network_options)
        found[variant.name].check_frames(config.frames)
    return found


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_files(path: Path) -> None:
    ablation = read_ablation(path)
    found = networks(ablation, 6)
    assert len(ablation.seeds) >= 3
    assert len(set(found.values())) == len(found)
    assert ablation.reference == ablation.variants[0].name
    assert (ablation.scored.holdout > 0) == path.stem.startswith("arid6")  # what is chosen by is not the test list
    if path.stem.startswith("shapes"):
        assert [sorted(classes) for classes in ablation.groups.values()] == [
            sorted(PAIR_CLASSES),
            sorted(BINDING_CLASSES),
        ]


def test_shipped_files_are_all_there() -> None:
    assert {path.stem for path in SHIPPED} == {
        f"{data}_{what}" for data in ("shapes", "arid6") for what in ("gate", "temporal", "depth")
    }


@pytest.mark.parametrize("data", ["shapes", "arid6"])
def test_shipped_files_are_about_the_same_network(data: str) -> None:
    references = []
    for what in ("gate", "temporal", "depth"):
        ablation = read_ablation(CONFIGS / "ablations" / f"{data}_{what}.yaml")
        references.append(networks(ablation, 6)[ablation.reference])
    assert references[0] == references[1] == references[2]
    assert references[0].fusion is not None
    assert (references[0].fusion.operation, references[0].fusion.target) == ("multiply", "residual")
    assert references[0].temporal_conv == "center"


def test_small_networks_are_those_of_the_demo() -> None:
    gate = read_ablation(CONFIGS / "ablations" / "shapes_gate.yaml")
    config = config_of(options_of_table("train", train, {**gate.variants[0].options, "dataset": "x", "out": "x"}))
    assert config.learning_rates == pytest.approx(demo._learning_rates(), rel=1e-3)
    assert (config.batch_size, config.sub_batch_size, config.passes_per_epoch) == (demo.BATCH, demo.BATCH, 1)
    assert (config.strides, config.cache) == ((1, 4), True)
    options = demo.NETWORK_OPTIONS | {"motion": {"dropout": demo.MOTION_DROPOUT}}
    found = networks(gate, len(CLASSES))
    assert found[gate.reference] == model_config("st_mulnet_resnet50", len(CLASSES), **options)
    late = model_config("two_stream_resnet50", len(CLASSES), **options)
    assert found["no connection (late fusion)"] == late
