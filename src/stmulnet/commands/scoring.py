"""Networks over the test list of a data set: opened, checked against each other, scored."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stmulnet import distributed
from stmulnet.class_names import CLASS_NAMES
from stmulnet.console import notice
from stmulnet.constants import TEST_FRAMES
from stmulnet.datasets.annotations import Annotation, annotation_path, load_annotation, names_sha256
from stmulnet.datasets.base import TwoStreamDataset
from stmulnet.datasets.folder import hold_out
from stmulnet.datasets.loading import ClipLoader
from stmulnet.datasets.sampling import UniformFrames
from stmulnet.datasets.transforms import TestTransform
from stmulnet.errors import AnnotationError, CheckpointError, ConfigError
from stmulnet.evaluation.clip_views import ViewsName, check_frames, view_maker
from stmulnet.evaluation.journal import Journal, read_journals
from stmulnet.evaluation.protocol import ScoredVideo, ScoreTable, score_each, score_table
from stmulnet.files import sha256_of
from stmulnet.memory import keep_freed_memory
from stmulnet.models.catalog import locate
from stmulnet.models.checkpoint import load_model
from stmulnet.models.multiplier import Network
from stmulnet.models.optimize import optimize
from stmulnet.models.sources import check_unseen, disagree, in_words, plain, read_record
from stmulnet.video.manifest import Manifest, load_manifests
from stmulnet.video.pool import default_workers

MAX_WORKERS = 4  # decoding one video is far quicker than scoring it


@dataclass(frozen=True)
class OpenSplit:
    """The test videos of one split.

    Attributes:
        dataset: Folder of the data set.
        split: Number of the split.
        path: The annotation file.
        annotation: Its content; with ``held_out`` its training list, parted.
        manifest: How frames and flow were made; None where that is not known.
        held_out: Whether the test videos are a hold-out of the training list.
    """

    dataset: Path
    split: int
    path: Path
    annotation: Annotation
    manifest: Manifest | None
    held_out: bool = False

    @classmethod
    def open(cls, dataset: Path, split: int) -> "OpenSplit":
        """Read the annotation of a split.

        Raises:
            AnnotationError: It is missing, malformed, or has no videos to test on.
        """
        path = annotation_path(dataset, split)
        annotation = load_annotation(path)
        if not annotation.validation:
            raise AnnotationError(f"{path}: the validation list is empty; make it anew from the official lists")
        return cls(dataset, split, path, annotation, load_manifests(dataset))

    @classmethod
    def open_hold_out(cls, dataset: Path, split: int, weights: Sequence[Path]) -> "OpenSplit":
        """The videos of the training list that weights were trained without, in place of the test list.

        Raises:
            AnnotationError: The annotation is missing or malformed.
            ConfigError: The weights do not say that they were trained without some videos of this list, or different
                ones.
        """
        path = annotation_path(dataset, split)
        whole = load_annotation(path)
        parted = [_without_hold_out(file, path, whole) for file in weights]
        if any(other.validation != parted[0].validation for other in parted):
            names = " and ".join(map(str, weights))
            raise ConfigError(f"{names} were trained without different videos: give weights with the same hold-out")
        return cls(dataset, split, path, parted[0], load_manifests(dataset), held_out=True)

    @property
    def left_out(self) -> int:
        """Videos of the official test list that were not on disk when the annotation was made."""
        return 0 if self.held_out else len(self.annotation.left_out.get("validation", []))

    def record(self) -> dict[str, Any]:
        """What is saved with scores of these videos."""
        name = self.dataset.resolve().name
        if self.held_out:
            return {"dataset": f"{name}, hold-out of the training list", "split": None, "left_out": 0}
        return {"dataset": name, "split": self.split, "left_out": self.left_out}


def _without_hold_out(weights: Path, path: Path, whole: Annotation) -> Annotation:
    """An annotation parted as it was for the training of a network, which is known by a checksum of its videos."""
    training = load_model(locate(weights)).metadata.get("training")
    training = training if isinstance(training, dict) else {}
    share, seed, data = (training.get(name) for name in ("holdout", "holdout_seed", "data"))
    if not (isinstance(share, float) and share and isinstance(seed, int) and isinstance(data, dict)):
        raise ConfigError(
            f"{weights}: records no hold-out (train --holdout makes one); without --holdout the test list is scored"
        )
    try:
        parted = hold_out(whole, share, seed=seed)
    except AnnotationError:  # nothing can be held out of this list
        parted = whole
    if names_sha256(record.video for record in parted.training) != data.get("training_videos_sha256"):
        raise ConfigError(
            f"{weights}: was not trained on the training list of {path} less a hold-out; give the data set and the "
            "--split that it was trained on"
        )
    return parted


@dataclass(frozen=True)
class Candidate:
    """A network that fits a test list.

    Attributes:
        path: Its weight file.
        sha256: Of the file.
        network: On the CPU.
        videos: The test videos, sized and sampled for it.
    """

    path: Path
    sha256: str
    network: Network
    videos: TwoStreamDataset

    def record(self) -> dict[str, Any]:
        """What is saved with its scores."""
        file = "/".join(self.path.absolute().parts[-2:])  # many are called model.safetensors
        return {"file": file, "sha256": self.sha256, "streams": list(self.network.config.streams)}


def open_candidate(
    weights: Path, tests: OpenSplit, *, views: ViewsName = "official", frames: int = TEST_FRAMES, allow_mismatch: bool
) -> Candidate:
    """Load a network and see that its scores on a test list will mean something.

    Raises:
        CheckpointError: The weights cannot be read, or know other classes.
        ConfigError: They have seen test videos, or frames or flow are not there as needed.
    """
    path = locate(weights)
    network = load_model(path)
    network.config.check_frames(check_frames(views, frames))
    _check_classes(network, path, tests)
    check_unseen_videos(network, path, tests, allow_mismatch=allow_mismatch)
    _say_if_chosen(network, path, tests)
    if tests.held_out:
        _say_of_start(network, path, tests)
    _check_flow(network, tests.manifest, frames)
    _compare_records(network, tests.manifest)
    return Candidate(path, sha256_of(path), network, open_test_list(tests.dataset, tests.annotation, network, frames))


def open_test_list(
    dataset: Path, annotation: Annotation | Path, network: Network, frames: int = TEST_FRAMES
) -> TwoStreamDataset:
    """The validation list of an annotation, sampled and sized for the test protocol of a network."""
    return TwoStreamDataset.in_folder(
        annotation,
        dataset,
        subset="validation",
        sampling=UniformFrames(frames),
        transform=TestTransform(network.config.input_size),
        streams=network.config.streams,
    )


def score_videos(
    network: Network,
    videos: TwoStreamDataset,
    *,
    device: torch.device,
    workers: int | None = None,
    views: ViewsName = "official",
    journal: Path | None = None,
    key: dict[str, Any] | None = None,
    as_given: bool = False,
) -> ScoreTable:
    """Run the test protocol over a data set, reading ahead in ``workers`` processes.

    Of several processes (`stmulnet.distributed`) each scores its share, every video once; all get the whole table.

    Args:
        network: The network. A copy of it, made fast for inference in float32, computes the scores; one that is
            optimised already computes them itself.
        videos: Test videos; see `open_test_list`.
        device: Where to score.
        workers: Processes that read ahead; up to four by default.
        views: Views of a video.
        journal: File without suffix that keeps the scores until all are there; None keeps none.
        key: What a journal must be of for its scores to be taken over.
        as_given: Whether the network itself computes the scores instead.

    Returns:
        Scores in the order of the list.
    """
    if not len(videos):
        raise AnnotationError("the annotation's validation list is empty; make it anew from the official lists")
    keep_freed_memory()
    rank, _ = distributed.place()
    done = _scored_before(journal, key or {}, len(videos))
    missing = [index for index, record in enumerate(videos.records) if record.video not in done]
    mine = [missing[place] for place in distributed.share(len(missing))]
    if workers is None:
        workers = min(MAX_WORKERS, max(default_workers() // distributed.neighbours(), 1) - 1)
    # A sample is some 50 MB at the official size and waits in shared memory: one per worker is enough.
    loader = ClipLoader(
        videos, batch_size=None, order=mine, workers=min(workers, len(mine)), ahead=1, pin_memory=device.type == "cuda"
    )
    if not (as_given or network.fused):
        network = optimize(network, device=device, dtype=torch.float32)
    network = network.to(device).eval()
    maker = view_maker(views, network.config.input_size)
    scored: list[ScoredVideo] = []
    with Journal(journal and journal.with_name(f"{journal.name}-{rank}.jsonl"), key or {}) as kept:
        for video in score_each(network, loader, total=len(mine), device=device, views=maker):
            kept.append(video)
            scored.append(video)
    found = done | {video.video: video for part in distributed.gather(scored) for video in part}
    return score_table([found[record.video] for record in videos.records])


def _scored_before(journal: Path | None, key: dict[str, Any], total: int) -> dict[str, ScoredVideo]:
    """What process 0 finds of an earlier run, for all processes: they must agree on what is left to do."""
    done: dict[str, ScoredVideo] = {}
    if journal is not None and distributed.place()[0] == 0:
        done = read_journals(sorted(journal.parent.glob(f"{journal.name}-*.jsonl")), key)
        if done:
            notice(f"{len(done)} of {total} videos were scored before; going on with the others")
    return distributed.gather(done)[0]


def journal_key(
    candidate: Candidate, tests: OpenSplit, *, views: ViewsName, frames: int, device: str
) -> dict[str, Any]:
    """What decides the scores of a network, and so whether those of a stopped run can be taken over."""
    videos = [[record.video, record.label, record.num_frames] for record in tests.annotation.validation]
    return {
        "weights": candidate.sha256,
        "dataset": str(tests.dataset.resolve()),
        "settings": tests.manifest.settings if tests.manifest else None,
        "videos": hashlib.sha256(repr(videos).encode()).hexdigest(),
        **{"views": views, "frames": frames, "device": device},
    }


def check_unseen_videos(network: Network, weights: Path, tests: OpenSplit, *, allow_mismatch: bool = False) -> None:
    """Refuse a network that has been trained on test videos, as far as its file knows.

    Files of this package name the list they were trained on by checksums, so that it is found whatever the data set is
    called; those of the authors, and older ones, name data set and split.

    Args:
        network: The network.
        weights: Its file, for the message.
        tests: The test list.
        allow_mismatch: Say so instead.

    Raises:
        ConfigError: It has; names the split it was trained on.
    """
    records = {stream: read_record(weights, network.metadata, stream) for stream in network.config.streams}
    if _known_list(network.metadata, weights, tests, allow_mismatch):
        records = {stream: record["from"] for stream, record in records.items() if record.get("from")}
    for name in _names_of(tests):
        check_unseen(records, name, tests.split, allow_mismatch=allow_mismatch)


def _names_of(tests: OpenSplit) -> list[str]:
    """Names that the data set may have in records."""
    names = {tests.dataset.resolve().name, *_known_datasets(tests.annotation.class_names)}
    return sorted({plain(name): name for name in names}.values())


def _say_of_start(network: Network, weights: Path, tests: OpenSplit) -> None:
    """What a network began as may have been trained on the hold-out; its record does not tell."""
    known = {plain(name) for name in _names_of(tests)}
    for stream in network.config.streams:
        record = read_record(weights, network.metadata, stream).get("from")
        while record is not None:
            if plain(record["dataset"] or "") in known:
                notice(
                    f"note: the {stream} stream of {weights.name} began as {record['file']}, trained on "
                    f"{in_words(record)}: if the hold-out was among its videos, figures are too good"
                )
            record = record.get("from")


def _say_if_chosen(network: Network, weights: Path, tests: OpenSplit) -> None:
    """The best epoch by a list is too good on that list, though nothing was trained on it."""
    metric = network.metadata.get("metric")
    training = network.metadata.get("training")
    if not isinstance(metric, dict) or not isinstance(training, dict) or not metric.get("chosen_by"):
        return
    data = training.get("data")
    annotation = data.get("annotation_sha256") if isinstance(data, dict) else None
    if bool(training.get("holdout")) == tests.held_out and annotation == sha256_of(tests.path):
        notice(
            f"note: {weights.name} was chosen among the epochs of its training by this list: its figures are too good"
        )


def _known_list(metadata: dict[str, Any], weights: Path, tests: OpenSplit, allow_mismatch: bool) -> bool:
    """Whether the list that a file was trained on is here, so that names need not be asked; refuses if it is seen."""
    training = metadata.get("training")
    data = training.get("data") if isinstance(training, dict) else None
    if not isinstance(data, dict):
        return False
    if data.get("annotation_sha256") == sha256_of(tests.path):
        return True
    wanted, tested = data.get("training_videos_sha256"), {record.video for record in tests.annotation.validation}
    for path in sorted(tests.path.parent.glob("annot*.json")):
        names = {record.video for record in load_annotation(path).training}
        if names and names_sha256(names) == wanted:
            if seen := names & tested:
                disagree(
                    f"{weights.name} was trained on the training list of {path.name}, which has {len(seen)} of the "
                    f"{len(tested)} test videos of {tests.path.name}",
                    "figures of that test will be too good",
                    allow_mismatch,
                )
            return True
    return False


def _known_datasets(class_names: list[str]) -> list[str]:
    """The data set that has these classes, whatever its folder is called."""
    return [name for name, classes in CLASS_NAMES.items() if list(classes) == class_names]


def _check_classes(network: Network, weights: Path, tests: OpenSplit) -> None:
    class_names = tests.annotation.class_names
    if network.config.num_classes != len(class_names):
        raise CheckpointError(
            f"{weights} knows {network.config.num_classes} classes, {tests.path} has {len(class_names)}: "
            "give weights trained on this data set"
        )
    if network.class_names is not None and network.class_names != class_names:
        ours, theirs = next(pair for pair in zip(network.class_names, class_names, strict=True) if pair[0] != pair[1])
        raise CheckpointError(
            f"{weights} and {tests.path} name their classes differently, first {ours!r} against {theirs!r}: "
            "give weights trained on this data set"
        )


def _check_flow(network: Network, manifest: Manifest | None, frames: int) -> None:
    """A data set for evaluation only has the flow of one number of frames."""
    present = manifest.only_for_test_frames if manifest else None
    if present and present != frames and "motion" in network.config.streams:
        raise ConfigError(
            f"the data set has only the flow that {present} frames per video need (extract --flow-only-needed), not "
            f"that of {frames}; evaluate {present} frames, or extract all of the flow into another folder"
        )


def _compare_records(network: Network, manifest: Manifest | None) -> None:
    """Say where frames or flow were made otherwise than those the network was trained on."""
    trained = network.metadata.get("preprocessing")
    if trained is None or manifest is None:
        return
    for part in ("frames", "flow"):
        before, now = trained.get(part, {}), manifest.settings.get(part, {})
        names = (before.keys() & now.keys()) - {"libraries"}
        if before.get("algorithm") != now.get("algorithm"):
            names -= {"parameters"}  # of another algorithm: they would not say more
        for name in sorted(names):
            if before.get(name) != now.get(name):
                notice(f"note: {part} {name}: {now.get(name)!r} here, {before.get(name)!r} in training")
