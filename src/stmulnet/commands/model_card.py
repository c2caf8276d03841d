"""The page that goes with weights onto the hub, made from what their file says about itself."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped] # the stubs are a package of their own

from stmulnet.errors import ConfigError
from stmulnet.files import sha256_of
from stmulnet.models.hub import WEIGHTS_FILE
from stmulnet.models.multiplier import Network
from stmulnet.models.sources import Record, in_words
from stmulnet.models.verify import describe

CITATION = """@inproceedings{feichtenhofer2017multiplier,
  title     = {Spatiotemporal Multiplier Networks for Video Action Recognition},
  author    = {Feichtenhofer, Christoph and Pinz, Axel and Wildes, Richard P.},
  booktitle = {Proceedings of the IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  pages     = {4768--4777},
  year      = {2017}
}"""
UNKNOWN = "not recorded"
TRAINING = ("network", "epochs", "batch_size", "augmentation", "optimizer", "schedule", "holdout", "seed")


def make_card(
    network: Network,
    repository: str,
    records: Mapping[str, Record],
    *,
    licence: str | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> str:
    """Write the page as Markdown with the hub's YAML header.

    Args:
        network: The network with its metadata.
        repository: ``user/name``.
        records: Where each stream comes from.
        licence: The hub's identifier; None leaves it open, and says so.
        metrics: ``metrics.json`` of `stmulnet evaluate` for these weights.
    """
    header = {
        **({"license": licence} if licence else {}),
        "library_name": "stmulnet",
        "pipeline_tag": "video-classification",
        "tags": ["stmulnet", "action-recognition", "two-stream", "optical-flow", "pytorch", "safetensors"],
    }
    name = repository.partition("/")[2]
    parts = {
        "Use": _use(repository),
        "Network": _table({name: words for name, words in describe(network).items() if name != "provenance"}),
        "Training data and protocol": _table(dict(_training(network, records))),
        "Figures": "\n\n".join(_figures(network.metadata, metrics)),
        "Limits": "\n".join(f"* {limit}" for limit in _limits(network)),
        "Licence": _licence(licence, records),
        "Citation": f"```bibtex\n{CITATION}\n```",
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in parts.items())
    return f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n\n# {name}\n\n{_lead(network)}\n\n{body}\n"


def read_metrics(path: Path, weights: Path) -> dict[str, Any]:
    """Read ``metrics.json`` of one split, and see that it is about these weights.

    Raises:
        ConfigError: It cannot be read, is of several splits, or of other weights.
    """
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        tested = [record["sha256"] for record in metrics["weights"]]
        shares = [
            (row["top1"]["value"], row["top1"]["low"], row["top1"]["high"]) for row in metrics["streams"].values()
        ]
        if not shares or not all(isinstance(share, float) for row in shares for share in row):
            raise ValueError("no figures in it")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path}: no figures of one split ({error}); give the metrics.json that `stmulnet evaluate --out` writes"
        ) from error
    if tested != [sha256_of(weights)]:
        raise ConfigError(
            f"{path}: the figures are not those of {weights} alone; evaluate this file and give its figures"
        )
    return dict(metrics)


def _lead(network: Network) -> str:
    streams = " and ".join(network.config.streams)
    return (
        f"Recognises {network.config.num_classes} actions in videos: the {streams} stream"
        f"{'s' if len(network.config.streams) > 1 else ''} of a spatiotemporal multiplier network (Feichtenhofer, Pinz "
        "and Wildes, CVPR 2017), for the Python package `stmulnet`."
    )


def _use(repository: str) -> str:
    return f"""```python
import stmulnet

model = stmulnet.load_model("hf://{repository}")
prediction = stmulnet.VideoPredictor(model)("video.mp4")
print(prediction.label, prediction.top_k)
```

From a shell: `stmulnet predict video.mp4 --weights hf://{repository}`. `pip install 'stmulnet[hub]'` has what is
needed. `{WEIGHTS_FILE}` describes itself: configuration, class names and means are in it. It is never unpickled."""


def _training(network: Network, records: Mapping[str, Record]) -> Iterator[tuple[str, str]]:
    """What the header says about the making of the weights, by heading."""
    metadata = network.metadata
    for stream, record in records.items():
        yield f"{stream} stream trained on", _history(record)
    training = metadata.get("training")
    training = training if isinstance(training, dict) else {}
    data = training.get("data")
    if isinstance(data, dict):
        yield "training videos", str(data.get("training_videos", UNKNOWN))
    for name in TRAINING:
        if training.get(name) is not None:
            yield name.replace("_", " "), str(training[name])
    record = metadata.get("preprocessing", {})
    for part in ("frames", "flow"):
        facts = {name: value for name, value in record.get(part, {}).items() if name not in ("libraries", "parameters")}
        yield part, ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items()) or UNKNOWN
    yield "classes", ", ".join(network.class_names) if network.class_names else "without names"


def _history(record: Record | None) -> str:
    steps = []
    while record is not None:
        steps.append(f"{in_words(record)} ({record['file']})")
        record = record.get("from")
    return ", started from ".join(steps)


def _figures(metadata: Mapping[str, Any], metrics: Mapping[str, Any] | None) -> Iterator[str]:
    """Figures, each with the videos and the protocol it is for."""
    if metrics is not None:
        yield (
            f"Test list of split {metrics.get('split') or '?'} of {metrics.get('dataset') or 'an unnamed data set'}, "
            f"{metrics.get('videos')} videos; protocol: {metrics.get('protocol') or UNKNOWN}."
        )
        rows = [
            f"| {name} | {_percent(row['top1']['value'])} ({_percent(row['top1']['low'])} to "
            f"{_percent(row['top1']['high'])}) |"
            for name, row in metrics["streams"].items()
        ]
        yield "\n".join(["| scores | top-1 %, 95 % interval |", "|---|---|", *rows])
    recorded = metadata.get("metric")
    if isinstance(recorded, dict) and isinstance(recorded.get("top1"), float):
        chosen = " The epoch was chosen by it, so that it is too good." if recorded.get("chosen_by") else ""
        yield (
            f"During training: top-1 {_percent(recorded['top1'])} % on the {recorded.get('list', UNKNOWN)}; protocol: "
            f"{recorded.get('protocol', UNKNOWN)}.{chosen}"
        )
    elif metrics is None:
        yield "No figures are recorded with these weights."


def _limits(network: Network) -> Iterator[str]:
    config = network.config
    yield (
        f"Every video gets one of the {config.num_classes} classes, also one that shows none of them; scores are no "
        "calibrated probabilities."
    )
    yield "Videos unlike those it was trained on (other cameras, scenes, people, light) are recognised less well."
    yield (
        f"Clips have {config.min_frames} frames or more, of {config.input_size} pixels or more on each side; inputs "
        "are 0..255, the means are subtracted inside."
    )
    if config.motion is not None:
        yield "Optical flow must be made as in training (see above); another algorithm or bound changes the scores."
    yield "Figures hold for the named test list and protocol; nothing was examined about groups of people shown in it."


def _licence(licence: str | None, records: Mapping[str, Record]) -> str:
    ask = "ask whoever published these weights before you use them."
    stated = (
        f"Not stated: {ask}" if licence is None else f"Another one: {ask}" if licence == "other" else f"`{licence}`."
    )
    return f"{stated} The terms of the data that they were trained on, and of weights they started from, apply besides."


def _table(facts: Mapping[str, str]) -> str:
    rows = [f"| {name} | {_cell(words)} |" for name, words in facts.items()]
    return "\n".join(["| | |", "|---|---|", *rows])


def _cell(words: str) -> str:
    return " ".join(words.split()).replace("|", "\\|")


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
