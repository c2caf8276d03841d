"""``stmulnet import-archive ARCHIVES --out DATASET``."""

from pathlib import Path

from stmulnet.errors import DatasetError
from stmulnet.video.archives import ImportSummary, import_archives
from stmulnet.video.store import open_tree

POSITIONAL = ("archives",)


def import_archive(archives: list[Path], *, out: Path, workers: int | None = None) -> ImportSummary:
    """Unpack archives of frames or flow, such as the official ones, into a data set; run again, it goes on.

    Args:
        archives: Zip or tar archives, whole or in pieces (ucf101_jpegs_256.zip.001, .002, ...); pieces beside a named
            one are found.
        out: Folder of the data set. What the archives hold appears there under its own names, e.g. jpegs_256/VIDEO/;
            nothing that is there is replaced.
        workers: Processes at work; one per core if not given.

    Returns:
        The summary, which is printed as well.

    Raises:
        DatasetError: An archive is missing, empty, incomplete, unsafe or of videos, or needs more room than there is.
        ConfigError: An option is out of range, or the output is no writable folder or holds a data set that was
            extracted or packed.
    """
    summary = import_archives(archives, out, workers=workers)
    print(summary)
    try:
        print(f"{out}: {open_tree(out).kind}")
    except DatasetError as error:
        print(f"note: no tree of frames and flow yet: {error}")
    return summary
