"""What an extracted data set consists of, and how it was made: ``manifest.json`` beside the frames.

The manifest holds neither times nor machine names: the same videos and settings give the same bytes. While an
extraction runs, finished videos are appended to a journal, which a killed run leaves for the next one.

Every shard of a divided extraction writes a manifest of its own. Reading a data set joins all that there are, so that
folders of several machines only have to be copied into one; an extraction without a shard makes one manifest of them.
"""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stmulnet.errors import ConfigError, DatasetError
from stmulnet.files import write_json

MANIFEST_NAME = "manifest.json"
SHARD_MANIFESTS = "manifest-shard-*-of-*.json"
ONLY_FOR_TEST_FRAMES = "only_for_test_frames"  # in the settings of the flow: how many, where not all was computed
_SETTINGS, _VIDEOS = "settings", "videos"
_OPTIONS = {  # of `stmulnet extract`; what else is in the settings follows from them and from the software
    "flow.backend": "--flow-backend",
    f"flow.{ONLY_FOR_TEST_FRAMES}": "--flow-only-needed",
    "frames.short_side": "--short-side",
    "frames.jpeg_quality": "--jpeg-quality",
}
_SHOWN = 3  # differences in a message
_LIBRARIES = "libraries"  # a part of the settings that may differ: a change of version is noted, not refused


@dataclass(frozen=True)
class VideoEntry:
    """One completely extracted video.

    Attributes:
        name: File stem; the name of its folders.
        source: Path of the file relative to the folder of videos, with forward slashes.
        source_bytes: Size of the file.
        num_frames: Stored frames; there is one flow field less, if not only those of test frames are wanted.
        width: Pixels, as stored.
        height: Pixels, as stored.
    """

    name: str
    source: str
    source_bytes: int
    num_frames: int
    width: int
    height: int


@dataclass
class Manifest:
    """Settings of an extraction and its finished videos by name."""

    settings: dict[str, Any]
    videos: dict[str, VideoEntry] = field(default_factory=dict)

    @property
    def only_for_test_frames(self) -> int | None:
        """Test frames per video whose flow alone was computed, in a data set for evaluation only; None for all flow."""
        count = self.settings.get("flow", {}).get(ONLY_FOR_TEST_FRAMES)
        return None if count is None else int(count)

    @classmethod
    def load(cls, path: Path) -> "Manifest":
        """Read a manifest.

        Raises:
            DatasetError: The file is missing or is no manifest.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            entries = [VideoEntry(**entry) for entry in values[_VIDEOS]]
            return cls(dict(values[_SETTINGS]), {entry.name: entry for entry in entries})
        except OSError as error:
            raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{path}: not a manifest of `stmulnet extract` ({error!r}); move it away") from error

    def save(self, path: Path) -> None:
        """Write the manifest in one step, videos sorted by name."""
        entries = [dataclasses.asdict(self.videos[name]) for name in sorted(self.videos)]
        write_json(path, {_SETTINGS: self.settings, _VIDEOS: entries})


def manifest_paths(dataset: Path) -> list[Path]:
    """The manifest of a data set and those of its shards, as far as they are there."""
    return [path for path in (dataset / MANIFEST_NAME, *sorted(dataset.glob(SHARD_MANIFESTS))) if path.is_file()]


def load_manifests(dataset: Path) -> Manifest | None:
    """The manifest of a data set, joined from those of its shards where there are any; None where there is none.

    Raises:
        DatasetError: A manifest is damaged.
        ConfigError: Two were made with different settings.
    """
    joined: Manifest | None = None
    for path in manifest_paths(dataset):
        part = Manifest.load(path)
        if joined is None or not joined.videos:
            joined = part
        elif part.videos:  # those of shards are the younger ones
            check_settings(joined.settings, part.settings, path)
            joined.videos.update(part.videos)
    return joined


def check_settings(found: dict[str, Any], wanted: dict[str, Any], path: Path) -> list[str]:
    """Compare the settings of an existing manifest with those of this run.

    Returns:
        One text per library whose version has changed.

    Raises:
        ConfigError: Any other setting differs; tells which.
    """
    old, new = dict(_flattened(found)), dict(_flattened(wanted))
    names = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    refused = [name for name in names if _LIBRARIES not in name.split(".")]
    if refused:
        shown = [name for name in refused if name in _OPTIONS] or refused[:_SHOWN]
        texts = [_difference(name, old.get(name), new.get(name)) for name in shown]
        more = f" and {len(refused) - _SHOWN} more" if shown == refused[:_SHOWN] and len(refused) > _SHOWN else ""
        raise ConfigError(
            f"{path}: made with other settings: {', '.join(texts)}{more}; use the same ones or another output folder"
        )
    return [_difference(name, old.get(name), new.get(name)) for name in names]


def _difference(name: str, old: object, new: object) -> str:
    if name.endswith(ONLY_FOR_TEST_FRAMES):
        return f"{_OPTIONS[name]} was {'given' if old else 'not given'}, {'is now' if new else 'is not now'}"
    before, now = ("not set" if value is None else value for value in (old, new))
    return f"{_OPTIONS.get(name, name)} was {before}, is {now} now"


def append_journal(path: Path, entry: VideoEntry) -> None:
    """Add a finished video."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(dataclasses.asdict(entry)) + "\n")


def read_journal(path: Path) -> list[VideoEntry]:
    """Finished videos of a run that was killed; none where there is no journal."""
    if not path.is_file():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entries.append(VideoEntry(**json.loads(line)))
        except (ValueError, TypeError):
            break  # cut off by the kill; what was finished after a damaged line is done again
    return entries


def _flattened(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
