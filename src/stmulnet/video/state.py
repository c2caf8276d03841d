"""What a folder holds and whether that is finished, told from the files that the commands leave in it.

``extract`` leaves a manifest, and ``.partial`` while it has not come to its end; ``import-archive`` leaves a record,
and ``.importing`` while an archive is not finished; ``pack`` leaves shards, and ``pack.json`` at its end.
"""

from pathlib import Path
from typing import NamedTuple

from stmulnet.errors import ConfigError
from stmulnet.video.archive_entries import RECORD_NAME, WORK_FOLDER
from stmulnet.video.manifest import manifest_paths
from stmulnet.video.packed import PACK_NAME, PARTIAL_FOLDER, SHARD_NAMES, SOURCE_NAME
from stmulnet.video.trees import has_images


class DatasetState(NamedTuple):
    """What a folder holds.

    Attributes:
        packed: Shards of `stmulnet pack`; it copies manifests and records, which say nothing about the folder itself.
        extracted: Frames and flow of `stmulnet extract`.
        imported: What archives held.
        images: Frames or flow in a known tree, whoever made them.
        unfinished: What has not come to its end, in words; empty where everything has.
    """

    packed: bool
    extracted: bool
    imported: bool
    images: bool
    unfinished: tuple[str, ...]

    @property
    def kind(self) -> str:
        """In words; empty where no data set is there."""
        words = {
            "a packed data set": self.packed,
            "a data set of `stmulnet extract`": self.extracted,
            "a data set of `stmulnet import-archive`": self.imported,
            "frames or flow that were made elsewhere": self.images,
        }
        return next((text for text, found in words.items() if found), "")


def dataset_state(folder: Path) -> DatasetState:
    """Look at a folder, which may be missing; only names are read."""
    extracted, imported = bool(manifest_paths(folder)), (folder / RECORD_NAME).is_file()
    partial, importing = (folder / PARTIAL_FOLDER).is_dir(), (folder / WORK_FOLDER).is_dir()
    packed = (folder / PACK_NAME).is_file() or any(folder.glob(SHARD_NAMES))
    packed = packed or (folder / PARTIAL_FOLDER / SOURCE_NAME).is_file()
    unfinished = []
    if partial:
        work = "a packing" if packed else "an extraction"
        unfinished.append(f"{work} is at work or was stopped; the same command again goes on")
    if importing:
        archives = sorted(path.name.rsplit(".", 2)[0] for path in (folder / WORK_FOLDER).glob("*.jsonl"))
        of_what = f" of {', '.join(archives)}" if archives else ""
        unfinished.append(f"an import{of_what} is at work, was stopped or failed; the same command again goes on")
    return DatasetState(
        packed=packed,
        extracted=extracted and not packed,
        imported=(imported or importing) and not packed,
        images=has_images(folder),
        unfinished=tuple(unfinished),
    )


def check_extract_output(out: Path) -> None:
    """Refuse to extract beside images of another kind: neither would be found again.

    Raises:
        ConfigError: The folder holds a data set that `stmulnet extract` has not made.
    """
    state = dataset_state(out)
    if state.kind and not state.extracted:
        raise ConfigError(f"{out}: holds {state.kind}, to which no videos can be added; give another folder")


def check_import_output(out: Path) -> None:
    """Refuse to import beside images of another kind: neither would be found again.

    Raises:
        ConfigError: The folder holds a data set that was extracted or packed; those of archives are added to.
    """
    state = dataset_state(out)
    if (state.packed or state.extracted) and not state.imported:
        raise ConfigError(f"{out}: holds {state.kind}, to which no archives can be added; give another folder")
