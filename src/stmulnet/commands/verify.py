"""``stmulnet verify DATASET``: whether frames, flow and annotations are complete, readable and in agreement."""

import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stmulnet.commands.extract import NEEDED_BY_TEST
from stmulnet.console import counted, notice, progress
from stmulnet.datasets.annotations import ANNOTATIONS_FOLDER, load_annotation
from stmulnet.datasets.lists import SUBSETS
from stmulnet.errors import AnnotationError, ConfigError, StmulnetError
from stmulnet.files import check_output, write_json
from stmulnet.video.extract import FAILURES_NAME, extract_videos
from stmulnet.video.manifest import MANIFEST_NAME, SHARD_MANIFESTS, Manifest, load_manifests
from stmulnet.video.packed import is_packed
from stmulnet.video.pool import WorkerDiedError, check_workers, default_workers, map_unordered
from stmulnet.video.shard import Shard, shards_in
from stmulnet.video.sources import VideoSource, find_sources
from stmulnet.video.state import dataset_state
from stmulnet.video.store import FrameTree, open_tree
from stmulnet.video.verify import Finding, VideoJob, VideoResult, check_video, opened_tree

POSITIONAL = ("dataset",)
REPORT_NAME = "verify.json"
_SHOWN = 5  # videos per kind of finding in the text; the report file has all
_NOT_REPAIRABLE = {"annotation-count", "too-short"}  # another extraction would not change them


@dataclass(frozen=True)
class VerifySummary:
    """What was found.

    Attributes:
        tree: The form of the data set in words.
        videos: Number of videos, on disk or expected there.
        images: Number of images that were read.
        decoded: Whether they were decoded; otherwise only their headers were looked at.
        findings: Failures and notes, after repair.
        repaired: Videos that were extracted again and are good now.
        not_repaired: Video to the reason why it was not.
        seconds: Duration.
    """

    tree: str
    videos: int
    images: int
    decoded: bool
    findings: tuple[Finding, ...]
    repaired: tuple[str, ...] = ()
    not_repaired: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def failures(self) -> list[Finding]:
        """What would stop or mislead training or evaluation."""
        return [finding for finding in self.findings if finding.failure]

    @property
    def notes(self) -> list[Finding]:
        """What training and evaluation cope with."""
        return [finding for finding in self.findings if not finding.failure]

    @property
    def exit_code(self) -> int:
        """0 without failures, else 1."""
        return 1 if self.failures else 0

    def to_dict(self) -> dict[str, Any]:
        """For the report file: everything but the duration."""
        facts = {name: getattr(self, name) for name in ("tree", "videos", "images", "decoded")}
        lists = {name: [asdict(finding) for finding in getattr(self, name)] for name in ("failures", "notes")}
        for entry in (*lists["failures"], *lists["notes"]):
            del entry["failure"]
        return {**facts, **lists, "repaired": list(self.repaired), "not_repaired": dict(self.not_repaired)}

    def __str__(self) -> str:
        how = "decoded" if self.decoded else "looked at (headers only)"
        rate = self.images / self.seconds if self.seconds else 0.0
        read = f"{counted(self.videos, 'video')}, {counted(self.images, 'image')} {how}"
        lines = [self.tree, f"{read} in {self.seconds:.1f} s ({rate:.0f}/s)"]
        for title, findings in (("FAILURE", self.failures), ("note", self.notes)):
            for kind in sorted({finding.kind for finding in findings}):
                lines += _described(title, kind, [finding for finding in findings if finding.kind == kind])
        if self.repaired:
            lines.append(f"repaired: {', '.join(self.repaired)}")
        lines += [f"not repaired: {video}: {reason}" for video, reason in sorted(self.not_repaired.items())]
        videos = counted(len({finding.video for finding in self.failures if finding.video}), "video")
        lines.append(f"failures: {len(self.failures)} ({videos})" if self.failures else "no failures")
        return "\n".join(lines)


def _described(title: str, kind: str, findings: list[Finding]) -> list[str]:
    shown = [f"  {f.video}: {f.message}" if f.video else f"  {f.message}" for f in findings[:_SHOWN]]
    more = [f"  ... and {len(findings) - _SHOWN} more"] if len(findings) > _SHOWN else []
    return [f"{title} {kind}", *shown, *more]


def verify(
    dataset: Path,
    *,
    repair: Path | None = None,
    headers_only: bool = False,
    report: Path | None = None,
    workers: int | None = None,
) -> VerifySummary:
    """Check every image of a data set, its counts, its manifest and its annotations; exit code 1 on failures.

    Args:
        dataset: Folder of frames and flow in any tree that can be read, with annotations or without.
        repair: Folder or archive of the videos: those with failures are extracted from it again, with the settings
            of the manifest, and checked again. What could not be repaired is said: a file of another size than the
            manifest gives it is not taken.
        headers_only: Look only at the beginning and the end of every image instead of decoding it, which is quicker
            and misses damage in between and images of one colour.
        report: JSON file for the complete list of findings; verify.json in the data set if not given.
        workers: Processes at work; one per core if not given.

    Returns:
        The summary, which is printed as well.

    Raises:
        DatasetError: The data set is missing or in no known tree, or there are no videos to repair it from.
        ConfigError: An argument is out of range, or the report cannot be written.
    """
    start = time.monotonic()
    check_workers(workers)
    check = _Check.of(dataset, decode=not headers_only, workers=workers or default_workers())
    report = report or dataset / REPORT_NAME
    _check_report(report)
    videos = None if repair is None else _Videos(repair, find_sources(repair))
    results = check.run(check.names)
    repaired, not_repaired = ((), {}) if videos is None else _repair(check, videos, results)
    summary = VerifySummary(
        tree=f"{dataset}: {check.tree.kind}",
        videos=len(check.names),
        images=sum(result.images for result in results.values()),
        decoded=check.decode,
        findings=(*check.findings, *(finding for name in check.names for finding in results[name].findings)),
        repaired=repaired,
        not_repaired=not_repaired,
        seconds=time.monotonic() - start,
    )
    print(summary)
    try:
        write_json(report, summary.to_dict())
    except OSError as error:
        raise _no_report(report, error) from error
    print(f"{report}: all findings")
    return summary


def _check_report(report: Path) -> None:
    """Say before the work that the report cannot be written."""
    check_output(report, folder=False)
    try:
        with tempfile.TemporaryFile(dir=report.parent):
            pass
    except OSError as error:
        raise _no_report(report, error) from error


def _no_report(report: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{report}: the report cannot be written there: {error.strerror}; give another place (--report)")


@dataclass
class _Check:
    """A data set and what is expected of it."""

    dataset: Path
    tree: FrameTree
    manifest: Manifest | None
    listed: dict[str, dict[str, int]]  # video -> annotation file -> number of frames
    findings: list[Finding]  # about the data set as a whole, and about videos that no list names
    names: list[str]
    decode: bool
    workers: int

    @classmethod
    def of(cls, dataset: Path, *, decode: bool, workers: int) -> "_Check":
        tree = open_tree(dataset)
        manifest = load_manifests(dataset)
        on_disk = {video for root in (tree.frames, tree.flow) if root for video in root.videos()}
        listed, findings = _read_annotations(dataset)
        findings += _state_of(dataset, manifest)
        if listed:
            unlisted = sorted(on_disk.difference(listed))
            findings += [Finding(video, "unlisted", "in no annotation file", failure=False) for video in unlisted]
        if manifest:
            unknown = sorted(on_disk.difference(manifest.videos))
            findings += [Finding(video, "no-entry", "not in the manifest", failure=False) for video in unknown]
        names = sorted({*on_disk, *listed, *(manifest.videos if manifest else ())})
        return cls(dataset, tree, manifest, listed, findings, names, decode, workers)

    def run(self, names: Collection[str]) -> dict[str, VideoResult]:
        """Check some of the videos."""
        results = {}
        opened_tree.cache_clear()  # repairs change it
        try:
            with progress(len(names), "verify", "videos") as advance:
                workers = min(self.workers, len(names))
                for job, result in map_unordered(check_video, self._jobs(names), workers=workers):
                    results[job.video] = result
                    advance(1)
        except WorkerDiedError as error:
            raise StmulnetError(
                "a worker process died (killed, or out of memory); run the same command again, with fewer workers if "
                "memory is short (a script must call this below `if __name__ == '__main__':`)"
            ) from error
        return results

    def _jobs(self, names: Iterable[str]) -> Iterator[VideoJob]:
        entries = self.manifest.videos if self.manifest else {}
        part = self.manifest is not None and self.manifest.only_for_test_frames == NEEDED_BY_TEST.test_frames
        for name in names:
            yield VideoJob(
                self.dataset,
                name,
                entry=entries.get(name),
                listed=self.listed.get(name, {}),
                fields=NEEDED_BY_TEST.numbers if part else None,
                decode=self.decode,
            )


def _read_annotations(dataset: Path) -> tuple[dict[str, dict[str, int]], list[Finding]]:
    listed: dict[str, dict[str, int]] = {}
    findings = []
    for path in sorted((dataset / ANNOTATIONS_FOLDER).glob("annot*.json")):
        try:
            annotation = load_annotation(path)
        except AnnotationError as error:
            findings.append(Finding("", "annotation", str(error)))
            continue
        for subset in SUBSETS:
            for record in annotation.records(subset):
                listed.setdefault(record.video, {})[path.name] = record.num_frames
            left_out = annotation.left_out.get(subset, [])
            if left_out:
                message = (
                    f"{path.name} lacks {len(left_out)} {subset} videos of its lists; `stmulnet annotate` says why"
                )
                findings.append(Finding("", "left-out", message, failure=False))
    return listed, findings


def _state_of(dataset: Path, manifest: Manifest | None) -> Iterator[Finding]:
    """What the extraction left."""
    if any(dataset.glob(SHARD_MANIFESTS)):
        lacking = _missing_shards(dataset)
        if lacking:
            yield Finding("", "shards", f"without the videos of shard {lacking}: extract or copy them")
        else:
            message = "extracted in shards; `stmulnet extract` without --shard joins their manifests"
            yield Finding("", "shards", message, failure=False)
    for message in dataset_state(dataset).unfinished:
        yield Finding("", "unfinished", message, failure=False)
    for path in sorted(dataset.glob(f"{Path(FAILURES_NAME).stem}*.txt")):
        some = counted(len(path.read_text(encoding="utf-8").splitlines()), "video")
        yield Finding("", "not-extracted", f"{some} could not be extracted, see {path.name}", failure=False)
    if manifest and manifest.only_for_test_frames:
        message = f"only the flow that {manifest.only_for_test_frames} test frames need: for evaluation only"
        yield Finding("", "evaluation-only", message, failure=False)


def _missing_shards(dataset: Path) -> str:
    """Those that a data set lacks, of each division; empty where a division is whole or has been joined."""
    shards = shards_in(path.name for path in dataset.glob(SHARD_MANIFESTS))
    missing = []
    for count in dict.fromkeys(shard.count for shard in shards):
        parts = [shard for shard in (Shard(i, count) for i in range(1, count + 1)) if shard not in shards]
        missing.append(", ".join(map(str, parts)))
    return "" if (dataset / MANIFEST_NAME).exists() or not all(missing) else "; or else ".join(missing)


@dataclass(frozen=True)
class _Videos:
    """Where to repair from, and the videos there by name."""

    place: Path
    sources: Mapping[str, VideoSource]


def _repair(check: _Check, videos: _Videos, results: dict[str, VideoResult]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Extract videos with failures again and check them again; return those repaired, and why others were not."""
    bad = [name for name in check.names if _repairable(results[name])]
    if not bad:
        return (), {}
    if hindrance := _hindrance(check):
        return (), dict.fromkeys(bad, hindrance)
    not_repaired = {name: reason for name in bad if (reason := _not_the_video(check, videos, name))}
    found = [name for name in bad if name not in not_repaired]
    if found:
        notice(f"repair: {counted(len(found), 'video')} to extract again")
        failed = _extract_again(check, videos, found)
        check.tree, check.manifest = open_tree(check.dataset), load_manifests(check.dataset)
        results |= check.run(found)
        for name in found:
            if finding := _repairable(results[name]):
                not_repaired[name] = failed.get(name, f"extracted again, but {finding.message}")
    return tuple(name for name in found if name not in not_repaired), not_repaired


def _hindrance(check: _Check) -> str | None:
    """Why no video of a data set can be repaired."""
    if is_packed(check.dataset):
        return "packed; repair the data set that was packed, and pack it again"
    if check.manifest is None:
        return f"no {MANIFEST_NAME}, so how its images were made is unknown; import or extract it again"
    if _missing_shards(check.dataset):
        return "shards are missing; extract or copy them before"
    return None


def _not_the_video(check: _Check, videos: _Videos, name: str) -> str | None:
    """Why a video cannot be taken from there: a name alone does not tell that it is the same."""
    source, entry = videos.sources.get(name), check.manifest.videos.get(name) if check.manifest else None
    if source is None:
        return f"no video of this name in {videos.place}"
    if entry and entry.source_bytes != source.size_bytes:
        return (
            f"{source} has {source.size_bytes} bytes, the file that it was made from had {entry.source_bytes}: another "
            "one, which `stmulnet extract` would put in its place"
        )
    return None


def _repairable(result: VideoResult) -> Finding | None:
    """The first failure that another extraction may mend."""
    return next((f for f in result.findings if f.failure and f.kind not in _NOT_REPAIRABLE), None)


def _extract_again(check: _Check, videos: _Videos, names: Collection[str]) -> dict[str, str]:
    """Extract with the settings of the manifest; return the reasons of videos that failed."""
    assert check.manifest is not None
    frames, flow = check.manifest.settings["frames"], check.manifest.settings["flow"]
    try:
        summary = extract_videos(
            videos.place,
            check.dataset,
            short_side=frames["short_side"],
            flow_backend=flow["backend"],
            workers=check.workers,
            jpeg_quality=frames["jpeg_quality"],
            needed=NEEDED_BY_TEST if check.manifest.only_for_test_frames else None,
            only=names,
        )
    except StmulnetError as error:  # settings that are gone, a full disk: what was found is still to be told
        return dict.fromkeys(names, str(error))
    failed = dict(summary.failures)
    return {name: failed[source] for name in names if (source := videos.sources[name].source) in failed}
